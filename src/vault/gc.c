/* SPDX-License-Identifier: Apache-2.0 */
/* Garbage collection: mark from roots and sessions, sweep the index, compact packs.
 *
 * Safe beside puts: what was put at or behind `floor`, and what an open session (or one that ended
 * while gc runs) relies on, is kept.  Safe beside readers: a record is in the index at its new
 * place before its old pack goes.  Safe when killed: every step leaves a whole vault, at worst with
 * garbage. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/retry.h"
#include "vault/maintenance.h"
#include "vault/walk.h"

#define SWEEP_ROWS 16384u
#define WORTH_PERCENT 70u /* packs with less live content than this are rewritten */
#define SMALL (AT_PACK_SIZE / 8)
#define MANY_SMALL 16u /* so many small packs are joined */

struct at_gc_run {
    struct at_digest_set *marked; /* all kinds, by prefix: a collision only keeps garbage */
    struct at_position floor;
    bool sweeping; /* guarded by roots_lock */
};

struct gc {
    struct at_vault *vault;
    struct at_gc_run run;
    struct at_walk walk;
    at_progress_func progress;
    void *user;
    GCancellable *cancellable;
    struct at_gc_report report;
    uint64_t moved; /* bytes that compacting has appended */
};

static bool behind(const struct at_position *floor, const struct at_place *place)
{
    return place->pack > floor->pack ||
           (place->pack == floor->pack && place->offset >= floor->offset);
}

static bool cancelled(struct gc *gc, GError **error)
{
    return g_cancellable_is_cancelled(gc->cancellable) &&
           !at_error(error, AT_ERROR_CANCELLED, "cancelled");
}

/* With sessions_lock held. */
static bool in_sessions(struct at_vault *vault, const struct at_digest *digest)
{
    for (unsigned i = 0; i < vault->sessions->len; i++) {
        struct at_vault_session *s = g_ptr_array_index(vault->sessions, i);
        g_mutex_lock(&s->lock);
        bool has = at_digest_set_has(s->hits, digest);
        g_mutex_unlock(&s->lock);
        if (has)
            return true;
    }
    return false;
}

bool at_gc_keeps(struct at_vault *vault, const struct at_digest *digest)
{
    g_mutex_lock(&vault->sessions_lock);
    struct at_gc_run *run = vault->gc;
    bool keeps = !run || !run->sweeping || at_digest_set_has(run->marked, digest) ||
                 in_sessions(vault, digest);
    struct at_position floor = run ? run->floor : (struct at_position){0};
    g_mutex_unlock(&vault->sessions_lock);
    struct at_place place;
    bool found;
    return keeps || (at_object_place(vault, digest, &place, &found, NULL) && found &&
                     behind(&floor, &place));
}

/* ---- Marking ---- */

static bool mark(const struct at_digest *digest, uint8_t kind, void *user, GError **error)
{
    struct gc *gc = user;
    at_digest_set_add(gc->run.marked, digest);
    return true;
}

static bool mark_roots(struct gc *gc, GError **error)
{
    g_autoptr(GPtrArray) roots = at_vault_root_list(gc->vault, NULL, error);
    if (!roots)
        return false;
    for (unsigned i = 0; i < roots->len; i++) {
        struct at_root *root = g_ptr_array_index(roots, i);
        if (!at_walk_root(&gc->walk, root->kind, &root->digest, error)) {
            /* What lies below damage is not known, so nothing may be freed. */
            g_prefix_error(error, "gc frees nothing while root %s cannot be read: ", root->name);
            return false;
        }
    }
    return true;
}

static bool mark_pins(struct gc *gc, GError **error)
{
    g_autoptr(GArray) pins = g_array_new(FALSE, FALSE, sizeof(struct at_digest));
    g_mutex_lock(&gc->vault->sessions_lock);
    for (unsigned i = 0; i < gc->vault->sessions->len; i++) {
        struct at_vault_session *s = g_ptr_array_index(gc->vault->sessions, i);
        g_mutex_lock(&s->lock);
        g_array_append_vals(pins, s->pins->data, s->pins->len);
        g_mutex_unlock(&s->lock);
    }
    g_mutex_unlock(&gc->vault->sessions_lock);
    for (unsigned i = 0; i < pins->len; i++) {
        const struct at_digest *pin = &g_array_index(pins, struct at_digest, i);
        struct at_place place;
        bool found;
        if (!at_object_place(gc->vault, pin, &place, &found, error))
            return false;
        if (found && !at_walk_root(&gc->walk, AT_ROOT_TREE, pin, error))
            return false;
    }
    return true;
}

static bool mark_all(struct gc *gc, GError **error)
{
    if (!mark_roots(gc, error) || !mark_pins(gc, error))
        return false;
    /* Roots that were set or renamed meanwhile; from here on a new root must be of what is kept. */
    g_mutex_lock(&gc->vault->roots_lock);
    /* A root that somebody could not remove durably must not come back when its content is gone. */
    g_autofree char *dir = at_vault_path(gc->vault, "roots");
    bool ok = at_fsync_dir(dir, error) && mark_roots(gc, error) && mark_pins(gc, error);
    if (ok) {
        g_mutex_lock(&gc->vault->sessions_lock);
        gc->run.sweeping = true;
        g_mutex_unlock(&gc->vault->sessions_lock);
    }
    g_mutex_unlock(&gc->vault->roots_lock);
    return ok;
}

/* ---- Sweeping ---- */

/* Deletes those of @dead that nobody has come to rely on since. */
static bool delete_rows(struct gc *gc, GArray *dead, GError **error)
{
    struct at_vault *vault = gc->vault;
    if (dead->len == 0)
        return true;
    g_rw_lock_writer_lock(&vault->sweep_lock);
    struct at_index_txn *txn = at_index_begin(vault->index, error);
    bool ok = txn != NULL;
    uint64_t chunks = 0;
    for (unsigned i = 0; ok && i < dead->len; i++) {
        struct at_index_row *row = &g_array_index(dead, struct at_index_row, i);
        struct at_place now;
        bool found;
        g_mutex_lock(&vault->sessions_lock);
        bool wanted = in_sessions(vault, &row->digest);
        g_mutex_unlock(&vault->sessions_lock);
        ok = at_index_get(txn, &row->digest, &now, &found, error);
        if (!ok || wanted || !found || behind(&gc->run.floor, &now))
            continue;
        ok = at_index_delete(txn, &row->digest, error) &&
             at_index_quarantine(txn, &row->digest, false, error);
        chunks += row->place.kind == AT_KIND_CHUNK;
    }
    if (ok)
        ok = at_index_commit(txn, error);
    else
        at_index_abort(txn);
    g_rw_lock_writer_unlock(&vault->sweep_lock);
    if (ok)
        gc->report.chunks_freed += chunks;
    return ok;
}

/* Frees what is garbage of one kind. */
static bool sweep(struct gc *gc, uint8_t kind, GError **error)
{
    struct at_digest after;
    bool more = true;
    g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(struct at_index_row));
    g_autoptr(GArray) dead = g_array_new(FALSE, FALSE, sizeof(struct at_index_row));
    for (bool first = true; more; first = false) {
        if (cancelled(gc, error))
            return false;
        g_array_set_size(rows, 0);
        g_array_set_size(dead, 0);
        if (!at_index_rows(gc->vault->index, first ? NULL : &after, SWEEP_ROWS, rows, error))
            return false;
        more = rows->len == SWEEP_ROWS;
        for (unsigned i = 0; i < rows->len; i++) {
            struct at_index_row *row = &g_array_index(rows, struct at_index_row, i);
            if (row->place.kind == kind && !behind(&gc->run.floor, &row->place) &&
                !at_digest_set_has(gc->run.marked, &row->digest))
                g_array_append_val(dead, *row);
        }
        if (rows->len)
            after = g_array_index(rows, struct at_index_row, rows->len - 1).digest;
        if (!delete_rows(gc, dead, error))
            return false;
    }
    return true;
}

/* What names others goes before what it names, so that at no time, also not after a kill, something
 * is left whose parts are gone. */
static bool sweep_all(struct gc *gc, GError **error)
{
    static const uint8_t order[] = {AT_KIND_BLOB, AT_KIND_DISK, AT_KIND_NODE, AT_KIND_CHUNK};
    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++) {
        if (!sweep(gc, order[i], error))
            return false;
    }
    return true;
}

/* ---- Compacting ---- */

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

static bool count_live(struct gc *gc, GHashTable *uses, GError **error)
{
    struct at_digest after;
    bool more = true;
    g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(struct at_index_row));
    for (bool first = true; more; first = false) {
        g_array_set_size(rows, 0);
        if (!at_index_rows(gc->vault->index, first ? NULL : &after, SWEEP_ROWS, rows, error))
            return false;
        more = rows->len == SWEEP_ROWS;
        for (unsigned i = 0; i < rows->len; i++) {
            struct at_index_row *row = &g_array_index(rows, struct at_index_row, i);
            struct pack_use *use = g_hash_table_lookup(uses, GUINT_TO_POINTER(row->place.pack));
            if (use)
                use->live += at_record_size(row->place.stored);
        }
        if (rows->len)
            after = g_array_index(rows, struct at_index_row, rows->len - 1).digest;
    }
    return true;
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
};

static bool move_record(const struct at_record *record, uint64_t offset, const uint8_t *payload,
                        void *user, GError **error)
{
    struct moving *m = user;
    struct at_place place;
    bool found;
    if (!at_index_lookup(m->gc->vault->index, &record->digest, &place, &found, error))
        return false;
    /* A copy that is known to be damaged must not come to lie behind a good one. */
    if (!found || place.pack != m->pack || place.offset != offset ||
        at_store_distrusts(m->gc->vault->store, &record->digest))
        return true;
    m->moved += at_record_size(record->stored);
    return !cancelled(m->gc, error) &&
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
    struct moving moving = {gc, use->id, 0};
    uint64_t end, failures = at_store_failures(vault->store);
    if (!at_pack_scan(fd, AT_PACK_HEADER, use->size, move_record, &moving, &end, NULL, error) ||
        !at_store_flush(vault->store, failures, error))
        return false;
    gc->moved += moving.moved;
    *ret_empty = moving.moved == use->live;
    return true;
}

static bool compact_all(struct gc *gc, GError **error)
{
    g_autoptr(GArray) victims = choose(gc, error);
    if (!victims)
        return false;
    for (unsigned i = 0; i < victims->len; i++) {
        struct pack_use *use = &g_array_index(victims, struct pack_use, i);
        bool empty = use->live == 0;
        if (cancelled(gc, error) || (!empty && !compact(gc, use, &empty, error)) ||
            (empty && !remove_pack(gc, use, error)))
            return false;
        if (gc->progress)
            gc->progress(i + 1, victims->len, gc->user);
    }
    return true;
}

/* ---- The whole ---- */

static void begin(struct gc *gc)
{
    struct at_vault *vault = gc->vault;
    gc->run.marked = at_digest_set_new(8);
    gc->walk = (struct at_walk){
        .vault = vault,
        .cancellable = gc->cancellable,
        .nodes = at_digest_set_new(16),
        .visit = mark,
        .user = gc,
    };
    g_mutex_lock(&vault->sessions_lock);
    gc->run.floor = at_store_position(vault->store);
    for (unsigned i = 0; i < vault->sessions->len; i++) {
        struct at_vault_session *s = g_ptr_array_index(vault->sessions, i);
        if (s->start.pack < gc->run.floor.pack ||
            (s->start.pack == gc->run.floor.pack && s->start.offset < gc->run.floor.offset))
            gc->run.floor = s->start;
    }
    vault->gc = &gc->run;
    g_mutex_unlock(&vault->sessions_lock);
}

static void end(struct gc *gc)
{
    struct at_vault *vault = gc->vault;
    g_mutex_lock(&vault->roots_lock);
    g_mutex_lock(&vault->sessions_lock);
    vault->gc = NULL;
    at_sessions_reap(vault);
    g_mutex_unlock(&vault->sessions_lock);
    g_mutex_unlock(&vault->roots_lock);
    at_digest_set_free(gc->run.marked);
    at_digest_set_free(gc->walk.nodes);
}

bool at_vault_gc(struct at_vault *vault, at_progress_func progress, void *user,
                 GCancellable *cancellable, struct at_gc_report *ret_report, GError **error)
{
    if (!vault->writer)
        return at_error(error, AT_ERROR_DENIED, "vault %s is open for reading only", vault->dir);
    struct gc gc = {.vault = vault, .progress = progress, .user = user, .cancellable = cancellable};
    g_mutex_lock(&vault->gc_lock);
    at_vault_reserve(vault, false);
    /* So that the pack that was being filled can be compacted, too. */
    at_store_roll(vault->store);
    bool ok = at_store_flush(vault->store, at_store_failures(vault->store), error);
    if (ok) {
        begin(&gc);
        ok = mark_all(&gc, error) && sweep_all(&gc, error) && compact_all(&gc, error);
        end(&gc);
    }
    at_vault_reserve(vault, true);
    g_mutex_unlock(&vault->gc_lock);
    struct at_vault_stats stats;
    if (!ok || !at_vault_stats(vault, &stats, error))
        return false;
    gc.report.stored_bytes = stats.stored_bytes;
    /* A pack that damage keeps from being removed can cost more than the others have given. */
    gc.report.bytes_freed -= MIN(gc.moved, gc.report.bytes_freed);
    if (ret_report)
        *ret_report = gc.report;
    return true;
}
