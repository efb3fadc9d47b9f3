/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of a damaged index share: a vault with a disk that is kept and more garbage than
 * that, and the lives of a daemon and of an image server on it, in processes of their own, because
 * they may die. */
#pragma once
#include "disk.h"

#define SIZE (2u << 20)
#define EXTRA (1u << 20)

struct subject {
    struct fixture f;
    uint8_t *disk, *extra;
    struct at_digest root;
    char *data, *mark;
};
void subject_begin(struct subject *s, unsigned seed);
void subject_end(struct subject *s);
void subject_close_vault(struct subject *s);

/* Writes @path anew. */
void subject_restore(const char *path, const char *bytes, gsize len);

/* How a life ended, as its exit status. */
enum fate { WHOLE = 0, WRONG_BYTES = 2, NOT_HEALED, NOT_OPENED, NEEDS_RESTART, NOT_TOLD };

/* Before subject_run(): what a process must know is written down. */
void subject_tell(const struct subject *s);
/* "live": the life of a daemon, which reads, writes, and looks after the vault. "look": that of an
 * image server, which must refuse something. Gives the wait status; the vault must be closed. */
int subject_run(const struct subject *s, const char *what);
/* First in main(): ends the process when it is one of these. */
void subject_main(int argc, char **argv);
