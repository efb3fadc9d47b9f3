/* SPDX-License-Identifier: Apache-2.0 */
/* What the I/O shim (io-shim.c) is told by its environment, and the log that it writes. */
#pragma once
#include <stdint.h>

/* ATOLL_IO_DIR    only what lies at or below this directory (a real path) is looked at
 * ATOLL_IO_LOG    every change there is appended to this file, as records
 * ATOLL_IO_MARKS  what is written to this file goes into the log as IO_MARK, and meets no fault
 * ATOLL_IO_FAULT  "ACTION:NTH[:COUNT]": the NTH call that ACTION can happen to fails, and more
 *                 that follow, COUNT in all, or `always`.  ACTION is EIO, ENOSPC, EINTR, `short`
 * (half of what a read or write was asked for) or `kill` (SIGKILL in front of a change)
 * ATOLL_IO_ONLY   faults only for calls whose path has this in it
 * ATOLL_IO_KINDS  and only for these kinds of calls: names of io_kind, with commas
 * ATOLL_IO_MET    is made when the fault is met; its text says where */

enum io_kind {
    IO_KIND_OPEN, /* a directory, too */
    IO_KIND_LOOK, /* stat */
    IO_KIND_LIST, /* readdir */
    IO_KIND_READ,
    IO_KIND_WRITE,
    IO_KIND_SIZE, /* truncate, fallocate */
    IO_KIND_SYNC,
    IO_KIND_NAME, /* rename, link, unlink, rmdir */
    IO_KIND_MAKE, /* open, when it makes the file */
    IO_KIND_MKDIR,
    IO_KINDS
};
#define IO_KIND_NAMES                                                                              \
    {                                                                                              \
        "open", "look", "list", "read", "write", "size", "sync", "name", "make", "mkdir"           \
    }

enum io_op {
    IO_CREATE = 'C',   /* path, ino: a file was made */
    IO_MKDIR = 'D',    /* path, ino */
    IO_WRITE = 'W',    /* ino, offset, data */
    IO_SIZE = 'T',     /* ino, offset: the size */
    IO_ALLOCATE = 'A', /* ino, offset: the file is at least that large */
    IO_SYNC = 'S',     /* path, ino: of a file or a directory, done; offset: IO_SYNC_LAST or 0 */
    IO_RENAME = 'R',   /* path, other */
    IO_EXCHANGE = 'E', /* path, other */
    IO_LINK = 'L',     /* path, other: the new name */
    IO_UNLINK = 'U',   /* path: of a file, or of an empty directory */
    IO_MARK = 'M',     /* data: text */
};

#define IO_SYNC_LAST 1u /* of the last write alone, which went through an O_DSYNC descriptor */

/* Followed by path, other and data.  Paths are relative to ATOLL_IO_DIR ("" is itself). */
struct io_record {
    uint32_t op;
    uint32_t path_len, other_len, data_len;
    uint64_t ino, offset;
};
