/* SPDX-License-Identifier: Apache-2.0 */
/* Commits: what was appended is synced, its rows go into the index, and who had put what was lost
 * is told. */
#include "vault/store-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/retry.h"

/* What one flush has taken charge of. */
struct batch {
    GHashTable *rows;
    GArray *moves;
    GPtrArray *tails; /* struct at_tail*, with `upto` in step */
    GArray *upto;     /* uint64_t */
};

static void batch_clear(struct batch *b)
{
    g_clear_pointer(&b->moves, g_array_unref);
    g_clear_pointer(&b->tails, g_ptr_array_unref);
    g_clear_pointer(&b->upto, g_array_unref);
}

static bool sync_packs(struct at_store *store, const struct batch *b, GError **error)
{
    bool fresh = false;
    for (unsigned i = 0; i < b->tails->len; i++) {
        struct at_tail *t = g_ptr_array_index(b->tails, i);
        fresh = fresh || t->indexed == 0;
        if (g_array_index(b->upto, uint64_t, i) == t->indexed)
            continue;
        int err = at_fault_errno("vault.pack.sync");
        if (!err && at_retry(fdatasync(t->fd)) != 0)
            err = errno;
        if (err)
            return at_error_errno(error, err, "sync pack %08x", t->id);
    }
    return !fresh || (at_fault_point("vault.packs.sync-dir", error) &&
                      at_fsync_dir(at_packs_dir(store->packs), error));
}

static bool same_place(const struct at_place *a, const struct at_place *b)
{
    return a->pack == b->pack && a->offset == b->offset;
}

static int by_digest(gconstpointer a, gconstpointer b)
{
    return memcmp(*(struct at_row *const *)a, *(struct at_row *const *)b, AT_DIGEST_LEN);
}

/* Whether a record lies in what the batch has synced: no row may be committed otherwise. */
static bool in_batch(const struct batch *b, const struct at_place *place)
{
    for (unsigned i = 0; i < b->tails->len; i++) {
        const struct at_tail *t = g_ptr_array_index(b->tails, i);
        if (t->id == place->pack)
            return place->offset + at_record_size(place->stored) <=
                   g_array_index(b->upto, uint64_t, i);
    }
    return false;
}

static bool index_batch(struct at_store *store, const struct batch *b, GError **error)
{
    struct at_index_txn *txn = at_index_begin(store->index, error);
    if (!txn)
        return false;
    bool ok = true;
    g_autofree struct at_row **rows = g_new(struct at_row *, g_hash_table_size(b->rows) + 1);
    unsigned n = 0;
    GHashTableIter it;
    gpointer value;
    g_hash_table_iter_init(&it, b->rows);
    while (g_hash_table_iter_next(&it, NULL, &value))
        rows[n++] = value;
    qsort(rows, n, sizeof *rows, by_digest); /* neighbours share pages */
    for (unsigned i = 0; ok && i < n; i++) {
        g_assert(in_batch(b, &rows[i]->place));
        ok = at_index_put(txn, &rows[i]->digest, &rows[i]->place, error) &&
             (!rows[i]->replace || at_index_quarantine(txn, &rows[i]->digest, false, error));
    }
    for (unsigned i = 0; ok && i < b->moves->len; i++) {
        struct at_move *m = &g_array_index(b->moves, struct at_move, i);
        struct at_place now;
        bool found;
        g_assert(in_batch(b, &m->place));
        ok = at_index_get(txn, &m->digest, &now, &found, error) &&
             (!found || !same_place(&now, &m->old) ||
              at_index_put(txn, &m->digest, &m->place, error));
    }
    for (unsigned i = 0; ok && i < b->tails->len; i++) {
        struct at_tail *t = g_ptr_array_index(b->tails, i);
        struct at_pack_meta meta = {.id = t->id, .indexed = g_array_index(b->upto, uint64_t, i)};
        memcpy(meta.uuid, t->uuid, sizeof meta.uuid);
        ok = at_index_pack_put(txn, &meta, error);
    }
    if (!ok) {
        at_index_abort(txn);
        return false;
    }
    return at_index_commit(txn, error);
}

/* With the lock held: what there is to flush, after writing it out. */
static bool take_batch(struct at_store *store, struct batch *b, GError **error)
{
    if (!at_store_write_out(store, error))
        return false;
    b->rows = store->committing = g_steal_pointer(&store->pending);
    store->pending = at_rows_new();
    b->moves = g_steal_pointer(&store->moves);
    store->moves = g_array_new(FALSE, FALSE, sizeof(struct at_move));
    store->pending_bytes = 0;
    b->tails = g_ptr_array_new_with_free_func(at_tail_unref);
    b->upto = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    for (unsigned i = 0; i < store->tails->len; i++) {
        struct at_tail *t = g_ptr_array_index(store->tails, i);
        g_atomic_int_inc(&t->refs);
        g_ptr_array_add(b->tails, t);
        g_array_append_val(b->upto, t->end);
        t->taken = t->end;
    }
    return true;
}

static void finish_batch(struct at_store *store, struct batch *b, bool ok, bool cut,
                         const GError *why)
{
    g_mutex_lock(&store->lock);
    if (ok) {
        for (unsigned i = 0; i < b->tails->len; i++) {
            struct at_tail *t = g_ptr_array_index(b->tails, i);
            t->indexed = g_array_index(b->upto, uint64_t, i);
            /* One that was rolled while it was appended to still has bytes for the next flush. */
            if (t != store->current && t->end == t->indexed)
                g_ptr_array_remove(store->tails, t);
        }
        GHashTableIter it;
        gpointer value;
        g_hash_table_iter_init(&it, b->rows);
        while (g_hash_table_iter_next(&it, NULL, &value)) {
            if (((struct at_row *)value)->replace)
                g_hash_table_remove(store->distrusted, value);
        }
    } else {
        for (unsigned i = 0; i < b->tails->len; i++) {
            struct at_tail *t = g_ptr_array_index(b->tails, i);
            t->taken = t->indexed;
        }
        at_store_give_up(store, why, cut);
    }
    store->committing = NULL;
    store->settled++;
    g_hash_table_unref(b->rows);
    g_mutex_unlock(&store->lock);
}

static bool flush_locked(struct at_store *store, GError **error)
{
    struct batch b = {0};
    g_mutex_lock(&store->lock);
    if (g_hash_table_size(store->pending) == 0 && store->moves->len == 0) {
        g_mutex_unlock(&store->lock);
        return true;
    }
    bool ok = take_batch(store, &b, error);
    g_mutex_unlock(&store->lock);
    if (!ok)
        return false;
    g_autoptr(GError) local = NULL;
    /* After a failed commit nobody can know whether the index has the rows: then their bytes stay,
     * and recovery or gc decides. */
    bool synced = sync_packs(store, &b, &local);
    ok = synced && index_batch(store, &b, &local);
    finish_batch(store, &b, ok, !synced, local);
    batch_clear(&b);
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&local));
    return ok;
}

bool at_store_check(struct at_store *store, uint64_t failures, GError **error)
{
    g_mutex_lock(&store->lock);
    bool ok = store->failures == failures;
    if (!ok)
        at_error(error, store->failure ? (enum at_error_code)store->failure->code : AT_ERROR_IO,
                 "a write of this session was lost%s%s", store->failure ? ": " : "",
                 store->failure ? store->failure->message : "");
    g_mutex_unlock(&store->lock);
    return ok;
}

bool at_store_flush(struct at_store *store, uint64_t failures, GError **error)
{
    g_mutex_lock(&store->commit_lock);
    bool ok = flush_locked(store, error);
    g_mutex_unlock(&store->commit_lock);
    if (!ok)
        return false;
    return at_store_check(store, failures, error);
}

void at_store_hold(struct at_store *store)
{
    g_mutex_lock(&store->commit_lock);
}

void at_store_release(struct at_store *store)
{
    g_mutex_unlock(&store->commit_lock);
}

struct commit {
    struct at_work work;
    struct at_store *store;
};

/* Pool thread.  What fails is told to all whose puts are lost, when they check or flush. */
static void run_commit(struct at_work *work)
{
    struct at_store *store = ((struct commit *)work)->store;
    if (g_mutex_trylock(&store->commit_lock)) {
        flush_locked(store, NULL);
        g_mutex_unlock(&store->commit_lock);
    }
    g_mutex_lock(&store->lock);
    store->commit_queued = false;
    g_mutex_unlock(&store->lock);
    g_free(work);
}

void at_store_commit_beside(struct at_vault *vault)
{
    struct at_store *store = vault->store;
    g_mutex_lock(&store->lock);
    bool queue = !store->commit_queued;
    store->commit_queued = true;
    g_mutex_unlock(&store->lock);
    if (!queue)
        return;
    struct commit *commit = g_new0(struct commit, 1);
    commit->work.run = run_commit;
    commit->store = store;
    at_vault_submit(vault, &commit->work);
}
