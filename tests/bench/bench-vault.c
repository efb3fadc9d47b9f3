/* SPDX-License-Identifier: Apache-2.0 */
/* The vault alone: taking disks in, giving them back, and serving them by nbdkit, beside what
 * people use instead in the same run.  The disk is made from the files of this host, so figures of
 * two hosts cannot be compared; those of one run can.  With --client URI it is the NBD client that
 * nbdkit runs. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libnbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/process.h"
#include "lib/bench.h"
#include "vault/maintenance.h"

#define MIB (1024.0 * 1024.0)
#define DISK ((uint64_t)768 << 20)
#define QUEUE 16
#define SECONDS 2.0

/* ---- The client: "SEQUENTIAL-MiB/s RANDOM/s WARM-RANDOM/s" on standard output ---- */

static double now(void)
{
    return at_bench_seconds();
}

static int landed(void *user, int *error)
{
    *(int *)user -= 1;
    if (*error)
        fprintf(stderr, "read: %s\n", strerror(*error));
    return 1;
}

static void ask(struct nbd_handle *nbd, void *buf, size_t len, uint64_t at, int *busy)
{
    nbd_completion_callback cb = {.callback = landed, .user_data = busy};
    *busy += 1;
    if (nbd_aio_pread(nbd, buf, len, at, cb, 0) == -1) {
        fprintf(stderr, "%s\n", nbd_get_error());
        exit(1);
    }
}

static void wait_below(struct nbd_handle *nbd, int *busy, int most)
{
    while (*busy > most && nbd_poll(nbd, -1) != -1)
        ;
}

static double random_reads(struct nbd_handle *nbd, uint64_t span, uint8_t *buf)
{
    int busy = 0;
    unsigned n = 0;
    double start = now();
    for (; now() - start < SECONDS; n++) {
        wait_below(nbd, &busy, QUEUE - 1);
        uint64_t at = (uint64_t)g_random_double_range(0, (double)span / 4096) * 4096;
        ask(nbd, buf + n % QUEUE * 4096, 4096, at, &busy);
    }
    wait_below(nbd, &busy, 0);
    return n / (now() - start);
}

static int client(const char *uri)
{
    struct nbd_handle *nbd = nbd_create();
    static uint8_t buf[QUEUE << 18];
    if (!nbd || nbd_connect_uri(nbd, uri) == -1) {
        fprintf(stderr, "%s\n", nbd_get_error());
        return 1;
    }
    int busy = 0;
    double start = now();
    unsigned n = 0;
    for (uint64_t at = 0; at < DISK; at += 1 << 18, n++) {
        wait_below(nbd, &busy, QUEUE - 1);
        ask(nbd, buf + n % QUEUE * (1 << 18), 1 << 18, at, &busy);
    }
    wait_below(nbd, &busy, 0);
    double sequential = (double)DISK / MIB / (now() - start);
    double cold = random_reads(nbd, DISK, buf);
    for (uint64_t at = 0; at < 64 << 20; at += 1 << 18)
        nbd_pread(nbd, buf, 1 << 18, at, 0);
    printf("%f %f %f\n", sequential, cold, random_reads(nbd, 64 << 20, buf));
    nbd_close(nbd);
    return 0;
}

/* ---- The disk ---- */

static int disk_fd;
static uint64_t disk_at;

static int add_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    if (type != FTW_F || st->st_size < 4096 || disk_at + (uint64_t)st->st_size > DISK)
        return 0;
    at_autofd fd = open(path, O_RDONLY);
    off_t from = 0;
    while (fd >= 0 && from < st->st_size) {
        static char buf[1 << 20];
        ssize_t n = pread(fd, buf, sizeof buf, from);
        if (n <= 0 || pwrite(disk_fd, buf, (size_t)n, (off_t)disk_at + from) != n)
            break;
        from += n;
    }
    disk_at += ((uint64_t)st->st_size + 4095) / 4096 * 4096;
    return disk_at >= DISK * 15 / 16;
}

/* Files of this host one after another, as a file system would have them, and holes. */
static void make_disk(const char *path)
{
    disk_fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    g_assert_cmpint(ftruncate(disk_fd, (off_t)DISK), ==, 0);
    nftw("/usr/lib", add_file, 32, FTW_PHYS);
    static uint8_t fill[1 << 20];
    for (uint64_t at = disk_at; at < DISK * 15 / 16; at += sizeof fill) {
        at_bench_fill(fill, sizeof fill, at);
        g_assert_cmpint(pwrite(disk_fd, fill, sizeof fill, (off_t)at), ==, sizeof fill);
    }
    fsync(disk_fd);
}

/* ---- Measuring ---- */

struct bench {
    struct at_bench *out;
    char *dir, *raw, *vault_dir;
    struct at_vault *vault;
    struct at_digest root;
    const char *self, *plugin;
};

static void check(const GError *error)
{
    if (error)
        g_error("%s", error->message);
}

static void open_vault(struct bench *b)
{
    g_autoptr(GError) error = NULL;
    b->vault = at_vault_open(b->vault_dir, AT_VAULT_WRITE | AT_VAULT_CREATE, (gid_t)-1, &error);
    check(error);
}

static double ingest(struct bench *b, struct at_tree_stats *ret_stats)
{
    g_autoptr(GError) error = NULL;
    struct at_vault_session *session = at_vault_session_begin(b->vault, &error);
    double start = now();
    at_tree_ingest_fd(session, disk_fd, DISK, NULL, NULL, NULL, &b->root, ret_stats, &error);
    check(error);
    double seconds = now() - start;
    at_vault_root_set(b->vault, "image/bench", AT_ROOT_TREE, &b->root, &error);
    check(error);
    at_vault_session_end(session);
    return seconds;
}

/* CPU seconds of SHA-256 over all and zstd over what is new, on one thread. */
static double limit_seconds(uint64_t all, uint64_t fresh)
{
    static uint8_t buf[1 << 20], out[1 << 20];
    struct at_digest d;
    double sha = 0, zstd = 0;
    uint64_t bytes = 0;
    ZSTD_CCtx *ctx = ZSTD_createCCtx();
    for (uint64_t at = 0; at < DISK; at += 16 * sizeof buf, bytes += sizeof buf) {
        g_assert_cmpint(pread(disk_fd, buf, sizeof buf, (off_t)at), ==, sizeof buf);
        double start = at_bench_cpu_seconds();
        at_digest_of(buf, sizeof buf, &d);
        sha += at_bench_cpu_seconds() - start;
        start = at_bench_cpu_seconds();
        for (size_t i = 0; i < sizeof buf; i += 65536)
            ZSTD_compressCCtx(ctx, out, sizeof out, buf + i, 65536, 3);
        zstd += at_bench_cpu_seconds() - start;
    }
    ZSTD_freeCCtx(ctx);
    return (sha * (double)all + zstd * (double)fresh) / (double)bytes;
}

static void measure_ingest(struct bench *b)
{
    double seconds[3], peer[3], cpu = 0;
    struct at_tree_stats stats = {0};
    g_autofree char *qcow2 = g_build_filename(b->dir, "peer.qcow2", NULL);
    const char *convert[] = {
        "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd",
        b->raw,     qcow2,     NULL};
    for (int i = 0; i < 3; i++) {
        at_vault_close(g_steal_pointer(&b->vault));
        at_remove_tree(b->vault_dir, NULL);
        open_vault(b);
        double before = at_bench_cpu_seconds();
        seconds[i] = ingest(b, &stats);
        cpu = at_bench_cpu_seconds() - before;
        double start = now();
        g_autoptr(GError) error = NULL;
        if (!at_run(convert, NULL, 600000, NULL, NULL, &error))
            check(error);
        peer[i] = now() - start;
        unlink(qcow2);
    }
    double mine = at_bench_median(seconds, 3), theirs = at_bench_median(peer, 3);
    double limit = limit_seconds(stats.changed_bytes, stats.new_bytes) / g_get_num_processors();
    at_bench_row(b->out, "ingest into an empty vault", (double)DISK / MIB / mine, "MiB/s",
                 AT_BENCH_ONLY, 0, NULL);
    at_bench_row(b->out, "ingest: CPU seconds per GiB", cpu * 1024 * MIB / (double)DISK, "s",
                 AT_BENCH_ONLY, 0, NULL);
    at_bench_row(b->out, "ingest: share of what SHA-256 and zstd allow", 100 * limit / mine, "%",
                 AT_BENCH_AT_LEAST, 75, NULL);
    at_bench_row(b->out, "ingest: time against qemu-img convert -c (zstd)", mine / theirs, "x",
                 AT_BENCH_AT_MOST, 1, "side by side");
    at_bench_row(b->out, "stored of what was new",
                 100.0 * (double)stats.stored_bytes / (double)stats.new_bytes, "%", AT_BENCH_ONLY,
                 0, NULL);
    at_bench_row(b->out, "ingest of the same again", (double)DISK / MIB / ingest(b, &stats),
                 "MiB/s", AT_BENCH_ONLY, 0, NULL);
}

/* Bytes that this process has read by system calls. */
static uint64_t bytes_read(void)
{
    g_autofree char *text = NULL;
    g_file_get_contents("/proc/self/io", &text, NULL, NULL);
    const char *p = text ? strstr(text, "rchar: ") : NULL;
    return p ? g_ascii_strtoull(p + 7, NULL, 10) : 0;
}

static void measure_seal(struct bench *b)
{
    g_autoptr(GError) error = NULL;
    struct at_vault_session *session = at_vault_session_begin(b->vault, &error);
    struct at_tree_writer *w = at_tree_writer_new(session, &b->root, DISK, &error);
    check(error);
    uint64_t before = bytes_read(), changed = 0;
    double start = now();
    uint8_t block[4096];
    for (uint64_t at = 0; at < DISK; at += 4096) {
        if (g_random_int_range(0, 100))
            continue;
        at_bench_fill(block, sizeof block, at + 1);
        at_tree_writer_data(w, at, block, sizeof block, &error);
        check(error);
        changed += sizeof block;
    }
    struct at_digest root;
    at_tree_writer_finish(w, &root, NULL, &error);
    check(error);
    at_tree_writer_free(w);
    at_vault_session_end(session);
    at_bench_row(b->out, "seal of 1 % random blocks: time", now() - start, "s", AT_BENCH_ONLY, 0,
                 NULL);
    at_bench_row(b->out, "seal of 1 % random blocks: bytes read per changed byte",
                 (double)(bytes_read() - before) / (double)changed, "x", AT_BENCH_AT_MOST, 40,
                 NULL);
}

static void measure_export(struct bench *b)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(b->dir, "back.raw", NULL);
    struct at_tree *tree = at_tree_open(b->vault, &b->root, &error);
    check(error);
    at_autofd fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    double start = now();
    at_tree_export_fd(tree, fd, NULL, NULL, NULL, &error);
    check(error);
    at_bench_row(b->out, "export to a raw file", (double)DISK / MIB / (now() - start), "MiB/s",
                 AT_BENCH_ONLY, 0, NULL);
    at_tree_close(tree);
    unlink(path);
    struct at_verify_report *report;
    start = now();
    at_vault_verify(b->vault, 100, NULL, NULL, NULL, &report, &error);
    check(error);
    at_bench_row(b->out, "verify", (double)report->bytes / MIB / (now() - start), "MiB/s",
                 AT_BENCH_ONLY, 0, NULL);
    at_verify_report_free(report);
}

/* One nbdkit with the client in it; figures as client() prints them. */
static void serve(struct bench *b, const char *plugin, const char *arg, const char *cache,
                  const char *export, double ret[static 3])
{
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    g_autofree char *run =
        g_strdup_printf("%s --client \"nbd+unix:///%s?socket=$unixsocket\"", b->self, export);
    const char *argv[] = {"nbdkit", "-U", "-", "--run", run, plugin, arg, cache, NULL};
    if (!at_run(argv, NULL, 120000, NULL, &out, &error))
        check(error);
    if (!out || sscanf(out, "%lf %lf %lf", &ret[0], &ret[1], &ret[2]) != 3)
        g_error("nbdkit: %s", out);
}

static void measure_nbd(struct bench *b)
{
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(&b->root, hex);
    g_autofree char *vault = g_strconcat("vault=", b->vault_dir, NULL);
    g_autofree char *file = g_strconcat("file=", b->raw, NULL);
    double best[3][3] = {{0}}, one[3];
    for (int i = 0; i < 3; i++) {
        serve(b, b->plugin, vault, NULL, hex, one); /* first pass and warm reads */
        best[0][0] = MAX(best[0][0], one[0]);
        best[0][2] = MAX(best[0][2], one[2]);
        serve(b, b->plugin, vault, "cache=1M", hex, one); /* every random read misses */
        best[0][1] = MAX(best[0][1], one[1]);
        serve(b, "file", file, NULL, "", one);
        for (int k = 0; k < 3; k++)
            best[1][k] = MAX(best[1][k], one[k]);
    }
    const char *note = "best of 3; one connection, 16 requests in flight";
    at_bench_row(b->out, "sequential read through nbdkit", best[0][0], "MiB/s", AT_BENCH_AT_LEAST,
                 700, note);
    at_bench_row(b->out, "... against nbdkit file on the raw disk", best[0][0] / best[1][0], "x",
                 AT_BENCH_AT_LEAST, 0.35, NULL);
    at_bench_row(b->out, "random 4 KiB reads, chunk cache cold", best[0][1], "1/s", AT_BENCH_ONLY,
                 0, note);
    at_bench_row(b->out, "... against nbdkit file on the raw disk", best[0][1] / best[1][1], "x",
                 AT_BENCH_AT_LEAST, 0.3, NULL);
    at_bench_row(b->out, "random 4 KiB reads, chunk cache warm", best[0][2], "1/s", AT_BENCH_ONLY,
                 0, note);
    at_bench_row(b->out, "... against nbdkit file on the raw disk", best[0][2] / best[1][2], "x",
                 AT_BENCH_AT_LEAST, 0.6, NULL);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--client") == 0)
        return client(argv[2]);
    if (argc != 2) {
        fprintf(stderr, "usage: bench-vault PLUGIN.so\n");
        return 2;
    }
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    struct bench b = {.self = self, .plugin = argv[1]};
    b.dir = g_dir_make_tmp("atoll-bench-XXXXXX", NULL);
    b.raw = g_build_filename(b.dir, "disk.raw", NULL);
    b.vault_dir = g_build_filename(b.dir, "vault", NULL);
    b.out = at_bench_new("vault-basics");
    make_disk(b.raw);
    open_vault(&b);
    measure_ingest(&b);
    measure_seal(&b);
    measure_export(&b);
    measure_nbd(&b);
    at_vault_close(b.vault);
    at_remove_tree(b.dir, NULL);
    close(disk_fd);
    g_free(b.raw);
    g_free(b.vault_dir);
    g_free(b.dir);
    return at_bench_finish(b.out);
}
