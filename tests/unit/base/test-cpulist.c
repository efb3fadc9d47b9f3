/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of processors: what the kernel writes, and what it would not. */
#include "base/cpulist.h"
#include "base/error.h"

static void reads(void)
{
    static const struct {
        const char *text;
        int count, first, last;
    } cases[] = {
        {"0", 1, 0, 0},       {"0-31", 32, 0, 31},     {"0-31,64-95\n", 64, 0, 95},
        {"3,1,2,1", 3, 1, 3}, {"1023", 1, 1023, 1023},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        cpu_set_t set;
        g_assert_true(at_cpulist_parse(cases[i].text, &set, &error));
        g_assert_no_error(error);
        g_assert_cmpint(CPU_COUNT(&set), ==, cases[i].count);
        g_assert_true(CPU_ISSET(cases[i].first, &set));
        g_assert_true(CPU_ISSET(cases[i].last, &set));
    }
}

static void refuses(void)
{
    static const char *const bad[] = {"",     "\n",  "a",    "1-",   "-1",
                                      "3-1",  "1,",  "1,,2", "1024", "99999999999999999999",
                                      "0-1 ", "0\n1"};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        cpu_set_t set;
        g_assert_false(at_cpulist_parse(bad[i], &set, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/cpulist/reads-what-the-kernel-writes", reads);
    g_test_add_func("/base/cpulist/refuses-everything-else", refuses);
    return g_test_run();
}
