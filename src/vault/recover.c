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
#include "vault/index-build.h"
#include "vault/maintenance.h"

#define DAMAGED "it was damaged, or a process died while it used it"

/* What is in the directory; files that a crash left before their header was written are removed. */
static GArray *look_at_packs(struct at_vault *vault, GError **error)
{
    g_autoptr(GArray) ids = at_packs_list(vault->packs, error);
    if (!ids)
        return NULL;
    g_autoptr(GArray) files = g_array_new(FALSE, TRUE, sizeof(struct at_pack_file));
    for (unsigned i = 0; i < ids->len; i++) {
        struct at_pack_file f = {.id = g_array_index(ids, uint32_t, i)};
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

/* Whether what the index says of the packs can be true. */
static bool plausible(GArray *metas, GArray *files)
{
    for (unsigned i = 0; i < metas->len; i++) {
        const struct at_pack_meta *m = &g_array_index(metas, struct at_pack_meta, i);
        const struct at_pack_file *f = NULL;
        for (unsigned k = 0; k < files->len && !f; k++) {
            if (g_array_index(files, struct at_pack_file, k).id == m->id)
                f = &g_array_index(files, struct at_pack_file, k);
        }
        if (m->state == AT_PACK_LIVE &&
            (!f || f->size < m->indexed ||
             (f->headed && memcmp(f->header.uuid, m->uuid, sizeof m->uuid) != 0)))
            return false;
    }
    return true;
}

/* Opens the index as it is; false in *ret_usable when it must be built again, and vault->rebuilt
 * says why. */
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
    vault->rebuilt = "it was missing";
    if (!there && files->len)
        return true;
    vault->rebuilt = DAMAGED;
    enum at_index_state state = at_index_marked(vault);
    if (state == AT_INDEX_DEADLY)
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
        *ret_usable = state == AT_INDEX_GOOD && metas && plausible(metas, files) &&
                      !at_index_suspect(vault->index);
        if (state == AT_INDEX_GOOD && metas && !*ret_usable)
            vault->rebuilt = "it did not agree with the packs";
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
        struct at_pack_file *f = &g_array_index(files, struct at_pack_file, i);
        struct at_pack_meta *m = at_find_meta(metas, f->id);
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
        struct at_pack_file *f = &g_array_index(files, struct at_pack_file, i);
        struct at_pack_meta *m = at_find_meta(metas, f->id);
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
        struct at_pack_file *f = &g_array_index(files, struct at_pack_file, i);
        struct at_pack_meta *m = at_find_meta(metas, f->id);
        if (!m || m->indexed < f->size)
            ok = at_index_catch_up(vault, txn, f, m ? m->indexed : 0, error);
    }
    if (!ok || !at_index_sync_names(vault, error)) {
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
        struct at_pack_file *f = &g_array_index(files, struct at_pack_file, i);
        struct at_pack_meta *m = at_find_meta(metas, f->id);
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
    const struct at_pack_file *last = NULL;
    for (unsigned i = 0; i < files->len; i++) {
        const struct at_pack_file *f = &g_array_index(files, struct at_pack_file, i);
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

/* @afresh: the index is built again, whatever it looks like. */
static bool recover(struct at_vault *vault, bool afresh, GError **error)
{
    bool usable = false;
    g_autoptr(GArray) files = look_at_packs(vault, error);
    if (!files || !at_index_remove_old(vault, error) ||
        (!afresh && !open_index(vault, files, &usable, error)))
        return false;
    if (!usable) {
        g_autoptr(GArray) bad = vault->index ? at_index_quarantined(vault->index, NULL) : NULL;
        g_clear_pointer(&vault->index, at_index_close);
        g_autofree char *dir = at_vault_path(vault, "index");
        if (!at_index_rebuild(vault, files, bad, error))
            return false;
        vault->index = at_index_open(dir, true, vault->gid, error);
        if (!vault->index)
            return false;
        at_index_unmark(vault);
    } else {
        vault->rebuilt = NULL;
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

bool at_vault_recover(struct at_vault *vault, GError **error)
{
    g_autoptr(GError) local = NULL;
    bool ok = recover(vault, false, &local);
    /* What looked right at first can still turn out to be damaged. */
    if (!ok && vault->index && at_index_suspect(vault->index) && !vault->built) {
        g_clear_error(&local);
        g_clear_pointer(&vault->store, at_store_free);
        g_clear_pointer(&vault->index, at_index_close);
        vault->rebuilt = DAMAGED;
        ok = recover(vault, true, &local);
    }
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&local));
    return ok;
}
