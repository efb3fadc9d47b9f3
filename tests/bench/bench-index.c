/* SPDX-License-Identifier: Apache-2.0 */
/* A vault that holds 1 TiB: 16 million synthetic rows in its index, and two trees of as many
 * synthetic chunks that differ in 100 places.  How fast it takes a disk in beside an empty one, how
 * much memory that needs, how fast it opens, and how fast the trees are compared.  The part that is
 * measured for memory is this program again, with --ingest. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/process.h"
#include "lib/bench.h"
#include "vault/tree-internal.h"

#define MIB (1024.0 * 1024.0)
#define CHUNKS (UINT64_C(16) << 20)
#define CHUNK_LEN (UINT64_C(64) << 10)
#define PLACES 100u
#define DISK (UINT64_C(1) << 30)
#define ROUNDS 3

static void check(const GError *error)
{
    if (error)
        g_error("%s", error->message);
}

static struct at_vault *open_vault(const char *dir)
{
    g_autoptr(GError) error = NULL;
    struct at_vault *vault =
        at_vault_open(dir, AT_VAULT_WRITE | AT_VAULT_CREATE, (gid_t)-1, &error);
    check(error);
    return vault;
}

/* SplitMix64: a name that depends on @i alone. */
static void synthetic(uint64_t i, struct at_digest *ret_digest)
{
    for (unsigned k = 0; k < 4; k++) {
        uint64_t z = (i * 4 + k + 1) * UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        z ^= z >> 31;
        memcpy(ret_digest->bytes + 8 * k, &z, 8);
    }
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, AT_DIGEST_LEN);
}

/* ---- The index ---- */

static void fill_index(struct at_vault *vault)
{
    g_autoptr(GError) error = NULL;
    struct at_digest *names = g_new(struct at_digest, CHUNKS);
    for (uint64_t i = 0; i < CHUNKS; i++)
        synthetic(i, &names[i]);
    qsort(names, CHUNKS, sizeof *names, by_bytes);
    for (uint64_t i = 0; i < CHUNKS;) {
        struct at_index_txn *txn = at_index_begin(vault->index, &error);
        check(error);
        for (uint64_t end = MIN(i + (1 << 20), CHUNKS); i < end; i++) {
            struct at_place place = {.pack = 1,
                                     .stored = 40000,
                                     .plain = CHUNK_LEN,
                                     .kind = AT_KIND_CHUNK,
                                     .codec = AT_CODEC_ZSTD,
                                     .offset = 64 + i * 8};
            at_index_put(txn, &names[i], &place, &error);
            check(error);
        }
        at_index_commit(txn, &error);
        check(error);
    }
    g_free(names);
}

/* Takes a file in; prints seconds to open, seconds to take in, and the most memory. */
static int ingest(const char *dir, const char *path)
{
    g_autoptr(GError) error = NULL;
    at_autofd fd = open(path, O_RDONLY);
    double start = at_bench_seconds();
    struct at_vault *vault = open_vault(dir);
    double opened = at_bench_seconds() - start;
    struct at_vault_session *session = at_vault_session_begin(vault, &error);
    struct at_digest root;
    start = at_bench_seconds();
    at_tree_ingest_fd(session, fd, DISK, NULL, NULL, NULL, &root, NULL, &error);
    check(error);
    double took = at_bench_seconds() - start;
    at_vault_session_end(session);
    at_vault_close(vault);
    g_autofree char *status = NULL;
    g_file_get_contents("/proc/self/status", &status, NULL, NULL);
    const char *peak = status ? strstr(status, "VmHWM:") : NULL;
    printf("%f %f %f\n", opened, took, peak ? g_ascii_strtod(peak + 6, NULL) / 1024 : 0);
    return 0;
}

static void run_ingest(const char *self, const char *dir, const char *path, double ret[static 3])
{
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    const char *argv[] = {self, "--ingest", dir, path, NULL};
    at_run(argv, NULL, 600000, NULL, &out, &error);
    check(error);
    if (sscanf(out, "%lf %lf %lf", &ret[0], &ret[1], &ret[2]) != 3)
        g_error("%s", out);
}

static void write_disk(const char *path, uint64_t seed)
{
    at_autofd fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    g_autofree uint8_t *half = g_malloc0(1 << 20);
    for (uint64_t at = 0; at < DISK; at += 1 << 20) {
        /* Half of each block is noise: as compressible as a system's files. */
        for (unsigned i = 0; i < 1 << 20; i += AT_BLOCK)
            at_bench_fill(half + i, AT_BLOCK / 2, seed + at + i);
        g_assert_cmpint(pwrite(fd, half, 1 << 20, (off_t)at), ==, 1 << 20);
    }
    fdatasync(fd);
}

static void measure_index(struct at_bench *out, const char *self, const char *dir)
{
    g_autofree char *large = g_build_filename(dir, "large", NULL);
    g_autofree char *small = g_build_filename(dir, "small", NULL);
    g_autofree char *disk = g_build_filename(dir, "disk.raw", NULL);
    double full[ROUNDS], empty[ROUNDS], opened[ROUNDS], peak = 0, one[3];
    struct at_vault *vault = open_vault(large);
    fill_index(vault);
    at_vault_close(vault);
    for (unsigned i = 0; i < ROUNDS; i++) {
        write_disk(disk, (uint64_t)i << 40 | 1);
        sync();
        at_remove_tree(small, NULL);
        run_ingest(self, small, disk, one);
        empty[i] = one[1];
        run_ingest(self, large, disk, one);
        full[i] = one[1];
        opened[i] = one[0];
        peak = MAX(peak, one[2]);
    }
    double mine = at_bench_median(full, ROUNDS), theirs = at_bench_median(empty, ROUNDS);
    at_bench_row(out, "16 million chunks: ingest", (double)DISK / MIB / mine, "MiB/s",
                 AT_BENCH_ONLY, 0, "1 GiB, compressible to a half; median of 3");
    at_bench_row(out, "... against an empty vault", theirs / mine, "x", AT_BENCH_AT_LEAST, 0.8,
                 NULL);
    at_bench_row(out, "16 million chunks: most resident memory of it", peak, "MiB",
                 AT_BENCH_AT_MOST, 256, "of the whole process, the mapped index included");
    at_bench_row(out, "16 million chunks: opening", 1000 * at_bench_median(opened, ROUNDS), "ms",
                 AT_BENCH_AT_MOST, 100, NULL);
    at_remove_tree(large, NULL);
    at_remove_tree(small, NULL);
}

/* ---- Two trees ---- */

static void build(struct at_vault *vault, unsigned changed, struct at_digest *ret_root)
{
    g_autoptr(GError) error = NULL;
    struct at_vault_session *session = at_vault_session_begin(vault, &error);
    struct at_builder *b = at_builder_new(session);
    uint64_t stored;
    for (uint64_t i = 0; i < CHUNKS; i++) {
        struct at_entry e = {.offset = i * CHUNK_LEN, .len = CHUNK_LEN};
        bool other = changed && i % (CHUNKS / changed) == 4711;
        synthetic(other ? i + CHUNKS : i, &e.digest);
        at_builder_add(b, 0, &e, &error);
        check(error);
    }
    at_builder_finish(b, CHUNKS * CHUNK_LEN, ret_root, &stored, &error);
    check(error);
    at_store_flush(vault->store, session->failures, &error);
    check(error);
    at_builder_free(b);
    at_vault_session_end(session);
}

static bool count(uint64_t offset, uint64_t len, void *user, GError **error)
{
    (void)offset;
    (void)error;
    *(uint64_t *)user += len / CHUNK_LEN;
    return true;
}

static void measure_diff(struct at_bench *out, const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(dir, "trees", NULL);
    struct at_vault *vault = open_vault(path);
    struct at_digest a, b;
    double ms[ROUNDS];
    build(vault, 0, &a);
    build(vault, PLACES, &b);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t differ = 0;
        at_vault_close(vault);
        vault = open_vault(path); /* nothing in its caches */
        double start = at_bench_seconds();
        at_tree_diff(vault, &a, &b, count, &differ, &error);
        check(error);
        ms[i] = 1000 * (at_bench_seconds() - start);
        if (differ != PLACES)
            g_error("%" G_GUINT64_FORMAT " chunks differ", differ);
    }
    at_bench_row(out, "diff of two trees of 1 TiB that differ in 100 places",
                 at_bench_median(ms, ROUNDS), "ms", AT_BENCH_AT_MOST, 50, "median of 3");
    at_vault_close(vault);
    at_remove_tree(path, NULL);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--ingest") == 0)
        return ingest(argv[2], argv[3]);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *dir = g_dir_make_tmp("atoll-bench-XXXXXX", NULL);
    struct at_bench *out = at_bench_new("vault-index");
    measure_index(out, self, dir);
    measure_diff(out, dir);
    at_remove_tree(dir, NULL);
    return at_bench_finish(out);
}
