/* SPDX-License-Identifier: Apache-2.0 */
/* GPUs in snapshots and clones: what a workstation had when it was captured, and what a clone asks
 * for in its place. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "core/gpu.h"

bool at_gpu_wish_parse(const char *text, enum at_gpu_wish *ret)
{
    static const char *const names[] = {"same-profile", "equivalent", "none"};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (g_str_equal(text, names[i])) {
            *ret = (enum at_gpu_wish)i;
            return true;
        }
    }
    return false;
}

/* What the workstation had of its request when it was captured; NULL when that is not known. */
static JsonObject *had(const at_snap *snap, const char *workstation, unsigned request)
{
    JsonArray *gpus = at_json_arr(at_json_obj(snap->consistency, workstation), "gpus");
    for (unsigned i = 0; gpus && i < json_array_get_length(gpus); i++) {
        JsonObject *gpu = json_array_get_object_element(gpus, i);
        if (at_json_int(gpu, "request", -1) == request)
            return gpu;
    }
    return NULL;
}

/* Instead of a profile's name: as much memory, and walls that are as strong. */
static bool by_need(struct at_def_gpu *gpu, unsigned request, const at_snap *snap,
                    const char *workstation, GError **error)
{
    JsonObject *before = had(snap, workstation, request);
    if (!gpu->profile)
        return true;
    if (!before)
        return at_error(
            error, AT_ERROR_CONFLICT,
            "workstation %s: the snapshot does not say what it had of %s, because it was "
            "off; take --gpu same-profile or --gpu none",
            workstation, gpu->profile);
    g_clear_pointer(&gpu->profile, g_free);
    g_clear_pointer(&gpu->model, g_free);
    gpu->memory = MAX(gpu->memory, (uint64_t)at_json_int(before, "memory", 0));
    g_free(gpu->isolation);
    gpu->isolation = g_strdup(at_json_str(before, "isolation", "exclusive"));
    return true;
}

bool at_gpu_wish_apply(struct at_definition *def, enum at_gpu_wish wish, const at_snap *snap,
                       GError **error)
{
    for (unsigned i = 0; i < def->workstations->len; i++) {
        struct at_def_workstation *ws = def->workstations->pdata[i];
        if (wish == AT_GPU_WISH_NONE)
            g_ptr_array_set_size(ws->gpus, 0);
        for (unsigned k = 0; wish == AT_GPU_WISH_EQUIVALENT && k < ws->gpus->len; k++) {
            if (!by_need(ws->gpus->pdata[k], k, snap, ws->name, error))
                return false;
        }
    }
    return true;
}

void at_gpu_note_captured(struct at_core *core, const at_vdc *vdc, at_snap *snap)
{
    JsonObjectIter iter;
    const char *workstation;
    JsonNode *node;
    json_object_iter_init(&iter, snap->consistency);
    while (json_object_iter_next(&iter, &workstation, &node)) {
        g_autoptr(JsonArray) gpus = at_gpu_holds_of(core, vdc->name, workstation);
        JsonObject *o = json_node_get_object(node);
        if (json_array_get_length(gpus) == 0)
            continue;
        json_object_set_array_member(o, "gpus", json_array_ref(gpus));
        json_object_set_string_member(
            o, "left_out",
            "what its GPUs have in their memory: a device that is given to the guest "
            "cannot be read from outside");
    }
}
