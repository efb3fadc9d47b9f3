/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the index as bytes: docs/vault-format.md, section 5.  Each has a check over its key and
 * itself; one without it (0) is as an older Atoll wrote it. What is decoded is within the limits of
 * its kind; what it says is not proved by that. */
#pragma once
#include "vault/index.h"

#define AT_PLACE_LEN 24u
#define AT_PACK_META_LEN 32u
#define AT_INDEX_STATS_LEN 48u

void at_place_encode(const struct at_digest *digest, const struct at_place *place,
                     uint8_t out[static AT_PLACE_LEN]);
bool at_place_decode(const struct at_digest *digest, const void *data, size_t len,
                     struct at_place *ret_place);

/* The id is the key: 4 bytes, big-endian, so that packs are listed in order. */
void at_pack_meta_encode(const struct at_pack_meta *meta, uint8_t out[static AT_PACK_META_LEN]);
bool at_pack_meta_decode(const void *key, size_t key_len, const void *data, size_t len,
                         struct at_pack_meta *ret_meta);

void at_index_stats_encode(const struct at_index_stats *stats,
                           uint8_t out[static AT_INDEX_STATS_LEN]);
/* CORRUPT, or INVALID for a newer version. */
bool at_index_stats_decode(const void *data, size_t len, struct at_index_stats *ret_stats,
                           GError **error);
