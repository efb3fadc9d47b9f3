/* SPDX-License-Identifier: Apache-2.0 */
/* Appending and committing from several threads at once: what is committed is in synced bytes, and
 * who is told that an object is there can rely on it. */
#include <string.h>
#include <sys/stat.h>

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/store/a-pack-closed-during-a-flush-is-synced-by-the-next",
                    rolled_while_flushing);
    return g_test_run();
}
