/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP over the daemon's unix socket. Blocks; main thread only. */
#pragma once
#include <gio/gio.h>
#include <json-glib/json-glib.h>
#include <libsoup/soup.h>
#include <stdbool.h>

struct at_client;

struct at_client *at_client_new(const char *socket);
void at_client_free(struct at_client *client);

/* One request. @fmt gives the path ("/v1/vdcs/%s"); each string argument is escaped.
 * @body  sent as JSON, taken, may be NULL
 * Gives the answer's JSON (a null node when it has none), or NULL with the error of the answer as
 * AT_ERROR, or UNAVAILABLE when the daemon cannot be reached. */
JsonNode *at_client_call(struct at_client *client, const char *method, JsonNode *body,
                         GError **error, const char *fmt, ...) G_GNUC_PRINTF(5, 6);
#define at_client_get(client, error, ...) at_client_call(client, "GET", NULL, error, __VA_ARGS__)

/* "details" of the last answer that was an error, borrowed; NULL when it had none. */
JsonObject *at_client_details(struct at_client *client);

/* Text of an answer that is not JSON (a console log). */
char *at_client_text(struct at_client *client, GError **error, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/* A stream of server-sent events, or NULL as above. */
GInputStream *at_client_stream(struct at_client *client, GError **error, const char *path);

/* A WebSocket; an answer that refuses becomes an error as above. */
SoupWebsocketConnection *at_client_websocket(struct at_client *client, GError **error,
                                             const char *fmt, ...) G_GNUC_PRINTF(3, 4);
