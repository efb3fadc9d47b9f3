/* SPDX-License-Identifier: Apache-2.0 */
/* What a disk can hold after the power was cut, worked out from a log of all changes (io-log.h).
 *
 * Kept for certain: what a file held, size included, when it was last synced; the names that a
 * directory had when it was last synced.  Of everything later each write may be there, in part (by
 * sectors of 512 or 4096 bytes) or not, and each name made, moved or removed may be so or not,
 * independently of each other: also a name without its bytes, and a size without them.  That is
 * what POSIX allows; a file system with a journal, such as ext4, does some of it only. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/io-log.h"

struct cut_op {
    enum io_op op;
    char *path, *other;
    uint64_t ino, offset;
    uint8_t *data;
    size_t len;
};
/* struct cut_op*, of the log in @path; aborts the test when it is not one. */
GPtrArray *cut_log_read(const char *path);

/* How the choice is made in everything that is not synced. */
enum cut_choice {
    CUT_NOTHING, /* all is there, as after a kill */
    CUT_ALL,     /* nothing of it is there */
    CUT_BYTES,   /* names are there, bytes are not */
    CUT_NAMES,   /* bytes are there, names are not */
    CUT_ZEROS,   /* names and sizes are there, bytes are not */
    CUT_DIR,     /* all is there but the names of one directory */
    CUT_RANDOM,
    CUT_CHOICES
};

struct cut_disk;
/* Before the first operation: an empty directory. */
struct cut_disk *cut_disk_new(void);
void cut_disk_free(struct cut_disk *disk);
/* One operation more.  @lost: a sync that has no effect (it was forgotten, or lied). */
void cut_disk_apply(struct cut_disk *disk, const struct cut_op *op, bool lost);

/* How many directories have names that are not synced. */
unsigned cut_disk_open_dirs(const struct cut_disk *disk);

/* Makes the directory @dir, which does not exist, as it may be found.  @number: for CUT_DIR which
 * one it is, for CUT_RANDOM what the chance begins with.  Gives a number that is the same for the
 * same content. */
uint64_t cut_disk_write(const struct cut_disk *disk, enum cut_choice choice, unsigned number,
                        const char *dir);
