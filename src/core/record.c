/* SPDX-License-Identifier: Apache-2.0 */
/* The core's catalog records as typed values: VDC and machine, and loading lists of any of them. */
#include "core/record.h"

#include "base/error.h"
#include "base/json.h"
#include "core/record-internal.h"

void at_vdc_free(at_vdc *v)
{
    if (!v)
        return;
    g_free(v->name);
    g_free(v->id);
    g_free(v->owner);
    g_free(v->created);
    g_free(v->uplink);
    g_free(v->cloned_from);
    g_free(v->undo);
    g_clear_pointer(&v->def, at_definition_free);
    g_clear_pointer(&v->ports, json_array_unref);
    g_free(v);
}

struct at_disk *at_disk_new(unsigned index, const char *name, uint64_t size, const char *base,
                            bool readonly)
{
    struct at_disk *d = g_new0(struct at_disk, 1);
    d->index = index;
    d->name = g_strdup(name);
    d->size = size;
    d->base = g_strdup(base);
    d->readonly = readonly;
    d->gens = g_array_new(FALSE, FALSE, sizeof(unsigned));
    d->next = 1;
    return d;
}

void at_disk_free(struct at_disk *d)
{
    if (!d)
        return;
    g_free(d->name);
    g_free(d->base);
    g_array_unref(d->gens);
    g_free(d);
}

unsigned at_disk_live(const struct at_disk *d)
{
    return d->gens->len ? g_array_index(d->gens, unsigned, d->gens->len - 1) : 0;
}

void at_mach_free(at_mach *m)
{
    if (!m)
        return;
    g_free(m->id);
    g_free(m->vdc);
    g_free(m->vdc_id);
    g_free(m->workstation);
    g_free(m->uuid);
    g_free(m->vmgenid);
    g_free(m->instance_id);
    g_free(m->state);
    g_free(m->last_crash);
    g_clear_pointer(&m->disks, g_ptr_array_unref);
    g_free(m);
}

static void *vdc_from_json(JsonObject *o, uint64_t revision, GError **error)
{
    g_autoptr(at_vdc) v = g_new0(at_vdc, 1);
    v->revision = revision;
    v->name = g_strdup(at_json_str(o, "name", NULL));
    v->id = g_strdup(at_json_str(o, "id", NULL));
    v->owner = g_strdup(at_json_str(o, "owner", "root"));
    v->created = g_strdup(at_json_str(o, "created", NULL));
    v->uplink = g_strdup(at_json_str(o, "uplink", ""));
    v->cloned_from = g_strdup(at_json_str(o, "cloned_from", NULL));
    v->undo = g_strdup(at_json_str(o, "undo", NULL));
    v->want_running = at_json_bool(o, "want_running", false);
    v->ready = at_json_bool(o, "ready", true);
    JsonArray *ports = at_json_arr(o, "ports");
    v->ports = ports ? json_array_ref(ports) : json_array_new();
    JsonNode *def = json_object_get_member(o, "definition");
    if (!v->name || !v->id || !def) {
        at_error(error, AT_ERROR_CORRUPT, "a VDC record lacks its name, id or definition");
        return NULL;
    }
    if (!(v->def = at_definition_parse(def, NULL, error)))
        return NULL;
    return g_steal_pointer(&v);
}

static JsonNode *vdc_to_json(const at_vdc *v)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "name", v->name);
    json_object_set_string_member(o, "id", v->id);
    at_json_set_str(o, "owner", v->owner);
    at_json_set_str(o, "created", v->created);
    at_json_set_str(o, "uplink", v->uplink);
    at_json_set_str(o, "cloned_from", v->cloned_from);
    at_json_set_str(o, "undo", v->undo);
    json_object_set_boolean_member(o, "want_running", v->want_running);
    json_object_set_boolean_member(o, "ready", v->ready);
    json_object_set_array_member(o, "ports", json_array_ref(v->ports));
    json_object_set_member(o, "definition", at_definition_to_json(v->def));
    return at_json_take_obj(o);
}

static struct at_disk *disk_from_json(JsonObject *o)
{
    struct at_disk *d =
        at_disk_new((unsigned)at_json_int(o, "index", 0), at_json_str(o, "name", ""),
                    (uint64_t)at_json_int(o, "size", 0), at_json_str(o, "base", NULL),
                    at_json_bool(o, "readonly", false));
    JsonArray *gens = at_json_arr(o, "gens");
    for (unsigned i = 0; gens && i < json_array_get_length(gens); i++) {
        unsigned gen = (unsigned)json_array_get_int_element(gens, i);
        g_array_append_val(d->gens, gen);
    }
    d->next = (unsigned)at_json_int(o, "next", 1);
    return d;
}

static JsonObject *disk_to_json(const struct at_disk *d)
{
    JsonObject *o = json_object_new();
    json_object_set_int_member(o, "index", d->index);
    json_object_set_string_member(o, "name", d->name);
    json_object_set_int_member(o, "size", (int64_t)d->size);
    json_object_set_boolean_member(o, "readonly", d->readonly);
    at_json_set_str(o, "base", d->base);
    JsonArray *gens = json_array_new();
    for (unsigned i = 0; i < d->gens->len; i++)
        json_array_add_int_element(gens, g_array_index(d->gens, unsigned, i));
    json_object_set_array_member(o, "gens", gens);
    json_object_set_int_member(o, "next", d->next);
    return o;
}

static void *mach_from_json(JsonObject *o, uint64_t revision, GError **error)
{
    g_autoptr(at_mach) m = g_new0(at_mach, 1);
    m->revision = revision;
    m->id = g_strdup(at_json_str(o, "id", NULL));
    m->vdc = g_strdup(at_json_str(o, "vdc", NULL));
    m->vdc_id = g_strdup(at_json_str(o, "vdc_id", NULL));
    m->workstation = g_strdup(at_json_str(o, "workstation", NULL));
    m->uuid = g_strdup(at_json_str(o, "uuid", NULL));
    m->vmgenid = g_strdup(at_json_str(o, "vmgenid", NULL));
    m->instance_id = g_strdup(at_json_str(o, "instance_id", NULL));
    m->fresh = at_json_bool(o, "fresh", false);
    m->slot = (unsigned)at_json_int(o, "slot", 0);
    m->state = g_strdup(at_json_str(o, "state", "active"));
    m->want_running = at_json_bool(o, "want_running", false);
    m->restarts = (unsigned)at_json_int(o, "restarts", 0);
    m->last_crash = g_strdup(at_json_str(o, "last_crash", NULL));
    m->down_by_crash = at_json_bool(o, "down_by_crash", false);
    m->disks = g_ptr_array_new_with_free_func((GDestroyNotify)at_disk_free);
    JsonArray *disks = at_json_arr(o, "disks");
    for (unsigned i = 0; disks && i < json_array_get_length(disks); i++)
        g_ptr_array_add(m->disks, disk_from_json(json_array_get_object_element(disks, i)));
    if (!m->id || !m->vdc_id || !m->vdc || !m->workstation || m->slot == 0) {
        at_error(error, AT_ERROR_CORRUPT, "a machine record lacks its id, VDC or workstation");
        return NULL;
    }
    return g_steal_pointer(&m);
}

static JsonNode *mach_to_json(const at_mach *m)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "id", m->id);
    json_object_set_string_member(o, "vdc", m->vdc);
    json_object_set_string_member(o, "vdc_id", m->vdc_id);
    json_object_set_string_member(o, "workstation", m->workstation);
    at_json_set_str(o, "uuid", m->uuid);
    at_json_set_str(o, "vmgenid", m->vmgenid);
    at_json_set_str(o, "instance_id", m->instance_id);
    json_object_set_boolean_member(o, "fresh", m->fresh);
    json_object_set_int_member(o, "slot", m->slot);
    at_json_set_str(o, "state", m->state);
    json_object_set_boolean_member(o, "want_running", m->want_running);
    json_object_set_int_member(o, "restarts", m->restarts);
    at_json_set_str(o, "last_crash", m->last_crash);
    json_object_set_boolean_member(o, "down_by_crash", m->down_by_crash);
    JsonArray *disks = json_array_new();
    for (unsigned i = 0; i < m->disks->len; i++)
        json_array_add_object_element(disks, disk_to_json(m->disks->pdata[i]));
    json_object_set_array_member(o, "disks", disks);
    return at_json_take_obj(o);
}

void *at_record_load_one(struct at_catalog *catalog, const char *key, at_record_parse parse,
                         GError **error)
{
    g_autoptr(at_record) r = at_catalog_get(catalog, key, error);
    if (!r)
        return NULL;
    void *value = parse(json_node_get_object(r->value), r->revision, error);
    if (!value)
        g_prefix_error(error, "catalog record %s: ", key);
    return value;
}

GPtrArray *at_record_load_list(struct at_catalog *catalog, const char *prefix,
                               at_record_parse parse, GDestroyNotify free_func, GError **error)
{
    g_autoptr(GPtrArray) records = at_catalog_list(catalog, prefix, error);
    if (!records)
        return NULL;
    g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(free_func);
    for (unsigned i = 0; i < records->len; i++) {
        struct at_record *r = records->pdata[i];
        void *value = parse(json_node_get_object(r->value), r->revision, error);
        if (!value) {
            g_prefix_error(error, "catalog record %s: ", r->key);
            return NULL;
        }
        g_ptr_array_add(out, value);
    }
    return g_steal_pointer(&out);
}

bool at_record_save_one(struct at_catalog *catalog, const char *key, JsonNode *value,
                        uint64_t *revision, GError **error)
{
    return at_catalog_put(catalog, key, value, *revision, revision, error);
}

static char *vdc_key(const char *name)
{
    return g_strconcat("vdc/", name, NULL);
}

static char *mach_key(const char *id)
{
    return g_strconcat("machine/", id, NULL);
}

at_vdc *at_vdc_load(struct at_catalog *catalog, const char *name, GError **error)
{
    g_autofree char *key = vdc_key(name);
    g_autoptr(GError) local = NULL;
    if (!at_name_check(name, "VDC", error))
        return NULL;
    at_vdc *v = at_record_load_one(catalog, key, vdc_from_json, &local);
    if (!v && g_error_matches(local, AT_ERROR, AT_ERROR_NOT_FOUND))
        at_error(error, AT_ERROR_NOT_FOUND, "VDC %s does not exist", name);
    else if (!v)
        g_propagate_error(error, g_steal_pointer(&local));
    return v;
}

at_mach *at_mach_load(struct at_catalog *catalog, const char *id, GError **error)
{
    g_autofree char *key = mach_key(id);
    return at_record_load_one(catalog, key, mach_from_json, error);
}

GPtrArray *at_vdc_load_all(struct at_catalog *catalog, GError **error)
{
    return at_record_load_list(catalog, "vdc/", vdc_from_json, (GDestroyNotify)at_vdc_free, error);
}

GPtrArray *at_mach_load_all(struct at_catalog *catalog, const char *vdc_id, GError **error)
{
    GPtrArray *all = at_record_load_list(catalog, "machine/", mach_from_json,
                                         (GDestroyNotify)at_mach_free, error);
    for (unsigned i = all ? all->len : 0; vdc_id && i-- > 0;) {
        at_mach *m = all->pdata[i];
        if (!g_str_equal(m->vdc_id, vdc_id))
            g_ptr_array_remove_index(all, i);
    }
    return all;
}

#define DEFINE_RECORD(type, key_of, to_json)                                                       \
    void type##_put(struct at_txn *txn, const type *r)                                             \
    {                                                                                              \
        g_autofree char *key = key_of;                                                             \
        g_autoptr(JsonNode) node = to_json(r);                                                     \
        at_txn_put(txn, key, node, r->revision);                                                   \
    }                                                                                              \
    void type##_delete(struct at_txn *txn, const type *r)                                          \
    {                                                                                              \
        g_autofree char *key = key_of;                                                             \
        at_txn_delete(txn, key, AT_REVISION_ANY);                                                  \
    }                                                                                              \
    bool type##_save(struct at_catalog *catalog, type *r, GError **error)                          \
    {                                                                                              \
        g_autofree char *key = key_of;                                                             \
        g_autoptr(JsonNode) node = to_json(r);                                                     \
        return at_record_save_one(catalog, key, node, &r->revision, error);                        \
    }

DEFINE_RECORD(at_vdc, vdc_key(r->name), vdc_to_json)
DEFINE_RECORD(at_mach, mach_key(r->id), mach_to_json)

bool at_mach_update(struct at_catalog *catalog, const char *id, at_mach_change change, void *user,
                    GError **error)
{
    enum { TRIES = 100 };
    for (unsigned tries = 1;; tries++) {
        g_autoptr(GError) local = NULL;
        g_autoptr(at_mach) mach = at_mach_load(catalog, id, error);
        if (!mach)
            return false;
        if (!change(mach, user) || at_mach_save(catalog, mach, &local))
            return true;
        if (!g_error_matches(local, AT_ERROR, AT_ERROR_CONFLICT) || tries == TRIES) {
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
    }
}
