/* SPDX-License-Identifier: Apache-2.0 */
/* The helpers of the tests themselves: what they promise to clean up is gone. */
#include <glib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "lib/at-test.h"
#include "lib/bench.h"

static char *kept_dir;
static struct at_process kept_child;

static void makes_a_directory(void)
{
    kept_dir = g_strdup(at_test_dir());
    g_assert_cmpuint(strlen(at_test_path(kept_dir, "qmp-a.sock")), <, 100);
    const char *file = at_test_file(kept_dir, "a", "text");
    g_assert_true(g_file_test(file, G_FILE_TEST_IS_REGULAR));
}

static void the_directory_is_gone(void)
{
    g_assert_nonnull(kept_dir);
    g_assert_false(g_file_test(kept_dir, G_FILE_TEST_EXISTS));
    g_clear_pointer(&kept_dir, g_free);
}

static void starts_a_child(void)
{
    const char *const argv[] = {"sleep", "1000", NULL};
    g_assert_true(at_process_lookup(at_test_spawn(argv, NULL), &kept_child));
    int status = at_test_kill(at_test_spawn(argv, NULL), SIGTERM);
    g_assert_true(WIFSIGNALED(status));
    g_assert_cmpint(WTERMSIG(status), ==, SIGTERM);
}

static void the_child_is_gone(void)
{
    g_assert_cmpint(kept_child.pid, >, 1);
    g_assert_false(at_process_alive(&kept_child));
}

static void runs_a_program_with_a_deadline(void)
{
    const char *const say[] = {"sh", "-c", "echo out; echo err >&2; exit 3", NULL};
    const char *const hang[] = {"sleep", "1000", NULL};
    g_autofree char *output = NULL;
    g_assert_cmpint(at_test_run(say, 10000, &output), ==, 3);
    g_assert_cmpstr(output, ==, "out\nerr\n");
    g_assert_cmpint(at_test_run(hang, 50, NULL), ==, 124);
}

static void die(void *data)
{
    raise(GPOINTER_TO_INT(data));
}

static void shows_how_a_child_died(void)
{
    int status = at_test_in_child(die, GINT_TO_POINTER(SIGKILL), 10000);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    g_assert_cmpint(at_test_in_child(die, GINT_TO_POINTER(0), 10000), ==, 0);
}

static void waits_until_a_condition_or_the_deadline(void)
{
    int n = 0;
    g_assert_true(at_test_until(++n == 3, 10000));
    g_assert_false(at_test_until(n == 4, 20));
}

static void fills_reproducibly(void)
{
    unsigned char a[100], b[100], c[100];
    at_bench_fill(a, sizeof a, 1);
    at_bench_fill(b, sizeof b, 1);
    at_bench_fill(c, sizeof c, 2);
    g_assert_cmpmem(a, sizeof a, b, sizeof b);
    g_assert_cmpint(memcmp(a, c, sizeof a), !=, 0);
    double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2};
    g_assert_cmpfloat(at_bench_median(odd, 3), ==, 2);
    g_assert_cmpfloat(at_bench_median(even, 4), ==, 2.5);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lib/makes-a-directory", makes_a_directory);
    g_test_add_func("/lib/removes-the-directory-when-the-test-ends", the_directory_is_gone);
    g_test_add_func("/lib/starts-a-child", starts_a_child);
    g_test_add_func("/lib/kills-the-child-when-the-test-ends", the_child_is_gone);
    g_test_add_func("/lib/runs-a-program-with-a-deadline", runs_a_program_with_a_deadline);
    g_test_add_func("/lib/shows-how-a-child-died", shows_how_a_child_died);
    g_test_add_func("/lib/waits-until-a-condition-or-the-deadline",
                    waits_until_a_condition_or_the_deadline);
    g_test_add_func("/lib/fills-reproducibly", fills_reproducibly);
    return g_test_run();
}
