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

/* Plain bytes, record->plain of them, not proved yet. */
static bool decode_into(const struct at_record *record, const uint8_t *payload, uint8_t *out,
                        GError **error)
{
    const struct at_digest *digest = &record->digest;
    g_autoptr(GError) local = NULL;
    if (record->key_id != 0) {
        char hex[AT_DIGEST_HEX + 1];
        at_digest_to_hex(digest, hex);
        return at_error(error, AT_ERROR_INVALID, "%s %s is encrypted, which this Atoll cannot read",
                        at_kind_name(record->kind), hex);
    }
    if (at_codec_unpack(record->codec, payload, record->stored, out, record->plain, &local))
        return true;
    if (local->code == AT_ERROR_CORRUPT)
        return corrupt(digest, record->kind, local->message, error);
    g_autofree char *name = at_digest_dup_hex(digest);
    g_propagate_prefixed_error(error, g_steal_pointer(&local),
                               "%s %s: ", at_kind_name(record->kind), name);
    return false;
}

/* The first byte of what is hashed says what it is (docs/vault-format.md, section 1): without this
 * a blob could be made of a chunk's two halves, and have the chunk's name. */
static bool is_of_kind(uint8_t kind, const uint8_t *data, size_t len)
{
    switch (kind) {
    case AT_KIND_CHUNK:
        return true; /* the byte is put in front of each block */
    case AT_KIND_NODE:
        return len > 0 && data[0] == 0x02;
    case AT_KIND_DISK:
        return len > 0 && data[0] == 0x03;
    default:
        return len > 0 && data[0] >= 0x20;
    }
}

/* @ret_blocks: of a chunk also the names of its blocks; or NULL. */
static struct at_buf *prove(const struct at_record *record, const uint8_t *payload,
                            struct at_digest *ret_blocks, GError **error)
{
    g_autoptr(at_buf_auto) buf = at_buf_new(record->plain);
    struct at_digest actual;
    if (!decode_into(record, payload, buf->data, error))
        return NULL;
    if (!is_of_kind(record->kind, buf->data, buf->len)) {
        corrupt(&record->digest, record->kind, "is of another kind", error);
        return NULL;
    }
    if (ret_blocks && record->kind == AT_KIND_CHUNK)
        at_hash_chunk_blocks(buf->data, buf->len, &actual, ret_blocks);
    else
        at_hash_object(record->kind, buf->data, buf->len, &actual);
    if (!at_digest_equal(&actual, &record->digest)) {
        corrupt(&record->digest, record->kind, "does not hash to its name", error);
        return NULL;
    }
    return g_steal_pointer(&buf);
}

struct at_buf *at_object_prove(const struct at_record *record, const uint8_t *payload,
                               GError **error)
{
    return prove(record, payload, NULL, error);
}

/* Room for one record; *ret_large is what the caller has to free. */
static uint8_t *room(size_t need, uint8_t **ret_large)
{
    static GPrivate key = G_PRIVATE_INIT(g_free);
    *ret_large = NULL;
    if (need > AT_RECORD_HEADER + AT_CHUNK_MAX)
        return *ret_large = g_malloc(need);
    uint8_t *raw = g_private_get(&key);
    if (!raw) {
        raw = g_malloc(AT_RECORD_HEADER + AT_CHUNK_MAX);
        g_private_set(&key, raw);
    }
    return raw;
}

/* Finds and reads a record; @ret_large as in room(). */
static const uint8_t *fetch(struct at_vault *vault, const struct at_digest *digest, uint8_t kind,
                            struct at_record *ret_record, uint8_t **ret_large)
{
    struct at_place place;
    bool found;
    *ret_large = NULL;
    if (!at_object_place(vault, digest, &place, &found, NULL) || !found || place.kind != kind)
        return NULL;
    uint8_t *raw = room(AT_RECORD_HEADER + (size_t)place.stored, ret_large);
    if (at_packs_read(vault->packs, place.pack, place.offset, digest, place.stored, raw, ret_record,
                      NULL) != AT_PACK_READ_OK ||
        ret_record->kind != kind)
        return NULL;
    return raw + AT_RECORD_HEADER;
}

struct at_buf *at_object_decode(struct at_vault *vault, const struct at_digest *digest,
                                uint8_t kind)
{
    struct at_record record;
    g_autofree uint8_t *large = NULL;
    const uint8_t *payload = fetch(vault, digest, kind, &record, &large);
    if (!payload)
        return NULL;
    g_autoptr(at_buf_auto) buf = at_buf_new(record.plain);
    return decode_into(&record, payload, buf->data, NULL) ? g_steal_pointer(&buf) : NULL;
}

size_t at_object_decode_into(struct at_vault *vault, const struct at_digest *digest, uint8_t kind,
                             uint8_t *out, size_t cap)
{
    struct at_record record;
    g_autofree uint8_t *large = NULL;
    const uint8_t *payload = fetch(vault, digest, kind, &record, &large);
    bool ok = payload && record.plain <= cap && decode_into(&record, payload, out, NULL);
    return ok ? record.plain : 0;
}

struct at_buf *at_object_read(struct at_vault *vault, const struct at_digest *digest, uint8_t kind,
                              GError **error)
{
    return at_object_read_blocks(vault, digest, kind, NULL, error);
}

struct at_buf *at_object_read_blocks(struct at_vault *vault, const struct at_digest *digest,
                                     uint8_t kind, struct at_digest *ret_blocks, GError **error)
{
    struct at_place last = {0};
    g_autoptr(GError) proof = NULL; /* what was wrong with the bytes at `last` */
    bool refreshed = false;
    for (int i = 0; i < TRIES; i++) {
        struct at_place place;
        bool found = false;
        g_autoptr(GError) odd = NULL;
        if (!at_object_place(vault, digest, &place, &found, &odd)) {
            bool changed = false;
            if (refreshed || vault->writer || odd->code != AT_ERROR_CORRUPT ||
                !at_index_refresh(vault->index, &changed, NULL) || !changed) {
                g_propagate_error(error, g_steal_pointer(&odd));
                return NULL;
            }
            refreshed = true; /* a damaged index has been built again */
            continue;
        }
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
            if (!proof) {
                corrupt(digest, kind, "is damaged or missing in its pack", &proof);
                /* Or the index names an old place, and the packs have it elsewhere. */
                if (!vault->built)
                    at_index_set_suspect(vault->index);
            }
            if (proof->code == AT_ERROR_CORRUPT)
                at_vault_found_damage(vault, digest);
            /* The file may be put back from a copy: the next read opens what is there then. */
            at_packs_forget(vault->packs, place.pack);
            g_propagate_error(error, g_steal_pointer(&proof));
            return NULL;
        }
        if (place.kind != kind) {
            corrupt(digest, kind, "is of another kind", error);
            return NULL;
        }
        last = place;
        g_autofree uint8_t *large = NULL;
        uint8_t *raw = room(AT_RECORD_HEADER + (size_t)place.stored, &large);
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
        struct at_buf *buf = prove(&record, raw + AT_RECORD_HEADER, ret_blocks, &proof);
        if (buf)
            return buf;
    }
    corrupt(digest, kind, "is moved again and again", error);
    return NULL;
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
