/* SPDX-License-Identifier: Apache-2.0 */
/* zstd's contexts, one of each per thread; they live as long as the thread. */
#pragma once
#include <zstd.h>

ZSTD_CCtx *at_zstd_compressor(void);
/* Finds no repeats, only codes bytes by how frequent they are.  NULL when this libzstd cannot. */
ZSTD_CCtx *at_zstd_entropy_coder(void);
ZSTD_DCtx *at_zstd_decompressor(void);
