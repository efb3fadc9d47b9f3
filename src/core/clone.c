/* SPDX-License-Identifier: Apache-2.0 */
/* Cloning: a new VDC from a snapshot. Its disks are empty overlays over the snapshot's roots, so
 * time and space do not depend on their size. */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "core/gpu.h"
#include "core/steps.h"
#include "core/vdc.h"

static const char *arg(struct at_job *job, const char *name)
{
    return at_json_str(at_job_args(job), name, NULL);
}

static bool clone_source(struct at_job *job, GError **error)
{
    return at_seal_snapshot(job, arg(job, "source_id"), arg(job, "snapshot"), error);
}

/* The definition under its new name, with the GPUs that are wished for; the network cut off where
 * asked. */
static struct at_definition *renamed(const at_snap *snap, const char *name, bool isolated,
                                     const char *gpu, GError **error)
{
    enum at_gpu_wish wish = AT_GPU_WISH_SAME;
    g_autoptr(JsonNode) node = at_json_thaw(snap->definition);
    JsonObject *o = json_node_get_object(node);
    json_object_set_string_member(o, "vdc", name);
    if (isolated)
        json_object_set_boolean_member(o, "isolated", true);
    g_autoptr(at_definition) def = at_definition_parse(node, NULL, error);
    at_gpu_wish_parse(gpu, &wish);
    return def && at_gpu_wish_apply(def, wish, snap, error) ? g_steal_pointer(&def) : NULL;
}

static bool clone_record(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    JsonObject *args = at_job_args(job);
    g_autoptr(at_vdc) exists = at_vdc_load(core->catalog, arg(job, "vdc"), NULL);
    if (exists && g_strcmp0(exists->id, arg(job, "id")) == 0)
        return true;
    if (exists)
        return at_error(error, AT_ERROR_CONFLICT, "VDC %s exists already", arg(job, "vdc"));
    g_autoptr(at_snap) snap =
        at_snap_load(core->catalog, arg(job, "source_id"), arg(job, "snapshot"), error);
    if (!snap)
        return false;
    g_autoptr(at_vdc) vdc = g_new0(at_vdc, 1);
    vdc->name = g_strdup(arg(job, "vdc"));
    vdc->id = g_strdup(arg(job, "id"));
    vdc->owner = g_strdup(at_job_user(job));
    vdc->created = at_clock_rfc3339();
    vdc->uplink = g_strdup("");
    vdc->cloned_from = g_strdup_printf("%s@%s", arg(job, "source"), snap->name);
    vdc->ports = json_array_new();
    vdc->want_running = at_json_bool(args, "start", true);
    vdc->def = renamed(snap, vdc->name, at_json_bool(args, "isolated", false),
                       at_json_str(args, "gpu", "same-profile"), error);
    struct at_identity identity = {.snap = snap, .fresh = at_json_bool(args, "fresh", false)};
    g_autoptr(GPtrArray) machines =
        vdc->def ? at_instantiate(core, vdc, NULL, at_json_obj(args, "ids"), "active", &identity,
                                  at_origin_snapshot, snap, error)
                 : NULL;
    if (!machines)
        return false;
    at_vdc_ports_lock();
    bool ok = at_vdc_assign_ports(core, vdc, true, error) &&
              at_machines_record(core, vdc, machines, NULL, error);
    at_vdc_ports_unlock();
    return ok;
}

static const struct at_job_step clone_steps[] = {
    {"seal the source", clone_source, NULL},
    {"record", clone_record, at_step_unrecord},
    {"create disks", at_step_make_files, NULL},
    {"network", at_step_network_up, at_step_network_down},
    {"power on", at_step_power_on, NULL},
};
const struct at_job_kind at_job_clone = {"clone", clone_steps, 5, 0, 5};
