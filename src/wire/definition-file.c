/* SPDX-License-Identifier: Apache-2.0 */
/* A definition from a YAML file, with the files that it names. */
#include "wire/definition-file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "wire/yaml.h"

enum { MAX_FILE = 1 << 20, MAX_USER_DATA = 64 << 10 };

/* Reads at most @max + 1 bytes, so that the caller sees what is too long. */
static GString *read_fd(int fd, size_t max, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    char buf[16384];
    while (text->len <= max) {
        ssize_t n = read(fd, buf, MIN(sizeof(buf), max + 1 - text->len));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            g_set_error_literal(error, AT_ERROR, AT_ERROR_IO, g_strerror(errno));
            return NULL;
        }
        if (n == 0)
            break;
        g_string_append_len(text, buf, n);
    }
    return g_steal_pointer(&text);
}

static GString *read_file(const char *path, size_t max, GError **error)
{
    at_autofd fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int code = errno == ENOENT   ? AT_ERROR_NOT_FOUND
                   : errno == EACCES ? AT_ERROR_DENIED
                                     : AT_ERROR_IO;
        g_set_error_literal(error, AT_ERROR, code, g_strerror(errno));
        return NULL;
    }
    if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode)) {
        at_error(error, AT_ERROR_INVALID, "is not a file");
        return NULL;
    }
    if (S_ISFIFO(st.st_mode)) /* such as <(...) of a shell: wait for its writer */
        fcntl(fd, F_SETFL, 0);
    return read_fd(fd, max, error);
}

static bool is_inline(const char *text)
{
    return g_str_has_prefix(text, "#cloud-config") || g_str_has_prefix(text, "#!");
}

/* The message gets the place that @pointer has in the file in front. */
static void place_error(const struct at_yaml *yaml, const char *pointer, GError **error)
{
    g_autofree char *place = at_yaml_place(yaml, pointer);
    g_prefix_error(error, "%s: ", place);
}

static bool load_user_data(const struct at_yaml *yaml, const char *dir, JsonObject *init,
                           unsigned index, GError **error)
{
    const char *name = at_json_str(init, "user_data", NULL);
    if (!name || *name == '\0' || is_inline(name))
        return true; /* what is wrong with it, the definition says */
    g_autoptr(GString) text = NULL;
    g_autoptr(GError) inner = NULL;
    g_autofree char *pointer = g_strdup_printf("/workstations/%u/cloud_init/user_data", index);
    bool as_it_is = g_path_is_absolute(name) || strcmp(dir, ".") == 0;
    g_autofree char *path = as_it_is ? g_strdup(name) : g_build_filename(dir, name, NULL);
    if (strchr(name, '\n')) {
        at_error(error, AT_ERROR_INVALID,
                 "text in the file itself must begin with #cloud-config or #!");
    } else if (!(text = read_file(path, MAX_USER_DATA, &inner))) {
        at_error(error, AT_ERROR_INVALID, "cannot read the file %s: %s", path, inner->message);
    } else if (!g_utf8_validate(text->str, (gssize)text->len, NULL)) {
        at_error(error, AT_ERROR_INVALID, "%s is not UTF-8 text", path);
    } else if (text->len == 0) {
        at_error(error, AT_ERROR_INVALID, "the file %s is empty", path);
    } else {
        json_object_set_string_member(init, "user_data", text->str);
        return true;
    }
    g_prefix_error(error, "workstations[%u].cloud_init.user_data: ", index);
    place_error(yaml, pointer, error);
    return false;
}

static bool load_all_user_data(const struct at_yaml *yaml, const char *dir, GError **error)
{
    JsonNode *root = at_yaml_root(yaml);
    JsonArray *list = JSON_NODE_HOLDS_OBJECT(root)
                          ? at_json_arr(json_node_get_object(root), "workstations")
                          : NULL;
    for (unsigned i = 0; list && i < json_array_get_length(list); i++) {
        JsonNode *ws = json_array_get_element(list, i);
        JsonObject *init =
            JSON_NODE_HOLDS_OBJECT(ws) ? at_json_obj(json_node_get_object(ws), "cloud_init") : NULL;
        if (init && !load_user_data(yaml, dir, init, i, error))
            return false;
    }
    return true;
}

struct at_definition *at_definition_load(const char *path, struct at_yaml **ret_yaml,
                                         GError **error)
{
    bool from_stdin = strcmp(path, "-") == 0;
    g_autofree char *dir = from_stdin ? g_strdup(".") : g_path_get_dirname(path);
    g_autofree char *pointer = NULL;
    g_autoptr(GString) text =
        from_stdin ? read_fd(STDIN_FILENO, MAX_FILE, error) : read_file(path, MAX_FILE, error);
    if (!text) {
        g_prefix_error(error, "%s: ", path);
        return NULL;
    }
    g_autoptr(at_yaml) yaml =
        at_yaml_parse(from_stdin ? "(standard input)" : path, text->str, text->len, error);
    if (!yaml || !load_all_user_data(yaml, dir, error))
        return NULL;
    struct at_definition *def = at_definition_parse(at_yaml_root(yaml), &pointer, error);
    if (!def)
        place_error(yaml, pointer, error);
    else if (ret_yaml)
        *ret_yaml = g_steal_pointer(&yaml);
    return def;
}
