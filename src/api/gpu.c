/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of GPUs. */
#include "api/handlers.h"
#include "base/json.h"

JsonNode *at_handle_gpu_list(struct at_request *r, GError **error)
{
    return at_core_gpu_list(r->api->core, error);
}

JsonNode *at_handle_gpu_show(struct at_request *r, GError **error)
{
    return at_core_gpu_view(r->api->core, r->names[0], error);
}

struct rescan {
    SoupServerMessage *msg;
    struct at_core *core;
};

static void on_rescan(GObject *source, GAsyncResult *result, gpointer user)
{
    struct rescan *rescan = user;
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) list = at_core_gpu_rescan_finish(rescan->core, result, &error);
    if (list)
        at_reply_json(rescan->msg, 200, list);
    else
        at_reply_error(rescan->msg, error, NULL);
    soup_server_message_unpause(rescan->msg);
    g_object_unref(rescan->msg);
    g_free(rescan);
}

JsonNode *at_handle_gpu_rescan(struct at_request *r, GError **error)
{
    struct rescan *rescan = g_new(struct rescan, 1);
    *rescan = (struct rescan){g_object_ref(r->msg), r->api->core};
    soup_server_message_pause(r->msg);
    at_core_gpu_rescan_async(r->api->core, on_rescan, rescan);
    return NULL;
}

JsonNode *at_handle_gpu_plan(struct at_request *r, GError **error)
{
    return at_core_gpu_plan(r->api->core, r->body, &r->pointer, error);
}

JsonNode *at_handle_gpu_reserve(struct at_request *r, GError **error)
{
    return at_core_gpu_reserve(r->api->core, &r->actor, r->names[0],
                               at_json_str(at_request_object(r), "reason", NULL), error);
}

JsonNode *at_handle_gpu_mix(struct at_request *r, GError **error)
{
    return at_core_gpu_mix(r->api->core, &r->actor, r->names[0],
                           at_json_bool(at_request_object(r), "on", true), error);
}

JsonNode *at_handle_gpu_release(struct at_request *r, GError **error)
{
    return at_core_gpu_release(r->api->core, &r->actor, r->names[0], error);
}

JsonNode *at_handle_gpu_test(struct at_request *r, GError **error)
{
    JsonObject *body = at_request_object(r);
    return at_core_gpu_test(r->api->core, &r->actor, r->names[0], at_json_str(body, "victim", NULL),
                            at_json_str(body, "neighbour", NULL), error);
}
