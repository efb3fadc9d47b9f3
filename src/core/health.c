/* SPDX-License-Identifier: Apache-2.0 */
/* Health checks: HTTP and TCP from inside the VDC's network, or the guest agent. */
#include "core/health.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/plain.h"
#include "net/net.h"
#include "qemu/agent.h"

enum { POOL = 4 };

struct check {
    char *kind, *target;
    unsigned every_s, timeout_s;
    int64_t due_us;
    bool in_flight, answered, ok;
    char reason[160];
};

struct at_health {
    gatomicrefcount refs; /* the machine's, and one for each check under way */
    struct at_core *core;
    char *subject, *vdc_id, *agent_socket;
    GPtrArray *checks;
    const char *state;
    bool dropped; /* main thread */
};

struct task {
    struct at_health *health;
    struct check *check;
    bool ok;
    char *reason;
};

static void check_free(void *p)
{
    struct check *c = p;
    g_free(c->kind);
    g_free(c->target);
    g_free(c);
}

static void unref(struct at_health *h)
{
    if (!g_atomic_ref_count_dec(&h->refs))
        return;
    g_ptr_array_unref(h->checks);
    g_free(h->subject);
    g_free(h->vdc_id);
    g_free(h->agent_socket);
    g_free(h);
}

struct at_health *at_health_new(struct at_core *core, const at_mach *mach, const at_vdc *vdc,
                                const struct at_def_workstation *ws)
{
    struct at_health *h = g_new0(struct at_health, 1);
    g_atomic_ref_count_init(&h->refs);
    h->core = core;
    h->subject = g_strdup_printf("%s/%s", vdc->name, ws->name);
    h->vdc_id = g_strdup(vdc->id);
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    h->agent_socket = g_build_filename(dir, "qga.sock", NULL);
    h->checks = g_ptr_array_new_with_free_func(check_free);
    h->state = "unknown";
    for (unsigned i = 0; i < ws->health->len; i++) {
        const struct at_def_health *def = ws->health->pdata[i];
        struct check *c = g_new0(struct check, 1);
        c->kind = g_strdup(def->kind);
        c->target = g_strdup(def->target);
        c->every_s = MAX(1u, def->every_s);
        c->timeout_s = CLAMP(def->timeout_s, 1u, 60u);
        g_ptr_array_add(h->checks, c);
    }
    return h;
}

void at_health_free(struct at_health *h)
{
    if (!h)
        return;
    h->dropped = true;
    unref(h);
}

static void judge(struct at_health *h)
{
    const char *state = "healthy";
    for (unsigned i = 0; i < h->checks->len; i++) {
        const struct check *c = h->checks->pdata[i];
        if (!c->answered && !g_str_equal(state, "unhealthy"))
            state = "unknown";
        else if (c->answered && !c->ok)
            state = "unhealthy";
    }
    if (g_str_equal(state, h->state))
        return;
    h->state = state;
    JsonObject *data = json_object_new();
    json_object_set_string_member(data, "health", state);
    at_event_emit(h->core, "workstation.health", h->subject, "atolld", data);
}

static gboolean take_answer(void *user)
{
    struct task *t = user;
    struct check *c = t->check;
    c->in_flight = false;
    c->answered = true;
    c->ok = t->ok;
    at_plain_copy(c->reason, sizeof c->reason, t->reason ? t->reason : ""); /* a guest's words */
    c->due_us = at_clock_us() + (int64_t)(t->ok ? c->every_s : MIN(c->every_s, 2u)) * 1000000;
    if (!t->health->dropped)
        judge(t->health);
    unref(t->health);
    g_free(t->reason);
    g_free(t);
    return G_SOURCE_REMOVE;
}

static bool ask(struct at_health *h, const struct check *c, GError **error)
{
    int timeout_ms = (int)c->timeout_s * 1000;
    if (g_str_equal(c->kind, "http"))
        return at_net_probe_http(h->core->site_id, h->vdc_id, c->target, timeout_ms, error);
    if (g_str_equal(c->kind, "tcp")) {
        g_auto(GStrv) part = g_strsplit(c->target ? c->target : "", ":", 2);
        if (g_strv_length(part) != 2)
            return at_error(error, AT_ERROR_INVALID, "a tcp check needs address:port");
        return at_net_probe_tcp(h->core->site_id, h->vdc_id, part[0],
                                (uint16_t)g_ascii_strtoull(part[1], NULL, 10), timeout_ms, error);
    }
    struct at_agent *agent = at_agent_open(h->agent_socket, timeout_ms, error);
    if (!agent)
        return false;
    bool ok = at_agent_call(agent, "guest-ping", NULL, timeout_ms, NULL, error);
    at_agent_close(agent);
    return ok;
}

static void pool_func(void *data, void *user)
{
    struct task *t = data;
    g_autoptr(GError) error = NULL;
    (void)user;
    t->ok = ask(t->health, t->check, &error);
    t->reason = error ? g_strdup(error->message) : NULL;
    at_core_later(t->health->core, take_answer, t);
}

static GThreadPool *pool(void)
{
    static GThreadPool *shared;
    static size_t once;
    if (g_once_init_enter(&once)) {
        shared = g_thread_pool_new(pool_func, NULL, POOL, FALSE, NULL);
        g_once_init_leave(&once, 1);
    }
    return shared;
}

void at_health_tick(struct at_health *h, bool paused)
{
    int64_t now = at_clock_us();
    for (unsigned i = 0; i < h->checks->len && !paused; i++) {
        struct check *c = h->checks->pdata[i];
        if (c->in_flight || c->due_us > now)
            continue;
        struct task *t = g_new0(struct task, 1);
        t->health = h;
        t->check = c;
        c->in_flight = true;
        g_atomic_ref_count_inc(&h->refs);
        g_thread_pool_push(pool(), t, NULL);
    }
}

void at_health_view(const struct at_health *h, const char **ret_state, char *reason, size_t cap)
{
    *ret_state = h ? h->state : "none";
    if (cap > 0)
        *reason = '\0';
    for (unsigned i = 0; h && i < h->checks->len; i++) {
        const struct check *c = h->checks->pdata[i];
        if (c->answered && !c->ok)
            at_plain_copy(reason, cap, c->reason);
    }
}
