/* SPDX-License-Identifier: Apache-2.0 */
/* The cut's side of atoll-guard, a dead man's switch: once it says that it is ready, it resumes all
 * its machines unless it is told within the deadline that all is over. src/qemu/guard.c. */
#pragma once
#include <glib.h>
#include <stdbool.h>

/* What passes through the pipes. */
#define AT_GUARD_READY 'R'
#define AT_GUARD_DONE 'd'
#define AT_GUARD_GONE 'k'  /* answer to done: it did nothing */
#define AT_GUARD_FIRED 'f' /* the deadline passed: it resumed everybody */

struct at_cut_guard {
    int in_fd, out_fd; /* towards it, from it */
};
#define AT_CUT_GUARD_NONE ((struct at_cut_guard){-1, -1})

/* Starts @program for the monitors @sockets (NULL-terminated) and waits until it is connected to
 * all of them. It fires after @deadline_ms. UNAVAILABLE or TIMEOUT: nothing runs that could fire
 * and matter. */
bool at_cut_guard_start(struct at_cut_guard *guard, const char *program, const char *const *sockets,
                        int deadline_ms, GError **error);

/* Tells it that all machines run; false when it fired before. */
bool at_cut_guard_done(struct at_cut_guard *guard, GError **error);

/* Leaves the machines to it: it fires now. Does nothing after done. */
void at_cut_guard_leave(struct at_cut_guard *guard);
