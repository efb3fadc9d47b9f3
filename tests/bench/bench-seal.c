/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing: a disk of 20 GiB that changes in random blocks of 4 KiB. What is read for it, how long
 * it takes for 0.1 % and for 1 %, and that the result is the tree of a full ingest of the same
 * bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic-file.h"
#include "lib/bench.h"
#include "vault/format.h"
#include "vault/maintenance.h"

#define DISK (UINT64_C(20) << 30)
#define BLOCKS (DISK / AT_BLOCK)
#define STRIPE (1u << 20)

static void check(const GError *error)
{
    if (error)
        g_error("%s", error->message);
}

/* A block of records: its own content, which compresses about as well as text does. */
static void fill(uint8_t *block, uint64_t i, bool changed)
{
    enum { RECORD = 1024 };
    at_bench_fill(block, RECORD, i * 2 + changed);
    for (unsigned at = RECORD; at < AT_BLOCK; at += RECORD)
        memcpy(block + at, block, RECORD);
}

/* Which blocks are changed: the same for a seal and for a full ingest. */
static bool is_changed(uint64_t i, unsigned per_mille)
{
    uint64_t z = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
    return (z >> 32) % 1000 < per_mille;
}

static void put_all(struct at_vault *vault, unsigned per_mille, const char *name,
                    struct at_digest *ret_root)
{
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *buf = g_malloc(STRIPE);
    struct at_vault_session *session = at_vault_session_begin(vault, &error);
    struct at_tree_writer *w = at_tree_writer_new(session, NULL, DISK, &error);
    check(error);
    for (uint64_t at = 0; at < DISK; at += STRIPE) {
        for (unsigned k = 0; k < STRIPE; k += AT_BLOCK) {
            uint64_t i = (at + k) / AT_BLOCK;
            fill(buf + k, i, is_changed(i, per_mille));
        }
        at_tree_writer_data(w, at, buf, STRIPE, &error);
        check(error);
    }
    at_tree_writer_finish(w, ret_root, NULL, &error);
    check(error);
    at_tree_writer_free(w);
    at_vault_root_set(vault, name, AT_ROOT_TREE, ret_root, &error);
    check(error);
    at_vault_session_end(session);
}

/* Bytes that this process has read by system calls. */
static uint64_t bytes_read(void)
{
    g_autofree char *text = NULL;
    g_file_get_contents("/proc/self/io", &text, NULL, NULL);
    const char *p = text ? strstr(text, "rchar: ") : NULL;
    return p ? g_ascii_strtoull(p + 7, NULL, 10) : 0;
}

struct seal {
    double seconds, read_per_byte;
    struct at_digest root;
};

static struct seal seal(struct at_vault *vault, const struct at_digest *base, unsigned per_mille)
{
    g_autoptr(GError) error = NULL;
    struct seal s;
    uint8_t block[AT_BLOCK];
    uint64_t before = bytes_read(), changed = 0;
    double start = at_bench_seconds();
    struct at_vault_session *session = at_vault_session_begin(vault, &error);
    struct at_tree_writer *w = at_tree_writer_new(session, base, DISK, &error);
    check(error);
    for (uint64_t i = 0; i < BLOCKS; i++) {
        if (!is_changed(i, per_mille))
            continue;
        fill(block, i, true);
        at_tree_writer_data(w, i * AT_BLOCK, block, AT_BLOCK, &error);
        check(error);
        changed += AT_BLOCK;
    }
    at_tree_writer_finish(w, &s.root, NULL, &error);
    check(error);
    s.seconds = at_bench_seconds() - start;
    s.read_per_byte = (double)(bytes_read() - before) / (double)changed;
    at_tree_writer_free(w);
    at_vault_session_end(session);
    return s;
}

int main(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_dir_make_tmp("atoll-bench-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "vault", NULL);
    struct at_bench *out = at_bench_new("vault-seal");
    struct at_vault *vault =
        at_vault_open(path, AT_VAULT_WRITE | AT_VAULT_CREATE, (gid_t)-1, &error);
    check(error);
    struct at_digest base, whole;
    double start = at_bench_seconds();
    put_all(vault, 0, "disk/base", &base);
    double full = at_bench_seconds() - start;
    struct seal few = seal(vault, &base, 1), many = seal(vault, &base, 10);
    put_all(vault, 10, "disk/whole", &whole);
    at_bench_row(out, "full ingest of 20 GiB", full, "s", AT_BENCH_ONLY, 0, NULL);
    at_bench_row(out, "seal of 0.1 % of 20 GiB in random blocks", few.seconds, "s", AT_BENCH_ONLY,
                 0, NULL);
    at_bench_row(out, "seal of 1 % of 20 GiB in random blocks", many.seconds, "s", AT_BENCH_ONLY, 0,
                 NULL);
    at_bench_row(out, "... bytes read per changed byte", many.read_per_byte, "x", AT_BENCH_AT_MOST,
                 40, NULL);
    at_bench_row(out, "... bytes read per changed byte with 0.1 %", few.read_per_byte, "x",
                 AT_BENCH_AT_MOST, 40, NULL);
    at_bench_row(out, "... time for ten times the changes", many.seconds / few.seconds, "x",
                 AT_BENCH_AT_MOST, 12, "proportional is 10");
    at_bench_row(out, "... the tree is that of a full ingest",
                 at_digest_equal(&many.root, &whole) ? 1 : 0, "", AT_BENCH_AT_LEAST, 1, NULL);
    at_vault_close(vault);
    at_remove_tree(dir, NULL);
    return at_bench_finish(out);
}
