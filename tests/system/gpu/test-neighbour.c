/* SPDX-License-Identifier: Apache-2.0 */
/* The noisy neighbour, measured by real guest agents: in two guests, each with a double of a card
 * of its own, and on this host, where two agents share one that behaves well or badly. */
#include <string.h>

#include "core/gpu-neighbour.h"

#include "../qemu/guest.h"
#include "base/error.h"
#include "lib/at-test.h"
#include "lib/tiny-guest.h"
#include "qemu/agent-exec.h"

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
    g_assert_true(at_test_until(g_file_test(socket, G_FILE_TEST_EXISTS), WAIT_MS));
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
    g_autoptr(GError) error = NULL;
    if (!at_test_tiny_guest())
        return;
    const char *card = at_test_path(at_test_dir(), "card");
    struct at_neighbour_plan plan = {
        .program = g_getenv("ATOLL_GPU_LOAD"),
        .victim = {"lab/a", host_agent("a", card, c->victim)},
        .neighbour = {"lab/b", host_agent("b", card, c->neighbour)},
        .isolation = c->isolation,
        .measure_s = 0.3,
        .load_s = 3,
    };
    g_autoptr(GPtrArray) checks = at_gpu_checks_new();
    g_assert_true(at_test_ok(at_neighbour_measure(&plan, checks, &error), &error));
    const struct at_gpu_check *check = only_check(checks);
    g_assert_cmpint(check->verdict, ==, c->verdict);
    g_assert_nonnull(strstr(check->detail, c->says));
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
    const char *card = at_test_path(at_test_dir(), "card");
    struct at_neighbour_plan plan = {
        .program = g_getenv("ATOLL_GPU_LOAD"),
        .victim = {"lab/a", host_agent("a", card, "parts=2 part=0")},
        .neighbour = {"lab/b", host_agent("b", card, "parts=2 part=1")},
        .isolation = AT_GPU_HARDWARE,
        .measure_s = 0.3,
        .load_s = 30,
        .cancellable = cancellable,
        .progress = cancel_when_it_loads,
        .user = cancellable,
    };
    g_autoptr(GPtrArray) checks = at_gpu_checks_new();
    int64_t begin = g_get_monotonic_time();
    g_assert_false(at_neighbour_measure(&plan, checks, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CANCELLED);
    g_assert_cmpuint(checks->len, ==, 0);
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 25 * G_USEC_PER_SEC);
}

static void test_no_agent(void)
{
    g_autoptr(GError) error = NULL;
    struct at_neighbour_plan plan = {
        .program = g_getenv("ATOLL_GPU_LOAD"),
        .victim = {"lab/a", at_test_path(at_test_dir(), "qga.sock")},
        .neighbour = {"lab/b", at_test_path(at_test_dir(), "qga.sock")},
        .isolation = AT_GPU_SHARED,
        .measure_s = 0.3,
        .load_s = 3,
    };
    g_autoptr(GPtrArray) checks = at_gpu_checks_new();
    g_assert_true(at_test_ok(at_neighbour_measure(&plan, checks, &error), &error));
    g_assert_cmpint(only_check(checks)->verdict, ==, AT_GPU_NOT_TESTED);
    g_assert_true(g_str_has_prefix(only_check(checks)->detail, "lab/a: "));
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
    g_autoptr(GError) error = NULL;
    if (!guest_possible())
        return;
    struct guest *a = guest_prepare(NULL), *b = guest_prepare(NULL);
    guest_start(a);
    guest_boot(b);
    guest_expect(a, 0, "GUEST-UP", NULL);
    at_agent_close(guest_agent(a));
    at_agent_close(guest_agent(b));
    struct at_neighbour_plan plan = {
        .program = g_getenv("ATOLL_GPU_LOAD"),
        .victim = {"lab/a", at_test_path(a->dir, "qga.sock")},
        .neighbour = {"lab/b", at_test_path(b->dir, "qga.sock")},
        .isolation = AT_GPU_SHARED, /* emulated guests on a busy host keep no rate */
        .measure_s = 0.5,
        .load_s = 15,
    };
    g_autoptr(GPtrArray) checks = at_gpu_checks_new();
    g_assert_true(at_test_ok(at_neighbour_measure(&plan, checks, &error), &error));
    g_assert_cmpint(only_check(checks)->verdict, ==, AT_GPU_PASSED);
    g_assert_nonnull(strstr(only_check(checks)->detail, "which had filled 16 MiB"));
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
    g_test_add_func("/gpu/neighbour/a-guest-without-an-agent-is-not-tested", test_no_agent);
    g_test_add_func("/gpu/neighbour/is-measured-in-two-guests-and-leaves-nothing-there",
                    test_guests);
    return g_test_run();
}
