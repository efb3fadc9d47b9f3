/* SPDX-License-Identifier: Apache-2.0 */
/* Splitting and joining the lanes, and how each is stored.
 *
 * Exponents of one tensor lie close together.  Two of them make a byte, each as its distance from
 * the highest (15: not in this window, it follows apart), before zstd's Huffman coder sees them:
 * half as many bytes to code, and a code for pairs loses less by whole bits than one for singles.
 */
#include "vault/planes.h"

#include <glib.h>
#include <string.h>

#include "vault/format.h"
#include "vault/zstd-context.h"

#define HEADER_MAX (1u + 4u + 4u * 4u)
#define ESCAPE 15u
#define RANDOM_BITS 7.5 /* a lane with more entropy than this is stored as it is */
#define PAIR_SHARE 0.96 /* pairs when so many exponents are in the window */
#define LANE_MAX (AT_CHUNK_MAX / 2)

enum method {
    RAW = 0,
    CODED = 1, /* a zstd frame */
    PAIRS = 2, /* top (1), number of others (4), they, a zstd frame of the pairs */
};

/* Room to work in, one per thread. */
struct scratch {
    uint8_t lane[4][LANE_MAX];
    uint8_t pairs[LANE_MAX / 2 + 1];
};

static struct scratch *peek_scratch(void)
{
    static GPrivate key = G_PRIVATE_INIT(g_free);
    struct scratch *s = g_private_get(&key);
    if (!s) {
        s = g_new(struct scratch, 1);
        g_private_set(&key, s);
    }
    return s;
}

/* The loops below are plain so that the compiler makes vectors of them. */

static void split2(const uint8_t *restrict plain, size_t n, uint8_t *restrict low,
                   uint8_t *restrict high)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, plain + 2 * i, sizeof v);
        v = GUINT16_FROM_LE(v);
        v = (uint16_t)(v << 1 | v >> 15);
        low[i] = (uint8_t)v;
        high[i] = (uint8_t)(v >> 8);
    }
}

static void join2(uint8_t *restrict plain, size_t n, const uint8_t *restrict low,
                  const uint8_t *restrict high)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v = (uint16_t)(low[i] | high[i] << 8);
        v = (uint16_t)(v >> 1 | v << 15);
        v = GUINT16_TO_LE(v);
        memcpy(plain + 2 * i, &v, sizeof v);
    }
}

static void split4(const uint8_t *restrict plain, size_t n, uint8_t *restrict a,
                   uint8_t *restrict b, uint8_t *restrict c, uint8_t *restrict d)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t v;
        memcpy(&v, plain + 4 * i, sizeof v);
        v = GUINT32_FROM_LE(v);
        v = v << 1 | v >> 31;
        a[i] = (uint8_t)v;
        b[i] = (uint8_t)(v >> 8);
        c[i] = (uint8_t)(v >> 16);
        d[i] = (uint8_t)(v >> 24);
    }
}

static void join4(uint8_t *restrict plain, size_t n, const uint8_t *restrict a,
                  const uint8_t *restrict b, const uint8_t *restrict c, const uint8_t *restrict d)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t v =
            (uint32_t)a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16 | (uint32_t)d[i] << 24;
        v = v >> 1 | v << 31;
        v = GUINT32_TO_LE(v);
        memcpy(plain + 4 * i, &v, sizeof v);
    }
}

static void join(uint8_t *plain, size_t n, unsigned width, const uint8_t *const lane[4])
{
    if (width == 2)
        join2(plain, n, lane[0], lane[1]);
    else
        join4(plain, n, lane[0], lane[1], lane[2], lane[3]);
}

/* Distances below @top, those outside of the window as ESCAPE; two to a byte. */
static void make_pairs(const uint8_t *restrict lane, size_t n, uint8_t top, uint8_t *restrict pairs)
{
    for (size_t i = 0; i < n / 2; i++) {
        uint8_t a = (uint8_t)(top - lane[2 * i]), b = (uint8_t)(top - lane[2 * i + 1]);
        a = MIN(a, (uint8_t)ESCAPE);
        b = MIN(b, (uint8_t)ESCAPE);
        pairs[i] = (uint8_t)(a | b << 4);
    }
}

static void undo_pairs(const uint8_t *restrict pairs, size_t n, uint8_t top, uint8_t *restrict lane)
{
    for (size_t i = 0; i < n / 2; i++) {
        lane[2 * i] = (uint8_t)(top - (pairs[i] & 15));
        lane[2 * i + 1] = (uint8_t)(top - (pairs[i] >> 4));
    }
}

/* ---- Storing ---- */

static size_t code(const uint8_t *lane, size_t n, uint8_t *out, size_t cap)
{
    ZSTD_CCtx *ctx = at_zstd_entropy_coder();
    size_t got = ctx ? ZSTD_compress2(ctx, out, cap, lane, n) : 0;
    return ZSTD_isError(got) ? 0 : got;
}

/* Copies what is outside of the window; looks closer only where something is. */
static size_t gather_others(const uint8_t *lane, size_t n, uint8_t top, uint8_t *out, size_t room)
{
    enum { STRETCH = 128 };
    size_t others = 0;
    for (size_t at = 0; at < n; at += STRETCH) {
        size_t end = MIN(n, at + STRETCH);
        uint8_t outside = 0;
        for (size_t i = at; i < end; i++)
            outside = (uint8_t)(outside + ((uint8_t)(top - lane[i]) >= ESCAPE));
        if (outside > room - others)
            return SIZE_MAX;
        for (size_t i = at; outside; i++) {
            if ((uint8_t)(top - lane[i]) >= ESCAPE) {
                out[others++] = lane[i];
                outside--;
            }
        }
    }
    return others;
}

static size_t code_pairs(const uint8_t *lane, size_t n, uint8_t top, uint8_t *pairs, uint8_t *out,
                         size_t cap)
{
    if (cap < 5)
        return 0;
    size_t others = gather_others(lane, n, top, out + 5, MIN(cap - 5, n / 16));
    if (others == SIZE_MAX)
        return 0;
    make_pairs(lane, n, top, pairs);
    size_t got = code(pairs, n / 2, out + 5 + others, cap - 5 - others);
    if (got == 0)
        return 0;
    out[0] = top;
    at_put_le32(out + 1, (uint32_t)others);
    return 5 + others + got;
}

size_t at_planes_pack(const uint8_t *plain, size_t len, unsigned width,
                      const struct at_survey *survey, uint8_t *out, size_t cap)
{
    struct scratch *s = peek_scratch();
    size_t n = len / width, at = 1 + 5 * width;
    unsigned wide = width == 4;
    const double *bits = survey->lane[wide];
    if (width == 2)
        split2(plain, n, s->lane[0], s->lane[1]);
    else
        split4(plain, n, s->lane[0], s->lane[1], s->lane[2], s->lane[3]);
    if (cap < at)
        return 0;
    out[0] = (uint8_t)width;
    for (unsigned k = 0; k < width; k++) {
        size_t got = 0;
        enum method method = RAW;
        if (k == width - 1 && survey->in_top[wide] >= PAIR_SHARE && n % 2 == 0) {
            method = PAIRS;
            got = code_pairs(s->lane[k], n, survey->top[wide], s->pairs, out + at, cap - at);
        }
        if (got == 0 && bits[k] < RANDOM_BITS) {
            method = CODED;
            got = code(s->lane[k], n, out + at, cap - at);
        }
        if (got == 0 || got >= n) {
            if (n > cap - at)
                return 0;
            method = RAW;
            got = n;
            memcpy(out + at, s->lane[k], n);
        }
        out[1 + k] = (uint8_t)method;
        at_put_le32(out + 1 + width + 4 * k, (uint32_t)got);
        at += got;
    }
    return at;
}

/* ---- Restoring ---- */

static bool decode(const uint8_t *in, size_t len, uint8_t *out, size_t n)
{
    size_t got = ZSTD_decompressDCtx(at_zstd_decompressor(), out, n, in, len);
    return !ZSTD_isError(got) && got == n;
}

static bool decode_pairs(const uint8_t *in, size_t len, uint8_t *pairs, uint8_t *lane, size_t n)
{
    if (len < 5 || n % 2)
        return false;
    uint8_t top = in[0];
    size_t others = at_get_le32(in + 1);
    if (others > n || others > len - 5 || !decode(in + 5 + others, len - 5 - others, pairs, n / 2))
        return false;
    undo_pairs(pairs, n, top, lane);
    const uint8_t *other = in + 5, *end = other + others, mark = (uint8_t)(top - ESCAPE);
    for (uint8_t *p = lane; others && (p = memchr(p, mark, (size_t)(lane + n - p))); p++) {
        if (other == end)
            return false;
        *p = *other++;
    }
    return other == end;
}

bool at_planes_unpack(const uint8_t *stored, size_t stored_len, uint8_t *plain, size_t plain_len)
{
    struct scratch *s = peek_scratch();
    const uint8_t *lane[4] = {0};
    unsigned width = stored_len > HEADER_MAX ? stored[0] : 0;
    if ((width != 2 && width != 4) || plain_len % width || plain_len > AT_CHUNK_MAX)
        return false;
    size_t n = plain_len / width, at = 1 + 5 * width;
    for (unsigned k = 0; k < width; k++) {
        size_t len = at_get_le32(stored + 1 + width + 4 * k);
        if (len > stored_len - at)
            return false;
        const uint8_t *in = stored + at;
        lane[k] = s->lane[k];
        at += len;
        if (stored[1 + k] == RAW) {
            lane[k] = in;
            if (len != n)
                return false;
        } else if (stored[1 + k] == CODED) {
            if (!decode(in, len, s->lane[k], n))
                return false;
        } else if (stored[1 + k] != PAIRS || !decode_pairs(in, len, s->pairs, s->lane[k], n)) {
            return false;
        }
    }
    if (at != stored_len)
        return false;
    join(plain, n, width, lane);
    return true;
}
