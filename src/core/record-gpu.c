/* SPDX-License-Identifier: Apache-2.0 */
/* Records of GPUs and of what is held of them. */
#include "core/record-gpu.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/record-internal.h"

enum { ID_MAX = 120, TRIES = 100 };

struct at_gpu_hold_rec *at_gpu_hold_rec_new(void)
{
    return g_new0(struct at_gpu_hold_rec, 1);
}

void at_gpu_hold_rec_free(struct at_gpu_hold_rec *hold)
{
    if (!hold)
        return;
    char *const texts[] = {hold->machine, hold->vdc,  hold->workstation, hold->since,
                           hold->asked,   hold->uuid, hold->function,    hold->former_driver};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(texts[i]);
    at_gpu_profile_free(hold->profile);
    g_free(hold);
}

static void past_free(struct at_gpu_past_rec *past)
{
    char *const texts[] = {past->vdc,  past->workstation, past->profile, past->isolation,
                           past->from, past->to,          past->cleared};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(texts[i]);
    g_free(past);
}

at_gpu_rec *at_gpu_rec_new(const char *id)
{
    at_gpu_rec *rec = g_new0(at_gpu_rec, 1);
    rec->id = g_strdup(id);
    rec->holds = g_ptr_array_new_with_free_func((GDestroyNotify)at_gpu_hold_rec_free);
    rec->past = g_ptr_array_new_with_free_func((GDestroyNotify)past_free);
    rec->profiles = g_ptr_array_new_with_free_func((GDestroyNotify)at_gpu_profile_free);
    return rec;
}

void at_gpu_rec_free(at_gpu_rec *rec)
{
    if (!rec)
        return;
    char *const texts[] = {rec->id,         rec->node,       rec->address,  rec->vendor_name,
                           rec->name,       rec->serial,     rec->reserved, rec->quarantined,
                           rec->first_seen, rec->pci_serial, rec->unique_id};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(texts[i]);
    g_clear_pointer(&rec->test, json_node_unref);
    g_ptr_array_unref(rec->holds);
    g_ptr_array_unref(rec->past);
    g_ptr_array_unref(rec->profiles);
    g_free(rec);
}

/* ---- JSON ---- */

JsonObject *at_gpu_profile_json(const struct at_gpu_profile *p)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "name", p->name);
    json_object_set_string_member(o, "kind", at_gpu_kind_name(p->kind));
    json_object_set_string_member(o, "isolation", at_gpu_isolation_name(p->isolation));
    json_object_set_int_member(o, "memory", (int64_t)p->memory);
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"type_id", p->type_id},     {"max", p->max},
                   {"max_mixed", p->max_mixed}, {"gi_profile", p->gi_profile},
                   {"slices", p->slices},       {"compute", p->compute},
                   {"starts", p->starts},       {"gi_max", p->gi_max},
                   {"per_gi", p->per_gi},       {"media", p->media}};
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++)
        json_object_set_int_member(o, numbers[i].name, numbers[i].value);
    at_json_set_str(o, "gi_name", p->gi_name);
    return o;
}

static bool kind_parse(const char *text, enum at_gpu_kind *ret)
{
    for (unsigned k = 0; k < AT_GPU_N_KINDS; k++) {
        if (g_strcmp0(text, at_gpu_kind_name((enum at_gpu_kind)k)) == 0) {
            *ret = (enum at_gpu_kind)k;
            return true;
        }
    }
    return false;
}

static struct at_gpu_profile *profile_from_json(JsonObject *o)
{
    enum at_gpu_kind kind;
    enum at_gpu_isolation isolation;
    const char *name = at_json_str(o, "name", NULL);
    if (!name || !kind_parse(at_json_str(o, "kind", NULL), &kind) ||
        !at_gpu_isolation_parse(at_json_str(o, "isolation", ""), &isolation))
        return NULL;
    struct at_gpu_profile *p = at_gpu_profile_new(name, kind);
    p->isolation = isolation;
    p->memory = (uint64_t)at_json_int(o, "memory", 0);
    p->type_id = (unsigned)at_json_int(o, "type_id", 0);
    p->max = (unsigned)at_json_int(o, "max", 0);
    p->max_mixed = (unsigned)at_json_int(o, "max_mixed", 0);
    p->gi_profile = (unsigned)at_json_int(o, "gi_profile", 0);
    p->slices = (unsigned)at_json_int(o, "slices", 0);
    p->compute = (unsigned)at_json_int(o, "compute", 0);
    p->starts = (uint32_t)at_json_int(o, "starts", 0);
    p->gi_max = (unsigned)at_json_int(o, "gi_max", 0);
    p->per_gi = (unsigned)at_json_int(o, "per_gi", 1);
    p->media = (unsigned)at_json_int(o, "media", 0);
    p->gi_name = g_strdup(at_json_str(o, "gi_name", NULL));
    return p;
}

static JsonObject *hold_json(const struct at_gpu_hold_rec *h)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "machine", h->machine);
    json_object_set_string_member(o, "vdc", h->vdc);
    json_object_set_string_member(o, "workstation", h->workstation);
    json_object_set_int_member(o, "request", h->request);
    json_object_set_int_member(o, "nth", h->nth);
    json_object_set_object_member(o, "profile", at_gpu_profile_json(h->profile));
    json_object_set_int_member(o, "start", h->start);
    json_object_set_boolean_member(o, "keep", h->keep);
    at_json_set_str(o, "asked", h->asked);
    at_json_set_str(o, "since", h->since);
    json_object_set_boolean_member(o, "attached", h->attached);
    at_json_set_str(o, "uuid", h->uuid);
    at_json_set_str(o, "function", h->function);
    at_json_set_str(o, "former_driver", h->former_driver);
    json_object_set_int_member(o, "instance", h->instance);
    return o;
}

static struct at_gpu_hold_rec *hold_from_json(JsonObject *o, GError **error)
{
    struct at_gpu_hold_rec *h = at_gpu_hold_rec_new();
    h->machine = g_strdup(at_json_str(o, "machine", NULL));
    h->vdc = g_strdup(at_json_str(o, "vdc", NULL));
    h->workstation = g_strdup(at_json_str(o, "workstation", NULL));
    h->request = (unsigned)at_json_int(o, "request", 0);
    h->nth = (unsigned)at_json_int(o, "nth", 0);
    h->profile = profile_from_json(at_json_obj(o, "profile"));
    h->start = (unsigned)at_json_int(o, "start", 0);
    h->keep = at_json_bool(o, "keep", false);
    h->asked = g_strdup(at_json_str(o, "asked", NULL));
    h->since = g_strdup(at_json_str(o, "since", NULL));
    h->attached = at_json_bool(o, "attached", false);
    h->uuid = g_strdup(at_json_str(o, "uuid", NULL));
    h->function = g_strdup(at_json_str(o, "function", NULL));
    h->former_driver = g_strdup(at_json_str(o, "former_driver", NULL));
    h->instance = (unsigned)at_json_int(o, "instance", 0);
    if (h->machine && h->vdc && h->workstation && h->profile)
        return h;
    at_gpu_hold_rec_free(h);
    at_error(error, AT_ERROR_CORRUPT, "a hold lacks its machine, workstation or profile");
    return NULL;
}

static JsonObject *past_json(const struct at_gpu_past_rec *past)
{
    JsonObject *o = json_object_new();
    at_json_set_str(o, "vdc", past->vdc);
    at_json_set_str(o, "workstation", past->workstation);
    at_json_set_str(o, "profile", past->profile);
    at_json_set_str(o, "isolation", past->isolation);
    at_json_set_str(o, "from", past->from);
    at_json_set_str(o, "to", past->to);
    at_json_set_str(o, "cleared", past->cleared);
    return o;
}

/* What is told of the past decides nothing: an entry that is none is left out. */
static void past_from_json(at_gpu_rec *rec, JsonArray *list)
{
    for (unsigned i = 0; list && i < json_array_get_length(list); i++) {
        JsonNode *node = json_array_get_element(list, i);
        if (!JSON_NODE_HOLDS_OBJECT(node))
            continue;
        JsonObject *o = json_node_get_object(node);
        struct at_gpu_past_rec *past = g_new0(struct at_gpu_past_rec, 1);
        past->vdc = g_strdup(at_json_str(o, "vdc", NULL));
        past->workstation = g_strdup(at_json_str(o, "workstation", NULL));
        past->profile = g_strdup(at_json_str(o, "profile", NULL));
        past->isolation = g_strdup(at_json_str(o, "isolation", NULL));
        past->from = g_strdup(at_json_str(o, "from", NULL));
        past->to = g_strdup(at_json_str(o, "to", NULL));
        past->cleared = g_strdup(at_json_str(o, "cleared", NULL));
        g_ptr_array_add(rec->past, past);
    }
}

static JsonArray *profiles_json(const GPtrArray *profiles)
{
    JsonArray *list = json_array_new();
    for (unsigned i = 0; i < profiles->len && i < AT_GPU_REMEMBERED_MAX; i++)
        json_array_add_object_element(list, at_gpu_profile_json(profiles->pdata[i]));
    return list;
}

/* What is remembered only helps to word refusals: an entry that is none is left out. */
static void profiles_from_json(at_gpu_rec *rec, JsonArray *list)
{
    for (unsigned i = 0; list && i < json_array_get_length(list); i++) {
        JsonNode *node = json_array_get_element(list, i);
        struct at_gpu_profile *p =
            JSON_NODE_HOLDS_OBJECT(node) ? profile_from_json(json_node_get_object(node)) : NULL;
        if (p)
            g_ptr_array_add(rec->profiles, p);
    }
}

/* Records of earlier versions have it in their id only: "PCI-10de-2331-00044b00a1b2c3d4". */
static char *serial_of_id(const char *id)
{
    bool has = id && g_regex_match_simple("^PCI-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{16}$", id, 0, 0);
    return has ? g_strdup(strrchr(id, '-') + 1) : NULL;
}

static void *rec_from_json(JsonObject *o, uint64_t revision, GError **error)
{
    g_autoptr(at_gpu_rec) rec = at_gpu_rec_new(at_json_str(o, "id", NULL));
    JsonArray *holds = at_json_arr(o, "holds");
    rec->revision = revision;
    rec->node = g_strdup(at_json_str(o, "node", NULL));
    rec->address = g_strdup(at_json_str(o, "address", NULL));
    rec->vendor = (uint16_t)at_json_int(o, "vendor", 0);
    rec->device = (uint16_t)at_json_int(o, "device", 0);
    rec->vendor_name = g_strdup(at_json_str(o, "vendor_name", NULL));
    rec->name = g_strdup(at_json_str(o, "name", NULL));
    rec->serial = g_strdup(at_json_str(o, "serial", NULL));
    rec->pci_serial = g_strdup(at_json_str(o, "pci_serial", NULL));
    if (!rec->pci_serial)
        rec->pci_serial = serial_of_id(rec->id);
    rec->unique_id = g_strdup(at_json_str(o, "unique_id", NULL));
    rec->memory = (uint64_t)at_json_int(o, "memory", 0);
    rec->present = at_json_bool(o, "present", false);
    rec->first_seen = g_strdup(at_json_str(o, "first_seen", NULL));
    rec->reserved = g_strdup(at_json_str(o, "reserved", NULL));
    rec->quarantined = g_strdup(at_json_str(o, "quarantined", NULL));
    rec->mixed = at_json_bool(o, "mixed", false);
    JsonObject *test = at_json_obj(o, "test");
    rec->test = test ? at_json_take_obj(json_object_ref(test)) : NULL;
    if (!rec->id || !rec->address || !rec->node) {
        at_error(error, AT_ERROR_CORRUPT, "the record of a GPU lacks its id, node or address");
        return NULL;
    }
    for (unsigned i = 0; holds && i < json_array_get_length(holds); i++) {
        JsonNode *node = json_array_get_element(holds, i);
        struct at_gpu_hold_rec *hold =
            JSON_NODE_HOLDS_OBJECT(node) ? hold_from_json(json_node_get_object(node), error) : NULL;
        if (!hold) {
            if (error && !*error)
                at_error(error, AT_ERROR_CORRUPT, "a hold is not an object");
            return NULL;
        }
        g_ptr_array_add(rec->holds, hold);
    }
    past_from_json(rec, at_json_arr(o, "past"));
    profiles_from_json(rec, at_json_arr(o, "profiles"));
    rec->grid_slices = (unsigned)at_json_int(o, "grid_slices", 0);
    rec->grid_compute = (unsigned)at_json_int(o, "grid_compute", 0);
    return g_steal_pointer(&rec);
}

static JsonNode *rec_to_json(const at_gpu_rec *rec)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "id", rec->id);
    json_object_set_string_member(o, "node", rec->node);
    json_object_set_string_member(o, "address", rec->address);
    json_object_set_int_member(o, "vendor", rec->vendor);
    json_object_set_int_member(o, "device", rec->device);
    at_json_set_str(o, "vendor_name", rec->vendor_name);
    at_json_set_str(o, "name", rec->name);
    at_json_set_str(o, "serial", rec->serial);
    at_json_set_str(o, "pci_serial", rec->pci_serial);
    at_json_set_str(o, "unique_id", rec->unique_id);
    json_object_set_int_member(o, "memory", (int64_t)rec->memory);
    json_object_set_boolean_member(o, "present", rec->present);
    at_json_set_str(o, "first_seen", rec->first_seen);
    at_json_set_str(o, "reserved", rec->reserved);
    at_json_set_str(o, "quarantined", rec->quarantined);
    json_object_set_boolean_member(o, "mixed", rec->mixed);
    if (rec->test)
        json_object_set_member(o, "test", json_node_copy(rec->test));
    JsonArray *holds = json_array_new();
    for (unsigned i = 0; i < rec->holds->len; i++)
        json_array_add_object_element(holds, hold_json(rec->holds->pdata[i]));
    json_object_set_array_member(o, "holds", holds);
    JsonArray *past = json_array_new();
    for (unsigned i = 0; i < rec->past->len; i++)
        json_array_add_object_element(past, past_json(rec->past->pdata[i]));
    json_object_set_array_member(o, "past", past);
    json_object_set_array_member(o, "profiles", profiles_json(rec->profiles));
    json_object_set_int_member(o, "grid_slices", rec->grid_slices);
    json_object_set_int_member(o, "grid_compute", rec->grid_compute);
    return at_json_take_obj(o);
}

/* ---- the catalog ---- */

bool at_gpu_id_valid(const char *id)
{
    static const char allowed[] = G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "._:-";
    return id && *id && strlen(id) <= ID_MAX && strspn(id, allowed) == strlen(id);
}

static char *key_of(const char *id)
{
    return g_strconcat("gpu/", id, NULL);
}

at_gpu_rec *at_gpu_rec_load(struct at_catalog *catalog, const char *id, GError **error)
{
    g_autofree char *key = key_of(id);
    g_autoptr(GError) local = NULL;
    at_gpu_rec *rec =
        at_gpu_id_valid(id) ? at_record_load_one(catalog, key, rec_from_json, &local) : NULL;
    if (!rec && (!local || g_error_matches(local, AT_ERROR, AT_ERROR_NOT_FOUND)))
        at_error(error, AT_ERROR_NOT_FOUND, "GPU %s does not exist", id);
    else if (!rec)
        g_propagate_error(error, g_steal_pointer(&local));
    return rec;
}

GPtrArray *at_gpu_rec_load_all(struct at_catalog *catalog, GError **error)
{
    return at_record_load_list(catalog, "gpu/", rec_from_json, (GDestroyNotify)at_gpu_rec_free,
                               error);
}

void at_gpu_rec_put(struct at_txn *txn, const at_gpu_rec *rec)
{
    g_autofree char *key = key_of(rec->id);
    g_autoptr(JsonNode) node = rec_to_json(rec);
    at_txn_put(txn, key, node, rec->revision);
}

void at_gpu_rec_delete(struct at_txn *txn, const at_gpu_rec *rec)
{
    g_autofree char *key = key_of(rec->id);
    at_txn_delete(txn, key, rec->revision);
}

bool at_gpu_rec_save(struct at_catalog *catalog, at_gpu_rec *rec, GError **error)
{
    g_autofree char *key = key_of(rec->id);
    g_autoptr(JsonNode) node = rec_to_json(rec);
    return at_record_save_one(catalog, key, node, &rec->revision, error);
}

bool at_gpu_rec_update(struct at_catalog *catalog, const char *id, at_gpu_rec_change change,
                       void *user, GError **error)
{
    for (unsigned tries = 1;; tries++) {
        g_autoptr(GError) local = NULL;
        g_autoptr(at_gpu_rec) rec = at_gpu_rec_load(catalog, id, error);
        if (!rec)
            return false;
        if (!change(rec, user) || at_gpu_rec_save(catalog, rec, &local))
            return true;
        if (!g_error_matches(local, AT_ERROR, AT_ERROR_CONFLICT) || tries == TRIES) {
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
    }
}

struct at_gpu_hold_rec *at_gpu_rec_hold(const at_gpu_rec *rec, const char *machine,
                                        unsigned request, unsigned nth)
{
    for (unsigned i = 0; i < rec->holds->len; i++) {
        struct at_gpu_hold_rec *h = rec->holds->pdata[i];
        if (g_str_equal(h->machine, machine) && h->request == request && h->nth == nth)
            return h;
    }
    return NULL;
}

struct at_gpu_hold_rec *at_gpu_rec_hold_of(const at_gpu_rec *rec, const char *vdc,
                                           const char *workstation, unsigned request, unsigned nth)
{
    for (unsigned i = 0; i < rec->holds->len; i++) {
        struct at_gpu_hold_rec *h = rec->holds->pdata[i];
        if (g_str_equal(h->vdc, vdc) && g_str_equal(h->workstation, workstation) &&
            h->request == request && h->nth == nth && !g_str_equal(h->machine, AT_GPU_NOBODY))
            return h;
    }
    return NULL;
}

void at_gpu_rec_add_past(at_gpu_rec *rec, const struct at_gpu_hold_rec *hold, const char *cleared)
{
    struct at_gpu_past_rec *past = g_new0(struct at_gpu_past_rec, 1);
    past->vdc = g_strdup(hold->vdc);
    past->workstation = g_strdup(hold->workstation);
    past->profile = g_strdup(hold->profile->name);
    past->isolation = g_strdup(at_gpu_isolation_name(hold->profile->isolation));
    past->from = g_strdup(hold->since);
    past->to = at_clock_rfc3339();
    past->cleared = g_strdup(cleared);
    g_ptr_array_add(rec->past, past);
    if (rec->past->len > AT_GPU_PAST_MAX)
        g_ptr_array_remove_range(rec->past, 0, rec->past->len - AT_GPU_PAST_MAX);
}

static bool same_profiles(const GPtrArray *a, const GPtrArray *b)
{
    g_autoptr(JsonNode) x = json_node_new(JSON_NODE_ARRAY);
    g_autoptr(JsonNode) y = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(x, profiles_json(a));
    json_node_take_array(y, profiles_json(b));
    return json_node_equal(x, y);
}

bool at_gpu_rec_remember(at_gpu_rec *rec, const struct at_gpu_card *card)
{
    if (rec->grid_slices == card->grid_slices && rec->grid_compute == card->grid_compute &&
        same_profiles(rec->profiles, card->profiles))
        return false;
    rec->grid_slices = card->grid_slices;
    rec->grid_compute = card->grid_compute;
    g_ptr_array_set_size(rec->profiles, 0);
    for (unsigned i = 0; i < card->profiles->len && i < AT_GPU_REMEMBERED_MAX; i++)
        g_ptr_array_add(rec->profiles, at_gpu_profile_copy(card->profiles->pdata[i]));
    return true;
}
