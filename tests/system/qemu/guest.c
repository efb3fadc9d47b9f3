/* SPDX-License-Identifier: Apache-2.0 */
/* Preparing, starting and ending machines with the tiny guest inside. */
#include "guest.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "image/image.h"
#include "lib/at-test.h"
#include "lib/tiny-guest.h"
#include "qemu/block.h"
#include "qemu/blockdev.h"

static volatile pid_t running[8];

static void kill_running(int signo)
{
    for (size_t i = 0; i < G_N_ELEMENTS(running); i++) {
        if (running[i] > 0)
            kill(running[i], SIGKILL);
    }
    signal(signo, SIG_DFL);
    raise(signo);
}

static void remember(pid_t pid, pid_t instead_of)
{
    for (size_t i = 0; i < G_N_ELEMENTS(running); i++) {
        if (running[i] == instead_of) {
            running[i] = pid;
            return;
        }
    }
}

static const unsigned first_gen[] = {1};

void guest_set_runs(struct guest *g, bool runs)
{
    g->runs = runs;
    remember(runs ? g->process.pid : 0, runs ? 0 : g->process.pid);
}

bool guest_possible(void)
{
    return at_test_needs_root() && at_test_needs_program("qemu-system-x86_64") &&
           at_test_needs_program("qemu-img") && at_test_tiny_guest();
}

static void kill_guest(gpointer data)
{
    struct guest *g = data;
    if (g->runs) {
        at_process_kill(&g->process, SIGKILL, NULL);
        guest_set_runs(g, false);
    }
    g_free(g);
}

static void make_boot_disk(const struct guest *g)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = at_blockdev_overlay_path(g->dir, 0, 1);
    const char *const argv[] = {"qemu-img",           "convert", "-f", "raw", "-O", "qcow2",
                                at_test_tiny_guest(), path,      NULL};
    g_assert_true(at_test_ok(at_run(argv, NULL, WAIT_MS, NULL, NULL, &error), &error));
}

/* A guest that is ready to be started: the tiny image and an empty disk. */
struct guest *guest_prepare(const char *user_data)
{
    struct guest *g = g_new0(struct guest, 1);
    g_autoptr(GError) error = NULL;
    g_test_queue_destroy(kill_guest, g);
    g->dir = at_test_path(at_test_dir(), "m");
    g_assert_cmpint(mkdir(g->dir, 0755), ==, 0);
    g->console = at_test_path(g->dir, "console.log");
    make_boot_disk(g);
    g_assert_true(
        at_test_ok(at_block_overlay_create(g->dir, 1, 1, 64 << 20, OWNER, GROUP, &error), &error));
    struct at_seed seed = {.instance_id = "i-1", .hostname = "tiny", .user_data = user_data};
    g_assert_true(
        at_test_ok(at_seed_write(&seed, at_test_path(g->dir, "seed.iso"), &error), &error));
    for (unsigned i = 0; i < 2; i++)
        g->disks[i] = (struct at_machine_disk){.index = i, .gens = first_gen, .n_gens = 1};
    g->config = (struct at_machine_config){.name = "test/tiny",
                                           .uuid = "0a7c1e52-3f44-4d1b-9b4f-27e8a1a3b1aa",
                                           .vmgenid = "9a1c1e52-3f44-4d1b-9b4f-27e8a1a3b1bb",
                                           .dir = g->dir,
                                           .uid = OWNER,
                                           .gid = GROUP,
                                           .cpus = 1,
                                           .memory = 192 << 20,
                                           .accel = AT_ACCEL_TCG,
                                           .seed_path = at_test_path(g->dir, "seed.iso"),
                                           .disks = g->disks,
                                           .n_disks = 2};
    return g;
}

void guest_start(struct guest *g)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_machine_start(&g->config, &g->process, &error), &error));
    guest_set_runs(g, true);
}

void guest_expect(struct guest *g, uint64_t from, const char *text, uint64_t *ret_end)
{
    if (at_test_wait_for_text(g->console, from, text, BOOT_MS, ret_end))
        return;
    g_autofree char *said = NULL;
    g_file_get_contents(g->console, &said, NULL, NULL);
    g_error("the guest never said \"%s\"; it said:\n%s", text, said);
}

void guest_boot(struct guest *g)
{
    struct stat st;
    uint64_t from = stat(g->console, &st) == 0 ? (uint64_t)st.st_size : 0, end;
    guest_start(g);
    guest_expect(g, from, "GUEST-UP", &end);
    guest_expect(g, end, "LOAD n=3", NULL);
}

struct at_agent *guest_agent(struct guest *g)
{
    struct at_agent *a = NULL;
    for (int i = 0; i < 30 && !a; i++) /* it comes a moment after the load */
        a = at_agent_open(at_test_path(g->dir, "qga.sock"), 2000, NULL);
    g_assert_nonnull(a);
    return a;
}

void guest_watch_signals(void)
{
    static const int ends[] = {SIGABRT, SIGTRAP, SIGTERM, SIGINT};
    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++)
        signal(ends[i], kill_running);
}
