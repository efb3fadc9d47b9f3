/* SPDX-License-Identifier: Apache-2.0 */
/* Before anything is freed: whether the index can be what the roots say. Whatever it has lost would
 * be taken for garbage in its pack. */
#include "vault/gc-internal.h"

bool at_gc_index_trusted(struct at_vault *vault, GError **error)
{
    return !at_vault_index_suspect(vault) ||
           at_error(error, AT_ERROR_CORRUPT,
                    "the index is damaged, gc frees nothing; run `vault reindex`");
}

static bool expect_row(const struct at_digest *digest, uint8_t kind, void *user, GError **error)
{
    struct at_vault *vault = user;
    struct at_place place;
    bool found;
    if (!at_object_place(vault, digest, &place, &found, error))
        return false;
    if (!found)
        at_index_set_suspect(vault->index);
    return found || at_gc_index_trusted(vault, error);
}

/* As a verify does it, but nothing goes into the quarantine: the pack may well have it. */
static bool look_for_rows(struct at_vault *vault, GCancellable *cancellable, GError **error)
{
    struct at_walk walk = {
        .vault = vault, .cancellable = cancellable, .visit = expect_row, .user = vault};
    g_autoptr(GPtrArray) roots = at_vault_root_list(vault, NULL, error);
    if (!roots)
        return false;
    walk.nodes = at_digest_set_new(16);
    bool ok = true;
    for (unsigned i = 0; ok && i < roots->len; i++) {
        const struct at_root *root = g_ptr_array_index(roots, i);
        ok = at_walk_root(&walk, root->kind, &root->digest, error);
    }
    at_digest_set_free(walk.nodes);
    return ok;
}

bool at_gc_index_whole(struct at_vault *vault, size_t rows, const struct at_digest_set *marked,
                       GCancellable *cancellable, GError **error)
{
    if (!at_gc_index_trusted(vault, error))
        return false;
    /* What is not in the packs either is lost: that is no reason to keep the rest. */
    if (rows >= at_digest_set_count(marked) || vault->built)
        return true;
    return look_for_rows(vault, cancellable, error);
}

bool at_gc_has_other(struct at_vault *vault, const struct at_digest *digest,
                     const struct at_place *place, bool *ret_has, GError **error)
{
    g_autofree uint8_t *raw = NULL;
    struct at_record record;
    *ret_has = false;
    if (place) {
        raw = g_malloc(AT_RECORD_HEADER + (size_t)place->stored);
        enum at_pack_read read = at_packs_read(vault->packs, place->pack, place->offset, digest,
                                               place->stored, raw, &record, NULL);
        *ret_has = read == AT_PACK_READ_OK;
        if (read == AT_PACK_READ_OK || read == AT_PACK_READ_ERROR)
            return true;
    }
    at_index_set_suspect(vault->index);
    return at_gc_index_trusted(vault, error);
}
