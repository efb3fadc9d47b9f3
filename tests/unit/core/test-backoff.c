/* SPDX-License-Identifier: Apache-2.0 */
/* Waits grow with failures, up to a bound, and never wrap around. */
#include <limits.h>

#include "core/backoff.h"
#include "lib/at-test.h"

static void test_doubles(void)
{
    g_assert_cmpuint(at_backoff_ms(500, 60000, 0), ==, 500);
    g_assert_cmpuint(at_backoff_ms(500, 60000, 1), ==, 500);
    g_assert_cmpuint(at_backoff_ms(500, 60000, 2), ==, 1000);
    g_assert_cmpuint(at_backoff_ms(500, 60000, 7), ==, 32000);
}

static void test_bound(void)
{
    g_assert_cmpuint(at_backoff_ms(500, 60000, 8), ==, 60000);
    g_assert_cmpuint(at_backoff_ms(500, 60000, UINT_MAX), ==, 60000);
    g_assert_cmpuint(at_backoff_ms(1, UINT_MAX, 100), ==, UINT_MAX);
    g_assert_cmpuint(at_backoff_ms(500, 100, 0), ==, 100);
}

/* What the watchdog does with a network that nothing repairs, for two hours. */
static void test_seldom(void)
{
    struct at_backoff b = {0};
    unsigned tries = 0;
    for (int64_t second = 0; second < 7200; second += 15)
        tries += at_backoff_due(&b, 15000, 600000, second * 1000000);
    g_assert_cmpuint(tries, >=, 12);
    g_assert_cmpuint(tries, <=, 20);
    b = (struct at_backoff){0};
    g_assert_true(at_backoff_due(&b, 15000, 600000, 0));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/core/backoff/doubles-with-every-failure", test_doubles);
    g_test_add_func("/core/backoff/has-an-end", test_bound);
    g_test_add_func("/core/backoff/what-never-succeeds-is-tried-seldom", test_seldom);
    return g_test_run();
}
