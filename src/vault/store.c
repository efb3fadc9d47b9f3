/* SPDX-License-Identifier: Apache-2.0 */
/* Appending to packs: one open pack with a write buffer, the rows that wait for the next commit,
 * and what happens to them when a write fails. */
#include "vault/store-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/retry.h"
#include "vault/codec.h"
#include "vault/hash.h"

#define BUFFER (2u << 20)
/* After so much somebody commits, unless somebody is at it, while others go on; after so much more
 * everybody waits for it. Small batches leave little to do at the end, and each row of a batch may
 * dirty a page of the index, which LMDB keeps in memory until the commit. */
#define BATCH_BYTES (UINT64_C(48) << 20)
#define BATCH_ROWS 8192u
#define BATCHES_MAX 4u
#define KICK (UINT64_C(8) << 20) /* begin to write back so many bytes, so that syncs are short */

GHashTable *at_rows_new(void)
{
    return g_hash_table_new_full(at_digest_key_hash, at_digest_key_equal, NULL, g_free);
}

void at_tail_unref(void *p)
{
    struct at_tail *t = p;
    if (g_atomic_int_dec_and_test(&t->refs)) {
        close(t->fd);
        g_free(t);
    }
}

struct at_store *at_store_new(struct at_packs *packs, struct at_index *index, gid_t gid)
{
    struct at_store *store = g_new0(struct at_store, 1);
    store->packs = packs;
    store->index = index;
    store->gid = gid;
    g_mutex_init(&store->commit_lock);
    g_mutex_init(&store->lock);
    g_cond_init(&store->landed);
    store->tails = g_ptr_array_new_with_free_func(at_tail_unref);
    store->pending = at_rows_new();
    store->in_flight = at_rows_new();
    store->distrusted = at_rows_new();
    store->moves = g_array_new(FALSE, FALSE, sizeof(struct at_move));
    store->next_id = 1;
    return store;
}

void at_store_free(struct at_store *store)
{
    if (!store)
        return;
    g_hash_table_unref(store->pending);
    g_hash_table_unref(store->in_flight);
    g_hash_table_unref(store->distrusted);
    g_array_unref(store->moves);
    g_ptr_array_unref(store->tails);
    g_free(store->buffer);
    g_clear_error(&store->failure);
    g_cond_clear(&store->landed);
    g_mutex_clear(&store->lock);
    g_mutex_clear(&store->commit_lock);
    g_free(store);
}

void at_store_start(struct at_store *store, uint32_t id, const uint8_t *uuid, int fd,
                    uint64_t offset, uint32_t next)
{
    store->next_id = next;
    if (id == 0)
        return;
    struct at_tail *t = g_new0(struct at_tail, 1);
    t->refs = 1;
    t->fd = fd;
    t->id = id;
    memcpy(t->uuid, uuid, sizeof t->uuid);
    t->end = t->written = t->kicked = t->taken = t->indexed = offset;
    g_ptr_array_add(store->tails, t);
    store->current = t;
}

struct at_position at_store_position(struct at_store *store)
{
    g_mutex_lock(&store->lock);
    struct at_position p = {store->next_id, 0};
    if (store->current)
        p = (struct at_position){store->current->id, store->current->end};
    g_mutex_unlock(&store->lock);
    return p;
}

uint64_t at_store_failures(struct at_store *store)
{
    g_mutex_lock(&store->lock);
    uint64_t n = store->failures;
    g_mutex_unlock(&store->lock);
    return n;
}

uint32_t at_store_current(struct at_store *store)
{
    g_mutex_lock(&store->lock);
    uint32_t id = store->current ? store->current->id : 0;
    g_mutex_unlock(&store->lock);
    return id;
}

bool at_store_has_open(struct at_store *store, uint32_t id)
{
    bool open = false;
    g_mutex_lock(&store->lock);
    for (unsigned i = 0; i < store->tails->len; i++) {
        const struct at_tail *t = g_ptr_array_index(store->tails, i);
        open = open || (t->id == id && (t == store->current || t->end != t->indexed));
    }
    g_mutex_unlock(&store->lock);
    return open;
}

/* ---- Everything below here until "Puts": store->lock is held ---- */

/* Forgets all that is not durable, remembers why, and goes on in a new pack. */
void at_store_give_up(struct at_store *store, const GError *why, bool cut)
{
    for (unsigned i = 0; cut && i < store->tails->len; i++) {
        struct at_tail *t = g_ptr_array_index(store->tails, i);
        if (at_retry(ftruncate(t->fd, (off_t)t->taken)) == 0 && t->taken == 0) {
            g_autofree char *path = at_packs_path(store->packs, t->id);
            unlink(path);
        }
    }
    g_ptr_array_set_size(store->tails, 0);
    store->current = NULL;
    store->fill = 0;
    g_hash_table_remove_all(store->pending);
    g_array_set_size(store->moves, 0);
    store->pending_bytes = 0;
    store->failures++;
    g_clear_error(&store->failure);
    store->failure = g_error_copy(why);
}

static bool write_at(struct at_tail *t, const uint8_t *data, size_t len, GError **error)
{
    while (len > 0) {
        int injected = at_fault_errno("vault.pack.write");
        ssize_t n = injected ? -1 : pwrite(t->fd, data, len, (off_t)t->written);
        if (injected)
            errno = injected;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return at_error_errno(error, errno, "write pack %08x", t->id);
        data += n;
        len -= (size_t)n;
        t->written += (uint64_t)n;
    }
    return true;
}

bool at_store_write_out(struct at_store *store, GError **error)
{
    if (store->fill == 0)
        return true;
    g_autoptr(GError) local = NULL;
    if (!write_at(store->current, store->buffer, store->fill, &local)) {
        at_store_give_up(store, local, true);
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    store->fill = 0;
    return true;
}

static bool begin_pack(struct at_store *store, GError **error)
{
    if (!at_store_write_out(store, error))
        return false;
    struct at_pack_header header = {.version = AT_VAULT_FORMAT, .id = store->next_id};
    if (getrandom(header.uuid, sizeof header.uuid, 0) != (ssize_t)sizeof header.uuid)
        return at_error_errno(error, errno, "random bytes");
    if (!at_fault_point("vault.pack.create", error))
        return false;
    g_autofree char *path = at_packs_path(store->packs, header.id);
    int fd = at_retry(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
    if (fd < 0)
        return at_error_errno(error, errno, "create %s", path);
    if (fchmod(fd, 0640) != 0 ||
        (store->gid != (gid_t)-1 && fchown(fd, (uid_t)-1, store->gid) != 0)) {
        at_error_errno(error, errno, "set group and mode of %s", path);
        close(fd);
        unlink(path);
        return false;
    }
    struct at_tail *t = g_new0(struct at_tail, 1);
    t->refs = 1;
    t->fd = fd;
    t->id = header.id;
    memcpy(t->uuid, header.uuid, sizeof t->uuid);
    if (!store->buffer)
        store->buffer = g_malloc(BUFFER);
    at_pack_header_encode(&header, store->buffer);
    store->fill = t->end = AT_PACK_HEADER;
    store->next_id++;
    g_ptr_array_add(store->tails, t);
    store->current = t;
    return true;
}

/* Appends a record; *ret_place is where it went. */
static bool append(struct at_store *store, const struct at_record *record, const uint8_t *payload,
                   struct at_place *ret_place, GError **error)
{
    if (!store->buffer)
        store->buffer = g_malloc(BUFFER);
    if ((!store->current || store->current->end >= AT_PACK_SIZE) && !begin_pack(store, error))
        return false;
    struct at_tail *t = store->current;
    size_t size = (size_t)at_record_size(record->stored);
    if (store->fill + size > BUFFER && !at_store_write_out(store, error))
        return false;
    struct at_place place = {
        .pack = t->id,
        .stored = record->stored,
        .plain = record->plain,
        .kind = record->kind,
        .codec = record->codec,
        .offset = t->end,
    };
    g_autofree uint8_t *large = size > BUFFER ? g_malloc(size) : NULL;
    uint8_t *p = large ? large : store->buffer + store->fill;
    at_record_encode(record, p);
    memcpy(p + AT_RECORD_HEADER, payload, record->stored);
    size_t used = AT_RECORD_HEADER + record->stored;
    memset(p + used, 0, size - used);
    if (large) {
        g_autoptr(GError) local = NULL;
        if (!write_at(t, large, size, &local)) {
            at_store_give_up(store, local, true);
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
    } else {
        store->fill += size;
    }
    t->end += size;
    store->pending_bytes += size;
    *ret_place = place;
    return true;
}

static struct at_row *find_row(struct at_store *store, const struct at_digest *digest)
{
    struct at_row *row = g_hash_table_lookup(store->pending, digest);
    if (!row && store->committing)
        row = g_hash_table_lookup(store->committing, digest);
    return row;
}

static bool due(const struct at_store *store, unsigned batches)
{
    return store->pending_bytes >= batches * BATCH_BYTES ||
           g_hash_table_size(store->pending) + store->moves->len >= batches * BATCH_ROWS;
}

/* ---- Puts ---- */

void at_store_roll(struct at_store *store)
{
    g_mutex_lock(&store->lock);
    if (store->current && at_store_write_out(store, NULL))
        store->current = NULL;
    g_mutex_unlock(&store->lock);
}

bool at_store_peek(struct at_store *store, const struct at_digest *digest,
                   struct at_place *ret_place, bool *ret_found, GError **error)
{
    bool ok = true;
    g_mutex_lock(&store->lock);
    struct at_row *row = find_row(store, digest);
    *ret_found = row != NULL;
    if (row) {
        *ret_place = row->place;
        if (store->current && row->place.pack == store->current->id &&
            row->place.offset >= store->current->written)
            ok = at_store_write_out(store, error);
    }
    g_mutex_unlock(&store->lock);
    return ok;
}

void at_store_distrust(struct at_store *store, const struct at_digest *digest)
{
    g_mutex_lock(&store->lock);
    g_hash_table_add(store->distrusted, g_memdup2(digest, sizeof *digest));
    g_mutex_unlock(&store->lock);
}

void at_store_trust(struct at_store *store, const struct at_digest *digest)
{
    g_mutex_lock(&store->lock);
    g_hash_table_remove(store->distrusted, digest);
    g_mutex_unlock(&store->lock);
}

bool at_store_distrusts(struct at_store *store, const struct at_digest *digest)
{
    g_mutex_lock(&store->lock);
    bool bad = g_hash_table_contains(store->distrusted, digest);
    g_mutex_unlock(&store->lock);
    return bad;
}

/* Whether @digest is there, in the index or appended; otherwise it is reserved for the caller to
 * append.  What another thread has reserved is waited for: only when it is appended will the
 * caller's flush commit it, and when that failed the reservation is the caller's.  The other thread
 * needs nothing but `lock` to get there.  *ret_replace: a damaged copy is there. */
static bool find_or_reserve(struct at_store *store, uint8_t kind, const struct at_digest *digest,
                            bool *ret_found, bool *ret_replace, GError **error)
{
    bool ok = true, found, bad, absent = false, other = false;
    g_mutex_lock(&store->lock);
    for (;;) {
        found = find_row(store, digest);
        bad = other || g_hash_table_contains(store->distrusted, digest);
        if (found)
            break;
        if (g_hash_table_contains(store->in_flight, digest)) {
            g_cond_wait(&store->landed, &store->lock);
            absent = other = false;
            continue;
        }
        if (absent || bad) {
            g_hash_table_add(store->in_flight, g_memdup2(digest, sizeof *digest));
            break;
        }
        struct at_place place;
        uint64_t settled = store->settled;
        g_mutex_unlock(&store->lock);
        ok = at_index_lookup(store->index, digest, &place, &found, error);
        g_mutex_lock(&store->lock);
        other = ok && found && place.kind != kind; /* a row that was damaged */
        if (!ok || (found && !other))
            break;
        /* Another thread may have put and committed it since the look. */
        absent = store->settled == settled;
        other = other && absent;
    }
    g_mutex_unlock(&store->lock);
    *ret_found = found;
    *ret_replace = bad;
    return ok;
}

bool at_store_put(struct at_vault_session *session, uint8_t kind, const struct at_digest *digest,
                  const uint8_t *plain, size_t len, uint64_t *ret_stored, GError **error)
{
    struct at_store *store = session->vault->store;
    bool found, replace;
    g_rw_lock_reader_lock(&session->vault->sweep_lock);
    bool ok = find_or_reserve(store, kind, digest, &found, &replace, error);
    if (ok && found)
        at_session_hit(session, digest);
    g_rw_lock_reader_unlock(&session->vault->sweep_lock);
    if (!ok)
        return false;
    if (found) {
        *ret_stored = 0;
        return true;
    }
    static GPrivate scratch_key = G_PRIVATE_INIT(g_free);
    uint8_t *scratch = NULL;
    g_autofree uint8_t *large = NULL;
    if (len > AT_CHUNK_MAX) {
        scratch = large = g_malloc(len);
    } else if (!(scratch = g_private_get(&scratch_key))) {
        scratch = g_malloc(AT_CHUNK_MAX);
        g_private_set(&scratch_key, scratch);
    }
    struct at_record record = {.kind = kind, .plain = (uint32_t)len, .digest = *digest};
    record.stored = (uint32_t)at_codec_pack(kind, plain, len, scratch, &record.codec);
    const uint8_t *payload = scratch;
    if (record.stored == 0) {
        record.codec = AT_CODEC_NONE;
        record.stored = (uint32_t)len;
        payload = plain;
    }
    record.check = at_check(payload, record.stored);

    struct at_row *row = g_new0(struct at_row, 1);
    row->digest = *digest;
    row->replace = replace;
    g_mutex_lock(&store->lock);
    ok = append(store, &record, payload, &row->place, error);
    if (ok)
        g_hash_table_insert(store->pending, row, row);
    g_hash_table_remove(store->in_flight, digest);
    g_cond_broadcast(&store->landed);
    bool commit = ok && due(store, 1), wait = ok && due(store, BATCHES_MAX);
    struct at_tail *kick = store->current;
    uint64_t from = 0, upto = 0;
    if (ok && kick && kick->written - kick->kicked >= KICK) {
        from = kick->kicked;
        upto = kick->kicked = kick->written;
        g_atomic_int_inc(&kick->refs);
    }
    g_mutex_unlock(&store->lock);
    if (upto) {
        /* Durability is the flush's; this only spreads the work. */
        sync_file_range(kick->fd, (off_t)from, (off_t)(upto - from), SYNC_FILE_RANGE_WRITE);
        at_tail_unref(kick);
    }
    if (!ok)
        g_free(row);
    else
        *ret_stored = at_record_size(record.stored);
    if (wait)
        return at_store_flush(store, session->failures, error);
    if (commit)
        at_store_commit_beside(session->vault);
    return ok;
}

bool at_store_move(struct at_store *store, const struct at_record *record, const uint8_t *payload,
                   const struct at_place *old, GError **error)
{
    struct at_move move = {.digest = record->digest, .old = *old};
    g_mutex_lock(&store->lock);
    bool ok = append(store, record, payload, &move.place, error);
    if (ok)
        g_array_append_val(store->moves, move);
    g_mutex_unlock(&store->lock);
    return ok;
}
