/* SPDX-License-Identifier: Apache-2.0 */
/* Two SHA-256 at once with the SHA instructions of x86. */
#include "vault/sha-pair.h"

#include <glib.h>
#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#define LANES 2
#define BLOCK 64u
#define WITH_SHA __attribute__((target("sha,sse4.1,ssse3")))

bool at_sha_pair_usable(void)
{
    static gsize known; /* 1: no, 2: yes */
    if (g_once_init_enter(&known)) {
        unsigned a, b = 0, c = 0, d;
        bool sse = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_1) && (c & bit_SSSE3);
        bool sha = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
        g_once_init_leave(&known, sse && sha ? 2 : 1);
    }
    return known == 2;
}

/* The instructions want the state as (a b e f) and (c d g h). */
WITH_SHA static void load(const uint32_t state[8], __m128i *abef, __m128i *cdgh)
{
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0xb1);
    __m128i high =
        _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 4)), 0x1b);
    *abef = _mm_alignr_epi8(low, high, 8);
    *cdgh = _mm_blend_epi16(high, low, 0xf0);
}

WITH_SHA static void save(uint32_t state[8], __m128i abef, __m128i cdgh)
{
    __m128i low = _mm_shuffle_epi32(abef, 0x1b), high = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(high, low, 8));
}

/* Takes @n blocks of each message into its state. */
WITH_SHA static void compress(uint32_t state[LANES][8], const uint8_t *const in[LANES], size_t n)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i abef[LANES], cdgh[LANES];
    for (int l = 0; l < LANES; l++)
        load(state[l], &abef[l], &cdgh[l]);
    for (size_t at = 0; at < n * BLOCK; at += BLOCK) {
        __m128i w[LANES][4], abef0[LANES], cdgh0[LANES];
        for (int l = 0; l < LANES; l++) {
            abef0[l] = abef[l];
            cdgh0[l] = cdgh[l];
        }
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) { /* four rounds each */
            __m128i k = _mm_loadu_si128((const __m128i *)(const void *)&round_constants[4 * i]);
#pragma GCC unroll 2
            for (int l = 0; l < LANES; l++) {
                __m128i *m = w[l], *now = &w[l][i & 3];
                if (i < 4) {
                    const uint8_t *p = in[l] + at + 16 * i;
                    *now = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)p),
                                            big_endian);
                } else {
                    __m128i t = _mm_sha256msg1_epu32(*now, m[(i + 1) & 3]);
                    t = _mm_add_epi32(t, _mm_alignr_epi8(m[(i + 3) & 3], m[(i + 2) & 3], 4));
                    *now = _mm_sha256msg2_epu32(t, m[(i + 3) & 3]);
                }
                __m128i wk = _mm_add_epi32(*now, k);
                cdgh[l] = _mm_sha256rnds2_epu32(cdgh[l], abef[l], wk);
                abef[l] = _mm_sha256rnds2_epu32(abef[l], cdgh[l], _mm_shuffle_epi32(wk, 0x0e));
            }
        }
        for (int l = 0; l < LANES; l++) {
            abef[l] = _mm_add_epi32(abef[l], abef0[l]);
            cdgh[l] = _mm_add_epi32(cdgh[l], cdgh0[l]);
        }
    }
    for (int l = 0; l < LANES; l++)
        save(state[l], abef[l], cdgh[l]);
}

void at_sha_pair(uint8_t prefix, const uint8_t *a, const uint8_t *b, size_t len,
                 uint8_t ret_a[static 32], uint8_t ret_b[static 32])
{
    const uint8_t *message[LANES] = {a, b};
    uint8_t *out[LANES] = {ret_a, ret_b};
    uint32_t state[LANES][8];
    uint8_t edge[LANES][2 * BLOCK]; /* the first block, later the last one or two */
    const uint8_t *at[LANES];
    size_t blocks = (len + 1) / BLOCK, rest = (len + 1) % BLOCK;
    size_t padded = rest < BLOCK - 8 ? BLOCK : 2 * BLOCK;
    uint64_t bits = GUINT64_TO_BE(((uint64_t)len + 1) * 8);
    for (int l = 0; l < LANES; l++) {
        memcpy(state[l], initial, sizeof initial);
        edge[l][0] = prefix;
        memcpy(edge[l] + 1, message[l], BLOCK - 1);
        at[l] = edge[l];
    }
    compress(state, at, 1);
    for (int l = 0; l < LANES; l++)
        at[l] = message[l] + BLOCK - 1;
    compress(state, at, blocks - 1);
    for (int l = 0; l < LANES; l++) {
        memset(edge[l], 0, sizeof edge[l]);
        memcpy(edge[l], message[l] + len - rest, rest);
        edge[l][rest] = 0x80;
        memcpy(edge[l] + padded - sizeof bits, &bits, sizeof bits);
        at[l] = edge[l];
    }
    compress(state, at, padded / BLOCK);
    for (int l = 0; l < LANES; l++) {
        for (int i = 0; i < 8; i++) {
            uint32_t word = GUINT32_TO_BE(state[l][i]);
            memcpy(out[l] + 4 * i, &word, sizeof word);
        }
    }
}

#else

bool at_sha_pair_usable(void)
{
    return false;
}

void at_sha_pair(uint8_t prefix, const uint8_t *a, const uint8_t *b, size_t len,
                 uint8_t ret_a[static 32], uint8_t ret_b[static 32])
{
    g_assert_not_reached();
}

#endif
