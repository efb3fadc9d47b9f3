/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a helper (qemu-nbd, qemu-img) on one file that nobody vouches for: as the owner of the file
 * or nobody, without capabilities and network, seeing by Landlock only the system's libraries and
 * that file, with bounded resources. It ends with the thread that started it. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* The file as the helper must name it: no quoting, no path that it would have to walk. */
#define AT_CONFINED_FILE "/proc/self/fd/4"

struct at_confine {
    const char *const *argv; /* argv[0] absolute */
    int file_fd;             /* open for reading: AT_CONFINED_FILE in the child */
    int listen_fd;           /* a listening socket handed over as systemd does, or -1 */
    int out_fd;              /* standard output, or -1 */
};
struct at_confined {
    pid_t pid;
    int err_fd; /* standard error so far */
};
#define AT_CONFINED_NONE ((struct at_confined){.err_fd = -1})

/* Starts it; true once exec has succeeded. Any thread, which must live until at_confined_end():
 * the kernel kills the helper with the thread that started it.
 * Errors: UNAVAILABLE, DENIED, IO; then nothing runs. */
bool at_confine_start(const struct at_confine *confine, struct at_confined *ret_child,
                      GError **error);

/* Waits for it to end by itself. False with TIMEOUT, or IO with the end of its standard error when
 * the exit status is not 0. Call at_confined_end() afterwards in any case. */
bool at_confined_wait(struct at_confined *child, int timeout_ms, GError **error);

/* The end of its standard error, one line, newly allocated; "" when it said nothing. */
char *at_confined_stderr(const struct at_confined *child);

/* Kills it if it still runs, reaps it, closes err_fd. For AT_CONFINED_NONE nothing. */
void at_confined_end(struct at_confined *child);
