/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery and gc on disks that cannot be read everywhere, and over bytes that a guest has chosen.
 */
#include <fcntl.h>
#include <lmdb.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "disk.h"
#include "lib/at-test.h"
#include "vault/hash.h"
#include "vault/vault-internal.h"

#define SIZE (1u << 20)

static char *in_vault(struct fixture *f, const char *name)
{
    return g_build_filename(f->vault_dir, name, NULL);
}

static uint64_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void lose_index(struct fixture *f)
{
    g_autofree char *index = in_vault(f, "index");
    at_vault_close(g_steal_pointer(&f->vault));
    g_assert_true(at_remove_tree(index, NULL));
}

/* @percent  of the objects are read; that they are there is looked at for all that roots need */
static unsigned problems_in(struct fixture *f, double percent)
{
    g_autoptr(GError) error = NULL;
    struct at_verify_report *report;
    at_vault_verify(f->vault, percent, NULL, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    unsigned n = report->problems->len;
    at_verify_report_free(report);
    return n;
}

static unsigned problems(struct fixture *f)
{
    return problems_in(f, 100);
}

static void set_root(struct fixture *f, const struct at_digest *root)
{
    g_autoptr(GError) error = NULL;
    at_vault_root_set(f->vault, "image/x", AT_ROOT_TREE, root, &error);
    g_assert_no_error(error);
}

/* The fault fails one read and the next: a window, and then the first page of it alone. */
static void rebuild_around(void)
{
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(1);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root, again;
    ingest(&f, disk, SIZE, &root, NULL);
    set_root(&f, &root);
    g_autofree char *pack = in_vault(&f, "packs/00000001.pack");
    uint64_t size = size_of(pack);
    lose_index(&f);
    at_fault_plan("vault.pack.read:EIO:2,vault.pack.read:EIO:2");
    fixture_reopen(&f);
    at_fault_plan(NULL);
    g_assert_cmpuint(size_of(pack), ==, size);
    unsigned n = problems(&f);
    g_assert_cmpuint(n, >, 0);
    g_assert_cmpuint(n, <, 4);
    ingest(&f, disk, SIZE, &again, NULL);
    g_assert_true(at_digest_equal(&root, &again));
    g_assert_cmpuint(problems(&f), ==, 0);
    check_disk(f.vault, &root, disk, SIZE);

    /* What the disk does not give at the end of a pack may be given tomorrow: it is not cut off. */
    size = size_of(pack);
    lose_index(&f);
    at_fault_plan("vault.pack.read:EIO:*");
    fixture_reopen(&f);
    at_fault_plan(NULL);
    g_assert_cmpuint(size_of(pack), ==, size);
    lose_index(&f);
    fixture_reopen(&f);
    check_disk(f.vault, &root, disk, SIZE);
    g_rand_free(r);
    fixture_close(&f);
}

/* One gc whose @nth read fails; whether it compacted what it could and left the pack. */
static bool collect_around(unsigned nth)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(2);
    g_autofree uint8_t *keep = disk_random(r, SIZE), *garbage = disk_random(r, 2 * SIZE);
    struct at_digest root, none;
    struct at_gc_report report;
    ingest(&f, keep, SIZE, &root, NULL); /* what is live is in the page that fails */
    ingest(&f, garbage, 2 * SIZE, &none, NULL);
    set_root(&f, &root);
    g_autofree char *pack = in_vault(&f, "packs/00000001.pack");
    g_autofree char *plan =
        g_strdup_printf("vault.pack.read:EIO:%u,vault.pack.read:EIO:%u", nth, nth);
    at_fault_plan(plan);
    bool ok = at_vault_gc(f.vault, NULL, NULL, NULL, &report, &error);
    at_fault_plan(NULL);
    bool left = ok && size_of(pack) > 0;
    if (ok)
        g_assert_cmpuint(report.bytes_freed, <, 4 * (uint64_t)SIZE);
    else
        g_assert_nonnull(strstr(error->message, "gc frees nothing while root"));
    g_assert_cmpuint(problems(&f), ==, 0);
    check_disk(f.vault, &root, keep, SIZE);
    g_clear_error(&error);
    at_vault_gc(f.vault, NULL, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(size_of(pack), ==, 0);
    check_disk(f.vault, &root, keep, SIZE);
    g_rand_free(r);
    fixture_close(&f);
    return left;
}

static void gc_around(void)
{
    unsigned left = 0;
    for (unsigned nth = 1; nth <= 12; nth++)
        left += collect_around(nth);
    g_assert_cmpuint(left, >, 0);
}

/* A guest writes what looks like the record of a chunk that is not what it says. When the header in
 * front is damaged, recovery comes upon it. */
/* The bytes of a guest's disk that do not compress, with a record of its own among them. */
static uint8_t *disk_with(struct at_record *record, const uint8_t *payload)
{
    GRand *r = g_rand_new_with_seed(3);
    uint8_t *disk = g_malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        disk[i] = (uint8_t)g_rand_int(r);
    if (payload)
        memcpy(disk + 512 + AT_RECORD_HEADER, payload, record->stored);
    record->check = at_check(disk + 512 + AT_RECORD_HEADER, record->stored);
    at_record_encode(record, disk + 512);
    g_rand_free(r);
    return disk;
}

/* Damages the record that the guest's one lies in, so that a scan steps into it. */
static void step_into(struct fixture *f, const uint8_t *disk)
{
    g_autofree char *pack = in_vault(f, "packs/00000001.pack");
    g_autofree char *bytes = NULL;
    gsize len;
    g_assert_true(g_file_get_contents(pack, &bytes, &len, NULL));
    char *found = memmem(bytes, len, disk + 512, AT_RECORD_HEADER);
    g_assert_nonnull(found);
    at_autofd fd = open(pack, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, "?", 1, found - bytes - 512 - (gssize)AT_RECORD_HEADER), ==, 1);
}

static void forged(void)
{
    struct fixture f;
    fixture_open(&f);
    struct at_record record = {.kind = AT_KIND_CHUNK, .plain = AT_BLOCK, .stored = AT_BLOCK};
    memset(record.digest.bytes, 0xab, AT_DIGEST_LEN);
    g_autofree uint8_t *disk = disk_with(&record, NULL);
    struct at_digest root, again;
    ingest(&f, disk, SIZE, &root, NULL);
    lose_index(&f);
    step_into(&f, disk);
    fixture_reopen(&f);
    struct at_place place;
    bool there = true;
    g_assert_true(at_object_place(f.vault, &record.digest, &place, &there, NULL));
    g_assert_false(there);
    ingest(&f, disk, SIZE, &again, NULL);
    check_disk(f.vault, &root, disk, SIZE);
    g_assert_cmpuint(problems(&f), ==, 0);
    fixture_close(&f);
}

/* What the two halves of somebody else's chunk hash to is the chunk's name: as a blob it would
 * prove it, and take the place of the chunk. */
static void forged_as_another_kind(void)
{
    struct fixture f;
    fixture_open(&f);
    uint8_t other[2 * AT_BLOCK], halves[1 + 2 * AT_DIGEST_LEN] = {0x01};
    struct at_digest half, root, own;
    for (size_t i = 0; i < sizeof other; i++)
        other[i] = (uint8_t)(i * 7 + i / AT_BLOCK + 1);
    for (unsigned i = 0; i < 2; i++) {
        at_hash_block(other + i * AT_BLOCK, &half);
        memcpy(halves + 1 + i * AT_DIGEST_LEN, half.bytes, AT_DIGEST_LEN);
    }
    struct at_record record = {
        .kind = AT_KIND_BLOB, .plain = sizeof halves, .stored = sizeof halves};
    at_hash_chunk(other, sizeof other, &record.digest);
    g_autofree uint8_t *disk = disk_with(&record, halves);
    ingest(&f, other, sizeof other, &root, NULL);
    ingest(&f, disk, SIZE, &own, NULL);
    lose_index(&f);
    step_into(&f, disk);
    fixture_reopen(&f);
    struct at_place place;
    bool there;
    g_assert_true(at_object_place(f.vault, &record.digest, &place, &there, NULL));
    g_assert_true(there);
    g_assert_cmpint(place.kind, ==, AT_KIND_CHUNK);
    check_disk(f.vault, &root, other, sizeof other);
    fixture_close(&f);
}

static void set_row(struct fixture *f, const struct at_digest *digest, const struct at_place *place)
{
    g_autoptr(GError) error = NULL;
    struct at_index_txn *txn = at_index_begin(f->vault->index, &error);
    g_assert_no_error(error);
    g_assert_true(at_test_ok(at_index_put(txn, digest, place, &error), &error));
    g_assert_true(at_test_ok(at_index_commit(txn, &error), &error));
}

/* A row that is damaged so: the next put of the content takes its place, and nothing is miscounted.
 */
static void row_of_another_kind(void)
{
    struct fixture f;
    fixture_open(&f);
    uint8_t disk[AT_BLOCK] = {1};
    struct at_digest root, chunk;
    struct at_vault_stats before, after;
    struct at_place place;
    bool there;
    ingest(&f, disk, sizeof disk, &root, NULL);
    set_tree_root(&f, "disk/a", &root);
    at_vault_stats(f.vault, &before, NULL);
    at_hash_chunk(disk, sizeof disk, &chunk);
    g_assert_true(at_object_place(f.vault, &chunk, &place, &there, NULL));
    place.kind = AT_KIND_BLOB;
    set_row(&f, &chunk, &place);
    g_assert_cmpuint(problems_in(&f, 0), ==, 1);
    g_assert_cmpuint(problems(&f), ==, 1);
    ingest(&f, disk, sizeof disk, &root, NULL);
    check_disk(f.vault, &root, disk, sizeof disk);
    g_assert_cmpuint(problems(&f), ==, 0);
    at_vault_stats(f.vault, &after, NULL);
    g_assert_cmpuint(before.chunks, ==, after.chunks);
    g_assert_cmpuint(before.plain_bytes, ==, after.plain_bytes);

    /* The same before anybody has noticed. */
    set_row(&f, &chunk, &place);
    ingest(&f, disk, sizeof disk, &root, NULL);
    fixture_reopen(&f); /* nothing is in a cache */
    check_disk(f.vault, &root, disk, sizeof disk);
    fixture_close(&f);
}

/* What a failed commit has left in an older pack is found at the next start. */
static void older_copy(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    uint8_t disk[AT_BLOCK] = {1};
    struct at_digest root, chunk;
    struct at_place place;
    bool there;
    ingest(&f, disk, sizeof disk, &root, NULL);
    at_hash_chunk(disk, sizeof disk, &chunk);
    at_store_roll(f.vault->store);
    at_store_distrust(f.vault->store, &chunk); /* so that it is put again */
    ingest(&f, disk, sizeof disk, &root, NULL);
    g_autoptr(GArray) metas = at_index_packs(f.vault->index, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(metas->len, ==, 2);
    struct at_pack_meta first = g_array_index(metas, struct at_pack_meta, 0);
    first.indexed = AT_PACK_HEADER;
    struct at_index_txn *txn = at_index_begin(f.vault->index, &error);
    g_assert_true(at_test_ok(at_index_pack_put(txn, &first, &error), &error));
    g_assert_true(at_test_ok(at_index_commit(txn, &error), &error));
    fixture_reopen(&f);
    g_assert_true(at_object_place(f.vault, &chunk, &place, &there, NULL));
    g_assert_true(there);
    g_assert_cmpuint(place.pack, ==, first.id + 1);
    check_disk(f.vault, &root, disk, sizeof disk);
    fixture_close(&f);
}

/* Killed between emptying and removing a pack, or before: the next start empties it, too, because a
 * reader that has it open would hold the space as long as it lives. */
static void empties(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(4);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root;
    ingest(&f, disk, SIZE, &root, NULL);
    g_autofree char *pack = in_vault(&f, "packs/00000001.pack");
    at_autofd reader = open(pack, O_RDONLY | O_CLOEXEC);
    at_fault_plan("vault.pack.empty:EIO");
    g_assert_false(at_vault_gc(f.vault, NULL, NULL, NULL, NULL, &error));
    at_fault_plan(NULL);
    struct stat st;
    g_assert_cmpint(fstat(reader, &st), ==, 0);
    g_assert_cmpint(st.st_size, >, 0);
    fixture_reopen(&f);
    g_assert_cmpint(fstat(reader, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 0);
    g_assert_cmpint(access(pack, F_OK), !=, 0);
    g_rand_free(r);
    fixture_close(&f);
}

/* Rows may only be committed over packs whose names are durable. */
static void syncs_names(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(5);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root;
    ingest(&f, disk, SIZE, &root, NULL);
    for (int lost = 0; lost < 2; lost++) {
        if (lost) {
            lose_index(&f);
        } else {
            g_autofree char *packs = in_vault(&f, "packs/00000001.pack");
            g_autofree char *bytes = NULL;
            gsize len;
            g_assert_true(g_file_get_contents(packs, &bytes, &len, NULL));
            at_vault_close(g_steal_pointer(&f.vault));
            at_autofd fd = open(packs, O_WRONLY | O_APPEND | O_CLOEXEC);
            gssize more = (gssize)len - (gssize)AT_PACK_HEADER;
            g_assert_cmpint(write(fd, bytes + AT_PACK_HEADER, (size_t)more), ==, more);
        }
        at_fault_plan("vault.packs.sync-dir:EIO");
        g_assert_null(at_vault_open(f.vault_dir, AT_VAULT_WRITE, (gid_t)-1, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_IO);
        g_clear_error(&error);
        at_fault_plan(NULL);
        fixture_reopen(&f);
        check_disk(f.vault, &root, disk, SIZE);
    }
    g_rand_free(r);
    fixture_close(&f);
}

/* LMDB maps the file: a page behind its end would be the end of the process. */
static void cut_index(void)
{
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(6);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root;
    ingest(&f, disk, SIZE, &root, NULL);
    g_autofree char *data = in_vault(&f, "index/data.mdb");
    for (uint64_t cut = size_of(data); cut > 0;) {
        cut -= MIN(cut, (uint64_t)3000);
        at_vault_close(g_steal_pointer(&f.vault));
        g_assert_cmpint(truncate(data, (off_t)cut), ==, 0);
        fixture_reopen(&f);
        check_disk(f.vault, &root, disk, SIZE);
    }
    g_rand_free(r);
    fixture_close(&f);
}

static void put_rubbish(const char *dir, const char *table, const char *key, const char *value)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val k = {strlen(key), (void *)key}, v = {strlen(value), (void *)value};
    g_assert_cmpint(mdb_env_create(&env), ==, 0);
    g_assert_cmpint(mdb_env_set_maxdbs(env, 4), ==, 0);
    g_assert_cmpint(mdb_env_open(env, dir, 0, 0600), ==, 0);
    g_assert_cmpint(mdb_txn_begin(env, NULL, 0, &txn), ==, 0);
    g_assert_cmpint(mdb_dbi_open(txn, table, 0, &dbi), ==, 0);
    g_assert_cmpint(mdb_put(txn, dbi, &k, &v, 0), ==, 0);
    g_assert_cmpint(mdb_txn_commit(txn), ==, 0);
    mdb_env_close(env);
}

static void corrupt_index(void)
{
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(7);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root;
    struct at_vault_stats before, after;
    ingest(&f, disk, SIZE, &root, NULL);
    at_vault_stats(f.vault, &before, NULL);
    g_autofree char *index = in_vault(&f, "index");
    at_vault_close(g_steal_pointer(&f.vault));
    put_rubbish(index, "meta", "stats", "short");
    fixture_reopen(&f);
    at_vault_stats(f.vault, &after, NULL);
    g_assert_cmpuint(before.chunks, ==, after.chunks);
    check_disk(f.vault, &root, disk, SIZE);
    g_rand_free(r);
    fixture_close(&f);
}

/* Comes with the progress of a reindex: the index is being built beside. */
static void note_damage(uint64_t done, uint64_t total, void *user)
{
    struct fixture *f = user;
    static const struct at_digest digest = {{0xda}};
    g_assert_true(at_vault_note_damage(f->vault, &digest, 1, NULL));
}

static void damage_beside_reindex(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    struct at_digest root;
    struct at_vault_stats stats;
    ingest(&f, (const uint8_t *)"x", 1, &root, NULL);
    g_assert_true(at_vault_reindex(f.vault, note_damage, &f, NULL, &error));
    g_assert_true(at_vault_stats(f.vault, &stats, &error));
    g_assert_cmpuint(stats.quarantined, ==, 1);
    fixture_reopen(&f);
    g_assert_true(at_vault_stats(f.vault, &stats, &error));
    g_assert_cmpuint(stats.quarantined, ==, 1);
    fixture_close(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/recovery/a-sector-that-cannot-be-read-costs-what-is-in-it",
                    rebuild_around);
    g_test_add_func("/vault/gc/a-sector-that-cannot-be-read-keeps-its-pack-and-nothing-else",
                    gc_around);
    g_test_add_func("/vault/recovery/a-record-that-a-guest-has-forged-is-none", forged);
    g_test_add_func("/vault/recovery/a-record-that-proves-a-name-of-another-kind-is-none",
                    forged_as_another_kind);
    g_test_add_func("/vault/recovery/a-row-of-another-kind-is-told-and-replaced",
                    row_of_another_kind);
    g_test_add_func("/vault/recovery/an-older-copy-does-not-take-the-place-of-a-newer-one",
                    older_copy);
    g_test_add_func("/vault/recovery/a-pack-that-was-to-be-removed-holds-no-space", empties);
    g_test_add_func("/vault/recovery/syncs-the-names-of-packs-before-a-commit", syncs_names);
    g_test_add_func("/vault/recovery/an-index-that-was-cut-anywhere-is-rebuilt", cut_index);
    g_test_add_func("/vault/recovery/an-index-with-malformed-counters-is-rebuilt", corrupt_index);
    g_test_add_func("/vault/recovery/damage-found-during-a-reindex-is-not-forgotten",
                    damage_beside_reindex);
    return g_test_run();
}
