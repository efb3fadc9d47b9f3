/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/events: server-sent events. libsoup queues without bound for a client that does not
 * read, so what waits is counted, and such a client is dropped; it comes back with Last-Event-ID.
 */
#include <inttypes.h>
#include <string.h>

#include "api/api-internal.h"
#include "base/error.h"
#include "base/json.h"

enum {
    QUEUE_MAX = 4 * 1024 * 1024, /* more than a replay of everything that core remembers */
    HEARTBEAT_S = 15,
};

struct event_stream {
    struct at_api *api;
    SoupServerMessage *msg;
    struct at_connection *connection;
    unsigned watch; /* of core */
    GSource *heartbeat;
    gulong wrote, finished; /* signal handlers */
    uint64_t queued;        /* bytes that libsoup holds */
    bool dropped;
};

static void stream_send(struct event_stream *s, const char *text)
{
    size_t len = strlen(text);
    if (s->dropped)
        return;
    if (s->queued + len > QUEUE_MAX) {
        s->dropped = true;
        g_message("api: an event client does not read (%s); its connection is closed",
                  s->connection->peer->from);
        at_connection_drop(s->connection);
        return;
    }
    s->queued += len;
    soup_message_body_append(soup_server_message_get_response_body(s->msg), SOUP_MEMORY_COPY, text,
                             len);
    soup_server_message_unpause(s->msg);
}

static void on_event(uint64_t id, JsonNode *event, void *user)
{
    g_autofree char *data = at_json_text(event);
    const char *type = at_json_str(json_node_get_object(event), "type", "message");
    g_autofree char *text =
        g_strdup_printf("id: %" PRIu64 "\nevent: %s\ndata: %s\n\n", id, type, data);
    stream_send(user, text);
}

static gboolean on_heartbeat(gpointer user)
{
    stream_send(user, ": heartbeat\n\n");
    return G_SOURCE_CONTINUE;
}

static void on_wrote(SoupServerMessage *msg, unsigned bytes, gpointer user)
{
    struct event_stream *s = user;
    s->queued -= MIN(s->queued, bytes);
}

static void stream_free(struct event_stream *s)
{
    if (s->watch)
        at_core_events_unwatch(s->api->core, s->watch);
    g_source_destroy(s->heartbeat);
    g_source_unref(s->heartbeat);
    g_signal_handler_disconnect(s->msg, s->wrote);
    g_signal_handler_disconnect(s->msg, s->finished);
    g_ptr_array_remove_fast(s->api->events, s);
    g_object_unref(s->msg);
    g_free(s);
}

static void on_finished(SoupServerMessage *msg, gpointer user)
{
    stream_free(user);
}

/* Where the client wants to go on: the header that browsers send, or ?since=. */
static bool start_after(struct at_request *r, uint64_t *ret_since, GError **error)
{
    SoupMessageHeaders *headers = soup_server_message_get_request_headers(r->msg);
    const char *last = soup_message_headers_get_one(headers, "Last-Event-ID");
    *ret_since = (uint64_t)at_request_query_int(r, "since", 0);
    if (last && *last && !g_ascii_string_to_unsigned(last, 10, 0, INT64_MAX, ret_since, NULL))
        return at_error(error, AT_ERROR_INVALID, "Last-Event-ID: a number, found \"%s\"", last);
    return true;
}

JsonNode *at_handle_events(struct at_request *r, GError **error)
{
    uint64_t since;
    if (!start_after(r, &since, error))
        return NULL;
    if (r->api->events->len + r->api->consoles->len >= AT_API_STREAMS_MAX) {
        at_error(error, AT_ERROR_UNAVAILABLE, "%d event streams and consoles are open already",
                 AT_API_STREAMS_MAX);
        return NULL;
    }
    struct event_stream *s = g_new0(struct event_stream, 1);
    s->api = r->api;
    s->msg = g_object_ref(r->msg);
    s->connection = r->connection;
    SoupMessageHeaders *headers = soup_server_message_get_response_headers(s->msg);
    soup_message_headers_set_content_type(headers, "text/event-stream", NULL);
    soup_message_headers_replace(headers, "Connection", "close");
    soup_message_headers_replace(headers, "Cache-Control", "no-store");
    soup_message_headers_set_encoding(headers, SOUP_ENCODING_CHUNKED);
    soup_message_body_set_accumulate(soup_server_message_get_response_body(s->msg), FALSE);
    soup_server_message_set_status(s->msg, 200, NULL);
    s->wrote = g_signal_connect(s->msg, "wrote-body-data", G_CALLBACK(on_wrote), s);
    s->finished = g_signal_connect(s->msg, "finished", G_CALLBACK(on_finished), s);
    s->heartbeat = g_timeout_source_new(HEARTBEAT_S * 1000);
    g_source_set_callback(s->heartbeat, on_heartbeat, s, NULL);
    g_source_attach(s->heartbeat, g_main_context_get_thread_default());
    g_ptr_array_add(r->api->events, s);
    stream_send(s, "retry: 2000\n\n"); /* lets the client see the answer at once */
    s->watch = at_core_events_watch(r->api->core, since, on_event, s);
    return NULL;
}

void at_events_end_all(struct at_api *api)
{
    while (api->events->len > 0) {
        struct event_stream *s = api->events->pdata[0];
        at_connection_drop(s->connection);
        stream_free(s);
    }
}
