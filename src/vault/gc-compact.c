/* SPDX-License-Identifier: Apache-2.0 */
/* Giving space back: what is live in packs that hold much garbage is appended again, and the packs
 * are removed. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/retry.h"
#include "vault/gc-internal.h"

#define WORTH_PERCENT 70u /* packs with less live content than this are rewritten */
#define SMALL (AT_PACK_SIZE / 8)
#define MANY_SMALL 16u /* so many small packs are joined */

struct pack_use {
    uint32_t id;
    uint64_t live, size;
    struct at_pack_meta meta;
};

static int by_live(gconstpointer a, gconstpointer b)
{
    const struct pack_use *x = a, *y = b;
    return x->live < y->live ? -1 : x->live > y->live;
}

/* Bytes of each pack that the index names. Every pack that has none can go after this: of all that
 * is needed there are rows, each with its check, and they name other packs. */
static bool count_live(struct gc *gc, GHashTable *uses, GError **error)
{
    size_t marked = 0;
    struct at_digest after;
    bool more = true;
    g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(struct at_index_row));
    for (bool first = true; more; first = false) {
        g_array_set_size(rows, 0);
        if (!at_index_rows(gc->vault->index, first ? NULL : &after, AT_GC_ROWS, rows, error))
            return false;
        more = rows->len == AT_GC_ROWS;
        for (unsigned i = 0; i < rows->len; i++) {
            struct at_index_row *row = &g_array_index(rows, struct at_index_row, i);
            struct pack_use *use = g_hash_table_lookup(uses, GUINT_TO_POINTER(row->place.pack));
            if (use)
                use->live += at_record_size(row->place.stored);
            marked += at_digest_set_has(gc->run.marked, &row->digest);
        }
        if (rows->len)
            after = g_array_index(rows, struct at_index_row, rows->len - 1).digest;
    }
    return at_gc_index_whole(gc->vault, marked, gc->run.marked, gc->cancellable, error);
}

/* The pack files before the floor's, behind which nothing can be garbage yet.  One that the index
 * does not know was left by a commit that failed. */
static GHashTable *list_uses(struct gc *gc, GError **error)
{
    struct at_vault *vault = gc->vault;
    g_autoptr(GArray) ids = at_packs_list(vault->packs, error);
    g_autoptr(GArray) metas = ids ? at_index_packs(vault->index, error) : NULL;
    if (!metas)
        return NULL;
    g_autoptr(GHashTable) uses = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    for (unsigned i = 0; i < ids->len; i++) {
        uint32_t id = g_array_index(ids, uint32_t, i);
        g_autofree char *path = at_packs_path(vault->packs, id);
        struct stat st;
        if (id >= gc->run.floor.pack || at_store_has_open(vault->store, id) || stat(path, &st) != 0)
            continue;
        struct pack_use *use = g_new0(struct pack_use, 1);
        use->id = use->meta.id = id;
        use->size = (uint64_t)st.st_size;
        g_hash_table_insert(uses, GUINT_TO_POINTER(id), use);
    }
    for (unsigned i = 0; i < metas->len; i++) {
        struct at_pack_meta *m = &g_array_index(metas, struct at_pack_meta, i);
        struct pack_use *use = g_hash_table_lookup(uses, GUINT_TO_POINTER(m->id));
        if (use)
            use->meta = *m;
    }
    return g_steal_pointer(&uses);
}

/* Packs that are worth rewriting, the emptiest first. */
static GArray *choose(struct gc *gc, GError **error)
{
    g_autoptr(GHashTable) uses = list_uses(gc, error);
    if (!uses || !count_live(gc, uses, error))
        return NULL;
    GArray *victims = g_array_new(FALSE, FALSE, sizeof(struct pack_use));
    GHashTableIter it;
    gpointer value;
    unsigned small = 0;
    g_hash_table_iter_init(&it, uses);
    while (g_hash_table_iter_next(&it, NULL, &value))
        small += ((struct pack_use *)value)->size < SMALL;
    g_hash_table_iter_init(&it, uses);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        struct pack_use *use = value;
        if ((use->size < SMALL && small >= MANY_SMALL) ||
            use->live * 100 < (use->size - MIN(use->size, AT_PACK_HEADER)) * WORTH_PERCENT ||
            use->live == 0)
            g_array_append_val(victims, *use);
    }
    g_array_sort(victims, by_live);
    return victims;
}

static bool set_meta(struct at_vault *vault, const struct at_pack_meta *meta, bool remove,
                     GError **error)
{
    struct at_index_txn *txn = at_index_begin(vault->index, error);
    if (!txn)
        return false;
    if (remove ? !at_index_pack_delete(txn, meta->id, error)
               : !at_index_pack_put(txn, meta, error)) {
        at_index_abort(txn);
        return false;
    }
    return at_index_commit(txn, error);
}

/* Removes a pack that nothing refers to.  It is emptied first: readers that still have it open
 * hold no space, and see that they must look again. */
static bool remove_pack(struct gc *gc, struct pack_use *use, GError **error)
{
    struct at_vault *vault = gc->vault;
    g_autofree char *path = at_packs_path(vault->packs, use->id);
    use->meta.state = AT_PACK_REMOVING;
    if (!set_meta(vault, &use->meta, false, error) || !at_fault_point("vault.pack.empty", error))
        return false;
    if (at_retry(truncate(path, 0)) != 0 && errno != ENOENT)
        return at_error_errno(error, errno, "empty %s", path);
    if (!at_fault_point("vault.pack.unlink", error) || !at_unlink_durable(path, error))
        return false;
    at_packs_forget(vault->packs, use->id);
    gc->report.bytes_freed += use->size;
    return set_meta(vault, &use->meta, true, error);
}

struct moving {
    struct gc *gc;
    uint32_t pack;
    uint64_t moved;
    bool kept; /* it has what the disk cannot give elsewhere just now */
};

static bool move_record(const struct at_record *record, uint64_t offset, const uint8_t *payload,
                        void *user, GError **error)
{
    struct moving *m = user;
    struct at_place place;
    bool found;
    if (!at_index_lookup(m->gc->vault->index, &record->digest, &place, &found, error))
        return false;
    if (!found || place.pack != m->pack || place.offset != offset) {
        bool has;
        if (!at_digest_set_has(m->gc->run.marked, &record->digest))
            return true;
        if (!at_gc_has_other(m->gc->vault, &record->digest, found ? &place : NULL, &has, error))
            return false;
        m->kept |= !has;
        return true;
    }
    /* A copy that is known to be damaged must not come to lie behind a good one. */
    if (at_store_distrusts(m->gc->vault->store, &record->digest))
        return true;
    m->moved += at_record_size(record->stored);
    return !at_gc_cancelled(m->gc, error) &&
           at_store_move(m->gc->vault->store, record, payload, &place, error);
}

/* Copies what is live to the end of the store.  *ret_empty: nothing refers to the pack any more;
 * not so when some of its records are damaged, or the disk cannot give them. */
static bool compact(struct gc *gc, const struct pack_use *use, bool *ret_empty, GError **error)
{
    struct at_vault *vault = gc->vault;
    g_autofree char *path = at_packs_path(vault->packs, use->id);
    at_autofd fd = at_retry(open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0) {
        *ret_empty = false;
        return errno == EIO || at_error_errno(error, errno, "open %s", path);
    }
    struct moving moving = {gc, use->id, 0, false};
    uint64_t end, failures = at_store_failures(vault->store);
    if (!at_pack_scan(fd, AT_PACK_HEADER, use->size, move_record, &moving, &end, NULL, error) ||
        !at_store_flush(vault->store, failures, error))
        return false;
    gc->moved += moving.moved;
    *ret_empty = moving.moved == use->live && !moving.kept;
    return true;
}

bool at_gc_compact(struct gc *gc, GError **error)
{
    g_autoptr(GArray) victims = choose(gc, error);
    if (!victims)
        return false;
    for (unsigned i = 0; i < victims->len; i++) {
        struct pack_use *use = &g_array_index(victims, struct pack_use, i);
        bool empty = use->live == 0;
        if (at_gc_cancelled(gc, error) || (!empty && !compact(gc, use, &empty, error)) ||
            (empty && !remove_pack(gc, use, error)))
            return false;
        if (gc->progress)
            gc->progress(i + 1, victims->len, gc->user);
    }
    return true;
}
