/* SPDX-License-Identifier: Apache-2.0 */
/* One zstd context of each kind per thread, made when it is first asked for. */
#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_c_literalCompressionMode */
#include "vault/zstd-context.h"

#include <glib.h>

static void free_compressor(gpointer c)
{
    ZSTD_freeCCtx(c);
}
static void free_decompressor(gpointer c)
{
    ZSTD_freeDCtx(c);
}
static GPrivate compressor = G_PRIVATE_INIT(free_compressor);
static GPrivate entropy_coder = G_PRIVATE_INIT(free_compressor);
static GPrivate decompressor = G_PRIVATE_INIT(free_decompressor);

ZSTD_CCtx *at_zstd_compressor(void)
{
    ZSTD_CCtx *ctx = g_private_get(&compressor);
    if (!ctx) {
        ctx = ZSTD_createCCtx();
        g_assert(ctx);
        g_private_set(&compressor, ctx);
    }
    return ctx;
}

ZSTD_CCtx *at_zstd_entropy_coder(void)
{
    ZSTD_CCtx *ctx = g_private_get(&entropy_coder);
    if (ctx)
        return ctx;
    ctx = ZSTD_createCCtx();
    g_assert(ctx);
    /* A very negative level hardly looks for repeats; by itself it would also leave bytes uncoded,
     * which the second parameter forbids.  It is an experimental one: another libzstd may refuse.
     */
    if (ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, -131072)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_literalCompressionMode, ZSTD_ps_enable)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_contentSizeFlag, 0))) {
        ZSTD_freeCCtx(ctx);
        return NULL;
    }
    g_private_set(&entropy_coder, ctx);
    return ctx;
}

ZSTD_DCtx *at_zstd_decompressor(void)
{
    ZSTD_DCtx *ctx = g_private_get(&decompressor);
    if (!ctx) {
        ctx = ZSTD_createDCtx();
        g_assert(ctx);
        g_private_set(&decompressor, ctx);
    }
    return ctx;
}
