/* SPDX-License-Identifier: Apache-2.0 */
/* Entropies by table from a sample of 2 KiB; repeats by a small hash table of marked places. */
#include "vault/survey.h"

#include <glib.h>
#include <math.h>
#include <string.h>

#define PIECES 32u /* places in the chunk that are looked at */
#define PIECE 64u  /* bytes at each */
#define SAMPLE (PIECES * PIECE)
#define WINDOW 15u

static float n_log_n[SAMPLE + 1]; /* n log2(n) */

static void fill_table(void)
{
    static gsize once;
    if (!g_once_init_enter(&once))
        return;
    for (unsigned n = 1; n <= SAMPLE; n++)
        n_log_n[n] = (float)(n * log2(n));
    g_once_init_leave(&once, 1);
}

/* Bits per symbol; the last term corrects for a sample being small (Miller and Madow). */
static double entropy(const uint16_t counts[static 256], unsigned n)
{
    float sum = 0;
    unsigned used = 0;
    for (unsigned i = 0; i < 256; i++) {
        sum += n_log_n[counts[i]];
        used += counts[i] != 0;
    }
    double h = log2(n) - (double)sum / n + (used - 1) / (2 * M_LN2 * n);
    return CLAMP(h, 0, 8);
}

static void find_window(const uint16_t counts[static 256], unsigned n, uint8_t *ret_top,
                        double *ret_share)
{
    unsigned in = 0, best = 0;
    for (unsigned i = 0; i < 256; i++) {
        in += counts[i];
        if (i >= WINDOW)
            in -= counts[i - WINDOW];
        if (in > best) {
            best = in;
            *ret_top = (uint8_t)i;
        }
    }
    *ret_share = (double)best / n;
}

void at_survey(const uint8_t *data, size_t len, struct at_survey *ret_survey)
{
    uint16_t half[2][256] = {{0}}, word[4][256] = {{0}}, flat[256];
    fill_table();
    size_t step = len / PIECES;
    for (unsigned p = 0; p < PIECES; p++) {
        for (unsigned i = 0; i < PIECE; i += 4) {
            uint32_t v;
            memcpy(&v, data + p * step + i, sizeof v);
            v = GUINT32_FROM_LE(v);
            uint16_t a = (uint16_t)v, b = (uint16_t)(v >> 16);
            a = (uint16_t)(a << 1 | a >> 15);
            b = (uint16_t)(b << 1 | b >> 15);
            v = v << 1 | v >> 31;
            half[0][a & 255]++;
            half[1][a >> 8]++;
            half[0][b & 255]++;
            half[1][b >> 8]++;
            for (unsigned k = 0; k < 4; k++)
                word[k][v >> (8 * k) & 255]++;
        }
    }
    struct at_survey s = {.flat = 0};
    for (unsigned i = 0; i < 256; i++)
        flat[i] = (uint16_t)(half[0][i] + half[1][i]);
    s.flat = entropy(flat, SAMPLE);
    for (unsigned k = 0; k < 2; k++)
        s.lane[0][k] = entropy(half[k], SAMPLE / 2);
    for (unsigned k = 0; k < 4; k++)
        s.lane[1][k] = entropy(word[k], SAMPLE / 4);
    find_window(half[1], SAMPLE / 2, &s.top[0], &s.in_top[0]);
    find_window(word[3], SAMPLE / 4, &s.top[1], &s.in_top[1]);
    *ret_survey = s;
}

bool at_survey_repeats(const uint8_t *data, size_t len)
{
    enum { BITS = 11 };
    uint64_t seen[1u << BITS] = {0};
    unsigned marked = 0, again = 0;
    /* Which strings are marked depends on them alone, so both copies of one are.  Numbers are
     * repeated in rows, and these at distances that 8 divides. */
    for (size_t i = 0; i + 8 <= len; i += 8) {
        uint64_t v;
        memcpy(&v, data + i, sizeof v);
        uint64_t h = v * UINT64_C(0x9e3779b97f4a7c15);
        if (h >> 61 != 0)
            continue;
        uint64_t *slot = &seen[(h >> (61 - BITS)) & ((1u << BITS) - 1)];
        marked++;
        again += *slot == v;
        *slot = v;
    }
    return again * 100 > marked;
}
