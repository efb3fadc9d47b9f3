/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshot record as a typed value. */
#include "base/error.h"
#include "base/json.h"
#include "core/record-internal.h"

static void snap_disk_free(struct at_snap_disk *d)
{
    g_free(d->workstation);
    g_free(d->name);
    g_free(d->machine);
    g_free(d->root);
    g_free(d);
}

void at_snap_free(at_snap *s)
{
    if (!s)
        return;
    g_free(s->name);
    g_free(s->vdc);
    g_free(s->vdc_id);
    g_free(s->state);
    g_free(s->digest);
    g_free(s->created);
    g_free(s->actor);
    g_free(s->description);
    g_clear_pointer(&s->consistency, json_object_unref);
    g_clear_pointer(&s->identity, json_object_unref);
    g_clear_pointer(&s->definition, json_node_unref);
    g_clear_pointer(&s->disks, g_ptr_array_unref);
    g_free(s);
}

at_snap *at_snap_new(const char *name, const char *vdc, const char *vdc_id)
{
    at_snap *s = g_new0(at_snap, 1);
    s->name = g_strdup(name);
    s->vdc = g_strdup(vdc);
    s->vdc_id = g_strdup(vdc_id);
    s->consistency = json_object_new();
    s->identity = json_object_new();
    s->disks = g_ptr_array_new_with_free_func((GDestroyNotify)snap_disk_free);
    return s;
}

static void *snap_from_json(JsonObject *o, uint64_t revision, GError **error)
{
    const char *name = at_json_str(o, "name", NULL);
    const char *vdc_id = at_json_str(o, "vdc_id", NULL);
    JsonNode *def = json_object_get_member(o, "definition");
    if (!name || !vdc_id || !def) {
        at_error(error, AT_ERROR_CORRUPT, "a snapshot record lacks its name, VDC or definition");
        return NULL;
    }
    at_snap *s = at_snap_new(name, at_json_str(o, "vdc", ""), vdc_id);
    s->revision = revision;
    s->state = g_strdup(at_json_str(o, "state", "captured"));
    s->digest = g_strdup(at_json_str(o, "digest", NULL));
    s->created = g_strdup(at_json_str(o, "created", NULL));
    s->actor = g_strdup(at_json_str(o, "actor", NULL));
    s->description = g_strdup(at_json_str(o, "description", NULL));
    s->safety = at_json_bool(o, "safety", false);
    s->pause_ms = at_json_num(o, "pause_ms", 0);
    s->skew_ms = at_json_num(o, "skew_ms", 0);
    s->stored_bytes = (uint64_t)at_json_int(o, "stored_bytes", 0);
    s->changed_bytes = (uint64_t)at_json_int(o, "changed_bytes", 0);
    JsonObject *sub = at_json_obj(o, "consistency");
    if (sub) {
        json_object_unref(s->consistency);
        s->consistency = json_object_ref(sub);
    }
    if ((sub = at_json_obj(o, "identity"))) {
        json_object_unref(s->identity);
        s->identity = json_object_ref(sub);
    }
    s->definition = json_node_copy(def);
    JsonArray *disks = at_json_arr(o, "disks");
    for (unsigned i = 0; disks && i < json_array_get_length(disks); i++) {
        JsonObject *d = json_array_get_object_element(disks, i);
        struct at_snap_disk *disk = g_new0(struct at_snap_disk, 1);
        disk->workstation = g_strdup(at_json_str(d, "workstation", ""));
        disk->name = g_strdup(at_json_str(d, "name", ""));
        disk->machine = g_strdup(at_json_str(d, "machine", NULL));
        disk->index = (unsigned)at_json_int(d, "index", 0);
        disk->upto = (unsigned)at_json_int(d, "upto", 0);
        disk->size = (uint64_t)at_json_int(d, "size", 0);
        disk->root = g_strdup(at_json_str(d, "root", NULL));
        g_ptr_array_add(s->disks, disk);
    }
    return s;
}

static JsonNode *snap_to_json(const at_snap *s)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "name", s->name);
    json_object_set_string_member(o, "vdc", s->vdc);
    json_object_set_string_member(o, "vdc_id", s->vdc_id);
    json_object_set_string_member(o, "state", s->state);
    at_json_set_str(o, "digest", s->digest);
    at_json_set_str(o, "created", s->created);
    at_json_set_str(o, "actor", s->actor);
    at_json_set_str(o, "description", s->description);
    json_object_set_boolean_member(o, "safety", s->safety);
    json_object_set_double_member(o, "pause_ms", s->pause_ms);
    json_object_set_double_member(o, "skew_ms", s->skew_ms);
    json_object_set_int_member(o, "stored_bytes", (int64_t)s->stored_bytes);
    json_object_set_int_member(o, "changed_bytes", (int64_t)s->changed_bytes);
    json_object_set_object_member(o, "consistency", json_object_ref(s->consistency));
    json_object_set_object_member(o, "identity", json_object_ref(s->identity));
    json_object_set_member(o, "definition", json_node_copy(s->definition));
    JsonArray *disks = json_array_new();
    for (unsigned i = 0; i < s->disks->len; i++) {
        struct at_snap_disk *disk = s->disks->pdata[i];
        JsonObject *d = json_object_new();
        json_object_set_string_member(d, "workstation", disk->workstation);
        json_object_set_string_member(d, "name", disk->name);
        at_json_set_str(d, "machine", disk->machine);
        json_object_set_int_member(d, "index", disk->index);
        json_object_set_int_member(d, "upto", disk->upto);
        json_object_set_int_member(d, "size", (int64_t)disk->size);
        at_json_set_str(d, "root", disk->root);
        json_array_add_object_element(disks, d);
    }
    json_object_set_array_member(o, "disks", disks);
    return at_json_take_obj(o);
}

static char *snap_key(const char *vdc_id, const char *name)
{
    return g_strdup_printf("snapshot/%s/%s", vdc_id, name);
}

at_snap *at_snap_load(struct at_catalog *catalog, const char *vdc_id, const char *name,
                      GError **error)
{
    g_autofree char *key = snap_key(vdc_id, name);
    g_autoptr(GError) local = NULL;
    if (!at_name_check(name, "snapshot", error))
        return NULL;
    at_snap *s = at_record_load_one(catalog, key, snap_from_json, &local);
    if (!s && g_error_matches(local, AT_ERROR, AT_ERROR_NOT_FOUND))
        at_error(error, AT_ERROR_NOT_FOUND, "snapshot %s does not exist", name);
    else if (!s)
        g_propagate_error(error, g_steal_pointer(&local));
    return s;
}

GPtrArray *at_snap_load_all(struct at_catalog *catalog, const char *vdc_id, GError **error)
{
    g_autofree char *prefix = vdc_id ? snap_key(vdc_id, "") : g_strdup("snapshot/");
    return at_record_load_list(catalog, prefix, snap_from_json, (GDestroyNotify)at_snap_free,
                               error);
}

void at_snap_put(struct at_txn *txn, const at_snap *s)
{
    g_autofree char *key = snap_key(s->vdc_id, s->name);
    g_autoptr(JsonNode) node = snap_to_json(s);
    at_txn_put(txn, key, node, s->revision);
}

void at_snap_delete(struct at_txn *txn, const at_snap *s)
{
    g_autofree char *key = snap_key(s->vdc_id, s->name);
    at_txn_delete(txn, key, AT_REVISION_ANY);
}

bool at_snap_save(struct at_catalog *catalog, at_snap *s, GError **error)
{
    g_autofree char *key = snap_key(s->vdc_id, s->name);
    g_autoptr(JsonNode) node = snap_to_json(s);
    return at_record_save_one(catalog, key, node, &s->revision, error);
}
