/* SPDX-License-Identifier: Apache-2.0 */
/* Verify beyond finding damage: what leaves the quarantine, and reading by pieces. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "disk.h"
#include "vault/format.h"

#define SIZE (3u << 20)

static uint64_t quarantined(struct fixture *f)
{
    struct at_vault_stats stats;
    g_assert_true(at_vault_stats(f->vault, &stats, NULL));
    return stats.quarantined;
}

/* Nobody has to put it again: a disk that could not give a page may give it tomorrow, and what is
 * deleted need not be whole. */
static void quarantine_ends(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(8);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root;
    ingest(&f, disk, SIZE, &root, NULL);
    set_tree_root(&f, "image/hit", &root);
    fixture_reopen(&f);
    g_autofree char *path = pack_path(&f, 1);
    uint64_t at = AT_PACK_HEADER + AT_RECORD_HEADER + 100;
    flip_bit(path, at);
    struct at_verify_report *report = verify_vault(&f);
    g_assert_cmpuint(report->problems->len, ==, 1);
    at_verify_report_free(report);
    g_assert_cmpuint(quarantined(&f), ==, 1);
    flip_bit(path, at);
    at_verify_report_free(verify_vault(&f));
    g_assert_cmpuint(quarantined(&f), ==, 0);

    flip_bit(path, at);
    at_verify_report_free(verify_vault(&f));
    g_assert_cmpuint(quarantined(&f), ==, 1);
    g_assert_true(at_vault_root_remove(f.vault, "image/hit", &error));
    at_vault_gc(f.vault, NULL, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(quarantined(&f), ==, 0);
    /* Nor is it forgotten that a new copy is needed. */
    ingest(&f, disk, SIZE, &root, NULL);
    check_disk(f.vault, &root, disk, SIZE);
    g_rand_free(r);
    fixture_close(&f);
}

/* A reader has the damaged file open when another is put in its place. */
static void put_back(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(10);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root;
    ingest(&f, disk, SIZE, &root, NULL);
    at_vault_close(g_steal_pointer(&f.vault));
    g_autofree char *path = pack_path(&f, 1), *bytes = NULL;
    gsize len;
    g_assert_true(g_file_get_contents(path, &bytes, &len, NULL));
    flip_bit(path, AT_PACK_HEADER + AT_RECORD_HEADER + 100);
    struct at_vault *reader = at_vault_open(f.vault_dir, AT_VAULT_READ, (gid_t)-1, &error);
    g_assert_no_error(error);
    struct at_tree *tree = at_tree_open(reader, &root, &error);
    g_assert_no_error(error);
    g_autofree uint8_t *back = g_malloc(SIZE);
    g_assert_false(at_tree_read(tree, back, 0, SIZE, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CORRUPT);
    g_clear_error(&error);
    g_assert_true(g_file_set_contents(path, bytes, (gssize)len, NULL)); /* by a rename */
    g_assert_true(at_tree_read(tree, back, 0, SIZE, &error));
    g_assert_true(memcmp(back, disk, SIZE) == 0);
    at_tree_close(tree);
    at_vault_close(reader);
    g_rand_free(r);
    fixture_close(&f);
}

/* The same by pieces, as it is done over days. */
static void verify_by_pieces(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(9);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root;
    ingest(&f, disk, SIZE, &root, NULL);
    set_tree_root(&f, "image/hit", &root);
    fixture_reopen(&f);
    g_autofree char *path = pack_path(&f, 1);
    flip_bit(path, AT_PACK_HEADER + AT_RECORD_HEADER + 100);
    struct at_verify_report *whole = verify_vault(&f), *report;
    struct at_verify_place place = {0};
    uint64_t objects = 0, bytes = 0;
    unsigned problems = 0, pieces = 0;
    for (bool end = false; !end; pieces++) {
        at_vault_verify_next(f.vault, &place, 7, NULL, NULL, NULL, &report, &end, &error);
        g_assert_no_error(error);
        objects += report->chunks;
        bytes += report->bytes;
        problems += report->problems->len;
        if (report->problems->len) {
            struct at_verify_problem *p = g_ptr_array_index(report->problems, 0);
            g_assert_cmpstr(p->roots[0], ==, "image/hit");
        }
        at_verify_report_free(report);
    }
    g_assert_cmpuint(pieces, >, 3);
    g_assert_cmpuint(objects, ==, whole->chunks);
    g_assert_cmpuint(bytes, ==, whole->bytes);
    g_assert_cmpuint(problems, ==, 1);
    at_verify_report_free(whole);

    /* One that is told to stop has not moved. */
    g_autoptr(GCancellable) stop = g_cancellable_new();
    struct at_verify_place before = place = (struct at_verify_place){0};
    bool end;
    g_cancellable_cancel(stop);
    g_assert_false(
        at_vault_verify_next(f.vault, &place, 7, NULL, NULL, stop, &report, &end, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CANCELLED);
    g_clear_error(&error);
    g_assert_true(memcmp(&before, &place, sizeof place) == 0);

    /* What the roots need and the packs do not have. */
    at_vault_verify_references(f.vault, NULL, &report, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(report->problems->len, ==, 0);
    at_verify_report_free(report);
    at_vault_close(g_steal_pointer(&f.vault));
    g_assert_cmpint(truncate(path, (off_t)(size_of_file(path) / 2)), ==, 0);
    fixture_reopen(&f);
    at_vault_verify_references(f.vault, NULL, &report, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(report->problems->len, >, 0);
    struct at_verify_problem *p = g_ptr_array_index(report->problems, 0);
    g_assert_cmpstr(p->reason, ==, "is missing");
    at_verify_report_free(report);
    g_rand_free(r);
    fixture_close(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/verify/what-is-whole-again-or-freed-leaves-the-quarantine",
                    quarantine_ends);
    g_test_add_func("/vault/damage/a-pack-that-was-put-back-is-read-by-who-had-the-old-one-open",
                    put_back);
    g_test_add_func("/vault/verify/by-pieces-finds-what-the-whole-finds-and-goes-on-where-it-was",
                    verify_by_pieces);
    return g_test_run();
}
