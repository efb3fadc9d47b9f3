/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs of the API on VDCs and snapshots: checks that need the site, then a job. */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/gpu.h"
#include "core/vdc.h"
#include "vault/tree.h"
#include "wire/plan.h"

static char *pointer_to(const char *kind, unsigned i, const char *rest)
{
    return g_strdup_printf("/%s/%u%s", kind, i, rest);
}

/* Every image that @def names must exist; sizes must not be below the image's. */
static bool check_images(struct at_core *core, const struct at_definition *def, char **ret_pointer,
                         GError **error)
{
    g_autofree char *root = NULL;
    uint64_t size;
    for (unsigned i = 0; i < def->workstations->len; i++) {
        const struct at_def_workstation *ws = def->workstations->pdata[i];
        for (unsigned k = 0; k < ws->disks->len; k++) {
            const struct at_def_disk *d = ws->disks->pdata[k];
            g_clear_pointer(&root, g_free);
            g_autofree char *rest = g_strdup_printf("/disks/%u/image", k);
            if (!at_origin_image(ws->name, d->name, d->image, d->size, &root, &size, core, error)) {
                if (ret_pointer)
                    *ret_pointer = pointer_to("workstations", i, rest);
                return false;
            }
        }
    }
    for (unsigned i = 0; i < def->volumes->len; i++) {
        const struct at_def_volume *v = def->volumes->pdata[i];
        g_clear_pointer(&root, g_free);
        if (!at_origin_image("-", v->name, v->image, v->size, &root, &size, core, error)) {
            if (ret_pointer)
                *ret_pointer = pointer_to("volumes", i, "/image");
            return false;
        }
    }
    return true;
}

/* No workstation and no sum of those that run may exceed the node's memory. */
static bool check_memory(struct at_core *core, const struct at_definition *def, const char *vdc_id,
                         char **ret_pointer, GError **error)
{
    uint64_t total = at_node_memory(NULL), others = 0, mine = 0;
    g_autoptr(GPtrArray) vdcs = at_vdc_load_all(core->catalog, error);
    if (!vdcs)
        return false;
    for (unsigned i = 0; i < vdcs->len; i++) {
        const at_vdc *v = vdcs->pdata[i];
        if (!v->want_running || g_strcmp0(v->id, vdc_id) == 0)
            continue;
        for (unsigned k = 0; k < v->def->workstations->len; k++)
            others += ((struct at_def_workstation *)v->def->workstations->pdata[k])->memory;
    }
    for (unsigned i = 0; i < def->workstations->len; i++) {
        const struct at_def_workstation *ws = def->workstations->pdata[i];
        mine += ws->memory;
        if (others + mine <= total)
            continue;
        g_autofree char *want = at_size_format(ws->memory);
        g_autofree char *have = at_size_format(total);
        g_autofree char *used = at_size_format(others);
        if (ret_pointer)
            *ret_pointer = pointer_to("workstations", i, "/memory");
        return at_error(error, AT_ERROR_NO_SPACE,
                        "workstation %s: %s of memory do not fit: the node has %s, of which other "
                        "VDCs hold %s",
                        ws->name, want, have, used);
    }
    return true;
}

static bool check_definition(struct at_core *core, const struct at_definition *def,
                             const at_vdc *before, char **ret_pointer, GError **error)
{
    if (!check_images(core, def, ret_pointer, error) ||
        !check_memory(core, def, before ? before->id : NULL, ret_pointer, error) ||
        !at_gpu_plan_check(core, def->vdc, def, NULL, error))
        return false;
    /* A trial on a copy: nothing is recorded. */
    at_vdc trial = {.def = (struct at_definition *)def,
                    .id = before ? before->id : NULL,
                    .ports = before ? json_array_ref(before->ports) : json_array_new()};
    bool ok = at_vdc_assign_ports(core, &trial, false, error);
    json_array_unref(trial.ports);
    return ok;
}

static struct at_definition *parse_and_check(struct at_core *core, JsonNode *definition,
                                             at_vdc **ret_before, GPtrArray **ret_changes,
                                             char **ret_pointer, GError **error)
{
    g_autoptr(at_definition) def = at_definition_parse(definition, ret_pointer, error);
    if (!def)
        return NULL;
    g_autoptr(GError) local = NULL;
    g_autoptr(at_vdc) before = at_vdc_load(core->catalog, def->vdc, &local);
    if (!before && at_error_classify(local) != AT_ERROR_NOT_FOUND) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    g_autoptr(GPtrArray) changes =
        at_plan_changes(before ? before->def : NULL, def, ret_pointer, error);
    if (!changes || !check_definition(core, def, before, ret_pointer, error))
        return NULL;
    *ret_before = g_steal_pointer(&before);
    *ret_changes = g_steal_pointer(&changes);
    return g_steal_pointer(&def);
}

JsonNode *at_core_vdc_plan(struct at_core *core, JsonNode *definition, char **ret_pointer,
                           GError **error)
{
    g_autoptr(at_vdc) before = NULL;
    g_autoptr(GPtrArray) changes = NULL;
    g_autoptr(at_definition) def =
        parse_and_check(core, definition, &before, &changes, ret_pointer, error);
    return def ? at_plan_to_json(changes, def->vdc) : NULL;
}

JsonNode *at_core_vdc_apply(struct at_core *core, const struct at_actor *actor,
                            JsonNode *definition, bool start, char **ret_pointer, GError **error)
{
    g_autoptr(at_vdc) before = NULL;
    g_autoptr(GPtrArray) changes = NULL;
    g_autoptr(at_definition) def =
        parse_and_check(core, definition, &before, &changes, ret_pointer, error);
    if (!def)
        return NULL;
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "vdc", def->vdc);
    json_object_set_member(args, "definition", at_definition_to_json(def));
    json_object_set_boolean_member(args, "start", start);
    g_autoptr(JsonNode) plan = at_plan_to_json(changes, def->vdc);
    json_object_set_member(args, "plan", json_node_copy(plan));
    at_vdc as_new = {.def = def};
    json_object_set_object_member(args, "ids", at_instantiate_ids(&as_new));
    if (before) {
        json_object_set_string_member(args, "id", before->id);
        return at_job_start(core, &at_job_vdc_change, def->vdc, def->vdc, actor, args, error);
    }
    g_autofree char *id = at_new_id();
    g_autofree char *now = at_clock_rfc3339();
    json_object_set_string_member(args, "id", id);
    json_object_set_string_member(args, "created", now);
    return at_job_start(core, &at_job_vdc_create, def->vdc, def->vdc, actor, args, error);
}

static JsonObject *args_for(const at_vdc *vdc, const char *const *workstations)
{
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "vdc", vdc->name);
    json_object_set_string_member(args, "id", vdc->id);
    if (workstations) {
        JsonArray *list = json_array_new();
        for (; *workstations; workstations++)
            json_array_add_string_element(list, *workstations);
        json_object_set_array_member(args, "workstations", list);
    }
    return args;
}

static at_vdc *load_with(struct at_core *core, const char *name, const char *const *workstations,
                         GError **error)
{
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, name, error);
    for (; vdc && workstations && *workstations; workstations++) {
        if (!at_vdc_workstation(vdc, *workstations)) {
            at_error(error, AT_ERROR_NOT_FOUND, "VDC %s has no workstation %s", name,
                     *workstations);
            return NULL;
        }
    }
    return g_steal_pointer(&vdc);
}

JsonNode *at_core_vdc_start(struct at_core *core, const struct at_actor *actor, const char *name,
                            const char *const *workstations, GError **error)
{
    g_autoptr(at_vdc) vdc = load_with(core, name, workstations, error);
    if (!vdc || !check_memory(core, vdc->def, vdc->id, NULL, error) ||
        !at_gpu_plan_check(core, name, vdc->def, workstations, error))
        return NULL;
    return at_job_start(core, &at_job_vdc_start, name, name, actor, args_for(vdc, workstations),
                        error);
}

JsonNode *at_core_vdc_stop(struct at_core *core, const struct at_actor *actor, const char *name,
                           const char *const *workstations, unsigned timeout_s, bool force,
                           GError **error)
{
    g_autoptr(at_vdc) vdc = load_with(core, name, workstations, error);
    if (!vdc)
        return NULL;
    JsonObject *args = args_for(vdc, workstations);
    json_object_set_int_member(args, "timeout_s", timeout_s);
    json_object_set_boolean_member(args, "force", force);
    return at_job_start(core, &at_job_vdc_stop, name, name, actor, args, error);
}

JsonNode *at_core_vdc_restart(struct at_core *core, const struct at_actor *actor, const char *name,
                              const char *const *workstations, GError **error)
{
    g_autoptr(at_vdc) vdc = load_with(core, name, workstations, error);
    return vdc ? at_job_start(core, &at_job_vdc_restart, name, name, actor,
                              args_for(vdc, workstations), error)
               : NULL;
}

JsonNode *at_core_vdc_delete(struct at_core *core, const struct at_actor *actor, const char *name,
                             bool with_snapshots, GError **error)
{
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, name, error);
    g_autoptr(GPtrArray) snaps = vdc ? at_snap_load_all(core->catalog, vdc->id, error) : NULL;
    if (!snaps)
        return NULL;
    if (snaps->len && !with_snapshots) {
        at_error(error, AT_ERROR_CONFLICT,
                 "VDC %s has %u snapshots; delete them first, or delete all with: atoll vdc delete "
                 "%s --snapshots",
                 name, snaps->len, name);
        return NULL;
    }
    return at_job_start(core, &at_job_vdc_delete, name, name, actor, args_for(vdc, NULL), error);
}

/* ---- snapshots ---- */

static char *name_from_time(const char *prefix)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *stamp = g_date_time_format(now, "%Y%m%d-%H%M%S");
    return g_strdup_printf("%s%s-%03d", prefix, stamp, g_date_time_get_microsecond(now) / 1000);
}

JsonNode *at_core_snapshot_create(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc_name, const char *name, bool quiesce,
                                  const char *description, GError **error)
{
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name, error);
    g_autofree char *made = name ? g_strdup(name) : name_from_time("s");
    if (!vdc || !at_name_check(made, "snapshot", error))
        return NULL;
    g_autoptr(at_snap) exists = at_snap_load(core->catalog, vdc->id, made, NULL);
    if (exists) {
        at_error(error, AT_ERROR_CONFLICT, "snapshot %s@%s exists already", vdc_name, made);
        return NULL;
    }
    JsonObject *args = args_for(vdc, NULL);
    json_object_set_string_member(args, "name", made);
    json_object_set_boolean_member(args, "quiesce", quiesce);
    at_json_set_str(args, "description", description);
    g_autofree char *target = g_strdup_printf("%s@%s", vdc_name, made);
    return at_job_start(core, &at_job_snapshot_create, target, vdc_name, actor, args, error);
}

static JsonObject *snap_args(const at_vdc *vdc, const at_snap *snap)
{
    JsonObject *args = args_for(vdc, NULL);
    json_object_set_string_member(args, "vdc_id", vdc->id);
    json_object_set_string_member(args, "name", snap->name);
    return args;
}

JsonNode *at_core_snapshot_verify(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc_name, const char *name, GError **error)
{
    g_autoptr(at_vdc) vdc = NULL;
    g_autoptr(at_snap) snap = at_core_find_snapshot(core, vdc_name, name, &vdc, error);
    g_autofree char *target = g_strdup_printf("%s@%s", vdc_name, name);
    return snap ? at_job_start(core, &at_job_snapshot_verify, target, NULL, actor,
                               snap_args(vdc, snap), error)
                : NULL;
}

JsonNode *at_core_snapshot_delete(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc_name, const char *name, GError **error)
{
    g_autoptr(at_vdc) vdc = NULL;
    g_autoptr(at_snap) snap = at_core_find_snapshot(core, vdc_name, name, &vdc, error);
    g_autofree char *target = g_strdup_printf("%s@%s", vdc_name, name);
    if (!snap)
        return NULL;
    return at_job_start(core, &at_job_snapshot_delete, target, vdc_name, actor,
                        snap_args(vdc, snap), error);
}

JsonNode *at_core_snapshot_clone(struct at_core *core, const struct at_actor *actor,
                                 const char *vdc_name, const char *snap_name, const char *new_name,
                                 const struct at_clone_options *options, GError **error)
{
    enum at_gpu_wish wish;
    g_autoptr(at_vdc) vdc = NULL;
    g_autoptr(at_snap) snap = at_core_find_snapshot(core, vdc_name, snap_name, &vdc, error);
    if (!snap || !at_name_check(new_name, "VDC", error))
        return NULL;
    g_autoptr(at_vdc) exists = at_vdc_load(core->catalog, new_name, NULL);
    if (exists) {
        at_error(error, AT_ERROR_CONFLICT, "VDC %s exists already", new_name);
        return NULL;
    }
    g_autoptr(at_definition) def = at_definition_parse(snap->definition, NULL, error);
    if (!at_gpu_wish_parse(options->gpu, &wish)) {
        at_error(error, AT_ERROR_INVALID, "gpu: same-profile, equivalent or none, found \"%s\"",
                 options->gpu);
        return NULL;
    }
    if (!def || !at_gpu_wish_apply(def, wish, snap, error) ||
        (options->start && !check_memory(core, def, NULL, NULL, error)) ||
        !at_gpu_plan_check(core, new_name, def, NULL, error))
        return NULL;
    g_autofree char *id = at_new_id();
    at_vdc as_new = {.def = def};
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "vdc", new_name);
    json_object_set_string_member(args, "id", id);
    json_object_set_string_member(args, "source", vdc_name);
    json_object_set_string_member(args, "source_id", vdc->id);
    json_object_set_string_member(args, "snapshot", snap_name);
    json_object_set_boolean_member(args, "fresh", options->fresh_identity);
    json_object_set_boolean_member(args, "isolated", options->isolated);
    json_object_set_boolean_member(args, "start", options->start);
    json_object_set_string_member(args, "gpu", options->gpu);
    json_object_set_object_member(args, "ids", at_instantiate_ids(&as_new));
    g_autofree char *target = g_strdup_printf("%s@%s -> %s", vdc_name, snap_name, new_name);
    return at_job_start(core, &at_job_clone, target, new_name, actor, args, error);
}

JsonNode *at_core_snapshot_restore(struct at_core *core, const struct at_actor *actor,
                                   const char *vdc_name, const char *snap_name, GError **error)
{
    g_autoptr(at_vdc) vdc = NULL;
    g_autoptr(at_snap) snap = at_core_find_snapshot(core, vdc_name, snap_name, &vdc, error);
    g_autoptr(at_definition) def = snap ? at_definition_parse(snap->definition, NULL, error) : NULL;
    if (!def || (vdc->want_running && (!check_memory(core, def, vdc->id, NULL, error) ||
                                       !at_gpu_plan_check_anew(core, vdc_name, def, error))))
        return NULL;
    at_vdc as_new = {.def = def};
    g_autofree char *safety = name_from_time("before-restore-");
    JsonObject *args = args_for(vdc, NULL);
    json_object_set_string_member(args, "snapshot", snap_name);
    json_object_set_string_member(args, "safety", safety);
    json_object_set_object_member(args, "ids", at_instantiate_ids(&as_new));
    g_autofree char *target = g_strdup_printf("%s@%s", vdc_name, snap_name);
    return at_job_start(core, &at_job_restore, target, vdc_name, actor, args, error);
}

JsonNode *at_core_vdc_undo(struct at_core *core, const struct at_actor *actor, const char *name,
                           GError **error)
{
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, name, error);
    if (!vdc)
        return NULL;
    if (!vdc->undo) {
        at_error(error, AT_ERROR_CONFLICT, "VDC %s has no restore that could be undone", name);
        return NULL;
    }
    return at_core_snapshot_restore(core, actor, name, vdc->undo, error);
}
