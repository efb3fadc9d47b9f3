/* SPDX-License-Identifier: Apache-2.0 */
/* Publishing files: what a crash leaves, the order of the syncs, and removing trees.
 * fsync and rename are wrapped here, so that leaving one out turns a test red. */
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "lib/at-test.h"

static GString *calls; /* "sync NAME" and "rename NAME", one a line; NULL while nobody looks */

int fsync(int fd)
{
    if (calls) {
        char link[64], target[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof target - 1);
        target[MAX(n, 0)] = '\0';
        g_autofree char *name = g_path_get_basename(target);
        char *random = strstr(name, ".tmp-");
        if (random)
            random[5] = '\0';
        g_string_append_printf(calls, "sync %s\n", name);
    }
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
    if (calls) {
        g_autofree char *name = g_path_get_basename(to);
        g_string_append_printf(calls, "rename %s\n", name);
    }
    return (int)syscall(SYS_rename, from, to);
}

static char *content(const char *path)
{
    char *text = NULL;
    g_file_get_contents(path, &text, NULL, NULL);
    return text;
}

static unsigned entries(const char *dir)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    unsigned n = 0;
    g_assert_nonnull(d);
    while (g_dir_read_name(d))
        n++;
    return n;
}

static void publishes_with_mode_and_leaves_no_temporary(void)
{
    g_autoptr(GError) error = NULL;
    const char *dir = at_test_dir(), *path = at_test_path(dir, "name");
    struct stat st;
    g_assert_true(at_test_ok(at_atomic_write(path, "old", 3, 0640, &error), &error));
    g_assert_true(at_test_ok(at_atomic_write(path, "a\0b", 3, 0604, &error), &error));
    g_autofree char *text = content(path);
    g_assert_cmpmem(text, 3, "a\0b", 3);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0604);
    g_assert_cmpuint(entries(dir), ==, 1);
    g_assert_true(at_test_ok(at_atomic_write(path, "", 0, 0600, &error), &error));
}

static void syncs_the_file_before_its_name_and_the_directory_after(void)
{
    g_autoptr(GError) error = NULL;
    const char *dir = at_test_dir(), *path = at_test_path(dir, "name");
    g_autofree char *dir_name = g_path_get_basename(dir);
    calls = g_string_new(NULL);
    g_assert_true(at_test_ok(at_atomic_write(path, "x", 1, 0600, &error), &error));
    g_autofree char *seen = g_string_free(g_steal_pointer(&calls), FALSE);
    g_autofree char *expected =
        g_strdup_printf("sync .name.tmp-\nrename name\nsync %s\n", dir_name);
    g_assert_cmpstr(seen, ==, expected);
}

static void renaming_and_removing_sync_the_directories(void)
{
    g_autoptr(GError) error = NULL;
    const char *dir = at_test_dir(), *a = at_test_path(dir, "a"), *b = at_test_path(dir, "b");
    g_assert_true(at_mkdirs(a, 0755, &error) && at_mkdirs(b, 0755, &error));
    const char *from = at_test_file(a, "x", "1"), *to = at_test_path(b, "y");
    calls = g_string_new(NULL);
    g_assert_true(at_test_ok(at_rename_durable(from, to, &error), &error));
    g_assert_true(at_test_ok(at_unlink_durable(to, &error), &error));
    g_assert_true(at_test_ok(at_unlink_durable(to, &error), &error)); /* gone; for certain? */
    g_autofree char *seen = g_string_free(g_steal_pointer(&calls), FALSE);
    g_assert_cmpstr(seen, ==, "rename y\nsync b\nsync a\nsync b\nsync b\n");
    to = at_test_path(dir, "no/y");
    g_assert_true(at_test_ok(at_unlink_durable(to, &error), &error)); /* nor where it would be */
    g_assert_false(at_rename_durable(from, to, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
}

static const char *const points[] = {"atomic-file.write", "atomic-file.sync", "atomic-file.publish",
                                     "atomic-file.sync-directory"};

static void a_failure_leaves_the_old_file_and_no_temporary(void)
{
    const char *dir = at_test_dir(), *path = at_test_file(dir, "name", "old");
    for (size_t i = 0; i < G_N_ELEMENTS(points); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *plan = g_strconcat(points[i], ":ENOSPC", NULL);
        at_fault_plan(plan);
        g_assert_false(at_atomic_write(path, "new", 3, 0644, &error));
        at_fault_plan(NULL);
        g_assert_error(error, AT_ERROR, AT_ERROR_NO_SPACE);
        g_autofree char *text = content(path);
        g_assert_cmpstr(text, ==, i < 3 ? "old" : "new"); /* the name is there, not yet durable */
        g_assert_cmpuint(entries(dir), ==, 1);
    }
}

struct crash {
    const char *point, *path;
};

static void write_and_die(void *data)
{
    const struct crash *crash = data;
    g_autofree char *plan = g_strconcat(crash->point, ":kill", NULL);
    at_fault_plan(plan);
    at_atomic_write(crash->path, "new", 3, 0644, NULL);
}

static void a_crash_leaves_the_old_file_or_the_new_one_whole(void)
{
    const char *dir = at_test_dir(), *path = at_test_file(dir, "name", "old");
    for (size_t i = 0; i < G_N_ELEMENTS(points); i++) {
        struct crash crash = {points[i], path};
        int status = at_test_in_child(write_and_die, &crash, 20000);
        g_assert_cmphex(status, ==, SIGKILL);
        g_autofree char *text = content(path);
        g_assert_cmpstr(text, ==, i < 3 ? "old" : "new");
    }
}

static void a_missing_directory_is_named(void)
{
    g_autoptr(GError) error = NULL;
    const char *path = at_test_path(at_test_dir(), "missing/name");
    g_assert_false(at_atomic_write(path, "x", 1, 0600, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "missing/.name.tmp-"));
}

static void makes_the_missing_directories_and_keeps_the_rest(void)
{
    g_autoptr(GError) error = NULL;
    const char *dir = at_test_dir(), *deep = at_test_path(dir, "a/b/c");
    g_autofree char *dir_name = g_path_get_basename(dir);
    struct stat st;
    calls = g_string_new(NULL);
    g_assert_true(at_test_ok(at_mkdirs(deep, 0711, &error), &error));
    g_autofree char *seen = g_string_free(g_steal_pointer(&calls), FALSE);
    g_autofree char *above = g_path_get_dirname(dir), *above_name = g_path_get_basename(above);
    g_autofree char *expected =
        g_strdup_printf("sync %s\nsync %s\nsync a\nsync b\n", above_name, dir_name);
    g_assert_cmpstr(seen, ==, expected);
    g_assert_cmpint(stat(deep, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0711);
    g_assert_true(at_test_ok(at_mkdirs(deep, 0700, &error), &error));
    g_assert_cmpint(stat(deep, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0711);
    const char *file = at_test_file(dir, "file", "");
    g_assert_false(at_mkdirs(file, 0755, &error));
    g_clear_error(&error);
    g_assert_false(at_mkdirs(at_test_path(file, "below"), 0755, &error));
}

static void removes_a_tree_but_not_what_links_point_to(void)
{
    g_autoptr(GError) error = NULL;
    const char *dir = at_test_dir(), *tree = at_test_path(dir, "tree");
    const char *outside = at_test_path(dir, "outside");
    g_assert_true(at_mkdirs(outside, 0755, &error));
    const char *kept = at_test_file(outside, "kept", "1");
    g_assert_true(at_mkdirs(at_test_path(tree, "a/b"), 0755, &error));
    at_test_file(tree, "a/b/file", "1");
    g_assert_cmpint(symlink(outside, at_test_path(tree, "a/link")), ==, 0);
    g_assert_cmpint(symlink("/nonexistent", at_test_path(tree, "dangling")), ==, 0);
    g_assert_cmpint(mkfifo(at_test_path(tree, "fifo"), 0600), ==, 0);
    g_assert_cmpint(link(kept, at_test_path(tree, "hard")), ==, 0);
    g_assert_true(at_test_ok(at_remove_tree(tree, &error), &error));
    g_assert_false(g_file_test(tree, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_test(kept, G_FILE_TEST_EXISTS));
    g_assert_true(at_test_ok(at_remove_tree(tree, &error), &error)); /* already gone */
}

static void refuses_to_remove_a_tree_by_a_link_or_a_file(void)
{
    const char *dir = at_test_dir(), *link = at_test_path(dir, "link");
    const char *file = at_test_file(dir, "file", "1");
    g_assert_true(at_mkdirs(at_test_path(dir, "target/x"), 0755, NULL));
    g_assert_cmpint(symlink("target", link), ==, 0);
    g_assert_false(at_remove_tree(link, NULL));
    g_assert_false(at_remove_tree(file, NULL));
    g_assert_true(g_file_test(at_test_path(dir, "target/x"), G_FILE_TEST_IS_DIR));
    g_assert_true(g_file_test(file, G_FILE_TEST_EXISTS));
}

static void does_not_cross_a_bind_mount(void)
{
    g_autoptr(GError) error = NULL;
    if (!at_test_needs_root())
        return;
    const char *dir = at_test_dir(), *tree = at_test_path(dir, "tree");
    const char *other = at_test_path(dir, "other"), *point = at_test_path(tree, "point");
    g_assert_true(at_mkdirs(other, 0755, &error) && at_mkdirs(point, 0755, &error));
    const char *kept = at_test_file(other, "kept", "1");
    if (mount(other, point, NULL, MS_BIND, NULL) != 0) {
        g_test_skip("mounts are not allowed here");
        return;
    }
    bool removed = at_remove_tree(tree, &error);
    g_assert_cmpint(umount2(point, MNT_DETACH), ==, 0);
    g_assert_false(removed);
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_assert_nonnull(strstr(error->message, "tree/point is a mount point"));
    g_assert_true(g_file_test(kept, G_FILE_TEST_EXISTS));
}

static void a_fault_comes_at_the_time_in_the_plan(void)
{
    at_fault_plan("a:EIO,b:ENOSPC:3,c:ENOMEM:*");
    g_assert_cmpint(at_fault_errno("a"), ==, EIO);
    g_assert_cmpint(at_fault_errno("a"), ==, 0);
    g_assert_cmpint(at_fault_errno("b"), ==, 0);
    g_assert_cmpint(at_fault_errno("b"), ==, 0);
    g_assert_cmpint(at_fault_errno("b"), ==, ENOSPC);
    g_assert_cmpint(at_fault_errno("b"), ==, 0);
    for (int i = 0; i < 5; i++)
        g_assert_cmpint(at_fault_errno("c"), ==, ENOMEM);
    g_assert_cmpint(at_fault_errno("other"), ==, 0);
    at_fault_plan("d:EINTR");
    g_autoptr(GError) error = NULL;
    g_assert_false(at_fault_point("d", &error));
    g_assert_nonnull(strstr(error->message, "d (injected fault)"));
    at_fault_plan(NULL);
    g_assert_true(at_fault_point("c", NULL));
}

static void use_plan(void *plan)
{
    at_fault_plan(plan);
}

static void a_slip_in_the_plan_ends_the_program(void)
{
    static const char *const plans[] = {"a",        "a:EOI",   "a:kill:x",
                                        "a:kill:0", "a:kill,", "a:EIO:-1"};
    for (size_t i = 0; i < G_N_ELEMENTS(plans); i++)
        g_assert_cmpint(at_test_in_child(use_plan, (void *)plans[i], 20000), !=, 0);
    g_assert_cmpint(at_test_in_child(use_plan, (void *)"a:kill:2,b:stop", 20000), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/atomic-file/publishes-with-mode-and-leaves-no-temporary",
                    publishes_with_mode_and_leaves_no_temporary);
    g_test_add_func("/base/atomic-file/syncs-the-file-before-its-name-and-the-directory-after",
                    syncs_the_file_before_its_name_and_the_directory_after);
    g_test_add_func("/base/atomic-file/renaming-and-removing-sync-the-directories",
                    renaming_and_removing_sync_the_directories);
    g_test_add_func("/base/atomic-file/a-failure-leaves-the-old-file-and-no-temporary",
                    a_failure_leaves_the_old_file_and_no_temporary);
    g_test_add_func("/base/atomic-file/a-crash-leaves-the-old-file-or-the-new-one-whole",
                    a_crash_leaves_the_old_file_or_the_new_one_whole);
    g_test_add_func("/base/atomic-file/a-missing-directory-is-named", a_missing_directory_is_named);
    g_test_add_func("/base/mkdirs/makes-the-missing-directories-and-keeps-the-rest",
                    makes_the_missing_directories_and_keeps_the_rest);
    g_test_add_func("/base/remove-tree/does-not-follow-links",
                    removes_a_tree_but_not_what_links_point_to);
    g_test_add_func("/base/remove-tree/refuses-a-link-or-a-file-in-place-of-the-tree",
                    refuses_to_remove_a_tree_by_a_link_or_a_file);
    g_test_add_func("/base/remove-tree/does-not-cross-a-bind-mount", does_not_cross_a_bind_mount);
    g_test_add_func("/base/fault/comes-at-the-time-in-the-plan",
                    a_fault_comes_at_the_time_in_the_plan);
    g_test_add_func("/base/fault/a-slip-in-the-plan-ends-the-program",
                    a_slip_in_the_plan_ends_the_program);
    return g_test_run();
}
