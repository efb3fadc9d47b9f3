/* SPDX-License-Identifier: Apache-2.0 */
/* Restoring: the same VDC put back to a snapshot. A safety snapshot first; then new machines over
 * the snapshot's roots take the place of the old ones, which are kept (retired) until what the
 * safety snapshot needs of them is sealed. Until the switch everything can be undone and the guests
 * run on; after it the job is always brought to its end. */
#include <string.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "core/steps.h"
#include "core/supervisor.h"
#include "core/vdc.h"

static const char *arg(struct at_job *job, const char *name)
{
    return at_json_str(at_job_args(job), name, NULL);
}

enum { COMMIT_TRIES = 100 };

static bool restore_source(struct at_job *job, GError **error)
{
    return at_seal_snapshot(job, arg(job, "id"), arg(job, "snapshot"), error);
}

static bool safety_prepare(struct at_job *job, GError **error)
{
    JsonNode *yes = json_node_new(JSON_NODE_VALUE);
    json_node_set_boolean(yes, TRUE);
    at_job_set(job, "safety", yes);
    return at_capture_prepare(job, arg(job, "vdc"), arg(job, "safety"), true, error);
}

static bool safety_undo(struct at_job *job, GError **error)
{
    return at_capture_undo(job, arg(job, "safety"), error);
}

static bool safety_capture(struct at_job *job, GError **error)
{
    g_autofree char *text =
        g_strdup_printf("taken before the restore to %s@%s", arg(job, "vdc"), arg(job, "snapshot"));
    return at_capture_run(job, arg(job, "vdc"), arg(job, "safety"), false, text, error);
}

static bool load(struct at_job *job, at_vdc **ret_vdc, at_snap **ret_snap, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, arg(job, "vdc"), error);
    *ret_snap = vdc ? at_snap_load(core->catalog, vdc->id, arg(job, "snapshot"), error) : NULL;
    if (!*ret_snap)
        return false;
    *ret_vdc = g_steal_pointer(&vdc);
    return true;
}

static bool take_definition(at_vdc *vdc, const at_snap *snap, GError **error)
{
    g_autoptr(JsonNode) node = at_json_thaw(snap->definition);
    json_object_set_string_member(json_node_get_object(node), "vdc", vdc->name);
    struct at_definition *def = at_definition_parse(node, NULL, error);
    if (!def)
        return false;
    at_definition_free(vdc->def);
    vdc->def = def;
    return true;
}

static bool restore_unmake(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(GPtrArray) machines = at_vdc_machines(core, arg(job, "id"), "pending", error);
    for (unsigned i = 0; machines && i < machines->len; i++) {
        if (!at_machine_destroy(core, ((at_mach *)machines->pdata[i])->id, error))
            return false;
    }
    return machines != NULL;
}

/* What an earlier restore left pending is not ours. This step is never run twice by one job. */
static bool restore_make(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_vdc) vdc = NULL;
    g_autoptr(at_snap) snap = NULL;
    if (!restore_unmake(job, error) || !load(job, &vdc, &snap, error) ||
        !take_definition(vdc, snap, error))
        return false;
    struct at_identity identity = {.snap = snap};
    g_autoptr(GPtrArray) machines =
        at_instantiate(core, vdc, NULL, at_json_obj(at_job_args(job), "ids"), "pending", &identity,
                       at_origin_snapshot, snap, error);
    if (!machines || !at_machines_record(core, NULL, machines, NULL, error))
        return false;
    for (unsigned i = 0; i < machines->len; i++) {
        if (!at_machine_make_files(core, machines->pdata[i], error))
            return false;
    }
    return true;
}

struct off {
    struct at_core *core;
    const char *id;
    GError *error;
    bool ok;
};

static void *power_off(void *user)
{
    struct off *o = user;
    o->ok = at_power_off(o->core, o->id, 0, NULL, NULL, &o->error);
    return NULL;
}

/* All at once: what they hold is in the safety snapshot. */
static bool power_off_all(struct at_core *core, const GPtrArray *machines, GError **error)
{
    g_autofree struct off *offs = g_new0(struct off, machines->len + 1);
    g_autofree GThread **threads = g_new0(GThread *, machines->len + 1);
    bool ok = true;
    for (unsigned i = 0; i < machines->len; i++) {
        offs[i] = (struct off){.core = core, .id = ((at_mach *)machines->pdata[i])->id};
        threads[i] = g_thread_new("power-off", power_off, &offs[i]);
    }
    for (unsigned i = 0; i < machines->len; i++) {
        g_thread_join(threads[i]);
        if (offs[i].ok)
            continue;
        if (ok)
            g_propagate_error(error, offs[i].error);
        else
            g_clear_error(&offs[i].error);
        ok = false;
    }
    return ok;
}

/* The machines trade places in one transaction; nothing else may change their disks meanwhile. */
static bool commit_switch(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_vdc) vdc = NULL;
    g_autoptr(at_snap) snap = NULL;
    if (!load(job, &vdc, &snap, error))
        return false;
    g_autoptr(GPtrArray) fresh = at_vdc_machines(core, vdc->id, "pending", error);
    g_autoptr(GPtrArray) old = at_vdc_machines(core, vdc->id, "active", error);
    if (!fresh || !old || !take_definition(vdc, snap, error) ||
        !at_vdc_assign_ports(core, vdc, true, error))
        return false;
    struct at_txn *txn = at_txn_new(core->catalog);
    for (unsigned i = 0; i < fresh->len; i++) {
        at_mach *m = fresh->pdata[i];
        const at_mach *before = at_machines_find(old, m->workstation);
        g_free(m->state);
        m->state = g_strdup("active");
        m->want_running = vdc->want_running || (before && before->want_running);
        m->restarts = before ? before->restarts : 0;
        at_mach_put(txn, m);
    }
    for (unsigned i = 0; i < old->len; i++) {
        at_mach *m = old->pdata[i];
        g_free(m->state);
        m->state = g_strdup("retired");
        m->want_running = false;
        at_mach_put(txn, m);
    }
    g_free(vdc->undo);
    vdc->undo = g_strdup(arg(job, "safety"));
    at_vdc_put(txn, vdc);
    return at_txn_commit(txn, NULL, error);
}

static bool commit_switch_locked(struct at_job *job, const GPtrArray *old, GError **error)
{
    struct at_core *core = at_job_core(job);
    bool ok = false;
    at_vdc_ports_lock();
    for (unsigned i = 0; i < old->len; i++) /* listed in the order of ids */
        at_machine_lock(core, ((at_mach *)old->pdata[i])->id);
    for (unsigned tries = 1; !ok; tries++) {
        g_autoptr(GError) local = NULL;
        ok = commit_switch(job, &local);
        if (!ok &&
            (!g_error_matches(local, AT_ERROR, AT_ERROR_CONFLICT) || tries == COMMIT_TRIES)) {
            g_propagate_error(error, g_steal_pointer(&local));
            break;
        }
    }
    for (unsigned i = 0; i < old->len; i++)
        at_machine_unlock(core, ((at_mach *)old->pdata[i])->id);
    at_vdc_ports_unlock();
    return ok;
}

static bool restore_switch(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    const char *id = arg(job, "id");
    g_autoptr(GPtrArray) fresh = at_vdc_machines(core, id, "pending", error);
    g_autoptr(GPtrArray) old = fresh ? at_vdc_machines(core, id, "active", error) : NULL;
    if (!old)
        return false;
    if (fresh->len == 0) /* an earlier run of this step committed */
        return true;
    if (power_off_all(core, old, error) && at_fault_point("restore.switch", error) &&
        commit_switch_locked(job, old, error))
        return true;
    /* The team goes on as it was. */
    g_autoptr(GError) local = NULL;
    if (!core->closing && (!at_step_power_on(job, &local) || !restore_unmake(job, &local)))
        at_core_log("VDC %s: after the failed restore: %s", arg(job, "vdc"), local->message);
    return false;
}

static bool restore_power_on(struct at_job *job, GError **error)
{
    if (!at_step_power_on(job, error))
        return false;
    at_job_result_str(job, "safety_snapshot", arg(job, "safety"));
    at_job_release_scope(job);
    return true;
}

static bool restore_seal(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    const char *id = arg(job, "id");
    g_autoptr(GError) local = NULL;
    bool ok = at_seal_snapshot(job, id, arg(job, "safety"), &local);
    g_autoptr(at_snap) safety = at_snap_load(core->catalog, id, arg(job, "safety"), NULL);
    if (!ok && safety) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (!safety)
        at_job_note(job, "the safety snapshot was deleted before it was sealed");
    if (!at_seal_exclude(job, id, error))
        return false;
    ok = at_seal_cleanup(core, id, error);
    at_seal_include(id);
    return ok;
}

static const struct at_job_step restore_steps[] = {
    {"seal the source", restore_source, NULL},
    {"prepare safety snapshot", safety_prepare, safety_undo},
    {"capture safety snapshot", safety_capture, NULL},
    {"create disks", restore_make, restore_unmake},
    {"switch", restore_switch, NULL},
    {"network", at_step_network_up, NULL},
    {"power on", restore_power_on, NULL},
    {"seal safety snapshot", restore_seal, NULL},
};
const struct at_job_kind at_job_restore = {"restore", restore_steps, 8, 4, 4};
