/* SPDX-License-Identifier: Apache-2.0 */
/* What gc frees, and what it must never free. */
#include <string.h>

#include "base/error.h"
#include "base/fault.h"
#include "disk.h"
#include "vault/hash.h"
#include "vault/vault-internal.h"

#define SIZE (6u << 20)

static void set_root(struct fixture *f, const char *name, enum at_root_kind kind,
                     const struct at_digest *digest)
{
    g_autoptr(GError) error = NULL;
    at_vault_root_set(f->vault, name, kind, digest, &error);
    g_assert_no_error(error);
}

static struct at_gc_report collect(struct fixture *f)
{
    g_autoptr(GError) error = NULL;
    struct at_gc_report report;
    at_vault_gc(f->vault, NULL, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    return report;
}

static void check_whole(struct fixture *f)
{
    g_autoptr(GError) error = NULL;
    struct at_verify_report *report;
    at_vault_verify(f->vault, 100, NULL, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(report->problems->len, ==, 0);
    at_verify_report_free(report);
}

static void frees_and_compacts(void)
{
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(7);
    g_autofree uint8_t *a = disk_random(r, SIZE), *b = disk_random(r, SIZE);
    memcpy(b, a, SIZE / 8);
    struct at_digest ra, rb;
    struct at_vault_stats before, after;
    ingest(&f, a, SIZE, &ra, NULL);
    ingest(&f, b, SIZE, &rb, NULL);
    set_root(&f, "image/a", AT_ROOT_TREE, &ra);
    set_root(&f, "image/b", AT_ROOT_TREE, &rb);
    struct at_gc_report report = collect(&f);
    g_assert_cmpuint(report.chunks_freed, ==, 0);
    check_disk(f.vault, &ra, a, SIZE);
    check_disk(f.vault, &rb, b, SIZE);
    at_vault_stats(f.vault, &before, NULL);

    g_assert_true(at_vault_root_remove(f.vault, "image/a", NULL));
    report = collect(&f);
    g_assert_cmpuint(report.chunks_freed, >, 0);
    g_assert_cmpuint(report.bytes_freed, >, before.stored_bytes / 4);
    at_vault_stats(f.vault, &after, NULL);
    g_assert_cmpuint(after.stored_bytes, ==, report.stored_bytes);
    g_assert_cmpuint(after.stored_bytes, <, before.stored_bytes * 3 / 4);
    at_vault_set_cache(f.vault, 0);
    check_disk(f.vault, &rb, b, SIZE);
    check_whole(&f);
    fixture_reopen(&f);
    check_disk(f.vault, &rb, b, SIZE);

    g_assert_true(at_vault_root_remove(f.vault, "image/b", NULL));
    collect(&f);
    at_vault_stats(f.vault, &after, NULL);
    g_assert_cmpuint(after.chunks, ==, 0);
    g_assert_cmpuint(after.plain_bytes, ==, 0);
    g_assert_cmpuint(after.stored_bytes, <, 4096);
    g_rand_free(r);
    fixture_close(&f);
}

static void keeps_sessions(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(8);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root, again;
    ingest(&f, disk, SIZE, &root, NULL); /* garbage now: no root, no session */

    /* A session that puts the same again relies on what is garbage to gc. */
    struct at_vault_session *session = at_vault_session_begin(f.vault, &error);
    struct at_tree_writer *w = at_tree_writer_new(session, NULL, SIZE, &error);
    at_tree_writer_data(w, 0, disk, SIZE, &error);
    at_tree_writer_finish(w, &again, NULL, &error);
    g_assert_no_error(error);
    at_tree_writer_free(w);
    g_assert_true(at_digest_equal(&root, &again));
    struct at_gc_report report = collect(&f);
    g_assert_cmpuint(report.chunks_freed, ==, 0);
    set_root(&f, "image/x", AT_ROOT_TREE, &again);
    at_vault_session_end(session);
    collect(&f);
    check_disk(f.vault, &again, disk, SIZE);
    check_whole(&f);

    /* A base is kept while a writer reuses its parts. */
    session = at_vault_session_begin(f.vault, &error);
    w = at_tree_writer_new(session, &root, SIZE, &error);
    g_assert_true(at_vault_root_remove(f.vault, "image/x", NULL));
    collect(&f);
    disk[SIZE / 2] ^= 1;
    at_tree_writer_data(w, SIZE / 2, disk + SIZE / 2, 1, &error);
    at_tree_writer_finish(w, &again, NULL, &error);
    g_assert_no_error(error);
    at_tree_writer_free(w);
    collect(&f);
    set_root(&f, "image/y", AT_ROOT_TREE, &again);
    at_vault_session_end(session);
    collect(&f);
    check_disk(f.vault, &again, disk, SIZE);
    check_whole(&f);
    g_rand_free(r);
    fixture_close(&f);
}

static void keeps_manifests(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(9);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root, manifest;
    ingest(&f, disk, SIZE, &root, NULL);
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(&root, hex);
    g_autofree char *text = g_strdup_printf("{\"disks\":[{\"name\":\"d\",\"root\":\"%s\"}]}", hex);
    struct at_vault_session *session = at_vault_session_begin(f.vault, &error);
    at_vault_blob_put(session, text, strlen(text), &manifest, &error);
    g_assert_no_error(error);
    /* The disk was put before this session began and has no root: gc in between would be right to
     * free it, but the manifest's root is set first. */
    set_root(&f, "snapshot/1/nightly", AT_ROOT_MANIFEST, &manifest);
    at_vault_session_end(session);
    g_assert_cmpuint(collect(&f).chunks_freed, ==, 0);
    check_disk(f.vault, &root, disk, SIZE);
    g_autoptr(GBytes) back = at_vault_blob_get(f.vault, &manifest, &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) text_bytes = g_bytes_new_static(text, strlen(text));
    g_assert_true(g_bytes_equal(back, text_bytes));
    check_whole(&f);
    g_rand_free(r);
    fixture_close(&f);
}

static gpointer collect_beside(gpointer user)
{
    struct fixture *f = user;
    g_assert_cmpuint(collect(f).chunks_freed, >, 0);
    return NULL;
}

static void wait_for_sweep(struct fixture *f, const struct at_digest *garbage)
{
    bool keeps = true;
    while (keeps) {
        g_mutex_lock(&f->vault->roots_lock);
        keeps = at_gc_keeps(f->vault, garbage);
        g_mutex_unlock(&f->vault->roots_lock);
        g_usleep(1000);
    }
}

static void refuse_manifest(struct fixture *f, const struct at_digest *manifest)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(
        at_vault_root_set(f->vault, "snapshot/1/late", AT_ROOT_MANIFEST, manifest, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "no disk "));
}

/* gc has decided on a disk, and is held up before it deletes it: from then on nobody may come to
 * rely on it. */
static void refuses_what_is_being_freed(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(10);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root, manifest;
    ingest(&f, disk, SIZE, &root, NULL);
    g_autofree char *hex = at_digest_dup_hex(&root);
    g_autofree char *text = g_strdup_printf("{\"disks\":[{\"root\":\"%s\"}]}", hex);
    struct at_vault_session *session = at_vault_session_begin(f.vault, &error);
    g_assert_true(at_vault_blob_put(session, text, strlen(text), &manifest, &error));

    g_rw_lock_reader_lock(&f.vault->sweep_lock);
    GThread *gc = g_thread_new("gc", collect_beside, &f);
    wait_for_sweep(&f, &root);
    refuse_manifest(&f, &manifest);
    g_assert_null(at_tree_writer_new(session, &root, SIZE, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_rw_lock_reader_unlock(&f.vault->sweep_lock);
    g_thread_join(gc);

    refuse_manifest(&f, &manifest);
    at_vault_session_end(session);
    check_whole(&f);
    g_rand_free(r);
    fixture_close(&f);
}

static void frees_failed_commits(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(11);
    g_autofree uint8_t *disk = disk_random(r, SIZE), *lost = disk_random(r, SIZE);
    struct at_digest root, none;
    struct at_vault_stats before, after;
    ingest(&f, disk, SIZE, &root, NULL);
    set_root(&f, "image/x", AT_ROOT_TREE, &root);
    at_store_roll(f.vault->store);
    at_vault_stats(f.vault, &before, NULL);
    struct at_vault_session *session = at_vault_session_begin(f.vault, &error);
    struct at_tree_writer *w = at_tree_writer_new(session, NULL, SIZE, &error);
    g_assert_true(at_tree_writer_data(w, 0, lost, SIZE, &error));
    at_fault_plan("vault.index.commit:ENOSPC");
    g_assert_false(at_tree_writer_finish(w, &none, NULL, &error));
    at_fault_plan(NULL);
    g_clear_error(&error);
    at_tree_writer_free(w);
    at_vault_session_end(session);
    at_vault_stats(f.vault, &after, NULL);
    g_assert_cmpuint(after.packs, ==, before.packs + 1); /* nobody knew whether it was committed */
    g_assert_cmpuint(collect(&f).bytes_freed, >, 0);
    at_vault_stats(f.vault, &after, NULL);
    g_assert_cmpuint(after.packs, ==, before.packs);
    g_assert_cmpuint(after.stored_bytes, ==, before.stored_bytes);
    check_disk(f.vault, &root, disk, SIZE);
    fixture_reopen(&f);
    check_disk(f.vault, &root, disk, SIZE);
    g_rand_free(r);
    fixture_close(&f);
}

static void roots(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    struct at_digest root, none = {{1}};
    ingest(&f, (const uint8_t *)"x", 1, &root, NULL);
    g_autofree char *longest = g_strnfill(255, 'x');
    const char *names[] = {"image/a", "image.a", "..", "live/1/d0", longest, "a/../b", "a@b-c_d"};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++)
        set_root(&f, names[i], AT_ROOT_TREE, &root);
    g_autoptr(GPtrArray) all = at_vault_root_list(f.vault, NULL, &error);
    g_assert_cmpuint(all->len, ==, G_N_ELEMENTS(names));
    g_autoptr(GPtrArray) images = at_vault_root_list(f.vault, "image/", &error);
    g_assert_cmpuint(images->len, ==, 1);
    struct at_root *one;
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_assert_true(at_vault_root_get(f.vault, names[i], &one, &error));
        g_assert_cmpstr(one->name, ==, names[i]);
        g_assert_true(at_digest_equal(&one->digest, &root));
        at_root_free(one);
        g_assert_true(at_vault_root_remove(f.vault, names[i], &error));
        g_assert_true(at_vault_root_remove(f.vault, names[i], &error));
        g_assert_false(at_vault_root_get(f.vault, names[i], &one, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
        g_clear_error(&error);
    }
    g_assert_false(at_vault_root_set(f.vault, "image/A", AT_ROOT_TREE, &root, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_false(at_vault_root_set(f.vault, "image/a", AT_ROOT_TREE, &none, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_false(at_vault_root_set(f.vault, "image/a", AT_ROOT_MANIFEST, &root, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    fixture_close(&f);
}

static void leave_damaged(void)
{
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(17);
    g_autofree uint8_t *gone = disk_random(r, SIZE);
    uint8_t bad[AT_BLOCK] = {1}, good[AT_BLOCK] = {2};
    g_rand_free(r);
    struct at_digest a, b, c, chunks[2];
    struct at_place before[2], after[2];
    bool found;
    ingest(&f, gone, SIZE, &a, NULL);
    ingest(&f, bad, sizeof bad, &b, NULL);
    ingest(&f, good, sizeof good, &c, NULL);
    set_root(&f, "disk/bad", AT_ROOT_TREE, &b);
    set_root(&f, "disk/good", AT_ROOT_TREE, &c);
    at_hash_chunk(bad, sizeof bad, &chunks[0]);
    at_hash_chunk(good, sizeof good, &chunks[1]);
    at_store_distrust(f.vault->store, &chunks[0]);
    for (unsigned i = 0; i < 2; i++)
        g_assert_true(at_object_place(f.vault, &chunks[i], &before[i], &found, NULL));
    g_assert_cmpuint(collect(&f).chunks_freed, >, 0);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_true(at_object_place(f.vault, &chunks[i], &after[i], &found, NULL));
        g_assert_true(found);
    }
    /* Moved, it could come to lie behind a good copy, and count when the index is built again. */
    g_assert_cmpuint(after[0].pack, ==, before[0].pack);
    g_assert_cmpuint(after[0].offset, ==, before[0].offset);
    g_assert_cmpuint(after[1].pack, >, before[1].pack);
    fixture_close(&f);
}

struct late {
    struct at_vault_session *session;
    const uint8_t *chunk;
    uint64_t stored;
};

/* Comes with the progress of a reindex: nothing is committed until the new index is in place. */
static void put_late(uint64_t done, uint64_t total, void *user)
{
    struct late *late = user;
    g_autoptr(GError) error = NULL;
    struct at_digest digest;
    if (late->stored)
        return;
    at_hash_chunk(late->chunk, AT_BLOCK, &digest);
    at_store_put(late->session, AT_KIND_CHUNK, &digest, late->chunk, AT_BLOCK, &late->stored,
                 &error);
    g_assert_no_error(error);
    g_assert_cmpuint(late->stored, >, 0);
}

/* An index that is built again has rows of garbage that gc had already freed, in packs that it has
 * left as they are.  Who has put the same content anew relies on the new copy. */
static void reindex_beside_a_session(bool during)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(13);
    g_autofree uint8_t *kept = disk_random(r, SIZE);
    uint8_t again[AT_BLOCK];
    for (size_t i = 0; i < sizeof again; i++)
        again[i] = (uint8_t)g_rand_int(r);
    g_rand_free(r);
    struct at_digest a, b, chunk;
    struct at_place place;
    bool found;
    ingest(&f, kept, SIZE, &a, NULL);
    set_root(&f, "image/kept", AT_ROOT_TREE, &a);
    ingest(&f, again, sizeof again, &b, NULL);
    at_hash_chunk(again, sizeof again, &chunk);
    g_assert_cmpuint(collect(&f).chunks_freed, ==, 1);

    struct late late = {at_vault_session_begin(f.vault, &error), again, 0};
    g_assert_no_error(error);
    if (!during)
        put_late(0, 0, &late);
    at_vault_reindex(f.vault, put_late, &late, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(late.stored, >, 0);
    collect(&f);
    g_assert_true(at_object_place(f.vault, &chunk, &place, &found, &error));
    g_assert_true(found);
    at_vault_session_end(late.session);
    g_assert_cmpuint(collect(&f).chunks_freed, ==, 1);
    check_whole(&f);
    check_disk(f.vault, &a, kept, SIZE);
    fixture_close(&f);
}

static void reindex_after_puts(void)
{
    reindex_beside_a_session(false);
}

static void reindex_before_puts(void)
{
    reindex_beside_a_session(true);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/roots/any-legal-name-is-kept-apart", roots);
    g_test_add_func("/vault/gc/frees-what-no-root-reaches-and-gives-the-space-back",
                    frees_and_compacts);
    g_test_add_func("/vault/gc/keeps-what-an-open-session-relies-on", keeps_sessions);
    g_test_add_func("/vault/gc/keeps-the-disks-of-a-manifest", keeps_manifests);
    g_test_add_func("/vault/gc/frees-packs-whose-commit-has-failed", frees_failed_commits);
    g_test_add_func("/vault/gc/what-is-being-freed-is-no-base-and-in-no-manifest",
                    refuses_what_is_being_freed);
    g_test_add_func("/vault/gc/what-is-known-to-be-damaged-is-not-moved", leave_damaged);
    g_test_add_func("/vault/gc/what-a-session-has-put-before-a-reindex-stays", reindex_after_puts);
    g_test_add_func("/vault/gc/what-a-session-puts-during-a-reindex-stays", reindex_before_puts);
    return g_test_run();
}
