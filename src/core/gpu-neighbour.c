/* SPDX-License-Identifier: Apache-2.0 */
/* Running the two loads, and judging what they say. What guests answer is not trusted: it decides
 * about a check of theirs, and is shown as plain text. */
#include "core/gpu-neighbour.h"

#include <inttypes.h>
#include <math.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/plain.h"
#include "qemu/agent-exec.h"

#if defined(__aarch64__)
#define LOADER "/lib/ld-linux-aarch64.so.1"
#else
#define LOADER "/lib64/ld-linux-x86-64.so.2"
#endif
/* In the guest: where programs may be run from, and only root writes. */
#define PROGRAM "/var/lib/atoll-gpu-load-%08x%08x"

enum {
    CALL_MS = 10000,
    POLL_MS = 200,
    SLACK_MS = 60000, /* a driver may take long to start, and memory to fill */
    ALONE_RUNS = 2,
    BESIDE_MAX = 64,
    KEPT_PERCENT = 90,
};

struct run {
    int64_t sent_us, told_us, ended_us; /* start asked for, start known, end seen */
    JsonNode *answer;
    char *failure; /* what the load said when it could not */
};

struct test {
    const struct at_neighbour_plan *plan;
    char *path; /* of the program in both guests */
    char *token;
    struct run neighbour;
    double alone, beside; /* bytes per second; 0: not known */
    uint64_t damaged;     /* pages of the victim's */
    char *hampered;       /* why the victim could not measure beside the neighbour, or NULL */
};

static bool go_on(const struct test *t, GError **error)
{
    return !t->plan->cancellable || !g_cancellable_is_cancelled(t->plan->cancellable) ||
           at_error(error, AT_ERROR_CANCELLED, "cancelled");
}

static void tell(const struct test *t, double percent)
{
    if (t->plan->progress)
        t->plan->progress(percent, t->plan->user);
}

/* A connection for each call: the agent serves one client at a time, and a snapshot may want it. */
static struct at_agent *open_agent(const struct at_neighbour_guest *guest, GError **error)
{
    struct at_agent *agent = at_agent_open(guest->agent_socket, CALL_MS, error);
    if (!agent)
        g_prefix_error(error, "%s: ", guest->name);
    return agent;
}

static bool bring(const struct test *t, const struct at_neighbour_guest *guest, GBytes *program,
                  GError **error)
{
    g_autoptr(at_agent) agent = open_agent(guest, error);
    if (!agent)
        return false;
    if (at_agent_write_file(agent, t->path, program, SLACK_MS, error))
        return true;
    g_prefix_error(error, "%s: bring the load into the guest: ", guest->name);
    return false;
}

/* Nobody waits for it: a guest that does not remove it has a small file too many. */
static void take_away(const struct test *t, const struct at_neighbour_guest *guest)
{
    const char *const argv[] = {"/bin/rm", "-f", t->path, NULL};
    int64_t pid;
    g_autoptr(at_agent) agent = open_agent(guest, NULL);
    if (agent)
        at_agent_exec_start(agent, argv, CALL_MS, &pid, NULL);
}

static bool begin(const struct test *t, const struct at_neighbour_guest *guest, const char *role,
                  double seconds, struct run *ret_run, int64_t *ret_pid, GError **error)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    const char *const argv[] = {LOADER,
                                t->path,
                                role,
                                "--token",
                                t->token,
                                "--seconds",
                                g_ascii_formatd(text, sizeof text, "%.3f", seconds),
                                NULL};
    g_autoptr(at_agent) agent = open_agent(guest, error);
    if (!agent)
        return false;
    *ret_run = (struct run){.sent_us = at_clock_us()};
    if (at_agent_exec_start(agent, argv, CALL_MS, ret_pid, error)) {
        ret_run->told_us = at_clock_us();
        return true;
    }
    g_prefix_error(error, "%s: start the load in the guest: ", guest->name);
    return false;
}

static bool take_answer(const struct at_neighbour_guest *guest, const struct at_agent_exec *exec,
                        struct run *run, GError **error)
{
    g_autoptr(JsonNode) answer = at_json_parse(exec->output, -1, NULL);
    JsonObject *obj =
        answer && JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer) : NULL;
    const char *why = obj ? at_json_str(obj, "error", NULL) : exec->errors;
    if (obj && !why && exec->status == 0) {
        run->answer = g_steal_pointer(&answer);
        return true;
    }
    char plain[400];
    at_plain_copy(plain, sizeof plain, why ? why : "");
    run->failure = *plain ? g_strdup(plain) : g_strdup_printf("exit status %d", exec->status);
    return at_error(error, AT_ERROR_PEER, "%s: the load in the guest: %s", guest->name,
                    run->failure);
}

/* *ret_ended with its answer in @run. */
static bool look(const struct at_neighbour_guest *guest, int64_t pid, struct run *run,
                 bool *ret_ended, GError **error)
{
    struct at_agent_exec exec = {0};
    g_autoptr(at_agent) agent = open_agent(guest, error);
    if (!agent)
        return false;
    if (!at_agent_exec_poll(agent, pid, CALL_MS, &exec, error)) {
        g_prefix_error(error, "%s: ", guest->name);
        return false;
    }
    *ret_ended = exec.ended;
    run->ended_us = at_clock_us();
    bool ok = !exec.ended || take_answer(guest, &exec, run, error);
    at_agent_exec_clear(&exec);
    return ok;
}

/* An agent tells nothing by itself: it is asked again and again. */
static bool finish(const struct test *t, const struct at_neighbour_guest *guest, int64_t pid,
                   double seconds, struct run *run, GError **error)
{
    int64_t deadline = at_deadline_ms((int64_t)(seconds * 1000) + SLACK_MS);
    for (bool ended = false; !ended;) {
        if (!go_on(t, error) || !look(guest, pid, run, &ended, error))
            return false;
        if (!ended && at_deadline_left_ms(deadline) == 0)
            return at_error(error, AT_ERROR_TIMEOUT, "%s: the load in the guest does not end",
                            guest->name);
        if (!ended)
            g_usleep(POLL_MS * 1000);
    }
    return true;
}

static double number(const struct run *run, const char *name)
{
    double value = run->answer ? at_json_num(json_node_get_object(run->answer), name, 0) : 0;
    return isfinite(value) && value > 0 ? value : 0;
}

static bool measure_once(struct test *t, struct run *ret_run, GError **error)
{
    const struct at_neighbour_guest *victim = &t->plan->victim;
    int64_t pid;
    if (!begin(t, victim, "victim", t->plan->measure_s, ret_run, &pid, error) ||
        !finish(t, victim, pid, t->plan->measure_s, ret_run, error))
        return false;
    t->damaged += (uint64_t)MIN(number(ret_run, "damaged"), 1e15);
    return true;
}

static void run_clear(struct run *run)
{
    g_clear_pointer(&run->answer, json_node_unref);
    g_clear_pointer(&run->failure, g_free);
}

/* The better of several runs: what the card gives when nothing disturbs. */
static bool measure_alone(struct test *t, GError **error)
{
    for (unsigned i = 0; i < ALONE_RUNS; i++) {
        struct run run = {0};
        bool ok = measure_once(t, &run, error);
        t->alone = MAX(t->alone, number(&run, "rate"));
        run_clear(&run);
        if (!ok)
            return false;
        tell(t, 10.0 + 15.0 * i);
    }
    return t->alone > 0 ||
           at_error(error, AT_ERROR_PEER, "%s: the load in the guest says that it copied nothing",
                    t->plan->victim.name);
}

static int by_value(gconstpointer a, gconstpointer b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The median of the victim's runs that lie wholly within the neighbour's load. Its seconds count
 * from the start of the program, which is between asking for it and hearing of it. */
static bool judge_beside(struct test *t, const struct run *runs, unsigned n, GError **error)
{
    double rates[BESIDE_MAX];
    unsigned within = 0;
    double fill = number(&t->neighbour, "fill_seconds") * 1e6;
    double load = number(&t->neighbour, "load_seconds") * 1e6;
    double from = (double)t->neighbour.told_us + fill;
    double until = (double)t->neighbour.sent_us + fill + load;
    for (unsigned i = 0; i < n; i++) {
        if ((double)runs[i].sent_us >= from && (double)runs[i].ended_us <= until)
            rates[within++] = number(&runs[i], "rate");
    }
    if (within == 0)
        return at_error(error, AT_ERROR_TIMEOUT,
                        "%s did not measure while %s had the card full: it filled it in %.1f s and "
                        "copied for %.1f s",
                        t->plan->victim.name, t->plan->neighbour.name, fill / 1e6, load / 1e6);
    qsort(rates, within, sizeof *rates, by_value);
    t->beside = rates[within / 2];
    return true;
}

static bool measure_beside(struct test *t, GError **error)
{
    const struct at_neighbour_guest *neighbour = &t->plan->neighbour;
    int64_t pid;
    struct run runs[BESIDE_MAX] = {0};
    unsigned n = 0;
    bool ended = false;
    if (!begin(t, neighbour, "neighbour", t->plan->load_s, &t->neighbour, &pid, error))
        return false;
    bool ok = true;
    while (ok && !ended && n < BESIDE_MAX) {
        ok = measure_once(t, &runs[n], error);
        t->hampered = g_steal_pointer(&runs[n].failure);
        n++;
        ok = ok && look(neighbour, pid, &t->neighbour, &ended, error);
        tell(t, MIN(30.0 + 5.0 * n, 95.0));
    }
    /* What it has found in its memory counts also when the victim could not measure. */
    if ((ok || t->hampered) && !ended)
        ok = finish(t, neighbour, pid, t->plan->load_s, &t->neighbour, ok ? error : NULL) && ok;
    ok = ok && judge_beside(t, runs, n, error);
    for (unsigned i = 0; i < n; i++)
        run_clear(&runs[i]);
    return ok;
}

static bool measure(struct test *t, GError **error)
{
    g_autoptr(GMappedFile) file = g_mapped_file_new(t->plan->program, FALSE, error);
    g_autoptr(GBytes) program = file ? g_mapped_file_get_bytes(file) : NULL;
    if (!program)
        return false;
    if (!bring(t, &t->plan->victim, program, error))
        return false;
    bool ok = bring(t, &t->plan->neighbour, program, error);
    if (ok) {
        ok = measure_alone(t, error) && measure_beside(t, error);
        take_away(t, &t->plan->neighbour);
    }
    take_away(t, &t->plan->victim);
    return ok;
}

static char *rate_text(double rate)
{
    return rate >= 1e9 ? g_strdup_printf("%.1f GB/s", rate / 1e9)
                       : g_strdup_printf("%.0f MB/s", rate / 1e6);
}

static void judge(const struct test *t, GPtrArray *checks)
{
    const char *victim = t->plan->victim.name, *neighbour = t->plan->neighbour.name;
    double percent = 100.0 * t->beside / t->alone;
    double found = number(&t->neighbour, "found"), used = number(&t->neighbour, "used");
    g_autofree char *alone = rate_text(t->alone), *beside = rate_text(t->beside);
    g_autofree char *filled = used >= 1 << 30 ? g_strdup_printf("%.1f GiB", used / (1 << 30))
                                              : g_strdup_printf("%.0f MiB", used / (1 << 20));
    g_autofree char *rates =
        g_strdup_printf("%s copied %s alone and %s (%.0f %%) beside %s, which had filled %s",
                        victim, alone, beside, percent, neighbour, filled);
    bool ok = false;
    char *detail;
    if (t->damaged && !t->neighbour.told_us)
        detail = g_strdup_printf("%" PRIu64 " pages of %s changed without any load beside it: the "
                                 "card's memory does not keep what is written",
                                 t->damaged, victim);
    else if (t->damaged)
        detail = g_strdup_printf("%" PRIu64 " pages of %s changed while %s wrote: the memory of "
                                 "one is within reach of the other; take the card out of use",
                                 t->damaged, victim, neighbour);
    else if (found > 0)
        detail = g_strdup_printf("%s found in %.0f of %.0f pages what %s had written: memory is "
                                 "handed on without being cleared; take the card out of use",
                                 neighbour, found, number(&t->neighbour, "looked"), victim);
    else if (t->hampered)
        detail = g_strdup_printf("%s measured alone, but could not beside %s: %s", victim,
                                 neighbour, t->hampered);
    else if (t->plan->isolation >= AT_GPU_HARDWARE && percent < KEPT_PERCENT)
        detail = g_strdup_printf("%s: the hardware does not keep the victim's bandwidth", rates);
    else {
        ok = true;
        detail = g_strdup_printf("%s; nothing of the victim was changed or seen%s", rates,
                                 t->plan->isolation >= AT_GPU_HARDWARE
                                     ? ""
                                     : " (its profile shares the engines: bandwidth is not kept)");
    }
    at_gpu_check_add(checks, "noisy neighbour", ok ? AT_GPU_PASSED : AT_GPU_FAILED, detail);
}

bool at_neighbour_measure(const struct at_neighbour_plan *plan, GPtrArray *checks, GError **error)
{
    struct test t = {.plan = plan};
    g_autoptr(GError) local = NULL;
    t.path = g_strdup_printf(PROGRAM, g_random_int(), g_random_int());
    t.token = g_strdup_printf("%08x%08x", g_random_int() | 1, g_random_int());
    bool ok = measure(&t, &local);
    if (ok || t.hampered || t.damaged || number(&t.neighbour, "found") > 0)
        judge(&t, checks);
    else if (local->code != AT_ERROR_CANCELLED || local->domain != AT_ERROR)
        at_gpu_check_add(checks, "noisy neighbour", AT_GPU_NOT_TESTED, g_strdup(local->message));
    run_clear(&t.neighbour);
    g_free(t.path);
    g_free(t.token);
    g_free(t.hampered);
    if (!ok && g_error_matches(local, AT_ERROR, AT_ERROR_CANCELLED)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return true;
}
