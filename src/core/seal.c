/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing: what a frozen overlay holds goes into the vault, oldest first; the new root replaces the
 * old one below the live overlay; the file goes. Then the snapshot gets its manifest.
 *
 * Order for one frozen generation: chunks and tree durable (vault) - root pinned - the running
 * machine rebased - catalog (machine and snapshots) - old pin removed - file removed. A crash
 * anywhere leaves the frozen file or the committed record; doing it again is harmless. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "core/supervisor.h"
#include "core/vdc.h"
#include "qemu/block.h"
#include "qemu/disk-reader.h"
#include "vault/tree.h"

static GMutex seal_lock; /* guards: one overlay is sealed at a time, it uses all cores by itself */

struct reading {
    struct at_job *job;
    struct at_tree_writer *writer;
    uint64_t done, total;
};

static bool take_extent(uint64_t offset, uint64_t len, const void *data, void *user, GError **error)
{
    struct reading *r = user;
    bool ok = data ? at_tree_writer_data(r->writer, offset, data, len, error)
                   : at_tree_writer_zero(r->writer, offset, len, error);
    if (data)
        r->done += len;
    at_job_progress(r->job, MIN(r->done, r->total), r->total);
    return ok;
}

static uint64_t allocated(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* The frozen file over @base as a new tree. Durable on return. */
static bool compute_root(struct at_job *job, struct at_vault_session *session, const char *path,
                         const struct at_disk *disk, struct at_digest *ret_root,
                         struct at_tree_stats *ret_stats, GError **error)
{
    struct at_digest base;
    if (disk->base && !at_digest_from_hex(disk->base, &base, error))
        return false;
    struct reading r = {.job = job, .total = allocated(path)};
    r.writer = at_tree_writer_new(session, disk->base ? &base : NULL, disk->size, error);
    if (!r.writer)
        return false;
    bool ok = at_disk_read_overlay(path, take_extent, &r, at_job_cancellable(job), NULL, error) &&
              at_fault_point("seal.read", error) &&
              at_tree_writer_finish(r.writer, ret_root, ret_stats, error);
    at_tree_writer_free(r.writer);
    return ok;
}

/* Puts the new base below the oldest remaining overlay of a running machine. */
static bool rebase(struct at_core *core, const at_mach *mach, const struct at_disk *disk,
                   unsigned gen, const char *new_root, GError **error)
{
    struct at_process process;
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    g_autofree char *nbd = at_core_nbd_socket(core);
    g_autofree char *socket_path = g_build_filename(dir, "qmp-b.sock", NULL);
    unsigned above = g_array_index(disk->gens, unsigned, 1);
    if (!at_machine_process(core, mach->id, &process))
        return true; /* its next start takes the chain from the record */
    if (!at_nbd_check(core, error))
        return false;
    struct at_qmp *qmp = at_qmp_open(socket_path, 15000, error);
    bool ok = qmp && at_block_rebase(qmp, dir, nbd, disk->index, above, new_root, &gen, 1,
                                     disk->base, error);
    if (qmp)
        at_qmp_close(qmp);
    /* It may have died meanwhile: then nothing holds the old chain. */
    if (!ok && !at_machine_process(core, mach->id, &process)) {
        g_clear_error(error);
        ok = true;
    }
    return ok;
}

static bool commit(struct at_core *core, at_mach *mach, struct at_disk *disk, unsigned gen,
                   const char *root, const struct at_tree_stats *stats, GError **error)
{
    g_autoptr(GPtrArray) snaps = at_snap_load_all(core->catalog, mach->vdc_id, error);
    if (!snaps)
        return false;
    struct at_txn *txn = at_txn_new(core->catalog);
    g_free(disk->base);
    disk->base = g_strdup(root);
    g_array_remove_index(disk->gens, 0);
    at_mach_put(txn, mach);
    for (unsigned i = 0; i < snaps->len; i++) {
        at_snap *s = snaps->pdata[i];
        bool touched = false;
        for (unsigned k = 0; k < s->disks->len; k++) {
            struct at_snap_disk *d = s->disks->pdata[k];
            if (d->root || g_strcmp0(d->machine, mach->id) != 0 || d->index != disk->index ||
                d->upto < gen)
                continue;
            s->stored_bytes += stats->stored_bytes;
            s->changed_bytes += stats->changed_bytes;
            touched = true;
            if (d->upto == gen) {
                d->root = g_strdup(root);
                g_clear_pointer(&d->machine, g_free);
            }
        }
        if (touched)
            at_snap_put(txn, s);
    }
    return at_txn_commit(txn, NULL, error);
}

static bool pin_extra(struct at_core *core, const at_mach *mach, const struct at_disk *disk,
                      const struct at_digest *root, GError **error)
{
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(root, hex);
    g_autofree char *name = g_strdup_printf("live/%s/%u/%s", mach->id, disk->index, hex);
    return at_vault_root_set(core->vault, name, AT_ROOT_TREE, root, error);
}

/* Under the machine's lock: makes the sealed root the base and drops the frozen file. Generations
 * that came on top meanwhile do not matter: only the oldest is replaced. */
static bool replace(struct at_job *job, const char *machine_id, unsigned index, unsigned gen,
                    const char *old_base, const struct at_digest *root,
                    const struct at_tree_stats *stats, GError **error)
{
    struct at_core *core = at_job_core(job);
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(root, hex);
    g_autoptr(at_mach) mach = at_mach_load(core->catalog, machine_id, error);
    if (!mach)
        return false;
    struct at_disk *disk = NULL;
    for (unsigned i = 0; i < mach->disks->len; i++) {
        if (((struct at_disk *)mach->disks->pdata[i])->index == index)
            disk = mach->disks->pdata[i];
    }
    if (!disk || disk->gens->len < 1 || g_array_index(disk->gens, unsigned, 0) != gen ||
        g_strcmp0(disk->base, old_base) != 0)
        return at_error(error, AT_ERROR_CONFLICT, "its overlays changed while it was sealed");
    bool retired = g_str_equal(mach->state, "retired");
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    if (!at_fault_point("seal.rebase", error) ||
        (!retired && disk->gens->len > 1 && !rebase(core, mach, disk, gen, hex, error)) ||
        !at_fault_point("seal.commit", error) ||
        !commit(core, mach, disk, gen, hex, stats, error) || !at_fault_point("seal.unpin", error) ||
        !at_machine_pin(core, mach, error) || !at_fault_point("seal.unlink", error))
        return false;
    return at_block_overlay_remove(dir, index, gen, error);
}

/* Seals the oldest frozen generation of one disk; @ret_more: there was one up to @upto. */
static bool seal_one(struct at_job *job, const char *machine_id, unsigned index, unsigned upto,
                     bool *ret_more, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_mach) mach = at_mach_load(core->catalog, machine_id, error);
    const struct at_disk *disk = NULL;
    *ret_more = false;
    for (unsigned i = 0; mach && i < mach->disks->len; i++) {
        const struct at_disk *d = mach->disks->pdata[i];
        if (d->index == index)
            disk = d;
    }
    if (!mach)
        return false;
    if (!disk || disk->gens->len == 0 || g_array_index(disk->gens, unsigned, 0) > upto)
        return true;
    unsigned gen = g_array_index(disk->gens, unsigned, 0);
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    g_autofree char *path = at_block_overlay_path(dir, index, gen);
    struct at_digest root;
    struct at_tree_stats stats = {0};
    struct at_vault_session *session = at_vault_session_begin(core->vault, error);
    if (!session)
        return false;
    bool ok = compute_root(job, session, path, disk, &root, &stats, error) &&
              at_fault_point("seal.pin", error) && pin_extra(core, mach, disk, &root, error);
    if (ok) {
        at_machine_lock(core, machine_id);
        ok = replace(job, machine_id, index, gen, disk->base, &root, &stats, error);
        at_machine_unlock(core, machine_id);
    }
    at_vault_session_end(session);
    if (!ok) {
        g_prefix_error(error, "workstation %s: disk %s: ", mach->workstation, disk->name);
        return false;
    }
    *ret_more = true;
    return true;
}

/* ---- the manifest ---- */

static JsonNode *manifest_of(const at_snap *snap)
{
    JsonObject *o = json_object_new();
    JsonObject *def = json_object_new();
    JsonObject *full = json_node_get_object(snap->definition);
    g_autoptr(GList) names = json_object_get_members(full);
    for (GList *l = names; l; l = l->next) { /* the name is not part of what the environment is */
        if (!g_str_equal(l->data, "vdc"))
            json_object_set_member(def, l->data,
                                   json_node_copy(json_object_get_member(full, l->data)));
    }
    JsonArray *disks = json_array_new();
    for (unsigned i = 0; i < snap->disks->len; i++) {
        const struct at_snap_disk *d = snap->disks->pdata[i];
        JsonObject *e = json_object_new();
        json_object_set_string_member(e, "workstation", d->workstation);
        json_object_set_string_member(e, "name", d->name);
        json_object_set_int_member(e, "size", (int64_t)d->size);
        at_json_set_str(e, "root", d->root);
        json_array_add_object_element(disks, e);
    }
    json_object_set_string_member(o, "format", "atoll-manifest");
    json_object_set_int_member(o, "version", 1);
    json_object_set_object_member(o, "definition", def);
    json_object_set_object_member(o, "identity", json_object_ref(snap->identity));
    json_object_set_array_member(o, "disks", disks);
    return at_json_take_obj(o);
}

static bool make_manifest(struct at_core *core, at_snap *snap, GError **error)
{
    g_autoptr(JsonNode) manifest = manifest_of(snap);
    g_autofree char *text = at_json_canonical(manifest, error);
    g_autofree char *name = g_strdup_printf("snapshot/%s/%s", snap->vdc_id, snap->name);
    struct at_digest digest;
    struct at_vault_session *session = text ? at_vault_session_begin(core->vault, error) : NULL;
    if (!session)
        return false;
    bool ok = at_vault_blob_put(session, text, strlen(text), &digest, error) &&
              at_fault_point("seal.manifest", error) &&
              at_vault_root_set(core->vault, name, AT_ROOT_MANIFEST, &digest, error);
    at_vault_session_end(session);
    if (!ok)
        return false;
    g_free(snap->state);
    snap->state = g_strdup("sealed");
    g_free(snap->digest);
    snap->digest = at_digest_dup_hex(&digest);
    return at_snap_save(core->catalog, snap, error);
}

static bool seal_disks(struct at_job *job, const at_snap *snap, GError **error)
{
    for (unsigned i = 0; i < snap->disks->len; i++) {
        const struct at_snap_disk *d = snap->disks->pdata[i];
        bool more = !d->root;
        while (more) {
            if (!seal_one(job, d->machine, d->index, d->upto, &more, error))
                return false;
        }
    }
    return true;
}

bool at_seal_snapshot(struct at_job *job, const char *vdc_id, const char *name, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_mutex_lock(&seal_lock);
    g_autoptr(at_snap) before = at_snap_load(core->catalog, vdc_id, name, error);
    bool ok = before != NULL;
    if (ok && !before->digest) {
        ok = seal_disks(job, before, error);
        g_autoptr(at_snap) after = ok ? at_snap_load(core->catalog, vdc_id, name, error) : NULL;
        for (unsigned i = 0; after && ok && i < after->disks->len; i++) {
            if (!((struct at_snap_disk *)after->disks->pdata[i])->root &&
                ((struct at_snap_disk *)after->disks->pdata[i])->machine)
                ok =
                    at_error(error, AT_ERROR_CORRUPT, "a disk of snapshot %s has no content", name);
        }
        ok = ok && after && make_manifest(core, after, error);
    }
    g_mutex_unlock(&seal_lock);
    if (!ok)
        g_prefix_error(error, "snapshot %s: ", name);
    return ok;
}

bool at_seal_cleanup(struct at_core *core, const char *vdc_id, GError **error)
{
    g_autoptr(GPtrArray) retired = at_vdc_machines(core, vdc_id, "retired", error);
    g_autoptr(GPtrArray) snaps = at_snap_load_all(core->catalog, vdc_id, error);
    if (!retired || !snaps)
        return false;
    for (unsigned i = 0; i < retired->len; i++) {
        const at_mach *m = retired->pdata[i];
        bool needed = false;
        for (unsigned s = 0; s < snaps->len; s++) {
            const at_snap *snap = snaps->pdata[s];
            for (unsigned k = 0; k < snap->disks->len; k++)
                needed |=
                    g_strcmp0(((struct at_snap_disk *)snap->disks->pdata[k])->machine, m->id) == 0;
        }
        if (!needed && !at_machine_destroy(core, m->id, error))
            return false;
    }
    return true;
}
