/* SPDX-License-Identifier: Apache-2.0 */
/* Strict reading of queries and bodies: what a route does not know is an error that names what it
 * knows, and a value of the wrong type is an error that says where. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/api-internal.h"
#include "base/error.h"
#include "base/json.h"

static const struct at_param *find(const struct at_param *params, const char *name)
{
    for (; params && params->name; params++) {
        if (strcmp(params->name, name) == 0)
            return params;
    }
    return NULL;
}

/* "a, b and c", or "none". */
static char *names_of(const struct at_param *params)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (; params && params->name; params++)
        g_string_append_printf(out, "%s%s", out->len == 0 ? "" : ", ", params->name);
    return out->len == 0 ? g_strdup("none") : g_string_free(g_steal_pointer(&out), FALSE);
}

static bool check_length(const struct at_param *p, const char *text, GError **error)
{
    int64_t max = p->max ? p->max : 4096;
    int64_t len = (int64_t)strlen(text);
    if (len >= p->min && len <= max)
        return true;
    return at_error(error, AT_ERROR_INVALID,
                    "%s: %" PRId64 " bytes long, allowed are %" PRId64 " to %" PRId64, p->name, len,
                    p->min, max);
}

static bool check_range(const struct at_param *p, double value, GError **error)
{
    if (value >= (double)p->min && value <= (double)p->max)
        return true;
    return at_error(error, AT_ERROR_INVALID,
                    "%s: %g is out of range, allowed are %" PRId64 " to %" PRId64, p->name, value,
                    p->min, p->max);
}

/* ---- queries ---- */

static bool check_query_value(const struct at_param *p, const char *text, GError **error)
{
    char *end;
    switch (p->type) {
    case AT_PARAM_BOOL:
        if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
            return true;
        return at_error(error, AT_ERROR_INVALID, "query parameter %s: true or false, found \"%s\"",
                        p->name, text);
    case AT_PARAM_INT: {
        errno = 0;
        unsigned long long value = strtoull(text, &end, 10);
        if (!g_ascii_isdigit(*text) || *end || errno || value > (unsigned long long)p->max ||
            value < (unsigned long long)p->min)
            return at_error(error, AT_ERROR_INVALID,
                            "query parameter %s: a number from %" PRId64 " to %" PRId64
                            ", found \"%s\"",
                            p->name, p->min, p->max, text);
        return true;
    }
    default:
        return check_length(p, text, error);
    }
}

/* One "name=value"; both percent-decoded. */
static bool add_query_pair(struct at_request *r, const char *pair, GError **error)
{
    const char *eq = strchr(pair, '=');
    g_autofree char *raw_name = eq ? g_strndup(pair, (size_t)(eq - pair)) : g_strdup(pair);
    g_autofree char *raw_value = g_strdup(eq ? eq + 1 : "");
    g_strdelimit(raw_value, "+", ' ');
    g_autofree char *name = g_uri_unescape_string(raw_name, NULL);
    g_autofree char *value = g_uri_unescape_string(raw_value, NULL);
    if (!name || !value || !g_utf8_validate(name, -1, NULL) || !g_utf8_validate(value, -1, NULL))
        return at_error(error, AT_ERROR_INVALID, "the query is not valid percent-encoded UTF-8");
    const struct at_param *p = find(r->route->query, name);
    if (!p) {
        g_autofree char *allowed = names_of(r->route->query);
        return at_error(error, AT_ERROR_INVALID, "unknown query parameter \"%s\"; allowed: %s",
                        name, allowed);
    }
    if (g_hash_table_contains(r->query, name))
        return at_error(error, AT_ERROR_INVALID, "query parameter %s is given twice", name);
    if (!check_query_value(p, value, error))
        return false;
    g_hash_table_insert(r->query, g_steal_pointer(&name), g_steal_pointer(&value));
    return true;
}

static bool parse_query(struct at_request *r, GError **error)
{
    const char *text = g_uri_get_query(soup_server_message_get_uri(r->msg));
    r->query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_auto(GStrv) pairs = g_strsplit(text ? text : "", "&", -1);
    for (char **pair = pairs; *pair; pair++) {
        if (**pair && !add_query_pair(r, *pair, error))
            return false;
    }
    for (const struct at_param *p = r->route->query; p && p->name; p++) {
        if (p->required && !g_hash_table_contains(r->query, p->name))
            return at_error(error, AT_ERROR_INVALID, "query parameter %s is missing", p->name);
    }
    return true;
}

const char *at_request_query(struct at_request *r, const char *name)
{
    return g_hash_table_lookup(r->query, name);
}

bool at_request_query_bool(struct at_request *r, const char *name, bool fallback)
{
    const char *text = at_request_query(r, name);
    return text ? strcmp(text, "true") == 0 : fallback;
}

int64_t at_request_query_int(struct at_request *r, const char *name, int64_t fallback)
{
    const char *text = at_request_query(r, name);
    return text ? (int64_t)g_ascii_strtoull(text, NULL, 10) : fallback;
}

/* ---- bodies ---- */

static const char *const type_names[] = {
    [AT_PARAM_STRING] = "a string",           [AT_PARAM_BOOL] = "true or false",
    [AT_PARAM_INT] = "a whole number",        [AT_PARAM_NUMBER] = "a number",
    [AT_PARAM_STRINGS] = "a list of strings", [AT_PARAM_OBJECT] = "an object",
};

static bool all_strings(JsonArray *array)
{
    for (unsigned i = 0; i < json_array_get_length(array); i++) {
        JsonNode *node = json_array_get_element(array, i);
        if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING)
            return false;
    }
    return true;
}

static bool has_type(JsonNode *node, enum at_param_type type)
{
    GType value = JSON_NODE_HOLDS_VALUE(node) ? json_node_get_value_type(node) : G_TYPE_NONE;
    switch (type) {
    case AT_PARAM_STRING:
        return value == G_TYPE_STRING;
    case AT_PARAM_BOOL:
        return value == G_TYPE_BOOLEAN;
    case AT_PARAM_INT:
        return value == G_TYPE_INT64;
    case AT_PARAM_NUMBER:
        return value == G_TYPE_INT64 || value == G_TYPE_DOUBLE;
    case AT_PARAM_STRINGS:
        return JSON_NODE_HOLDS_ARRAY(node) && all_strings(json_node_get_array(node));
    case AT_PARAM_OBJECT:
        return JSON_NODE_HOLDS_OBJECT(node);
    }
    return false;
}

static bool check_member(struct at_request *r, const char *name, JsonNode *node, GError **error)
{
    const struct at_param *p = find(r->route->body, name);
    g_free(r->pointer);
    r->pointer = g_strconcat("/", name, NULL);
    if (!p) {
        g_autofree char *allowed = names_of(r->route->body);
        return at_error(error, AT_ERROR_INVALID, "unknown member \"%s\"; allowed: %s", name,
                        allowed);
    }
    if (JSON_NODE_HOLDS_NULL(node) && !p->required)
        return true; /* the same as leaving it out */
    if (!has_type(node, p->type))
        return at_error(error, AT_ERROR_INVALID, "%s: must be %s", name, type_names[p->type]);
    if (p->type == AT_PARAM_STRING)
        return check_length(p, json_node_get_string(node), error);
    if (p->type == AT_PARAM_INT || p->type == AT_PARAM_NUMBER)
        return check_range(p, json_node_get_double(node), error);
    return true;
}

static bool check_members(struct at_request *r, JsonObject *obj, GError **error)
{
    g_autoptr(GList) names = json_object_get_members(obj);
    for (GList *l = names; l; l = l->next) {
        if (!check_member(r, l->data, json_object_get_member(obj, l->data), error))
            return false;
    }
    for (const struct at_param *p = r->route->body; p->name; p++) {
        if (p->required && !json_object_has_member(obj, p->name)) {
            g_free(r->pointer);
            r->pointer = g_strconcat("/", p->name, NULL);
            return at_error(error, AT_ERROR_INVALID, "%s is missing", p->name);
        }
    }
    g_clear_pointer(&r->pointer, g_free);
    return true;
}

static bool check_content_type(struct at_request *r, GError **error)
{
    SoupMessageHeaders *headers = soup_server_message_get_request_headers(r->msg);
    g_autoptr(GHashTable) params = NULL;
    const char *type = soup_message_headers_get_content_type(headers, &params);
    const char *charset = params ? g_hash_table_lookup(params, "charset") : NULL;
    if (!type || g_ascii_strcasecmp(type, "application/json") != 0)
        return at_error(error, AT_ERROR_INVALID, "Content-Type must be application/json, found %s",
                        type ? type : "none");
    if (charset && g_ascii_strcasecmp(charset, "utf-8") != 0)
        return at_error(error, AT_ERROR_INVALID, "the charset must be utf-8, found %s", charset);
    return true;
}

static bool parse_body(struct at_request *r, GError **error)
{
    bool takes_body = r->route->body || r->route->definition;
    if (r->raw->len == 0 && r->route->definition)
        return at_error(error, AT_ERROR_INVALID, "the body must be a VDC definition, found none");
    if (r->raw->len == 0) {
        r->body = at_json_take_obj(json_object_new());
        return !r->route->body || check_members(r, json_node_get_object(r->body), error);
    }
    if (!takes_body)
        return at_error(error, AT_ERROR_INVALID, "%s %s takes no body", r->route->method,
                        r->route->path);
    if (!check_content_type(r, error))
        return false;
    if (memchr(r->raw->data, '\0', r->raw->len))
        return at_error(error, AT_ERROR_INVALID, "JSON contains a NUL byte");
    r->body = at_json_parse((const char *)r->raw->data, (gssize)r->raw->len, error);
    if (!r->body)
        return false;
    if (!JSON_NODE_HOLDS_OBJECT(r->body))
        return at_error(error, AT_ERROR_INVALID, "the body must be a JSON object");
    return r->route->definition || check_members(r, json_node_get_object(r->body), error);
}

bool at_request_parse(struct at_request *r, GError **error)
{
    return parse_query(r, error) && parse_body(r, error);
}

JsonObject *at_request_object(struct at_request *r)
{
    return json_node_get_object(r->body);
}

const char **at_request_strings(struct at_request *r, const char *name)
{
    JsonArray *array = at_json_arr(at_request_object(r), name);
    if (!array)
        return NULL;
    unsigned n = json_array_get_length(array);
    const char **list = g_new0(const char *, n + 1);
    for (unsigned i = 0; i < n; i++)
        list[i] = json_array_get_string_element(array, i);
    return list;
}
