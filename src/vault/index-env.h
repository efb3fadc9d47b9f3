/* SPDX-License-Identifier: Apache-2.0 */
/* The LMDB environment below the index, for index.c only: opening, sharing within the process, and
 * keeping file and memory within their bounds. */
#pragma once
#include <lmdb.h>
#include <signal.h>

#include "vault/index.h"

enum at_index_table {
    AT_INDEX_OBJECT,
    AT_INDEX_PACK,
    AT_INDEX_BAD,
    AT_INDEX_META,
    AT_INDEX_TABLES
};

/* An LMDB environment may be open only once in a process: openers of one directory share it. */
struct at_index_env {
    int refs;
    dev_t dev;
    ino_t ino;
    bool writer;
    MDB_env *env;
    MDB_dbi t[AT_INDEX_TABLES];
    void *map;        /* where LMDB has mapped the file; NULL when that is not known */
    guint uses;       /* atomic */
    GMutex pool_lock; /* guards the pool */
    GPtrArray *pool;  /* MDB_txn*, reset, ready to be renewed */
    char *mark; /* file that tells others that the index is damaged, see index-guard.h; or NULL */
    guint suspect; /* atomic: something was met that cannot be true */
};

struct at_index_env *at_index_env_get(const char *dir, bool writer, gid_t gid, GError **error);
void at_index_env_unref(struct at_index_env *env);

/* After a commit: makes the file as long as its header says that it is. */
void at_index_env_keep_size(struct at_index_env *env);

/* Gives back what of a large file is resident through the mapping; the page cache keeps it.  Names
 * are spread all over the file, and with every page that is touched the kernel maps its neighbours:
 * soon the whole of it would count as ours. */
void at_index_env_trim(struct at_index_env *env);

/* LMDB takes an interrupted sync or read for one that has failed: between the two nothing is
 * interrupted in this thread. */
void at_index_hold_signals(sigset_t *ret_before);
void at_index_release_signals(const sigset_t *before);

/* What cannot be true was met: the index has to be built again. */
void at_index_env_suspect(struct at_index_env *env);

/* False, with what LMDB's @rc means. */
bool at_index_fail(GError **error, int rc, const char *what);
