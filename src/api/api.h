/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP API of a site on a unix socket: /v1, JSON, as in data/openapi.json. */
#pragma once
#include <glib.h>
#include <stdbool.h>

#include "core/core.h"

struct at_api;

/* Serves @core on @socket_path in the thread-default main context, until at_api_free().
 * The socket file appears at once with its mode: 0660 and group `atoll` when the host has that
 * group, else 0600. Root and the members of that group may call; others get 403.
 * A socket that nobody listens on any more is replaced; one that answers is CONFLICT, and so is a
 * path that is no socket. INVALID when the path is too long for a socket (about 100 bytes).
 * @core must outlive the API. */
struct at_api *at_api_new(struct at_core *core, const char *socket_path, GError **error);

/* True when at_api_new() could take @socket_path now; else false with its errors. For saying so
 * before anything else is opened. */
bool at_api_check_socket(const char *socket_path, GError **error);

/* Ends streams and consoles, closes connections, removes the socket file if it is still ours.
 * Guests and jobs go on. */
void at_api_free(struct at_api *api);
typedef struct at_api at_api;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_api, at_api_free)

/* The API description as it is served, JSON text; static. */
const char *at_api_openapi(void);
