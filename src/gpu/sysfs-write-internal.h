/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of what reacts to writes: a model of the kernel in place of the child process. */
#pragma once

enum {
    AT_SYSFS_WRITE_BLOCKS = -1,   /* nothing frees the writer */
    AT_SYSFS_WRITE_GIVEN_UP = -2, /* it waited until the deadline, but could be killed */
};

/* Sees every write. Returns 0, an errno, or AT_SYSFS_WRITE_BLOCKS for one that never ends. NULL in
 * the product. Set before threads run. */
extern int (*at_sysfs_write_hook)(const char *path, const char *value);
/* The same in place of at_sysfs_work(). */
extern int (*at_sysfs_work_hook)(const char *about);
