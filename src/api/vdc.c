/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of VDCs and their workstations. */
#include <inttypes.h>
#include <string.h>

#include "api/handlers.h"
#include "base/error.h"
#include "base/json.h"

enum { STOP_TIMEOUT_S = 60 };

JsonNode *at_handle_vdc_list(struct at_request *r, GError **error)
{
    return at_core_vdc_list(r->api->core, error);
}

JsonNode *at_handle_vdc_show(struct at_request *r, GError **error)
{
    JsonNode *vdc = at_core_vdc_view(r->api->core, r->names[0], error);
    if (vdc) {
        int64_t revision = at_json_int(json_node_get_object(vdc), "revision", 0);
        g_autofree char *etag = g_strdup_printf("\"%" PRId64 "\"", revision);
        soup_message_headers_replace(soup_server_message_get_response_headers(r->msg), "ETag",
                                     etag);
    }
    return vdc;
}

/* If-Match: the revision that the caller has seen, in quotes as ETag gave it; "*": any. */
static bool check_if_match(struct at_request *r, GError **error)
{
    const char *wanted =
        soup_message_headers_get_one(soup_server_message_get_request_headers(r->msg), "If-Match");
    if (!wanted)
        return true;
    g_autoptr(GError) local = NULL;
    g_autoptr(JsonNode) vdc = at_core_vdc_view(r->api->core, r->names[0], &local);
    if (!vdc && g_error_matches(local, AT_ERROR, AT_ERROR_NOT_FOUND))
        return at_error(error, AT_ERROR_CONFLICT, "VDC %s does not exist, If-Match was %s",
                        r->names[0], wanted);
    if (!vdc) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    int64_t revision = at_json_int(json_node_get_object(vdc), "revision", 0);
    g_autofree char *etag = g_strdup_printf("\"%" PRId64 "\"", revision);
    if (strcmp(wanted, "*") == 0 || strcmp(wanted, etag) == 0)
        return true;
    return at_error(error, AT_ERROR_CONFLICT,
                    "VDC %s was changed by somebody else: it has revision %" PRId64
                    ", If-Match was %s; read it again",
                    r->names[0], revision, wanted);
}

static bool check_same_name(struct at_request *r, GError **error)
{
    const char *name = at_json_str(at_request_object(r), "vdc", NULL);
    if (!name || strcmp(name, r->names[0]) == 0)
        return true; /* a missing name is for the definition's own check */
    r->pointer = g_strdup("/vdc");
    return at_error(error, AT_ERROR_INVALID, "the definition is of VDC %s, the path says %s", name,
                    r->names[0]);
}

JsonNode *at_handle_vdc_put(struct at_request *r, GError **error)
{
    struct at_core *core = r->api->core;
    bool dry_run = at_request_query_bool(r, "dry_run", false);
    bool start = at_request_query_bool(r, "start", true);
    if (!check_same_name(r, error) || !check_if_match(r, error))
        return NULL;
    if (dry_run) {
        g_autoptr(JsonNode) plan = at_core_vdc_plan(core, r->body, &r->pointer, error);
        if (plan)
            at_reply_json(r->msg, 200, plan);
        return NULL;
    }
    JsonNode *job = at_core_vdc_apply(core, &r->actor, r->body, start, &r->pointer, error);
    if (!job)
        return NULL;
    JsonObject *answer = json_object_new();
    json_object_set_member(answer, "job", job);
    g_autoptr(JsonNode) node = at_json_take_obj(answer);
    at_reply_json(r->msg, 202, node);
    return NULL;
}

JsonNode *at_handle_vdc_delete(struct at_request *r, GError **error)
{
    return at_core_vdc_delete(r->api->core, &r->actor, r->names[0],
                              at_request_query_bool(r, "snapshots", false), error);
}

JsonNode *at_handle_vdc_start(struct at_request *r, GError **error)
{
    g_autofree const char **which = at_request_strings(r, "workstations");
    return at_core_vdc_start(r->api->core, &r->actor, r->names[0], which, error);
}

static JsonNode *stop(struct at_request *r, const char *const *which, GError **error)
{
    JsonObject *body = at_request_object(r);
    return at_core_vdc_stop(r->api->core, &r->actor, r->names[0], which,
                            (unsigned)at_json_int(body, "timeout_s", STOP_TIMEOUT_S),
                            at_json_bool(body, "force", false), error);
}

JsonNode *at_handle_vdc_stop(struct at_request *r, GError **error)
{
    g_autofree const char **which = at_request_strings(r, "workstations");
    return stop(r, which, error);
}

JsonNode *at_handle_vdc_restart(struct at_request *r, GError **error)
{
    g_autofree const char **which = at_request_strings(r, "workstations");
    return at_core_vdc_restart(r->api->core, &r->actor, r->names[0], which, error);
}

JsonNode *at_handle_vdc_undo(struct at_request *r, GError **error)
{
    return at_core_vdc_undo(r->api->core, &r->actor, r->names[0], error);
}

/* ---- one workstation ---- */

JsonNode *at_handle_workstation_show(struct at_request *r, GError **error)
{
    return at_core_workstation_view(r->api->core, r->names[0], r->names[1], error);
}

JsonNode *at_handle_workstation_start(struct at_request *r, GError **error)
{
    const char *const which[] = {r->names[1], NULL};
    return at_core_vdc_start(r->api->core, &r->actor, r->names[0], which, error);
}

JsonNode *at_handle_workstation_stop(struct at_request *r, GError **error)
{
    const char *const which[] = {r->names[1], NULL};
    return stop(r, which, error);
}

JsonNode *at_handle_workstation_restart(struct at_request *r, GError **error)
{
    const char *const which[] = {r->names[1], NULL};
    return at_core_vdc_restart(r->api->core, &r->actor, r->names[0], which, error);
}

JsonNode *at_handle_workstation_log(struct at_request *r, GError **error)
{
    size_t tail = (size_t)at_request_query_int(r, "tail", AT_LOG_TAIL_DEFAULT);
    g_autofree char *raw =
        at_core_workstation_log(r->api->core, r->names[0], r->names[1], tail, error);
    if (!raw)
        return NULL;
    g_autofree char *text = g_utf8_make_valid(raw, -1); /* guests write what they like */
    at_reply_text(r->msg, "text/plain; charset=utf-8", text, strlen(text));
    return NULL;
}
