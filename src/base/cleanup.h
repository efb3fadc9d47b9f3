/* SPDX-License-Identifier: Apache-2.0 */
/* Cleanup attributes that GLib lacks: at_autofd closes a file descriptor at the end of its scope.
 */
#pragma once
#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <unistd.h>

static inline void at_close_fd(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
        *fd = -1;
    }
}
#define at_autofd __attribute__((cleanup(at_close_fd))) int

static inline int at_steal_fd(int *fd)
{
    int value = *fd;
    *fd = -1;
    return value;
}
