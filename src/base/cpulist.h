/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of processors as the kernel writes them: "0-31,64-95". */
#pragma once
#include <glib.h>
#include <sched.h>
#include <stdbool.h>

/* INVALID when @text is no such list, names none, or a number of 1024 or more. */
bool at_cpulist_parse(const char *text, cpu_set_t *ret_set, GError **error);
