/* SPDX-License-Identifier: Apache-2.0 */
/* The index: digest -> place in a pack, in LMDB.  It can always be rebuilt from the packs.
 * One writing process; readers in others see every commit.  Lookups: any thread.  A transaction
 * belongs to the thread that began it; only one exists at a time (others wait). */
#pragma once
#include <sys/types.h>

#include "vault/format.h"

struct at_place {
    uint32_t pack;
    uint32_t stored;
    uint32_t plain;
    uint8_t kind;
    uint8_t codec;
    uint64_t offset; /* of the record header */
};

enum at_pack_state {
    AT_PACK_LIVE = 0,
    AT_PACK_REMOVING = 1, /* nothing refers to it: the file is to be removed */
};
struct at_pack_meta {
    uint32_t id;
    uint8_t uuid[16];
    uint64_t indexed; /* bytes of the file that the index knows */
    uint32_t state;
};

struct at_index_stats {
    uint64_t objects; /* of all kinds */
    uint64_t chunks;
    uint64_t plain_bytes; /* of chunks */
    uint64_t next_pack;
};

struct at_index;

/* Opens @dir.  A writer makes what is missing.  NOT_FOUND for a reader when it is not there. */
struct at_index *at_index_open(const char *dir, bool writer, gid_t gid, GError **error);
void at_index_close(struct at_index *index);

/* Whether something was met that cannot be true: rows that are malformed, pages that LMDB refuses.
 * It stays so until the index was built again. */
bool at_index_suspect(struct at_index *index);
void at_index_set_suspect(struct at_index *index);

/* A writer that meets such a thing, or dies of it, makes this file beside the directory. */
#define AT_INDEX_SUSPECT "index.suspect"
/* A reader that is opened from now on adds its line to @path instead (index-guard.h).
 */
void at_index_report_to(const char *path);

/* For readers: opens again when the files were replaced (reindex); true in *ret_changed then. */
bool at_index_refresh(struct at_index *index, bool *ret_changed, GError **error);

/* *ret_found tells; @ret_place only when found.  Any thread. */
bool at_index_lookup(struct at_index *index, const struct at_digest *digest,
                     struct at_place *ret_place, bool *ret_found, GError **error);
bool at_index_stats(struct at_index *index, struct at_index_stats *ret_stats, GError **error);

struct at_index_row {
    struct at_digest digest;
    struct at_place place;
};
/* Up to @max rows in order of digest behind @after (NULL: from the first), appended to @rows. */
bool at_index_rows(struct at_index *index, const struct at_digest *after, unsigned max,
                   GArray *rows, GError **error);
/* struct at_pack_meta, by id. */
GArray *at_index_packs(struct at_index *index, GError **error);
/* struct at_digest. */
GArray *at_index_quarantined(struct at_index *index, GError **error);

struct at_index_txn;
struct at_index_txn *at_index_begin(struct at_index *index, GError **error);
/* Both consume @txn.  Durable when commit returned true. */
bool at_index_commit(struct at_index_txn *txn, GError **error);
void at_index_abort(struct at_index_txn *txn);

/* In place of an existing row. Whoever calls sees to it that the newest copy counts: gc leaves
 * alone what lies behind the start of a session, and another copy may lie before it. */
bool at_index_put(struct at_index_txn *txn, const struct at_digest *digest,
                  const struct at_place *place, GError **error);
bool at_index_get(struct at_index_txn *txn, const struct at_digest *digest,
                  struct at_place *ret_place, bool *ret_found, GError **error);
bool at_index_delete(struct at_index_txn *txn, const struct at_digest *digest, GError **error);
bool at_index_pack_put(struct at_index_txn *txn, const struct at_pack_meta *meta, GError **error);
bool at_index_pack_delete(struct at_index_txn *txn, uint32_t id, GError **error);
bool at_index_quarantine(struct at_index_txn *txn, const struct at_digest *digest, bool add,
                         GError **error);
