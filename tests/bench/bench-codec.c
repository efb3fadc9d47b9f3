/* SPDX-License-Identifier: Apache-2.0 */
/* The vault's codecs against zstd -3 alone, by kind of content, one thread, in chunks of 64 KiB:
 * size, and the speeds of storing and of reading back. */
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <zstd.h>

#include "lib/bench.h"
#include "vault/codec.h"

#define TOTAL (32u << 20)
#define CHUNK (64u << 10)
#define ROUNDS 5

struct figures {
    double ratio; /* stored / plain */
    double pack, unpack;
};

static double rate(double seconds)
{
    return TOTAL / seconds / (1 << 20);
}

static void ours(const uint8_t *data, struct figures *f, unsigned *ret_planes)
{
    static uint8_t stored[TOTAL / CHUNK][CHUNK], back[CHUNK];
    size_t lens[TOTAL / CHUNK], sum = 0;
    uint8_t codecs[TOTAL / CHUNK];
    double start = at_bench_cpu_seconds();
    for (unsigned i = 0; i < TOTAL / CHUNK; i++) {
        codecs[i] = AT_CODEC_NONE;
        lens[i] =
            at_codec_pack(AT_KIND_CHUNK, data + (size_t)i * CHUNK, CHUNK, stored[i], &codecs[i]);
        if (lens[i] == 0) {
            codecs[i] = AT_CODEC_NONE;
            lens[i] = CHUNK;
            memcpy(stored[i], data + (size_t)i * CHUNK, CHUNK);
        }
        sum += lens[i];
    }
    f->pack = rate(at_bench_cpu_seconds() - start);
    f->ratio = (double)sum / TOTAL;
    start = at_bench_cpu_seconds();
    *ret_planes = 0;
    for (unsigned i = 0; i < TOTAL / CHUNK; i++) {
        *ret_planes += codecs[i] == AT_CODEC_PLANES;
        if (!at_codec_unpack(codecs[i], stored[i], lens[i], back, CHUNK, NULL) ||
            memcmp(back, data + (size_t)i * CHUNK, CHUNK) != 0)
            g_error("chunk %u does not come back", i);
    }
    f->unpack = rate(at_bench_cpu_seconds() - start);
}

static void zstd(const uint8_t *data, struct figures *f)
{
    static uint8_t stored[TOTAL / CHUNK][ZSTD_COMPRESSBOUND(CHUNK)], back[CHUNK];
    size_t lens[TOTAL / CHUNK], sum = 0;
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_DCtx *d = ZSTD_createDCtx();
    double start = at_bench_cpu_seconds();
    for (unsigned i = 0; i < TOTAL / CHUNK; i++)
        sum += lens[i] =
            ZSTD_compressCCtx(c, stored[i], sizeof stored[i], data + (size_t)i * CHUNK, CHUNK, 3);
    f->pack = rate(at_bench_cpu_seconds() - start);
    f->ratio = (double)sum / TOTAL;
    start = at_bench_cpu_seconds();
    for (unsigned i = 0; i < TOTAL / CHUNK; i++) {
        ZSTD_decompressDCtx(d, back, CHUNK, stored[i], lens[i]);
        if (memcmp(back, data + (size_t)i * CHUNK, CHUNK) != 0)
            g_error("zstd");
    }
    f->unpack = rate(at_bench_cpu_seconds() - start);
    ZSTD_freeCCtx(c);
    ZSTD_freeDCtx(d);
}

/* ---- Content ---- */

static GRand *rand_;

static double normal(void)
{
    double u = 1 - g_rand_double(rand_), v = g_rand_double(rand_);
    return sqrt(-2 * log(u)) * cos(2 * G_PI * v);
}

/* Tensors of a few MiB, each with a spread of its own, as training leaves them. */
static double weight(size_t i)
{
    static double sigma = 0.02;
    if (i % (1u << 20) == 0)
        sigma = exp(g_rand_double_range(rand_, log(0.002), log(0.2)));
    return sigma * normal();
}

static void bf16(uint8_t *out)
{
    for (size_t i = 0; i < TOTAL / 2; i++) {
        float f = (float)weight(i);
        uint32_t v;
        memcpy(&v, &f, sizeof v);
        v = (v + 0x7fff + (v >> 16 & 1)) >> 16;
        out[2 * i] = (uint8_t)v;
        out[2 * i + 1] = (uint8_t)(v >> 8);
    }
}

static void fp16(uint8_t *out)
{
    for (size_t i = 0; i < TOTAL / 2; i++) {
        _Float16 f = (_Float16)weight(i);
        memcpy(out + 2 * i, &f, 2);
    }
}

static void fp32(uint8_t *out)
{
    for (size_t i = 0; i < TOTAL / 4; i++) {
        float f = (float)weight(i);
        memcpy(out + 4 * i, &f, 4);
    }
}

static void fp32_of_bf16(uint8_t *out)
{
    static uint8_t half[TOTAL];
    bf16(half);
    for (size_t i = 0; i < TOTAL / 4; i++) {
        memset(out + 4 * i, 0, 2);
        memcpy(out + 4 * i + 2, half + 2 * i, 2);
    }
}

static void noise(uint8_t *out)
{
    at_bench_fill(out, TOTAL, 7);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Files of this system below @dir whose names match, until there is enough; then again. */
static size_t gather(uint8_t *out, size_t have, const char *dir, const char *end)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    for (const char *name; d && (name = g_dir_read_name(d));)
        g_ptr_array_add(names, g_strdup(name));
    g_ptr_array_sort(names, by_name);
    for (unsigned i = 0; i < names->len && have < TOTAL; i++) {
        g_autofree char *path = g_build_filename(dir, g_ptr_array_index(names, i), NULL);
        g_autofree char *text = NULL;
        gsize len;
        if (g_file_test(path, G_FILE_TEST_IS_SYMLINK))
            continue;
        if (g_file_test(path, G_FILE_TEST_IS_DIR)) {
            have = gather(out, have, path, end);
        } else if (g_str_has_suffix(path, end) && g_file_get_contents(path, &text, &len, NULL)) {
            len = MIN(len, TOTAL - have);
            memcpy(out + have, text, len);
            have += len;
        }
    }
    return have;
}

static void fill_up(uint8_t *out, size_t have)
{
    if (have == 0)
        g_error("no such files here");
    for (; have < TOTAL; have++)
        out[have] = out[have % (8u << 20)];
}

static void text(uint8_t *out)
{
    size_t have = gather(out, 0, "/usr/include", ".h");
    fill_up(out, gather(out, have, "/usr/lib/python3", ".py"));
}

static void elf(uint8_t *out)
{
    fill_up(out, gather(out, 0, "/usr/bin", ""));
}

/* A table as vector databases have them: a key, some words, a vector of fp32. */
static void sqlite(uint8_t *out)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "bench-codec.db", NULL);
    sqlite3 *db;
    sqlite3_stmt *put;
    remove(path);
    if (sqlite3_open(path, &db) ||
        sqlite3_exec(db, "CREATE TABLE t (id INTEGER PRIMARY KEY, words TEXT, v BLOB); BEGIN", NULL,
                     NULL, NULL) ||
        sqlite3_prepare_v2(db, "INSERT INTO t VALUES (?, ?, ?)", -1, &put, NULL))
        g_error("sqlite: %s", sqlite3_errmsg(db));
    for (int i = 0; i < 40000; i++) {
        float v[256];
        g_autofree char *words = g_strdup_printf("document %d of the shelf %d, page %d", i, i / 97,
                                                 g_rand_int_range(rand_, 0, 500));
        for (unsigned k = 0; k < 256; k++)
            v[k] = (float)(0.06 * normal());
        sqlite3_bind_int(put, 1, i);
        sqlite3_bind_text(put, 2, words, -1, SQLITE_TRANSIENT);
        sqlite3_bind_blob(put, 3, v, sizeof v, SQLITE_TRANSIENT);
        sqlite3_step(put);
        sqlite3_reset(put);
    }
    sqlite3_finalize(put);
    sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    sqlite3_close(db);
    g_autofree char *bytes = NULL;
    gsize len;
    if (!g_file_get_contents(path, &bytes, &len, NULL))
        g_error("%s", path);
    memcpy(out, bytes, MIN(len, TOTAL));
    fill_up(out, MIN(len, TOTAL));
    remove(path);
}

int main(void)
{
    static const struct {
        const char *what;
        void (*make)(uint8_t *out);
        bool weights;
        const char *limit;
    } kinds[] = {
        {"bf16 weights", bf16, true, "10.5 bits of 16 are the least"},
        {"fp16 weights", fp16, true, "13.5 bits of 16 are the least: 1.09x"},
        {"fp32 weights", fp32, true, "26.5 bits of 32 are the least: 1.12x"},
        {"fp32 weights made from bf16", fp32_of_bf16, true},
        {"SQLite pages with vectors", sqlite, false},
        {"text", text, false},
        {"ELF programs", elf, false},
        {"noise", noise, false},
    };
    struct at_bench *out = at_bench_new("vault-codec");
    g_autofree uint8_t *data = g_malloc(TOTAL);
    rand_ = g_rand_new_with_seed(1);
    for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
        struct figures a[ROUNDS], b[ROUNDS];
        double pa[ROUNDS], pb[ROUNDS], ua[ROUNDS], ub[ROUNDS];
        unsigned planes;
        kinds[k].make(data);
        for (unsigned i = 0; i < ROUNDS; i++) {
            ours(data, &a[i], &planes);
            zstd(data, &b[i]);
            pa[i] = a[i].pack;
            pb[i] = b[i].pack;
            ua[i] = a[i].unpack;
            ub[i] = b[i].unpack;
        }
        double pack[2] = {at_bench_median(pa, ROUNDS), at_bench_median(pb, ROUNDS)};
        double unpack[2] = {at_bench_median(ua, ROUNDS), at_bench_median(ub, ROUNDS)};
        g_autofree char *note = g_strdup_printf(
            "%.0f and %.0f MiB/s against %.0f and %.0f; %u %% of the chunks in lanes", pack[0],
            unpack[0], pack[1], unpack[1], planes * 100 / (TOTAL / CHUNK));
        g_autofree char *stored = g_strdup_printf("%s: stored", kinds[k].what);
        g_autofree char *smaller = g_strdup_printf("%s: zstd -3 against it", kinds[k].what);
        g_autofree char *faster =
            g_strdup_printf("%s: speed of storing against zstd -3", kinds[k].what);
        g_autofree char *back =
            g_strdup_printf("%s: speed of reading against zstd -3", kinds[k].what);
        at_bench_row(out, stored, 100 * a[0].ratio, "%", AT_BENCH_ONLY, 0, note);
        at_bench_row(out, smaller, b[0].ratio / a[0].ratio, "x", AT_BENCH_AT_LEAST,
                     kinds[k].weights ? 1.15 : 0.995, kinds[k].limit);
        at_bench_row(out, faster, pack[0] / pack[1], "x",
                     kinds[k].weights ? AT_BENCH_AT_LEAST : AT_BENCH_ONLY, 1, NULL);
        at_bench_row(out, back, unpack[0] / unpack[1], "x",
                     kinds[k].weights ? AT_BENCH_AT_LEAST : AT_BENCH_ONLY, 1, NULL);
    }
    g_rand_free(rand_);
    return at_bench_finish(out);
}
