/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the index to and from bytes; nothing is believed before it was checked. */
#include "vault/index-row.h"

#include <string.h>
#include <xxhash.h>

#include "base/error.h"

enum { PLACE_CHECK = 14, PACK_CHECK = 28, STATS_CHECK = 4 }; /* where the check of a row lies */

/* Never 0, which says that there is no check. @at: of the check in @row, taken for zeros. */
static uint32_t check_of(const void *key, size_t key_len, const uint8_t *row, size_t len, size_t at,
                         size_t check_len)
{
    uint8_t bytes[AT_DIGEST_LEN + AT_INDEX_STATS_LEN];
    memcpy(bytes, key, key_len);
    memcpy(bytes + key_len, row, len);
    memset(bytes + key_len + at, 0, check_len);
    uint64_t hash = XXH3_64bits(bytes, key_len + len);
    uint32_t check = check_len == 2 ? (uint16_t)hash : (uint32_t)hash;
    return check ? check : 1;
}

void at_place_encode(const struct at_digest *digest, const struct at_place *place,
                     uint8_t out[static AT_PLACE_LEN])
{
    memset(out, 0, AT_PLACE_LEN);
    at_put_le32(out, place->pack);
    at_put_le32(out + 4, place->stored);
    at_put_le32(out + 8, place->plain);
    out[12] = place->kind;
    out[13] = place->codec;
    at_put_le64(out + 16, place->offset);
    at_put_le16(out + PLACE_CHECK,
                (uint16_t)check_of(digest, AT_DIGEST_LEN, out, AT_PLACE_LEN, PLACE_CHECK, 2));
}

bool at_place_decode(const struct at_digest *digest, const void *data, size_t len,
                     struct at_place *ret_place)
{
    const uint8_t *p = data;
    if (len != AT_PLACE_LEN)
        return false;
    uint32_t check = at_get_le16(p + PLACE_CHECK);
    if (check && check != check_of(digest, AT_DIGEST_LEN, p, AT_PLACE_LEN, PLACE_CHECK, 2))
        return false;
    struct at_place place = {
        .pack = at_get_le32(p),
        .stored = at_get_le32(p + 4),
        .plain = at_get_le32(p + 8),
        .kind = p[12],
        .codec = p[13],
        .offset = at_get_le64(p + 16),
    };
    if (place.plain == 0 || place.plain > at_kind_max(place.kind) || place.stored == 0 ||
        place.stored > place.plain)
        return false;
    /* A place in a file: it and the end of the record are offsets that a read can be asked for. */
    if (place.pack == 0 || place.offset < AT_PACK_HEADER || place.offset % AT_RECORD_ALIGN != 0 ||
        place.offset > (uint64_t)INT64_MAX - at_record_size(place.stored))
        return false;
    *ret_place = place;
    return true;
}

void at_pack_meta_encode(const struct at_pack_meta *meta, uint8_t out[static AT_PACK_META_LEN])
{
    memset(out, 0, AT_PACK_META_LEN);
    memcpy(out, meta->uuid, sizeof meta->uuid);
    at_put_le64(out + 16, meta->indexed);
    at_put_le32(out + 24, meta->state);
    uint32_t id = GUINT32_TO_BE(meta->id);
    at_put_le32(out + PACK_CHECK, check_of(&id, sizeof id, out, AT_PACK_META_LEN, PACK_CHECK, 4));
}

bool at_pack_meta_decode(const void *key, size_t key_len, const void *data, size_t len,
                         struct at_pack_meta *ret_meta)
{
    const uint8_t *p = data;
    uint32_t id;
    if (key_len != sizeof id || len != AT_PACK_META_LEN)
        return false;
    uint32_t check = at_get_le32(p + PACK_CHECK);
    if (check && check != check_of(key, key_len, p, AT_PACK_META_LEN, PACK_CHECK, 4))
        return false;
    memcpy(&id, key, sizeof id);
    struct at_pack_meta meta = {
        .id = GUINT32_FROM_BE(id),
        .indexed = at_get_le64(p + 16),
        .state = at_get_le32(p + 24),
    };
    memcpy(meta.uuid, p, sizeof meta.uuid);
    *ret_meta = meta;
    return true;
}

void at_index_stats_encode(const struct at_index_stats *stats,
                           uint8_t out[static AT_INDEX_STATS_LEN])
{
    memset(out, 0, AT_INDEX_STATS_LEN);
    at_put_le32(out, AT_INDEX_FORMAT);
    at_put_le64(out + 8, stats->objects);
    at_put_le64(out + 16, stats->chunks);
    at_put_le64(out + 24, stats->plain_bytes);
    at_put_le64(out + 32, stats->next_pack);
    at_put_le32(out + STATS_CHECK, check_of("", 0, out, AT_INDEX_STATS_LEN, STATS_CHECK, 4));
}

bool at_index_stats_decode(const void *data, size_t len, struct at_index_stats *ret_stats,
                           GError **error)
{
    const uint8_t *p = data;
    if (len != AT_INDEX_STATS_LEN)
        return at_error(error, AT_ERROR_CORRUPT, "index: malformed counters");
    /* First: a version that was damaged is no newer one. */
    uint32_t check = at_get_le32(p + STATS_CHECK);
    if (check && check != check_of("", 0, p, AT_INDEX_STATS_LEN, STATS_CHECK, 4))
        return at_error(error, AT_ERROR_CORRUPT, "index: malformed counters");
    if (at_get_le32(p) > AT_INDEX_FORMAT)
        return at_error(error, AT_ERROR_INVALID, "index format %u is newer than this Atoll",
                        at_get_le32(p));
    ret_stats->objects = at_get_le64(p + 8);
    ret_stats->chunks = at_get_le64(p + 16);
    ret_stats->plain_bytes = at_get_le64(p + 24);
    ret_stats->next_pack = at_get_le64(p + 32);
    return true;
}
