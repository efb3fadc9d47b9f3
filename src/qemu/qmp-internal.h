/* SPDX-License-Identifier: Apache-2.0 */
/* The bounded queue of events that wait for their reader. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

enum { AT_QMP_EVENTS_MAX = 1024, AT_QMP_EVENT_BYTES_MAX = 32 << 20 };

struct at_qmp_events {
    GQueue queue; /* of struct at_qmp_event, oldest first */
    size_t bytes; /* text length of all of them */
    uint64_t last_serial;
    int64_t last_stop_us;
    int64_t last_resume_us;
};

/* Takes @event, whose text was @bytes long. False when there is no room left that may be made. */
bool at_qmp_events_push(struct at_qmp_events *events, JsonNode *event, size_t bytes);

/* The oldest one, to own; NULL when there is none. */
JsonNode *at_qmp_events_pop(struct at_qmp_events *events);

/* Takes out the first with a serial above *@after that fits; *@after is moved to the last seen. */
JsonNode *at_qmp_events_take(struct at_qmp_events *events, const char *name,
                             bool (*match)(JsonObject *, void *), void *user, uint64_t *after);
void at_qmp_events_clear(struct at_qmp_events *events);
