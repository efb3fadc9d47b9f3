/* SPDX-License-Identifier: Apache-2.0 */
/* Images as the API shows them, and the verbs that start their jobs.
 * Catalog record image/<name>: {name, size, stored_bytes, root, format, source, created}. */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/core-internal.h"
#include "core/job.h"
#include "core/record.h"
#include "core/vdc.h"

static bool uses_image(const at_vdc *vdc, const char *image, GPtrArray *users)
{
    bool used = false;
    for (unsigned i = 0; i < vdc->def->workstations->len; i++) {
        const struct at_def_workstation *ws = vdc->def->workstations->pdata[i];
        for (unsigned d = 0; d < ws->disks->len; d++) {
            const struct at_def_disk *disk = ws->disks->pdata[d];
            if (g_strcmp0(disk->image, image) == 0) {
                g_ptr_array_add(users, g_strdup_printf("%s/%s", vdc->name, ws->name));
                used = true;
            }
        }
    }
    for (unsigned i = 0; i < vdc->def->volumes->len; i++) {
        const struct at_def_volume *volume = vdc->def->volumes->pdata[i];
        if (g_strcmp0(volume->image, image) == 0) {
            g_ptr_array_add(users, g_strdup_printf("%s/%s", vdc->name, volume->name));
            used = true;
        }
    }
    return used;
}

/* "vdc/workstation" and "vdc/volume" of every definition that names the image. */
static JsonArray *find_users(const char *image, const GPtrArray *vdcs)
{
    g_autoptr(GPtrArray) users = g_ptr_array_new_with_free_func(g_free);
    JsonArray *list = json_array_new();
    for (unsigned i = 0; i < vdcs->len; i++)
        uses_image(vdcs->pdata[i], image, users);
    for (unsigned i = 0; i < users->len; i++)
        json_array_add_string_element(list, users->pdata[i]);
    return list;
}

static JsonNode *view(const struct at_record *record, const GPtrArray *vdcs)
{
    JsonObject *stored = json_node_get_object(record->value);
    JsonObject *o = json_object_new();
    static const char *const texts[] = {"name", "root", "format", "source", "created"};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
        at_json_set_str(o, texts[i], at_json_str(stored, texts[i], NULL));
    json_object_set_int_member(o, "size", at_json_int(stored, "size", 0));
    json_object_set_int_member(o, "stored_bytes", at_json_int(stored, "stored_bytes", 0));
    json_object_set_array_member(o, "used_by", find_users(at_json_str(stored, "name", ""), vdcs));
    return at_json_take_obj(o);
}

JsonNode *at_core_image_list(struct at_core *core, GError **error)
{
    g_autoptr(GPtrArray) records = at_catalog_list(core->catalog, "image/", error);
    g_autoptr(GPtrArray) vdcs = records ? at_vdc_load_all(core->catalog, error) : NULL;
    if (!vdcs)
        return NULL;
    JsonArray *list = json_array_new();
    for (unsigned i = 0; i < records->len; i++)
        json_array_add_element(list, view(records->pdata[i], vdcs));
    return at_json_take_arr(list);
}

static struct at_record *load(struct at_core *core, const char *name, GError **error)
{
    g_autofree char *key = g_strconcat("image/", name, NULL);
    g_autoptr(GError) local = NULL;
    struct at_record *record =
        at_name_check(name, "image", error) ? at_catalog_get(core->catalog, key, &local) : NULL;
    if (local && at_error_classify(local) == AT_ERROR_NOT_FOUND)
        at_error(error, AT_ERROR_NOT_FOUND, "image %s does not exist; see: atoll image list", name);
    else if (local)
        g_propagate_error(error, g_steal_pointer(&local));
    return record;
}

JsonNode *at_core_image_view(struct at_core *core, const char *name, GError **error)
{
    g_autoptr(at_record) record = load(core, name, error);
    g_autoptr(GPtrArray) vdcs = record ? at_vdc_load_all(core->catalog, error) : NULL;
    return vdcs ? view(record, vdcs) : NULL;
}

/* A name for a new image that nobody has yet. */
static bool check_new(struct at_core *core, const char *name, GError **error)
{
    if (!name)
        return at_error(error, AT_ERROR_INVALID, "an image needs a name");
    if (!at_name_check(name, "image", error))
        return false;
    g_autoptr(at_record) exists = load(core, name, NULL);
    if (exists)
        return at_error(error, AT_ERROR_CONFLICT,
                        "image %s exists already; delete it first or take another name", name);
    return true;
}

static JsonNode *start(struct at_core *core, const struct at_job_kind *kind, const char *name,
                       const struct at_actor *actor, JsonObject *args, GError **error)
{
    g_autofree char *target = g_strconcat("image ", name, NULL);
    g_autofree char *scope = g_strconcat("image/", name, NULL);
    g_autofree char *created = at_clock_rfc3339();
    json_object_set_string_member(args, "name", name);
    json_object_set_string_member(args, "created", created);
    return at_job_start(core, kind, target, scope, actor, args, error);
}

JsonNode *at_core_image_import(struct at_core *core, const struct at_actor *actor, const char *name,
                               const char *path, GError **error)
{
    if (!check_new(core, name, error))
        return NULL;
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "path", path);
    return start(core, &at_job_image_import, name, actor, args, error);
}

/* "4 GiB" or bytes; 0 when not given. */
static bool read_size(JsonObject *build, uint64_t *ret_size, GError **error)
{
    JsonNode *node = json_object_get_member(build, "size");
    const char *text = at_json_str(build, "size", NULL);
    int64_t bytes = at_json_int(build, "size", 0);
    if (text)
        return at_size_parse(text, ret_size, error);
    if (bytes < 0 || (node && !JSON_NODE_HOLDS_NULL(node) && !JSON_NODE_HOLDS_VALUE(node)))
        return at_error(error, AT_ERROR_INVALID, "size: bytes, or text such as \"4 GiB\"");
    *ret_size = (uint64_t)bytes;
    return true;
}

static JsonArray *read_packages(JsonObject *build, GError **error)
{
    JsonArray *packages = json_array_new();
    JsonArray *given = at_json_arr(build, "include");
    for (unsigned i = 0; given && i < json_array_get_length(given); i++) {
        JsonNode *node = json_array_get_element(given, i);
        if (json_node_get_value_type(node) != G_TYPE_STRING) {
            json_array_unref(packages);
            at_error(error, AT_ERROR_INVALID, "include: a list of package names");
            return NULL;
        }
        json_array_add_string_element(packages, json_node_get_string(node));
    }
    return packages;
}

JsonNode *at_core_image_build(struct at_core *core, const struct at_actor *actor, const char *name,
                              JsonObject *build, GError **error)
{
    const char *distribution = at_json_str(build, "distribution", "debian");
    uint64_t size = 0;
    if (!check_new(core, name, error))
        return NULL;
    if (strcmp(distribution, "debian") != 0) {
        at_error(error, AT_ERROR_INVALID, "distribution: debian, found \"%s\"", distribution);
        return NULL;
    }
    JsonArray *packages = read_size(build, &size, error) ? read_packages(build, error) : NULL;
    if (!packages)
        return NULL;
    g_autofree char *id = at_new_id();
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "suite", at_json_str(build, "suite", "bookworm"));
    json_object_set_array_member(args, "include", packages);
    json_object_set_int_member(args, "size", (int64_t)size);
    json_object_set_string_member(args, "id", id);
    return start(core, &at_job_image_build, name, actor, args, error);
}

JsonNode *at_core_image_export(struct at_core *core, const struct at_actor *actor, const char *name,
                               const char *path, const char *format, GError **error)
{
    g_autoptr(at_record) record = load(core, name, error);
    if (!record)
        return NULL;
    g_autofree char *id = at_new_id();
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "path", path);
    json_object_set_string_member(args, "format", format);
    json_object_set_string_member(args, "id", id);
    json_object_set_string_member(args, "root",
                                  at_json_str(json_node_get_object(record->value), "root", ""));
    return start(core, &at_job_image_export, name, actor, args, error);
}

JsonNode *at_core_image_delete(struct at_core *core, const struct at_actor *actor, const char *name,
                               GError **error)
{
    g_autoptr(at_record) record = load(core, name, error);
    if (!record)
        return NULL;
    return start(core, &at_job_image_delete, name, actor, json_object_new(), error);
}
