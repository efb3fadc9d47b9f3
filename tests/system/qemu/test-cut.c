/* SPDX-License-Identifier: Apache-2.0 */
/* The cut over real QEMU processes: one instant or none, and nobody is left standing still. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "lib/at-test.h"
#include "qemu/blockdev.h"
#include "qemu/cut-guard.h"
#include "qemu/cut.h"
#include "qemu/disk-reader.h"
#include "rig.h"

enum { N = 3, SIZE = 64 << 20 };

static const struct at_cut_disk disks[RIG_DISKS] = {{0, 1, 2}, {1, 1, 2}};

struct set {
    struct rig rigs[N];
    struct at_cut_machine machines[N];
    struct at_cut_result result;
    int deadline_ms;
    bool (*check)(void *, GError **);
};

/* N machines, running, with the next overlays prepared. */
static void set_up(struct set *set)
{
    static const char *const names[N] = {"alpha", "beta", "gamma"};
    g_autoptr(GError) error = NULL;
    *set = (struct set){0};
    at_cut_set_guard(g_getenv("ATOLL_GUARD"));
    for (unsigned i = 0; i < N; i++) {
        rig_start(&set->rigs[i], SIZE, NULL, NULL);
        set->machines[i] = (struct at_cut_machine){
            .name = names[i], .dir = set->rigs[i].dir, .disks = disks, .n_disks = RIG_DISKS};
        for (unsigned k = 0; k < RIG_DISKS; k++)
            g_assert_true(at_test_ok(
                at_block_overlay_create(set->rigs[i].dir, k, 2, SIZE, 0, 0, &error), &error));
    }
}

static bool cut(struct set *set, GError **error)
{
    return at_cut_run(set->machines, N, set->check, set, set->deadline_ms, &set->result, error);
}

static void expect_running(const struct set *set, unsigned i)
{
    g_assert_true(at_test_until(rig_runs(&set->rigs[i]), RIG_WAIT_MS));
}

/* All disks of a machine are on the same generation; gives it. */
static unsigned generation(const struct set *set, unsigned i)
{
    unsigned gen = rig_live_gen(&set->rigs[i], 0);
    for (unsigned k = 1; k < RIG_DISKS; k++)
        g_assert_cmpuint(rig_live_gen(&set->rigs[i], k), ==, gen);
    return gen;
}

static void write_disk(const struct rig *rig, unsigned index, const char *command)
{
    struct at_qmp *qmp = rig_monitor(rig, "a");
    rig_io(rig, qmp, index, command);
    at_qmp_close(qmp);
}

static bool sum(uint64_t offset, uint64_t len, const void *data, void *user, GError **error)
{
    (void)error;
    GChecksum *checksum = user;
    g_checksum_update(checksum, (const guchar *)&offset, sizeof offset);
    g_checksum_update(checksum, (const guchar *)&len, sizeof len);
    if (data)
        g_checksum_update(checksum, data, (gssize)len);
    return true;
}

static char *overlay_sum(const struct rig *rig, unsigned index, unsigned gen)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autofree char *path = at_blockdev_overlay_path(rig->dir, index, gen);
    g_assert_true(
        at_test_ok(at_disk_read_overlay(path, sum, checksum, NULL, NULL, &error), &error));
    return g_strdup(g_checksum_get_string(checksum));
}

static void test_all_switch(void)
{
    if (!rig_possible())
        return;
    struct set set;
    g_autoptr(GError) error = NULL;
    set_up(&set);
    for (unsigned i = 0; i < N; i++)
        write_disk(&set.rigs[i], i % RIG_DISKS, "write -P 1 0 192k");
    g_assert_true(at_test_ok(cut(&set, &error), &error));
    g_test_message("pause %.1f ms, skew %.1f ms", set.result.pause_ms, set.result.skew_ms);
    g_assert_cmpfloat(set.result.pause_ms, >, 0);
    g_assert_cmpfloat(set.result.skew_ms, >=, 0);
    g_assert_cmpfloat(set.result.skew_ms, <=, set.result.pause_ms);
    for (unsigned i = 0; i < N; i++) {
        const struct rig *rig = &set.rigs[i];
        g_assert_true(set.machines[i].switched && !set.machines[i].uncertain);
        g_assert_cmpint(set.machines[i].stopped_us, >, 0);
        g_assert_cmpint(set.machines[i].resumed_us, >, set.machines[i].stopped_us);
        expect_running(&set, i);
        g_assert_cmpuint(generation(&set, i), ==, 2);
        g_autofree char *frozen = overlay_sum(rig, i % RIG_DISKS, 1);
        write_disk(rig, i % RIG_DISKS, "write -P 2 64k 192k");
        write_disk(rig, i % RIG_DISKS, "read -P 1 0 64k");
        write_disk(rig, i % RIG_DISKS, "read -P 2 64k 192k");
        g_autofree char *later = overlay_sum(rig, i % RIG_DISKS, 1);
        g_assert_cmpstr(frozen, ==, later);
    }
    /* No machine resumed before the last one stopped: that is the one instant. */
    for (unsigned i = 0; i < N; i++) {
        for (unsigned k = 0; k < N; k++)
            g_assert_cmpint(set.machines[i].resumed_us, >=, set.machines[k].stopped_us);
    }
}

static void test_twice(void)
{
    if (!rig_possible())
        return;
    struct set set;
    g_autoptr(GError) error = NULL;
    static const struct at_cut_disk next[RIG_DISKS] = {{0, 2, 3}, {1, 2, 3}};
    set_up(&set);
    g_assert_true(at_test_ok(cut(&set, &error), &error));
    for (unsigned i = 0; i < N; i++) {
        set.machines[i].disks = next;
        for (unsigned k = 0; k < RIG_DISKS; k++)
            g_assert_true(at_test_ok(
                at_block_overlay_create(set.rigs[i].dir, k, 3, SIZE, 0, 0, &error), &error));
    }
    g_assert_true(at_test_ok(cut(&set, &error), &error));
    for (unsigned i = 0; i < N; i++)
        g_assert_cmpuint(generation(&set, i), ==, 3);
    /* And what the caller believes is held against what is. */
    g_assert_false(cut(&set, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    for (unsigned i = 0; i < N; i++)
        expect_running(&set, i);
}

static void test_paused(void)
{
    if (!rig_possible())
        return;
    struct set set;
    g_autoptr(GError) error = NULL;
    set_up(&set);
    struct at_qmp *qmp = rig_monitor(&set.rigs[1], "a");
    g_assert_true(at_test_ok(at_qmp_call(qmp, "stop", NULL, RIG_WAIT_MS, NULL, &error), &error));
    at_qmp_close(qmp);
    g_assert_false(cut(&set, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    g_assert_nonnull(strstr(error->message, "beta"));
    g_clear_error(&error);
    set.machines[1].was_paused = true;
    g_assert_true(at_test_ok(cut(&set, &error), &error));
    for (unsigned i = 0; i < N; i++)
        g_assert_cmpuint(generation(&set, i), ==, 2);
    g_autofree char *status = rig_status(&set.rigs[1]);
    g_assert_cmpstr(status, ==, "paused");
    expect_running(&set, 0);
}

static bool refuse(void *user, GError **error)
{
    (void)user;
    return at_error(error, AT_ERROR_UNAVAILABLE, "the image server does not answer");
}

/* Nothing was stopped, and the prepared overlays are out of the machines again. */
static void expect_untouched(const struct set *set)
{
    for (unsigned i = 0; i < N; i++) {
        g_assert_cmpint(set->machines[i].stopped_us, ==, 0);
        g_assert_false(set->machines[i].switched);
        g_assert_true(rig_runs(&set->rigs[i]));
        g_assert_cmpuint(generation(set, i), ==, 1);
        g_assert_false(rig_has_node(&set->rigs[i], "d0-2"));
        g_assert_false(rig_has_node(&set->rigs[i], "d1-2f"));
    }
}

static void test_check(void)
{
    if (!rig_possible())
        return;
    struct set set;
    g_autoptr(GError) error = NULL;
    set_up(&set);
    set.check = refuse;
    g_assert_false(cut(&set, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    expect_untouched(&set);
}

static void test_no_guard(void)
{
    if (!rig_possible())
        return;
    struct set set;
    g_autoptr(GError) error = NULL;
    set_up(&set);
    at_cut_set_guard("/nonexistent/atoll-guard");
    g_assert_false(cut(&set, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    expect_untouched(&set);

    /* And one that starts but cannot connect: somebody else holds the third monitor. */
    g_clear_error(&error);
    at_cut_set_guard(g_getenv("ATOLL_GUARD"));
    g_assert_cmpint(unlink(at_test_path(set.rigs[2].dir, "qmp-c.sock")), ==, 0);
    g_assert_false(cut(&set, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    expect_untouched(&set);
}

static void test_errors(void)
{
    if (!rig_possible())
        return;
    static const char *const points[] = {"cut.prepared:EIO", "cut.stopped:EIO", "cut.switched:EIO",
                                         "cut.resumed:EIO"};
    struct set set;
    set_up(&set);
    unsigned gen = 1;
    for (size_t p = 0; p < G_N_ELEMENTS(points); p++) {
        struct at_cut_disk now[RIG_DISKS];
        g_autoptr(GError) error = NULL;
        for (unsigned i = 0; i < N; i++) {
            set.machines[i].disks = now;
            for (unsigned k = 0; k < RIG_DISKS; k++) {
                now[k] = (struct at_cut_disk){k, gen, gen + 1};
                g_assert_true(at_test_ok(
                    at_block_overlay_create(set.rigs[i].dir, k, gen + 1, SIZE, 0, 0, &error),
                    &error));
            }
        }
        at_fault_plan(points[p]);
        g_assert_false(cut(&set, &error));
        at_fault_plan(NULL);
        for (unsigned i = 0; i < N; i++) {
            g_assert_true(rig_runs(&set.rigs[i]));
            g_assert_false(set.machines[i].uncertain);
            g_assert_cmpuint(generation(&set, i), ==, set.machines[i].switched ? gen + 1 : gen);
        }
        /* The first two leave all on the old disks, the others all on the new ones. */
        for (unsigned i = 0; i < N; i++)
            g_assert_cmpint(set.machines[i].switched, ==, p >= 2);
        gen = generation(&set, 0);
    }
}

static void cut_in_child(void *data)
{
    g_autoptr(GError) error = NULL;
    cut(data, &error);
}

static void killed_at(const char *plan)
{
    if (!rig_possible())
        return;
    struct set set;
    set_up(&set);
    at_fault_plan(plan);
    int status = at_test_in_child(cut_in_child, &set, RIG_WAIT_MS);
    at_fault_plan(NULL);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (unsigned i = 0; i < N; i++) {
        expect_running(&set, i);
        unsigned gen = generation(&set, i);
        g_assert_true(gen == 1 || gen == 2);
        /* A next attempt finds its way from there. */
        write_disk(&set.rigs[i], 0, "write -P 3 0 64k");
    }
}

static void test_killed_prepared(void)
{
    killed_at("cut.prepared:kill");
}
static void test_killed_stopped(void)
{
    killed_at("cut.stopped:kill");
}
static void test_killed_switching(void)
{
    killed_at("cut.switched:kill:2");
}
static void test_killed_resumed(void)
{
    killed_at("cut.resumed:kill");
}

/* The child stops itself between stop and transaction; meanwhile one QEMU dies. */
static void cut_and_compare(struct set *set)
{
    g_autoptr(GError) error = NULL;
    at_fault_plan("cut.stopped:stop");
    bool ok = cut(set, &error);
    bool right = !ok && strstr(error->message, "beta") && !set->machines[0].switched &&
                 !set->machines[2].switched;
    _exit(right ? 0 : 1);
}

static void test_qemu_dies(void)
{
    if (!rig_possible())
        return;
    struct set set;
    set_up(&set);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        cut_and_compare(&set);
    }
    int status = 0;
    g_assert_true(
        at_test_until(waitpid(child, &status, WUNTRACED | WNOHANG) == child, RIG_WAIT_MS));
    g_assert_true(WIFSTOPPED(status));
    at_test_kill(set.rigs[1].pid, SIGKILL);
    kill(child, SIGCONT);
    g_assert_true(at_test_until(waitpid(child, &status, WNOHANG) == child, RIG_WAIT_MS));
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    for (unsigned i = 0; i < N; i += 2) {
        expect_running(&set, i);
        g_assert_cmpuint(generation(&set, i), ==, 1);
    }
}

static bool hold(void *user, GError **error)
{
    (void)error;
    kill(((struct set *)user)->rigs[1].pid, SIGSTOP);
    return true;
}

static void test_qemu_hangs(void)
{
    if (!rig_possible())
        return;
    struct set set;
    g_autoptr(GError) error = NULL;
    set_up(&set);
    /* A machine whose QEMU does not get to run: held from the check on, after the preparation. */
    set.deadline_ms = 500;
    set.check = hold;
    g_assert_false(cut(&set, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(error->message, "beta"));
    for (unsigned i = 0; i < N; i += 2)
        g_assert_true(rig_runs(&set.rigs[i]));
    kill(set.rigs[1].pid, SIGCONT);
    for (unsigned i = 0; i < N; i++) {
        expect_running(&set, i);
        g_assert_cmpuint(generation(&set, i), ==, 1);
    }
}

/* The pid of the guard that watches @dir, or 0. */
static pid_t guard_of(const char *dir)
{
    pid_t found = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(proc));) {
        g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", entry->d_name);
        g_autofree char *line = NULL;
        gsize len = 0;
        if (atoi(entry->d_name) > 0 && g_file_get_contents(path, &line, &len, NULL) &&
            strstr(line, "atoll-guard") && memmem(line, len, dir, strlen(dir)))
            found = atoi(entry->d_name);
    }
    closedir(proc);
    return found;
}

static void test_guard_alone(void)
{
    if (!rig_possible())
        return;
    struct rig rig;
    g_autoptr(GError) error = NULL;
    rig_start(&rig, SIZE, NULL, NULL);
    const char *sockets[] = {at_test_path(rig.dir, "qmp-c.sock"), NULL};
    struct at_cut_guard guard = AT_CUT_GUARD_NONE;
    const char *program = g_getenv("ATOLL_GUARD");

    /* Told that all is over: it ends and does nothing. */
    struct at_qmp *qmp = rig_monitor(&rig, "b");
    g_assert_true(at_test_ok(at_cut_guard_start(&guard, program, sockets, 60000, &error), &error));
    g_assert_true(at_test_ok(at_qmp_call(qmp, "stop", NULL, RIG_WAIT_MS, NULL, &error), &error));
    g_assert_true(at_test_ok(at_cut_guard_done(&guard, &error), &error));
    g_assert_true(at_test_until(guard_of(rig.dir) == 0, RIG_WAIT_MS));
    g_assert_false(rig_runs(&rig));

    /* Signals do not move it; the end of the pipe does. */
    g_assert_true(at_test_ok(at_cut_guard_start(&guard, program, sockets, 60000, &error), &error));
    pid_t pid = guard_of(rig.dir);
    g_assert_cmpint(pid, >, 0);
    g_assert_cmpint(getpgid(pid), !=, getpgid(0));
    kill(pid, SIGTERM);
    kill(pid, SIGINT);
    kill(pid, SIGHUP);
    at_cut_guard_leave(&guard);
    g_assert_true(at_test_until(rig_runs(&rig), RIG_WAIT_MS));
    /* A late stop is not the last word. */
    g_assert_true(at_test_ok(at_qmp_call(qmp, "stop", NULL, RIG_WAIT_MS, NULL, &error), &error));
    g_assert_true(at_test_until(rig_runs(&rig), RIG_WAIT_MS));
    g_assert_true(at_test_until(guard_of(rig.dir) == 0, RIG_WAIT_MS));

    /* Nobody says anything: the deadline. */
    g_assert_true(at_test_ok(at_qmp_call(qmp, "stop", NULL, RIG_WAIT_MS, NULL, &error), &error));
    g_assert_true(at_test_ok(at_cut_guard_start(&guard, program, sockets, 200, &error), &error));
    g_assert_true(at_test_until(rig_runs(&rig), RIG_WAIT_MS));
    g_assert_false(at_cut_guard_done(&guard, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
    at_qmp_close(qmp);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu/cut/switches-every-disk-of-three-machines-at-one-instant",
                    test_all_switch);
    g_test_add_func("/qemu/cut/can-be-repeated-and-refuses-a-wrong-generation", test_twice);
    g_test_add_func("/qemu/cut/leaves-a-paused-machine-paused", test_paused);
    g_test_add_func("/qemu/cut/stops-nobody-when-the-check-refuses", test_check);
    g_test_add_func("/qemu/cut/stops-nobody-without-a-guard", test_no_guard);
    g_test_add_func("/qemu/cut/resumes-everybody-after-an-error-anywhere", test_errors);
    g_test_add_func("/qemu/cut/leaves-all-running-when-killed-before-the-pause",
                    test_killed_prepared);
    g_test_add_func("/qemu/cut/leaves-all-running-when-killed-inside-the-pause",
                    test_killed_stopped);
    g_test_add_func("/qemu/cut/leaves-all-running-when-killed-between-switches",
                    test_killed_switching);
    g_test_add_func("/qemu/cut/leaves-all-running-when-killed-after-the-pause",
                    test_killed_resumed);
    g_test_add_func("/qemu/cut/resumes-the-others-on-their-old-disks-when-a-machine-dies",
                    test_qemu_dies);
    g_test_add_func("/qemu/cut/resumes-the-others-when-a-machine-hangs", test_qemu_hangs);
    g_test_add_func("/qemu/guard/resumes-a-machine-that-nobody-else-would", test_guard_alone);
    return g_test_run();
}
