/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups hold a real process and are gone afterwards; a host without them says why. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/process.h"
#include "lib/at-test.h"
#include "qemu/cgroup.h"

/* A site of its own for each run: tests run side by side. */
static char *fresh_site(void)
{
    return g_strdup_printf("%08x", g_random_int());
}

static bool make(const char *site, const char *machine, char **ret_list)
{
    g_autoptr(GError) error = NULL;
    if (at_cgroup_make(site, machine, 2, 64 << 20, ret_list, &error))
        return true;
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    g_test_skip(error->message);
    return false;
}

static void test_holds_a_process(void)
{
    if (!at_test_needs_root())
        return;
    g_autofree char *site = fresh_site();
    g_autofree char *list = NULL;
    g_autofree char *again = NULL;
    g_autoptr(GError) error = NULL;
    if (!make(site, "00000001", &list) || !make(site, "00000001", &again))
        return;
    const char *const argv[] = {"/bin/sleep", "60", NULL};
    struct at_spawn spawn = {.argv = argv, .cgroup = list};
    struct at_process process;
    g_assert_true(at_test_ok(at_spawn(&spawn, &process, &error), &error));
    for (const char *dir = list; *dir; dir += strlen(dir) + 1) {
        g_autofree char *path = g_build_filename(dir, "cgroup.procs", NULL);
        g_autofree char *text = NULL;
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        g_assert_cmpint(atoi(text), ==, process.pid);
        g_assert_nonnull(strstr(dir, site));
    }
    g_assert_false(at_cgroup_remove(site, "00000001", &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_clear_error(&error);
    g_assert_true(at_test_ok(at_process_kill(&process, SIGKILL, &error), &error));
    g_assert_true(at_test_ok(at_process_wait(&process, 5000, &error), &error));
    g_assert_true(at_test_ok(at_cgroup_remove(site, "00000001", &error), &error));
    for (const char *dir = list; *dir; dir += strlen(dir) + 1) {
        g_autofree char *parent = g_path_get_dirname(dir);
        g_assert_false(g_file_test(parent, G_FILE_TEST_EXISTS));
    }
}

static uint64_t weight_of(const char *dir)
{
    static const char *const files[] = {"cpu.shares", "cpu.weight"};
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(dir, files[i], NULL);
        g_autofree char *text = NULL;
        if (g_file_get_contents(path, &text, NULL, NULL))
            return g_ascii_strtoull(text, NULL, 10);
    }
    return 0; /* a hierarchy of another controller */
}

static void test_site_weight(void)
{
    if (!at_test_needs_root())
        return;
    g_autofree char *site = fresh_site();
    g_autofree char *one = NULL;
    g_autofree char *two = NULL;
    if (!make(site, "00000001", &one) || !make(site, "00000002", &two))
        return;
    for (const char *dir = one; *dir; dir += strlen(dir) + 1) {
        g_autofree char *parent = g_path_get_dirname(dir);
        g_assert_cmpuint(weight_of(parent), ==, 2 * weight_of(dir));
    }
    g_assert_true(at_cgroup_remove(site, "00000001", NULL));
    g_assert_true(at_cgroup_remove(site, "00000002", NULL));
}

static void test_probe(void)
{
    g_autofree char *site = fresh_site();
    g_autofree char *reason = NULL;
    const char *kind = at_cgroup_probe(site, &reason);
    g_assert_true(g_str_equal(kind, "none") == (reason != NULL));
    g_test_message("%s: %s", kind, reason ? reason : "works");
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/memory"};
    for (unsigned i = 0; i < G_N_ELEMENTS(roots); i++) {
        g_autofree char *path = g_strdup_printf("%s/atoll-%s", roots[i], site);
        g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    }
}

/* Of two machines of a site that come and go side by side, none finds the site's group gone. */
static void *come_and_go(void *machine)
{
    const char *const *ids = machine;
    for (int i = 0; i < 200; i++) {
        g_autofree char *list = NULL;
        g_autoptr(GError) error = NULL;
        if (!at_cgroup_make(ids[0], ids[1], 1, 1 << 20, &list, &error))
            return g_strdup(error->message);
        at_cgroup_remove(ids[0], ids[1], NULL);
    }
    return NULL;
}

static void test_side_by_side(void)
{
    g_autofree char *site = fresh_site();
    g_autofree char *list = NULL;
    if (!at_test_needs_root() || !make(site, "00000001", &list))
        return;
    g_assert_true(at_cgroup_remove(site, "00000001", NULL));
    const char *one[] = {site, "00000001"}, *two[] = {site, "00000002"};
    GThread *thread = g_thread_new("other", come_and_go, two);
    g_autofree char *mine = come_and_go(one);
    g_autofree char *theirs = g_thread_join(thread);
    g_assert_cmpstr(mine, ==, NULL);
    g_assert_cmpstr(theirs, ==, NULL);
}

static void test_remove_of_nothing(void)
{
    g_autofree char *site = fresh_site();
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_cgroup_remove(site, "00000002", &error), &error));
}

static void test_bad_ids(void)
{
    g_autofree char *list = NULL;
    g_autoptr(GError) error = NULL;
    g_assert_false(at_cgroup_make("../..", "00000001", 1, 1 << 20, &list, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_assert_null(list);
    g_assert_false(at_cgroup_remove("00000001", "", NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu/cgroup/holds-a-process-and-goes-when-it-is-gone", test_holds_a_process);
    g_test_add_func("/qemu/cgroup/a-site-weighs-as-much-as-its-machines", test_site_weight);
    g_test_add_func("/qemu/cgroup/a-probe-leaves-nothing", test_probe);
    g_test_add_func("/qemu/cgroup/machines-come-and-go-side-by-side", test_side_by_side);
    g_test_add_func("/qemu/cgroup/removing-what-is-not-there-is-fine", test_remove_of_nothing);
    g_test_add_func("/qemu/cgroup/ids-are-not-paths", test_bad_ids);
    return g_test_run();
}
