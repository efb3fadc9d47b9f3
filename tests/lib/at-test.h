/* SPDX-License-Identifier: Apache-2.0 */
/* What most tests need: a directory that cleans up, waiting with a deadline, helper processes that
 * die with the test, and a refusal to run that says why. For GTest programs (protocol: 'tap'). */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* A new empty directory with a short path (sockets fit), mode 0755. It is removed with all that is
 * in it when the running test ends, also when that test called g_test_skip. The string is valid
 * until then. Aborts the test when it cannot be made. */
const char *at_test_dir(void);

/* "<dir>/<name>", valid until the test ends. */
const char *at_test_path(const char *dir, const char *name);

/* Writes the text (or @len bytes) and gives the path like at_test_path(). */
const char *at_test_file(const char *dir, const char *name, const char *text);
const char *at_test_file_bytes(const char *dir, const char *name, const void *data, size_t len);

/* Evaluates @condition every 5 ms, running the default main context in between, until it is true or
 * @timeout_ms is over; the value tells which: g_assert_true(at_test_until(n == 3, 5000)). */
#define at_test_until(condition, timeout_ms)                                                       \
    ({                                                                                             \
        gint64 at_until_ = g_get_monotonic_time() + (gint64)(timeout_ms)*1000;                     \
        bool at_met_;                                                                              \
        while (!(at_met_ = (condition)) && g_get_monotonic_time() < at_until_)                     \
            at_test_pause();                                                                       \
        at_met_;                                                                                   \
    })
void at_test_pause(void);

/* Starts argv[0] (looked up in PATH), standard output and error to @log_path (NULL: the test's own
 * standard error). It is killed when the test ends or its process dies. Aborts when it does not
 * start. */
pid_t at_test_spawn(const char *const *argv, const char *log_path);

/* Kills and reaps a process of at_test_spawn() before the test ends; gives its wait status. */
int at_test_kill(pid_t pid, int signo);

/* Runs argv[0] and gives its exit status (128 + signal number when killed by one; 124 after
 * @timeout_ms, then it is dead). @ret_output: standard output and error together; may be NULL. */
int at_test_run(const char *const *argv, int timeout_ms, char **ret_output);

/* Runs @body(data) in a forked child that ends with status 0 when it returns; gives the wait
 * status. For code that must die at a fault point. The child must not use threads of the parent. */
int at_test_in_child(void (*body)(void *data), void *data, int timeout_ms);

/* True when @program is found in PATH or the sbin directories; otherwise the test is marked as
 * skipped and the caller returns: if (!at_test_needs_program("qemu-nbd")) return; */
bool at_test_needs_program(const char *program);

/* The same for the rights of root. */
bool at_test_needs_root(void);

/* For a whole program that cannot run here: prints a TAP plan of nothing with the reason, exits 0.
 * Called before g_test_run(). */
G_NORETURN void at_test_skip_all(const char *reason);

/* g_assert_no_error with the value: g_assert_true(at_test_ok(f(&error), &error)); */
#define at_test_ok(call, error)                                                                    \
    ({                                                                                             \
        bool at_done_ = (call);                                                                    \
        g_assert_no_error(*(error));                                                               \
        at_done_;                                                                                  \
    })
