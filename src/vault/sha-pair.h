/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) of two messages of one length at once, by the SHA instructions of x86. Each
 * step of one hash waits for the step before; two hashes side by side keep the unit busy, which is
 * nearly twice as fast as one after the other. Any thread; no allocation. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether this CPU can; otherwise at_sha_pair() must not be called. */
bool at_sha_pair_usable(void);

/* Hashes @prefix and @len bytes of each, @len >= 63. */
void at_sha_pair(uint8_t prefix, const uint8_t *a, const uint8_t *b, size_t len,
                 uint8_t ret_a[static 32], uint8_t ret_b[static 32]);
