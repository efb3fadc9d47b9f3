/* SPDX-License-Identifier: Apache-2.0 */
/* The noisy neighbour, measured by real guest agents: in two guests, each with a double of a card
 * of its own, and on this host, where two agents share one that behaves well or badly. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/gpu-load.h"
#include "core/gpu-neighbour.h"

#include "../qemu/guest.h"
#include "base/error.h"
#include "lib/at-test.h"
#include "lib/tiny-guest.h"
#include "qemu/agent-exec.h"
#include "unit/qemu/fake-agent.h"
#include "unit/qemu/fake-peer.h"

static bool answers(const char *socket)
{
    g_autoptr(at_agent) agent = at_agent_open(socket, WAIT_MS, NULL);
    return agent;
}

/* An agent on this host: its socket in a directory of its own, so that its guest's name is enough.
 */
static const char *host_agent(const char *name, const char *card, const char *mode)
{
    g_autofree char *dir = g_path_get_dirname(at_test_tiny_guest());
    const char *own = at_test_dir();
    const char *socket = at_test_path(own, "qga.sock");
    g_autofree char *library = g_strdup_printf("LD_LIBRARY_PATH=%s/agent", dir);
    g_autofree char *program = g_strdup_printf("%s/agent/qemu-ga", dir);
    g_autofree char *card_is = g_strdup_printf("CUDA_DOUBLE=%s", card);
    g_autofree char *mode_is = g_strdup_printf("CUDA_DOUBLE_MODE=memory=32 rate=64 %s", mode);
    const char *const argv[] = {"env",
                                library,
                                card_is,
                                mode_is,
                                program,
                                "-m",
                                "unix-listen",
                                "-p",
                                socket,
                                "-t",
                                own,
                                "-f",
                                at_test_path(own, "pid"),
                                NULL};
    at_test_spawn(argv, at_test_path(own, name));
    g_assert_true(at_test_until(answers(socket), WAIT_MS)); /* its file is there a little earlier */
    return socket;
}

static const struct at_gpu_check *only_check(const GPtrArray *checks)
{
    g_assert_cmpuint(checks->len, ==, 1);
    const struct at_gpu_check *check = checks->pdata[0];
    g_assert_cmpstr(check->name, ==, "noisy neighbour");
    g_test_message("%s: %s", at_gpu_verdict_name(check->verdict), check->detail);
    return check;
}

/* A plan between these agents; its name is of this test. */
static struct at_neighbour_plan plan_between(const char *victim, const char *neighbour,
                                             enum at_gpu_isolation isolation)
{
    char *name = g_strdup_printf("%08x%08x", g_random_int(), g_random_int());
    g_test_queue_free(name);
    return (struct at_neighbour_plan){
        .program = g_getenv("ATOLL_GPU_LOAD"),
        .name = name,
        .victim = {"lab/a", victim, isolation},
        .neighbour = {"lab/b", neighbour, isolation},
        .measure_s = 0.3,
        .load_s = 3,
    };
}

/* Of two guests on this host, each with half of one card that keeps its walls. */
static struct at_neighbour_plan plan_of_halves(enum at_gpu_isolation isolation)
{
    const char *card = at_test_path(at_test_dir(), "card");
    return plan_between(host_agent("a", card, "parts=2 part=0"),
                        host_agent("b", card, "parts=2 part=1"), isolation);
}

/* Where the loads of this plan are in guests that are this host. */
static const char *dir_of(const struct at_neighbour_plan *plan, const char *role)
{
    char *dir = g_strdup_printf("/var/lib/atoll-gpu-load-%s.%s", plan->name, role);
    g_test_queue_free(dir);
    return dir;
}

/* A process of this host that has the text in its command line. */
static bool somebody_runs(const char *text)
{
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    for (const char *pid; (pid = g_dir_read_name(proc));) {
        g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", pid), *words = NULL;
        gsize len = 0;
        if (g_ascii_isdigit(*pid) && g_file_get_contents(path, &words, &len, NULL) &&
            memmem(words, len, text, strlen(text)))
            return true;
    }
    return false;
}

static void assert_nothing_left(const struct at_neighbour_plan *plan)
{
    g_assert_false(g_file_test(dir_of(plan, "victim"), G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(dir_of(plan, "neighbour"), G_FILE_TEST_EXISTS));
    g_assert_false(somebody_runs(plan->name));
}

/* The check that is made, and that nothing is left. */
static const struct at_gpu_check *measure(const struct at_neighbour_plan *plan)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *checks = at_gpu_checks_new();
    g_test_queue_destroy((GDestroyNotify)g_ptr_array_unref, checks);
    g_assert_true(at_test_ok(at_neighbour_measure(plan, checks, &error), &error));
    assert_nothing_left(plan);
    return only_check(checks);
}

struct card_case {
    const char *name, *victim, *neighbour; /* modes of the double */
    enum at_gpu_isolation isolation;
    enum at_gpu_verdict verdict;
    const char *says;
};

static const struct card_case card_cases[] = {
    {"walls-that-hold-pass", "parts=2 part=0", "parts=2 part=1", AT_GPU_HARDWARE, AT_GPU_PASSED,
     "which had filled 16 MiB; nothing of the victim was changed or seen"},
    {"engines-in-turns-fail-where-hardware-was-promised", "turns parts=2 part=0",
     "turns parts=2 part=1", AT_GPU_HARDWARE, AT_GPU_FAILED,
     "the hardware does not keep the victim's bandwidth"},
    {"engines-in-turns-are-what-shared-means", "turns parts=2 part=0", "turns parts=2 part=1",
     AT_GPU_SHARED, AT_GPU_PASSED, "its profile shares the engines"},
    {"memory-that-changes-fails", "parts=2 part=0", "flip parts=2 part=1", AT_GPU_SHARED,
     AT_GPU_FAILED, "changed while"},
    {"memory-that-is-handed-on-as-it-was-fails", "leak", "leak", AT_GPU_SHARED, AT_GPU_FAILED,
     "memory is handed on without being cleared"},
    {"memory-that-changes-by-itself-is-not-blamed-on-the-neighbour", "rot parts=2 part=0",
     "parts=2 part=1", AT_GPU_SHARED, AT_GPU_FAILED,
     "2 pages of lab/a changed without any load beside it"},
    {"a-victim-that-hangs-beside-it-fails", "hampered parts=2 part=0", "parts=2 part=1",
     AT_GPU_SHARED, AT_GPU_FAILED,
     "lab/a measured alone, but could not beside lab/b: its load did "
     "not end"},
    {"a-victim-that-hangs-alone-is-not-tested", "stuck parts=2 part=0", "parts=2 part=1",
     AT_GPU_SHARED, AT_GPU_NOT_TESTED, "lab/a: the load in the guest does not end"},
    {"a-neighbour-that-hangs-is-not-tested", "parts=2 part=0", "stuck parts=2 part=1",
     AT_GPU_SHARED, AT_GPU_NOT_TESTED, "lab/b: the load in the guest does not end"},
    {"memory-that-a-neighbour-takes-away-fails", "", "", AT_GPU_SHARED, AT_GPU_FAILED,
     "lab/a measured alone, but could not beside lab/b: memory of the card: out of memory"},
    {"a-driver-that-is-not-ready-is-not-tested", "", "init=802", AT_GPU_SHARED, AT_GPU_NOT_TESTED,
     "lab/b: the load in the guest: start the CUDA driver: system not yet initialized"},
    {"two-gpus-in-one-guest-are-not-tested", "gpus=2", "", AT_GPU_SHARED, AT_GPU_NOT_TESTED,
     "the guest has 2 GPUs"},
};

static void test_card(gconstpointer data)
{
    const struct card_case *c = data;
    if (!at_test_tiny_guest())
        return;
    const char *card = at_test_path(at_test_dir(), "card");
    struct at_neighbour_plan plan = plan_between(host_agent("a", card, c->victim),
                                                 host_agent("b", card, c->neighbour), c->isolation);
    plan.slack_s = 5;
    const struct at_gpu_check *check = measure(&plan);
    g_assert_cmpint(check->verdict, ==, c->verdict);
    g_assert_nonnull(strstr(check->detail, c->says));
}

static void end_left(double percent, void *user)
{
    pid_t *pid = user;
    if (percent >= 20 && *pid)
        at_test_kill(*pid, SIGKILL), *pid = 0;
}

/* Who is on the card at first makes the victim's own rate look small; then it seems to keep it. */
static void test_not_quiet(void)
{
    if (!at_test_tiny_guest())
        return;
    const char *card = at_test_path(at_test_dir(), "card");
    g_autofree char *dir = g_path_get_dirname(at_test_tiny_guest());
    g_autofree char *library = g_strdup_printf("LD_LIBRARY_PATH=%s/agent", dir);
    g_autofree char *card_is = g_strdup_printf("CUDA_DOUBLE=%s", card);
    const char *const left[] = {"env",
                                library,
                                card_is,
                                "CUDA_DOUBLE_MODE=memory=32 rate=64 turns parts=4 part=3",
                                g_getenv("ATOLL_GPU_LOAD"),
                                "neighbour",
                                "--token",
                                "1",
                                "--seconds",
                                "300",
                                NULL};
    struct at_neighbour_plan plan =
        plan_between(host_agent("a", card, "turns parts=4 part=0"),
                     host_agent("b", card, "parts=4 part=1"), AT_GPU_HARDWARE);
    pid_t pid = at_test_spawn(left, NULL);
    plan.progress = end_left;
    plan.user = &pid;
    const struct at_gpu_check *check = measure(&plan);
    g_assert_cmpint(check->verdict, ==, AT_GPU_NOT_TESTED);
    g_assert_nonnull(strstr(check->detail, "the card was not quiet: lab/a copied "));
}

static void cancel_when_it_loads(double percent, void *cancellable)
{
    if (percent >= 30)
        g_cancellable_cancel(cancellable);
}

static void test_cancel(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    if (!at_test_tiny_guest())
        return;
    struct at_neighbour_plan plan = plan_of_halves(AT_GPU_HARDWARE);
    plan.load_s = 300;
    plan.cancellable = cancellable;
    plan.progress = cancel_when_it_loads;
    plan.user = cancellable;
    g_autoptr(GPtrArray) checks = at_gpu_checks_new();
    g_assert_false(at_neighbour_measure(&plan, checks, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CANCELLED);
    g_assert_cmpuint(checks->len, ==, 0);
    assert_nothing_left(&plan); /* the load, too */
}

static void assert_mode(double percent, void *user)
{
    const struct at_neighbour_plan *plan = user;
    static const char *const roles[] = {"victim", "neighbour"};
    for (size_t i = 0; i < G_N_ELEMENTS(roles); i++) {
        struct stat st;
        const char *dir = dir_of(plan, roles[i]);
        g_assert_cmpint(stat(dir, &st), ==, 0);
        g_assert_cmpuint(st.st_mode & 07777, ==, 0700);
        g_assert_cmpuint(st.st_uid, ==, geteuid());
    }
}

/* What root runs in the guest cannot be exchanged by somebody else there. */
static void test_mode(void)
{
    if (!at_test_tiny_guest())
        return;
    struct at_neighbour_plan plan = plan_of_halves(AT_GPU_SHARED);
    plan.progress = assert_mode;
    plan.user = &plan;
    g_assert_cmpint(measure(&plan)->verdict, ==, AT_GPU_PASSED);
}

/* A name that is taken is not ours to use or to remove. */
static void test_taken(void)
{
    if (!at_test_tiny_guest())
        return;
    struct at_neighbour_plan plan = plan_of_halves(AT_GPU_SHARED);
    const char *taken = dir_of(&plan, "neighbour");
    g_autoptr(GPtrArray) checks = at_gpu_checks_new();
    g_assert_cmpint(mkdir(taken, 0777), ==, 0);
    g_assert_true(at_neighbour_measure(&plan, checks, NULL));
    g_assert_cmpint(only_check(checks)->verdict, ==, AT_GPU_NOT_TESTED);
    g_assert_true(g_str_has_prefix(only_check(checks)->detail,
                                   "lab/b: bring the load into the guest: /bin/mkdir ended"));
    g_assert_cmpint(rmdir(taken), ==, 0); /* it is there and empty */
    assert_nothing_left(&plan);           /* the victim's is removed, although there was no test */
    /* An earlier daemon's is. */
    g_assert_cmpint(mkdir(taken, 0777), ==, 0);
    plan.again = true;
    g_assert_cmpint(measure(&plan)->verdict, ==, AT_GPU_PASSED);
}

/* The next daemon measures anew, not beside what the one before has started. */
static void test_again(void)
{
    g_autoptr(GError) error = NULL;
    if (!at_test_tiny_guest())
        return;
    const char *card = at_test_path(at_test_dir(), "card");
    struct at_neighbour_plan plan =
        plan_between(host_agent("a", card, "turns parts=2 part=0"),
                     host_agent("b", card, "parts=2 part=1"), AT_GPU_HARDWARE);
    struct at_gpu_load left;
    struct at_neighbour_run run = {0};
    g_autoptr(GMappedFile) file = g_mapped_file_new(plan.program, FALSE, NULL);
    g_autoptr(GBytes) program = g_mapped_file_get_bytes(file);
    at_gpu_load_init(&left, &plan.neighbour, "neighbour", plan.name);
    g_assert_true(at_test_ok(at_gpu_load_bring(&left, program, false, &error), &error));
    g_assert_true(at_test_ok(at_gpu_load_start(&left, "1", 300, &run, &error), &error));
    at_gpu_load_clear(&left);
    plan.again = true;
    g_assert_cmpint(measure(&plan)->verdict, ==, AT_GPU_PASSED);
}

static void test_no_agent(void)
{
    const char *nobody = at_test_path(at_test_dir(), "qga.sock");
    struct at_neighbour_plan plan = plan_between(nobody, nobody, AT_GPU_SHARED);
    const struct at_gpu_check *check = measure(&plan);
    g_assert_cmpint(check->verdict, ==, AT_GPU_NOT_TESTED);
    g_assert_true(g_str_has_prefix(check->detail, "lab/a: "));
}

/* It goes into records that are kept and shown. */
static void test_talkative_agent(void)
{
    g_autofree char *much = g_strnfill(200000, 'x');
    g_autofree char *refusal =
        g_strdup_printf("> {\"error\": {\"desc\": \"no\\u001b[2Jno\\n%s\"}}", much);
    const char *const script[] = {SYNCED, "< guest-exec", refusal, "hold", NULL};
    const char *talkative = fake_peer(script);
    struct at_neighbour_plan plan = plan_between(talkative, talkative, AT_GPU_SHARED);
    const struct at_gpu_check *check = measure(&plan);
    g_assert_cmpint(check->verdict, ==, AT_GPU_NOT_TESTED);
    g_assert_nonnull(strstr(check->detail, "no [2Jno xxx"));
    g_assert_cmpuint(strlen(check->detail), <, 400);
}

static void test_no_program(void)
{
    const char *nobody = at_test_path(at_test_dir(), "qga.sock");
    struct at_neighbour_plan plan = plan_between(nobody, nobody, AT_GPU_SHARED);
    plan.program = "/nonexistent/atoll-gpu-load";
    const struct at_gpu_check *check = measure(&plan);
    g_assert_cmpint(check->verdict, ==, AT_GPU_NOT_TESTED);
    g_assert_true(g_str_has_prefix(check->detail,
                                   "atoll-gpu-load, which the guests run, is not on this host: "));
    g_assert_nonnull(strstr(check->detail, plan.program));
}

/* What a program of the guest says. */
static char *output_of(struct guest *g, const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    int64_t pid;
    struct at_agent_exec exec = {0};
    g_autoptr(at_agent) agent = guest_agent(g);
    g_assert_true(at_test_ok(at_agent_exec_start(agent, argv, WAIT_MS, &pid, &error), &error));
    g_assert_true(at_test_until(
        at_test_ok(at_agent_exec_poll(agent, pid, WAIT_MS, &exec, &error), &error) && exec.ended,
        WAIT_MS));
    g_assert_cmpint(exec.status, ==, 0);
    g_free(exec.errors);
    return exec.output;
}

static void test_guests(void)
{
    static const char *const list[] = {"/bin/ls", "/var/lib", NULL};
    if (!guest_possible())
        return;
    struct guest *a = guest_prepare(NULL), *b = guest_prepare(NULL);
    guest_start(a);
    guest_boot(b);
    guest_expect(a, 0, "GUEST-UP", NULL);
    at_agent_close(guest_agent(a));
    at_agent_close(guest_agent(b));
    /* Emulated guests on a busy host keep no rate. */
    struct at_neighbour_plan plan = plan_between(at_test_path(a->dir, "qga.sock"),
                                                 at_test_path(b->dir, "qga.sock"), AT_GPU_SHARED);
    plan.measure_s = 0.5;
    plan.load_s = 15;
    const struct at_gpu_check *check = measure(&plan);
    g_assert_cmpint(check->verdict, ==, AT_GPU_PASSED);
    g_assert_nonnull(strstr(check->detail, "which had filled 16 MiB"));
    g_autofree char *left_a = output_of(a, list), *left_b = output_of(b, list);
    g_assert_cmpstr(left_a, ==, "");
    g_assert_cmpstr(left_b, ==, "");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_watch_signals();
    for (size_t i = 0; i < G_N_ELEMENTS(card_cases); i++) {
        g_autofree char *path = g_strconcat("/gpu/neighbour/", card_cases[i].name, NULL);
        g_test_add_data_func(path, &card_cases[i], test_card);
    }
    g_test_add_func("/gpu/neighbour/is-cancelled-while-it-loads", test_cancel);
    g_test_add_func("/gpu/neighbour/a-card-that-is-not-quiet-is-not-tested", test_not_quiet);
    g_test_add_func("/gpu/neighbour/only-root-can-reach-what-is-run-in-the-guest", test_mode);
    g_test_add_func("/gpu/neighbour/a-directory-of-somebody-else-is-left-alone", test_taken);
    g_test_add_func("/gpu/neighbour/ends-what-an-earlier-daemon-has-left", test_again);
    g_test_add_func("/gpu/neighbour/what-an-agent-says-is-cut-and-made-plain",
                    test_talkative_agent);
    g_test_add_func("/gpu/neighbour/a-load-that-is-not-installed-is-named", test_no_program);
    g_test_add_func("/gpu/neighbour/a-guest-without-an-agent-is-not-tested", test_no_agent);
    g_test_add_func("/gpu/neighbour/is-measured-in-two-guests-and-leaves-nothing-there",
                    test_guests);
    return g_test_run();
}
