/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the index to and from bytes; nothing is believed before it was checked. */
#include "vault/index-row.h"

#include <string.h>

#include "base/error.h"

void at_place_encode(const struct at_place *place, uint8_t out[static AT_PLACE_LEN])
{
    memset(out, 0, AT_PLACE_LEN);
    at_put_le32(out, place->pack);
    at_put_le32(out + 4, place->stored);
    at_put_le32(out + 8, place->plain);
    out[12] = place->kind;
    out[13] = place->codec;
    at_put_le64(out + 16, place->offset);
}

bool at_place_decode(const void *data, size_t len, struct at_place *ret_place)
{
    const uint8_t *p = data;
    if (len != AT_PLACE_LEN)
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
}

bool at_pack_meta_decode(const void *key, size_t key_len, const void *data, size_t len,
                         struct at_pack_meta *ret_meta)
{
    const uint8_t *p = data;
    uint32_t id;
    if (key_len != sizeof id || len != AT_PACK_META_LEN)
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
}

bool at_index_stats_decode(const void *data, size_t len, struct at_index_stats *ret_stats,
                           GError **error)
{
    const uint8_t *p = data;
    if (len != AT_INDEX_STATS_LEN)
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
