/* SPDX-License-Identifier: Apache-2.0 */
/* Hashing many blocks at once: Intel's multi-buffer library does it side by side in vector
 * registers, in half the time that OpenSSL takes one after another.  Without the library, or on a
 * processor that it does not support, OpenSSL does all. */
#pragma once
#include "vault/format.h"

/* Names of @n blocks inside chunks, wherever they lie.  Any thread. */
void at_hash_blocks(const uint8_t *const *blocks, size_t n, struct at_digest *ret_digests);
