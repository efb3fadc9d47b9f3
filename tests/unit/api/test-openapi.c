/* SPDX-License-Identifier: Apache-2.0 */
/* The API description against the API: the same routes both ways, the same parameters and bodies,
 * and answers that are as their schemas say. */
#include <string.h>

#include "api/api-internal.h"
#include "base/error.h"
#include "base/json.h"
#include "client.h"
#include "double.h"
#include "lib/at-test.h"
#include "lib/json-schema.h"

static JsonNode *description(void)
{
    GError *error = NULL;
    JsonNode *node = at_json_parse(at_api_openapi(), -1, &error);
    g_assert_no_error(error);
    return node;
}

static JsonObject *object_at(JsonNode *doc, const char *reference)
{
    JsonNode *node = at_schema_resolve(doc, reference);
    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static char *escape(const char *path)
{
    g_autoptr(GString) out = g_string_new(path);
    g_string_replace(out, "~", "~0", 0);
    g_string_replace(out, "/", "~1", 0);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static JsonObject *operation_of(JsonNode *doc, const struct at_route *route)
{
    g_autofree char *path = escape(route->path);
    g_autofree char *method = g_ascii_strdown(route->method, -1);
    g_autofree char *reference = g_strdup_printf("#/paths/%s/%s", path, method);
    return object_at(doc, reference);
}

/* ---- the same routes ---- */

static void every_route_is_described(void)
{
    g_autoptr(JsonNode) doc = description();
    for (unsigned i = 0; i < at_n_routes; i++) {
        g_test_message("%s %s", at_routes[i].method, at_routes[i].path);
        JsonObject *operation = operation_of(doc, &at_routes[i]);
        g_assert_nonnull(operation);
        g_assert_nonnull(at_json_str(operation, "summary", NULL));
        g_assert_nonnull(json_object_get_member(at_json_obj(operation, "responses"), "default"));
    }
}

static bool has_route(const char *method, const char *path)
{
    for (unsigned i = 0; i < at_n_routes; i++) {
        if (g_ascii_strcasecmp(at_routes[i].method, method) == 0 &&
            strcmp(at_routes[i].path, path) == 0)
            return true;
    }
    return false;
}

static void everything_described_is_a_route(void)
{
    g_autoptr(JsonNode) doc = description();
    g_autoptr(GHashTable) ids = g_hash_table_new(g_str_hash, g_str_equal);
    JsonObject *paths = object_at(doc, "#/paths");
    g_autoptr(GList) names = json_object_get_members(paths);
    for (GList *path = names; path; path = path->next) {
        JsonObject *item = json_object_get_object_member(paths, path->data);
        g_autoptr(GList) members = json_object_get_members(item);
        for (GList *m = members; m; m = m->next) {
            if (strcmp(m->data, "parameters") == 0)
                continue;
            g_test_message("%s %s", (char *)m->data, (char *)path->data);
            g_assert_true(has_route(m->data, path->data));
            const char *id =
                at_json_str(json_object_get_object_member(item, m->data), "operationId", "");
            g_assert_true(g_hash_table_add(ids, (char *)id)); /* each has its own */
        }
    }
}

static void every_name_in_a_path_is_described(void)
{
    g_autoptr(JsonNode) doc = description();
    for (unsigned i = 0; i < at_n_routes; i++) {
        g_autofree char *path = escape(at_routes[i].path);
        g_autofree char *reference = g_strdup_printf("#/paths/%s/parameters", path);
        JsonNode *described = at_schema_resolve(doc, reference);
        unsigned expected = 0,
                 found = described ? json_array_get_length(json_node_get_array(described)) : 0;
        for (const char *c = at_routes[i].path; *c; c++)
            expected += *c == '{';
        g_assert_cmpuint(found, ==, expected);
        for (unsigned k = 0; k < found; k++) {
            JsonObject *p = json_array_get_object_element(json_node_get_array(described), k);
            JsonObject *target = object_at(doc, at_json_str(p, "$ref", ""));
            g_autofree char *braces = g_strdup_printf("{%s}", at_json_str(target, "name", "?"));
            g_assert_nonnull(strstr(at_routes[i].path, braces));
        }
    }
}

/* ---- the same parameters ---- */

static const char *const type_names[] = {
    [AT_PARAM_STRING] = "string", [AT_PARAM_BOOL] = "boolean",  [AT_PARAM_INT] = "integer",
    [AT_PARAM_NUMBER] = "number", [AT_PARAM_STRINGS] = "array", [AT_PARAM_OBJECT] = "object",
};

static const struct at_param *find_param(const struct at_param *list, const char *name)
{
    for (; list && list->name; list++) {
        if (strcmp(list->name, name) == 0)
            return list;
    }
    return NULL;
}

static unsigned count_params(const struct at_param *list)
{
    unsigned n = 0;
    for (; list && list->name; list++)
        n++;
    return n;
}

static JsonObject *follow(JsonNode *doc, JsonObject *schema)
{
    const char *reference = at_json_str(schema, "$ref", NULL);
    return reference ? object_at(doc, reference) : schema;
}

static void queries_are_described_as_they_are_read(void)
{
    g_autoptr(JsonNode) doc = description();
    for (unsigned i = 0; i < at_n_routes; i++) {
        const struct at_route *route = &at_routes[i];
        JsonArray *params = at_json_arr(operation_of(doc, route), "parameters");
        unsigned in_query = 0;
        g_test_message("%s %s", route->method, route->path);
        for (unsigned k = 0; params && k < json_array_get_length(params); k++) {
            JsonObject *p = json_array_get_object_element(params, k);
            if (strcmp(at_json_str(p, "in", ""), "query") != 0)
                continue;
            const struct at_param *own = find_param(route->query, at_json_str(p, "name", ""));
            g_assert_nonnull(own);
            g_assert_cmpint(own->required, ==, at_json_bool(p, "required", false));
            g_assert_cmpstr(at_json_str(at_json_obj(p, "schema"), "type", ""), ==,
                            type_names[own->type]);
            in_query++;
        }
        g_assert_cmpuint(in_query, ==, count_params(route->query));
    }
}

static bool is_required(JsonObject *schema, const char *name)
{
    JsonArray *required = at_json_arr(schema, "required");
    for (unsigned i = 0; required && i < json_array_get_length(required); i++) {
        if (strcmp(json_array_get_string_element(required, i), name) == 0)
            return true;
    }
    return false;
}

static void bodies_are_described_as_they_are_read(void)
{
    g_autoptr(JsonNode) doc = description();
    for (unsigned i = 0; i < at_n_routes; i++) {
        const struct at_route *route = &at_routes[i];
        JsonObject *body = at_json_obj(operation_of(doc, route), "requestBody");
        g_test_message("%s %s", route->method, route->path);
        g_assert_cmpint(body != NULL, ==, route->body != NULL || route->definition);
        if (!body || route->definition)
            continue;
        JsonObject *content = at_json_obj(at_json_obj(body, "content"), "application/json");
        JsonObject *schema = follow(doc, at_json_obj(content, "schema"));
        JsonObject *properties = at_json_obj(schema, "properties");
        g_assert_false(at_json_bool(schema, "additionalProperties", true));
        g_assert_cmpuint(json_object_get_size(properties), ==, count_params(route->body));
        bool any_required = false;
        for (const struct at_param *p = route->body; p->name; p++) {
            JsonObject *member = follow(doc, at_json_obj(properties, p->name));
            g_assert_cmpstr(at_json_str(member, "type", ""), ==, type_names[p->type]);
            g_assert_cmpint(is_required(schema, p->name), ==, p->required);
            any_required |= p->required;
        }
        g_assert_cmpint(at_json_bool(body, "required", false), ==, any_required);
    }
}

static void check_references(JsonNode *doc, JsonNode *node)
{
    if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *array = json_node_get_array(node);
        for (unsigned i = 0; i < json_array_get_length(array); i++)
            check_references(doc, json_array_get_element(array, i));
    }
    if (!JSON_NODE_HOLDS_OBJECT(node))
        return;
    JsonObject *obj = json_node_get_object(node);
    const char *reference = at_json_str(obj, "$ref", NULL);
    if (reference && !at_schema_resolve(doc, reference))
        g_error("%s leads nowhere", reference);
    g_autoptr(GList) names = json_object_get_members(obj);
    for (GList *l = names; l; l = l->next)
        check_references(doc, json_object_get_member(obj, l->data));
}

static void every_reference_leads_somewhere(void)
{
    g_autoptr(JsonNode) doc = description();
    check_references(doc, doc);
}

static void every_error_code_is_described(void)
{
    g_autoptr(JsonNode) doc = description();
    JsonArray *codes =
        at_json_arr(object_at(doc, "#/components/schemas/Error/properties/code"), "enum");
    unsigned n = json_array_get_length(codes);
    for (unsigned i = 0; i < n; i++)
        g_assert_cmpint(at_error_code_from_name(json_array_get_string_element(codes, i)), >=, 0);
    g_assert_cmpstr(at_error_code_name((int)n), ==, "io"); /* there is none beyond */
    g_assert_cmpuint(n, ==, AT_ERROR_IO + 1);
}

/* ---- answers ---- */

static void assert_as_described(JsonNode *doc, const struct at_route *route, const char *status,
                                JsonNode *value)
{
    JsonObject *responses = at_json_obj(operation_of(doc, route), "responses");
    JsonObject *response = follow(doc, at_json_obj(responses, status));
    JsonObject *content = at_json_obj(at_json_obj(response, "content"), "application/json");
    g_assert_nonnull(content);
    g_autoptr(GString) complaints = g_string_new(NULL);
    if (!at_schema_check(doc, json_object_get_member(content, "schema"), value, complaints))
        g_error("%s %s: %s\n%s", route->method, route->path, status, complaints->str);
}

/* The route's path with names in it, and a query where one is needed. */
static char *example_target(const struct at_route *route, const char *name)
{
    g_autoptr(GString) out = g_string_new(route->path);
    static const char *const braces[] = {"{vdc}",   "{workstation}", "{snapshot}",
                                         "{image}", "{gpu}",         "{job}"};
    for (size_t i = 0; i < G_N_ELEMENTS(braces); i++)
        g_string_replace(out, braces[i], name, 0);
    if (strcmp(route->path, "/v1/diff") == 0)
        g_string_append_printf(out, "?a=%s@%s&b=x@y", name, name);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static const char *example_body(const struct at_route *route)
{
    if (route->definition)
        return "{\"vdc\":\"thing\"}";
    if (find_param(route->body, "build"))
        return "{\"name\":\"thing\",\"build\":{}}";
    if (g_str_has_suffix(route->path, "/export"))
        return "{\"path\":\"/tmp/x\"}";
    return find_param(route->body, "identity") ? "{\"name\":\"thing\"}" : NULL;
}

static bool answers_json(const struct at_route *route)
{
    return route->answer != AT_ANSWER_UPGRADE && strcmp(route->path, "/v1/events") != 0 &&
           !g_str_has_suffix(route->path, "/log") && strcmp(route->path, "/metrics") != 0;
}

static void answers_are_as_described(void)
{
    g_autoptr(JsonNode) doc = description();
    const char *path = double_start(at_test_dir());
    for (unsigned i = 0; i < at_n_routes; i++) {
        const struct at_route *route = &at_routes[i];
        if (!answers_json(route))
            continue;
        g_autofree char *target = example_target(route, "thing");
        g_autoptr(client_answer) a =
            client_request(path, route->method, target, example_body(route));
        g_test_message("%s %s: %u", route->method, target, a->status);
        g_assert_true(a->status == 200 || a->status == 202);
        assert_as_described(doc, route, a->status == 200 ? "200" : "202", a->json);
    }
    g_autoptr(client_answer) plan =
        client_request(path, "PUT", "/v1/vdcs/thing?dry_run=true", "{\"vdc\":\"thing\"}");
    for (unsigned i = 0; i < at_n_routes; i++) {
        if (at_routes[i].definition && strcmp(at_routes[i].method, "PUT") == 0)
            assert_as_described(doc, &at_routes[i], "200", plan->json);
    }
    double_stop();
}

static void errors_are_as_described(void)
{
    g_autoptr(JsonNode) doc = description();
    const char *path = double_start(at_test_dir());
    unsigned asked = 0;
    for (unsigned i = 0; i < at_n_routes; i++) {
        const struct at_route *route = &at_routes[i];
        if (!strchr(route->path, '{') || route->definition)
            continue;
        g_autofree char *target = example_target(route, "no_space");
        g_autoptr(client_answer) a =
            client_request(path, route->method, target, example_body(route));
        g_test_message("%s %s: %u", route->method, target, a->status);
        g_assert_cmpuint(a->status, ==, 507);
        assert_as_described(doc, route, "default", a->json);
        asked++;
    }
    g_assert_cmpuint(asked, >, 15);
    double_stop();
}

static void the_description_is_served(void)
{
    const char *path = double_start(at_test_dir());
    g_autoptr(client_answer) a = client_request(path, "GET", "/v1/openapi.json", NULL);
    g_assert_cmpuint(a->status, ==, 200);
    g_assert_cmpstr(a->body, ==, at_api_openapi());
    g_assert_cmpstr(at_json_str(json_node_get_object(a->json), "openapi", ""), ==, "3.1.0");
    double_stop();
}

/* ---- the checker itself ---- */

static void the_checker_sees_what_is_wrong(void)
{
    static const struct {
        const char *schema, *value;
        bool fits;
    } cases[] = {
        {"{\"type\":\"string\"}", "\"a\"", true},
        {"{\"type\":\"string\"}", "1", false},
        {"{\"type\":[\"integer\",\"null\"]}", "null", true},
        {"{\"type\":[\"integer\",\"null\"]}", "1.5", false},
        {"{\"type\":\"number\"}", "1", true},
        {"{\"enum\":[\"a\",null]}", "null", true},
        {"{\"enum\":[\"a\"]}", "\"b\"", false},
        {"{\"pattern\":\"^[0-9]+$\"}", "\"12\"", true},
        {"{\"pattern\":\"^[0-9]+$\"}", "\"1x\"", false},
        {"{\"minimum\":1}", "0", false},
        {"{\"maxLength\":1}", "\"ab\"", false},
        {"{\"required\":[\"a\"]}", "{}", false},
        {"{\"properties\":{\"a\":{\"type\":\"boolean\"}}}", "{\"a\":true,\"b\":1}", true},
        {"{\"properties\":{\"a\":{\"type\":\"boolean\"}}}", "{\"a\":1}", false},
        {"{\"properties\":{},\"additionalProperties\":false}", "{\"a\":1}", false},
        {"{\"additionalProperties\":{\"type\":\"string\"}}", "{\"a\":1}", false},
        {"{\"items\":{\"type\":\"integer\"}}", "[1,2]", true},
        {"{\"items\":{\"type\":\"integer\"}}", "[1,\"2\"]", false},
        {"{\"oneOf\":[{\"type\":\"null\"},{\"type\":\"string\"}]}", "\"a\"", true},
        {"{\"oneOf\":[{\"type\":\"number\"},{\"type\":\"integer\"}]}", "1", false},
        {"{\"anyOf\":[{\"type\":\"number\"},{\"type\":\"integer\"}]}", "1", true},
        {"{\"$ref\":\"#/a~1b\"}", "1", true},
        {"{\"$ref\":\"#/a~1b\"}", "\"1\"", false},
        {"{\"$ref\":\"#/none\"}", "1", false},
        {"{\"multipleOf\":2}", "2", false}, /* not known: not believed */
    };
    g_autoptr(JsonNode) doc = at_json_parse("{\"a/b\":{\"type\":\"integer\"}}", -1, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(JsonNode) schema = at_json_parse(cases[i].schema, -1, NULL);
        g_autoptr(JsonNode) value = json_from_string(cases[i].value, NULL);
        g_autoptr(GString) complaints = g_string_new(NULL);
        g_test_message("%s against %s", cases[i].value, cases[i].schema);
        g_assert_cmpint(at_schema_check(doc, schema, value, complaints), ==, cases[i].fits);
        g_assert_cmpint(complaints->len == 0, ==, cases[i].fits);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/api/openapi/every-route-is-described", every_route_is_described);
    g_test_add_func("/api/openapi/everything-described-is-a-route",
                    everything_described_is_a_route);
    g_test_add_func("/api/openapi/every-name-in-a-path-is-described",
                    every_name_in_a_path_is_described);
    g_test_add_func("/api/openapi/queries-are-described-as-they-are-read",
                    queries_are_described_as_they_are_read);
    g_test_add_func("/api/openapi/bodies-are-described-as-they-are-read",
                    bodies_are_described_as_they_are_read);
    g_test_add_func("/api/openapi/every-reference-leads-somewhere",
                    every_reference_leads_somewhere);
    g_test_add_func("/api/openapi/every-error-code-is-described", every_error_code_is_described);
    g_test_add_func("/api/openapi/answers-are-as-described", answers_are_as_described);
    g_test_add_func("/api/openapi/errors-are-as-described", errors_are_as_described);
    g_test_add_func("/api/openapi/the-description-is-served", the_description_is_served);
    g_test_add_func("/api/openapi/the-checker-sees-what-is-wrong", the_checker_sees_what_is_wrong);
    return g_test_run();
}
