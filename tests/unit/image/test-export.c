/* SPDX-License-Identifier: Apache-2.0 */
/* Exports from a real NBD server into files, and what is left when it fails. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "image/image.h"
#include "lib/at-test.h"

static const char *dir, *uri;

static void shell(const char *script)
{
    g_autofree char *text = NULL;
    g_autofree char *full = g_strdup_printf("cd %s && %s", dir, script);
    const char *argv[] = {"sh", "-ec", full, NULL};
    int rc = at_test_run(argv, 60000, &text);
    if (rc != 0)
        g_error("%s: %d: %s", script, rc, text);
}

static bool serve(void)
{
    if (!at_test_needs_program("nbdkit") || !at_test_needs_program("qemu-img"))
        return false;
    dir = at_test_dir();
    shell("head -c 5M /dev/urandom >disk; truncate -s 64M disk");
    const char *socket = at_test_path(dir, "sock");
    const char *argv[] = {"nbdkit", "-f", "-r", "-U", socket, "file", at_test_path(dir, "disk"),
                          NULL};
    at_test_spawn(argv, NULL);
    g_assert_true(at_test_until(access(socket, F_OK) == 0, 20000));
    g_autofree char *text = g_strdup_printf("nbd+unix:///?socket=%s", socket);
    uri = g_intern_string(text);
    return true;
}

static void on_progress(double percent, const char *what, void *user)
{
    *(double *)user = percent;
}

static void test_formats(void)
{
    double percent = 0;
    g_autoptr(GError) error = NULL;
    if (!serve())
        return;
    at_test_ok(at_image_export(uri, at_test_path(dir, "out.raw"), "raw", on_progress, &percent,
                               NULL, &error),
               &error);
    g_assert_cmpfloat(percent, ==, 100);
    at_test_ok(
        at_image_export(uri, at_test_path(dir, "out.qcow2"), "qcow2", NULL, NULL, NULL, &error),
        &error);
    shell("cmp disk out.raw; qemu-img compare -q -f raw -F qcow2 disk out.qcow2");
    struct stat st;
    g_assert_cmpint(stat(at_test_path(dir, "out.raw"), &st), ==, 0);
    g_assert_cmpint(st.st_blocks * 512, <, 16 << 20); /* what is zero is a hole */
}

static void test_failures(void)
{
    g_autoptr(GError) error = NULL;
    if (!serve())
        return;
    const char *out = at_test_file(dir, "out", "as it was");
    g_assert_false(at_image_export(uri, out, "vmdk", NULL, NULL, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_false(
        at_image_export("nbd+unix:///?socket=/nowhere", out, "raw", NULL, NULL, NULL, &error));
    g_assert_nonnull(error);
    g_clear_error(&error);
    g_autoptr(GCancellable) cancelled = g_cancellable_new();
    g_cancellable_cancel(cancelled);
    g_assert_false(at_image_export(uri, out, "raw", NULL, NULL, cancelled, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CANCELLED);
    shell("test \"$(cat out)\" = 'as it was'; test -z \"$(find . -name '.out.tmp-*')\"");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/image/export/copies-the-disk-as-raw-with-holes-and-as-qcow2", test_formats);
    g_test_add_func("/image/export/leaves-the-target-as-it-was-when-it-fails", test_failures);
    return g_test_run();
}
