/* SPDX-License-Identifier: Apache-2.0 */
/* Workstations without an operating system: real QEMU processes that start, are found again, refuse
 * and end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "lib/at-test.h"
#include "machine-config.h"
#include "qemu/blockdev.h"
#include "qemu/machine-internal.h"
#include "qemu/qmp.h"
#include "qemu/unix-socket.h"

static void make_overlay(const char *dir, unsigned index, unsigned gen)
{
    g_autofree char *path = at_blockdev_overlay_path(dir, index, gen);
    const char *const argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", path, "64M", NULL};
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_run(argv, NULL, 10000, NULL, NULL, &error), &error));
}

/* A directory in which an unprivileged QEMU reaches a directory for a machine. */
static const char *machine_dir(void)
{
    const char *dir = at_test_path(at_test_dir(), "m");
    g_assert_cmpint(mkdir(dir, 0700), ==, 0);
    return dir;
}

static bool can_run(void)
{
    return at_test_needs_root() && at_test_needs_program("qemu-system-x86_64") &&
           at_test_needs_program("qemu-img");
}

static struct at_qmp *monitor(const char *dir, const char *which)
{
    g_autofree char *path = g_strdup_printf("%s/qmp-%s.sock", dir, which);
    g_autoptr(GError) error = NULL;
    struct at_qmp *qmp = at_qmp_open(path, 5000, &error);
    g_assert_no_error(error);
    return qmp;
}

static void quit(const char *dir, const struct at_process *process)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_machine_quit(dir, process, &error), &error));
    g_assert_false(at_process_alive(process));
}

struct wrong {
    const char *what;
    void (*spoil)(struct at_machine_config *c, struct at_machine_disk *d);
};

static void test_start_find_quit(void)
{
    if (!can_run())
        return;
    const char *dir = machine_dir();
    const struct at_machine_disk disks[] = {empty_disk(0), empty_disk(1)};
    make_overlay(dir, 0, 1);
    make_overlay(dir, 1, 1);
    struct at_machine_config c = config_in(dir, disks, 2);
    struct at_process process, found;
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_machine_start(&c, &process, &error), &error));
    g_assert_true(at_test_ok(at_machine_find(dir, &found, &error), &error));
    g_assert_cmpint(found.pid, ==, process.pid);

    /* It is nobody, has no way back, and cannot write where its pid file is. */
    g_autofree char *status_path = g_strdup_printf("/proc/%d/status", (int)process.pid);
    g_autofree char *status = NULL;
    g_assert_true(g_file_get_contents(status_path, &status, NULL, NULL));
    g_autofree char *uid_line = g_strdup_printf("Uid:\t%u\t%u\t%u\t%u", OWNER, OWNER, OWNER, OWNER);
    g_assert_nonnull(strstr(status, uid_line));
    g_assert_nonnull(strstr(status, "CapEff:\t0000000000000000"));
    g_assert_nonnull(strstr(status, "NoNewPrivs:\t1"));
    g_assert_nonnull(strstr(status, "Seccomp:\t2"));
    struct stat st;
    g_assert_cmpint(stat(dir, &st), ==, 0);
    g_assert_cmpuint(st.st_uid, ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0710);

    /* Starting it again is refused and harms nothing; three monitors serve at once. */
    g_assert_false(at_machine_start(&c, &found, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    {
        g_autoptr(at_qmp) a = monitor(dir, "a");
        g_autoptr(at_qmp) b = monitor(dir, "b");
        g_autoptr(at_qmp) third = monitor(dir, "c");
        g_autoptr(JsonNode) value = NULL;
        g_clear_error(&error);
        g_assert_true(
            at_test_ok(at_qmp_call(b, "query-status", NULL, 5000, &value, &error), &error));
        g_assert_true(at_json_bool(json_node_get_object(value), "running", false));
    }
    quit(dir, &process);
    g_assert_false(at_machine_find(dir, &found, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_assert_false(g_file_test(at_test_path(dir, "qmp-a.sock"), G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(at_test_path(dir, "pid"), G_FILE_TEST_EXISTS));
}

static void read_exactly(int fd, void *buf, size_t len)
{
    size_t got = 0;
    ssize_t n = 0;
    g_assert_true(at_test_until(
        (n = read(fd, (char *)buf + got, len - got), got += MAX(n, 0), got == len || n == 0),
        10000));
    g_assert_cmpuint(got, ==, len);
}

/* RFC 6143, section 7: versions, security without a password, and a screen. */
static void test_vnc(void)
{
    if (!can_run())
        return;
    static const uint8_t none = 1, shared = 1;
    const char *dir = machine_dir();
    const struct at_machine_disk disk = empty_disk(0);
    make_overlay(dir, 0, 1);
    struct at_machine_config c = config_in(dir, &disk, 1);
    struct at_process process;
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_machine_start(&c, &process, &error), &error));
    at_autofd fd = at_unix_connect(at_test_path(dir, "u/vnc.sock"), at_deadline_ms(10000), &error);
    g_assert_no_error(error);
    char version[12];
    read_exactly(fd, version, sizeof version);
    g_assert_cmpmem(version, sizeof version, "RFB 003.008\n", 12);
    g_assert_cmpint(write(fd, version, sizeof version), ==, sizeof version);
    uint8_t types[2], result[4], screen[24];
    read_exactly(fd, types, sizeof types);
    g_assert_cmpmem(types, sizeof types, ((const uint8_t[]){1, none}), 2);
    g_assert_cmpint(write(fd, &none, 1), ==, 1);
    read_exactly(fd, result, sizeof result);
    g_assert_cmpmem(result, sizeof result, "\0\0\0\0", 4);
    g_assert_cmpint(write(fd, &shared, 1), ==, 1);
    read_exactly(fd, screen, sizeof screen);
    g_assert_cmpint(screen[0] << 8 | screen[1], >=, 320); /* its width */
    quit(dir, &process);
}

/* Everything of a machine that is gone or never was. */
static void expect_nothing_left(const char *dir)
{
    static const char *const names[] = {"pid",        "starting",   "qmp-a.sock",
                                        "qmp-b.sock", "qmp-c.sock", "serial.sock",
                                        "qga.sock",   "vnc.sock",   "u/vnc.sock"};
    struct at_process process;
    g_assert_false(at_machine_find(dir, &process, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        struct stat st;
        g_assert_cmpint(lstat(at_test_path(dir, names[i]), &st), ==, -1);
    }
}

static void test_failed_start(void)
{
    if (!can_run())
        return;
    const char *dir = machine_dir();
    const struct at_machine_disk disks[] = {empty_disk(0)};
    struct at_machine_config c = config_in(dir, disks, 1);
    struct at_process process;
    g_autoptr(GError) error = NULL;

    g_assert_false(at_machine_start(&c, &process, &error)); /* the overlay is missing */
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    expect_nothing_left(dir);
    g_clear_error(&error);

    g_autofree char *path = at_blockdev_overlay_path(dir, 0, 1);
    g_assert_true(g_file_set_contents(path, "not a qcow2 file", -1, NULL));
    g_assert_false(at_machine_start(&c, &process, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    g_assert_nonnull(strstr(error->message, "QEMU said: "));
    g_assert_nonnull(strstr(error->message, "qcow2"));
    expect_nothing_left(dir);
    g_clear_error(&error);

    make_overlay(dir, 0, 1);
    g_autofree char *deep = g_strnfill(90, 'd');
    c.dir = at_test_path(dir, deep);
    g_assert_false(at_machine_start(&c, &process, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "shorter state directory"));
}

/* Not in a container without CAP_SYS_RESOURCE. */
static bool can_lock(uint64_t bytes)
{
    struct rlimit before, wanted = {bytes, bytes};
    g_assert_cmpint(getrlimit(RLIMIT_MEMLOCK, &before), ==, 0);
    if (before.rlim_max >= bytes)
        return true;
    if (setrlimit(RLIMIT_MEMLOCK, &wanted) != 0)
        return false;
    g_assert_cmpint(setrlimit(RLIMIT_MEMLOCK, &before), ==, 0);
    return true;
}

/* What is no device of VFIO is refused by QEMU itself: by 7.2, which does not know iommufd, and by
 * later ones, which ask the kernel. */
static void test_failed_iommufd(void)
{
    static const char *const card[] = {"0000:41:00.0", NULL}, *const cdevs[] = {"/dev/zero", NULL};
    const struct at_machine_gpu gpu = {.hosts = card, .cdevs = cdevs};
    if (!can_run())
        return;
    const char *dir = machine_dir();
    const struct at_machine_disk disks[] = {empty_disk(0)};
    struct at_machine_config c = config_in(dir, disks, 1);
    struct at_process process;
    g_autoptr(GError) error = NULL;
    make_overlay(dir, 0, 1);
    c.gpus = &gpu;
    c.n_gpus = 1;
    c.numa_node = -1;
    c.iommufd = true;
    at_machine_iommu_node = "/dev/null";
    g_assert_false(at_machine_start(&c, &process, &error));
    at_machine_iommu_node = "/dev/iommu";
    if (can_lock(at_machine_memlock(&c))) {
        g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
        g_assert_nonnull(strstr(error->message, "iommufd"));
    } else {
        g_assert_error(error, AT_ERROR, AT_ERROR_DENIED);
        g_assert_nonnull(strstr(error->message, "raise its limit of locked memory"));
    }
    expect_nothing_left(dir);
    c.iommufd = false;
    c.n_gpus = 0; /* the next try may be without */
    g_clear_error(&error);
    g_assert_true(at_test_ok(at_machine_start(&c, &process, &error), &error));
    quit(dir, &process);
}

static void test_fault_in_start(void)
{
    static const char *const points[] = {"machine-spawn:EIO", "machine-spawned:EIO"};
    if (!can_run())
        return;
    const char *dir = machine_dir();
    const struct at_machine_disk disks[] = {empty_disk(0)};
    struct at_machine_config c = config_in(dir, disks, 1);
    make_overlay(dir, 0, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(points); i++) {
        struct at_process process;
        g_autoptr(GError) error = NULL;
        at_fault_plan(points[i]);
        bool started = at_machine_start(&c, &process, &error);
        at_fault_plan(NULL);
        g_assert_false(started);
        g_assert_nonnull(error);
        expect_nothing_left(dir);
    }
}

static void start_and_die(void *config)
{
    struct at_process process;
    at_fault_plan("machine-spawned:kill");
    at_machine_start(config, &process, NULL);
}

static void test_daemon_dies_before_pid_file(void)
{
    if (!can_run())
        return;
    const char *dir = machine_dir();
    const struct at_machine_disk disks[] = {empty_disk(0)};
    struct at_machine_config c = config_in(dir, disks, 1);
    struct at_process process;
    g_autoptr(GError) error = NULL;
    make_overlay(dir, 0, 1);
    at_test_in_child(start_and_die, &c, 30000);
    g_assert_false(g_file_test(at_test_path(dir, "pid"), G_FILE_TEST_EXISTS));
    g_assert_true(at_test_ok(at_machine_find(dir, &process, &error), &error));
    g_assert_true(g_file_test(at_test_path(dir, "pid"), G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(at_test_path(dir, "starting"), G_FILE_TEST_EXISTS));
    at_qmp_close(monitor(dir, "a"));
    quit(dir, &process);
    expect_nothing_left(dir);
}

static void test_foreign_pid_file(void)
{
    const char *dir = machine_dir();
    struct at_process self, found;
    g_autoptr(GError) error = NULL;
    g_assert_true(at_process_lookup(getpid(), &self));
    g_assert_true(at_test_ok(at_pidfile_write(at_test_path(dir, "pid"), &self, &error), &error));
    g_assert_false(at_machine_find(dir, &found, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
}

static void test_crash(void)
{
    if (!can_run())
        return;
    const char *dir = machine_dir();
    const struct at_machine_disk disks[] = {empty_disk(0)};
    struct at_machine_config c = config_in(dir, disks, 1);
    struct at_process process;
    g_autoptr(GError) error = NULL;
    make_overlay(dir, 0, 1);
    c.paused = true;
    g_assert_true(at_test_ok(at_machine_start(&c, &process, &error), &error));
    {
        g_autoptr(at_qmp) qmp = monitor(dir, "a");
        g_assert_true(at_test_ok(at_process_kill(&process, SIGKILL, &error), &error));
        g_autoptr(JsonNode) none = at_qmp_next_event(qmp, 20000, &error);
        g_assert_null(none);
        g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
        g_clear_error(&error);
    }
    /* It is gone for whoever looks, and starts again over what it left. */
    g_assert_false(at_machine_find(dir, &process, NULL));
    g_assert_true(at_test_ok(at_machine_start(&c, &process, &error), &error));

    /* One that hangs is ended all the same. */
    g_assert_true(at_test_ok(at_process_kill(&process, SIGSTOP, &error), &error));
    quit(dir, &process);
    expect_nothing_left(dir);
}

static bool console_says(const char *dir, const char *text)
{
    g_autofree char *path = g_build_filename(dir, "console.log", NULL);
    g_autofree char *log = NULL;
    return g_file_get_contents(path, &log, NULL, NULL) && strstr(log, text);
}

/* Its firmware looks for a boot loader, and its variables are its own file. */
static void test_uefi(void)
{
    if (!can_run())
        return;
    if (access("/usr/share/OVMF/OVMF_CODE_4M.fd", R_OK) != 0) {
        g_test_skip("OVMF is not installed");
        return;
    }
    const char *dir = machine_dir();
    const struct at_machine_disk disk = empty_disk(0);
    struct at_machine_config c = config_in(dir, &disk, 1);
    struct at_process process;
    struct stat st;
    g_autoptr(GError) error = NULL;
    make_overlay(dir, 0, 1);
    c.uefi = true;
    c.memory = 256 << 20;
    g_assert_true(at_test_ok(at_machine_start(&c, &process, &error), &error));
    g_autofree char *vars = g_build_filename(dir, "vars.fd", NULL);
    g_assert_cmpint(stat(vars, &st), ==, 0);
    g_assert_cmpuint(st.st_uid, ==, OWNER);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
    g_assert_true(at_test_until(console_says(dir, "BdsDxe"), 120 * 1000));
    quit(dir, &process);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu/machine/uefi-firmware-runs-with-variables-of-its-own", test_uefi);
    g_test_add_func("/qemu/machine/screen-answers-over-vnc", test_vnc);
    g_test_add_func("/qemu/machine/starts-unprivileged-is-found-again-and-quits",
                    test_start_find_quit);
    g_test_add_func("/qemu/machine/a-failed-start-says-why-and-leaves-nothing", test_failed_start);
    g_test_add_func("/qemu/machine/a-card-that-is-refused-as-a-descriptor-leaves-nothing",
                    test_failed_iommufd);
    g_test_add_func("/qemu/machine/a-fault-in-a-start-leaves-nothing", test_fault_in_start);
    g_test_add_func("/qemu/machine/is-found-when-we-died-before-the-pid-file",
                    test_daemon_dies_before_pid_file);
    g_test_add_func("/qemu/machine/a-pid-file-that-names-another-process-is-not-believed",
                    test_foreign_pid_file);
    g_test_add_func("/qemu/machine/a-crashed-one-starts-again-and-a-hanging-one-ends", test_crash);
    return g_test_run();
}
