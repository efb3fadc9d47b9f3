/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP over the daemon's unix socket: requests, answers, and errors as AT_ERROR. */
#include "cli/client.h"

#include <gio/gunixsocketaddress.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"

enum { TIMEOUT_S = 120, MAX_ERROR_TEXT = 400 };

struct at_client {
    char *socket;
    SoupSession *session;
    JsonNode *failure; /* the last answer that was an error */
};

struct at_client *at_client_new(const char *socket)
{
    struct at_client *client = g_new0(struct at_client, 1);
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(socket);
    client->socket = g_strdup(socket);
    client->session = g_object_new(SOUP_TYPE_SESSION, "remote-connectable", address, "timeout",
                                   TIMEOUT_S, "user-agent", "atoll", NULL);
    return client;
}

void at_client_free(struct at_client *client)
{
    if (!client)
        return;
    g_clear_pointer(&client->failure, json_node_unref);
    g_object_unref(client->session);
    g_free(client->socket);
    g_free(client);
}

JsonObject *at_client_details(struct at_client *client)
{
    JsonNode *node = client->failure;
    return node && JSON_NODE_HOLDS_OBJECT(node) ? at_json_obj(json_node_get_object(node), "details")
                                                : NULL;
}

/* Formats a path, with each %s escaped as one segment or query value. */
static char *make_uri(const char *fmt, va_list ap)
{
    g_autoptr(GString) uri = g_string_new("http://atoll");
    for (const char *p = fmt; *p; p++) {
        if (p[0] == '%' && p[1] == 's') {
            g_string_append_uri_escaped(uri, va_arg(ap, const char *), NULL, FALSE);
            p++;
        } else {
            g_string_append_c(uri, *p);
        }
    }
    return g_string_free(g_steal_pointer(&uri), FALSE);
}

/* Errors of the connection, in words for somebody who does not know libsoup. */
static void explain(struct at_client *client, GError *inner, GError **error)
{
    const char *why = inner->message;
    bool refused = g_error_matches(inner, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED);
    bool denied = g_error_matches(inner, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED);
    bool missing = g_error_matches(inner, G_IO_ERROR, G_IO_ERROR_NOT_FOUND);
    if (denied)
        at_error(error, AT_ERROR_DENIED, "no permission to use %s", client->socket);
    else if (refused || missing)
        at_error(error, AT_ERROR_UNAVAILABLE, "atolld does not run: nobody answers on %s",
                 client->socket);
    else
        at_error(error, AT_ERROR_UNAVAILABLE, "atolld on %s: %s", client->socket, why);
    g_error_free(inner);
}

/* An answer that is no success as an error. */
static void fail_with_answer(struct at_client *client, unsigned status, const char *text,
                             size_t len, GError **error)
{
    g_clear_pointer(&client->failure, json_node_unref);
    JsonNode *node = at_json_parse(text, (gssize)len, NULL);
    client->failure = node;
    JsonObject *obj = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    int code = at_error_code_from_name(at_json_str(obj, "code", ""));
    const char *message = at_json_str(obj, "message", NULL);
    if (code < 0)
        code = status == 404 ? AT_ERROR_NOT_FOUND : AT_ERROR_IO;
    if (message)
        at_error(error, (enum at_error_code)code, "%s", message);
    else
        at_error(error, (enum at_error_code)code, "atolld on %s answers with HTTP status %u",
                 client->socket, status);
}

static GBytes *send(struct at_client *client, SoupMessage *msg, GError **error)
{
    GError *inner = NULL;
    g_autoptr(GBytes) answer = soup_session_send_and_read(client->session, msg, NULL, &inner);
    if (!answer) {
        explain(client, inner, error);
        return NULL;
    }
    unsigned status = soup_message_get_status(msg);
    if (status < 200 || status > 299) {
        size_t len;
        const char *text = g_bytes_get_data(answer, &len);
        fail_with_answer(client, status, text ? text : "", len, error);
        return NULL;
    }
    return g_steal_pointer(&answer);
}

JsonNode *at_client_call(struct at_client *client, const char *method, JsonNode *body,
                         GError **error, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *uri = make_uri(fmt, ap);
    va_end(ap);
    g_autoptr(SoupMessage) msg = soup_message_new(method, uri);
    g_autoptr(JsonNode) owned = body;
    if (owned) {
        char *text = at_json_text(owned);
        g_autoptr(GBytes) bytes = g_bytes_new_take(text, strlen(text));
        soup_message_set_request_body_from_bytes(msg, "application/json", bytes);
    }
    g_autoptr(GBytes) answer = send(client, msg, error);
    if (!answer)
        return NULL;
    size_t len;
    const char *text = g_bytes_get_data(answer, &len);
    if (len == 0)
        return json_node_init_null(json_node_alloc());
    JsonNode *node = at_json_parse(text, (gssize)len, error);
    if (!node)
        g_prefix_error(error, "answer of atolld: ");
    return node;
}

char *at_client_text(struct at_client *client, GError **error, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *uri = make_uri(fmt, ap);
    va_end(ap);
    g_autoptr(SoupMessage) msg = soup_message_new("GET", uri);
    g_autoptr(GBytes) answer = send(client, msg, error);
    if (!answer)
        return NULL;
    size_t len;
    const char *text = g_bytes_get_data(answer, &len);
    return g_strndup(text ? text : "", len);
}

GInputStream *at_client_stream(struct at_client *client, GError **error, const char *path)
{
    g_autofree char *uri = g_strconcat("http://atoll", path, NULL);
    g_autoptr(SoupMessage) msg = soup_message_new("GET", uri);
    GError *inner = NULL;
    soup_message_headers_replace(soup_message_get_request_headers(msg), "Accept",
                                 "text/event-stream");
    g_object_set(client->session, "timeout", 0, NULL); /* the stream may be silent for long */
    g_autoptr(GInputStream) stream = soup_session_send(client->session, msg, NULL, &inner);
    if (!stream) {
        explain(client, inner, error);
        return NULL;
    }
    if (soup_message_get_status(msg) != 200) {
        char text[MAX_ERROR_TEXT];
        gssize n = g_input_stream_read(stream, text, sizeof(text), NULL, NULL);
        fail_with_answer(client, soup_message_get_status(msg), text, (size_t)MAX(n, 0), error);
        return NULL;
    }
    return g_steal_pointer(&stream);
}

struct connecting {
    GMainLoop *loop;
    SoupWebsocketConnection *conn;
    GError *error;
};

static void on_connected(GObject *source, GAsyncResult *result, void *user)
{
    struct connecting *c = user;
    c->conn = soup_session_websocket_connect_finish(SOUP_SESSION(source), result, &c->error);
    g_main_loop_quit(c->loop);
}

SoupWebsocketConnection *at_client_websocket(struct at_client *client, GError **error,
                                             const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *uri = make_uri(fmt, ap);
    va_end(ap);
    g_autoptr(SoupMessage) msg = soup_message_new("GET", uri);
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    struct connecting c = {loop, NULL, NULL};
    g_object_set(client->session, "timeout", 0, NULL);
    soup_session_websocket_connect_async(client->session, msg, NULL, NULL, G_PRIORITY_DEFAULT, NULL,
                                         on_connected, &c);
    g_main_loop_run(loop);
    if (c.conn)
        return c.conn;
    if (soup_message_get_status(msg) < 400) {
        explain(client, c.error, error);
        return NULL;
    }
    /* The body of a refused upgrade is not read by libsoup: ask again without upgrading. */
    g_clear_error(&c.error);
    g_autoptr(SoupMessage) plain = soup_message_new("GET", uri);
    g_autoptr(GBytes) answer = send(client, plain, error);
    if (answer)
        at_error(error, AT_ERROR_PEER, "atolld does not offer this console");
    return NULL;
}
