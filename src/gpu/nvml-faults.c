/* SPDX-License-Identifier: Apache-2.0 */
/* Errors that cards report while they work: a thread waits for NVML's events, in short waits so
 * that it can be ended and NVML be paused. The set of cards is made anew now and then, because
 * cards come back from guests, and at once after handles became invalid. */
#include "base/clock.h"
#include "gpu/nvml-internal.h"

enum {
    WAIT_MS = 200,
    AGAIN_MS = 1000, /* after an error of the library */
    LOOK_MS = 10000, /* for cards that came, went or recovered */
    CARDS_MAX = 256,
    XID_OFF_BUS = 79,
};

struct watched {
    struct nvml_device *device;
    char *address;
};

struct at_nvml_faults {
    struct at_nvml *nvml;
    at_nvml_fault_func func;
    void *user;
    GThread *thread;
    GHashTable *known; /* addresses of cards that ever reported errors; of the thread */
    GHashTable *lost;  /* addresses of cards that were reported so; of the thread */

    GMutex lock; /* guards stop */
    GCond stopped;
    bool stop;
};

static void clear_watched(void *p)
{
    struct watched *w = p;
    g_free(w->address);
}

/* True when the thread is to end; sleeps otherwise. */
static bool stops_within(struct at_nvml_faults *faults, int timeout_ms)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&faults->lock);
    int64_t deadline = at_deadline_ms(timeout_ms);
    while (!faults->stop && timeout_ms > 0) {
        if (!g_cond_wait_until(&faults->stopped, &faults->lock, deadline))
            break;
    }
    return faults->stop;
}

static char *address_of(struct at_nvml *nvml, struct nvml_device *device)
{
    struct nvml_pci_info info = {0};
    if (!nvml->f.pci_info || nvml->f.pci_info(device, &info) != NVML_SUCCESS)
        return NULL;
    g_autofree char *bus_id = at_nvml_text(info.busId, sizeof info.busId);
    return bus_id ? at_nvml_sysfs_address(bus_id) : NULL;
}

static void report(struct at_nvml_faults *faults, const char *address, unsigned xid, bool lost)
{
    if (lost && !g_hash_table_add(faults->lost, g_strdup(address)))
        return;
    faults->func(address, xid, lost, faults->user);
}

/* The cards that report XIDs: struct watched. @ret_count: how many cards there are at all. */
static GArray *register_cards(struct at_nvml_faults *faults, struct nvml_events *events,
                              unsigned *ret_count)
{
    const struct nvml_functions *f = &faults->nvml->f;
    GArray *cards = g_array_new(FALSE, FALSE, sizeof(struct watched));
    g_array_set_clear_func(cards, clear_watched);
    *ret_count = 0;
    if (f->count(ret_count) != NVML_SUCCESS)
        return cards;
    for (unsigned i = 0; i < MIN(*ret_count, (unsigned)CARDS_MAX); i++) {
        struct nvml_device *device = NULL;
        unsigned long long kinds = 0;
        if (f->by_index(i, &device) != NVML_SUCCESS || !device)
            continue;
        if (f->events_kinds(device, &kinds) != NVML_SUCCESS || !(kinds & NVML_EVENT_XID))
            continue;
        struct watched card = {device, address_of(faults->nvml, device)};
        if (card.address && f->events_add(device, NVML_EVENT_XID, events) == NVML_SUCCESS) {
            /* It answers again, after a reset. */
            g_hash_table_remove(faults->lost, card.address);
            if (g_hash_table_size(faults->known) < CARDS_MAX)
                g_hash_table_add(faults->known, g_strdup(card.address));
            g_array_append_val(cards, card);
        } else {
            g_free(card.address);
        }
    }
    return cards;
}

static void deliver(struct at_nvml_faults *faults, const GArray *cards,
                    const struct nvml_event *event)
{
    if (event->eventType != NVML_EVENT_XID || event->eventData == 0 || event->eventData > G_MAXUINT)
        return;
    unsigned xid = (unsigned)event->eventData;
    for (unsigned i = 0; i < cards->len; i++) {
        const struct watched *card = &g_array_index(cards, struct watched, i);
        if (card->device == event->device) {
            report(faults, card->address, xid, xid == XID_OFF_BUS);
            return;
        }
    }
    g_autofree char *address = address_of(faults->nvml, event->device);
    if (address)
        report(faults, address, xid, xid == XID_OFF_BUS);
}

/* The library may remember some answers, but not what it must ask the card for. */
static bool is_lost(const struct nvml_functions *f, struct nvml_device *device)
{
    char uuid[NVML_UUID_SIZE];
    unsigned value;
    return (f->power && f->power(device, &value) == NVML_GPU_IS_LOST) ||
           (f->temperature && f->temperature(device, 0, &value) == NVML_GPU_IS_LOST) ||
           (f->uuid && f->uuid(device, uuid, sizeof uuid) == NVML_GPU_IS_LOST);
}

static void report_lost(struct at_nvml_faults *faults, const GArray *cards)
{
    for (unsigned i = 0; i < cards->len; i++) {
        const struct watched *card = &g_array_index(cards, struct watched, i);
        if (is_lost(&faults->nvml->f, card->device))
            report(faults, card->address, 0, true);
    }
}

/* A card that was lost while nobody waited has no handle any more; it is asked for by address. */
static void report_missing(struct at_nvml_faults *faults)
{
    GHashTableIter iter;
    void *address;
    g_hash_table_iter_init(&iter, faults->known);
    while (g_hash_table_iter_next(&iter, &address, NULL)) {
        struct at_nvml_ask ask;
        if (!at_nvml_ask_init(&ask, faults->nvml, address, NULL) && ask.lost)
            report(faults, address, 0, true);
    }
}

static bool paused(struct at_nvml *nvml)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&nvml->lock);
    return nvml->pauses > 0;
}

static bool cards_differ(struct at_nvml_faults *faults, unsigned count)
{
    unsigned now = 0;
    return faults->nvml->f.count(&now) != NVML_SUCCESS || now != count ||
           g_hash_table_size(faults->lost) > 0;
}

/* Until it must be made anew; true when the library failed and is to be left alone for a while. */
static bool wait_for_events(struct at_nvml_faults *faults, struct nvml_events *events,
                            const GArray *cards, unsigned count)
{
    struct at_nvml *nvml = faults->nvml;
    int generation = g_atomic_int_get(&nvml->generation);
    int64_t look = at_deadline_ms(LOOK_MS);
    while (!stops_within(faults, 0) && !paused(nvml) &&
           g_atomic_int_get(&nvml->generation) == generation) {
        if (at_deadline_left_ms(look) == 0) {
            if (cards_differ(faults, count))
                return false;
            look = at_deadline_ms(LOOK_MS);
        }
        struct nvml_event event = {0};
        int result = nvml->f.events_wait(events, &event, WAIT_MS);
        if (result == NVML_SUCCESS) {
            deliver(faults, cards, &event);
        } else if (result == NVML_GPU_IS_LOST) {
            report_lost(faults, cards);
            return true;
        } else if (result != NVML_TIMEOUT) {
            return true;
        }
    }
    return false;
}

/* True when the library failed. */
static bool watch(struct at_nvml_faults *faults)
{
    const struct nvml_functions *f = &faults->nvml->f;
    struct nvml_events *events = NULL;
    unsigned count;
    if (f->events_new(&events) != NVML_SUCCESS || !events)
        return true;
    g_autoptr(GArray) cards = register_cards(faults, events, &count);
    report_missing(faults);
    /* Without a card there is nothing to wait for in the library. */
    bool failed = cards->len == 0 || wait_for_events(faults, events, cards, count);
    f->events_free(events);
    return failed;
}

static void *run(void *user)
{
    struct at_nvml_faults *faults = user;
    int pause_ms = 0;
    while (!stops_within(faults, pause_ms)) {
        pause_ms = WAIT_MS;
        if (paused(faults->nvml) || !at_nvml_enter(faults->nvml, NULL))
            continue;
        pause_ms = watch(faults) ? AGAIN_MS : 0;
        at_nvml_leave(faults->nvml);
    }
    return NULL;
}

/* Whether events can be had at all, before a thread waits for them. */
static bool probe(struct at_nvml_faults *faults, GError **error)
{
    const struct nvml_functions *f = &faults->nvml->f;
    if (!f->events_new || !f->events_free || !f->events_kinds || !f->events_add ||
        !f->events_wait || !f->count || !f->by_index || !f->pci_info)
        return at_nvml_lacks(error, "report errors of cards");
    struct nvml_events *events = NULL;
    int result = f->events_new(&events);
    if (result != NVML_SUCCESS || !events)
        return at_nvml_fail(error, result ? result : NVML_UNKNOWN,
                            "NVML cannot report errors of cards");
    unsigned count;
    g_autoptr(GArray) cards = register_cards(faults, events, &count);
    f->events_free(events);
    if (count && cards->len == 0)
        return at_error(error, AT_ERROR_UNAVAILABLE, "none of the %u cards reports its errors",
                        count);
    return true;
}

struct at_nvml_faults *at_nvml_faults_new(struct at_nvml *nvml, at_nvml_fault_func func, void *user,
                                          GError **error)
{
    if (!at_nvml_enter(nvml, error))
        return NULL;
    struct at_nvml_faults *faults = g_new0(struct at_nvml_faults, 1);
    faults->nvml = nvml;
    faults->func = func;
    faults->user = user;
    faults->known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    faults->lost = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_mutex_init(&faults->lock);
    g_cond_init(&faults->stopped);
    bool works = probe(faults, error);
    at_nvml_leave(nvml);
    if (works)
        faults->thread = g_thread_new("gpu-faults", run, faults);
    else
        g_clear_pointer(&faults, at_nvml_faults_free);
    return faults;
}

void at_nvml_faults_free(struct at_nvml_faults *faults)
{
    if (!faults)
        return;
    if (faults->thread) {
        g_mutex_lock(&faults->lock);
        faults->stop = true;
        g_cond_broadcast(&faults->stopped);
        g_mutex_unlock(&faults->lock);
        g_thread_join(faults->thread);
    }
    g_hash_table_unref(faults->known);
    g_hash_table_unref(faults->lost);
    g_mutex_clear(&faults->lock);
    g_cond_clear(&faults->stopped);
    g_free(faults);
}
