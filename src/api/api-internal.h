/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: the server, a request, a route, and who is calling. */
#pragma once
#include <gio/gio.h>
#include <json-glib/json-glib.h>
#include <libsoup/soup.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "api/api.h"
#include "api/meter.h"

enum {
    AT_API_CONNECTIONS_MAX = 256,
    AT_API_STREAMS_MAX = 64,              /* event streams and consoles together */
    AT_API_IDLE_S = 60,                   /* a connection that is silent this long is closed */
    AT_API_HEADER_MAX = 128 * 1024,       /* bytes of a request before its body */
    AT_API_BODY_SMALL = 64 * 1024,        /* bodies without long lists */
    AT_API_BODY_MAX = 8 * 1024 * 1024,    /* the largest body of any route */
    AT_API_BODIES_MAX = 64 * 1024 * 1024, /* of all requests together */
};

/* ---- who is calling (peer.c) ---- */

struct at_peer {
    uid_t uid;
    gid_t gid;
    pid_t pid;
    char *user; /* login name, or "uid 1000" */
    char *from; /* "unix socket, pid 123" */
    bool allowed;
};
struct at_peer *at_peer_new(GSocket *socket);
void at_peer_free(struct at_peer *peer);
/* Root, the user that runs this process, and members of @group, primary or supplementary. */
bool at_peer_is_member(uid_t uid, gid_t gid, const char *group);
#define AT_API_GROUP "atoll"

/* ---- connections (accept.c) ---- */

struct at_connection {
    GSocket *socket;
    struct at_meter *meter;
    struct at_peer *peer;
};
/* Hands connections of the listening socket @fd (taken) to the server. */
GSocketService *at_accept_start(struct at_api *api, int fd, GError **error);
struct at_connection *at_connection_of(SoupServerMessage *msg);
/* Ends the connection as a dead client would. */
void at_connection_drop(struct at_connection *connection);

/* ---- the socket file (socket.c) ---- */

struct at_socket_file {
    char *path;
    dev_t dev;
    ino_t ino;
};
/* A listening descriptor, or -1. */
int at_socket_publish(const char *path, struct at_socket_file *ret_file, GError **error);
/* Removes the file unless somebody has replaced it. */
void at_socket_withdraw(struct at_socket_file *file);

/* ---- the server ---- */

struct at_api {
    struct at_core *core;
    SoupServer *server;
    GSocketService *service;
    struct at_socket_file file;
    unsigned *connections; /* g_rc_box: connections may end after us */
    size_t bodies;         /* bytes of request bodies held now */
    GPtrArray *events;     /* struct event_stream* */
    GPtrArray *consoles;   /* struct console* */
};

/* ---- routes ---- */

enum at_param_type {
    AT_PARAM_STRING,
    AT_PARAM_BOOL,
    AT_PARAM_INT,
    AT_PARAM_NUMBER,
    AT_PARAM_STRINGS, /* a list; in bodies only */
    AT_PARAM_OBJECT,  /* in bodies only; its members are checked by whom it is for */
};
struct at_param {
    const char *name; /* NULL ends a list */
    enum at_param_type type;
    bool required;
    int64_t min, max; /* of numbers; of the length of strings, 0: 1..4096 */
};

enum at_answer {
    AT_ANSWER_JSON,    /* 200 with what the handler returns */
    AT_ANSWER_JOB,     /* 202 with {"job": what the handler returns} */
    AT_ANSWER_OWN,     /* the handler answers, now or later */
    AT_ANSWER_UPGRADE, /* a WebSocket: the handler runs before the handshake */
};

struct at_request;
typedef JsonNode *(*at_handler)(struct at_request *r, GError **error);

struct at_route {
    const char *method;
    const char *path; /* "/v1/vdcs/{vdc}": braces take one segment, a name */
    enum at_answer answer;
    at_handler handle;
    const struct at_param *query; /* NULL: none */
    const struct at_param *body;  /* NULL: takes none, or with @definition a VDC definition */
    bool definition;
    size_t body_max; /* 0: AT_API_BODY_SMALL */
};
extern const struct at_route at_routes[];
extern const unsigned at_n_routes;

enum { AT_SEGMENTS_MAX = 3 };

/* Finds the route of @path (still percent-encoded) and its names. NULL with NOT_FOUND, INVALID (a
 * name that cannot be one), or INVALID with @ret_allow set: the path has other methods.
 * @ret_names[AT_SEGMENTS_MAX + 1]: newly allocated, NULL-terminated. */
const struct at_route *at_route_find(const char *method, const char *path, char **ret_names,
                                     char **ret_allow, GError **error);

/* ---- a request ---- */

struct at_request {
    struct at_api *api;
    SoupServerMessage *msg; /* owns this */
    struct at_connection *connection;
    const struct at_route *route;
    char *names[AT_SEGMENTS_MAX + 1]; /* of the path, in order */
    GHashTable *query;                /* name -> text; NULL when there is none */
    GByteArray *raw;                  /* the body as it comes in */
    JsonNode *body;                   /* parsed: an object; NULL when the route takes none */
    struct at_actor actor;
    char *pointer; /* where in the body an error is */
};

/* The body's object (never NULL once parsed) and query values, with defaults. */
JsonObject *at_request_object(struct at_request *r);
bool at_request_query_bool(struct at_request *r, const char *name, bool fallback);
int64_t at_request_query_int(struct at_request *r, const char *name, int64_t fallback);
const char *at_request_query(struct at_request *r, const char *name);
/* A member that is a list of strings, NULL when it is not there; borrowed strings. */
const char **at_request_strings(struct at_request *r, const char *name);

/* Fills query and body, or says what is wrong; errors name what is allowed (params.c). */
bool at_request_parse(struct at_request *r, GError **error);

/* ---- answers (reply.c) ---- */

void at_reply_json(SoupServerMessage *msg, unsigned status, JsonNode *node);
void at_reply_text(SoupServerMessage *msg, const char *type, const char *text, size_t len);
/* The one place where codes become status numbers. @pointer may be NULL. */
void at_reply_error(SoupServerMessage *msg, const GError *error, const char *pointer);
unsigned at_reply_status(int code);

/* ---- streams ---- */

JsonNode *at_handle_events(struct at_request *r, GError **error);
void at_events_end_all(struct at_api *api);
/* Opens the serial console; the descriptor waits on the message for the handshake. */
JsonNode *at_handle_console(struct at_request *r, GError **error);
void at_console_connected(struct at_api *api, SoupServerMessage *msg,
                          SoupWebsocketConnection *websocket);
void at_consoles_end_all(struct at_api *api);
