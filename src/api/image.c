/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of images. */
#include <string.h>

#include "api/handlers.h"
#include "base/error.h"
#include "base/json.h"

JsonNode *at_handle_image_list(struct at_request *r, GError **error)
{
    return at_core_image_list(r->api->core, error);
}

JsonNode *at_handle_image_show(struct at_request *r, GError **error)
{
    return at_core_image_view(r->api->core, r->names[0], error);
}

static bool check_absolute(struct at_request *r, const char *path, GError **error)
{
    if (g_path_is_absolute(path))
        return true;
    r->pointer = g_strdup("/path");
    return at_error(error, AT_ERROR_INVALID,
                    "path: must be absolute (the daemon has another working directory), found %s",
                    path);
}

static bool check_build(struct at_request *r, JsonObject *build, GError **error)
{
    static const char *const allowed[] = {"distribution", "suite", "include", "size", NULL};
    g_autoptr(GList) names = json_object_get_members(build);
    for (GList *l = names; l; l = l->next) {
        if (g_strv_contains(allowed, l->data))
            continue;
        r->pointer = g_strconcat("/build/", l->data, NULL);
        return at_error(error, AT_ERROR_INVALID,
                        "unknown member \"%s\"; allowed: distribution, suite, include, size",
                        (char *)l->data);
    }
    return true;
}

JsonNode *at_handle_image_create(struct at_request *r, GError **error)
{
    JsonObject *body = at_request_object(r);
    const char *name = at_json_str(body, "name", NULL);
    const char *path = at_json_str(body, "path", NULL);
    JsonObject *build = at_json_obj(body, "build");
    if (!path == !build) {
        at_error(error, AT_ERROR_INVALID, "an image needs either path (import) or build");
        return NULL;
    }
    if (build && !check_build(r, build, error))
        return NULL;
    if (build)
        return at_core_image_build(r->api->core, &r->actor, name, build, error);
    if (!check_absolute(r, path, error))
        return NULL;
    return at_core_image_import(r->api->core, &r->actor, name, path, error);
}

JsonNode *at_handle_image_delete(struct at_request *r, GError **error)
{
    return at_core_image_delete(r->api->core, &r->actor, r->names[0], error);
}

/* As asked for, or by the ending of the file. */
static const char *export_format(struct at_request *r, const char *path, GError **error)
{
    const char *format = at_json_str(at_request_object(r), "format", NULL);
    if (!format)
        return g_str_has_suffix(path, ".qcow2") ? "qcow2" : "raw";
    if (strcmp(format, "raw") == 0 || strcmp(format, "qcow2") == 0)
        return format;
    r->pointer = g_strdup("/format");
    at_error(error, AT_ERROR_INVALID, "format: raw or qcow2, found \"%s\"", format);
    return NULL;
}

JsonNode *at_handle_image_export(struct at_request *r, GError **error)
{
    const char *path = at_json_str(at_request_object(r), "path", NULL);
    if (!check_absolute(r, path, error))
        return NULL;
    const char *format = export_format(r, path, error);
    if (!format)
        return NULL;
    return at_core_image_export(r->api->core, &r->actor, r->names[0], path, format, error);
}
