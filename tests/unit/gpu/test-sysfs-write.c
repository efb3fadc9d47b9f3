/* SPDX-License-Identifier: Apache-2.0 */
/* The child that writes to sysfs, on files that are not of sysfs: what it writes, what it reports,
 * and that nothing keeps the caller beyond the deadline. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "gpu/sysfs-read.h"
#include "gpu/sysfs-write.h"
#include "lib/at-test.h"

#define ABOUT "0000:41:00.0"

static void test_plain(void)
{
    g_autoptr(GError) error = NULL;
    const char *path = at_test_file(at_test_dir(), "driver_override", "a longer text than that\n");
    g_assert_true(at_test_ok(at_sysfs_write(path, "vfio-pci", ABOUT, 10000, &error), &error));
    g_autofree char *text = at_sysfs_read_text(path);
    g_assert_cmpstr(text, ==, "vfio-pci");
}

static void test_missing(void)
{
    g_autoptr(GError) error = NULL;
    const char *path = at_test_path(at_test_dir(), "reset");
    g_assert_false(at_sysfs_write(path, "1", ABOUT, 10000, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, path));
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void test_refused(void)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(at_sysfs_write("/dev/full", "16", ABOUT, 10000, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NO_SPACE);
    g_assert_nonnull(strstr(error->message, "writing \"16\" to /dev/full"));
}

/* Opening a FIFO for writing waits for a reader. */
static void test_deadline(void)
{
    g_autoptr(GError) error = NULL;
    const char *path = at_test_path(at_test_dir(), "unbind");
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    g_assert_false(at_sysfs_write(path, ABOUT, ABOUT, 100, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(error->message, "writing \"" ABOUT "\" to "));
    g_assert_nonnull(strstr(error->message, "after 100 ms"));
    /* It could be killed: nothing is pending, and nobody is left to be waited for. */
    g_assert_null(at_sysfs_write_pending(ABOUT));
    g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1);
    g_assert_cmpint(errno, ==, ECHILD);
}

static bool has_child(void)
{
    siginfo_t info = {0};
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void *write_one(void *path)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_sysfs_write(path, "1", ABOUT, 20000, &error), &error));
    return NULL;
}

/* A child that is held up must not hold the locks and sockets of its parent. */
static void test_closes(void)
{
    int ends[2];
    char c;
    const char *path = at_test_path(at_test_dir(), "unbind");
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    g_assert_cmpint(pipe(ends), ==, 0);
    GThread *writer = g_thread_new("writer", write_one, (void *)path);
    /* Until it has opened its end, the FIFO has no writer; a reader is what it waits for. */
    g_assert_true(at_test_until(has_child(), 10000));
    close(ends[1]);
    g_assert_cmpint(read(ends[0], &c, 1), ==, 0);
    close(ends[0]);
    at_autofd reader = open(path, O_RDONLY);
    g_assert_cmpint(read(reader, &c, 1), ==, 1);
    g_assert_true(c == '1');
    g_thread_join(writer);
}

static void test_reads(void)
{
    const char *dir = at_test_dir();
    uint64_t n = 7;
    g_assert_true(at_sysfs_read_number(at_test_file(dir, "class", "0x030200\n"), &n));
    g_assert_cmpuint(n, ==, 0x030200);
    g_assert_true(at_sysfs_read_number(at_test_file(dir, "n", "16\n"), &n));
    g_assert_cmpuint(n, ==, 16);
    static const char *const wrong[] = {"", "-1", "16 17", "x", "99999999999999999999999"};
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_assert_false(at_sysfs_read_number(at_test_file(dir, "wrong", wrong[i]), &n));
        g_assert_cmpuint(n, ==, 16);
    }
    g_autofree char *huge = g_strnfill(1 << 20, 'x');
    g_autofree char *text = at_sysfs_read_text(at_test_file(dir, "huge", huge));
    g_assert_cmpuint(strlen(text), ==, 64 << 10);
    g_assert_null(at_sysfs_read_text(at_test_path(dir, "missing")));
    g_assert_cmpint(symlink("../../drivers/nvidia", at_test_path(dir, "driver")), ==, 0);
    g_autofree char *name = at_sysfs_link_name(at_test_path(dir, "driver"));
    g_assert_cmpstr(name, ==, "nvidia");
    g_assert_null(at_sysfs_link_name(at_test_path(dir, "huge")));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/sysfs/writes-a-value-as-a-shell-would", test_plain);
    g_test_add_func("/gpu/sysfs/does-not-make-a-file-that-is-missing", test_missing);
    g_test_add_func("/gpu/sysfs/tells-what-the-kernel-answered", test_refused);
    g_test_add_func("/gpu/sysfs/gives-up-a-write-at-its-deadline", test_deadline);
    g_test_add_func("/gpu/sysfs/writer-holds-nothing-of-its-parent", test_closes);
    g_test_add_func("/gpu/sysfs/reads-only-what-is-a-number-and-not-without-end", test_reads);
    return g_test_run();
}
