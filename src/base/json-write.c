/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as text. Not json-glib's generator: that one writes 1e-08 as "1e-08.0", which no parser
 * takes back, and 0.1 as 0.10000000000000001. */
#include <math.h>
#include <string.h>

#include "base/json-internal.h"
#include "base/json.h"

void at_json_put_string(GString *out, const char *s)
{
    static const char letters[] = "btn?fr"; /* from U+0008 on; U+000B has none */
    g_autofree char *valid = g_utf8_validate(s, -1, NULL) ? NULL : g_utf8_make_valid(s, -1);
    g_string_append_c(out, '"');
    for (s = valid ? valid : s; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            g_string_append_c(g_string_append_c(out, '\\'), (char)c);
        else if (c >= '\b' && c <= '\r' && c != '\v')
            g_string_append_c(g_string_append_c(out, '\\'), letters[c - '\b']);
        else if (c < 0x20)
            g_string_append_printf(out, "\\u%04x", c);
        else
            g_string_append_c(out, (char)c);
    }
    g_string_append_c(out, '"');
}

/* The shortest of the forms that give the same number back. JSON has no infinity: null. */
static void put_double(GString *out, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    if (!isfinite(value)) {
        g_string_append(out, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        char format[8];
        g_snprintf(format, sizeof format, "%%.%dg", digits);
        g_ascii_formatd(text, sizeof text, format, value);
        if (g_ascii_strtod(text, NULL) == value)
            break;
    }
    g_string_append(out, text);
    if (!strpbrk(text, ".e"))
        g_string_append(out, ".0"); /* it stays a double when it is read again */
}

static void put_value(GString *out, JsonNode *node)
{
    GType type = json_node_get_value_type(node);
    if (type == G_TYPE_STRING)
        at_json_put_string(out, json_node_get_string(node));
    else if (type == G_TYPE_BOOLEAN)
        g_string_append(out, json_node_get_boolean(node) ? "true" : "false");
    else if (type == G_TYPE_DOUBLE)
        put_double(out, json_node_get_double(node));
    else
        g_string_append_printf(out, "%" G_GINT64_FORMAT, json_node_get_int(node));
}

/* A new line at @level, or nothing in compact text (@level < 0). */
static void put_line(GString *out, int level)
{
    if (level < 0)
        return;
    g_string_append_c(out, '\n');
    for (int i = 0; i < level; i++)
        g_string_append(out, "  ");
}

static void put_node(GString *out, JsonNode *node, int level);

static void put_object(GString *out, JsonObject *obj, int level)
{
    JsonObjectIter iter;
    const char *name;
    JsonNode *value;
    int inner = level < 0 ? level : level + 1;
    bool any = false;
    g_string_append_c(out, '{');
    json_object_iter_init_ordered(&iter, obj);
    while (json_object_iter_next_ordered(&iter, &name, &value)) {
        if (any)
            g_string_append_c(out, ',');
        any = true;
        put_line(out, inner);
        at_json_put_string(out, name);
        g_string_append(out, level < 0 ? ":" : " : ");
        put_node(out, value, inner);
    }
    if (any)
        put_line(out, level);
    g_string_append_c(out, '}');
}

static void put_array(GString *out, JsonArray *arr, int level)
{
    unsigned n = json_array_get_length(arr);
    int inner = level < 0 ? level : level + 1;
    g_string_append_c(out, '[');
    for (unsigned i = 0; i < n; i++) {
        if (i > 0)
            g_string_append_c(out, ',');
        put_line(out, inner);
        put_node(out, json_array_get_element(arr, i), inner);
    }
    if (n > 0)
        put_line(out, level);
    g_string_append_c(out, ']');
}

static void put_node(GString *out, JsonNode *node, int level)
{
    switch (json_node_get_node_type(node)) {
    case JSON_NODE_OBJECT:
        put_object(out, json_node_get_object(node), level);
        break;
    case JSON_NODE_ARRAY:
        put_array(out, json_node_get_array(node), level);
        break;
    case JSON_NODE_NULL:
        g_string_append(out, "null");
        break;
    default:
        put_value(out, node);
    }
}

char *at_json_text(JsonNode *node)
{
    GString *out = g_string_new(NULL);
    put_node(out, node, -1);
    return g_string_free(out, FALSE);
}

char *at_json_pretty(JsonNode *node)
{
    GString *out = g_string_new(NULL);
    put_node(out, node, 0);
    return g_string_free(out, FALSE);
}
