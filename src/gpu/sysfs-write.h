/* SPDX-License-Identifier: Apache-2.0 */
/* Writing one value to a sysfs file with a deadline. The kernel can hold such a write up for as
 * long as somebody uses the device (unbind, remove, sriov_numvfs), and no signal frees the writer.
 * Therefore a child process makes it: after the deadline the child is left behind, and its write
 * still takes effect when the kernel lets go. Any thread; blocks. */
#pragma once
#include <glib.h>
#include <stdbool.h>

/* @about  the address (or the mdev's UUID) of the device that the write is about
 * True when the kernel has taken the value. TIMEOUT when it has not by then, and at once while an
 * earlier write about the same device is still held up; CONFLICT for EBUSY and EEXIST; UNAVAILABLE
 * for ENODEV, or when too many earlier writes are held up; others as at_error_errno() has it. The
 * message names the file and the value. */
bool at_sysfs_write(const char *path, const char *value, const char *about, int timeout_ms,
                    GError **error);

/* The write about @about that the kernel still holds up, in words, or NULL. */
char *at_sysfs_write_pending(const char *about);
