/* SPDX-License-Identifier: Apache-2.0 */
/* Vaults that an earlier Atoll has left. A fixture is a directory format-N beside this file: what a
 * writer of format N made of the two disks and the manifest below (without lock and reserve, which
 * hold nothing). A new format gets a new fixture:
 *     ATOLL_MAKE_FIXTURE=tests/unit/vault/format-N build/tests/unit/vault/test-vault-versions */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "disk.h"
#include "lib/at-test.h"
#include "vault/format.h"
#include "vault/pack.h"

enum { ISLANDS = 110, RANDOM = 4, TEXT = 40, GROWN = 5 };
#define SIZE_A ((2 * ISLANDS + RANDOM + TEXT) * AT_BLOCK + 1000)
#define SIZE_WEIGHTS (64 * AT_BLOCK)
#define SIZE_B (SIZE_A + GROWN * AT_BLOCK)

/* No generator of a library: what it gives must be the same in ten years. */
static void fill_text(uint8_t *block, unsigned seed)
{
    char line[64];
    for (size_t at = 0; at < AT_BLOCK;) {
        int n = snprintf(line, sizeof line, "line %zu of block %u\n", at, seed);
        size_t part = MIN((size_t)n, AT_BLOCK - at);
        memcpy(block + at, line, part);
        at += part;
    }
}

static void fill_random(uint8_t *block, uint64_t seed)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t at = 0; at < AT_BLOCK; at += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        at_put_le64(block + at, x);
    }
}

/* Islands of one block in a sea of holes (so many chunks that there are several nodes), bytes that
 * do not compress, text, and a piece of a block at the end. */
static uint8_t *disk_a(void)
{
    uint8_t *disk = g_malloc0(SIZE_B);
    uint8_t *p = disk;
    for (unsigned i = 0; i < ISLANDS; i++, p += 2 * AT_BLOCK)
        fill_text(p, i % 100); /* the last ten are like the first */
    for (unsigned i = 0; i < RANDOM; i++, p += AT_BLOCK)
        fill_random(p, i);
    for (unsigned i = 0; i < TEXT; i++, p += AT_BLOCK)
        fill_text(p, 1000 + i);
    memset(p, 'z', 1000);
    return disk;
}

/* Weights, as formats from 2 on store in lanes: numbers whose exponents are nearly constant. */
static uint8_t *disk_weights(void)
{
    uint8_t *disk = g_malloc(SIZE_WEIGHTS);
    for (unsigned i = 0; i < SIZE_WEIGHTS / AT_BLOCK; i++) {
        fill_random(disk + i * AT_BLOCK, 9000 + i);
        for (size_t at = 1; at < AT_BLOCK; at += 2) /* bf16: sign, 0x3c to 0x3d, and a bit of it */
            disk[i * AT_BLOCK + at] = (uint8_t)((disk[i * AT_BLOCK + at] & 0x81) | 0x3c);
    }
    return disk;
}

/* A later state of the same disk: changed, discarded, grown. */
static uint8_t *disk_b(void)
{
    uint8_t *disk = disk_a();
    fill_random(disk + 20 * AT_BLOCK, 77);
    memset(disk + 40 * AT_BLOCK, 0, 10 * AT_BLOCK);
    fill_text(disk + SIZE_A / AT_BLOCK * AT_BLOCK + 2 * AT_BLOCK, 5000);
    return disk;
}

static char *manifest_of(const struct at_digest *a, const struct at_digest *b)
{
    g_autofree char *hex_a = at_digest_dup_hex(a), *hex_b = at_digest_dup_hex(b);
    return g_strdup_printf("{\"disks\":[{\"name\":\"root\",\"root\":\"%s\"},"
                           "{\"name\":\"data\",\"root\":\"%s\"}],"
                           "\"format\":\"atoll-manifest\",\"version\":1}",
                           hex_a, hex_b);
}

static void put_manifest(struct at_vault *vault, const char *text, struct at_digest *ret_digest)
{
    g_autoptr(GError) error = NULL;
    struct at_vault_session *session = at_vault_session_begin(vault, &error);
    at_vault_blob_put(session, text, strlen(text), ret_digest, &error);
    g_assert_no_error(error);
    at_vault_session_end(session);
}

static void make(const char *dir)
{
    g_autoptr(GError) error = NULL;
    struct fixture f = {.vault_dir = (char *)dir};
    fixture_reopen(&f);
    g_autofree uint8_t *a = disk_a(), *b = disk_b();
    struct at_digest root_a, root_b, manifest;
    ingest(&f, a, SIZE_A, &root_a, NULL);
    ingest(&f, b, SIZE_B, &root_b, NULL);
    g_autofree char *text = manifest_of(&root_a, &root_b);
    put_manifest(f.vault, text, &manifest);
    at_vault_root_set(f.vault, "image/a", AT_ROOT_TREE, &root_a, &error);
    g_assert_no_error(error);
    g_autofree uint8_t *w = disk_weights();
    struct at_digest root_w;
    ingest(&f, w, SIZE_WEIGHTS, &root_w, NULL);
    at_vault_root_set(f.vault, "image/weights", AT_ROOT_TREE, &root_w, &error);
    g_assert_no_error(error);
    at_vault_root_set(f.vault, "snapshot/0123abcd/monday", AT_ROOT_MANIFEST, &manifest, &error);
    g_assert_no_error(error);
    at_vault_close(f.vault);
    static const char *const nothing[] = {"lock", "reserve", "index/lock.mdb"};
    for (unsigned i = 0; i < G_N_ELEMENTS(nothing); i++) {
        g_autofree char *path = g_build_filename(dir, nothing[i], NULL);
        g_assert_cmpint(unlink(path), ==, 0);
    }
}

static bool is_in_lanes(const struct at_record *record, uint64_t offset, const uint8_t *payload,
                        void *user, GError **error)
{
    unsigned *lanes = user;
    *lanes += record->codec == AT_CODEC_PLANES;
    return true;
}

static unsigned records_in_lanes(const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(dir, "packs", "00000001.pack", NULL);
    at_autofd fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned lanes = 0;
    uint64_t end, damaged;
    g_assert_cmpint(fd, >=, 0);
    g_assert_true(at_test_ok(at_pack_scan(fd, AT_PACK_HEADER, size_of_file(path), is_in_lanes,
                                          &lanes, &end, &damaged, &error),
                             &error));
    g_assert_cmpuint(end, ==, size_of_file(path));
    return lanes;
}

/* A copy that may be written to. */
static const char *copy_fixture(const char *name)
{
    const char *to = at_test_path(at_test_dir(), "vault");
    g_autofree char *from = g_build_filename(g_getenv("ATOLL_VAULT_FIXTURES"), name, NULL);
    const char *argv[] = {"cp", "-r", from, to, NULL};
    g_assert_cmpint(at_test_run(argv, 20000, NULL), ==, 0);
    return to;
}

/* By its name, when @format has it. */
static void check_weights(struct at_vault *vault, struct fixture *now)
{
    g_autoptr(GError) error = NULL;
    struct at_root *weights = NULL;
    if (!at_vault_root_get(vault, "image/weights", &weights, &error)) {
        g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND); /* format 1 */
        return;
    }
    g_autofree uint8_t *w = disk_weights();
    struct at_digest root;
    ingest(now, w, SIZE_WEIGHTS, &root, NULL);
    g_assert_true(at_digest_equal(&weights->digest, &root));
    check_disk(vault, &root, w, SIZE_WEIGHTS);
    at_root_free(weights);
}

/* By their names: what they hold, and that names do not depend on the format. */
static void check_content(struct at_vault *vault)
{
    g_autoptr(GError) error = NULL;
    struct at_root *image = NULL, *snapshot = NULL;
    g_assert_true(at_test_ok(at_vault_root_get(vault, "image/a", &image, &error), &error));
    g_assert_true(at_test_ok(
        at_vault_root_get(vault, "snapshot/0123abcd/monday", &snapshot, &error), &error));
    struct fixture now;
    fixture_open(&now);
    g_autofree uint8_t *a = disk_a(), *b = disk_b();
    struct at_digest root_a, root_b, manifest;
    ingest(&now, a, SIZE_A, &root_a, NULL);
    ingest(&now, b, SIZE_B, &root_b, NULL);
    g_autofree char *text = manifest_of(&root_a, &root_b);
    put_manifest(now.vault, text, &manifest);
    check_weights(vault, &now);
    fixture_close(&now);
    g_assert_true(at_digest_equal(&image->digest, &root_a));
    g_assert_true(at_digest_equal(&snapshot->digest, &manifest));
    check_disk(vault, &root_a, a, SIZE_A);
    check_disk(vault, &root_b, b, SIZE_B);
    g_autoptr(GBytes) back = at_vault_blob_get(vault, &manifest, &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) expected = g_bytes_new_static(text, strlen(text));
    g_assert_true(g_bytes_equal(back, expected));
    at_root_free(image);
    at_root_free(snapshot);
}

static void check_whole(struct at_vault *vault)
{
    g_autoptr(GError) error = NULL;
    struct at_verify_report *report;
    at_vault_set_cache(vault, 0);
    at_vault_verify(vault, 100, NULL, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(report->problems->len, ==, 0);
    g_assert_cmpuint(report->chunks, >, 100);
    at_verify_report_free(report);
}

static void reads(const void *name)
{
    g_autoptr(GError) error = NULL;
    const char *dir = copy_fixture(name);
    struct at_vault *vault = at_vault_open(dir, AT_VAULT_READ, (gid_t)-1, &error);
    g_assert_no_error(error);
    check_content(vault);
    check_whole(vault);
    at_vault_close(vault);
}

static void writes(const void *name)
{
    g_autoptr(GError) error = NULL;
    struct fixture f = {.vault_dir = (char *)copy_fixture(name)};
    fixture_reopen(&f);
    check_content(f.vault);
    check_whole(f.vault);
    /* What is there is found by what is put now; what is new goes beside it. */
    g_autofree uint8_t *a = disk_a(), *c = disk_b();
    struct at_digest root_a, root_c;
    struct at_tree_stats stats;
    ingest(&f, a, SIZE_A, &root_a, &stats);
    g_assert_cmpuint(stats.new_bytes, ==, 0);
    fill_random(c, 99);
    ingest(&f, c, SIZE_B, &root_c, &stats);
    g_assert_cmpuint(stats.new_bytes, ==, AT_BLOCK);
    at_vault_root_set(f.vault, "image/c", AT_ROOT_TREE, &root_c, &error);
    g_assert_no_error(error);
    g_assert_true(at_test_ok(at_vault_reindex(f.vault, NULL, NULL, NULL, &error), &error));
    g_assert_true(at_test_ok(at_vault_gc(f.vault, NULL, NULL, NULL, NULL, &error), &error));
    fixture_reopen(&f);
    check_content(f.vault);
    check_disk(f.vault, &root_c, c, SIZE_B);
    check_whole(f.vault);
    at_vault_close(f.vault);
}

static void recovers(const void *name)
{
    g_autoptr(GError) error = NULL;
    struct fixture f = {.vault_dir = (char *)copy_fixture(name)};
    g_autofree char *index = g_build_filename(f.vault_dir, "index", NULL);
    g_assert_true(at_test_ok(at_remove_tree(index, &error), &error));
    fixture_reopen(&f);
    check_content(f.vault);
    check_whole(f.vault);
    at_vault_close(f.vault);
}

static void lanes_fixture(void)
{
    g_autofree char *dir = g_build_filename(g_getenv("ATOLL_VAULT_FIXTURES"), "format-2", NULL);
    g_assert_cmpuint(records_in_lanes(dir), >, 0);
}

static void add(const char *what, const char *format, GTestDataFunc func)
{
    g_autofree char *path = g_strdup_printf("/vault/versions/%s-%s", what, format);
    g_test_add_data_func(path, format, func);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (g_getenv("ATOLL_MAKE_FIXTURE")) {
        make(g_getenv("ATOLL_MAKE_FIXTURE"));
        return 0;
    }
    static const char *const formats[] = {"format-1", "format-2"};
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        add("a-reader-serves-a-vault-of", formats[i], reads);
        add("a-writer-goes-on-with-a-vault-of", formats[i], writes);
        add("the-packs-alone-are-enough-to-index", formats[i], recovers);
    }
    g_test_add_func("/vault/versions/the-fixture-of-format-2-has-weights-in-lanes", lanes_fixture);
    return g_test_run();
}
