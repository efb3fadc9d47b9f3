/* SPDX-License-Identifier: Apache-2.0 */
/* The bounded queue of events: a reader that is slow, or never comes, costs bounded memory, and the
 * events that supervision lives on are not lost to a flood of others. */
#include <string.h>

#include "base/json.h"
#include "qemu/qmp-internal.h"

struct at_qmp_event {
    JsonNode *node;
    size_t bytes;
    uint64_t serial;
    bool keep; /* never dropped to make room */
};

static void event_free(struct at_qmp_event *event)
{
    json_node_unref(event->node);
    g_free(event);
}

static bool must_keep(const char *name)
{
    static const char *const names[] = {"STOP", "RESUME", "SHUTDOWN", "BLOCK_IO_ERROR"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

static bool make_room(struct at_qmp_events *events)
{
    for (GList *l = events->queue.head; l; l = l->next) {
        struct at_qmp_event *event = l->data;
        if (event->keep)
            continue;
        events->bytes -= event->bytes;
        g_queue_delete_link(&events->queue, l);
        event_free(event);
        return true;
    }
    return false;
}

static int64_t timestamp_us(JsonObject *obj)
{
    JsonObject *t = at_json_obj(obj, "timestamp");
    int64_t seconds = at_json_int(t, "seconds", 0);
    int64_t us = at_json_int(t, "microseconds", 0);
    if (seconds <= 0 || seconds > INT64_MAX / G_USEC_PER_SEC - 1 || us < 0 || us >= G_USEC_PER_SEC)
        return 0;
    return seconds * G_USEC_PER_SEC + us;
}

bool at_qmp_events_push(struct at_qmp_events *events, JsonNode *node, size_t bytes)
{
    JsonObject *obj = json_node_get_object(node);
    const char *name = at_json_str(obj, "event", "");
    if (strcmp(name, "STOP") == 0)
        events->last_stop_us = timestamp_us(obj);
    else if (strcmp(name, "RESUME") == 0)
        events->last_resume_us = timestamp_us(obj);

    struct at_qmp_event *event = g_new0(struct at_qmp_event, 1);
    *event = (struct at_qmp_event){node, bytes, ++events->last_serial, must_keep(name)};
    while (events->queue.length >= AT_QMP_EVENTS_MAX ||
           events->bytes + bytes > AT_QMP_EVENT_BYTES_MAX) {
        if (!make_room(events)) {
            bool lost = event->keep;
            event_free(event);
            return !lost; /* one that may be dropped gives way to those that may not */
        }
    }
    events->bytes += bytes;
    g_queue_push_tail(&events->queue, event);
    return true;
}

static JsonNode *take_link(struct at_qmp_events *events, GList *link)
{
    struct at_qmp_event *event = link->data;
    JsonNode *node = event->node;
    events->bytes -= event->bytes;
    g_queue_delete_link(&events->queue, link);
    g_free(event);
    return node;
}

JsonNode *at_qmp_events_pop(struct at_qmp_events *events)
{
    return events->queue.head ? take_link(events, events->queue.head) : NULL;
}

JsonNode *at_qmp_events_take(struct at_qmp_events *events, const char *name,
                             bool (*match)(JsonObject *, void *), void *user, uint64_t *after)
{
    for (GList *l = events->queue.head; l; l = l->next) {
        struct at_qmp_event *event = l->data;
        if (event->serial <= *after)
            continue;
        *after = event->serial;
        JsonObject *obj = json_node_get_object(event->node);
        if (strcmp(at_json_str(obj, "event", ""), name) == 0 &&
            (!match || match(at_json_obj(obj, "data"), user)))
            return take_link(events, l);
    }
    return NULL;
}

void at_qmp_events_clear(struct at_qmp_events *events)
{
    JsonNode *node;
    while ((node = at_qmp_events_pop(events)))
        json_node_unref(node);
}
