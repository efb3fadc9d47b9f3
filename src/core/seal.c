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
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "core/supervisor.h"
#include "core/vdc.h"
#include "qemu/block.h"
#include "qemu/disk-reader.h"
#include "vault/tree.h"

enum { RETRY_MS = 2000, COMMIT_TRIES = 100 };
static const uint64_t check_space_every = 16 << 20;

/* ---- turns ---- */

/* One VDC is sealed by one job at a time, and one overlay is read at a time, since that uses all
 * cores by itself. */
static GMutex turns_lock; /* guards turns */
static GCond turns_changed;
static GHashTable *turns; /* VDC ids, and "" for the reading */

static bool turn_take(const char *what, GCancellable *cancellable, GError **error)
{
    bool ok = true;
    g_mutex_lock(&turns_lock);
    if (!turns)
        turns = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    while (ok && g_hash_table_contains(turns, what)) {
        g_cond_wait_until(&turns_changed, &turns_lock, at_deadline_ms(200));
        ok = !g_cancellable_is_cancelled(cancellable) ||
             at_error(error, AT_ERROR_CANCELLED, "cancelled while another seal was under way");
    }
    if (ok)
        g_hash_table_add(turns, g_strdup(what));
    g_mutex_unlock(&turns_lock);
    return ok;
}

static void turn_give(const char *what)
{
    g_mutex_lock(&turns_lock);
    g_hash_table_remove(turns, what);
    g_cond_broadcast(&turns_changed);
    g_mutex_unlock(&turns_lock);
}

bool at_seal_exclude(struct at_job *job, const char *vdc_id, GError **error)
{
    return turn_take(vdc_id, at_job_cancellable(job), error);
}

void at_seal_include(const char *vdc_id)
{
    turn_give(vdc_id);
}

/* ---- reading ---- */

struct reading {
    struct at_job *job;
    struct at_tree_writer *writer;
    uint64_t done, total, checked;
};

static bool take_extent(uint64_t offset, uint64_t len, const void *data, void *user, GError **error)
{
    struct reading *r = user;
    if (r->done >= r->checked) {
        r->checked = r->done + check_space_every;
        if (!at_node_room(at_job_core(r->job), error))
            return false;
    }
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
    at_job_waits_no_more(job);
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

/* ---- recording ---- */

struct sealed {
    const char *machine;
    unsigned index, gen;
    const char *old_base; /* NULL: zeros */
    const struct at_digest *root;
    char hex[AT_DIGEST_HEX + 1];
    const struct at_tree_stats *stats;
};

static bool waits_for(const struct at_snap_disk *d, const struct sealed *what)
{
    return !d->root && g_strcmp0(d->machine, what->machine) == 0 && d->index == what->index &&
           d->upto >= what->gen;
}

/* The machine and its disk, when the disk still is as it was before it was sealed. */
static at_mach *load_unchanged(struct at_core *core, const struct sealed *what,
                               struct at_disk **ret_disk, GError **error)
{
    g_autoptr(at_mach) mach = at_mach_load(core->catalog, what->machine, error);
    if (!mach)
        return NULL;
    *ret_disk = NULL;
    for (unsigned i = 0; i < mach->disks->len; i++) {
        struct at_disk *d = mach->disks->pdata[i];
        if (d->index == what->index && d->gens->len > 0 &&
            g_array_index(d->gens, unsigned, 0) == what->gen &&
            g_strcmp0(d->base, what->old_base) == 0)
            *ret_disk = d;
    }
    if (!*ret_disk) {
        at_error(error, AT_ERROR_CONFLICT, "its overlays changed while it was sealed");
        return NULL;
    }
    return g_steal_pointer(&mach);
}

/* Until it has its manifest, a snapshot keeps the roots of its disks by itself: the machine goes on
 * to newer ones. Named below the snapshot's own root, so that they go with it. */
static bool pin_for_snapshots(struct at_core *core, const struct sealed *what, const char *vdc_id,
                              GError **error)
{
    g_autoptr(GPtrArray) snaps = at_snap_load_all(core->catalog, vdc_id, error);
    for (unsigned i = 0; snaps && i < snaps->len; i++) {
        const at_snap *s = snaps->pdata[i];
        for (unsigned k = 0; k < s->disks->len; k++) {
            const struct at_snap_disk *d = s->disks->pdata[k];
            g_autofree char *name =
                g_strdup_printf("snapshot/%s/%s/disk/%u", s->vdc_id, s->name, k);
            if (waits_for(d, what) && d->upto == what->gen &&
                !at_vault_root_set(core->vault, name, AT_ROOT_TREE, what->root, error))
                return false;
        }
    }
    return snaps != NULL;
}

static bool commit_once(struct at_core *core, const struct sealed *what, GError **error)
{
    struct at_disk *disk = NULL;
    g_autoptr(at_mach) mach = load_unchanged(core, what, &disk, error);
    g_autoptr(GPtrArray) snaps = mach ? at_snap_load_all(core->catalog, mach->vdc_id, error) : NULL;
    if (!snaps)
        return false;
    struct at_txn *txn = at_txn_new(core->catalog);
    g_free(disk->base);
    disk->base = g_strdup(what->hex);
    g_array_remove_index(disk->gens, 0);
    at_mach_put(txn, mach);
    for (unsigned i = 0; i < snaps->len; i++) {
        at_snap *s = snaps->pdata[i];
        bool touched = false;
        for (unsigned k = 0; k < s->disks->len; k++) {
            struct at_snap_disk *d = s->disks->pdata[k];
            if (!waits_for(d, what))
                continue;
            s->stored_bytes += what->stats->stored_bytes;
            s->changed_bytes += what->stats->changed_bytes;
            touched = true;
            if (d->upto == what->gen) {
                d->root = g_strdup(what->hex);
                g_clear_pointer(&d->machine, g_free);
            }
        }
        if (touched)
            at_snap_put(txn, s);
    }
    return at_txn_commit(txn, NULL, error);
}

/* Others change these records too (whether it wants to run, how often it restarted): then it is
 * done again on what they wrote. */
static bool commit(struct at_core *core, const struct sealed *what, GError **error)
{
    for (unsigned tries = 1;; tries++) {
        g_autoptr(GError) local = NULL;
        if (commit_once(core, what, &local))
            return true;
        if (!g_error_matches(local, AT_ERROR, AT_ERROR_CONFLICT) || tries == COMMIT_TRIES) {
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
    }
}

static bool pin_extra(struct at_core *core, const struct sealed *what, GError **error)
{
    g_autofree char *name = g_strdup_printf("live/%s/%u/%s", what->machine, what->index, what->hex);
    return at_vault_root_set(core->vault, name, AT_ROOT_TREE, what->root, error);
}

/* Under the machine's lock: makes the sealed root the base and drops the frozen file. Generations
 * that came on top meanwhile do not matter: only the oldest is replaced. */
static bool replace(struct at_core *core, const struct sealed *what, GError **error)
{
    struct at_disk *disk = NULL;
    g_autoptr(at_mach) mach = load_unchanged(core, what, &disk, error);
    if (!mach)
        return false;
    bool retired = g_str_equal(mach->state, "retired");
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    if (!at_fault_point("seal.pin", error) || !pin_extra(core, what, error) ||
        !pin_for_snapshots(core, what, mach->vdc_id, error) ||
        !at_fault_point("seal.rebase", error) ||
        (!retired && disk->gens->len > 1 &&
         !rebase(core, mach, disk, what->gen, what->hex, error)) ||
        !at_fault_point("seal.commit", error) || !commit(core, what, error) ||
        !at_fault_point("seal.unpin", error))
        return false;
    g_autoptr(at_mach) now = at_mach_load(core->catalog, what->machine, error);
    return now && at_machine_pin(core, now, error) && at_fault_point("seal.unlink", error) &&
           at_block_overlay_remove(dir, what->index, what->gen, error);
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
    bool ok = turn_take("", at_job_cancellable(job), error);
    if (ok) {
        ok = compute_root(job, session, path, disk, &root, &stats, error);
        turn_give("");
    }
    if (ok) {
        struct sealed what = {machine_id, index, gen, disk->base, &root, "", &stats};
        at_digest_to_hex(&root, what.hex);
        at_machine_lock(core, machine_id);
        ok = replace(core, &what, error);
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
    g_autofree char *pins = g_strconcat(name, "/", NULL);
    return at_snap_save(core->catalog, snap, error) && at_vault_roots_remove(core, pins, error);
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

static bool seal_snapshot(struct at_job *job, const char *vdc_id, const char *name, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_snap) before = at_snap_load(core->catalog, vdc_id, name, error);
    if (!before)
        return false;
    if (before->digest)
        return true;
    if (!seal_disks(job, before, error))
        return false;
    g_autoptr(at_snap) after = at_snap_load(core->catalog, vdc_id, name, error);
    for (unsigned i = 0; after && i < after->disks->len; i++) {
        const struct at_snap_disk *d = after->disks->pdata[i];
        if (!d->root && d->machine)
            return at_error(error, AT_ERROR_CORRUPT, "disk %s of workstation %s has no content",
                            d->name, d->workstation);
    }
    return after && make_manifest(core, after, error);
}

bool at_seal_snapshot(struct at_job *job, const char *vdc_id, const char *name, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_snap) snap = at_snap_load(core->catalog, vdc_id, name, error);
    if (!snap)
        return false;
    while (!snap->digest) {
        g_autoptr(GError) local = NULL;
        bool ok = turn_take(vdc_id, at_job_cancellable(job), &local);
        if (ok) {
            ok = seal_snapshot(job, vdc_id, name, &local);
            turn_give(vdc_id);
        }
        if (ok)
            break;
        bool passes = g_error_matches(local, AT_ERROR, AT_ERROR_NO_SPACE);
        if (!passes || !at_job_wait(job, RETRY_MS, local->message, error)) {
            if (!passes)
                g_propagate_error(error, g_steal_pointer(&local));
            g_prefix_error(error, "snapshot %s: ", name);
            return false;
        }
    }
    at_job_waits_no_more(job);
    return true;
}

bool at_seal_machine(struct at_job *job, const char *machine_id, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_mach) mach = at_mach_load(core->catalog, machine_id, error);
    if (!mach || !turn_take(mach->vdc_id, at_job_cancellable(job), error))
        return false;
    bool ok = true;
    for (unsigned i = 0; ok && i < mach->disks->len; i++) {
        const struct at_disk *d = mach->disks->pdata[i];
        bool more = d->gens->len > 1;
        while (ok && more)
            ok = seal_one(job, mach->id, d->index, at_disk_live(d) - 1, &more, error);
    }
    turn_give(mach->vdc_id);
    return ok;
}

/* Called within the VDC's turn, or from a step that nothing else on the VDC overlaps. */
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
