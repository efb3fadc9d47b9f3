/* SPDX-License-Identifier: Apache-2.0 */
/* What follows from what the two guests of the noisy neighbour say, or keep to themselves. How they
 * come to say it is in tests/system/gpu/test-neighbour.c. */
#include <string.h>

#include "base/json.h"
#include "core/gpu-neighbour-judge.h"
#include "lib/at-test.h"

/* A victim's answer: its memory in MB, MB/s, damaged pages. */
#define RUN(used, rate, damaged)                                                                   \
    "{\"device\": \"x\", \"memory\": 8589934592, \"used\": " #used "e6, \"rate\": " #rate          \
    "e6, \"slowest\": 1, \"windows\": 30, \"damaged\": " #damaged "}"
#define GOOD RUN(1, 100, 0)
/* The neighbour's: MB of its 1000 MB, seconds of filling and of 20 s of load, found pages. */
#define LOAD(used, fill, load, found)                                                              \
    "{\"device\": \"x\", \"memory\": 1000000000, \"used\": " #used "e6, \"rate\": 1,"              \
    " \"fill_seconds\": " #fill ", \"load_seconds\": " #load                                       \
    ", \"looked\": 900, \"found\": " #found "}"
#define LOADED LOAD(900, 1, 20, 0)

struct judged {
    const char *name;
    enum at_gpu_isolation isolation, of_neighbour; /* 0: hardware */
    const char *before, *after;                    /* NULL: a good answer; "": no run */
    const char *beside[5];                         /* NULL in the first: four good ones */
    const char *failure;                           /* of the last run beside */
    bool hung;                                     /* the same */
    const char *load;                              /* NULL: it loaded well; "": no answer */
    const char *load_failure;
    double running_s; /* last seen running; 0: until its end */
    const char *trouble;
    enum at_gpu_verdict verdict;
    const char *says;
};

static const struct judged cases[] = {
    {"walls-that-hold-pass", .verdict = AT_GPU_PASSED,
     .says = "lab/a copied 100 MB/s alone and 100 MB/s (100 %) beside lab/b, which had filled 858 "
             "MiB; nothing of the victim was changed or seen"},

    /* Memory. */
    {"pages-that-changed-beside-fail", .beside = {GOOD, RUN(1, 100, 3)}, .verdict = AT_GPU_FAILED,
     .says = "3 pages of lab/a changed while lab/b wrote"},
    {"pages-that-changed-alone-are-not-blamed-on-the-neighbour", .before = RUN(1, 100, 3),
     .after = "", .beside = {""}, .load = "", .verdict = AT_GPU_FAILED,
     .says = "6 pages of lab/a changed without any load beside it"},
    {"pages-that-changed-afterwards-are-not-blamed-either", .after = RUN(1, 100, 3),
     .beside = {GOOD, RUN(1, 100, 3)}, .verdict = AT_GPU_FAILED,
     .says = "6 pages of lab/a changed without any load beside it"},
    {"pages-that-changed-count-also-when-the-test-broke-off", .beside = {RUN(1, 100, 3)},
     .after = "", .load = "", .trouble = "lab/b: gone", .verdict = AT_GPU_FAILED,
     .says = "3 pages of lab/a changed while lab/b wrote"},
    {"what-a-neighbour-has-seen-fails", .load = LOAD(900, 1, 20, 7), .verdict = AT_GPU_FAILED,
     .says = "lab/b found in 7 of 900 pages what lab/a had written"},
    {"less-memory-beside-fails", .beside = {GOOD, RUN(0, 100, 0)}, .after = "",
     .verdict = AT_GPU_FAILED, .says = "could not beside lab/b: it got 0 MiB of memory in place"},
    {"a-little-less-memory-is-the-drivers",
     .before = "{\"memory\": 9, \"used\": 1000, \"rate\": 100000000, \"slowest\": 1, \"windows\": "
               "1, \"damaged\": 0}",
     .beside = {"{\"memory\": 9, \"used\": 950, \"rate\": 100000000, \"slowest\": 1, \"windows\": "
                "1, \"damaged\": 0}",
                "{\"memory\": 9, \"used\": 950, \"rate\": 100000000, \"slowest\": 1, \"windows\": "
                "1, \"damaged\": 0}"},
     .verdict = AT_GPU_PASSED, .says = "nothing of the victim"},

    /* A victim that cannot measure. */
    {"a-victim-without-memory-fails", .beside = {GOOD, ""}, .failure = "out of memory", .after = "",
     .verdict = AT_GPU_FAILED, .says = "measured alone, but could not beside lab/b: out of memory"},
    {"a-victim-that-hangs-fails", .beside = {GOOD, ""}, .hung = true, .after = "",
     .verdict = AT_GPU_FAILED, .says = "could not beside lab/b: its load did not end"},
    {"a-victim-that-hangs-beside-nobody-is-not-tested", .beside = {GOOD, ""}, .hung = true,
     .after = "", .load = "", .load_failure = "no driver", .verdict = AT_GPU_NOT_TESTED,
     .says = "lab/a could not measure (its load did not end), but nothing shows that lab/b was "
             "why: lab/b: the load in the guest: no driver"},
    {"a-victim-that-fails-beside-an-empty-neighbour-is-not-tested", .beside = {""}, .failure = "x",
     .after = "", .load = LOAD(0, 1, 20, 0), .verdict = AT_GPU_NOT_TESTED,
     .says = "it does not say what it had filled"},
    {"a-victim-that-fails-beside-silence-is-not-tested", .beside = {""}, .failure = "x",
     .after = "", .load = "{\"found\": 0}", .verdict = AT_GPU_NOT_TESTED,
     .says = "it does not say what it had filled"},
    {"a-victim-that-fails-beside-an-agent-that-went-away-is-not-tested", .beside = {""},
     .failure = "x", .after = "", .load = "", .trouble = "lab/b: gone",
     .verdict = AT_GPU_NOT_TESTED, .says = "lab/b was why: lab/b: gone"},

    /* No test. */
    {"an-agent-that-went-away-is-not-tested", .after = "", .trouble = "lab/b: gone",
     .verdict = AT_GPU_NOT_TESTED, .says = "lab/b: gone"},
    {"a-neighbour-without-a-driver-is-not-tested", .after = "", .load = "",
     .load_failure = "no driver", .verdict = AT_GPU_NOT_TESTED,
     .says = "lab/b: the load in the guest: no driver"},
    {"a-neighbour-that-hangs-is-not-tested", .after = "", .load = "", .verdict = AT_GPU_NOT_TESTED,
     .says = "lab/b: the load in the guest does not end"},
    {"a-victim-that-answers-nothing-of-damage-is-not-tested",
     .beside = {GOOD, "{\"memory\": 9, \"used\": 1000000, \"rate\": 1, \"slowest\": 1, "
                      "\"windows\": 1}"},
     .verdict = AT_GPU_NOT_TESTED,
     .says = "lab/a: the load in the guest answered without \"damaged\""},
    {"a-text-in-place-of-a-number-is-no-answer",
     .beside = {GOOD, "{\"memory\": 9, \"used\": 1000000, \"rate\": 1, \"slowest\": 1, "
                      "\"windows\": 1, \"damaged\": \"0\"}"},
     .verdict = AT_GPU_NOT_TESTED, .says = "answered without \"damaged\""},
    {"a-negative-number-is-no-answer", .before = RUN(1, -100, 0), .verdict = AT_GPU_NOT_TESTED,
     .says = "answered without \"rate\""},
    {"a-number-beyond-everything-is-no-answer", .load = LOAD(900, 1, 20, 1e300),
     .verdict = AT_GPU_NOT_TESTED, .says = "answered without \"found\""},
    {"a-neighbour-that-answers-nothing-of-what-it-found-is-not-tested",
     .load = "{\"memory\": 9, \"used\": 9, \"rate\": 1, \"fill_seconds\": 1, \"load_seconds\": 20, "
             "\"looked\": 9}",
     .verdict = AT_GPU_NOT_TESTED,
     .says = "lab/b: the load in the guest answered without \"found\""},
    {"an-empty-answer-is-not-tested", .load = "{}", .verdict = AT_GPU_NOT_TESTED,
     .says = "lab/b: the load in the guest answered without \"memory\""},

    /* A neighbour that does not load. */
    {"a-short-load-is-not-tested", .load = LOAD(900, 1, 17.9, 0), .verdict = AT_GPU_NOT_TESTED,
     .says = "lab/b copied for 17.9 of 20.0 s"},
    {"a-load-of-nine-tenths-will-do", .load = LOAD(900, 1, 18.1, 0), .verdict = AT_GPU_PASSED,
     .says = "100 %"},
    {"half-of-the-memory-free-is-not-tested", .load = LOAD(499, 1, 20, 0),
     .verdict = AT_GPU_NOT_TESTED, .says = "lab/b filled 476 MiB of the 954 MiB of its memory"},
    {"a-load-that-says-it-lasted-but-was-gone-is-not-tested", .running_s = 8,
     .verdict = AT_GPU_NOT_TESTED, .says = "lab/a measured 1 times while lab/b had the card full"},
    {"a-load-that-was-never-seen-running-is-not-tested", .running_s = -1,
     .verdict = AT_GPU_NOT_TESTED, .says = "lab/a measured 0 times"},
    {"one-run-beside-is-too-few", .beside = {GOOD}, .verdict = AT_GPU_NOT_TESTED,
     .says = "measured 1 times"},
    {"runs-while-it-fills-do-not-count", .load = LOAD(900, 12, 20, 0), .verdict = AT_GPU_NOT_TESTED,
     .says = "measured 1 times"},

    /* Bandwidth. */
    {"hardware-that-does-not-keep-it-fails",
     .beside = {RUN(1, 89, 0), RUN(1, 89, 0), RUN(1, 89, 0)}, .verdict = AT_GPU_FAILED,
     .says = "(89 %) beside lab/b, which had filled 858 MiB: the hardware does not keep"},
    {"nine-tenths-are-kept", .beside = {RUN(1, 91, 0), RUN(1, 91, 0)}, .verdict = AT_GPU_PASSED,
     .says = "(91 %)"},
    {"a-victim-with-hardware-is-judged-beside-a-shared-neighbour", AT_GPU_HARDWARE, AT_GPU_SHARED,
     .beside = {RUN(1, 50, 0), RUN(1, 50, 0)}, .verdict = AT_GPU_FAILED,
     .says = "the hardware does not keep"},
    {"a-victim-that-shares-is-promised-nothing", AT_GPU_SHARED, AT_GPU_HARDWARE,
     .beside = {RUN(1, 50, 0), RUN(1, 50, 0)}, .verdict = AT_GPU_PASSED,
     .says = "its profile shares the engines"},
    {"of-two-runs-the-slower-counts", .beside = {RUN(1, 100, 0), RUN(1, 50, 0)},
     .verdict = AT_GPU_FAILED, .says = "(50 %)"},
    {"of-three-runs-the-middle-one-counts",
     .beside = {RUN(1, 100, 0), RUN(1, 50, 0), RUN(1, 95, 0)}, .verdict = AT_GPU_PASSED,
     .says = "(95 %)"},
    /* Something of before was on the card until the neighbour's turn: the victim seems to keep
     * all. */
    {"a-card-that-was-not-quiet-before-is-not-tested", .before = RUN(1, 50, 0),
     .beside = {RUN(1, 50, 0), RUN(1, 50, 0)}, .verdict = AT_GPU_NOT_TESTED,
     .says =
         "the card was not quiet: lab/a copied 50 MB/s alone before the test and 100 MB/s after"},
    {"a-card-that-was-not-quiet-after-is-not-tested", .after = RUN(1, 50, 0),
     .verdict = AT_GPU_NOT_TESTED, .says = "the card was not quiet"},
    {"the-better-of-before-and-after-counts", .before = RUN(1, 91, 0),
     .beside = {RUN(1, 89, 0), RUN(1, 89, 0)}, .verdict = AT_GPU_FAILED, .says = "(89 %)"},
    {"shared-engines-may-be-in-use", AT_GPU_SHARED, .before = RUN(1, 50, 0),
     .verdict = AT_GPU_PASSED, .says = "bandwidth is not kept); the card was not quiet: "},
    {"a-victim-that-copies-nothing-is-not-tested", .before = RUN(1, 0, 0), .after = RUN(1, 0, 0),
     .verdict = AT_GPU_NOT_TESTED, .says = "lab/a copied nothing alone"},
};

enum { BASE_US = 1000000000 };

static JsonNode *answer_of(const char *text)
{
    g_autoptr(GError) error = NULL;
    JsonNode *node = *text ? at_json_parse(text, -1, &error) : NULL;
    g_assert_no_error(error);
    return node;
}

static struct at_neighbour_run *add_run(GPtrArray *runs, const char *text, double at_s)
{
    struct at_neighbour_run *run = at_neighbour_run_new();
    run->sent_us = BASE_US + (int64_t)(at_s * 1e6);
    run->told_us = run->sent_us + 100000;
    run->ended_us = run->sent_us + 3500000;
    run->answer = answer_of(text);
    g_ptr_array_add(runs, run);
    return run;
}

static void alone(GPtrArray *runs, const char *text, double at_s)
{
    for (unsigned i = 0; i < 2 && g_strcmp0(text, "") != 0; i++)
        add_run(runs, text ? text : GOOD, at_s + 4 * i);
}

/* The neighbour is started at 0 s; the victim's runs beside it are at 2, 6, 10 and 14 s. */
static void beside(struct at_neighbour_story *s, const struct judged *c)
{
    static const char *const good[] = {GOOD, GOOD, GOOD, GOOD, NULL};
    const char *const *texts = c->beside[0] ? c->beside : good;
    struct at_neighbour_run *last = NULL;
    for (unsigned i = 0; texts[i]; i++)
        last = add_run(s->beside, texts[i], 2 + 4 * i);
    g_assert(last);
    last->failure = g_strdup(c->failure);
    last->hung = c->hung;
    s->load.sent_us = BASE_US;
    s->load.told_us = BASE_US + 100000;
    s->load.answer = answer_of(c->load ? c->load : LOADED);
    s->load.failure = g_strdup(c->load_failure);
    if (c->running_s >= 0)
        s->load.running_us = BASE_US + (int64_t)((c->running_s > 0 ? c->running_s : 21) * 1e6);
}

static void judge(gconstpointer data)
{
    const struct judged *c = data;
    const struct at_neighbour_plan plan = {
        .victim = {"lab/a", NULL, c->isolation ? c->isolation : AT_GPU_HARDWARE},
        .neighbour = {"lab/b", NULL, c->of_neighbour ? c->of_neighbour : AT_GPU_HARDWARE},
        .measure_s = 3,
        .load_s = 20,
    };
    struct at_neighbour_story s;
    g_autofree char *detail = NULL;
    at_neighbour_story_init(&s, &plan);
    alone(s.before, c->before, -10);
    beside(&s, c);
    alone(s.after, c->after, 30);
    s.trouble = g_strdup(c->trouble);
    enum at_gpu_verdict verdict = at_neighbour_judge(&s, &detail);
    g_test_message("%s: %s", at_gpu_verdict_name(verdict), detail);
    g_assert_cmpint(verdict, ==, c->verdict);
    g_assert_nonnull(strstr(detail, c->says));
    at_neighbour_story_clear(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strconcat("/core/gpu-neighbour-judge/", cases[i].name, NULL);
        g_test_add_data_func(path, &cases[i], judge);
    }
    return g_test_run();
}
