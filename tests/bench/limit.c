/* SPDX-License-Identifier: Apache-2.0 */
/* How fast this machine can do what nobody who stores a disk by digest can do without: read it,
 * name its chunks (SHA-256, as the vault does it), and compress what is new (zstd, level 3, pieces
 * of 64 KiB).  Measured on the disk itself, from the cache, with all processors at work, because
 * that is how an import finds them.  Prints JSON; the two rates are bytes per second of CPU time.
 *
 * usage: bench-limit FILE [THREADS] */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "vault/hash.h"

enum { PIECE = 65536, STEP = 1 << 20, EVERY = 8 }; /* one step of eight is measured */

struct worker {
    int fd;
    uint64_t size;
    unsigned number, count;
    uint64_t bytes; /* hashed, compressed */
    double sha, zstd;
};

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Reads [at, at + len) or up to the end of the file; gives what there was. */
static size_t read_at(int fd, uint8_t *buf, size_t len, uint64_t at)
{
    size_t have = 0;
    while (have < len) {
        ssize_t n = pread(fd, buf + have, len - have, (off_t)(at + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            perror("bench-limit: read");
            exit(1);
        }
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return have / AT_BLOCK * AT_BLOCK;
}

/* Moves the blocks that are not zero to the front; gives their length. */
static size_t drop_zeros(uint8_t *buf, size_t len)
{
    size_t kept = 0;
    for (size_t at = 0; at < len; at += AT_BLOCK) {
        if (at_block_is_zero(buf + at))
            continue;
        if (kept != at)
            memcpy(buf + kept, buf + at, AT_BLOCK);
        kept += AT_BLOCK;
    }
    return kept;
}

static void *work(void *user)
{
    struct worker *w = user;
    g_autofree uint8_t *buf = g_malloc(STEP);
    g_autofree uint8_t *out = g_malloc(ZSTD_compressBound(PIECE));
    ZSTD_CCtx *ctx = ZSTD_createCCtx();
    for (uint64_t step = w->number; step * EVERY * STEP < w->size; step += w->count) {
        size_t len = drop_zeros(buf, read_at(w->fd, buf, STEP, step * EVERY * STEP));
        struct at_digest digest;
        double start = seconds(CLOCK_THREAD_CPUTIME_ID);
        for (size_t i = 0; i < len; i += PIECE)
            at_hash_chunk(buf + i, MIN(PIECE, len - i), &digest);
        double between = seconds(CLOCK_THREAD_CPUTIME_ID);
        for (size_t i = 0; i < len; i += PIECE)
            ZSTD_compressCCtx(ctx, out, ZSTD_compressBound(PIECE), buf + i, MIN(PIECE, len - i), 3);
        w->zstd += seconds(CLOCK_THREAD_CPUTIME_ID) - between;
        w->sha += between - start;
        w->bytes += len;
    }
    ZSTD_freeCCtx(ctx);
    return NULL;
}

/* Reads all that is no hole, once by one thread; counts blocks that are not zero. */
static void read_all(int fd, uint64_t size, uint64_t *ret_read, double *ret_seconds,
                     uint64_t *ret_full)
{
    g_autofree uint8_t *buf = g_malloc(STEP);
    *ret_read = *ret_full = 0;
    *ret_seconds = 0;
    for (uint64_t at = 0; at < size;) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        if (data < 0)
            break;
        uint64_t hole = (uint64_t)lseek(fd, data, SEEK_HOLE);
        for (at = (uint64_t)data; at < hole;) {
            double start = seconds(CLOCK_MONOTONIC);
            size_t len = read_at(fd, buf, (size_t)MIN((uint64_t)STEP, hole - at), at);
            *ret_seconds += seconds(CLOCK_MONOTONIC) - start;
            if (len == 0)
                return;
            *ret_read += len;
            *ret_full += drop_zeros(buf, len);
            at += len;
        }
    }
}

int main(int argc, char **argv)
{
    unsigned n = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : g_get_num_processors();
    at_autofd fd = argc >= 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || n < 1 || n > 1024) {
        fprintf(stderr, "usage: bench-limit FILE [THREADS]\n");
        return 2;
    }
    uint64_t bytes, full, sampled = 0;
    double read_seconds, sha = 0, zstd = 0;
    read_all(fd, (uint64_t)st.st_size, &bytes, &read_seconds, &full);
    g_autofree struct worker *workers = g_new0(struct worker, n);
    g_autofree GThread **threads = g_new(GThread *, n);
    for (unsigned i = 0; i < n; i++) {
        workers[i] =
            (struct worker){.fd = fd, .size = (uint64_t)st.st_size, .number = i, .count = n};
        threads[i] = g_thread_new("limit", work, &workers[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        g_thread_join(threads[i]);
        sampled += workers[i].bytes;
        sha += workers[i].sha;
        zstd += workers[i].zstd;
    }
    if (sampled == 0) {
        fprintf(stderr, "bench-limit: %s holds nothing but zeros\n", argv[1]);
        return 1;
    }
    printf("{\"threads\": %u, \"data_bytes\": %" G_GUINT64_FORMAT
           ", \"nonzero_bytes\": %" G_GUINT64_FORMAT ", \"sampled_bytes\": %" G_GUINT64_FORMAT
           ", \"read_rate\": %.0f, \"sha256_rate\": %.0f, \"zstd_rate\": %.0f}\n",
           n, bytes, full, sampled, (double)bytes / read_seconds, (double)sampled / sha,
           (double)sampled / zstd);
    return 0;
}
