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
 * for ENODEV and ENOTTY, or when too many earlier writes are held up; others as at_error_errno()
 * has it. The message names the file and the value. */
bool at_sysfs_write(const char *path, const char *value, const char *about, int timeout_ms,
                    GError **error);

/* Other work that the kernel can hold up, in a child in the same way. @work may make nothing but
 * system calls, and nothing is open in it but what it opens; what it writes into memory that is
 * shared (mmap) is seen by the caller. It gives 0 or an errno, which is *ret_errno. @what: the work
 * in words, for messages. False when it did not come to its end: TIMEOUT, UNAVAILABLE as above. */
typedef int (*at_sysfs_work_func)(void *data);
bool at_sysfs_work(at_sysfs_work_func work, void *data, const char *what, const char *about,
                   int timeout_ms, int *ret_errno, GError **error);

/* The write (or work) about @about that the kernel still holds up, in words, or NULL. */
char *at_sysfs_write_pending(const char *about);
