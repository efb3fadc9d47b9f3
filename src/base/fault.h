/* SPDX-License-Identifier: Apache-2.0 */
/* Fault points: places where a test can make the program die or an operation fail.
 * ATOLL_FAULT="name:action[:nth],..." with action `kill` (SIGKILL to itself), `stop` (SIGSTOP) or
 * an errno name (EIO, ENOSPC, EDQUOT, EINTR, ENOMEM); nth counts from 1 and defaults to 1, `*` is
 * every time. Anything else in the variable ends the program. Without it a point costs one branch.
 * ATOLL_FAULT_TRACE=FILE appends the name of every point that is passed, so that a test can find
 * all of them. */
#pragma once
#include <glib.h>
#include <stdbool.h>

/* 0, or the errno that the caller must act as if it had got. Any thread. */
int at_fault_errno(const char *name);

/* The same as a GError: false with "<name>: injected fault". */
bool at_fault_point(const char *name, GError **error);

/* Sets the plan in place of the environment (tests); NULL clears it. Not while threads run. */
void at_fault_plan(const char *plan);
