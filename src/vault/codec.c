/* SPDX-License-Identifier: Apache-2.0 */
/* Codecs: none and zstd, with one context per thread. */
#include "vault/codec.h"

#include <string.h>
#include <zstd.h>

#include "base/error.h"

#define LEVEL 3

static void free_cctx(gpointer c)
{
    ZSTD_freeCCtx(c);
}
static void free_dctx(gpointer c)
{
    ZSTD_freeDCtx(c);
}
static GPrivate cctx_key = G_PRIVATE_INIT(free_cctx);
static GPrivate dctx_key = G_PRIVATE_INIT(free_dctx);

size_t at_codec_pack(uint8_t kind, const uint8_t *plain, size_t len, uint8_t *out,
                     uint8_t *ret_codec)
{
    (void)kind;
    ZSTD_CCtx *ctx = g_private_get(&cctx_key);
    if (!ctx) {
        ctx = ZSTD_createCCtx();
        g_assert(ctx);
        g_private_set(&cctx_key, ctx);
    }
    /* Less than 1/32 gained is not worth the work of every later read. */
    size_t cap = len - len / 32 - 1;
    size_t n = len < 64 ? 0 : ZSTD_compressCCtx(ctx, out, cap, plain, len, LEVEL);
    if (n == 0 || ZSTD_isError(n))
        return 0;
    *ret_codec = AT_CODEC_ZSTD;
    return n;
}

bool at_codec_unpack(uint8_t codec, const uint8_t *stored, size_t stored_len, uint8_t *plain,
                     size_t plain_len, GError **error)
{
    if (codec == AT_CODEC_NONE) {
        if (stored_len != plain_len)
            return at_error(error, AT_ERROR_CORRUPT, "stored length differs from plain length");
        memcpy(plain, stored, plain_len);
        return true;
    }
    if (codec != AT_CODEC_ZSTD)
        return at_error(error, AT_ERROR_INVALID, "codec %u is newer than this Atoll", codec);
    ZSTD_DCtx *ctx = g_private_get(&dctx_key);
    if (!ctx) {
        ctx = ZSTD_createDCtx();
        g_assert(ctx);
        g_private_set(&dctx_key, ctx);
    }
    size_t n = ZSTD_decompressDCtx(ctx, plain, plain_len, stored, stored_len);
    if (ZSTD_isError(n) || n != plain_len)
        return at_error(error, AT_ERROR_CORRUPT, "does not decompress");
    return true;
}
