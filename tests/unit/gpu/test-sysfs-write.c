/* SPDX-License-Identifier: Apache-2.0 */
/* The child that writes to sysfs, on files that are not of sysfs: what it writes, what it reports,
 * and that nothing keeps the caller beyond the deadline. And what is read of them. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "gpu/attribute.h"
#include "gpu/sysfs-write.h"
#include "lib/at-test.h"

#define ABOUT "0000:41:00.0"

static void test_plain(void)
{
    g_autoptr(GError) error = NULL;
    const char *path = at_test_file(at_test_dir(), "driver_override", "a longer text than that\n");
    g_assert_true(at_test_ok(at_sysfs_write(path, "vfio-pci", ABOUT, 10000, &error), &error));
    g_autofree char *text = at_gpu_attr_text(path, NULL);
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

static int answer(void *data)
{
    return *(const int *)data;
}

static int wait_for_ever(void *data)
{
    (void)data;
    while (pause() < 0)
        ;
    return 0;
}

static void test_work(void)
{
    g_autoptr(GError) error = NULL;
    int err = 0, wanted = ENOTTY;
    g_assert_true(
        at_test_ok(at_sysfs_work(answer, &wanted, "the work", ABOUT, 20000, &err, &error), &error));
    g_assert_cmpint(err, ==, ENOTTY);
    g_assert_false(at_sysfs_work(wait_for_ever, NULL, "the work", ABOUT, 50, &err, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(error->message, "the work: given up after 50 ms"));
    g_assert_null(at_sysfs_write_pending(ABOUT));
}

static void test_numbers(void)
{
    const char *dir = at_test_dir();
    uint64_t n = 7;
    at_test_file(dir, "class", "0x030200\n");
    at_test_file(dir, "n", "16\n");
    g_assert_true(at_gpu_attr_number(dir, "class", 16, UINT64_MAX, &n));
    g_assert_cmpuint(n, ==, 0x030200);
    g_assert_true(at_gpu_attr_number(dir, "n", 10, UINT64_MAX, &n));
    g_assert_cmpuint(n, ==, 16);
    static const char *const wrong[] = {"", "-1", "16 17", "x", "99999999999999999999999"};
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        at_test_file(dir, "wrong", wrong[i]);
        g_assert_false(at_gpu_attr_number(dir, "wrong", 10, UINT64_MAX, &n));
        g_assert_cmpuint(n, ==, 16);
    }
}

static void test_texts(void)
{
    const char *dir = at_test_dir();
    g_autofree char *longest = g_strnfill(AT_GPU_ATTR_MAX, 'x');
    g_autofree char *longer = g_strnfill(AT_GPU_ATTR_MAX + 1, 'x');
    at_test_file(dir, "empty", "");
    at_test_file(dir, "longest", longest);
    at_test_file(dir, "longer", longer);
    g_autofree char *text = at_gpu_attr_text(dir, "longest");
    g_assert_cmpstr(text, ==, longest);
    g_autofree char *empty = at_gpu_attr_text(dir, "empty");
    g_assert_cmpstr(empty, ==, "");
    g_assert_null(at_gpu_attr_text(dir, "longer"));
    g_assert_null(at_gpu_attr_text(dir, "missing"));
    g_assert_null(at_gpu_attr_text(dir, NULL));
}

static void test_links(void)
{
    const char *dir = at_test_dir();
    g_assert_cmpint(symlink("../../drivers/nvidia", at_test_path(dir, "driver")), ==, 0);
    at_test_file(dir, "file", "x");
    g_autofree char *name = at_gpu_attr_link(dir, "driver");
    g_autofree char *parent = at_gpu_attr_link_parent(at_test_path(dir, "driver"), NULL);
    g_assert_cmpstr(name, ==, "nvidia");
    g_assert_cmpstr(parent, ==, "drivers");
    g_assert_null(at_gpu_attr_link(dir, "file"));
    g_assert_null(at_gpu_attr_link(dir, "missing"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/sysfs/writes-a-value-as-a-shell-would", test_plain);
    g_test_add_func("/gpu/sysfs/does-not-make-a-file-that-is-missing", test_missing);
    g_test_add_func("/gpu/sysfs/tells-what-the-kernel-answered", test_refused);
    g_test_add_func("/gpu/sysfs/gives-up-a-write-at-its-deadline", test_deadline);
    g_test_add_func("/gpu/sysfs/writer-holds-nothing-of-its-parent", test_closes);
    g_test_add_func("/gpu/sysfs/does-other-work-in-a-child-with-a-deadline", test_work);
    g_test_add_func("/gpu/sysfs/reads-as-a-number-only-what-is-one", test_numbers);
    g_test_add_func("/gpu/sysfs/reads-texts-whole-or-not-at-all", test_texts);
    g_test_add_func("/gpu/sysfs/names-what-a-link-points-to", test_links);
    return g_test_run();
}
