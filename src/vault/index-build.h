/* SPDX-License-Identifier: Apache-2.0 */
/* Building the index from the packs, beside the one that is in use or lost, and putting it in its
 * place. For recover.c and reindexing only. */
#pragma once
#include "vault/vault-internal.h"

struct at_pack_file {
    uint32_t id;
    struct at_pack_header header; /* zero when damaged */
    bool headed;
    uint64_t size;
    bool in_use; /* it may be growing right now: leave its tail alone */
};

struct at_pack_meta *at_find_meta(GArray *metas, uint32_t id); /* NULL: none */

/* Adds what @file has behind @from to the index and cuts a torn tail off; one that has nothing is
 * removed. */
bool at_index_catch_up(struct at_vault *vault, struct at_index_txn *txn, struct at_pack_file *file,
                       uint64_t from, GError **error);
/* Names of packs that a crashed process has made need not be durable yet: before a commit. */
bool at_index_sync_names(struct at_vault *vault, GError **error);

/* From all of @files (struct at_pack_file), with the quarantine @bad (NULL: none), into the place
 * of the index. Whoever has it open opens it again. */
bool at_index_rebuild(struct at_vault *vault, GArray *files, GArray *bad, GError **error);
/* What a rebuild left that was ended. */
bool at_index_remove_old(struct at_vault *vault, GError **error);

/* The file AT_INDEX_SUSPECT. Its removal may be lost in a power cut: the index is built once more.
 */
enum at_index_state { AT_INDEX_GOOD, AT_INDEX_DAMAGED, AT_INDEX_DEADLY /* do not look */ };
enum at_index_state at_index_marked(const struct at_vault *vault);
void at_index_unmark(struct at_vault *vault);
