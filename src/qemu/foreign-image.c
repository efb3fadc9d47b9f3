/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at a disk image from outside before it is read: it must not refer to other files. */
#include "qemu/foreign-image.h"

#include <string.h>

#include "base/confine.h"
#include "base/error.h"
#include "base/json.h"
#include "base/process.h"

static bool refuse_references(JsonObject *info, const char *path, GError **error)
{
    const char *backing = at_json_str(info, "backing-filename", NULL);
    if (backing)
        return at_error(error, AT_ERROR_INVALID, "%s has a backing file (%s)", path, backing);
    if (at_json_bool(info, "encrypted", false))
        return at_error(error, AT_ERROR_INVALID, "%s is encrypted", path);
    JsonObject *data = at_json_obj(at_json_obj(info, "format-specific"), "data");
    const char *data_file = at_json_str(data, "data-file", NULL);
    if (data_file)
        return at_error(error, AT_ERROR_INVALID, "%s keeps its data in another file (%s)", path,
                        data_file);
    JsonArray *extents = at_json_arr(data, "extents");
    for (unsigned i = 0; extents && i < json_array_get_length(extents); i++) {
        const char *name =
            at_json_str(json_array_get_object_element(extents, i), "filename", AT_CONFINED_FILE);
        if (strcmp(name, AT_CONFINED_FILE) != 0 && !g_str_has_prefix(name, "json:"))
            return at_error(error, AT_ERROR_INVALID, "%s keeps its data in another file (%s)", path,
                            name);
    }
    return true;
}

bool at_foreign_image_check(int file_fd, const char *name, const char *path, GError **error)
{
    enum { INFO_MS = 20000 };
    g_autofree char *program = at_find_program("qemu-img", "qemu-utils", error);
    if (!program)
        return false;
    const char *argv[] = {program, "info", "--output=json", name, NULL};
    struct at_confine confine = {.argv = argv, .file_fd = file_fd, .listen_fd = -1};
    g_autofree char *text = NULL;
    if (!at_confine_run(&confine, INFO_MS, NULL, &text, NULL, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    g_autoptr(JsonNode) info = at_json_parse(text, -1, error);
    if (!info)
        return false;
    if (!JSON_NODE_HOLDS_OBJECT(info))
        return at_error(error, AT_ERROR_PEER, "qemu-img info gave no object");
    return refuse_references(json_node_get_object(info), path, error);
}
