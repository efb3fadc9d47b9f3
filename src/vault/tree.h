/* SPDX-License-Identifier: Apache-2.0 */
/* Trees: a disk as one 32-byte root. Reading proves every byte; writing gives a new root. */
#pragma once
#include "vault/vault.h"

/* ---- Reading ---- */
struct at_tree;

/* Opens the disk named by @root. NOT_FOUND, CORRUPT, IO. Thread-safe after opening. */
struct at_tree *at_tree_open(struct at_vault *vault, const struct at_digest *root, GError **error);
void at_tree_close(struct at_tree *tree);
uint64_t at_tree_size(const struct at_tree *tree); /* bytes */

/* Reads [offset, offset+len) which must lie inside. Every byte is proved by hash before it is
 * handed out; on CORRUPT or IO @buf holds rubbish. */
bool at_tree_read(struct at_tree *tree, void *buf, uint64_t offset, size_t len, GError **error);

/* Calls @func for consecutive ranges covering [offset, offset+len): data or hole. */
typedef bool (*at_tree_extent_func)(uint64_t offset, uint64_t len, bool hole, void *user,
                                    GError **error);
bool at_tree_extents(struct at_tree *tree, uint64_t offset, uint64_t len, at_tree_extent_func func,
                     void *user, GError **error);

/* ---- Writing ---- */
struct at_tree_writer;
struct at_tree_stats {
    uint64_t changed_bytes; /* bytes given to the writer as data or zeros */
    uint64_t new_bytes;     /* plain bytes of chunks that the vault did not have */
    uint64_t stored_bytes;  /* what they and the tree nodes take in packs */
};

/* A new disk of @size bytes that is @base (may be NULL: all zeros) with changes. @base may have
 * another size (grown with zeros, or cut). The result equals a full ingest of the same bytes. */
struct at_tree_writer *at_tree_writer_new(struct at_vault_session *session,
                                          const struct at_digest *base, uint64_t size,
                                          GError **error);
/* Ascending, non-overlapping ranges. Any alignment; 4 KiB-aligned ones are cheap. */
bool at_tree_writer_data(struct at_tree_writer *w, uint64_t offset, const void *buf, size_t len,
                         GError **error);
bool at_tree_writer_zero(struct at_tree_writer *w, uint64_t offset, uint64_t len, GError **error);
/* Packs and index are durable on return, so a root may name @ret_root. The writer is used up
 * (free it still). Stats may be NULL. */
bool at_tree_writer_finish(struct at_tree_writer *w, struct at_digest *ret_root,
                           struct at_tree_stats *ret_stats, GError **error);
void at_tree_writer_free(struct at_tree_writer *w); /* unfinished: its chunks are garbage for gc */

/* Fast path for a raw file or block device: everything readable from @fd (size given), holes by
 * SEEK_DATA, pipeline on all cores. @progress is called from any thread with bytes done so far. */
typedef void (*at_progress_func)(uint64_t bytes_done, uint64_t bytes_total, void *user);
bool at_tree_ingest_fd(struct at_vault_session *session, int fd, uint64_t size,
                       at_progress_func progress, void *user, GCancellable *cancellable,
                       struct at_digest *ret_root, struct at_tree_stats *ret_stats, GError **error);

/* Writes the disk into @fd, leaving holes; the reverse of at_tree_ingest_fd. Not synced. */
bool at_tree_export_fd(struct at_tree *tree, int fd, at_progress_func progress, void *user,
                       GCancellable *cancellable, GError **error);

/* ---- Comparing: descends only where the two differ. Calls @func for ranges that differ. ---- */
typedef bool (*at_tree_diff_func)(uint64_t offset, uint64_t len, void *user, GError **error);
bool at_tree_diff(struct at_vault *vault, const struct at_digest *a, const struct at_digest *b,
                  at_tree_diff_func func, void *user, GError **error);
