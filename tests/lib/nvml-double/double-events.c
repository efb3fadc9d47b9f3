/* SPDX-License-Identifier: Apache-2.0 */
/* NVML's double: events, which come from the state file. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/nvml-double/double.h"

enum { XID = 0x8, LOOK_US = 5000 };

struct event_set {
    nvmlDevice_t devices[CARDS];
    unsigned n;
};

EXPORT nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *ret);
nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *ret)
{
    int result = enter("nvmlEventSetCreate");
    if (result)
        return result;
    *ret = calloc(1, sizeof **ret);
    return leave(*ret ? OK : 20);
}

EXPORT nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set);
nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
    free(set);
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *ret);
nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *ret)
{
    struct card *card;
    int result = enter("nvmlDeviceGetSupportedEventTypes");
    if (result)
        return result;
    *ret = XID | 0x1 | 0x2;
    return leave(card_of(device, DEVICE, &card));
}

EXPORT nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long kinds,
                                             nvmlEventSet_t set);
nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long kinds,
                                      nvmlEventSet_t set)
{
    struct card *card;
    int result = enter("nvmlDeviceRegisterEvents");
    if (result)
        return result;
    if ((result = card_of(device, DEVICE, &card)))
        return leave(result);
    if (!(kinds & XID) || set->n == CARDS)
        return leave(NOT_SUPPORTED);
    set->devices[set->n++] = device;
    return leave(OK);
}

/* TIMEOUT when there is none for the cards of the set. */
static int take_event(const struct event_set *set, nvmlEventData_t *ret)
{
    for (unsigned d = 0; d < set->n; d++) {
        struct card *card;
        int result = card_of(set->devices[d], DEVICE, &card);
        for (unsigned i = 0; i < state.n_events; i++) {
            struct event *e = &state.events[i];
            if (strcmp(e->address, set->devices[d]->address) != 0 || result == INVALID)
                continue;
            *ret = (nvmlEventData_t){.device = set->devices[d],
                                     .eventType = XID,
                                     .eventData = e->xid,
                                     .gpuInstanceId = ~0U,
                                     .computeInstanceId = ~0U};
            memmove(e, e + 1, (--state.n_events - i) * sizeof *e);
            state.changed = true;
            return OK;
        }
        if (result == IS_LOST)
            return IS_LOST;
    }
    return TIMEOUT;
}

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

EXPORT nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *ret, unsigned ms);
nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *ret, unsigned ms)
{
    long long deadline = now_ms() + ms;
    for (;;) {
        int result = enter("nvmlEventSetWait_v2");
        if (result)
            return result;
        result = leave(take_event(set, ret));
        if (result != TIMEOUT || now_ms() >= deadline)
            return result;
        usleep(LOOK_US);
    }
}
