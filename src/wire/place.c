/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a JSON document strictly, with the place, what was found and what is allowed. */
#include "wire/place.h"

#include <string.h>

#include "base/error.h"
#include "wire/definition.h"
#include "wire/scalar.h"

static void put_pointer(GString *out, const struct at_place *place)
{
    if (!place)
        return;
    put_pointer(out, place->up);
    g_string_append_c(out, '/');
    if (!place->key) {
        g_string_append_printf(out, "%u", place->index);
        return;
    }
    for (const char *p = place->key; *p; p++) {
        if (*p == '~')
            g_string_append(out, "~0");
        else if (*p == '/')
            g_string_append(out, "~1");
        else
            g_string_append_c(out, *p);
    }
}

static void put_path(GString *out, const struct at_place *place)
{
    if (!place)
        return;
    put_path(out, place->up);
    if (!place->key)
        g_string_append_printf(out, "[%u]", place->index);
    else
        g_string_append_printf(out, "%s%s", place->up ? "." : "", place->key);
}

static bool fail_with(struct at_check *check, const struct at_place *place, bool on_key,
                      const char *text)
{
    if (check->ret_pointer) {
        GString *pointer = g_string_new(NULL);
        put_pointer(pointer, place);
        if (on_key)
            g_string_append_c(pointer, '#');
        *check->ret_pointer = g_string_free(pointer, FALSE);
    }
    g_autoptr(GString) path = g_string_new(NULL);
    put_path(path, on_key ? place->up : place);
    if (path->len > 0)
        return at_error(check->error, AT_ERROR_INVALID, "%s: %s", path->str, text);
    return at_error(check->error, AT_ERROR_INVALID, "%s", text);
}

bool at_place_fail(struct at_check *check, const struct at_place *place, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return fail_with(check, place, false, text);
}

bool at_place_take(struct at_check *check, const struct at_place *place, GError *inner)
{
    fail_with(check, place, false, inner->message);
    g_error_free(inner);
    return false;
}

char *at_found_text(JsonNode *node)
{
    switch (json_node_get_node_type(node)) {
    case JSON_NODE_OBJECT:
        return g_strdup("a mapping");
    case JSON_NODE_ARRAY:
        return g_strdup("a list");
    case JSON_NODE_NULL:
        return g_strdup("nothing");
    default:
        break;
    }
    GType type = json_node_get_value_type(node);
    if (type == G_TYPE_BOOLEAN)
        return g_strdup(json_node_get_boolean(node) ? "true" : "false");
    if (type == G_TYPE_INT64)
        return g_strdup_printf("%" G_GINT64_FORMAT, json_node_get_int(node));
    if (type == G_TYPE_DOUBLE)
        return g_strdup_printf("%g", json_node_get_double(node));
    const char *text = json_node_get_string(node);
    if (g_utf8_strlen(text, -1) <= 60)
        return g_strdup_printf("\"%s\"", text);
    g_autofree char *head = g_utf8_substring(text, 0, 57);
    return g_strdup_printf("\"%s...\"", head);
}

static bool fail_found(struct at_check *check, const struct at_place *place, JsonNode *node,
                       const char *allowed)
{
    g_autofree char *found = at_found_text(node);
    return at_place_fail(check, place, "found %s, allowed %s", found, allowed);
}

bool at_read_object(struct at_check *check, const struct at_place *place, JsonNode *node,
                    const char *const *allowed, JsonObject **ret_obj)
{
    g_autofree char *list = g_strjoinv(", ", (char **)allowed);
    if (!JSON_NODE_HOLDS_OBJECT(node)) {
        g_autofree char *text = g_strdup_printf("is a mapping with the keys %s", list);
        return fail_found(check, place, node, text);
    }
    JsonObject *obj = json_node_get_object(node);
    JsonObjectIter iter;
    const char *name;
    json_object_iter_init_ordered(&iter, obj);
    while (json_object_iter_next_ordered(&iter, &name, NULL)) {
        if (g_strv_contains(allowed, name))
            continue;
        const char *near = at_nearest_word(name, allowed);
        g_autofree char *text =
            near ? g_strdup_printf("unknown key \"%s\", did you mean \"%s\"? Allowed are %s", name,
                                   near, list)
                 : g_strdup_printf("unknown key \"%s\", allowed are %s", name, list);
        return fail_with(check, AT_KEY(place, name), true, text);
    }
    *ret_obj = obj;
    return true;
}

static bool find(struct at_check *check, const struct at_place *place, JsonObject *obj,
                 const char *name, bool required, JsonNode **ret)
{
    *ret = json_object_get_member(obj, name);
    if (!*ret && required)
        return at_place_fail(check, place, "%s is missing", name);
    return true;
}

static bool is_type(JsonNode *node, GType type)
{
    return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type;
}

bool at_read_str(struct at_check *check, const struct at_place *place, JsonObject *obj,
                 const char *name, bool required, const char **ret)
{
    JsonNode *node;
    if (!find(check, place, obj, name, required, &node))
        return false;
    if (!node)
        return true;
    if (!is_type(node, G_TYPE_STRING))
        return fail_found(check, AT_KEY(place, name), node, "is text (put it in quotes)");
    if (*json_node_get_string(node) == '\0')
        return fail_found(check, AT_KEY(place, name), node, "is text that is not empty");
    *ret = json_node_get_string(node);
    return true;
}

bool at_read_name(struct at_check *check, const struct at_place *place, JsonObject *obj,
                  const char *name, const char *what, bool required, const char **ret)
{
    const char *value = NULL;
    GError *inner = NULL;
    if (!at_read_str(check, place, obj, name, required, &value))
        return false;
    if (!value)
        return true;
    if (!at_name_check(value, what, &inner))
        return at_place_take(check, AT_KEY(place, name), inner);
    *ret = value;
    return true;
}

bool at_read_choice(struct at_check *check, const struct at_place *place, JsonObject *obj,
                    const char *name, const char *const *allowed, const char **ret)
{
    JsonNode *node = json_object_get_member(obj, name);
    if (!node)
        return true;
    if (is_type(node, G_TYPE_STRING) && g_strv_contains(allowed, json_node_get_string(node))) {
        *ret = json_node_get_string(node);
        return true;
    }
    g_autofree char *list = g_strjoinv(", ", (char **)allowed);
    g_autofree char *text = g_strdup_printf("are %s", list);
    return fail_found(check, AT_KEY(place, name), node, text);
}

bool at_read_bool(struct at_check *check, const struct at_place *place, JsonObject *obj,
                  const char *name, bool *ret)
{
    JsonNode *node = json_object_get_member(obj, name);
    if (!node)
        return true;
    if (!is_type(node, G_TYPE_BOOLEAN))
        return fail_found(check, AT_KEY(place, name), node, "are true and false");
    *ret = json_node_get_boolean(node);
    return true;
}

bool at_read_int(struct at_check *check, const struct at_place *place, JsonObject *obj,
                 const char *name, bool required, int64_t min, int64_t max, int64_t *ret)
{
    JsonNode *node;
    if (!find(check, place, obj, name, required, &node))
        return false;
    if (!node)
        return true;
    int64_t value = is_type(node, G_TYPE_INT64) ? json_node_get_int(node) : min - 1;
    if (value < min || value > max) {
        g_autofree char *text = g_strdup_printf(
            "are whole numbers from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, min, max);
        return fail_found(check, AT_KEY(place, name), node, text);
    }
    *ret = value;
    return true;
}

bool at_read_size(struct at_check *check, const struct at_place *place, JsonObject *obj,
                  const char *name, uint64_t min, uint64_t max, uint64_t *ret)
{
    const struct at_place *here = AT_KEY(place, name);
    JsonNode *node = json_object_get_member(obj, name);
    uint64_t bytes = 0;
    if (!node)
        return true;
    bool good = is_type(node, G_TYPE_INT64) && json_node_get_int(node) >= 0;
    if (good)
        bytes = (uint64_t)json_node_get_int(node);
    else if (is_type(node, G_TYPE_STRING))
        good = at_size_parse(json_node_get_string(node), &bytes, NULL);
    if (!good)
        return fail_found(check, here, node, "are sizes such as 512 MiB, 1 GiB, 2 TiB");
    if (bytes < min || bytes > max || bytes % (1 << 20) != 0) {
        g_autofree char *low = at_size_format(min), *high = at_size_format(max);
        g_autofree char *text = g_strdup_printf("are whole MiB from %s to %s", low, high);
        return fail_found(check, here, node, text);
    }
    *ret = bytes;
    return true;
}

bool at_read_seconds(struct at_check *check, const struct at_place *place, JsonObject *obj,
                     const char *name, unsigned min, unsigned max, unsigned *ret)
{
    JsonNode *node = json_object_get_member(obj, name);
    unsigned seconds = 0;
    if (!node)
        return true;
    bool good = false;
    if (is_type(node, G_TYPE_STRING)) {
        good = at_duration_parse(json_node_get_string(node), &seconds);
    } else if (is_type(node, G_TYPE_INT64)) {
        int64_t value = json_node_get_int(node);
        good = value >= min && value <= max;
        seconds = good ? (unsigned)value : 0;
    }
    if (!good || seconds < min || seconds > max) {
        g_autofree char *low = at_duration_format(min), *high = at_duration_format(max);
        g_autofree char *text =
            g_strdup_printf("are durations such as 10s or 2m, from %s to %s", low, high);
        return fail_found(check, AT_KEY(place, name), node, text);
    }
    *ret = seconds;
    return true;
}

bool at_read_list(struct at_check *check, const struct at_place *place, JsonObject *obj,
                  const char *name, unsigned max, JsonArray **ret)
{
    JsonNode *node = json_object_get_member(obj, name);
    *ret = NULL;
    if (!node)
        return true;
    if (!JSON_NODE_HOLDS_ARRAY(node))
        return fail_found(check, AT_KEY(place, name), node, "is a list");
    *ret = json_node_get_array(node);
    unsigned n = json_array_get_length(*ret);
    if (n > max)
        return at_place_fail(check, AT_KEY(place, name), "found %u entries, allowed are at most %u",
                             n, max);
    return true;
}
