/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O shim: what its plan and log (io-shim.c) offer to the calls (io-shim-calls.c).  None of it
 * changes errno, but for a fault that is met. */
#pragma once
/* Both names of a call are defined in the shim: the plain one must not become the other. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "lib/io-log.h"

#define SHIM_IOV 128 /* parts that a write may have */

/* Held over every change and its record, so that the log has the order in which they happened. */
extern pthread_mutex_t shim_order;

/* Whether anything is looked at; whether changes are written down. */
bool shim_looks(void);
bool shim_records(void);
/* Whether what @fd, or @name in the directory @at, is looked at; its full name. */
bool shim_fd_inside(int fd, char path[static PATH_MAX]);
bool shim_inside(int at, const char *name, char path[static PATH_MAX]);
bool shim_is_marks(const char *path);

/* True when the call is to fail with the errno that is set; *ret_len (may be NULL) becomes less
 * when it is to do less. */
bool shim_fault(enum io_kind kind, const char *path, size_t len, size_t *ret_len);

/* 0 when there is no such file. */
uint64_t shim_ino(const char *path);
uint64_t shim_fd_ino(int fd, uint64_t *ret_size);

/* With shim_order held.  @path, @other: full names or NULL; @len bytes of @data. */
void shim_record(enum io_op op, const char *path, const char *other, uint64_t ino, uint64_t offset,
                 const struct iovec *data, int n, size_t len);
