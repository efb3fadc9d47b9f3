/* SPDX-License-Identifier: Apache-2.0 */
/* A console log is kept short while its writer goes on. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "lib/at-test.h"
#include "qemu/console-log.h"

static char *content(const char *path)
{
    char *text = NULL;
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

static void test_trim_keeps_newest(void)
{
    const char *path = at_test_file(at_test_dir(), "log", "");
    at_autofd writer = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    g_autoptr(GError) error = NULL;
    for (int i = 0; i < 1000; i++)
        g_assert_cmpint(dprintf(writer, "line %04d\n", i), ==, 10);
    g_assert_true(at_test_ok(at_console_log_trim(path, 1000, &error), &error));
    g_assert_cmpint(dprintf(writer, "after\n"), ==, 6);
    g_autofree char *text = content(path);
    g_assert_true(g_str_has_prefix(text, "line 0951\n"));
    g_assert_true(g_str_has_suffix(text, "line 0999\nafter\n"));
}

static void test_short_is_left_alone(void)
{
    const char *path = at_test_file(at_test_dir(), "log", "short\n");
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_console_log_trim(path, 6, &error), &error));
    g_autofree char *text = content(path);
    g_assert_cmpstr(text, ==, "short\n");
    g_assert_true(
        at_test_ok(at_console_log_trim(at_test_path(at_test_dir(), "none"), 6, &error), &error));
}

static void test_one_endless_line(void)
{
    g_autofree char *line = g_strnfill(5000, 'x');
    const char *path = at_test_file(at_test_dir(), "log", line);
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_console_log_trim(path, 1000, &error), &error));
    g_autofree char *text = content(path);
    g_assert_cmpuint(strlen(text), ==, 500);
}

static void test_link_is_refused(void)
{
    const char *dir = at_test_dir();
    g_autofree char *line = g_strnfill(5000, 'x');
    const char *victim = at_test_file(dir, "victim", line);
    const char *path = at_test_path(dir, "log");
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(symlink("victim", path), ==, 0);
    g_assert_false(at_console_log_trim(path, 1000, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_DENIED);
    g_clear_error(&error);
    g_assert_null(at_console_log_tail(path, 1000, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_DENIED);
    g_autofree char *text = content(victim);
    g_assert_cmpuint(strlen(text), ==, 5000);
}

static void test_tail(void)
{
    const char *path = at_test_file_bytes(at_test_dir(), "log", "ab\xff\0cd\n", 7);
    g_autoptr(GError) error = NULL;
    g_autofree char *all = at_console_log_tail(path, 100, &error);
    g_assert_no_error(error);
    g_assert_true(g_utf8_validate(all, -1, NULL));
    g_assert_true(g_str_has_suffix(all, "cd\n"));
    g_autofree char *end = at_console_log_tail(path, 3, &error);
    g_assert_cmpstr(end, ==, "cd\n");
    g_autofree char *none = at_console_log_tail(at_test_path(at_test_dir(), "none"), 3, &error);
    g_assert_cmpstr(none, ==, "");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu/console-log/trimming-keeps-the-newest-lines-and-the-writer",
                    test_trim_keeps_newest);
    g_test_add_func("/qemu/console-log/a-short-or-missing-log-is-left-alone",
                    test_short_is_left_alone);
    g_test_add_func("/qemu/console-log/one-endless-line-is-cut-too", test_one_endless_line);
    g_test_add_func("/qemu/console-log/a-link-is-not-followed", test_link_is_refused);
    g_test_add_func("/qemu/console-log/the-end-is-read-as-valid-text", test_tail);
    return g_test_run();
}
