/* SPDX-License-Identifier: Apache-2.0 */
/* What json-glib lacks: parsing with limits, member access with defaults, canonical text. */
#include "base/json.h"

#include <string.h>

#include "base/error.h"
#include "base/json-internal.h"

/* Members in the whole tree; fewer than written means that a name stood twice in an object. */
static uint64_t count_members(JsonNode *node)
{
    uint64_t n = 0;
    if (JSON_NODE_HOLDS_OBJECT(node)) {
        JsonObjectIter iter;
        JsonNode *value;
        json_object_iter_init(&iter, json_node_get_object(node));
        while (json_object_iter_next(&iter, NULL, &value))
            n += 1 + count_members(value);
    } else if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *arr = json_node_get_array(node);
        for (unsigned i = 0; i < json_array_get_length(arr); i++)
            n += count_members(json_array_get_element(arr, i));
    }
    return n;
}

JsonNode *at_json_parse(const char *text, gssize len, GError **error)
{
    size_t n = len < 0 ? strlen(text) : (size_t)len;
    if (!g_utf8_validate(text, (gssize)n, NULL)) {
        at_error(error, AT_ERROR_INVALID, "JSON is not valid UTF-8");
        return NULL;
    }
    uint64_t members;
    if (!at_json_check_syntax(text, n, &members, error))
        return NULL;
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    g_autoptr(GError) local = NULL;
    if (!json_parser_load_from_data(parser, text, (gssize)n, &local)) {
        at_error(error, AT_ERROR_INVALID, "JSON: %s", local->message);
        return NULL;
    }
    g_autoptr(JsonNode) root = json_parser_steal_root(parser);
    if (!root) {
        at_error(error, AT_ERROR_INVALID, "JSON is empty");
        return NULL;
    }
    if (count_members(root) != members) {
        at_error(error, AT_ERROR_INVALID, "JSON: a member stands twice in one object");
        return NULL;
    }
    return g_steal_pointer(&root);
}

JsonNode *at_json_thaw(JsonNode *node)
{
    g_autofree char *text = at_json_text(node);
    g_autoptr(JsonParser) parser = json_parser_new();
    if (!json_parser_load_from_data(parser, text, -1, NULL))
        g_error("JSON that was generated does not parse");
    return json_parser_steal_root(parser);
}

static int compare_utf16(const void *a, const void *b)
{
    g_autofree gunichar2 *x = g_utf8_to_utf16(*(char *const *)a, -1, NULL, NULL, NULL);
    g_autofree gunichar2 *y = g_utf8_to_utf16(*(char *const *)b, -1, NULL, NULL, NULL);
    size_t i = 0;
    while (x[i] && x[i] == y[i])
        i++;
    return (int)x[i] - (int)y[i];
}

static bool put_canonical(GString *out, JsonNode *node, GError **error);

static bool put_object(GString *out, JsonObject *obj, GError **error)
{
    g_autoptr(GList) list = json_object_get_members(obj);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (GList *l = list; l; l = l->next)
        g_ptr_array_add(names, l->data);
    g_ptr_array_sort(names, compare_utf16);
    g_string_append_c(out, '{');
    for (unsigned i = 0; i < names->len; i++) {
        if (i > 0)
            g_string_append_c(out, ',');
        at_json_put_string(out, names->pdata[i]);
        g_string_append_c(out, ':');
        if (!put_canonical(out, json_object_get_member(obj, names->pdata[i]), error))
            return false;
    }
    g_string_append_c(out, '}');
    return true;
}

static bool put_value(GString *out, JsonNode *node, GError **error)
{
    const int64_t max = (INT64_C(1) << 53) - 1;
    GType type = json_node_get_value_type(node);
    if (type == G_TYPE_STRING) {
        at_json_put_string(out, json_node_get_string(node));
    } else if (type == G_TYPE_BOOLEAN) {
        g_string_append(out, json_node_get_boolean(node) ? "true" : "false");
    } else if (type == G_TYPE_INT64) {
        int64_t v = json_node_get_int(node);
        if (v > max || v < -max)
            return at_error(error, AT_ERROR_INVALID,
                            "canonical JSON: %" G_GINT64_FORMAT " is beyond 2^53", v);
        g_string_append_printf(out, "%" G_GINT64_FORMAT, v);
    } else {
        return at_error(error, AT_ERROR_INVALID,
                        "canonical JSON: only integer numbers are allowed");
    }
    return true;
}

static bool put_canonical(GString *out, JsonNode *node, GError **error)
{
    switch (json_node_get_node_type(node)) {
    case JSON_NODE_OBJECT:
        return put_object(out, json_node_get_object(node), error);
    case JSON_NODE_ARRAY: {
        JsonArray *arr = json_node_get_array(node);
        g_string_append_c(out, '[');
        for (unsigned i = 0; i < json_array_get_length(arr); i++) {
            if (i > 0)
                g_string_append_c(out, ',');
            if (!put_canonical(out, json_array_get_element(arr, i), error))
                return false;
        }
        g_string_append_c(out, ']');
        return true;
    }
    case JSON_NODE_NULL:
        g_string_append(out, "null");
        return true;
    default:
        return put_value(out, node, error);
    }
}

char *at_json_canonical(JsonNode *node, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    if (!put_canonical(out, node, error))
        return NULL;
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static JsonNode *member(JsonObject *obj, const char *name, JsonNodeType type)
{
    JsonNode *node = obj ? json_object_get_member(obj, name) : NULL;
    return node && json_node_get_node_type(node) == type ? node : NULL;
}

const char *at_json_str(JsonObject *obj, const char *name, const char *fallback)
{
    JsonNode *n = member(obj, name, JSON_NODE_VALUE);
    return n && json_node_get_value_type(n) == G_TYPE_STRING ? json_node_get_string(n) : fallback;
}

int64_t at_json_int(JsonObject *obj, const char *name, int64_t fallback)
{
    JsonNode *n = member(obj, name, JSON_NODE_VALUE);
    return n && json_node_get_value_type(n) == G_TYPE_INT64 ? json_node_get_int(n) : fallback;
}

double at_json_num(JsonObject *obj, const char *name, double fallback)
{
    JsonNode *n = member(obj, name, JSON_NODE_VALUE);
    if (n && json_node_get_value_type(n) == G_TYPE_INT64)
        return (double)json_node_get_int(n);
    return n && json_node_get_value_type(n) == G_TYPE_DOUBLE ? json_node_get_double(n) : fallback;
}

bool at_json_bool(JsonObject *obj, const char *name, bool fallback)
{
    JsonNode *n = member(obj, name, JSON_NODE_VALUE);
    return n && json_node_get_value_type(n) == G_TYPE_BOOLEAN ? json_node_get_boolean(n) : fallback;
}

JsonObject *at_json_obj(JsonObject *obj, const char *name)
{
    JsonNode *n = member(obj, name, JSON_NODE_OBJECT);
    return n ? json_node_get_object(n) : NULL;
}

JsonArray *at_json_arr(JsonObject *obj, const char *name)
{
    JsonNode *n = member(obj, name, JSON_NODE_ARRAY);
    return n ? json_node_get_array(n) : NULL;
}

void at_json_set_str(JsonObject *obj, const char *name, const char *value)
{
    if (value)
        json_object_set_string_member(obj, name, value);
    else
        json_object_set_null_member(obj, name);
}

JsonNode *at_json_take_obj(JsonObject *obj)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(node, obj);
    return node;
}

JsonNode *at_json_take_arr(JsonArray *arr)
{
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(node, arr);
    return node;
}
