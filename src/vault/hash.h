/* SPDX-License-Identifier: Apache-2.0 */
/* Names: SHA-256 and the Merkle root of 4 KiB blocks (RFC 6962), plus the cheap block hash that
 * decides where chunks end.  No allocation per call; any thread. */
#pragma once
#include "vault/format.h"

/* SHA-256 of @len bytes. */
void at_hash(const void *data, size_t len, struct at_digest *ret_digest);

/* Name of a chunk: @len is a multiple of AT_BLOCK in [AT_BLOCK, AT_CHUNK_MAX]. */
void at_hash_chunk(const uint8_t *data, size_t len, struct at_digest *ret_digest);

/* The same, and the names of its blocks, len / AT_BLOCK of them. */
void at_hash_chunk_blocks(const uint8_t *data, size_t len, struct at_digest *ret_digest,
                          struct at_digest *ret_blocks);
/* Name of a chunk from those of its @n blocks. */
void at_hash_root(const struct at_digest *blocks, size_t n, struct at_digest *ret_digest);
/* Name of a block inside a chunk. */
void at_hash_block(const uint8_t *block, struct at_digest *ret_digest);

/* Name of an object of any kind. */
void at_hash_object(uint8_t kind, const uint8_t *data, size_t len, struct at_digest *ret_digest);

bool at_block_is_zero(const uint8_t *block);
/* Whether a chunk that has the least length ends with this block. */
bool at_block_ends(const uint8_t *block);
