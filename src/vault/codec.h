/* SPDX-License-Identifier: Apache-2.0 */
/* Codecs: how plain bytes are stored.  The codec byte of a record says which. */
#pragma once
#include "vault/format.h"

/* Stores @len plain bytes into @out (at least @len bytes).  Returns the stored length, always
 * less than @len, and the codec; or 0 when the bytes are to be stored as they are. */
size_t at_codec_pack(uint8_t kind, const uint8_t *plain, size_t len, uint8_t *out,
                     uint8_t *ret_codec);

/* Restores exactly @plain_len bytes.  CORRUPT when they are not that, INVALID for a codec that
 * this version does not know. */
bool at_codec_unpack(uint8_t codec, const uint8_t *stored, size_t stored_len, uint8_t *plain,
                     size_t plain_len, GError **error);
