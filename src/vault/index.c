/* SPDX-License-Identifier: Apache-2.0 */
/* The index in LMDB: tables `object` (digest -> place), `pack` (what is known of each pack file),
 * `bad` (quarantine) and `meta` (format, counters).  Commits are synchronous: LMDB's default. */
#include "vault/index.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fault.h"
#include "vault/index-env.h"
#include "vault/index-guard.h"
#include "vault/index-row.h"

#define TRIM_EVERY 256u /* uses */

struct at_index {
    char *dir;
    bool writer;
    gid_t gid;
    GRWLock lock; /* guards the pointer below; taken for writing only by refresh */
    struct at_index_env *env;
};

struct at_index_txn {
    struct at_index *index;
    struct at_index_env *env;
    MDB_txn *txn;
    struct at_index_stats stats;
};

struct at_index *at_index_open(const char *dir, bool writer, gid_t gid, GError **error)
{
    struct at_index_env *env = at_index_env_get(dir, writer, gid, error);
    if (!env)
        return NULL;
    struct at_index *index = g_new0(struct at_index, 1);
    index->dir = g_strdup(dir);
    index->writer = writer;
    index->gid = gid;
    index->env = env;
    g_rw_lock_init(&index->lock);
    return index;
}

void at_index_close(struct at_index *index)
{
    if (!index)
        return;
    at_index_env_unref(index->env);
    g_rw_lock_clear(&index->lock);
    g_free(index->dir);
    g_free(index);
}

bool at_index_suspect(struct at_index *index)
{
    g_rw_lock_reader_lock(&index->lock);
    bool suspect = g_atomic_int_get(&index->env->suspect);
    g_rw_lock_reader_unlock(&index->lock);
    return suspect;
}

void at_index_set_suspect(struct at_index *index)
{
    g_rw_lock_reader_lock(&index->lock);
    at_index_env_suspect(index->env);
    g_rw_lock_reader_unlock(&index->lock);
}

/* As at_index_fail(), and remembers what says that the file is damaged. */
static bool fail(struct at_index_env *env, GError **error, int rc, const char *what)
{
    g_autoptr(GError) local = NULL;
    at_index_fail(&local, rc, what);
    if (local->code == AT_ERROR_CORRUPT)
        at_index_env_suspect(env);
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

bool at_index_refresh(struct at_index *index, bool *ret_changed, GError **error)
{
    g_autofree char *path = g_build_filename(index->dir, "data.mdb", NULL);
    struct stat st;
    if (stat(path, &st) != 0)
        return at_error_errno(error, errno, "index %s", path);
    bool changed = false, ok = true;
    g_rw_lock_writer_lock(&index->lock);
    if (st.st_dev != index->env->dev || st.st_ino != index->env->ino) {
        struct at_index_env *env = at_index_env_get(index->dir, index->writer, index->gid, error);
        if (env) {
            at_index_env_unref(index->env);
            index->env = env;
            changed = true;
        }
        ok = env != NULL;
    }
    g_rw_lock_writer_unlock(&index->lock);
    if (ok)
        *ret_changed = changed;
    return ok;
}

static void note_use(struct at_index_env *env)
{
    if (g_atomic_int_add(&env->uses, 1) % TRIM_EVERY == 0)
        at_index_env_trim(env);
}

/* ---- Reading ---- */

/* Takes index->lock for reading until read_end(). */
static MDB_txn *read_begin(struct at_index *index, GError **error)
{
    g_rw_lock_reader_lock(&index->lock);
    struct at_index_env *env = index->env;
    MDB_txn *txn = NULL;
    g_mutex_lock(&env->pool_lock);
    if (env->pool->len)
        txn = g_ptr_array_steal_index_fast(env->pool, env->pool->len - 1);
    g_mutex_unlock(&env->pool_lock);
    bool pooled = txn != NULL;
    at_index_guard_enter(env->mark);
    int rc = pooled ? mdb_txn_renew(txn) : mdb_txn_begin(env->env, NULL, MDB_RDONLY, &txn);
    if (rc) {
        if (pooled)
            mdb_txn_abort(txn);
        at_index_guard_leave();
        fail(env, error, rc, "begin reading");
        g_rw_lock_reader_unlock(&index->lock);
        return NULL;
    }
    return txn;
}

static void read_end(struct at_index *index, MDB_txn *txn)
{
    struct at_index_env *env = index->env;
    mdb_txn_reset(txn);
    at_index_guard_leave();
    g_mutex_lock(&env->pool_lock);
    g_ptr_array_add(env->pool, txn);
    g_mutex_unlock(&env->pool_lock);
    note_use(env);
    g_rw_lock_reader_unlock(&index->lock);
}

static bool get_place(struct at_index_env *env, MDB_txn *txn, const struct at_digest *digest,
                      struct at_place *ret_place, bool *ret_found, GError **error)
{
    MDB_val key = {AT_DIGEST_LEN, (void *)digest}, value;
    int rc = mdb_get(txn, env->t[AT_INDEX_OBJECT], &key, &value);
    if (rc == MDB_NOTFOUND) {
        *ret_found = false;
        return true;
    }
    if (rc)
        return fail(env, error, rc, "look up");
    if (!at_place_decode(digest, value.mv_data, value.mv_size, ret_place)) {
        at_index_env_suspect(env);
        return at_error(error, AT_ERROR_CORRUPT, "index: malformed row; run `vault reindex`");
    }
    *ret_found = true;
    return true;
}

bool at_index_lookup(struct at_index *index, const struct at_digest *digest,
                     struct at_place *ret_place, bool *ret_found, GError **error)
{
    MDB_txn *txn = read_begin(index, error);
    if (!txn)
        return false;
    bool ok = get_place(index->env, txn, digest, ret_place, ret_found, error);
    read_end(index, txn);
    return ok;
}

static bool get_stats(struct at_index_env *env, MDB_txn *txn, struct at_index_stats *ret,
                      GError **error)
{
    MDB_val key = {5, (void *)"stats"}, value;
    int rc = mdb_get(txn, env->t[AT_INDEX_META], &key, &value);
    if (rc == MDB_NOTFOUND) {
        *ret = (struct at_index_stats){.next_pack = 1};
        return true;
    }
    if (rc)
        return fail(env, error, rc, "read counters");
    g_autoptr(GError) local = NULL;
    if (at_index_stats_decode(value.mv_data, value.mv_size, ret, &local))
        return true;
    if (local->code == AT_ERROR_CORRUPT)
        at_index_env_suspect(env);
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

bool at_index_stats(struct at_index *index, struct at_index_stats *ret_stats, GError **error)
{
    MDB_txn *txn = read_begin(index, error);
    if (!txn)
        return false;
    bool ok = get_stats(index->env, txn, ret_stats, error);
    read_end(index, txn);
    return ok;
}

enum added { ADDED, FULL, MALFORMED };
typedef enum added (*add_func)(const MDB_val *key, const MDB_val *value, GArray *out, unsigned max);

/* Calls @add for each row of @table behind @after (NULL: from the first) until it says FULL. */
static bool each(struct at_index *index, enum at_index_table table, const struct at_digest *after,
                 add_func add, GArray *out, unsigned max, GError **error)
{
    MDB_txn *txn = read_begin(index, error);
    if (!txn)
        return false;
    MDB_cursor *cursor;
    MDB_val key = {AT_DIGEST_LEN, (void *)after}, value;
    int rc = mdb_cursor_open(txn, index->env->t[table], &cursor);
    if (!rc) {
        rc = mdb_cursor_get(cursor, &key, &value, after ? MDB_SET_RANGE : MDB_FIRST);
        if (!rc && after && key.mv_size == AT_DIGEST_LEN &&
            memcmp(key.mv_data, after, AT_DIGEST_LEN) == 0)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        for (enum added added = ADDED; !rc && added != FULL;) {
            added = add(&key, &value, out, max);
            if (added == MALFORMED)
                at_index_env_suspect(index->env);
            if (added != FULL)
                rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    bool ok = !rc || rc == MDB_NOTFOUND || fail(index->env, error, rc, "list");
    read_end(index, txn);
    return ok;
}

static enum added add_row(const MDB_val *key, const MDB_val *value, GArray *out, unsigned max)
{
    struct at_index_row row;
    if (out->len >= max)
        return FULL;
    if (key->mv_size != AT_DIGEST_LEN)
        return MALFORMED;
    memcpy(&row.digest, key->mv_data, AT_DIGEST_LEN);
    if (!at_place_decode(&row.digest, value->mv_data, value->mv_size, &row.place))
        return MALFORMED;
    g_array_append_val(out, row);
    return ADDED;
}

bool at_index_rows(struct at_index *index, const struct at_digest *after, unsigned max,
                   GArray *rows, GError **error)
{
    return each(index, AT_INDEX_OBJECT, after, add_row, rows, rows->len + max, error);
}

static enum added add_pack(const MDB_val *key, const MDB_val *value, GArray *out, unsigned max)
{
    struct at_pack_meta meta;
    if (!at_pack_meta_decode(key->mv_data, key->mv_size, value->mv_data, value->mv_size, &meta))
        return MALFORMED;
    g_array_append_val(out, meta);
    return ADDED;
}

GArray *at_index_packs(struct at_index *index, GError **error)
{
    g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(struct at_pack_meta));
    if (!each(index, AT_INDEX_PACK, NULL, add_pack, out, 0, error))
        return NULL;
    return g_steal_pointer(&out);
}

static enum added add_digest(const MDB_val *key, const MDB_val *value, GArray *out, unsigned max)
{
    if (key->mv_size != AT_DIGEST_LEN)
        return MALFORMED;
    g_array_append_vals(out, key->mv_data, 1);
    return ADDED;
}

GArray *at_index_quarantined(struct at_index *index, GError **error)
{
    g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(struct at_digest));
    if (!each(index, AT_INDEX_BAD, NULL, add_digest, out, 0, error))
        return NULL;
    return g_steal_pointer(&out);
}

/* ---- Writing ---- */

static const char *enter(const struct at_index_env *env)
{
    at_index_guard_enter(env->mark);
    return env->mark;
}

static void leave(const char **mark)
{
    at_index_guard_leave();
}

/* For the rest of the function this thread is inside LMDB. */
#define INSIDE(env) __attribute__((cleanup(leave), unused)) const char *inside = enter(env)

struct at_index_txn *at_index_begin(struct at_index *index, GError **error)
{
    g_rw_lock_reader_lock(&index->lock);
    MDB_txn *txn;
    at_index_guard_enter(index->env->mark);
    int rc = mdb_txn_begin(index->env->env, NULL, 0, &txn);
    struct at_index_stats stats;
    if (rc) {
        fail(index->env, error, rc, "begin writing");
    } else if (!get_stats(index->env, txn, &stats, error)) {
        mdb_txn_abort(txn);
        rc = -1;
    }
    at_index_guard_leave();
    if (rc) {
        g_rw_lock_reader_unlock(&index->lock);
        return NULL;
    }
    struct at_index_txn *t = g_new0(struct at_index_txn, 1);
    t->index = index;
    t->env = index->env;
    t->txn = txn;
    t->stats = stats;
    return t;
}

static void txn_end(struct at_index_txn *t)
{
    g_rw_lock_reader_unlock(&t->index->lock);
    g_free(t);
}

void at_index_abort(struct at_index_txn *t)
{
    if (!t)
        return;
    at_index_guard_enter(t->env->mark);
    mdb_txn_abort(t->txn);
    at_index_guard_leave();
    txn_end(t);
}

bool at_index_commit(struct at_index_txn *t, GError **error)
{
    uint8_t p[AT_INDEX_STATS_LEN];
    at_index_stats_encode(&t->stats, p);
    MDB_val key = {5, (void *)"stats"}, value = {sizeof p, p};
    sigset_t before;
    at_index_hold_signals(&before);
    at_index_guard_enter(t->env->mark);
    int rc = at_fault_errno("vault.index.commit");
    if (!rc)
        rc = mdb_put(t->txn, t->env->t[AT_INDEX_META], &key, &value, 0);
    if (rc)
        mdb_txn_abort(t->txn);
    else
        rc = mdb_txn_commit(t->txn);
    at_index_guard_leave();
    if (!rc)
        at_index_env_keep_size(t->env);
    at_index_release_signals(&before);
    /* What a sync could not write is forgotten by the kernel; what LMDB could not place, nobody
     * can. Either way the file is not what it should be. */
    if (rc == EIO)
        at_index_env_suspect(t->env);
    bool ok = !rc || fail(t->env, error, rc, "commit");
    txn_end(t);
    return ok;
}

bool at_index_get(struct at_index_txn *t, const struct at_digest *digest,
                  struct at_place *ret_place, bool *ret_found, GError **error)
{
    INSIDE(t->env);
    return get_place(t->env, t->txn, digest, ret_place, ret_found, error);
}

static void count(struct at_index_stats *stats, const struct at_place *place, bool more)
{
    uint64_t chunks = place->kind == AT_KIND_CHUNK, bytes = chunks ? place->plain : 0;
    stats->objects += more ? 1 : -1;
    stats->chunks += more ? chunks : -chunks;
    stats->plain_bytes += more ? bytes : -bytes;
}

bool at_index_put(struct at_index_txn *t, const struct at_digest *digest,
                  const struct at_place *place, GError **error)
{
    INSIDE(t->env);
    struct at_place old;
    bool found = false;
    g_autoptr(GError) local = NULL;
    /* A row that means nothing any more is replaced like any other; what it counted for is not
     * known, so it counts on. */
    bool known = get_place(t->env, t->txn, digest, &old, &found, &local);
    if (!known && local->code != AT_ERROR_CORRUPT) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    uint8_t p[AT_PLACE_LEN];
    at_place_encode(digest, place, p);
    MDB_val key = {AT_DIGEST_LEN, (void *)digest}, value = {sizeof p, p};
    int rc = mdb_put(t->txn, t->env->t[AT_INDEX_OBJECT], &key, &value, 0);
    note_use(t->env);
    if (rc)
        return fail(t->env, error, rc, "put");
    if (known && found)
        count(&t->stats, &old, false);
    if (known)
        count(&t->stats, place, true);
    return true;
}

bool at_index_delete(struct at_index_txn *t, const struct at_digest *digest, GError **error)
{
    INSIDE(t->env);
    struct at_place old;
    bool found;
    if (!get_place(t->env, t->txn, digest, &old, &found, error))
        return false;
    if (!found)
        return true;
    MDB_val key = {AT_DIGEST_LEN, (void *)digest};
    int rc = mdb_del(t->txn, t->env->t[AT_INDEX_OBJECT], &key, NULL);
    if (rc)
        return fail(t->env, error, rc, "delete");
    /* Damage of what nobody needs any more is no news. */
    rc = mdb_del(t->txn, t->env->t[AT_INDEX_BAD], &key, NULL);
    if (rc && rc != MDB_NOTFOUND)
        return fail(t->env, error, rc, "leave quarantine");
    count(&t->stats, &old, false);
    return true;
}

bool at_index_pack_put(struct at_index_txn *t, const struct at_pack_meta *meta, GError **error)
{
    INSIDE(t->env);
    uint32_t id = GUINT32_TO_BE(meta->id);
    uint8_t p[AT_PACK_META_LEN];
    at_pack_meta_encode(meta, p);
    MDB_val key = {4, &id}, value = {sizeof p, p};
    int rc = mdb_put(t->txn, t->env->t[AT_INDEX_PACK], &key, &value, 0);
    if (rc)
        return fail(t->env, error, rc, "put pack");
    t->stats.next_pack = MAX(t->stats.next_pack, (uint64_t)meta->id + 1);
    return true;
}

bool at_index_pack_delete(struct at_index_txn *t, uint32_t id, GError **error)
{
    INSIDE(t->env);
    id = GUINT32_TO_BE(id);
    MDB_val key = {4, &id};
    int rc = mdb_del(t->txn, t->env->t[AT_INDEX_PACK], &key, NULL);
    return rc && rc != MDB_NOTFOUND ? fail(t->env, error, rc, "delete pack") : true;
}

bool at_index_quarantine(struct at_index_txn *t, const struct at_digest *digest, bool add,
                         GError **error)
{
    INSIDE(t->env);
    int64_t now = GINT64_TO_LE(g_get_real_time() / G_USEC_PER_SEC);
    MDB_val key = {AT_DIGEST_LEN, (void *)digest}, value = {sizeof now, &now};
    int rc = add ? mdb_put(t->txn, t->env->t[AT_INDEX_BAD], &key, &value, 0)
                 : mdb_del(t->txn, t->env->t[AT_INDEX_BAD], &key, NULL);
    return rc && rc != MDB_NOTFOUND ? fail(t->env, error, rc, "quarantine") : true;
}
