/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a helper (qemu-nbd, qemu-img) on one file that nobody vouches for: as the owner of the file
 * or nobody, without capabilities and network, seeing by Landlock only the system's libraries and
 * that file, with bounded resources. It ends with the thread that started it. */
#pragma once
#include <gio/gio.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The file as the helper must name it: no quoting, no path that it would have to walk. */
#define AT_CONFINED_FILE "/proc/self/fd/4"

struct at_confine {
    const char *const *argv; /* argv[0] absolute */
    int file_fd;             /* open for reading: AT_CONFINED_FILE in the child */
    int listen_fd;           /* a listening socket handed over as systemd does, or -1 */
    int out_fd;              /* standard output, or -1 */
    uint64_t limit_as;       /* RLIMIT_AS in bytes, 0: 8 GiB */
    unsigned limit_cpu_s;    /* RLIMIT_CPU in seconds, 0: none */
};
struct at_confined {
    pid_t pid;
    int err_fd;    /* standard error so far */
    int exit_code; /* once it has ended by itself; -1 before, and when a signal ended it */
};
#define AT_CONFINED_NONE ((struct at_confined){.err_fd = -1, .exit_code = -1})

/* Starts it; true once exec has succeeded. Any thread, which must live until at_confined_end():
 * the kernel kills the helper with the thread that started it.
 * Errors: UNAVAILABLE, DENIED, IO; then nothing runs. */
bool at_confine_start(const struct at_confine *confine, struct at_confined *ret_child,
                      GError **error);

/* Waits for it to end by itself. False with TIMEOUT, CANCELLED, or IO with the first line of its
 * standard error when the exit status is not 0. Call at_confined_end() afterwards in any case. */
bool at_confined_wait(struct at_confined *child, int timeout_ms, GCancellable *cancellable,
                      GError **error);

/* The first line of its standard error as plain text, newly allocated; "" when it said nothing. */
char *at_confined_stderr(const struct at_confined *child);

/* Kills it if it still runs, reaps it, closes err_fd. For AT_CONFINED_NONE nothing. */
void at_confined_end(struct at_confined *child);

/* All of the above: gives the standard output of the whole run, at most 1 MiB. @confine->out_fd is
 * not used. @ret_exit (may be NULL) is set also when the exit status is the error. */
bool at_confine_run(const struct at_confine *confine, int timeout_ms, GCancellable *cancellable,
                    char **ret_out, int *ret_exit, GError **error);
