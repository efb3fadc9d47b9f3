/* SPDX-License-Identifier: Apache-2.0 */
/* Hearing of changes: that many become one call. */
#include "base/error.h"
#include "gpu/watch-internal.h"
#include "lib/at-test.h"

static void count(void *user)
{
    ++*(unsigned *)user;
}

static void test_coalesces(void)
{
    unsigned calls = 0;
    struct at_gpu_watch *watch = at_gpu_watch_deaf(count, &calls, 1);
    g_assert_false(at_gpu_watch_pending(watch));
    for (unsigned i = 0; i < 1000; i++)
        at_gpu_watch_hear(watch);
    g_assert_true(at_gpu_watch_pending(watch));
    g_assert_cmpuint(calls, ==, 0);
    g_assert_true(at_test_until(calls > 0, 30000));
    g_assert_cmpuint(calls, ==, 1);
    g_assert_false(at_gpu_watch_pending(watch));
    at_gpu_watch_hear(watch); /* what comes after a call makes another */
    g_assert_true(at_test_until(calls == 2, 30000));
    at_gpu_watch_free(watch);
}

static void test_silent_after_free(void)
{
    unsigned calls = 0;
    struct at_gpu_watch *watch = at_gpu_watch_deaf(count, &calls, 0);
    at_gpu_watch_hear(watch);
    at_gpu_watch_free(watch);
    at_gpu_watch_free(NULL);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_assert_cmpuint(calls, ==, 0);
}

static void free_it(void *user)
{
    struct at_gpu_watch **watch = user;
    g_clear_pointer(watch, at_gpu_watch_free);
}

static void test_freed_by_the_callee(void)
{
    struct at_gpu_watch *watch = NULL;
    watch = at_gpu_watch_deaf(free_it, &watch, 0);
    at_gpu_watch_hear(watch);
    g_assert_true(at_test_until(watch == NULL, 30000));
}

static void test_own_context(void)
{
    unsigned calls = 0;
    g_autoptr(GMainContext) context = g_main_context_new();
    g_main_context_push_thread_default(context);
    struct at_gpu_watch *watch = at_gpu_watch_deaf(count, &calls, 0);
    g_main_context_pop_thread_default(context);
    at_gpu_watch_hear(watch);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_assert_cmpuint(calls, ==, 0);
    while (calls == 0)
        g_main_context_iteration(context, TRUE);
    at_gpu_watch_free(watch);
}

static void test_listens(void)
{
    unsigned calls = 0;
    g_autoptr(GError) error = NULL;
    struct at_gpu_watch *watch = at_gpu_watch_new(count, &calls, &error);
    if (!watch) { /* a sandbox without the kernel's events: then it says so */
        g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
        g_test_skip(error->message);
        return;
    }
    g_assert_no_error(error);
    g_assert_false(at_gpu_watch_pending(watch));
    at_gpu_watch_free(watch);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/watch/makes-one-call-of-many-changes", test_coalesces);
    g_test_add_func("/gpu/watch/is-silent-once-it-is-freed", test_silent_after_free);
    g_test_add_func("/gpu/watch/can-be-freed-by-whom-it-calls", test_freed_by_the_callee);
    g_test_add_func("/gpu/watch/calls-on-the-context-it-was-made-on", test_own_context);
    g_test_add_func("/gpu/watch/listens-to-the-kernel", test_listens);
    return g_test_run();
}
