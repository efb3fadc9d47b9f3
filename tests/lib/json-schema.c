/* SPDX-License-Identifier: Apache-2.0 */
/* A checker for the part of JSON Schema that our API description uses. */
#include "lib/json-schema.h"

#include <string.h>

#include "base/json.h"

struct check {
    JsonNode *document;
    GString *complaints; /* NULL: do not tell */
};

static bool check(const struct check *c, JsonNode *schema, JsonNode *value, const char *where);

static bool complain(const struct check *c, const char *where, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
static bool complain(const struct check *c, const char *where, const char *fmt, ...)
{
    if (c->complaints) {
        va_list ap;
        va_start(ap, fmt);
        g_string_append_printf(c->complaints, "%s: ", *where ? where : "/");
        g_string_append_vprintf(c->complaints, fmt, ap);
        g_string_append_c(c->complaints, '\n');
        va_end(ap);
    }
    return false;
}

JsonNode *at_schema_resolve(JsonNode *document, const char *reference)
{
    if (!g_str_has_prefix(reference, "#/"))
        return NULL;
    JsonNode *node = document;
    g_auto(GStrv) parts = g_strsplit(reference + 2, "/", -1);
    for (char **part = parts; *part && node; part++) {
        g_autoptr(GString) name = g_string_new(*part);
        g_string_replace(name, "~1", "/", 0);
        g_string_replace(name, "~0", "~", 0);
        node = JSON_NODE_HOLDS_OBJECT(node)
                   ? json_object_get_member(json_node_get_object(node), name->str)
                   : NULL;
    }
    return node;
}

static bool has_type(JsonNode *value, const char *type)
{
    GType held = JSON_NODE_HOLDS_VALUE(value) ? json_node_get_value_type(value) : G_TYPE_NONE;
    if (strcmp(type, "null") == 0)
        return JSON_NODE_HOLDS_NULL(value);
    if (strcmp(type, "object") == 0)
        return JSON_NODE_HOLDS_OBJECT(value);
    if (strcmp(type, "array") == 0)
        return JSON_NODE_HOLDS_ARRAY(value);
    if (strcmp(type, "string") == 0)
        return held == G_TYPE_STRING;
    if (strcmp(type, "boolean") == 0)
        return held == G_TYPE_BOOLEAN;
    if (strcmp(type, "integer") == 0)
        return held == G_TYPE_INT64;
    return strcmp(type, "number") == 0 && (held == G_TYPE_INT64 || held == G_TYPE_DOUBLE);
}

static bool check_type(const struct check *c, JsonNode *type, JsonNode *value, const char *where)
{
    if (!JSON_NODE_HOLDS_ARRAY(type))
        return has_type(value, json_node_get_string(type)) ||
               complain(c, where, "is not of type %s", json_node_get_string(type));
    JsonArray *types = json_node_get_array(type);
    for (unsigned i = 0; i < json_array_get_length(types); i++) {
        if (has_type(value, json_array_get_string_element(types, i)))
            return true;
    }
    return complain(c, where, "is of none of the types");
}

static bool check_enum(const struct check *c, JsonNode *allowed, JsonNode *value, const char *where)
{
    JsonArray *list = json_node_get_array(allowed);
    for (unsigned i = 0; i < json_array_get_length(list); i++) {
        if (json_node_equal(json_array_get_element(list, i), value))
            return true;
    }
    g_autofree char *text = at_json_text(value);
    return complain(c, where, "%s is not one of the values", text);
}

static bool check_text(const struct check *c, JsonObject *schema, JsonNode *value,
                       const char *where)
{
    const char *text = json_node_get_string(value);
    const char *pattern = at_json_str(schema, "pattern", NULL);
    if (pattern && !g_regex_match_simple(pattern, text, 0, 0))
        return complain(c, where, "\"%s\" does not match %s", text, pattern);
    if (g_utf8_strlen(text, -1) > at_json_int(schema, "maxLength", G_MAXLONG))
        return complain(c, where, "is too long");
    return true;
}

static bool check_number(const struct check *c, JsonObject *schema, JsonNode *value,
                         const char *where)
{
    double n = json_node_get_double(value);
    if (n < at_json_num(schema, "minimum", -G_MAXDOUBLE) ||
        n > at_json_num(schema, "maximum", G_MAXDOUBLE))
        return complain(c, where, "%g is out of range", n);
    return true;
}

static bool check_members(const struct check *c, JsonObject *schema, JsonObject *value,
                          const char *where)
{
    bool ok = true;
    JsonArray *required = at_json_arr(schema, "required");
    JsonObject *properties = at_json_obj(schema, "properties");
    JsonNode *others = json_object_get_member(schema, "additionalProperties");
    for (unsigned i = 0; required && i < json_array_get_length(required); i++) {
        const char *name = json_array_get_string_element(required, i);
        if (!json_object_has_member(value, name))
            ok = complain(c, where, "%s is missing", name);
    }
    g_autoptr(GList) names = json_object_get_members(value);
    for (GList *l = names; l; l = l->next) {
        g_autofree char *below = g_strconcat(where, "/", l->data, NULL);
        JsonNode *member = json_object_get_member(value, l->data);
        JsonNode *own = properties ? json_object_get_member(properties, l->data) : NULL;
        if (own)
            ok &= check(c, own, member, below);
        else if (others && JSON_NODE_HOLDS_OBJECT(others))
            ok &= check(c, others, member, below);
        else if (others && !json_node_get_boolean(others))
            ok = complain(c, below, "is not allowed");
    }
    return ok;
}

static bool check_items(const struct check *c, JsonObject *schema, JsonArray *value,
                        const char *where)
{
    JsonNode *items = json_object_get_member(schema, "items");
    bool ok = true;
    unsigned n = json_array_get_length(value);
    if (n < at_json_int(schema, "minItems", 0) || n > at_json_int(schema, "maxItems", G_MAXUINT))
        ok = complain(c, where, "%u items are too many or too few", n);
    for (unsigned i = 0; items && i < n; i++) {
        g_autofree char *below = g_strdup_printf("%s/%u", where, i);
        ok &= check(c, items, json_array_get_element(value, i), below);
    }
    return ok;
}

static bool check_choice(const struct check *c, JsonNode *choices, bool exactly_one,
                         JsonNode *value, const char *where)
{
    const struct check quiet = {c->document, NULL};
    JsonArray *list = json_node_get_array(choices);
    unsigned matching = 0;
    for (unsigned i = 0; i < json_array_get_length(list); i++)
        matching += check(&quiet, json_array_get_element(list, i), value, where);
    if (matching == 1 || (matching > 1 && !exactly_one))
        return true;
    return complain(c, where, "fits %u of the choices", matching);
}

static bool knows(const char *keyword)
{
    static const char *const known[] = {"$ref",        "type",
                                        "enum",        "pattern",
                                        "minimum",     "maximum",
                                        "maxLength",   "minItems",
                                        "maxItems",    "items",
                                        "oneOf",       "anyOf",
                                        "required",    "additionalProperties",
                                        "description", "title",
                                        "default",     "format",
                                        "examples",    "properties",
                                        NULL};
    return g_strv_contains(known, keyword);
}

static bool check(const struct check *c, JsonNode *node, JsonNode *value, const char *where)
{
    JsonObject *schema = json_node_get_object(node);
    const char *reference = at_json_str(schema, "$ref", NULL);
    bool ok = true;
    if (reference) {
        JsonNode *target = at_schema_resolve(c->document, reference);
        if (!target)
            return complain(c, where, "%s leads nowhere", reference);
        return check(c, target, value, where);
    }
    g_autoptr(GList) keywords = json_object_get_members(schema);
    for (GList *l = keywords; l; l = l->next) {
        JsonNode *keyword = json_object_get_member(schema, l->data);
        if (!knows(l->data))
            ok = complain(c, where, "the schema uses %s, which is not checked", (char *)l->data);
        else if (strcmp(l->data, "type") == 0)
            ok &= check_type(c, keyword, value, where);
        else if (strcmp(l->data, "enum") == 0)
            ok &= check_enum(c, keyword, value, where);
        else if (strcmp(l->data, "oneOf") == 0 || strcmp(l->data, "anyOf") == 0)
            ok &= check_choice(c, keyword, strcmp(l->data, "oneOf") == 0, value, where);
    }
    if (JSON_NODE_HOLDS_OBJECT(value))
        return ok & check_members(c, schema, json_node_get_object(value), where);
    if (JSON_NODE_HOLDS_ARRAY(value))
        return ok & check_items(c, schema, json_node_get_array(value), where);
    if (has_type(value, "string"))
        return ok & check_text(c, schema, value, where);
    return has_type(value, "number") ? ok & check_number(c, schema, value, where) : ok;
}

bool at_schema_check(JsonNode *document, JsonNode *schema, JsonNode *value, GString *complaints)
{
    const struct check c = {document, complaints};
    return check(&c, schema, value, "");
}
