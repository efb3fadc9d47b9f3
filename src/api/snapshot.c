/* SPDX-License-Identifier: Apache-2.0 */
/* Routes of snapshots, and the comparison of two. */
#include <string.h>

#include "api/handlers.h"
#include "base/error.h"
#include "base/json.h"

JsonNode *at_handle_snapshot_list_all(struct at_request *r, GError **error)
{
    return at_core_snapshot_list(r->api->core, NULL, error);
}

JsonNode *at_handle_snapshot_list(struct at_request *r, GError **error)
{
    return at_core_snapshot_list(r->api->core, r->names[0], error);
}

JsonNode *at_handle_snapshot_create(struct at_request *r, GError **error)
{
    JsonObject *body = at_request_object(r);
    return at_core_snapshot_create(
        r->api->core, &r->actor, r->names[0], at_json_str(body, "name", NULL),
        at_json_bool(body, "quiesce", false), at_json_str(body, "description", ""), error);
}

JsonNode *at_handle_snapshot_show(struct at_request *r, GError **error)
{
    return at_core_snapshot_view(r->api->core, r->names[0], r->names[1], error);
}

/* The bytes as they are, and not JSON that means the same. */
JsonNode *at_handle_snapshot_manifest(struct at_request *r, GError **error)
{
    g_autofree char *text =
        at_core_snapshot_manifest(r->api->core, r->names[0], r->names[1], error);
    if (text)
        at_reply_text(r->msg, "application/json", text, strlen(text));
    return NULL;
}

JsonNode *at_handle_snapshot_delete(struct at_request *r, GError **error)
{
    return at_core_snapshot_delete(r->api->core, &r->actor, r->names[0], r->names[1], error);
}

JsonNode *at_handle_snapshot_verify(struct at_request *r, GError **error)
{
    return at_core_snapshot_verify(r->api->core, &r->actor, r->names[0], r->names[1], error);
}

JsonNode *at_handle_snapshot_clone(struct at_request *r, GError **error)
{
    JsonObject *body = at_request_object(r);
    const char *identity = at_json_str(body, "identity", "keep");
    bool fresh = strcmp(identity, "fresh") == 0;
    if (!fresh && strcmp(identity, "keep") != 0) {
        r->pointer = g_strdup("/identity");
        at_error(error, AT_ERROR_INVALID, "identity: keep or fresh, found \"%s\"", identity);
        return NULL;
    }
    const struct at_clone_options options = {
        .fresh_identity = fresh,
        .isolated = at_json_bool(body, "isolated", false),
        .start = at_json_bool(body, "start", true),
        .gpu = at_json_str(body, "gpu", "same-profile"),
    };
    return at_core_snapshot_clone(r->api->core, &r->actor, r->names[0], r->names[1],
                                  at_json_str(body, "name", NULL), &options, error);
}

JsonNode *at_handle_snapshot_restore(struct at_request *r, GError **error)
{
    if (!at_json_bool(at_request_object(r), "safety", true)) {
        r->pointer = g_strdup("/safety");
        at_error(error, AT_ERROR_INVALID,
                 "safety: a restore always takes a safety snapshot first; delete it afterwards");
        return NULL;
    }
    return at_core_snapshot_restore(r->api->core, &r->actor, r->names[0], r->names[1], error);
}

/* ---- diff ---- */

/* "VDC@SNAPSHOT"; newly allocated parts. */
static bool split_address(const char *query, const char *text, char **ret_vdc, char **ret_snap,
                          GError **error)
{
    const char *at = strchr(text, '@');
    if (!at || at == text || !at[1] || strchr(at + 1, '@') || strchr(text, '/'))
        return at_error(error, AT_ERROR_INVALID, "query parameter %s: VDC@SNAPSHOT, found \"%s\"",
                        query, text);
    *ret_vdc = g_strndup(text, (size_t)(at - text));
    *ret_snap = g_strdup(at + 1);
    return true;
}

static void on_diff(GObject *source, GAsyncResult *result, gpointer user)
{
    g_autoptr(SoupServerMessage) msg = user;
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) diff = at_core_diff_finish(result, &error);
    if (diff)
        at_reply_json(msg, 200, diff);
    else
        at_reply_error(msg, error, NULL);
    soup_server_message_unpause(msg);
}

JsonNode *at_handle_diff(struct at_request *r, GError **error)
{
    g_autofree char *vdc_a = NULL, *snap_a = NULL, *vdc_b = NULL, *snap_b = NULL;
    if (!split_address("a", at_request_query(r, "a"), &vdc_a, &snap_a, error) ||
        !split_address("b", at_request_query(r, "b"), &vdc_b, &snap_b, error))
        return NULL;
    soup_server_message_pause(r->msg);
    at_core_diff_async(r->api->core, vdc_a, snap_a, vdc_b, snap_b, on_diff, g_object_ref(r->msg));
    return NULL;
}
