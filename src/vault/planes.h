/* SPDX-License-Identifier: Apache-2.0 */
/* The codec for model weights: numbers of 2 or 4 bytes (bf16, fp16, fp32) are split into lanes of
 * bytes, those of the exponents are entropy-coded and those of the mantissas stored as they are.
 * On disk: docs/vault-format.md, section 4. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vault/survey.h"

/* Stores @len bytes (at most AT_CHUNK_MAX, a multiple of 4) into @out as numbers of @width bytes, 2
 * or 4.  Returns the stored length, or 0 when it would be more than @cap. */
size_t at_planes_pack(const uint8_t *plain, size_t len, unsigned width,
                      const struct at_survey *survey, uint8_t *out, size_t cap);

/* Restores exactly @plain_len bytes, at most AT_CHUNK_MAX; false when @stored is not that. */
bool at_planes_unpack(const uint8_t *stored, size_t stored_len, uint8_t *plain, size_t plain_len);
