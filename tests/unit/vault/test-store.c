/* SPDX-License-Identifier: Apache-2.0 */
/* Appending and committing from several threads at once: what is committed is in synced bytes, and
 * who is told that an object is there can rely on it. */
#include <string.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "disk.h"
#include "vault/hash.h"
#include "vault/vault-internal.h"

static uint64_t pack_size(struct fixture *f, uint32_t id)
{
    g_autofree char *path = g_strdup_printf("%s/packs/%08x.pack", f->vault_dir, id);
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static gpointer flush(gpointer vault)
{
    struct at_store *store = ((struct at_vault *)vault)->store;
    return GINT_TO_POINTER(at_store_flush(store, at_store_failures(store), NULL));
}

static void put_text(struct at_vault_session *session, const char *text)
{
    g_autoptr(GError) error = NULL;
    struct at_digest digest;
    uint64_t stored;
    at_hash(text, strlen(text), &digest);
    at_store_put(session, AT_KIND_BLOB, &digest, (const uint8_t *)text, strlen(text), &stored,
                 &error);
    g_assert_no_error(error);
}

/* A flush waits for the index, which we hold; meanwhile its pack is appended to and then closed. */
static void rolled_while_flushing(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    struct at_vault_session *session = at_vault_session_begin(f.vault, &error);
    put_text(session, "first");
    struct at_index_txn *txn = at_index_begin(f.vault->index, &error);
    g_assert_no_error(error);
    GThread *thread = g_thread_new("flush", flush, f.vault);
    while (pack_size(&f, 1) == 0) /* written out: the flush has taken its batch */
        g_usleep(1000);
    put_text(session, "second");
    at_store_roll(f.vault->store);
    at_index_abort(txn);
    g_assert_true(GPOINTER_TO_INT(g_thread_join(thread)));
    g_assert_true(GPOINTER_TO_INT(flush(f.vault)));
    at_vault_session_end(session);

    g_autoptr(GArray) packs = at_index_packs(f.vault->index, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(packs->len, ==, 1);
    g_assert_cmpuint(g_array_index(packs, struct at_pack_meta, 0).indexed, ==, pack_size(&f, 1));
    fixture_close(&f);
}

struct same {
    struct fixture f;
    uint8_t *blob;
    struct at_digest digest;
    int failed; /* atomic */
};
#define SAME (12u << 20) /* takes long to compress */

static gpointer put_same(gpointer user)
{
    struct same *s = user;
    struct at_place place;
    bool found;
    uint64_t stored;
    struct at_vault_session *session = at_vault_session_begin(s->f.vault, NULL);
    if (at_store_put(session, AT_KIND_BLOB, &s->digest, s->blob, SAME, &stored, NULL)) {
        g_assert_true(at_store_peek(s->f.vault->store, &s->digest, &place, &found, NULL));
        g_assert_true(found);
    } else {
        g_atomic_int_inc(&s->failed);
    }
    at_vault_session_end(session);
    return NULL;
}

static void put_by_all(struct same *s)
{
    GThread *threads[4];
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("same", put_same, s);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
}

/* Whoever is told that an object is there may commit a name for it: it must have been appended,
 * whichever thread does that and whether or not the first one fails. */
static void waits_for_another(void)
{
    static const char *const plans[] = {NULL, "vault.pack.write:EIO"};
    for (unsigned i = 0; i < G_N_ELEMENTS(plans); i++) {
        struct same s = {0};
        fixture_open(&s.f);
        GRand *r = g_rand_new_with_seed(1);
        s.blob = disk_random(r, SAME);
        s.blob[0] = '{';
        g_rand_free(r);
        at_hash(s.blob, SAME, &s.digest);
        at_fault_plan(plans[i]);
        put_by_all(&s);
        at_fault_plan(NULL);
        g_assert_cmpint(s.failed, ==, i);
        g_assert_true(GPOINTER_TO_INT(flush(s.f.vault)));
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) back = at_vault_blob_get(s.f.vault, &s.digest, &error);
        g_assert_no_error(error);
        g_autoptr(GBytes) blob = g_bytes_new_static(s.blob, SAME);
        g_assert_true(g_bytes_equal(blob, back));
        fixture_close(&s.f);
        g_free(s.blob);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/store/a-pack-closed-during-a-flush-is-synced-by-the-next",
                    rolled_while_flushing);
    g_test_add_func("/vault/store/what-another-thread-is-putting-is-waited-for-also-if-it-fails",
                    waits_for_another);
    return g_test_run();
}
