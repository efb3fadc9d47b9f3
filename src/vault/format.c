/* SPDX-License-Identifier: Apache-2.0 */
/* Record and pack headers to and from bytes; nothing is believed before it was checked. */
#include "vault/format.h"

#include <string.h>
#include <xxhash.h>

#include "base/error.h"
#include "vault/node.h"

static const char record_magic[4] = {'A', 't', 'R', 'c'};
static const char pack_magic[8] = {'A', 't', 'o', 'l', 'P', 'a', 'c', 'k'};

uint32_t at_check(const void *data, size_t len)
{
    return (uint32_t)XXH3_64bits(data, len);
}

uint32_t at_kind_max(uint8_t kind)
{
    switch (kind) {
    case AT_KIND_CHUNK:
        return AT_CHUNK_MAX;
    case AT_KIND_NODE:
        return AT_NODE_MAX;
    case AT_KIND_DISK:
        return AT_DISK_LEN;
    case AT_KIND_BLOB:
        return AT_BLOB_MAX;
    default:
        return 0;
    }
}

const char *at_kind_name(uint8_t kind)
{
    switch (kind) {
    case AT_KIND_CHUNK:
        return "chunk";
    case AT_KIND_NODE:
        return "tree node";
    case AT_KIND_DISK:
        return "disk";
    case AT_KIND_BLOB:
        return "manifest";
    default:
        return "object";
    }
}

void at_record_encode(const struct at_record *record, uint8_t header[static AT_RECORD_HEADER])
{
    memset(header, 0, AT_RECORD_HEADER);
    memcpy(header, record_magic, sizeof record_magic);
    header[4] = AT_RECORD_VERSION;
    header[5] = record->kind;
    header[6] = record->codec;
    at_put_le32(header + 8, record->plain);
    at_put_le32(header + 12, record->stored);
    at_put_le32(header + 16, record->key_id);
    at_put_le32(header + 20, record->check);
    memcpy(header + 24, record->digest.bytes, AT_DIGEST_LEN);
    at_put_le32(header + 60, at_check(header, 60));
}

bool at_record_decode(const uint8_t header[static AT_RECORD_HEADER], struct at_record *ret_record)
{
    if (memcmp(header, record_magic, sizeof record_magic) != 0 || header[4] != AT_RECORD_VERSION ||
        at_get_le32(header + 60) != at_check(header, 60))
        return false;
    struct at_record r = {
        .kind = header[5],
        .codec = header[6],
        .plain = at_get_le32(header + 8),
        .stored = at_get_le32(header + 12),
        .key_id = at_get_le32(header + 16),
        .check = at_get_le32(header + 20),
    };
    memcpy(r.digest.bytes, header + 24, AT_DIGEST_LEN);
    if (r.plain == 0 || r.plain > at_kind_max(r.kind) || r.stored == 0 || r.stored > r.plain)
        return false;
    if (r.kind == AT_KIND_CHUNK && r.plain % AT_BLOCK != 0)
        return false;
    if (r.codec == AT_CODEC_NONE && r.stored != r.plain)
        return false;
    *ret_record = r;
    return true;
}

void at_pack_header_encode(const struct at_pack_header *pack, uint8_t out[static AT_PACK_HEADER])
{
    memset(out, 0, AT_PACK_HEADER);
    memcpy(out, pack_magic, sizeof pack_magic);
    at_put_le32(out + 8, pack->version);
    at_put_le32(out + 12, pack->id);
    memcpy(out + 16, pack->uuid, sizeof pack->uuid);
    at_put_le32(out + 60, at_check(out, 60));
}

bool at_pack_header_decode(const uint8_t in[static AT_PACK_HEADER], struct at_pack_header *ret_pack,
                           GError **error)
{
    if (memcmp(in, pack_magic, sizeof pack_magic) != 0 || at_get_le32(in + 60) != at_check(in, 60))
        return at_error(error, AT_ERROR_CORRUPT, "damaged pack header");
    struct at_pack_header pack = {.version = at_get_le32(in + 8), .id = at_get_le32(in + 12)};
    memcpy(pack.uuid, in + 16, sizeof pack.uuid);
    if (pack.version > AT_VAULT_FORMAT)
        return at_error(error, AT_ERROR_INVALID,
                        "pack format %u is newer than this Atoll, which reads up to %u; upgrade it",
                        pack.version, AT_VAULT_FORMAT);
    *ret_pack = pack;
    return true;
}
