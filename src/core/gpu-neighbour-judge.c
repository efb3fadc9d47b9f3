/* SPDX-License-Identifier: Apache-2.0 */
/* Judging the noisy neighbour. The rules are tried in the order of at_neighbour_judge(): what
 * proves that a wall does not hold comes before what makes the rest of the test worthless. */
#include "core/gpu-neighbour-judge.h"

#include <math.h>
#include <stdlib.h>

#include "base/json.h"

/* Of what it was told to do, the neighbour has to do so much; guests' clocks differ a little. */
#define LOAD_LEAST 0.9
#define FILL_LEAST 0.5   /* of its memory: programs of its own may have some */
#define QUIET_MOST 0.1   /* what the card gives alone may change by so much */
#define MEMORY_LEAST 0.9 /* a driver's own needs change a little */
#define NUMBER_MOST 1e15
enum { WITHIN_LEAST = 2 };

/* What it has to say, newly allocated, or NULL. *verdict is AT_GPU_NOT_TESTED unless it is set. */
typedef char *rule(const struct at_neighbour_story *s, enum at_gpu_verdict *verdict);

void at_neighbour_run_clear(struct at_neighbour_run *run)
{
    g_clear_pointer(&run->answer, json_node_unref);
    g_clear_pointer(&run->failure, g_free);
}

struct at_neighbour_run *at_neighbour_run_new(void)
{
    return g_new0(struct at_neighbour_run, 1);
}

void at_neighbour_run_free(struct at_neighbour_run *run)
{
    at_neighbour_run_clear(run);
    g_free(run);
}

void at_neighbour_story_init(struct at_neighbour_story *s, const struct at_neighbour_plan *plan)
{
    GDestroyNotify run_free = (GDestroyNotify)at_neighbour_run_free;
    *s = (struct at_neighbour_story){
        .plan = plan,
        .before = g_ptr_array_new_with_free_func(run_free),
        .beside = g_ptr_array_new_with_free_func(run_free),
        .after = g_ptr_array_new_with_free_func(run_free),
    };
}

void at_neighbour_story_clear(struct at_neighbour_story *s)
{
    g_ptr_array_unref(s->before);
    g_ptr_array_unref(s->beside);
    g_ptr_array_unref(s->after);
    at_neighbour_run_clear(&s->load);
    g_free(s->trouble);
}

/* NAN when it is missing, of another type, negative, or larger than anything that is counted. */
static double number_of(const struct at_neighbour_run *run, const char *name)
{
    double value = run->answer ? at_json_num(json_node_get_object(run->answer), name, NAN) : NAN;
    return value >= 0 && value <= NUMBER_MOST ? value : NAN;
}

double at_neighbour_number(const struct at_neighbour_run *run, const char *name)
{
    double value = number_of(run, name);
    return isnan(value) ? 0 : value;
}

double at_neighbour_damaged(const GPtrArray *runs)
{
    double sum = 0;
    for (unsigned i = 0; i < runs->len; i++)
        sum += at_neighbour_number(runs->pdata[i], "damaged");
    return sum;
}

/* The largest or the smallest of all runs; 0 when there are none. */
static double most(const GPtrArray *runs, const char *name)
{
    double value = 0;
    for (unsigned i = 0; i < runs->len; i++)
        value = MAX(value, at_neighbour_number(runs->pdata[i], name));
    return value;
}

static double least(const GPtrArray *runs, const char *name)
{
    double value = runs->len ? INFINITY : 0;
    for (unsigned i = 0; i < runs->len; i++)
        value = MIN(value, at_neighbour_number(runs->pdata[i], name));
    return value;
}

static char *size_text(double bytes)
{
    return bytes >= 1 << 30 ? g_strdup_printf("%.1f GiB", bytes / (1 << 30))
                            : g_strdup_printf("%.0f MiB", bytes / (1 << 20));
}

static char *rate_text(double rate)
{
    return rate >= 1e9 ? g_strdup_printf("%.1f GB/s", rate / 1e9)
                       : g_strdup_printf("%.0f MB/s", rate / 1e6);
}

/* ---- the walls around memory ---- */

static char *judge_damage(const struct at_neighbour_story *s, enum at_gpu_verdict *verdict)
{
    double alone = at_neighbour_damaged(s->before) + at_neighbour_damaged(s->after);
    double beside = at_neighbour_damaged(s->beside);
    *verdict = AT_GPU_FAILED;
    /* What changes by itself also does so beside somebody. */
    if (alone > 0)
        return g_strdup_printf("%.0f pages of %s changed without any load beside it: the card's "
                               "memory does not keep what is written",
                               alone, s->plan->victim.name);
    if (beside > 0)
        return g_strdup_printf("%.0f pages of %s changed while %s wrote: the memory of one is "
                               "within reach of the other; take the card out of use",
                               beside, s->plan->victim.name, s->plan->neighbour.name);
    return NULL;
}

static char *judge_found(const struct at_neighbour_story *s, enum at_gpu_verdict *verdict)
{
    double found = at_neighbour_number(&s->load, "found");
    *verdict = AT_GPU_FAILED;
    return found > 0
               ? g_strdup_printf("%s found in %.0f of %.0f pages what %s had written: memory "
                                 "is handed on without being cleared; take the card out of "
                                 "use",
                                 s->plan->neighbour.name, found,
                                 at_neighbour_number(&s->load, "looked"), s->plan->victim.name)
               : NULL;
}

/* What kept the victim from measuring beside the neighbour; newly allocated, or NULL. */
static char *hampered_by(const struct at_neighbour_story *s)
{
    double had = least(s->before, "used");
    for (unsigned i = 0; i < s->beside->len; i++) {
        const struct at_neighbour_run *run = s->beside->pdata[i];
        double has = number_of(run, "used");
        if (run->hung)
            return g_strdup("its load did not end");
        if (run->failure)
            return g_strdup(run->failure);
        if (has < MEMORY_LEAST * had) {
            g_autofree char *got = size_text(has), *before = size_text(had);
            return g_strdup_printf("it got %s of memory in place of %s", got, before);
        }
    }
    return NULL;
}

bool at_neighbour_hampered(const struct at_neighbour_story *s)
{
    g_autofree char *why = hampered_by(s);
    return why;
}

/* Why there is no answer to this run; newly allocated, or NULL. */
static char *no_answer(const char *guest, const struct at_neighbour_run *run)
{
    if (run->failure)
        return g_strdup_printf("%s: the load in the guest: %s", guest, run->failure);
    return run->answer ? NULL : g_strdup_printf("%s: the load in the guest does not end", guest);
}

/* It is the neighbour's doing only if that had taken something. */
static char *judge_hampered(const struct at_neighbour_story *s, enum at_gpu_verdict *verdict)
{
    const char *victim = s->plan->victim.name, *neighbour = s->plan->neighbour.name;
    g_autofree char *why = hampered_by(s);
    if (!why)
        return NULL;
    if (at_neighbour_number(&s->load, "used") > 0) {
        *verdict = AT_GPU_FAILED;
        return g_strdup_printf("%s measured alone, but could not beside %s: %s", victim, neighbour,
                               why);
    }
    g_autofree char *silence = s->trouble ? g_strdup(s->trouble) : no_answer(neighbour, &s->load);
    return g_strdup_printf("%s could not measure (%s), but nothing shows that %s was why: %s",
                           victim, why, neighbour,
                           silence ? silence : "it does not say what it had filled");
}

/* ---- whether it was a test ---- */

static char *judge_trouble(const struct at_neighbour_story *s, enum at_gpu_verdict *verdict)
{
    const GPtrArray *const lists[] = {s->before, s->after};
    char *why = g_strdup(s->trouble);
    for (size_t l = 0; l < G_N_ELEMENTS(lists); l++) {
        for (unsigned i = 0; !why && i < lists[l]->len; i++)
            why = no_answer(s->plan->victim.name, lists[l]->pdata[i]);
    }
    if (!why)
        why = no_answer(s->plan->neighbour.name, &s->load);
    return why;
}

static char *missing_in(const char *guest, const struct at_neighbour_run *run,
                        const char *const *names)
{
    for (unsigned i = 0; names[i]; i++) {
        if (isnan(number_of(run, names[i])))
            return g_strdup_printf("%s: the load in the guest answered without \"%s\"", guest,
                                   names[i]);
    }
    return NULL;
}

static char *judge_whole(const struct at_neighbour_story *s, enum at_gpu_verdict *verdict)
{
    static const char *const victims[] = {"memory",  "used",    "rate", "slowest",
                                          "windows", "damaged", NULL};
    static const char *const neighbours[] = {"memory",       "used",   "rate",  "fill_seconds",
                                             "load_seconds", "looked", "found", NULL};
    const GPtrArray *const lists[] = {s->before, s->beside, s->after};
    char *why = missing_in(s->plan->neighbour.name, &s->load, neighbours);
    for (size_t l = 0; l < G_N_ELEMENTS(lists); l++) {
        for (unsigned i = 0; !why && i < lists[l]->len; i++)
            why = missing_in(s->plan->victim.name, lists[l]->pdata[i], victims);
    }
    return why;
}

static char *judge_load(const struct at_neighbour_story *s, enum at_gpu_verdict *verdict)
{
    const char *neighbour = s->plan->neighbour.name;
    double loaded = at_neighbour_number(&s->load, "load_seconds");
    double memory = at_neighbour_number(&s->load, "memory");
    double used = at_neighbour_number(&s->load, "used");
    if (loaded < LOAD_LEAST * s->plan->load_s)
        return g_strdup_printf("%s copied for %.1f of %.1f s", neighbour, loaded, s->plan->load_s);
    if (used <= 0 || used < FILL_LEAST * memory) {
        g_autofree char *filled = size_text(used), *whole = size_text(memory);
        return g_strdup_printf("%s filled %s of the %s of its memory: end what else uses its part "
                               "of the card",
                               neighbour, filled, whole);
    }
    if (at_neighbour_number(&s->load, "looked") <= 0 || at_neighbour_number(&s->load, "rate") <= 0)
        return g_strdup_printf("%s did not look at its memory, or copied nothing", neighbour);
    return NULL;
}

/* ---- bandwidth ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The rates of the victim's runs that lie wholly within the neighbour's load, and how many. The
 * neighbour's seconds count from the start of the program, which is between asking for it and
 * hearing of it, and it cannot have loaded later than it was seen to run. */
static double *rates_within(const struct at_neighbour_story *s, unsigned *ret_n)
{
    double fill = at_neighbour_number(&s->load, "fill_seconds") * 1e6;
    double load = at_neighbour_number(&s->load, "load_seconds") * 1e6;
    double from = (double)s->load.told_us + fill;
    double until = MIN((double)s->load.sent_us + fill + load, (double)s->load.running_us);
    double *rates = g_new(double, s->beside->len + 1);
    *ret_n = 0;
    for (unsigned i = 0; i < s->beside->len; i++) {
        const struct at_neighbour_run *run = s->beside->pdata[i];
        if ((double)run->sent_us >= from && (double)run->ended_us <= until)
            rates[(*ret_n)++] = at_neighbour_number(run, "rate");
    }
    qsort(rates, *ret_n, sizeof *rates, by_value);
    return rates;
}

/* The card gave something else before than after; newly allocated, or NULL. */
static char *unrest_of(const struct at_neighbour_story *s)
{
    double before = most(s->before, "rate"), after = most(s->after, "rate");
    if (fabs(before - after) <= QUIET_MOST * MAX(before, after))
        return NULL;
    g_autofree char *first = rate_text(before), *last = rate_text(after);
    return g_strdup_printf("the card was not quiet: %s copied %s alone before the test and %s "
                           "after it",
                           s->plan->victim.name, first, last);
}

static char *judge_promise(const struct at_neighbour_story *s, double alone, double beside,
                           enum at_gpu_verdict *verdict)
{
    bool promised = s->plan->victim.isolation >= AT_GPU_HARDWARE;
    double percent = 100 * beside / alone;
    g_autofree char *unrest = unrest_of(s), *was = rate_text(alone), *is = rate_text(beside);
    g_autofree char *filled = size_text(at_neighbour_number(&s->load, "used"));
    g_autofree char *told =
        g_strdup_printf("%s copied %s alone and %s (%.0f %%) beside %s, which had filled %s",
                        s->plan->victim.name, was, is, percent, s->plan->neighbour.name, filled);
    if (promised && unrest)
        return g_strdup_printf("%s; try again when nobody else uses it", unrest);
    if (promised && percent < AT_NEIGHBOUR_KEPT_PERCENT) {
        *verdict = AT_GPU_FAILED;
        return g_strdup_printf("%s: the hardware does not keep the victim's bandwidth", told);
    }
    *verdict = AT_GPU_PASSED;
    return g_strdup_printf("%s; nothing of the victim was changed or seen%s%s%s", told,
                           promised ? ""
                                    : " (its profile shares the engines: bandwidth is not kept)",
                           unrest ? "; " : "", unrest ? unrest : "");
}

/* The median of an even number is the lower one: a victim is not told better off than it is. */
static char *judge_rates(const struct at_neighbour_story *s, enum at_gpu_verdict *verdict)
{
    unsigned n;
    g_autofree double *rates = rates_within(s, &n);
    double alone = MAX(most(s->before, "rate"), most(s->after, "rate"));
    if (s->before->len == 0 || s->after->len == 0 || alone <= 0)
        return g_strdup_printf("%s copied nothing alone", s->plan->victim.name);
    if (n < WITHIN_LEAST)
        return g_strdup_printf("%s measured %u times while %s had the card full, which is too few: "
                               "it filled it in %.1f s and copied for %.1f s",
                               s->plan->victim.name, n, s->plan->neighbour.name,
                               at_neighbour_number(&s->load, "fill_seconds"),
                               at_neighbour_number(&s->load, "load_seconds"));
    return judge_promise(s, alone, rates[(n - 1) / 2], verdict);
}

enum at_gpu_verdict at_neighbour_judge(const struct at_neighbour_story *s, char **ret_detail)
{
    static rule *const rules[] = {judge_damage, judge_found, judge_hampered, judge_trouble,
                                  judge_whole,  judge_load,  judge_rates};
    enum at_gpu_verdict verdict = AT_GPU_NOT_TESTED;
    char *detail = NULL;
    for (size_t i = 0; !detail && i < G_N_ELEMENTS(rules); i++) {
        verdict = AT_GPU_NOT_TESTED;
        detail = rules[i](s, &verdict);
    }
    *ret_detail = detail;
    return verdict;
}
