/* SPDX-License-Identifier: Apache-2.0 */
/* Capturing a VDC at one instant: overlays prepared, guests frozen where asked, the cut over all
 * running machines, and the record of it. All or nothing.
 *
 * What a crash leaves is told by the job's data: "prepared" = {machine: {disk index: generation}}.
 * Undo asks each running machine which generation it writes to: if the new one, it stays on top
 * and the chain is recorded as it is (the next seal merges it); otherwise the file goes. */
#include <string.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "core/gpu.h"
#include "core/quiesce.h"
#include "core/supervisor.h"
#include "core/vdc.h"
#include "qemu/cut.h"

enum { CUT_DEADLINE_MS = 10000, IO_WAIT_MS = 20000, RECORD_TRIES = 100 };

static void lock_all(struct at_core *core, const GPtrArray *machines, bool lock)
{
    for (unsigned i = 0; i < machines->len; i++) { /* listed in the order of ids */
        const at_mach *m = machines->pdata[i];
        if (lock)
            at_machine_lock(core, m->id);
        else
            at_machine_unlock(core, m->id);
    }
}

/* ---- prepare ---- */

struct maker {
    struct at_core *core;
    const at_mach *mach;
    const struct at_disk *disk;
    unsigned gen;
    bool ok;
    GError *error;
};

static void *make_overlay(void *user)
{
    struct maker *m = user;
    m->ok =
        at_machine_make_overlay(m->core, m->mach, m->disk->index, m->gen, m->disk->size, &m->error);
    return NULL;
}

static bool make_overlays(struct at_core *core, const GPtrArray *machines, GError **error)
{
    g_autoptr(GArray) makers = g_array_new(FALSE, TRUE, sizeof(struct maker));
    g_autoptr(GPtrArray) threads = g_ptr_array_new();
    bool ok = true;
    for (unsigned i = 0; i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        for (unsigned k = 0; k < m->disks->len; k++) {
            const struct at_disk *d = m->disks->pdata[k];
            struct maker maker = {.core = core, .mach = m, .disk = d, .gen = d->next};
            if (!d->readonly)
                g_array_append_val(makers, maker);
        }
    }
    for (unsigned i = 0; i < makers->len; i++)
        g_ptr_array_add(threads, g_thread_new("overlay", make_overlay,
                                              &g_array_index(makers, struct maker, i)));
    for (unsigned i = 0; i < makers->len; i++) {
        struct maker *m = &g_array_index(makers, struct maker, i);
        g_thread_join(threads->pdata[i]);
        if (!m->ok && ok)
            g_propagate_prefixed_error(
                error, m->error, "workstation %s: disk %s: ", m->mach->workstation, m->disk->name);
        else if (!m->ok)
            g_clear_error(&m->error);
        ok = ok && m->ok;
    }
    return ok;
}

bool at_capture_prepare(struct at_job *job, const char *vdc_name, const char *snap_name,
                        bool safety, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name, error);
    g_autoptr(GPtrArray) machines = vdc ? at_vdc_machines(core, vdc->id, "active", error) : NULL;
    if (!machines)
        return false;
    g_autoptr(at_snap) exists = at_snap_load(core->catalog, vdc->id, snap_name, NULL);
    if (exists)
        return at_error(error, AT_ERROR_CONFLICT, "snapshot %s@%s exists already", vdc_name,
                        snap_name);
    (void)safety;
    for (unsigned i = 0; i < machines->len; i++) {
        const char *id = ((at_mach *)machines->pdata[i])->id;
        at_machine_lock(core, id);
        bool ok = at_machine_settle(core, id, error);
        at_machine_unlock(core, id);
        if (!ok)
            return false;
    }
    g_ptr_array_unref(machines);
    if (!(machines = at_vdc_machines(core, vdc->id, "active", error)))
        return false;
    /* The intent first: from here on undo knows which generations may exist. */
    JsonObject *prepared = json_object_new();
    for (unsigned i = 0; i < machines->len; i++) {
        at_mach *m = machines->pdata[i];
        JsonObject *gens = json_object_new();
        for (unsigned k = 0; k < m->disks->len; k++) {
            const struct at_disk *d = m->disks->pdata[k];
            g_autofree char *index = g_strdup_printf("%u", d->index);
            if (!d->readonly)
                json_object_set_int_member(gens, index, d->next);
        }
        json_object_set_object_member(prepared, m->id, gens);
    }
    at_job_set(job, "prepared", at_json_take_obj(prepared));
    at_job_set_str(job, "vdc_id", vdc->id);
    return at_job_save(job, error) && make_overlays(core, machines, error);
}

/* ---- freezing ---- */

static void set_class(JsonObject *consistency, const char *ws, const char *class,
                      const char *reason)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "class", class);
    at_json_set_str(o, "reason", reason);
    json_object_set_object_member(consistency, ws, o);
}

/* ---- the cut ---- */

struct cut {
    struct at_core *core;
    GPtrArray *machines;
    struct at_cut_machine *cm; /* running ones only */
    unsigned n;
    struct at_cut_disk *disks;
    char **dirs;
};

static void cut_clear(struct cut *cut)
{
    g_free(cut->cm);
    g_free(cut->disks);
    g_strfreev(cut->dirs);
}

static bool image_server_answers(void *user, GError **error)
{
    return at_nbd_check(user, error);
}

/* A guest that waits for its disk cannot be part of a cut: it gets some time to go on. */
static bool wait_for_disk(struct at_core *core, const at_mach *m,
                          struct at_machine_status *ret_status, GError **error)
{
    int64_t deadline = at_deadline_ms(IO_WAIT_MS);
    for (;;) {
        at_machine_status(core, m->id, ret_status);
        if (!ret_status->io_stopped)
            return true;
        if (at_deadline_left_ms(deadline) == 0)
            return at_error(error, AT_ERROR_UNAVAILABLE,
                            "workstation %s is paused since its disk does not answer; see the "
                            "daemon's log and free space on the state directory",
                            m->workstation);
        g_usleep(50000);
    }
}

/* Lists the running machines for the cut. */
static bool cut_fill(struct cut *cut, GError **error)
{
    unsigned n_disks = 0, used = 0;
    for (unsigned i = 0; i < cut->machines->len; i++)
        n_disks += ((at_mach *)cut->machines->pdata[i])->disks->len;
    cut->cm = g_new0(struct at_cut_machine, cut->machines->len + 1);
    cut->disks = g_new0(struct at_cut_disk, n_disks + 1);
    cut->dirs = g_new0(char *, cut->machines->len + 1);
    for (unsigned i = 0; i < cut->machines->len; i++) {
        const at_mach *m = cut->machines->pdata[i];
        struct at_process process;
        struct at_machine_status status;
        if (!at_machine_process(cut->core, m->id, &process)) {
            if (m->want_running)
                return at_error(error, AT_ERROR_CONFLICT,
                                "workstation %s should run but does not; start it or stop it first",
                                m->workstation);
            continue;
        }
        if (!wait_for_disk(cut->core, m, &status, error))
            return false;
        struct at_cut_machine *c = &cut->cm[cut->n];
        cut->dirs[cut->n++] = at_core_machine_dir(cut->core, m->id);
        *c = (struct at_cut_machine){.name = m->workstation,
                                     .dir = cut->dirs[cut->n - 1],
                                     .disks = &cut->disks[used],
                                     .was_paused = g_str_equal(status.state, "paused")};
        for (unsigned k = 0; k < m->disks->len; k++) {
            const struct at_disk *d = m->disks->pdata[k];
            if (!d->readonly)
                cut->disks[used++] = (struct at_cut_disk){
                    .index = d->index, .live_gen = at_disk_live(d), .next_gen = d->next};
        }
        c->n_disks = (unsigned)(&cut->disks[used] - c->disks);
    }
    return true;
}

/* The overlays below must be on this disk before the snapshot is called captured. */
static bool sync_frozen(struct at_core *core, const GPtrArray *machines, GError **error)
{
    for (unsigned i = 0; i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        g_autofree char *dir = at_core_machine_dir(core, m->id);
        for (unsigned k = 0; k < m->disks->len; k++) {
            const struct at_disk *d = m->disks->pdata[k];
            if (d->readonly)
                continue;
            g_autofree char *path = at_block_overlay_path(dir, d->index, at_disk_live(d));
            if (!at_fsync_file(path, error))
                return false;
        }
    }
    return true;
}

static void snap_add_disks(at_snap *snap, at_mach *m)
{
    JsonObject *identity = json_object_new();
    at_json_set_str(identity, "uuid", m->uuid);
    at_json_set_str(identity, "instance_id", m->instance_id);
    json_object_set_object_member(snap->identity, m->workstation, identity);
    for (unsigned k = 0; k < m->disks->len; k++) {
        struct at_disk *d = m->disks->pdata[k];
        struct at_snap_disk *s = g_new0(struct at_snap_disk, 1);
        s->workstation = g_strdup(m->workstation);
        s->name = g_strdup(d->name);
        s->index = d->index;
        s->size = d->size;
        if (d->readonly) {
            s->root = g_strdup(d->base);
        } else {
            s->machine = g_strdup(m->id);
            s->upto = at_disk_live(d);
            unsigned gen = d->next++;
            g_array_append_val(d->gens, gen);
        }
        g_ptr_array_add(snap->disks, s);
    }
}

static bool record_once(struct at_core *core, const at_vdc *vdc, at_snap *snap, GError **error)
{
    g_autoptr(GPtrArray) machines = at_vdc_machines(core, vdc->id, "active", error);
    if (!machines)
        return false;
    struct at_txn *txn = at_txn_new(core->catalog);
    g_ptr_array_set_size(snap->disks, 0);
    /* In the order of the definition, so that equal environments have equal manifests. */
    for (unsigned i = 0; i < vdc->def->workstations->len; i++) {
        const struct at_def_workstation *ws = vdc->def->workstations->pdata[i];
        at_mach *m = at_machines_find(machines, ws->name);
        if (!m)
            continue;
        snap_add_disks(snap, m);
        at_mach_put(txn, m);
    }
    at_snap_put(txn, snap);
    return at_txn_commit(txn, NULL, error);
}

/* The locks keep the disks as they are; other members of a machine's record (a crash is counted)
 * may change meanwhile. */
static bool record(struct at_core *core, const at_vdc *vdc, at_snap *snap, GError **error)
{
    snap->definition = at_definition_to_json(vdc->def);
    for (unsigned tries = 1;; tries++) {
        g_autoptr(GError) local = NULL;
        if (record_once(core, vdc, snap, &local))
            return true;
        if (!g_error_matches(local, AT_ERROR, AT_ERROR_CONFLICT) || tries == RECORD_TRIES) {
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
    }
}

static bool capture_locked(struct at_job *job, struct cut *cut, const at_vdc *vdc, at_snap *snap,
                           bool quiesce, GError **error)
{
    struct at_core *core = cut->core;
    g_autofree struct at_freezer *freezers = g_new0(struct at_freezer, cut->machines->len + 1);
    struct at_cut_result result = {0};
    if (!cut_fill(cut, error))
        return false;
    for (unsigned i = 0; i < cut->machines->len; i++) {
        const at_mach *m = cut->machines->pdata[i];
        struct at_process process;
        bool running = at_machine_process(core, m->id, &process);
        set_class(snap->consistency, m->workstation, "crash",
                  running ? NULL : "the workstation was off");
        if (running && quiesce)
            freezers[i] = (struct at_freezer){.core = core, .mach = m};
    }
    if (quiesce)
        at_quiesce_freeze(freezers, cut->machines->len);
    bool ok = at_fault_point("capture.frozen", error) &&
              (cut->n == 0 || at_cut_run(cut->cm, cut->n, image_server_answers, core,
                                         CUT_DEADLINE_MS, &result, error));
    for (unsigned i = 0; i < cut->machines->len; i++) {
        struct at_freezer *f = &freezers[i];
        if (!f->mach)
            continue;
        if (f->agent)
            set_class(snap->consistency, f->mach->workstation, "filesystem", NULL);
        else
            set_class(snap->consistency, f->mach->workstation, "crash", f->reason);
        if (!f->agent)
            at_job_note(job, "workstation %s: %s", f->mach->workstation, f->reason);
        g_clear_pointer(&f->reason, g_free);
    }
    if (quiesce)
        at_quiesce_thaw(job, freezers, cut->machines->len, false);
    if (!ok)
        return false;
    snap->pause_ms = result.pause_ms;
    snap->skew_ms = result.skew_ms;
    at_gpu_note_captured(core, vdc, snap);
    return at_fault_point("capture.resumed", error) && sync_frozen(core, cut->machines, error) &&
           record(core, vdc, snap, error);
}

bool at_capture_run(struct at_job *job, const char *vdc_name, const char *snap_name, bool quiesce,
                    const char *description, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autofree char *now = at_clock_rfc3339();
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name, error);
    if (!vdc)
        return false;
    g_autoptr(at_snap) snap = at_snap_new(snap_name, vdc_name, vdc->id);
    snap->state = g_strdup("captured");
    snap->created = g_strdup(now);
    snap->actor = g_strdup(at_job_user(job));
    snap->description = g_strdup(description);
    snap->safety = at_json_bool(at_job_data(job), "safety", false);
    g_autoptr(GPtrArray) listed = at_vdc_machines(core, vdc->id, "active", error);
    if (!listed)
        return false;
    lock_all(core, listed, true);
    /* Loaded again: a seal may have changed the records before the locks were ours. */
    struct cut cut = {.core = core, .machines = at_vdc_machines(core, vdc->id, "active", error)};
    bool ok = cut.machines && capture_locked(job, &cut, vdc, snap, quiesce, error);
    cut_clear(&cut);
    g_clear_pointer(&cut.machines, g_ptr_array_unref);
    lock_all(core, listed, false);
    return ok;
}

/* A daemon that died between freezing and thawing left the guests' writers waiting. */
static void thaw_left(struct at_job *job, GList *ids)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(GPtrArray) machines = g_ptr_array_new_with_free_func((GDestroyNotify)at_mach_free);
    for (GList *l = ids; l; l = l->next) {
        struct at_process process;
        at_mach *m = at_machine_process(core, l->data, &process)
                         ? at_mach_load(core->catalog, l->data, NULL)
                         : NULL;
        if (m)
            g_ptr_array_add(machines, m);
    }
    g_autofree struct at_freezer *freezers = g_new0(struct at_freezer, machines->len + 1);
    for (unsigned i = 0; i < machines->len; i++)
        freezers[i] = (struct at_freezer){.core = core, .mach = machines->pdata[i]};
    at_quiesce_thaw(job, freezers, machines->len, true);
}

bool at_capture_undo(struct at_job *job, const char *snap_name, GError **error)
{
    struct at_core *core = at_job_core(job);
    JsonObject *prepared = at_json_obj(at_job_data(job), "prepared");
    const char *vdc_id = at_json_str(at_job_data(job), "vdc_id", "");
    g_autoptr(GList) ids = prepared ? json_object_get_members(prepared) : NULL;
    if (at_json_bool(at_job_args(job), "quiesce", false) && at_job_resumed(job))
        thaw_left(job, ids);
    for (GList *l = ids; l; l = l->next) {
        at_machine_lock(core, l->data);
        bool ok = at_capture_undo_machine(core, l->data, at_json_obj(prepared, l->data), error);
        at_machine_unlock(core, l->data);
        if (!ok)
            return false;
    }
    g_autoptr(at_snap) snap =
        prepared ? at_snap_load(core->catalog, vdc_id, snap_name, NULL) : NULL;
    if (!snap)
        return true;
    struct at_txn *txn = at_txn_new(core->catalog);
    at_snap_delete(txn, snap);
    return at_txn_commit(txn, NULL, error);
}
