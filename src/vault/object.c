/* SPDX-License-Identifier: Apache-2.0 */
/* Reading objects: look up, read, decode, prove.  When gc has moved a record between looking up
 * and reading, the look-up is repeated. */
#include <string.h>

#include "base/error.h"
#include "vault/codec.h"
#include "vault/hash.h"
#include "vault/node.h"
#include "vault/vault-internal.h"

#define TRIES 8

bool at_object_place(struct at_vault *vault, const struct at_digest *digest,
                     struct at_place *ret_place, bool *ret_found, GError **error)
{
    if (vault->store) {
        if (!at_store_peek(vault->store, digest, ret_place, ret_found, error))
            return false;
        if (*ret_found)
            return true;
    }
    return at_index_lookup(vault->index, digest, ret_place, ret_found, error);
}

static bool corrupt(const struct at_digest *digest, uint8_t kind, const char *why, GError **error)
{
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(digest, hex);
    return at_error(error, AT_ERROR_CORRUPT, "%s %s %s", at_kind_name(kind), hex, why);
}

struct at_buf *at_object_prove(const struct at_record *record, const uint8_t *payload,
                               GError **error)
{
    const struct at_digest *digest = &record->digest;
    g_autoptr(at_buf_auto) buf = at_buf_new(record->plain);
    struct at_digest actual;
    g_autoptr(GError) local = NULL;
    if (record->key_id != 0) {
        char hex[AT_DIGEST_HEX + 1];
        at_digest_to_hex(digest, hex);
        at_error(error, AT_ERROR_INVALID, "%s %s is encrypted, which this Atoll cannot read",
                 at_kind_name(record->kind), hex);
        return NULL;
    }
    if (!at_codec_unpack(record->codec, payload, record->stored, buf->data, record->plain,
                         &local)) {
        if (local->code == AT_ERROR_CORRUPT)
            corrupt(digest, record->kind, local->message, error);
        else
            g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    at_hash_object(record->kind, buf->data, buf->len, &actual);
    if (!at_digest_equal(&actual, digest)) {
        corrupt(digest, record->kind, "does not hash to its name", error);
        return NULL;
    }
    return g_steal_pointer(&buf);
}

struct at_buf *at_object_read(struct at_vault *vault, const struct at_digest *digest, uint8_t kind,
                              GError **error)
{
    static GPrivate scratch_key = G_PRIVATE_INIT(g_free);
    struct at_place last = {0};
    g_autoptr(GError) proof = NULL; /* what was wrong with the bytes at `last` */
    bool refreshed = false;
    for (int i = 0; i < TRIES; i++) {
        struct at_place place;
        bool found;
        if (!at_object_place(vault, digest, &place, &found, error))
            return NULL;
        bool same = found && last.pack == place.pack && last.offset == place.offset;
        if ((!found || same) && !refreshed) {
            refreshed = true; /* a reader may look at an index that was replaced */
            if (!vault->writer && !at_index_refresh(vault->index, &refreshed, error))
                return NULL;
            if (refreshed) {
                last = (struct at_place){0};
                continue;
            }
            refreshed = true;
        }
        if (!found) {
            char hex[AT_DIGEST_HEX + 1];
            at_digest_to_hex(digest, hex);
            at_error(error, AT_ERROR_NOT_FOUND, "%s %s is not in the vault", at_kind_name(kind),
                     hex);
            return NULL;
        }
        if (same) {
            if (!proof)
                corrupt(digest, kind, "is damaged or missing in its pack", &proof);
            if (proof->code == AT_ERROR_CORRUPT)
                at_vault_found_damage(vault, digest);
            g_propagate_error(error, g_steal_pointer(&proof));
            return NULL;
        }
        if (place.kind != kind) {
            corrupt(digest, kind, "is of another kind", error);
            return NULL;
        }
        last = place;
        size_t need = AT_RECORD_HEADER + (size_t)place.stored;
        g_autofree uint8_t *large = NULL;
        uint8_t *raw = NULL;
        if (need > AT_RECORD_HEADER + AT_CHUNK_MAX) {
            raw = large = g_malloc(need);
        } else if (!(raw = g_private_get(&scratch_key))) {
            raw = g_malloc(AT_RECORD_HEADER + AT_CHUNK_MAX);
            g_private_set(&scratch_key, raw);
        }
        struct at_record record;
        switch (at_packs_read(vault->packs, place.pack, place.offset, digest, place.stored, raw,
                              &record, error)) {
        case AT_PACK_READ_BAD:
            at_vault_found_damage(vault, digest);
            return NULL;
        case AT_PACK_READ_ERROR:
            return NULL;
        case AT_PACK_READ_MOVED:
            continue;
        case AT_PACK_READ_OK:
            break;
        }
        g_clear_error(&proof);
        if (record.kind != kind) {
            corrupt(digest, kind, "is of another kind", &proof);
            continue;
        }
        struct at_buf *buf = at_object_prove(&record, raw + AT_RECORD_HEADER, &proof);
        if (buf)
            return buf;
    }
    corrupt(digest, kind, "is moved again and again", error);
    return NULL;
}

struct at_buf *at_chunk_get(struct at_vault *vault, const struct at_digest *digest, size_t len,
                            GError **error)
{
    struct at_buf *buf = at_cache_begin(vault->chunks, digest);
    if (!buf) {
        buf = at_object_read(vault, digest, AT_KIND_CHUNK, error);
        at_cache_fill(vault->chunks, digest, buf);
    }
    if (buf && buf->len != len) {
        corrupt(digest, AT_KIND_CHUNK, "is not as long as its tree says", error);
        g_clear_pointer(&buf, at_buf_unref);
    }
    return buf;
}

struct at_buf *at_node_get(struct at_vault *vault, const struct at_digest *digest, unsigned level,
                           const struct at_entry *parent, GError **error)
{
    struct at_buf *buf = at_cache_begin(vault->nodes, digest);
    if (!buf) {
        buf = at_object_read(vault, digest, AT_KIND_NODE, error);
        at_cache_fill(vault->nodes, digest, buf);
    }
    if (buf && !at_node_valid(buf->data, buf->len, level, parent, error)) {
        char hex[AT_DIGEST_HEX + 1];
        at_digest_to_hex(digest, hex);
        g_prefix_error(error, "tree node %s: ", hex);
        g_clear_pointer(&buf, at_buf_unref);
    }
    return buf;
}
