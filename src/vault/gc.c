/* SPDX-License-Identifier: Apache-2.0 */
/* Garbage collection: mark from roots and sessions, sweep the index, compact packs.
 *
 * Safe beside puts: what was put at or behind `floor`, and what an open session (or one that ended
 * while gc runs) relies on, is kept.  Safe beside readers: a record is in the index at its new
 * place before its old pack goes.  Safe when killed: every step leaves a whole vault, at worst with
 * garbage. */
#include "base/atomic-file.h"
#include "base/error.h"
#include "vault/gc-internal.h"

static bool behind(const struct at_position *floor, const struct at_place *place)
{
    return place->pack > floor->pack ||
           (place->pack == floor->pack && place->offset >= floor->offset);
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
            if (error && g_error_matches(*error, AT_ERROR, AT_ERROR_NOT_FOUND) && !gc->vault->built)
                at_index_set_suspect(gc->vault->index); /* the pack may have it */
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
        if (at_gc_cancelled(gc, error))
            return false;
        g_array_set_size(rows, 0);
        g_array_set_size(dead, 0);
        if (!at_index_rows(gc->vault->index, first ? NULL : &after, AT_GC_ROWS, rows, error))
            return false;
        more = rows->len == AT_GC_ROWS;
        for (unsigned i = 0; i < rows->len; i++) {
            struct at_index_row *row = &g_array_index(rows, struct at_index_row, i);
            if (row->place.kind == kind && !behind(&gc->run.floor, &row->place) &&
                !at_digest_set_has(gc->run.marked, &row->digest))
                g_array_append_val(dead, *row);
        }
        if (rows->len)
            after = g_array_index(rows, struct at_index_row, rows->len - 1).digest;
        if (!at_gc_index_trusted(gc->vault, error) || !delete_rows(gc, dead, error))
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

static bool collect(struct at_vault *vault, at_progress_func progress, void *user,
                    GCancellable *cancellable, struct at_gc_report *ret_report, GError **error)
{
    struct gc gc = {.vault = vault, .progress = progress, .user = user, .cancellable = cancellable};
    g_mutex_lock(&vault->gc_lock);
    at_vault_reserve(vault, false);
    /* So that the pack that was being filled can be compacted, too. */
    at_store_roll(vault->store);
    bool ok = at_store_flush(vault->store, at_store_failures(vault->store), error);
    if (ok) {
        begin(&gc);
        ok = at_gc_index_trusted(vault, error) && mark_all(&gc, error) && sweep_all(&gc, error) &&
             at_gc_compact(&gc, error);
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

bool at_vault_gc(struct at_vault *vault, at_progress_func progress, void *user,
                 GCancellable *cancellable, struct at_gc_report *ret_report, GError **error)
{
    if (!vault->writer)
        return at_error(error, AT_ERROR_DENIED, "vault %s is open for reading only", vault->dir);
    g_autoptr(GError) local = NULL;
    bool ok = collect(vault, progress, user, cancellable, ret_report, &local);
    /* The packs know better. Once: an index that is damaged again is no accident. */
    if (!ok && local->code != AT_ERROR_CANCELLED && at_vault_index_suspect(vault)) {
        g_clear_error(&local);
        ok = at_vault_reindex(vault, progress, user, cancellable, &local) &&
             collect(vault, progress, user, cancellable, ret_report, &local);
    }
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&local));
    return ok;
}
