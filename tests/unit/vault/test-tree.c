/* SPDX-License-Identifier: Apache-2.0 */
/* Disks in and out of a vault, and the promise that a changed disk has the same root as the same
 * bytes ingested whole. */
#include <string.h>

#include "disk.h"

#define SEED 20261123u

static void reads_back(void)
{
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(SEED);
    static const size_t sizes[] = {0, 1, 512, 4095, 4096, 4097, 65536, 1000000, 9u << 20};
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree uint8_t *disk = disk_random(r, sizes[i]);
        struct at_digest root, again;
        struct at_tree_stats stats;
        ingest(&f, disk, sizes[i], &root, &stats);
        check_disk(f.vault, &root, disk, sizes[i]);
        ingest(&f, disk, sizes[i], &again, &stats);
        g_assert_true(at_digest_equal(&root, &again));
        g_assert_cmpuint(stats.new_bytes, ==, 0);
        g_assert_cmpuint(stats.stored_bytes, ==, 0);
        fixture_reopen(&f);
        check_disk(f.vault, &root, disk, sizes[i]);
    }
    g_rand_free(r);
    fixture_close(&f);
}

/* Changes @disk (grown or cut to @size by the caller) through a writer. */
static void change(struct fixture *f, GRand *r, const struct at_digest *base, uint8_t *disk,
                   size_t size, struct at_digest *ret_root)
{
    g_autoptr(GError) error = NULL;
    struct at_vault_session *session = at_vault_session_begin(f->vault, &error);
    struct at_tree_writer *w = at_tree_writer_new(session, base, size, &error);
    g_assert_no_error(error);
    size_t at = 0;
    for (int n = g_rand_int_range(r, 0, 12); n > 0 && at < size; n--) {
        size_t offset = at + (size_t)g_rand_double_range(r, 0, (double)(size - at) / n + 1);
        size_t len = (size_t)g_rand_int_range(r, 1, g_rand_boolean(r) ? 6000 : 900000);
        if (g_rand_int_range(r, 0, 3)) {
            offset = offset / 4096 * 4096;
            len = (len + 4095) / 4096 * 4096;
        }
        if (offset < at || offset >= size)
            continue;
        len = MIN(len, size - offset);
        if (g_rand_int_range(r, 0, 4) == 0) {
            memset(disk + offset, 0, len);
            at_tree_writer_zero(w, offset, len, &error);
        } else {
            g_autofree uint8_t *fresh = disk_random(r, len);
            memcpy(disk + offset, fresh, len);
            at_tree_writer_data(w, offset, fresh, len, &error);
        }
        g_assert_no_error(error);
        at = offset + len;
    }
    at_tree_writer_finish(w, ret_root, NULL, &error);
    g_assert_no_error(error);
    at_tree_writer_free(w);
    at_vault_session_end(session);
}

static void same_root(void)
{
    int cases = g_test_slow() ? 500 : 60;
    for (int i = 0; i < cases; i++) {
        struct fixture f;
        fixture_open(&f);
        GRand *r = g_rand_new_with_seed(SEED + (guint32)i);
        size_t size = (size_t)g_rand_int_range(r, 1, i % 10 == 0 ? 24 << 20 : 2 << 20);
        g_autofree uint8_t *disk = disk_random(r, size);
        struct at_digest root, whole;
        ingest(&f, disk, size, &root, NULL);
        for (int step = 0; step < 3; step++) {
            if (g_rand_int_range(r, 0, 3) == 0) {
                size_t now = (size_t)g_rand_int_range(r, 1, 3 << 20);
                disk = g_realloc(disk, now);
                if (now > size)
                    memset(disk + size, 0, now - size);
                size = now;
            }
            change(&f, r, &root, disk, size, &root);
            check_disk(f.vault, &root, disk, size);
            ingest(&f, disk, size, &whole, NULL);
            if (!at_digest_equal(&root, &whole))
                g_error("seed %u step %d: the incremental root differs", SEED + (unsigned)i, step);
        }
        g_rand_free(r);
        fixture_close(&f);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/tree/reads-back-what-was-ingested", reads_back);
    g_test_add_func("/vault/tree/a-changed-disk-has-the-root-of-its-full-ingest", same_root);
    return g_test_run();
}
