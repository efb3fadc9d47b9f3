/* SPDX-License-Identifier: Apache-2.0 */
/* Logs that a guest, or QEMU in the hands of one, may fill: they are kept short by whoever calls
 * this now and then. The writer must append (O_APPEND), as QEMU does with logappend=on. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* When the file at @path is longer than @max bytes its newest half of @max is kept, from a
 * beginning of a line on where there is one; what is written at that moment may be lost. A missing
 * file is fine; a link is refused (DENIED). Any thread; blocks on disk. */
bool at_console_log_trim(const char *path, uint64_t max, GError **error);

/* The last @max bytes (at most) as valid UTF-8, newly allocated; an empty text for no file. */
char *at_console_log_tail(const char *path, uint64_t max, GError **error);
