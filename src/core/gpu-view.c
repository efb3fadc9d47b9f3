/* SPDX-License-Identifier: Apache-2.0 */
/* GPUs as the API shows them: the card, what it can be, what is left of it, and who holds what. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "core/gpu-internal.h"

const char *at_gpu_state(const struct at_gpu_card *card, const at_gpu_rec *rec)
{
    bool usable = false;
    for (unsigned k = 0; card && k < AT_GPU_N_KINDS; k++)
        usable = usable || !card->obstacle[k];
    if (!card)
        return "absent";
    if (rec->quarantined)
        return "quarantined";
    if (rec->holds->len)
        return "used";
    if (rec->reserved)
        return "reserved";
    return usable ? "free" : "unusable";
}

/* {"passthrough": null, "vgpu": "why not", ...} */
static JsonObject *modes_json(const struct at_gpu_card *card)
{
    JsonObject *o = json_object_new();
    for (unsigned k = 0; k < AT_GPU_N_KINDS; k++)
        at_json_set_str(o, at_gpu_kind_name((enum at_gpu_kind)k), card->obstacle[k]);
    return o;
}

static JsonObject *hold_json(const struct at_gpu_hold_rec *h)
{
    g_autofree char *holder = g_strdup_printf("%s/%s", h->vdc, h->workstation);
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "holder", holder);
    json_object_set_string_member(o, "vdc", h->vdc);
    json_object_set_string_member(o, "workstation", h->workstation);
    json_object_set_int_member(o, "request", h->request);
    json_object_set_string_member(o, "profile", h->profile->name);
    json_object_set_string_member(o, "isolation", at_gpu_isolation_name(h->profile->isolation));
    json_object_set_int_member(o, "memory", (int64_t)h->profile->memory);
    json_object_set_int_member(o, "start", h->start);
    json_object_set_int_member(o, "slices", h->profile->slices);
    json_object_set_boolean_member(o, "attached", h->attached);
    json_object_set_boolean_member(o, "kept", h->keep);
    json_object_set_boolean_member(o, "given_up", g_str_equal(h->machine, AT_GPU_NOBODY));
    at_json_set_str(o, "function", h->function);
    at_json_set_str(o, "since", h->since);
    return o;
}

static JsonArray *past_json(const at_gpu_rec *rec)
{
    JsonArray *arr = json_array_new();
    for (unsigned i = 0; i < rec->past->len; i++) {
        const struct at_gpu_past_rec *past = rec->past->pdata[i];
        g_autofree char *holder = g_strdup_printf("%s/%s", past->vdc, past->workstation);
        JsonObject *o = json_object_new();
        json_object_set_string_member(o, "holder", holder);
        at_json_set_str(o, "profile", past->profile);
        at_json_set_str(o, "isolation", past->isolation);
        at_json_set_str(o, "from", past->from);
        at_json_set_str(o, "to", past->to);
        at_json_set_str(o, "cleared", past->cleared);
        json_array_add_object_element(arr, o);
    }
    return arr;
}

static double fragmentation(const struct at_gpu_layout *site, const char *id)
{
    for (unsigned i = 0; i < site->node.n_cards; i++) {
        const struct at_gpu_place_card *place = &site->place[i];
        if (g_str_equal(place->card->id, id))
            return at_gpu_fragmentation(place->card, place->holds, place->n_holds);
    }
    return 0;
}

static JsonObject *gpu_json(struct at_core *core, const at_gpu_rec *rec,
                            const struct at_gpu_card *card, const struct at_gpu_layout *site,
                            bool full)
{
    JsonObject *o = json_object_new();
    JsonArray *holds = json_array_new();
    json_object_set_string_member(o, "id", rec->id);
    json_object_set_string_member(o, "node", rec->node);
    json_object_set_string_member(o, "address", rec->address);
    at_json_set_str(o, "vendor", rec->vendor_name);
    at_json_set_str(o, "name", rec->name);
    at_json_set_str(o, "serial", rec->serial);
    if (rec->memory)
        json_object_set_int_member(o, "memory", (int64_t)rec->memory);
    else
        json_object_set_null_member(o, "memory");
    at_json_set_str(o, "architecture", card ? card->architecture : NULL);
    json_object_set_string_member(o, "state", at_gpu_state(card, rec));
    at_json_set_str(o, "reserved", rec->reserved);
    at_json_set_str(o, "quarantined", rec->quarantined);
    at_json_set_str(o, "unknown", card ? card->unknown : NULL);
    json_object_set_boolean_member(o, "mixed", rec->mixed);
    at_json_set_str(o, "first_seen", rec->first_seen);
    for (unsigned i = 0; i < rec->holds->len; i++)
        json_array_add_object_element(holds, hold_json(rec->holds->pdata[i]));
    json_object_set_array_member(o, "holds", holds);
    if (full)
        json_object_set_array_member(o, "past", past_json(rec));
    if (rec->test)
        json_object_set_member(o, "test", json_node_copy(rec->test));
    if (!card)
        return o;
    json_object_set_object_member(o, "modes", modes_json(card));
    if (card->vendor == AT_GPU_VENDOR_NVIDIA)
        json_object_set_object_member(o, "nvidia", at_gpu_versions_json(card));
    json_object_set_object_member(o, "mig", at_gpu_mig_json(card));
    json_object_set_object_member(
        o, "health",
        at_gpu_health_json(card, at_gpu_faults_heard(core->gpu_faults, rec->id, NULL)));
    json_object_set_double_member(o, "fragmentation", fragmentation(site, rec->id));
    if (full)
        at_gpu_device_add(o, card);
    return o;
}

static int by_address(const void *a, const void *b)
{
    const at_gpu_rec *x = *(at_gpu_rec *const *)a, *y = *(at_gpu_rec *const *)b;
    int nodes = g_strcmp0(x->node, y->node);
    return nodes ? nodes : g_strcmp0(x->address, y->address);
}

JsonNode *at_core_gpu_list(struct at_core *core, GError **error)
{
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, error);
    g_autoptr(at_gpu_layout) site = recs ? at_gpu_layout_new(core, NULL, NULL, error) : NULL;
    if (!site)
        return NULL;
    JsonArray *list = json_array_new();
    g_ptr_array_sort(recs, by_address);
    for (unsigned i = 0; i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        json_array_add_object_element(
            list, gpu_json(core, rec, at_gpus_find(site->cards, rec->id), site, false));
    }
    return at_json_take_arr(list);
}

static bool is_at(const at_gpu_rec *rec, const char *address)
{
    bool short_address = g_str_has_prefix(rec->address, "0000:") &&
                         g_str_equal(rec->address + strlen("0000:"), address);
    return short_address || g_str_equal(rec->address, address);
}

/* The card that is there now, not one that was there before it. */
static const at_gpu_rec *find_at(const GPtrArray *recs, const char *address)
{
    const at_gpu_rec *found = NULL;
    for (unsigned i = 0; i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        if (is_at(rec, address) && (!found || rec->present))
            found = rec;
    }
    return found;
}

/* By its id, the beginning of it if that is enough, or its address. */
char *at_gpu_resolve(struct at_core *core, const char *name, GError **error)
{
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, error);
    const at_gpu_rec *found = recs ? find_at(recs, name) : NULL;
    if (found)
        return g_strdup(found->id);
    for (unsigned i = 0; recs && i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        if (g_str_equal(rec->id, name))
            return g_strdup(rec->id);
        if (*name == '\0' || !g_str_has_prefix(rec->id, name))
            continue;
        if (found) {
            at_error(error, AT_ERROR_INVALID, "\"%s\" means GPU %s or GPU %s; write more of it",
                     name, found->id, rec->id);
            return NULL;
        }
        found = rec;
    }
    if (recs && !found)
        at_error(error, AT_ERROR_NOT_FOUND, "GPU %s does not exist; `atoll gpu list` shows them",
                 name);
    return found ? g_strdup(found->id) : NULL;
}

JsonNode *at_core_gpu_view(struct at_core *core, const char *name, GError **error)
{
    g_autofree char *id = at_gpu_resolve(core, name, error);
    g_autoptr(at_gpu_rec) rec = id ? at_gpu_rec_load(core->catalog, id, error) : NULL;
    g_autoptr(at_gpu_layout) site = rec ? at_gpu_layout_new(core, NULL, NULL, error) : NULL;
    return site ? at_json_take_obj(gpu_json(core, rec, at_gpus_find(site->cards, id), site, true))
                : NULL;
}

JsonArray *at_gpu_holds_of(struct at_core *core, const char *vdc, const char *workstation)
{
    JsonArray *list = json_array_new();
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, NULL);
    for (unsigned i = 0; recs && i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        for (unsigned k = 0; k < rec->holds->len; k++) {
            const struct at_gpu_hold_rec *h = rec->holds->pdata[k];
            if (!g_str_equal(h->vdc, vdc) || !g_str_equal(h->workstation, workstation) ||
                g_str_equal(h->machine, AT_GPU_NOBODY))
                continue;
            JsonObject *o = hold_json(h);
            json_object_set_string_member(o, "gpu", rec->id);
            json_object_set_string_member(o, "address", rec->address);
            at_json_set_str(o, "name", rec->name);
            json_array_add_object_element(list, o);
        }
    }
    return list;
}
