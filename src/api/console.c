/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/consoles/{vdc}/{workstation}: the serial console as a WebSocket, with credit.
 *
 * Binary frames carry bytes of the console, both ways. The client says {"ack": N} in a text frame
 * for every N bytes that it has taken; the guest is not read while WINDOW bytes are out, because
 * libsoup queues without bound and does not tell how much waits. */
#include <errno.h>
#include <gio/gunixinputstream.h>
#include <gio/gunixoutputstream.h>
#include <glib-unix.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api-internal.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"

enum {
    WINDOW = 256 * 1024,       /* bytes of the guest that the client has not acknowledged */
    READ_MAX = 16 * 1024,      /* one frame to the client */
    MESSAGE_MAX = 64 * 1024,   /* one message from the client */
    INPUT_MAX = 256 * 1024,    /* typed or pasted, and not yet taken by the guest */
    INCOMING_MAX = 512 * 1024, /* bytes between two whole messages from the client */
    KEEPALIVE_S = 30,
};

struct console {
    struct at_api *api;
    char *target; /* "VDC/WORKSTATION" */
    SoupWebsocketConnection *websocket;
    GSocketAddress *remote; /* holds the connection, with its meter */
    struct at_meter *meter;
    int fd;
    GSource *readable, *writable; /* while they are attached */
    uint64_t outstanding;         /* bytes sent and not acknowledged */
    GByteArray *input;            /* for the guest */
};

/* In the context that the server runs in. */
static GSource *watch_fd(int fd, GIOCondition condition, GUnixFDSourceFunc func, struct console *c)
{
    GSource *source = g_unix_fd_source_new(fd, condition);
    g_source_set_callback(source, G_SOURCE_FUNC(func), c, NULL);
    g_source_attach(source, g_main_context_get_thread_default());
    return source;
}

static void unwatch(GSource **source)
{
    if (*source)
        g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

static const char fd_key[] = "at-console-fd";

struct waiting {
    int fd;
    char *target;
};

static void waiting_free(void *p)
{
    struct waiting *w = p;
    at_close_fd(&w->fd);
    g_free(w->target);
    g_free(w);
}

/* QEMU serves one client of a console and lets the next one wait without a word. */
static bool is_open(struct at_api *api, const char *target)
{
    for (unsigned i = 0; i < api->consoles->len; i++) {
        const struct console *c = api->consoles->pdata[i];
        if (c->fd >= 0 && strcmp(c->target, target) == 0)
            return true;
    }
    return false;
}

JsonNode *at_handle_console(struct at_request *r, GError **error)
{
    SoupMessageHeaders *headers = soup_server_message_get_request_headers(r->msg);
    if (r->api->events->len + r->api->consoles->len >= AT_API_STREAMS_MAX) {
        at_error(error, AT_ERROR_UNAVAILABLE, "%d event streams and consoles are open already",
                 AT_API_STREAMS_MAX);
        return NULL;
    }
    g_autofree char *target = g_strconcat(r->names[0], "/", r->names[1], NULL);
    if (is_open(r->api, target)) {
        at_error(error, AT_ERROR_CONFLICT, "somebody else has the console of %s open", target);
        return NULL;
    }
    at_autofd fd = at_core_console_open(r->api->core, r->names[0], r->names[1], error);
    if (fd < 0)
        return NULL;
    /* Last, so that a client whose library hides the answer to a refused upgrade can ask again
     * without one, and hears why. */
    if (!soup_message_headers_header_contains(headers, "Upgrade", "websocket")) {
        at_error(error, AT_ERROR_INVALID, "a console is a WebSocket: the request has no upgrade");
        return NULL;
    }
    if (!g_unix_set_fd_nonblocking(fd, TRUE, NULL)) {
        at_error(error, AT_ERROR_IO, "console: cannot be read without waiting");
        return NULL;
    }
    struct waiting *w = g_new(struct waiting, 1);
    w->fd = at_steal_fd(&fd);
    w->target = g_steal_pointer(&target);
    g_object_set_data_full(G_OBJECT(r->msg), fd_key, w, waiting_free);
    return NULL;
}

static void console_free(struct console *c)
{
    unwatch(&c->readable);
    unwatch(&c->writable);
    at_close_fd(&c->fd);
    g_signal_handlers_disconnect_by_data(c->websocket, c);
    g_ptr_array_remove_fast(c->api->consoles, c);
    g_object_unref(c->websocket);
    g_object_unref(c->remote);
    g_byte_array_unref(c->input);
    g_free(c->target);
    g_free(c);
}

/* Says goodbye; on_closed frees. The guest's side ends at once, so that the next caller may open
 * it. */
static void console_close(struct console *c, unsigned short code, const char *reason)
{
    unwatch(&c->readable);
    unwatch(&c->writable);
    at_close_fd(&c->fd);
    if (soup_websocket_connection_get_state(c->websocket) == SOUP_WEBSOCKET_STATE_OPEN)
        soup_websocket_connection_close(c->websocket, code, reason);
}

static gboolean on_readable(int fd, GIOCondition condition, gpointer user)
{
    struct console *c = user;
    char buffer[READ_MAX];
    /* While the client's goodbye is answered there is nobody to send to; on_closed follows. */
    if (soup_websocket_connection_get_state(c->websocket) != SOUP_WEBSOCKET_STATE_OPEN) {
        unwatch(&c->readable);
        return G_SOURCE_REMOVE;
    }
    ssize_t n = read(fd, buffer, MIN(sizeof buffer, WINDOW - c->outstanding));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (n <= 0) {
        console_close(c, SOUP_WEBSOCKET_CLOSE_NORMAL, "the workstation closed its console");
        return G_SOURCE_REMOVE;
    }
    c->outstanding += (uint64_t)n;
    soup_websocket_connection_send_binary(c->websocket, buffer, (size_t)n);
    if (c->outstanding < WINDOW)
        return G_SOURCE_CONTINUE;
    unwatch(&c->readable);
    return G_SOURCE_REMOVE;
}

static void read_while_credit_lasts(struct console *c)
{
    if (!c->readable && c->fd >= 0 && c->outstanding < WINDOW)
        c->readable = watch_fd(c->fd, G_IO_IN | G_IO_HUP | G_IO_ERR, on_readable, c);
}

static gboolean on_writable(int fd, GIOCondition condition, gpointer user)
{
    struct console *c = user;
    ssize_t n = send(fd, c->input->data, c->input->len, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (n < 0) {
        console_close(c, SOUP_WEBSOCKET_CLOSE_NORMAL, "the workstation closed its console");
        return G_SOURCE_REMOVE;
    }
    g_byte_array_remove_range(c->input, 0, (unsigned)n);
    if (c->input->len > 0)
        return G_SOURCE_CONTINUE;
    unwatch(&c->writable);
    return G_SOURCE_REMOVE;
}

static void on_input(struct console *c, const void *data, size_t len)
{
    if (c->input->len + len > INPUT_MAX) {
        console_close(c, SOUP_WEBSOCKET_CLOSE_POLICY_VIOLATION,
                      "the workstation does not take so much input");
        return;
    }
    g_byte_array_append(c->input, data, (unsigned)len);
    if (!c->writable && c->fd >= 0 && c->input->len > 0)
        c->writable = watch_fd(c->fd, G_IO_OUT, on_writable, c);
}

/* {"ack": N}, nothing else. */
static void on_control(struct console *c, const char *text, size_t len)
{
    g_autoptr(JsonNode) node = at_json_parse(text, (gssize)len, NULL);
    JsonObject *obj = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    int64_t ack = at_json_int(obj, "ack", -1);
    if (ack < 0 || (uint64_t)ack > c->outstanding || json_object_get_size(obj) != 1) {
        console_close(c, SOUP_WEBSOCKET_CLOSE_POLICY_VIOLATION,
                      "text frames are {\"ack\": N}, N bytes that were sent before");
        return;
    }
    c->outstanding -= (uint64_t)ack;
    read_while_credit_lasts(c);
}

static void on_message(SoupWebsocketConnection *websocket, int type, GBytes *message, gpointer user)
{
    struct console *c = user;
    size_t len;
    const void *data = g_bytes_get_data(message, &len);
    at_meter_allow(c->meter, INCOMING_MAX);
    if (c->fd < 0)
        return;
    if (type == SOUP_WEBSOCKET_DATA_TEXT)
        on_control(c, data, len);
    else
        on_input(c, data, len);
}

static void on_pong(SoupWebsocketConnection *websocket, GBytes *message, gpointer user)
{
    at_meter_allow(((struct console *)user)->meter, INCOMING_MAX);
}

static void on_closed(SoupWebsocketConnection *websocket, gpointer user)
{
    console_free(user);
}

void at_console_connected(struct at_api *api, SoupServerMessage *msg,
                          SoupWebsocketConnection *websocket)
{
    struct waiting *w = g_object_get_data(G_OBJECT(msg), fd_key);
    if (!w || w->fd < 0) {
        soup_websocket_connection_close(websocket, SOUP_WEBSOCKET_CLOSE_SERVER_ERROR, NULL);
        return;
    }
    struct console *c = g_new0(struct console, 1);
    struct at_connection *connection = at_connection_of(msg);
    c->api = api;
    c->websocket = g_object_ref(websocket);
    c->remote = g_object_ref(soup_server_message_get_remote_address(msg));
    c->meter = connection->meter;
    c->fd = at_steal_fd(&w->fd);
    c->target = g_steal_pointer(&w->target);
    c->input = g_byte_array_new();
    g_ptr_array_add(api->consoles, c);
    at_meter_allow(c->meter, INCOMING_MAX);
    /* A console may be silent for hours; pings find out about dead clients. */
    g_socket_set_timeout(connection->socket, 0);
    soup_websocket_connection_set_max_incoming_payload_size(websocket, MESSAGE_MAX);
    soup_websocket_connection_set_keepalive_interval(websocket, KEEPALIVE_S);
    g_signal_connect(websocket, "message", G_CALLBACK(on_message), c);
    g_signal_connect(websocket, "pong", G_CALLBACK(on_pong), c);
    g_signal_connect(websocket, "closed", G_CALLBACK(on_closed), c);
    read_while_credit_lasts(c);
}

void at_consoles_end_all(struct at_api *api)
{
    while (api->consoles->len > 0) {
        struct console *c = api->consoles->pdata[0];
        struct at_connection *connection = g_object_get_data(G_OBJECT(c->remote), "at-connection");
        console_close(c, SOUP_WEBSOCKET_CLOSE_GOING_AWAY, "the daemon stops");
        if (connection)
            at_connection_drop(connection);
        console_free(c);
    }
}
