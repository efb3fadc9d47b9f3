/* SPDX-License-Identifier: Apache-2.0 */
/* Events: a bounded ring with growing ids, delivered on the main loop. */
#include "base/clock.h"
#include "base/json.h"
#include "core/core-internal.h"

enum { RING = 2000 };

struct event {
    uint64_t id;
    JsonNode *node; /* immutable */
};

struct watch {
    unsigned id;
    at_event_func func;
    void *user;
};

struct at_events {
    struct at_core *core;
    GMutex lock;      /* guards ring and last_id */
    GQueue ring;      /* struct event*, oldest first */
    uint64_t last_id; /* begins with the wall clock, so that ids grow over restarts */
    uint64_t delivered;
    GPtrArray *watches; /* main thread only */
    unsigned last_watch;
    bool scheduled;
};

static void event_free(struct event *e)
{
    json_node_unref(e->node);
    g_free(e);
}

struct at_events *at_events_new(struct at_core *core)
{
    struct at_events *events = g_new0(struct at_events, 1);
    events->core = core;
    g_mutex_init(&events->lock);
    g_queue_init(&events->ring);
    events->last_id = events->delivered = (uint64_t)g_get_real_time() / 1000;
    events->watches = g_ptr_array_new_with_free_func(g_free);
    return events;
}

void at_events_free(struct at_events *events)
{
    if (!events)
        return;
    g_queue_clear_full(&events->ring, (GDestroyNotify)event_free);
    g_ptr_array_unref(events->watches);
    g_mutex_clear(&events->lock);
    g_free(events);
}

/* Copies of the events after @since, so that watchers run without the lock. */
static GPtrArray *events_after(struct at_events *events, uint64_t since)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)event_free);
    g_mutex_lock(&events->lock);
    for (GList *l = events->ring.head; l; l = l->next) {
        struct event *e = l->data;
        if (e->id <= since)
            continue;
        struct event *copy = g_new(struct event, 1);
        *copy = (struct event){e->id, json_node_ref(e->node)};
        g_ptr_array_add(list, copy);
    }
    g_mutex_unlock(&events->lock);
    return list;
}

static gboolean deliver(void *user)
{
    struct at_events *events = user;
    g_mutex_lock(&events->lock);
    events->scheduled = false;
    g_mutex_unlock(&events->lock);
    g_autoptr(GPtrArray) list = events_after(events, events->delivered);
    for (unsigned i = 0; i < list->len; i++) {
        struct event *e = list->pdata[i];
        events->delivered = e->id;
        g_autoptr(GPtrArray) now = g_ptr_array_new(); /* borrows: a copy would free them too */
        g_ptr_array_extend(now, events->watches, NULL, NULL);
        for (unsigned w = 0; w < now->len; w++) {
            struct watch *watch = now->pdata[w];
            if (g_ptr_array_find(events->watches, watch, NULL)) /* may have gone meanwhile */
                watch->func(e->id, e->node, watch->user);
        }
    }
    return G_SOURCE_REMOVE;
}

void at_event_emit(struct at_core *core, const char *type, const char *subject, const char *actor,
                   JsonObject *data)
{
    struct at_events *events = core->events;
    g_autofree char *now = at_clock_rfc3339();
    JsonObject *o = json_object_new();
    g_mutex_lock(&events->lock);
    uint64_t id = ++events->last_id;
    json_object_set_int_member(o, "id", (int64_t)id);
    json_object_set_string_member(o, "time", now);
    json_object_set_string_member(o, "type", type);
    at_json_set_str(o, "subject", subject);
    at_json_set_str(o, "actor", actor);
    json_object_set_object_member(o, "data", data ? data : json_object_new());
    struct event *e = g_new(struct event, 1);
    *e = (struct event){id, at_json_take_obj(o)};
    json_node_seal(e->node);
    g_queue_push_tail(&events->ring, e);
    if (g_queue_get_length(&events->ring) > RING)
        event_free(g_queue_pop_head(&events->ring));
    bool schedule = !events->scheduled;
    events->scheduled = true;
    g_mutex_unlock(&events->lock);
    if (schedule)
        at_core_later(core, deliver, events);
}

unsigned at_core_events_watch(struct at_core *core, uint64_t since, at_event_func func, void *user)
{
    struct at_events *events = core->events;
    struct watch *watch = g_new(struct watch, 1);
    *watch = (struct watch){++events->last_watch, func, user};
    if (since) {
        g_autoptr(GPtrArray) list = events_after(events, since);
        for (unsigned i = 0; i < list->len; i++) {
            struct event *e = list->pdata[i];
            if (e->id <= events->delivered) /* the others come by deliver() */
                func(e->id, e->node, user);
        }
    }
    g_ptr_array_add(events->watches, watch);
    return watch->id;
}

void at_core_events_unwatch(struct at_core *core, unsigned id)
{
    struct at_events *events = core->events;
    for (unsigned i = 0; i < events->watches->len; i++) {
        struct watch *watch = events->watches->pdata[i];
        if (watch->id == id) {
            g_ptr_array_remove_index(events->watches, i);
            return;
        }
    }
}
