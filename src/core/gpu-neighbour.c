/* SPDX-License-Identifier: Apache-2.0 */
/* Running the noisy neighbour: the victim alone, beside the neighbour, and alone again. */
#include "core/gpu-neighbour.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/plain.h"
#include "core/gpu-load.h"

enum {
    POLL_MS = 200,
    SLACK_S = 60, /* a driver may take long to start, and memory to fill */
    ALONE_RUNS = 2,
    TROUBLE_BYTES = 400,
};
/* Guests' clocks differ a little from ours. */
#define MEASURED_LEAST 0.9

struct test {
    const struct at_neighbour_plan *plan;
    struct at_gpu_load victim, neighbour;
    char *token;
    struct at_neighbour_story story;
};

static int64_t deadline_of(const struct test *t, double seconds)
{
    double slack = t->plan->slack_s > 0 ? t->plan->slack_s : SLACK_S;
    return at_deadline_ms((int64_t)((seconds + slack) * 1000));
}

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

/* An agent tells nothing by itself: it is asked again and again. A run that does not end is no
 * error here, but hung. */
static bool finish(const struct test *t, struct at_gpu_load *load, int64_t deadline,
                   struct at_neighbour_run *run, GError **error)
{
    while (run->ended_us == 0 && !run->hung) {
        if (!go_on(t, error) || !at_gpu_load_look(load, run, error))
            return false;
        run->hung = run->ended_us == 0 && at_deadline_left_ms(deadline) == 0;
        if (run->ended_us == 0 && !run->hung)
            g_usleep(POLL_MS * 1000);
    }
    return true;
}

/* One run of the victim's; *ret_ok when it has an answer. */
static bool measure_once(struct test *t, GPtrArray *runs, bool *ret_ok, GError **error)
{
    struct at_neighbour_run *run = at_neighbour_run_new();
    double seconds = t->plan->measure_s;
    g_ptr_array_add(runs, run);
    if (!at_gpu_load_start(&t->victim, t->token, seconds, run, error) ||
        !finish(t, &t->victim, deadline_of(t, seconds), run, error))
        return false;
    double took = (double)(run->ended_us - run->sent_us) / 1e6;
    if (run->answer && took < MEASURED_LEAST * seconds)
        return at_error(error, AT_ERROR_PEER,
                        "%s: the load in the guest ended after %.1f of %.1f s",
                        t->plan->victim.name, took, seconds);
    *ret_ok = run->answer;
    return true;
}

static bool measure_alone(struct test *t, GPtrArray *runs, double percent, bool *ret_ok,
                          GError **error)
{
    bool ok = true;
    for (unsigned i = 0; ok && i < ALONE_RUNS; i++) {
        if (!measure_once(t, runs, &ok, error))
            return false;
        tell(t, percent + 10.0 * i);
    }
    /* Who comes beside is not to blame for pages that change without it. */
    *ret_ok = ok && at_neighbour_damaged(runs) == 0;
    return true;
}

/* Again and again while the neighbour loads; no run begins after its time. */
static bool measure_while_loaded(struct test *t, int64_t deadline, bool *ret_ok, GError **error)
{
    struct at_neighbour_run *load = &t->story.load;
    bool ok = true;
    while (ok && load->ended_us == 0 && at_deadline_left_ms(deadline) > 0) {
        if (!measure_once(t, t->story.beside, &ok, error) ||
            (ok && !at_gpu_load_look(&t->neighbour, load, error)))
            return false;
        tell(t, MIN(30.0 + 5.0 * t->story.beside->len, 80.0));
    }
    *ret_ok = ok;
    return true;
}

static bool measure_beside(struct test *t, bool *ret_ok, GError **error)
{
    struct at_neighbour_run *load = &t->story.load;
    int64_t deadline = deadline_of(t, t->plan->load_s);
    bool ok = false;
    if (!at_gpu_load_start(&t->neighbour, t->token, t->plan->load_s, load, error) ||
        !measure_while_loaded(t, deadline, &ok, error))
        return false;
    /* What it has found in its memory counts also when the victim could not measure. */
    if (load->ended_us == 0 && !finish(t, &t->neighbour, deadline, load, error))
        return false;
    *ret_ok = ok && load->answer && !at_neighbour_hampered(&t->story);
    return true;
}

/* The last part shows whether somebody else had loaded the card in the first. */
static bool measure(struct test *t, GError **error)
{
    bool ok = false;
    return measure_alone(t, t->story.before, 10, &ok, error) &&
           (!ok || measure_beside(t, &ok, error)) &&
           (!ok || measure_alone(t, t->story.after, 85, &ok, error));
}

static bool bring_and_measure(struct test *t, GError **error)
{
    g_autoptr(GMappedFile) file = g_mapped_file_new(t->plan->program, FALSE, error);
    g_autoptr(GBytes) program = file ? g_mapped_file_get_bytes(file) : NULL;
    if (!program) {
        g_prefix_error(error, "atoll-gpu-load, which the guests run, is not on this host: ");
        return false;
    }
    bool again = t->plan->again;
    bool ok = at_gpu_load_bring(&t->victim, program, again, error) &&
              at_gpu_load_bring(&t->neighbour, program, again, error) && measure(t, error);
    at_gpu_load_take_away(&t->neighbour);
    at_gpu_load_take_away(&t->victim);
    return ok;
}

/* What an agent says goes into lasting records. */
static char *plain_of(const char *text)
{
    char plain[TROUBLE_BYTES];
    at_plain_copy(plain, sizeof plain, text);
    return g_strdup(plain);
}

bool at_neighbour_measure(const struct at_neighbour_plan *plan, GPtrArray *checks, GError **error)
{
    struct test t = {.plan = plan};
    g_autoptr(GError) local = NULL;
    char *detail;
    at_gpu_load_init(&t.victim, &plan->victim, "victim", plan->name);
    at_gpu_load_init(&t.neighbour, &plan->neighbour, "neighbour", plan->name);
    at_neighbour_story_init(&t.story, plan);
    t.token = g_strdup_printf("%08x%08x", g_random_int() | 1, g_random_int());
    bool cancelled =
        !bring_and_measure(&t, &local) && g_error_matches(local, AT_ERROR, AT_ERROR_CANCELLED);
    if (local)
        t.story.trouble = plain_of(local->message);
    if (cancelled) {
        g_propagate_error(error, g_steal_pointer(&local));
    } else {
        enum at_gpu_verdict verdict = at_neighbour_judge(&t.story, &detail);
        at_gpu_check_add(checks, AT_NEIGHBOUR_CHECK, verdict, detail);
    }
    at_neighbour_story_clear(&t.story);
    at_gpu_load_clear(&t.victim);
    at_gpu_load_clear(&t.neighbour);
    g_free(t.token);
    return !cancelled;
}
