/* SPDX-License-Identifier: Apache-2.0 */
/* What the vault's files look like: limits, records and pack headers (docs/vault-format.md).
 * All numbers are little-endian. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"

#define AT_BLOCK 4096u          /* what chunks are made of, and what is proved alone */
#define AT_CHUNK_MIN_BLOCKS 4u  /* a chunk ends by content only from here on */
#define AT_CHUNK_MAX_BLOCKS 64u /* and always here */
#define AT_CHUNK_MAX (AT_CHUNK_MAX_BLOCKS * AT_BLOCK)
#define AT_CHUNK_ODDS 13u /* one block in so many ends a chunk */
#define AT_BLOB_MAX (64u << 20)
#define AT_DISK_MAX (UINT64_C(1) << 56)

#define AT_VAULT_FORMAT 2u /* the `format` file and the pack header */
#define AT_INDEX_FORMAT 1u
#define AT_RECORD_VERSION 1u
#define AT_RECORD_HEADER 64u
#define AT_RECORD_ALIGN 8u
#define AT_PACK_HEADER 64u
#define AT_PACK_SIZE (UINT64_C(256) << 20) /* a pack that has reached this gets a successor */

enum at_kind {
    AT_KIND_CHUNK = 1, /* name: Merkle root of its blocks */
    AT_KIND_NODE = 2,  /* bytes begin with 0x02; name: SHA-256 of them */
    AT_KIND_DISK = 3,  /* bytes begin with 0x03; name: SHA-256 of them */
    AT_KIND_BLOB = 4,  /* bytes begin with 0x20 or more; name: SHA-256 of them */
};

enum at_codec {
    AT_CODEC_NONE = 0,
    AT_CODEC_ZSTD = 1,
    AT_CODEC_PLANES = 2, /* since format 2 */
};

struct at_record {
    uint8_t kind;  /* enum at_kind */
    uint8_t codec; /* enum at_codec */
    uint32_t plain;
    uint32_t stored;
    uint32_t key_id; /* 0: not encrypted */
    uint32_t check;  /* at_check() of the stored bytes */
    struct at_digest digest;
};

/* Bytes that a record with @stored bytes of payload takes in a pack, padding included. */
static inline uint64_t at_record_size(uint32_t stored)
{
    return (AT_RECORD_HEADER + (uint64_t)stored + AT_RECORD_ALIGN - 1) &
           ~(uint64_t)(AT_RECORD_ALIGN - 1);
}

void at_record_encode(const struct at_record *record, uint8_t header[static AT_RECORD_HEADER]);

/* False when this is not a whole, known record header; then @ret_record is untouched.  Sizes that
 * pass are within the limits of their kind. */
bool at_record_decode(const uint8_t header[static AT_RECORD_HEADER], struct at_record *ret_record);

/* Largest plain size of a kind; 0 for an unknown kind. */
uint32_t at_kind_max(uint8_t kind);
const char *at_kind_name(uint8_t kind);

struct at_pack_header {
    uint32_t version;
    uint32_t id;
    uint8_t uuid[16];
};
void at_pack_header_encode(const struct at_pack_header *pack, uint8_t out[static AT_PACK_HEADER]);
/* INVALID for a newer version, CORRUPT for anything else that is not a pack header. */
bool at_pack_header_decode(const uint8_t in[static AT_PACK_HEADER], struct at_pack_header *ret_pack,
                           GError **error);

/* Low 32 bits of XXH3-64: finds tears and flips, proves nothing. */
uint32_t at_check(const void *data, size_t len);

static inline void at_put_le16(uint8_t *p, uint16_t v)
{
    v = GUINT16_TO_LE(v);
    __builtin_memcpy(p, &v, sizeof v);
}
static inline uint16_t at_get_le16(const uint8_t *p)
{
    uint16_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return GUINT16_FROM_LE(v);
}
static inline void at_put_le32(uint8_t *p, uint32_t v)
{
    v = GUINT32_TO_LE(v);
    __builtin_memcpy(p, &v, sizeof v);
}
static inline void at_put_le64(uint8_t *p, uint64_t v)
{
    v = GUINT64_TO_LE(v);
    __builtin_memcpy(p, &v, sizeof v);
}
static inline uint32_t at_get_le32(const uint8_t *p)
{
    uint32_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return GUINT32_FROM_LE(v);
}
static inline uint64_t at_get_le64(const uint8_t *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return GUINT64_FROM_LE(v);
}
