/* SPDX-License-Identifier: Apache-2.0 */
/* From a listening socket to libsoup: counts connections, notes who is there, sets the idle
 * deadline and the meter. libsoup passes the remote address on; ours carries the connection. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api-internal.h"
#include "base/error.h"

static const char key[] = "at-connection";

static void connection_free(void *p)
{
    struct at_connection *c = p;
    at_peer_free(c->peer);
    at_meter_unref(c->meter);
    g_object_unref(c->socket);
    g_free(c);
}

static void on_gone(gpointer counter, GObject *where_the_stream_was)
{
    unsigned *connections = counter;
    (*connections)--;
    g_rc_box_release(connections);
}

static void refuse(GSocketConnection *connection)
{
    static const char answer[] =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: "
        "close\r\n"
        "Content-Length: 72\r\n\r\n"
        "{\"code\":\"unavailable\",\"message\":\"too many connections; try again later\"}";
    g_socket_send(g_socket_connection_get_socket(connection), answer, sizeof answer - 1, NULL,
                  NULL);
    g_io_stream_close(G_IO_STREAM(connection), NULL, NULL);
}

static gboolean on_incoming(GSocketService *service, GSocketConnection *connection, GObject *source,
                            gpointer user)
{
    struct at_api *api = user;
    if (*api->connections >= AT_API_CONNECTIONS_MAX) {
        refuse(connection);
        return TRUE;
    }
    GSocket *socket = g_socket_connection_get_socket(connection);
    g_socket_set_timeout(socket, AT_API_IDLE_S);
    struct at_connection *c = g_new0(struct at_connection, 1);
    c->socket = g_object_ref(socket);
    c->peer = at_peer_new(socket);
    g_autoptr(GIOStream) stream = at_meter_wrap(G_IO_STREAM(connection), &c->meter);
    at_meter_allow(c->meter, AT_API_HEADER_MAX);
    (*api->connections)++;
    g_object_weak_ref(G_OBJECT(stream), on_gone, g_rc_box_acquire(api->connections));

    g_autoptr(GSocketAddress) remote = g_unix_socket_address_new("/");
    g_object_set_data_full(G_OBJECT(remote), key, c, connection_free);
    g_autoptr(GSocketAddress) local = g_unix_socket_address_new(api->file.path);
    g_autoptr(GError) error = NULL;
    if (!soup_server_accept_iostream(api->server, stream, local, remote, &error))
        g_message("api: connection: %s", error->message);
    return TRUE;
}

GSocketService *at_accept_start(struct at_api *api, int fd, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, &local);
    if (!socket) {
        close(fd);
        at_error(error, AT_ERROR_IO, "listen on %s: %s", api->file.path, local->message);
        return NULL;
    }
    g_autoptr(GSocketService) service = g_socket_service_new();
    if (!g_socket_listener_add_socket(G_SOCKET_LISTENER(service), socket, NULL, &local)) {
        at_error(error, AT_ERROR_IO, "listen on %s: %s", api->file.path, local->message);
        return NULL;
    }
    g_signal_connect(service, "incoming", G_CALLBACK(on_incoming), api);
    g_socket_service_start(service);
    return g_steal_pointer(&service);
}

struct at_connection *at_connection_of(SoupServerMessage *msg)
{
    GSocketAddress *remote = soup_server_message_get_remote_address(msg);
    return remote ? g_object_get_data(G_OBJECT(remote), key) : NULL;
}

void at_connection_drop(struct at_connection *connection)
{
    shutdown(g_socket_get_fd(connection->socket), SHUT_RDWR);
}
