/* SPDX-License-Identifier: Apache-2.0 */
/* The server: takes a request from its headers (who, which route, how large) over its body (bounded
 * while it comes in) to its handler and its answer. */
#include <string.h>

#include "api/api-internal.h"
#include "base/error.h"
#include "base/json.h"

static const char request_key[] = "at-request";

static void request_free(void *p)
{
    struct at_request *r = p;
    for (int i = 0; i < AT_SEGMENTS_MAX; i++)
        g_free(r->names[i]);
    g_clear_pointer(&r->query, g_hash_table_unref);
    g_clear_pointer(&r->body, json_node_unref);
    g_byte_array_unref(r->raw);
    g_free(r->pointer);
    g_free(r);
}

/* Gives the memory of the body back to the budget; the request itself ends with its message. */
static void forget_body(struct at_request *r)
{
    r->api->bodies -= r->raw->len;
    g_byte_array_set_size(r->raw, 0);
}

static size_t body_max(const struct at_route *route)
{
    return route && route->body_max ? route->body_max : AT_API_BODY_SMALL;
}

static bool body_too_large(struct at_request *r, GError **error)
{
    return at_error(error, AT_ERROR_INVALID, "the body is larger than %zu KiB",
                    body_max(r->route) / 1024);
}

static void fail(struct at_request *r, const GError *error)
{
    at_reply_error(r->msg, error, r->pointer);
    forget_body(r);
    /* libsoup answers when the body is in: it is read and thrown away, but not for ever. */
    at_meter_allow(r->connection->meter, AT_API_BODIES_MAX);
}

static bool failed(struct at_request *r)
{
    return soup_server_message_get_status(r->msg) != 0;
}

/* ---- from the headers on ---- */

static void on_chunk(SoupServerMessage *msg, GBytes *chunk, gpointer user)
{
    struct at_request *r = user;
    g_autoptr(GError) error = NULL;
    size_t len;
    const void *data = g_bytes_get_data(chunk, &len);
    if (failed(r))
        return;
    if (r->raw->len + len > body_max(r->route)) {
        body_too_large(r, &error);
    } else if (r->api->bodies + len > AT_API_BODIES_MAX) {
        at_error(&error, AT_ERROR_UNAVAILABLE, "too many large requests at once; try again later");
    } else {
        r->api->bodies += len;
        g_byte_array_append(r->raw, data, (unsigned)len);
        return;
    }
    fail(r, error);
}

static bool check_peer(struct at_request *r, GError **error)
{
    const struct at_peer *peer = r->connection->peer;
    if (peer->allowed)
        return true;
    return at_error(error, AT_ERROR_DENIED,
                    "user %s may not use this daemon; root and members of the group %s may",
                    peer->user, AT_API_GROUP);
}

static bool find_route(struct at_request *r, GError **error)
{
    g_autofree char *allow = NULL;
    r->route =
        at_route_find(soup_server_message_get_method(r->msg),
                      g_uri_get_path(soup_server_message_get_uri(r->msg)), r->names, &allow, error);
    if (allow)
        soup_message_headers_replace(soup_server_message_get_response_headers(r->msg), "Allow",
                                     allow);
    return r->route != NULL;
}

static bool check_announced_length(struct at_request *r, GError **error)
{
    SoupMessageHeaders *headers = soup_server_message_get_request_headers(r->msg);
    if (soup_message_headers_get_encoding(headers) != SOUP_ENCODING_CONTENT_LENGTH)
        return true;
    goffset len = soup_message_headers_get_content_length(headers);
    return len <= (goffset)body_max(r->route) || body_too_large(r, error);
}

/* An id that a client gave its request comes back with the answer. */
static void echo_request_id(SoupServerMessage *msg)
{
    const char *id =
        soup_message_headers_get_one(soup_server_message_get_request_headers(msg), "X-Request-Id");
    if (!id || !*id || strlen(id) > 64)
        return;
    for (const char *c = id; *c; c++) {
        if (!g_ascii_isalnum(*c) && !strchr("._-", *c))
            return;
    }
    soup_message_headers_replace(soup_server_message_get_response_headers(msg), "X-Request-Id", id);
}

static void on_finished(SoupServerMessage *msg, gpointer user)
{
    struct at_request *r = user;
    forget_body(r);
}

static void on_headers(SoupServer *server, SoupServerMessage *msg, const char *path,
                       GHashTable *query, gpointer user)
{
    struct at_api *api = user;
    g_autoptr(GError) error = NULL;
    struct at_request *r = g_new0(struct at_request, 1);
    r->api = api;
    r->msg = msg;
    r->connection = at_connection_of(msg);
    r->raw = g_byte_array_new();
    g_object_set_data_full(G_OBJECT(msg), request_key, r, request_free);
    soup_message_body_set_accumulate(soup_server_message_get_request_body(msg), FALSE);
    g_signal_connect(msg, "got-chunk", G_CALLBACK(on_chunk), r);
    g_signal_connect(msg, "finished", G_CALLBACK(on_finished), r);
    echo_request_id(msg);

    const struct at_peer *peer = r->connection->peer;
    r->actor = (struct at_actor){
        .user = peer->user, .uid = peer->uid, .gid = peer->gid, .from = peer->from};
    if (!check_peer(r, &error) || !find_route(r, &error) || !check_announced_length(r, &error)) {
        fail(r, error);
        return;
    }
    /* Chunked bodies have some bytes around their content. */
    at_meter_allow(r->connection->meter, AT_API_HEADER_MAX + 2 * (uint64_t)body_max(r->route));
    if (r->route->answer == AT_ANSWER_UPGRADE) {
        r->route->handle(r, &error);
        if (error)
            fail(r, error);
    }
}

/* ---- with the whole body ---- */

static void answer(struct at_request *r, JsonNode *result)
{
    if (r->route->answer == AT_ANSWER_JSON) {
        at_reply_json(r->msg, 200, result);
    } else {
        JsonObject *obj = json_object_new();
        json_object_set_member(obj, "job", json_node_ref(result));
        g_autoptr(JsonNode) node = at_json_take_obj(obj);
        at_reply_json(r->msg, 202, node);
    }
}

static void on_request(SoupServer *server, SoupServerMessage *msg, const char *path,
                       GHashTable *query, gpointer user)
{
    struct at_request *r = g_object_get_data(G_OBJECT(msg), request_key);
    g_autoptr(GError) error = NULL;
    if (failed(r))
        return;
    if (!at_request_parse(r, &error)) {
        fail(r, error);
        return;
    }
    if (r->route->answer == AT_ANSWER_UPGRADE)
        return; /* the handshake is next */
    g_autoptr(JsonNode) result = r->route->handle(r, &error);
    if (error)
        fail(r, error);
    else if (result)
        answer(r, result);
}

static void on_websocket(SoupServer *server, SoupServerMessage *msg, const char *path,
                         SoupWebsocketConnection *websocket, gpointer user)
{
    at_console_connected(user, msg, websocket);
}

/* ---- the server ---- */

struct at_api *at_api_new(struct at_core *core, const char *socket_path, GError **error)
{
    struct at_api *api = g_new0(struct at_api, 1);
    api->core = core;
    api->connections = g_rc_box_new0(unsigned);
    api->events = g_ptr_array_new();
    api->consoles = g_ptr_array_new();
    api->server = soup_server_new("server-header", "atoll", NULL);
    soup_server_add_early_handler(api->server, NULL, on_headers, api, NULL);
    soup_server_add_handler(api->server, NULL, on_request, api, NULL);
    /* Handlers match by prefix: consoles have a place of their own. */
    soup_server_add_early_handler(api->server, "/v1/consoles", on_headers, api, NULL);
    soup_server_add_handler(api->server, "/v1/consoles", on_request, api, NULL);
    soup_server_add_websocket_handler(api->server, "/v1/consoles", NULL, NULL, on_websocket, api,
                                      NULL);
    /* Unpacks what a client sends without a bound. */
    soup_server_remove_websocket_extension(api->server, SOUP_TYPE_WEBSOCKET_EXTENSION_DEFLATE);

    int fd = at_socket_publish(socket_path, &api->file, error);
    if (fd >= 0)
        api->service = at_accept_start(api, fd, error);
    if (!api->service) {
        at_api_free(api);
        return NULL;
    }
    return api;
}

void at_api_free(struct at_api *api)
{
    if (!api)
        return;
    if (api->service) {
        g_socket_service_stop(api->service);
        g_socket_listener_close(G_SOCKET_LISTENER(api->service));
        g_signal_handlers_disconnect_by_data(api->service, api);
        g_object_unref(api->service);
    }
    at_socket_withdraw(&api->file);
    at_events_end_all(api);
    at_consoles_end_all(api);
    soup_server_disconnect(api->server);
    g_object_unref(api->server);
    g_ptr_array_unref(api->events);
    g_ptr_array_unref(api->consoles);
    g_rc_box_release(api->connections);
    g_free(api);
}
