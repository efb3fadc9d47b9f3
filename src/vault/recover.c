/* SPDX-License-Identifier: Apache-2.0 */
/* Making index and packs agree: torn tails are cut, records that the index has missed are added,
 * and an index that is lost, or older or newer than the packs, is built again from them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/retry.h"
#include "vault/maintenance.h"
#include "vault/vault-internal.h"

struct pack_file {
    uint32_t id;
    struct at_pack_header header; /* zero when damaged */
    bool headed;
    uint64_t size;
    bool in_use; /* it may be growing right now: leave its tail alone */
};

/* What is in the directory; files that a crash left before their header was written are removed. */
static GArray *look_at_packs(struct at_vault *vault, GError **error)
{
    g_autoptr(GArray) ids = at_packs_list(vault->packs, error);
    if (!ids)
        return NULL;
    g_autoptr(GArray) files = g_array_new(FALSE, TRUE, sizeof(struct pack_file));
    for (unsigned i = 0; i < ids->len; i++) {
        struct pack_file f = {.id = g_array_index(ids, uint32_t, i)};
        g_autofree char *path = at_packs_path(vault->packs, f.id);
        g_autoptr(GError) local = NULL;
        at_autofd fd = -1;
        f.headed = at_pack_open(vault->packs, f.id, false, &fd, &f.header, &f.size, &local);
        /* One whose header the disk cannot give may still have readable records. */
        if (!f.headed && local->code != AT_ERROR_CORRUPT && local->code != AT_ERROR_IO) {
            g_propagate_error(error, g_steal_pointer(&local));
            return NULL;
        }
        struct stat st;
        if (!f.headed && stat(path, &st) != 0) {
            at_error_errno(error, errno, "look at %s", path);
            return NULL;
        }
        if (!f.headed)
            f.size = (uint64_t)st.st_size;
        if (!f.headed && f.size <= AT_PACK_HEADER) {
            if (!at_unlink_durable(path, error))
                return NULL;
            continue;
        }
        g_array_append_val(files, f);
    }
    return g_steal_pointer(&files);
}

struct adding {
    struct at_index_txn *txn;
    uint32_t pack;
};

static bool add_record(const struct at_record *record, uint64_t offset, const uint8_t *payload,
                       void *user, GError **error)
{
    struct adding *a = user;
    struct at_place known, place = {
                               .pack = a->pack,
                               .stored = record->stored,
                               .plain = record->plain,
                               .kind = record->kind,
                               .codec = record->codec,
                               .offset = offset,
                           };
    bool found = false;
    g_autoptr(GError) local = NULL;
    /* Bytes of a commit that failed may lie before a copy that is in the index: the last one
     * counts.
     */
    if (!at_index_get(a->txn, &record->digest, &known, &found, &local) &&
        local->code != AT_ERROR_CORRUPT) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    bool later = found && (known.pack > place.pack ||
                           (known.pack == place.pack && known.offset > place.offset));
    return later || at_index_put(a->txn, &record->digest, &place, error);
}

/* Adds what @file has behind @from to the index and cuts a torn tail off; one that has nothing is
 * removed. */
static bool catch_up(struct at_vault *vault, struct at_index_txn *txn, struct pack_file *file,
                     uint64_t from, GError **error)
{
    g_autofree char *path = at_packs_path(vault->packs, file->id);
    at_autofd fd = at_retry(open(path, O_RDWR | O_CLOEXEC));
    if (fd < 0)
        return at_error_errno(error, errno, "open %s", path);
    struct adding adding = {txn, file->id};
    uint64_t end;
    from = MAX(from, (uint64_t)AT_PACK_HEADER);
    if (!at_pack_scan(fd, from, file->size, add_record, &adding, &end, NULL, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    /* A name and a size without bytes.  As a pack of the index it would be gone at the next start,
     * and all of the index be built again. */
    if (!file->headed && end == AT_PACK_HEADER && !file->in_use)
        return at_unlink_durable(path, error);
    if (end < file->size && !file->in_use) {
        if (!at_fault_point("vault.recover.cut", error))
            return false;
        if (at_retry(ftruncate(fd, (off_t)end)) != 0)
            return at_error_errno(error, errno, "cut the torn tail of %s", path);
        file->size = end;
    }
    /* What was found may still be only in the page cache of a crashed process. */
    if (at_retry(fdatasync(fd)) != 0)
        return at_error_errno(error, errno, "sync %s", path);
    struct at_pack_meta meta = {.id = file->id, .indexed = file->size};
    memcpy(meta.uuid, file->header.uuid, sizeof meta.uuid);
    return at_index_pack_put(txn, &meta, error);
}

/* Nor need the names of packs that a crashed process has made be durable yet: before a commit. */
static bool sync_names(struct at_vault *vault, GError **error)
{
    return at_fault_point("vault.packs.sync-dir", error) &&
           at_fsync_dir(at_packs_dir(vault->packs), error);
}

/* Builds index.new from the packs. */
static bool build(struct at_vault *vault, GArray *files, at_progress_func progress, void *user,
                  GCancellable *cancellable, GError **error)
{
    g_autofree char *dir = at_vault_path(vault, "index.new");
    if (!at_remove_tree(dir, error) || !at_mkdirs(dir, 0750, error))
        return false;
    if ((vault->gid != (gid_t)-1 && chown(dir, (uid_t)-1, vault->gid) != 0) ||
        chmod(dir, 02750) != 0)
        return at_error_errno(error, errno, "set group and mode of %s", dir);
    struct at_index *index = at_index_open(dir, true, vault->gid, error);
    if (!index)
        return false;
    uint64_t done = 0, total = 0;
    for (unsigned i = 0; i < files->len; i++)
        total += g_array_index(files, struct pack_file, i).size;
    bool ok = true;
    for (unsigned i = 0; ok && i < files->len; i++) {
        struct at_index_txn *txn = at_index_begin(index, error);
        if (!txn) {
            ok = false;
            break;
        }
        struct pack_file *f = &g_array_index(files, struct pack_file, i);
        ok = catch_up(vault, txn, f, 0, error);
        done += f->size;
        ok = ok && sync_names(vault, error);
        if (ok)
            ok = at_index_commit(txn, error);
        else
            at_index_abort(txn);
        if (ok && progress)
            progress(done, total, user);
        if (ok && g_cancellable_is_cancelled(cancellable))
            ok = at_error(error, AT_ERROR_CANCELLED, "cancelled");
    }
    at_index_close(index);
    return ok;
}

/* Carries @bad (may be NULL: none) over into index.new. */
static bool carry_over(struct at_vault *vault, GArray *bad, GError **error)
{
    g_autofree char *dir = at_vault_path(vault, "index.new");
    struct at_index *index = at_index_open(dir, true, vault->gid, error);
    struct at_index_txn *txn = index ? at_index_begin(index, error) : NULL;
    bool ok = txn != NULL;
    for (unsigned i = 0; ok && bad && i < bad->len; i++)
        ok = at_index_quarantine(txn, &g_array_index(bad, struct at_digest, i), true, error);
    if (ok)
        ok = at_index_commit(txn, error);
    else
        at_index_abort(txn);
    at_index_close(index);
    return ok;
}

/* Undoes a swap: whoever has the old index open goes on with it, under its old name. */
static bool swap_back(struct at_vault *vault)
{
    g_autofree char *current = at_vault_path(vault, "index");
    g_autofree char *fresh = at_vault_path(vault, "index.new");
    (void)!renameat2(AT_FDCWD, fresh, AT_FDCWD, current, RENAME_EXCHANGE);
    return false;
}

/* Puts index.new in place of index; readers notice by the inode. */
static bool swap(struct at_vault *vault, GError **error)
{
    g_autofree char *current = at_vault_path(vault, "index");
    g_autofree char *fresh = at_vault_path(vault, "index.new");
    if (!at_fsync_dir(fresh, error) || !at_fault_point("vault.index.swap", error))
        return false;
    if (renameat2(AT_FDCWD, fresh, AT_FDCWD, current, RENAME_EXCHANGE) == 0)
        return at_fsync_dir(vault->dir, error) || swap_back(vault);
    if (errno == ENOENT)
        return at_rename_durable(fresh, current, error);
    if (errno != EINVAL && errno != ENOSYS)
        return at_error_errno(error, errno, "replace %s", current);
    return at_remove_tree(current, error) && at_rename_durable(fresh, current, error);
}

static bool remove_old(struct at_vault *vault, GError **error)
{
    g_autofree char *fresh = at_vault_path(vault, "index.new");
    return at_remove_tree(fresh, error);
}

static struct at_pack_meta *find_meta(GArray *metas, uint32_t id)
{
    for (unsigned i = 0; i < metas->len; i++) {
        if (g_array_index(metas, struct at_pack_meta, i).id == id)
            return &g_array_index(metas, struct at_pack_meta, i);
    }
    return NULL;
}

/* Whether what the index says of the packs can be true. */
static bool plausible(GArray *metas, GArray *files)
{
    for (unsigned i = 0; i < metas->len; i++) {
        const struct at_pack_meta *m = &g_array_index(metas, struct at_pack_meta, i);
        const struct pack_file *f = NULL;
        for (unsigned k = 0; k < files->len && !f; k++) {
            if (g_array_index(files, struct pack_file, k).id == m->id)
                f = &g_array_index(files, struct pack_file, k);
        }
        if (m->state == AT_PACK_LIVE &&
            (!f || f->size < m->indexed ||
             (f->headed && memcmp(f->header.uuid, m->uuid, sizeof m->uuid) != 0)))
            return false;
    }
    return true;
}

/* Opens the index as it is; *ret_usable false when it must be built again. */
static bool open_index(struct at_vault *vault, GArray *files, bool *ret_usable, GError **error)
{
    g_autofree char *dir = at_vault_path(vault, "index");
    g_autofree char *data = g_build_filename(dir, "data.mdb", NULL);
    *ret_usable = false;
    if (!at_mkdirs(dir, 0750, error))
        return false;
    if ((vault->gid != (gid_t)-1 && chown(dir, (uid_t)-1, vault->gid) != 0) ||
        chmod(dir, 02750) != 0)
        return at_error_errno(error, errno, "set group and mode of %s", dir);
    bool there = access(data, F_OK) == 0;
    if (!there && files->len)
        return true;
    g_autoptr(GError) local = NULL;
    vault->index = at_index_open(dir, true, vault->gid, &local);
    if (!vault->index) {
        if (local->code == AT_ERROR_CORRUPT)
            return true;
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    struct at_index_stats stats;
    bool ok = at_index_stats(vault->index, &stats, &local); /* also checks the format */
    g_autoptr(GArray) metas = ok ? at_index_packs(vault->index, &local) : NULL;
    if (metas || local->code == AT_ERROR_CORRUPT) {
        *ret_usable = metas && plausible(metas, files);
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

/* Tails behind what the index knows, and packs that gc was about to remove. */
static bool reconcile(struct at_vault *vault, GArray *files, GError **error)
{
    g_autoptr(GArray) metas = at_index_packs(vault->index, error);
    if (!metas)
        return false;
    g_autoptr(GArray) behind = g_array_new(FALSE, FALSE, sizeof(unsigned));
    for (unsigned i = files->len; i-- > 0;) {
        struct pack_file *f = &g_array_index(files, struct pack_file, i);
        struct at_pack_meta *m = find_meta(metas, f->id);
        if (m && m->state == AT_PACK_REMOVING) {
            g_autofree char *path = at_packs_path(vault->packs, f->id);
            /* As gc does: a reader that has it open must not hold the space. */
            if (at_retry(truncate(path, 0)) != 0)
                return at_error_errno(error, errno, "empty %s", path);
            if (!at_fault_point("vault.recover.unlink", error) || !at_unlink_durable(path, error))
                return false;
            g_array_remove_index(files, i);
        }
    }
    bool work = false;
    for (unsigned i = 0; i < metas->len; i++)
        work = work || g_array_index(metas, struct at_pack_meta, i).state == AT_PACK_REMOVING;
    for (unsigned i = 0; i < files->len; i++) {
        struct pack_file *f = &g_array_index(files, struct pack_file, i);
        struct at_pack_meta *m = find_meta(metas, f->id);
        work = work || !m || m->indexed < f->size;
    }
    if (!work)
        return true;
    struct at_index_txn *txn = at_index_begin(vault->index, error);
    if (!txn)
        return false;
    bool ok = true;
    for (unsigned i = 0; ok && i < metas->len; i++) {
        struct at_pack_meta *m = &g_array_index(metas, struct at_pack_meta, i);
        if (m->state == AT_PACK_REMOVING)
            ok = at_index_pack_delete(txn, m->id, error);
    }
    for (unsigned i = 0; ok && i < files->len; i++) {
        struct pack_file *f = &g_array_index(files, struct pack_file, i);
        struct at_pack_meta *m = find_meta(metas, f->id);
        if (!m || m->indexed < f->size)
            ok = catch_up(vault, txn, f, m ? m->indexed : 0, error);
    }
    if (!ok || !sync_names(vault, error)) {
        at_index_abort(txn);
        return false;
    }
    return at_index_commit(txn, error);
}

static bool roots_are_indexed(struct at_vault *vault)
{
    g_autoptr(GPtrArray) roots = at_vault_root_list(vault, NULL, NULL);
    struct at_place place;
    bool found = roots != NULL;
    for (unsigned i = 0; found && i < roots->len; i++) {
        const struct at_root *root = g_ptr_array_index(roots, i);
        found = at_index_lookup(vault->index, &root->digest, &place, &found, NULL) && found;
    }
    return found;
}

/* On a full disk the index cannot take in what it has missed.  That goes, then: a root is set only
 * over what is indexed, so nothing needs it, unless the index is an old copy. */
static bool cut_unindexed(struct at_vault *vault, GArray *files, GError **error)
{
    g_autoptr(GArray) metas = at_index_packs(vault->index, error);
    if (!metas)
        return false;
    for (unsigned i = files->len; i-- > 0;) {
        struct pack_file *f = &g_array_index(files, struct pack_file, i);
        struct at_pack_meta *m = find_meta(metas, f->id);
        g_autofree char *path = at_packs_path(vault->packs, f->id);
        if (!m) {
            if (!at_unlink_durable(path, error))
                return false;
            g_array_remove_index(files, i);
        } else if (f->size > m->indexed) {
            if (at_retry(truncate(path, (off_t)m->indexed)) != 0)
                return at_error_errno(error, errno, "cut the tail of %s", path);
            f->size = m->indexed;
        }
    }
    return true;
}

static bool start_store(struct at_vault *vault, GArray *files, GError **error)
{
    struct at_index_stats stats;
    if (!at_index_stats(vault->index, &stats, error))
        return false;
    vault->store = at_store_new(vault->packs, vault->index, vault->gid);
    uint32_t next = (uint32_t)stats.next_pack;
    const struct pack_file *last = NULL;
    for (unsigned i = 0; i < files->len; i++) {
        const struct pack_file *f = &g_array_index(files, struct pack_file, i);
        next = MAX(next, f->id + 1);
        last = f;
    }
    if (last && last->headed && last->size < AT_PACK_SIZE && last->size % AT_RECORD_ALIGN == 0) {
        int fd;
        struct at_pack_header header;
        uint64_t size;
        if (!at_pack_open(vault->packs, last->id, true, &fd, &header, &size, error))
            return false;
        at_store_start(vault->store, last->id, header.uuid, fd, size, next);
    } else {
        at_store_start(vault->store, 0, NULL, -1, 0, next);
    }
    g_autoptr(GArray) bad = at_index_quarantined(vault->index, error);
    if (!bad)
        return false;
    for (unsigned i = 0; i < bad->len; i++)
        at_store_distrust(vault->store, &g_array_index(bad, struct at_digest, i));
    return true;
}

bool at_vault_recover(struct at_vault *vault, GError **error)
{
    bool usable;
    g_autoptr(GArray) files = look_at_packs(vault, error);
    if (!files || !remove_old(vault, error) || !open_index(vault, files, &usable, error))
        return false;
    if (!usable) {
        g_autoptr(GArray) bad = vault->index ? at_index_quarantined(vault->index, NULL) : NULL;
        g_clear_pointer(&vault->index, at_index_close);
        g_autofree char *dir = at_vault_path(vault, "index");
        if (!build(vault, files, NULL, NULL, NULL, error) || !carry_over(vault, bad, error) ||
            !swap(vault, error) || !remove_old(vault, error))
            return false;
        vault->index = at_index_open(dir, true, vault->gid, error);
        if (!vault->index)
            return false;
    }
    g_autoptr(GError) local = NULL;
    if (!reconcile(vault, files, &local)) {
        if (local->code != AT_ERROR_NO_SPACE || !roots_are_indexed(vault)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
        if (!cut_unindexed(vault, files, error))
            return false;
    }
    /* LMDB syncs its file, not the name of it. */
    g_autofree char *index = at_vault_path(vault, "index");
    return at_fsync_dir(index, error) && start_store(vault, files, error);
}

bool at_vault_reindex(struct at_vault *vault, at_progress_func progress, void *user,
                      GCancellable *cancellable, GError **error)
{
    if (!vault->writer)
        return at_error(error, AT_ERROR_DENIED, "vault %s is open for reading only", vault->dir);
    g_mutex_lock(&vault->gc_lock);
    at_store_roll(vault->store);
    bool ok = at_store_flush(vault->store, at_store_failures(vault->store), error);
    at_store_hold(vault->store);
    g_autoptr(GArray) ids = ok ? at_packs_list(vault->packs, error) : NULL;
    g_autoptr(GArray) metas = ids ? at_index_packs(vault->index, error) : NULL;
    ok = metas != NULL;
    /* Only what was committed; puts that go on meanwhile are committed to the new index. */
    g_autoptr(GArray) files = g_array_new(FALSE, TRUE, sizeof(struct pack_file));
    for (unsigned i = 0; ok && i < ids->len; i++) {
        struct at_pack_meta *m = find_meta(metas, g_array_index(ids, uint32_t, i));
        struct pack_file f = {.id = g_array_index(ids, uint32_t, i)};
        g_autoptr(GError) local = NULL;
        at_autofd fd = -1;
        f.headed = at_pack_open(vault->packs, f.id, false, &fd, &f.header, &f.size, &local);
        if (!m)
            continue;
        memcpy(f.header.uuid, m->uuid, sizeof m->uuid);
        f.size = m->indexed;
        f.in_use = true;
        g_array_append_val(files, f);
    }
    bool changed;
    ok = ok && build(vault, files, progress, user, cancellable, error);
    g_mutex_lock(&vault->damage_lock); /* what was noted while we built is carried over, too */
    g_autoptr(GArray) bad = ok ? at_index_quarantined(vault->index, error) : NULL;
    ok = bad && carry_over(vault, bad, error) && swap(vault, error) &&
         (at_index_refresh(vault->index, &changed, error) || swap_back(vault));
    g_mutex_unlock(&vault->damage_lock);
    ok = ok && remove_old(vault, error);
    at_store_release(vault->store);
    g_mutex_unlock(&vault->gc_lock);
    return ok;
}
