/* SPDX-License-Identifier: Apache-2.0 */
/* The index from the packs: built beside, swapped, and the same on demand (reindex). */
#include "vault/index-build.h"

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
#include "vault/index-guard.h"
#include "vault/maintenance.h"

struct at_pack_meta *at_find_meta(GArray *metas, uint32_t id)
{
    for (unsigned i = 0; i < metas->len; i++) {
        if (g_array_index(metas, struct at_pack_meta, i).id == id)
            return &g_array_index(metas, struct at_pack_meta, i);
    }
    return NULL;
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

bool at_index_catch_up(struct at_vault *vault, struct at_index_txn *txn, struct at_pack_file *file,
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

bool at_index_sync_names(struct at_vault *vault, GError **error)
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
        total += g_array_index(files, struct at_pack_file, i).size;
    bool ok = true;
    for (unsigned i = 0; ok && i < files->len; i++) {
        struct at_index_txn *txn = at_index_begin(index, error);
        if (!txn) {
            ok = false;
            break;
        }
        struct at_pack_file *f = &g_array_index(files, struct at_pack_file, i);
        ok = at_index_catch_up(vault, txn, f, 0, error);
        done += f->size;
        ok = ok && at_index_sync_names(vault, error);
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

bool at_index_remove_old(struct at_vault *vault, GError **error)
{
    g_autofree char *fresh = at_vault_path(vault, "index.new");
    return at_remove_tree(fresh, error);
}

enum at_index_state at_index_marked(const struct at_vault *vault)
{
    g_autofree char *mark = at_vault_path(vault, AT_INDEX_SUSPECT), *text = NULL;
    g_autoptr(GError) local = NULL;
    if (at_read_text(mark, &text, &local))
        return strstr(text, AT_INDEX_DIED) ? AT_INDEX_DEADLY : AT_INDEX_DAMAGED;
    return g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT) ? AT_INDEX_GOOD
                                                                    : AT_INDEX_DAMAGED;
}

void at_index_unmark(struct at_vault *vault)
{
    g_autofree char *mark = at_vault_path(vault, AT_INDEX_SUSPECT);
    (void)!unlink(mark);
    g_atomic_int_set(&vault->reader_suspects, 0);
}

bool at_index_rebuild(struct at_vault *vault, GArray *files, GArray *bad, GError **error)
{
    if (!build(vault, files, NULL, NULL, NULL, error) || !carry_over(vault, bad, error) ||
        !swap(vault, error) || !at_index_remove_old(vault, error))
        return false;
    vault->built = true;
    return true;
}

/* Whether *@error only says that the old index is damaged, which is why a new one is built. */
static bool is_no_matter(GError **error)
{
    if (!g_error_matches(*error, AT_ERROR, AT_ERROR_CORRUPT))
        return false;
    g_clear_error(error);
    return true;
}

/* Packs as far as they are committed: puts that go on meanwhile are committed to the new index. An
 * old one that cannot say how far that is has all of them taken as they are. */
static GArray *committed_packs(struct at_vault *vault, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GArray) ids = at_packs_list(vault->packs, error);
    g_autoptr(GArray) metas = ids ? at_index_packs(vault->index, &local) : NULL;
    if (!ids)
        return NULL;
    if (!metas && !is_no_matter(&local)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    GArray *files = g_array_new(FALSE, TRUE, sizeof(struct at_pack_file));
    for (unsigned i = 0; i < ids->len; i++) {
        struct at_pack_file f = {.id = g_array_index(ids, uint32_t, i), .in_use = true};
        struct at_pack_meta *m = metas ? at_find_meta(metas, f.id) : NULL;
        at_autofd fd = -1;
        f.headed = at_pack_open(vault->packs, f.id, false, &fd, &f.header, &f.size, NULL);
        if (!m && (!f.headed || (metas && at_store_has_open(vault->store, f.id))))
            continue;
        if (m) {
            memcpy(f.header.uuid, m->uuid, sizeof m->uuid);
            f.size = m->indexed;
        }
        g_array_append_val(files, f);
    }
    return files;
}

/* Built; now in its place, with what was noted of damage meanwhile. */
static bool take_over(struct at_vault *vault, GError **error)
{
    bool changed;
    g_autoptr(GError) local = NULL;
    g_mutex_lock(&vault->damage_lock);
    g_autoptr(GArray) bad = at_index_quarantined(vault->index, &local);
    bool ok = bad || is_no_matter(&local);
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&local));
    ok = ok && carry_over(vault, bad, error) && swap(vault, error) &&
         (at_index_refresh(vault->index, &changed, error) || swap_back(vault));
    g_mutex_unlock(&vault->damage_lock);
    if (ok) {
        vault->built = true;
        at_index_unmark(vault);
    }
    return ok;
}

bool at_vault_reindex(struct at_vault *vault, at_progress_func progress, void *user,
                      GCancellable *cancellable, GError **error)
{
    if (!vault->writer)
        return at_error(error, AT_ERROR_DENIED, "vault %s is open for reading only", vault->dir);
    g_autoptr(GError) local = NULL;
    g_mutex_lock(&vault->gc_lock);
    at_store_roll(vault->store);
    bool ok = at_store_flush(vault->store, at_store_failures(vault->store), &local) ||
              is_no_matter(&local);
    at_store_hold(vault->store);
    g_autoptr(GArray) files = ok ? committed_packs(vault, &local) : NULL;
    ok = files && build(vault, files, progress, user, cancellable, &local) &&
         take_over(vault, &local) && at_index_remove_old(vault, &local);
    at_store_release(vault->store);
    g_mutex_unlock(&vault->gc_lock);
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&local));
    return ok;
}
