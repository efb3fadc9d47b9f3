/* SPDX-License-Identifier: Apache-2.0 */
/* Watching machines: process end, QMP events, I/O-error stops, restart policy. */
#include "core/supervisor.h"

#include <glib-unix.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/gpu.h"
#include "core/health.h"
#include "core/restart.h"
#include "core/vdc.h"
#include "qemu/qmp.h"

enum {
    CONT_FIRST_MS = 1000, /* from one try to continue a guest to the next */
    CONT_MAX_MS = 10000,
    LOOK_MS = 500,
    CALM_MS = 5000, /* running as long as this, its disk is well again */
};

struct live {
    struct at_core *core;
    char *id, *vdc, *workstation, *restart;
    struct at_process process;
    const char *accel;  /* as QEMU says; NULL: it does not */
    struct at_qmp *qmp; /* main thread */
    int pidfd;          /* main thread */
    unsigned pid_watch, qmp_watch, cont_timer, cont_delay_ms, calm_timer;
    bool paused, io_stopped, expected, guest_shutdown, ended, crashed;
    bool io_told; /* main thread: the disk's trouble was told and is not known to be over */
    int64_t started_us;
    struct at_health *health; /* main thread; NULL: no checks */
};

struct at_supervisor {
    struct at_core *core;
    GMutex lock;       /* guards the table and the members of struct live that are not marked */
    GHashTable *lives; /* machine id -> struct live* */
    unsigned health_timer;
};

static gboolean process_ended(int fd, GIOCondition condition, void *user);
static gboolean qmp_ready(int fd, GIOCondition condition, void *user);

/* Everything that only a running machine needs. */
static void release(struct live *live)
{
    unsigned *const sources[] = {&live->pid_watch, &live->qmp_watch, &live->cont_timer,
                                 &live->calm_timer};
    for (unsigned i = 0; i < G_N_ELEMENTS(sources); i++)
        g_clear_handle_id(sources[i], g_source_remove);
    at_close_fd(&live->pidfd);
    g_clear_pointer(&live->qmp, at_qmp_close);
    g_clear_pointer(&live->health, at_health_free);
}

static void live_free(struct live *live)
{
    release(live);
    g_free(live->id);
    g_free(live->vdc);
    g_free(live->workstation);
    g_free(live->restart);
    g_free(live);
}

static gboolean health_tick(void *user)
{
    struct at_supervisor *s = user;
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, s->lives); /* only the main thread inserts and removes */
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct live *live = value;
        if (live->health && !live->ended)
            at_health_tick(live->health, live->paused);
    }
    return G_SOURCE_CONTINUE;
}

struct at_supervisor *at_supervisor_new(struct at_core *core)
{
    struct at_supervisor *s = g_new0(struct at_supervisor, 1);
    s->core = core;
    g_mutex_init(&s->lock);
    s->lives = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)live_free);
    s->health_timer = g_timeout_add(500, health_tick, s);
    return s;
}

void at_supervisor_free(struct at_supervisor *s)
{
    if (!s)
        return;
    g_source_remove(s->health_timer);
    g_hash_table_unref(s->lives);
    g_mutex_clear(&s->lock);
    g_free(s);
}

static void emit(struct live *live, const char *type, JsonObject *data)
{
    g_autofree char *subject = g_strdup_printf("%s/%s", live->vdc, live->workstation);
    at_event_emit(live->core, type, subject, "atolld", data);
}

/* ---- main thread ---- */

static gboolean continue_guest(void *user)
{
    struct live *live = user;
    live->cont_timer = 0;
    if (!live->io_stopped || live->ended)
        return G_SOURCE_REMOVE;
    if (at_nbd_alive(live->core)) {
        at_qmp_forget(live->qmp, at_qmp_send(live->qmp, "cont", NULL, -1, NULL));
        live->cont_delay_ms = MIN(live->cont_delay_ms * 3 / 2, CONT_MAX_MS);
    }
    live->cont_timer = g_timeout_add(live->cont_delay_ms, continue_guest, live);
    return G_SOURCE_REMOVE;
}

static void io_error(struct live *live, JsonObject *data)
{
    if (g_strcmp0(at_json_str(data, "action", ""), "stop") != 0)
        return;
    g_clear_handle_id(&live->calm_timer, g_source_remove);
    if (!live->io_told) {
        JsonObject *d = json_object_new();
        at_json_set_str(d, "node", at_json_str(data, "node-name", NULL));
        at_json_set_str(d, "reason", at_json_str(data, "reason", NULL));
        emit(live, "workstation.io-error", d);
        at_core_log("VDC %s: workstation %s: disk %s: %s; the guest waits and goes on when the "
                    "disk answers again",
                    live->vdc, live->workstation, at_json_str(data, "node-name", "?"),
                    at_json_str(data, "reason", "I/O error"));
        live->cont_delay_ms = CONT_FIRST_MS;
    }
    live->io_stopped = live->io_told = true;
    if (!live->cont_timer)
        live->cont_timer = g_timeout_add(live->cont_delay_ms, continue_guest, live);
}

static gboolean io_is_over(void *user)
{
    struct live *live = user;
    live->calm_timer = 0;
    live->io_told = false;
    emit(live, "workstation.io-resumed", NULL);
    return G_SOURCE_REMOVE;
}

/* A guest whose disk is still full runs for a moment after each try and stops again: that is one
 * trouble, told once, until it has kept running. */
static void resumed(struct live *live)
{
    if (live->io_told && !live->calm_timer)
        live->calm_timer = g_timeout_add(CALM_MS, io_is_over, live);
    live->paused = live->io_stopped = false;
}

static void handle_event(struct live *live, JsonObject *event)
{
    const char *name = at_json_str(event, "event", "");
    JsonObject *data = at_json_obj(event, "data");
    if (g_str_equal(name, "STOP")) {
        live->paused = true;
    } else if (g_str_equal(name, "RESUME")) {
        resumed(live);
    } else if (g_str_equal(name, "SHUTDOWN")) {
        live->guest_shutdown = at_json_bool(data, "guest", false) &&
                               g_strcmp0(at_json_str(data, "reason", ""), "guest-panic") != 0;
    } else if (g_str_equal(name, "BLOCK_IO_ERROR")) {
        io_error(live, data);
    }
}

static bool drain(struct live *live)
{
    bool open = at_qmp_dispatch(live->qmp, NULL);
    for (;;) {
        g_autoptr(JsonNode) event = at_qmp_next_event(live->qmp, 0, NULL);
        if (!event)
            return open;
        handle_event(live, json_node_get_object(event));
    }
}

static gboolean qmp_ready(int fd, GIOCondition condition, void *user)
{
    struct live *live = user;
    (void)fd;
    (void)condition;
    if (drain(live))
        return G_SOURCE_CONTINUE;
    live->qmp_watch = 0; /* the pidfd tells the rest */
    return G_SOURCE_REMOVE;
}

static bool set_crashed(at_mach *mach, void *user)
{
    g_free(mach->last_crash);
    mach->last_crash = g_strdup(user);
    mach->down_by_crash = true;
    return true;
}

static void record_crash(struct live *live)
{
    g_autofree char *now = at_clock_rfc3339();
    g_autoptr(GError) error = NULL;
    if (!at_mach_update(live->core->catalog, live->id, set_crashed, now, &error) &&
        at_error_classify(error) != AT_ERROR_NOT_FOUND)
        at_core_log("record of machine %s: %s", live->id, error->message);
}

/* @how: what is known beside, or NULL. */
static void tell_end(struct live *live, const char *how)
{
    JsonObject *data = json_object_new();
    json_object_set_int_member(data, "pid", live->process.pid);
    json_object_set_string_member(data, "restart", live->restart);
    if (how)
        json_object_set_string_member(data, "reason", how);
    emit(live, live->crashed ? "workstation.crashed" : "workstation.stopped", data);
    if (!live->crashed)
        return;
    record_crash(live);
    at_core_log("VDC %s: workstation %s: its process %d died%s%s; policy is restart: %s", live->vdc,
                live->workstation, (int)live->process.pid, how ? ": " : "", how ? how : "",
                live->restart);
}

static gboolean process_ended(int fd, GIOCondition condition, void *user)
{
    struct live *live = user;
    (void)fd;
    (void)condition;
    live->pid_watch = 0;
    if (live->qmp)
        drain(live);
    at_process_alive(&live->process); /* reaps it when it is our child */
    struct at_supervisor *s = live->core->supervisor;
    g_mutex_lock(&s->lock);
    live->ended = true;
    bool expected = live->expected;
    live->crashed = !expected && !live->guest_shutdown;
    g_mutex_unlock(&s->lock);
    release(live);
    tell_end(live, NULL);
    if (!expected && !live->core->closing)
        at_restart_decide(live->core, live->id, live->restart, live->crashed, live->started_us);
    if (!expected && !live->core->closing)
        at_gpu_reconcile_later(live->core);
    return G_SOURCE_REMOVE;
}

/* In place of a pidfd, when there is no descriptor to spare. */
static gboolean look_for_end(void *user)
{
    struct live *live = user;
    return at_process_alive(&live->process) ? G_SOURCE_CONTINUE : process_ended(-1, 0, live);
}

static gboolean attach(void *user)
{
    struct live *live = user;
    struct at_supervisor *s = live->core->supervisor;
    live->pidfd = at_process_pidfd(&live->process);
    if (live->qmp)
        live->qmp_watch = g_unix_fd_add(at_qmp_fd(live->qmp), G_IO_IN | G_IO_HUP, qmp_ready, live);
    g_mutex_lock(&s->lock);
    g_hash_table_replace(s->lives, live->id, live);
    g_mutex_unlock(&s->lock);
    if (live->pidfd >= 0)
        live->pid_watch = g_unix_fd_add(live->pidfd, G_IO_IN, process_ended, live);
    else
        live->pid_watch = g_timeout_add(LOOK_MS, look_for_end, live);
    emit(live, "workstation.running", NULL);
    return G_SOURCE_REMOVE;
}

/* ---- any thread ---- */

static const struct at_def_workstation *workstation_of(const at_vdc *vdc, const char *name)
{
    return at_vdc_workstation(vdc, name);
}

static struct live *live_new(struct at_core *core, const at_mach *mach, const at_vdc *vdc,
                             const struct at_process *process)
{
    const struct at_def_workstation *ws = workstation_of(vdc, mach->workstation);
    struct live *live = g_new0(struct live, 1);
    live->core = core;
    live->id = g_strdup(mach->id);
    live->vdc = g_strdup(vdc->name);
    live->workstation = g_strdup(mach->workstation);
    live->restart = g_strdup(ws ? ws->restart : "never");
    live->process = *process;
    live->pidfd = -1;
    live->started_us = at_clock_us();
    return live;
}

void at_supervise_ended(struct at_core *core, const at_mach *mach, const at_vdc *vdc,
                        const struct at_process *process)
{
    struct live *live = live_new(core, mach, vdc, process);
    live->ended = live->crashed = true;
    g_mutex_lock(&core->supervisor->lock);
    g_hash_table_replace(core->supervisor->lives, live->id, live);
    g_mutex_unlock(&core->supervisor->lock);
    tell_end(live, "it ended while atolld did not run");
}

bool at_supervise(struct at_core *core, const at_mach *mach, const at_vdc *vdc,
                  const struct at_process *process, GError **error)
{
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    g_autofree char *socket_path = g_build_filename(dir, "qmp-a.sock", NULL);
    struct at_qmp *qmp = at_qmp_open(socket_path, 10000, error);
    if (!qmp)
        return false;
    g_autoptr(JsonNode) status = NULL, kvm = NULL;
    const struct at_def_workstation *ws = workstation_of(vdc, mach->workstation);
    struct live *live = live_new(core, mach, vdc, process);
    live->qmp = qmp;
    if (at_qmp_call(qmp, "query-kvm", NULL, 10000, &kvm, NULL) && JSON_NODE_HOLDS_OBJECT(kvm))
        live->accel =
            at_accel_name(at_json_bool(json_node_get_object(kvm), "enabled", false) ? AT_ACCEL_KVM
                                                                                    : AT_ACCEL_TCG);
    if (at_qmp_call(qmp, "query-status", NULL, 10000, &status, NULL)) {
        const char *state = at_json_str(json_node_get_object(status), "status", "running");
        live->paused = !g_str_equal(state, "running");
        live->io_stopped = g_str_equal(state, "io-error");
    }
    if (live->io_stopped) {
        live->io_told = true; /* by an earlier daemon */
        live->cont_delay_ms = CONT_FIRST_MS;
        live->cont_timer = g_timeout_add(CONT_FIRST_MS, continue_guest, live);
    }
    if (ws && ws->health && ws->health->len)
        live->health = at_health_new(core, mach, vdc, ws);
    at_core_call(core, attach, live);
    return true;
}

static struct live *lookup_locked(struct at_core *core, const char *id)
{
    return g_hash_table_lookup(core->supervisor->lives, id);
}

void at_supervise_expect_exit(struct at_core *core, const char *id, bool expected)
{
    g_mutex_lock(&core->supervisor->lock);
    struct live *live = lookup_locked(core, id);
    if (live)
        live->expected = expected;
    g_mutex_unlock(&core->supervisor->lock);
}

struct forget {
    struct at_core *core;
    char *id;
};

static gboolean forget_live(void *user)
{
    struct forget *f = user;
    struct at_supervisor *s = f->core->supervisor;
    struct live *live = s ? lookup_locked(f->core, f->id) : NULL;
    if (live && !live->ended && !at_process_alive(&live->process))
        process_ended(-1, 0, live); /* its end has not been told yet */
    if (live) {
        g_mutex_lock(&s->lock);
        g_hash_table_remove(s->lives, f->id);
        g_mutex_unlock(&s->lock);
    }
    if (s)
        at_restart_forget(f->core, f->id);
    g_free(f->id);
    g_free(f);
    return G_SOURCE_REMOVE;
}

void at_supervise_forget(struct at_core *core, const char *id)
{
    struct forget *f = g_new(struct forget, 1);
    *f = (struct forget){core, g_strdup(id)};
    at_core_later(core, forget_live, f);
}

struct update {
    struct at_core *core;
    const at_mach *mach;
    const at_vdc *vdc;
};

static gboolean update_live(void *user)
{
    struct update *u = user;
    struct live *live = lookup_locked(u->core, u->mach->id);
    const struct at_def_workstation *ws = workstation_of(u->vdc, u->mach->workstation);
    if (!live || live->ended || !ws)
        return G_SOURCE_REMOVE;
    g_free(live->restart);
    live->restart = g_strdup(ws->restart);
    at_health_free(live->health);
    live->health =
        ws->health && ws->health->len ? at_health_new(u->core, u->mach, u->vdc, ws) : NULL;
    return G_SOURCE_REMOVE;
}

void at_supervise_update(struct at_core *core, const at_mach *mach, const at_vdc *vdc)
{
    struct update u = {core, mach, vdc};
    at_core_call(core, update_live, &u);
}

bool at_machine_process(struct at_core *core, const char *id, struct at_process *ret_process)
{
    g_mutex_lock(&core->supervisor->lock);
    struct live *live = lookup_locked(core, id);
    struct at_process process = live ? live->process : (struct at_process){0};
    g_mutex_unlock(&core->supervisor->lock);
    if (!live || !at_process_alive(&process))
        return false;
    *ret_process = process;
    return true;
}

void at_machine_status(struct at_core *core, const char *id, struct at_machine_status *ret)
{
    *ret = (struct at_machine_status){.state = "stopped", .health = "none"};
    g_mutex_lock(&core->supervisor->lock);
    struct live *live = lookup_locked(core, id);
    if (live && !live->ended) {
        ret->state = live->io_stopped || live->paused ? "paused" : "running";
        ret->io_stopped = live->io_stopped;
        ret->pid = live->process.pid;
        ret->accel = live->accel;
        at_health_view(live->health, &ret->health, ret->health_reason, sizeof ret->health_reason);
    } else if (live && live->crashed) {
        ret->state = "crashed";
    }
    g_mutex_unlock(&core->supervisor->lock);
}
