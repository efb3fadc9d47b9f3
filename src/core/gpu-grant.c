/* SPDX-License-Identifier: Apache-2.0 */
/* Grants: what a workstation asks for is planned and recorded, then attached; and given back. */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "core/gpu-internal.h"
#include "core/supervisor.h"
#include "core/vdc.h"

enum { TRIES = 100 };

/* ---- planning and recording ---- */

static unsigned asked_for(const struct at_def_workstation *ws)
{
    unsigned n = 0;
    for (unsigned i = 0; i < ws->gpus->len; i++)
        n += ((const struct at_def_gpu *)ws->gpus->pdata[i])->count;
    return n;
}

static at_gpu_rec *rec_that_holds(const GPtrArray *recs, const at_mach *mach, unsigned request,
                                  unsigned nth)
{
    for (unsigned i = 0; i < recs->len; i++) {
        if (at_gpu_rec_hold_of(recs->pdata[i], mach->vdc, mach->workstation, request, nth))
            return recs->pdata[i];
    }
    return NULL;
}

static bool of_workstation(const struct at_gpu_hold_rec *h, const at_mach *mach)
{
    return g_str_equal(h->vdc, mach->vdc) && g_str_equal(h->workstation, mach->workstation) &&
           !g_str_equal(h->machine, AT_GPU_NOBODY);
}

/* All that is held by @machine; NULL: by the workstation of @mach, of its own or of a machine
 * before it. */
static GArray *held_by(const GPtrArray *recs, const char *machine, const at_mach *mach)
{
    GArray *list = at_gpu_which_list();
    for (unsigned i = 0; i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        for (unsigned k = 0; k < rec->holds->len; k++) {
            const struct at_gpu_hold_rec *h = rec->holds->pdata[k];
            if (machine ? !g_str_equal(h->machine, machine) : !of_workstation(h, mach))
                continue;
            struct at_gpu_which w = {g_strdup(rec->id), g_strdup(h->machine), h->request, h->nth};
            g_array_append_val(list, w);
        }
    }
    return list;
}

/* Whether everything that @ws asks for is held already, of cards that are well. */
static bool is_held(const GPtrArray *recs, const at_mach *mach, const struct at_def_workstation *ws,
                    enum at_gpu_isolation weakest, unsigned n_held)
{
    for (unsigned i = 0; i < ws->gpus->len; i++) {
        const struct at_def_gpu *gpu = ws->gpus->pdata[i];
        g_autofree char *asked = at_gpu_request_text(gpu);
        for (unsigned nth = 0; nth < gpu->count; nth++) {
            const at_gpu_rec *rec = rec_that_holds(recs, mach, i, nth);
            const struct at_gpu_hold_rec *h =
                rec ? at_gpu_rec_hold_of(rec, mach->vdc, mach->workstation, i, nth) : NULL;
            if (!h || rec->quarantined || !rec->present || h->profile->isolation < weakest ||
                g_strcmp0(h->asked, asked) != 0)
                return false;
        }
    }
    return n_held == asked_for(ws);
}

/* What the machine before it had is its own. */
static bool take_over(struct at_core *core, GPtrArray *recs, const at_mach *mach, GError **error)
{
    struct at_txn *txn = at_txn_new(core->catalog);
    for (unsigned i = 0; i < recs->len; i++) {
        at_gpu_rec *rec = recs->pdata[i];
        bool changed = false;
        for (unsigned k = 0; k < rec->holds->len; k++) {
            struct at_gpu_hold_rec *h = rec->holds->pdata[k];
            if (!g_str_equal(h->vdc, mach->vdc) ||
                !g_str_equal(h->workstation, mach->workstation) ||
                g_str_equal(h->machine, AT_GPU_NOBODY) || g_str_equal(h->machine, mach->id))
                continue;
            at_gpu_hold_take(h, mach->id);
            changed = true;
        }
        if (changed)
            at_gpu_rec_put(txn, rec);
    }
    return at_txn_commit(txn, NULL, error);
}

/* It is kept while the workstation is stopped only after its start has succeeded. */
static void add_hold(at_gpu_rec *rec, const at_mach *mach, const struct at_def_gpu *gpu,
                     const struct at_gpu_grant *grant, unsigned nth)
{
    struct at_gpu_hold_rec *h = at_gpu_hold_rec_new();
    h->machine = g_strdup(mach->id);
    h->vdc = g_strdup(mach->vdc);
    h->workstation = g_strdup(mach->workstation);
    h->request = grant->request;
    h->nth = nth;
    h->profile = at_gpu_profile_copy(grant->profile);
    h->start = grant->start;
    h->asked = at_gpu_request_text(gpu);
    h->since = at_clock_rfc3339();
    g_ptr_array_add(rec->holds, h);
}

static bool record_plan(struct at_core *core, const struct at_gpu_layout *site,
                        const struct at_gpu_plan *plan, const at_mach *mach,
                        const struct at_def_workstation *ws, GError **error)
{
    g_autoptr(GHashTable) touched = g_hash_table_new(NULL, NULL);
    g_autofree unsigned *nth = g_new0(unsigned, ws->gpus->len + 1);
    struct at_txn *txn = at_txn_new(core->catalog);
    for (unsigned i = 0; i < plan->grants->len; i++) {
        const struct at_gpu_grant *g = &g_array_index(plan->grants, struct at_gpu_grant, i);
        at_gpu_rec *rec = site->recs->pdata[g->card];
        if (!rec) { /* a card that the last scan has found and not recorded */
            at_txn_free(txn);
            return at_error(error, AT_ERROR_CONFLICT,
                            "the inventory of GPUs is being brought up to "
                            "date");
        }
        add_hold(rec, mach, ws->gpus->pdata[g->request], g, nth[g->request]++);
        g_hash_table_add(touched, rec);
    }
    GHashTableIter iter;
    void *rec;
    g_hash_table_iter_init(&iter, touched);
    while (g_hash_table_iter_next(&iter, &rec, NULL))
        at_gpu_rec_put(txn, rec);
    return at_txn_commit(txn, NULL, error);
}

/* What it has had is not what it asks for, or its card is ill. */
static bool drop_stale(struct at_core *core, const GArray *held, GError **error)
{
    for (unsigned i = 0; i < held->len; i++) {
        const struct at_gpu_which *w = &g_array_index(held, struct at_gpu_which, i);
        g_autoptr(GError) local = NULL;
        bool detached = at_gpu_detach_hold(core, w, &local);
        if (!detached)
            at_core_log("GPU %s: %s; it stays held by nobody until that is mended", w->gpu,
                        local->message);
        if (!at_gpu_hold_update(core, w, detached ? at_gpu_hold_remove : at_gpu_hold_give_up, NULL,
                                error))
            return false;
    }
    return true;
}

enum outcome {
    DONE,
    AGAIN,
    OUTDATED, /* what the cards can give has to be looked at first */
    FAILED
};

/* With the planning locked. */
static enum outcome try_hold(struct at_core *core, const at_vdc *vdc, const at_mach *mach,
                             const struct at_def_workstation *ws, GArray **ret_stale,
                             GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, error);
    if (!recs)
        return FAILED;
    g_autoptr(GArray) held = held_by(recs, NULL, mach);
    enum at_gpu_isolation weakest = AT_GPU_ANY;
    bool ok;
    at_gpu_isolation_parse(vdc->def->gpu_policy.isolation, &weakest);
    weakest = MAX(weakest, at_gpus_weakest(core));
    if (is_held(recs, mach, ws, weakest, held->len)) {
        ok = take_over(core, recs, mach, &local);
    } else if (held->len) {
        *ret_stale = g_steal_pointer(&held);
        return AGAIN;
    } else if (at_gpus_scan_is_due(core)) {
        return OUTDATED;
    } else {
        g_autoptr(at_gpu_layout) site = at_gpu_layout_new(core, NULL, NULL, error);
        struct at_gpu_plan *plan =
            site ? at_gpu_plan_for(site, vdc->name, vdc->def, ws->name, error) : NULL;
        if (!plan)
            return FAILED;
        ok = record_plan(core, site, plan, mach, ws, &local);
        at_gpu_plan_free(plan);
    }
    if (ok)
        return DONE;
    if (g_error_matches(local, AT_ERROR, AT_ERROR_CONFLICT))
        return AGAIN; /* a scan has written a record meanwhile */
    g_propagate_error(error, g_steal_pointer(&local));
    return FAILED;
}

static bool hold(struct at_core *core, const at_vdc *vdc, const at_mach *mach,
                 const struct at_def_workstation *ws, GError **error)
{
    for (unsigned i = 0; i < TRIES; i++) {
        g_autoptr(GArray) stale = NULL;
        at_gpus_plan_lock(core);
        enum outcome outcome = try_hold(core, vdc, mach, ws, &stale, error);
        at_gpus_plan_unlock(core);
        if (outcome == DONE || outcome == FAILED)
            return outcome == DONE;
        if (outcome == OUTDATED && !at_gpus_scan_if_due(core, error))
            return false;
        if (stale && !drop_stale(core, stale, error))
            return false;
    }
    return at_error(error, AT_ERROR_CONFLICT, "the records of the GPUs change all the time");
}

static void device_clear(void *device)
{
    at_gpu_device_clear(device);
}

static bool attach_all(struct at_core *core, const at_mach *mach,
                       const struct at_def_workstation *ws, GCancellable *cancellable,
                       GArray *devices, GError **error)
{
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, error);
    for (unsigned i = 0; recs && i < ws->gpus->len; i++) {
        const struct at_def_gpu *gpu = ws->gpus->pdata[i];
        for (unsigned nth = 0; nth < gpu->count; nth++) {
            const at_gpu_rec *rec = rec_that_holds(recs, mach, i, nth);
            struct at_gpu_device device = {0};
            if (!rec)
                return at_error(error, AT_ERROR_CONFLICT, "a grant went away meanwhile");
            struct at_gpu_which w = {rec->id, mach->id, i, nth};
            if (!at_gpu_attach_hold(core, &w, cancellable, &device, error))
                return false;
            g_array_append_val(devices, device);
        }
    }
    return recs != NULL;
}

bool at_gpu_acquire(struct at_core *core, const at_vdc *vdc, const at_mach *mach,
                    GCancellable *cancellable, GArray **ret_devices, GError **error)
{
    const struct at_def_workstation *ws = at_vdc_workstation(vdc, mach->workstation);
    g_autoptr(GArray) devices = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_device));
    g_array_set_clear_func(devices, device_clear);
    if (!hold(core, vdc, mach, ws, error))
        return false;
    if (!attach_all(core, mach, ws, cancellable, devices, error)) {
        at_gpu_release(core, mach->id, AT_GPU_RETURN);
        return false;
    }
    if (devices->len)
        at_gpus_scan_later(core);
    *ret_devices = g_steal_pointer(&devices);
    return true;
}

static void set_kept(at_gpu_rec *rec, struct at_gpu_hold_rec *hold, const void *user)
{
    hold->keep = true;
}

/* The request that the hold was granted for; NULL when it has changed meanwhile. */
static const struct at_def_gpu *request_of(const struct at_gpu_hold_rec *h,
                                           const struct at_def_workstation *ws)
{
    const struct at_def_gpu *gpu = h->request < ws->gpus->len ? ws->gpus->pdata[h->request] : NULL;
    g_autofree char *asked = gpu ? at_gpu_request_text(gpu) : NULL;
    return g_strcmp0(asked, h->asked) == 0 ? gpu : NULL;
}

static bool keeps_any(const struct at_def_workstation *ws)
{
    bool any = false;
    for (unsigned i = 0; i < ws->gpus->len; i++)
        any |= ((const struct at_def_gpu *)ws->gpus->pdata[i])->hold;
    return any;
}

void at_gpu_note_started(struct at_core *core, const at_vdc *vdc, const at_mach *mach)
{
    const struct at_def_workstation *ws = at_vdc_workstation(vdc, mach->workstation);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) recs =
        ws && keeps_any(ws) ? at_gpu_rec_load_all(core->catalog, &error) : NULL;
    for (unsigned i = 0; recs && i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        for (unsigned k = 0; k < rec->holds->len && !error; k++) {
            const struct at_gpu_hold_rec *h = rec->holds->pdata[k];
            const struct at_def_gpu *gpu =
                g_str_equal(h->machine, mach->id) && !h->keep ? request_of(h, ws) : NULL;
            struct at_gpu_which w = {rec->id, h->machine, h->request, h->nth};
            if (gpu && gpu->hold)
                at_gpu_hold_update(core, &w, set_kept, NULL, &error);
        }
    }
    if (error)
        at_core_log("%s/%s: its GPUs will not be kept while it is stopped: %s", vdc->name,
                    mach->workstation, error->message);
}

/* ---- giving back ---- */

/* So that what was taken back can be planned with as soon as who gave it back has ended. */
static void look_again(struct at_core *core)
{
    g_autoptr(GError) error = NULL;
    if (!at_gpus_scan_if_due(core, &error))
        at_core_log("%s", error->message);
}

static bool keeps(struct at_core *core, const struct at_gpu_which *w)
{
    g_autoptr(at_gpu_rec) rec = at_gpu_rec_load(core->catalog, w->gpu, NULL);
    const struct at_gpu_hold_rec *h =
        rec ? at_gpu_rec_hold(rec, w->machine, w->request, w->nth) : NULL;
    return h && h->keep;
}

/* It is tried every few seconds: the same trouble of the same card is told once. */
static void tell_once(const char *gpu, const char *trouble)
{
    static GMutex lock; /* guards told */
    static GHashTable *told;
    g_mutex_lock(&lock);
    if (!told)
        told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    bool news = g_strcmp0(g_hash_table_lookup(told, gpu), trouble) != 0;
    if (news)
        g_hash_table_insert(told, g_strdup(gpu), g_strdup(trouble));
    g_mutex_unlock(&lock);
    if (news)
        at_core_log("GPU %s cannot be given back now: %s; tried again until it can", gpu, trouble);
}

static void release_one(struct at_core *core, const struct at_gpu_which *w, enum at_gpu_release how)
{
    g_autoptr(GError) error = NULL;
    bool keep = how == AT_GPU_DETACH || (how == AT_GPU_RETURN && keeps(core, w));
    if (at_gpu_detach_hold(core, w, &error) &&
        (keep || at_gpu_hold_update(core, w, at_gpu_hold_remove, NULL, &error)))
        return;
    tell_once(w->gpu, error->message);
}

void at_gpu_release(struct at_core *core, const char *machine_id, enum at_gpu_release how)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, &error);
    if (!recs) {
        at_core_log("GPUs of machine %s: %s", machine_id, error->message);
        return;
    }
    g_autoptr(GArray) held = held_by(recs, machine_id, NULL);
    for (unsigned i = 0; i < held->len; i++)
        release_one(core, &g_array_index(held, struct at_gpu_which, i), how);
    if (held->len && how == AT_GPU_DETACH)
        at_gpus_scan_later(core);
    else if (held->len)
        look_again(core);
}

/* Under the lock of the machine. */
static void settle_machine(struct at_core *core, const char *id)
{
    struct at_process process;
    g_autofree char *dir = at_core_machine_dir(core, id);
    g_autoptr(GError) error = NULL;
    g_autoptr(at_mach) mach = at_mach_load(core->catalog, id, &error);
    if (!mach && !g_error_matches(error, AT_ERROR, AT_ERROR_NOT_FOUND))
        return;
    if (at_machine_process(core, id, &process) || at_machine_find(dir, &process, NULL))
        return;
    if (!mach || g_str_equal(mach->state, "retired"))
        at_gpu_release(core, id, AT_GPU_FORGET);
    else if (!mach->want_running)
        at_gpu_release(core, id, AT_GPU_RETURN);
}

static void settle_nobodys(struct at_core *core, const GPtrArray *recs)
{
    g_autoptr(GArray) held = held_by(recs, AT_GPU_NOBODY, NULL);
    for (unsigned i = 0; i < held->len; i++) {
        g_autoptr(GError) error = NULL;
        const struct at_gpu_which *w = &g_array_index(held, struct at_gpu_which, i);
        if (at_gpu_detach_hold(core, w, &error))
            at_gpu_hold_update(core, w, at_gpu_hold_remove, NULL, NULL);
    }
    if (held->len)
        look_again(core);
}

/* The machine that a restore has put in the place of the one that holds, and that will take over.
 */
static bool has_heir(struct at_core *core, const struct at_gpu_hold_rec *h)
{
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, h->vdc, NULL);
    g_autoptr(GPtrArray) machines = vdc ? at_vdc_machines(core, vdc->id, "active", NULL) : NULL;
    const at_mach *heir = machines ? at_machines_find(machines, h->workstation) : NULL;
    return heir && heir->want_running && !g_str_equal(heir->id, h->machine);
}

/* True when there is something to give back: what is kept and detached is not. */
static bool is_open(struct at_core *core, const struct at_gpu_hold_rec *h)
{
    g_autoptr(at_mach) mach = at_mach_load(core->catalog, h->machine, NULL);
    if (mach && !g_str_equal(mach->state, "retired"))
        return !mach->want_running && (h->attached || !h->keep);
    return !has_heir(core, h);
}

void at_gpu_reconcile(struct at_core *core)
{
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, NULL);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; recs && i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        for (unsigned k = 0; k < rec->holds->len && !core->closing; k++) {
            const struct at_gpu_hold_rec *h = rec->holds->pdata[k];
            if (g_str_equal(h->machine, AT_GPU_NOBODY) || !is_open(core, h) ||
                !g_hash_table_add(seen, h->machine))
                continue;
            at_machine_lock(core, h->machine);
            settle_machine(core, h->machine);
            at_machine_unlock(core, h->machine);
        }
    }
    if (recs && !core->closing)
        settle_nobodys(core, recs);
}
