/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to start machines again: each a timer that looks, waits or starts a job. */
#include "core/restart.h"

#include "base/clock.h"
#include "base/error.h"
#include "core/backoff.h"
#include "core/supervisor.h"
#include "core/vdc.h"

enum {
    LOOK_MS = 1000,
    FIRST_MS = 500,
    MAX_MS = 60 * 1000,
    QUICK_S = 60, /* who ends within this time is started more and more slowly */
    SAVE_TRIES = 5,
};

struct at_restarts {
    struct at_core *core;
    GHashTable *requests; /* machine id -> struct request* */
};

struct request {
    struct at_core *core;
    char *id;
    unsigned timer, failures;
    bool apply_policy;
    bool tried; /* a start job was sent and its outcome not yet looked at */
    char *told; /* the last error that was logged */
};

static void request_free(void *p)
{
    struct request *r = p;
    g_clear_handle_id(&r->timer, g_source_remove);
    g_free(r->id);
    g_free(r->told);
    g_free(r);
}

struct at_restarts *at_restarts_new(struct at_core *core)
{
    struct at_restarts *restarts = g_new0(struct at_restarts, 1);
    restarts->core = core;
    restarts->requests = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, request_free);
    return restarts;
}

void at_restarts_free(struct at_restarts *restarts)
{
    if (!restarts)
        return;
    g_hash_table_unref(restarts->requests);
    g_free(restarts);
}

static unsigned after_failure(struct request *r)
{
    return at_backoff_ms(FIRST_MS, MAX_MS, ++r->failures);
}

static unsigned start(struct request *r, const at_mach *mach)
{
    const char *names[] = {mach->workstation, NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) job =
        at_core_vdc_start(r->core, &at_actor_daemon, mach->vdc, names, &error);
    r->tried = job != NULL;
    if (job || at_error_classify(error) == AT_ERROR_CONFLICT)
        return LOOK_MS;
    if (g_strcmp0(r->told, error->message) != 0)
        at_core_log("VDC %s: restart of workstation %s: %s", mach->vdc, mach->workstation,
                    error->message);
    g_free(r->told);
    r->told = g_strdup(error->message);
    return after_failure(r);
}

static bool give_up_wish(struct at_core *core, at_mach *mach)
{
    g_autoptr(GError) error = NULL;
    mach->want_running = false;
    if (at_mach_save(core->catalog, mach, &error))
        return true;
    at_core_log("record of machine %s: %s", mach->id, error->message);
    return false;
}

static bool is_never(struct at_core *core, const at_mach *mach)
{
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, mach->vdc, NULL);
    const struct at_def_workstation *ws = vdc ? at_vdc_workstation(vdc, mach->workstation) : NULL;
    return !ws || g_str_equal(ws->restart, "never");
}

void at_restart_settle(struct at_core *core)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, core->restarts->requests);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct request *r = value;
        g_autoptr(at_mach) mach = r->apply_policy ? at_mach_load(core->catalog, r->id, NULL) : NULL;
        if (mach && !at_job_scope_held(core, mach->vdc, NULL))
            r->apply_policy =
                mach->want_running && is_never(core, mach) && !give_up_wish(core, mach);
    }
}

/* Milliseconds until the next look, 0: the request is settled. */
static unsigned look(struct request *r)
{
    struct at_core *core = r->core;
    struct at_process process;
    g_autoptr(GError) error = NULL;
    g_autoptr(at_mach) found = at_mach_load(core->catalog, r->id, &error);
    if (!found)
        return at_error_classify(error) == AT_ERROR_NOT_FOUND ? 0 : LOOK_MS;
    if (at_job_scope_held(core, found->vdc, NULL))
        return LOOK_MS;
    /* Jobs are begun by this thread only: none changes what is read from here on. The start is of
     * all that are wanted, so what is not wanted any more is settled first. */
    at_restart_settle(core);
    g_autoptr(at_mach) mach = at_mach_load(core->catalog, r->id, NULL);
    if (!mach || !g_str_equal(mach->state, "active") || !mach->want_running ||
        at_machine_process(core, r->id, &process))
        return 0;
    if (r->apply_policy)
        return LOOK_MS; /* the catalog could not be written */
    if ((r->tried || r->failures > 0) && is_never(core, mach))
        return 0;
    if (!r->tried)
        return start(r, mach);
    r->tried = false; /* the job has ended and the machine does not run */
    return after_failure(r);
}

static gboolean tick(void *user)
{
    struct request *r = user;
    r->timer = 0;
    if (r->core->closing)
        return G_SOURCE_REMOVE;
    unsigned delay_ms = look(r);
    if (delay_ms > 0)
        r->timer = g_timeout_add(delay_ms, tick, r);
    else
        g_hash_table_remove(r->core->restarts->requests, r->id);
    return G_SOURCE_REMOVE;
}

void at_restart_request(struct at_core *core, const char *machine_id, bool apply_policy,
                        unsigned delay_ms)
{
    struct request *r = g_new0(struct request, 1);
    r->core = core;
    r->id = g_strdup(machine_id);
    r->apply_policy = apply_policy;
    r->timer = g_timeout_add(delay_ms, tick, r);
    g_hash_table_replace(core->restarts->requests, r->id, r);
}

struct ensure {
    struct at_core *core;
    const char *id;
};

static gboolean ensure(void *user)
{
    const struct ensure *e = user;
    if (!g_hash_table_contains(e->core->restarts->requests, e->id))
        at_restart_request(e->core, e->id, false, 0);
    return G_SOURCE_REMOVE;
}

void at_restart_ensure(struct at_core *core, const char *machine_id)
{
    struct ensure e = {core, machine_id};
    at_core_call(core, ensure, &e);
}

void at_restart_forget(struct at_core *core, const char *machine_id)
{
    g_hash_table_remove(core->restarts->requests, machine_id);
}

void at_restart_decide(struct at_core *core, const char *machine_id, const char *policy,
                       bool crashed, int64_t started_us)
{
    bool again = g_str_equal(policy, "always") || (g_str_equal(policy, "on-failure") && crashed);
    bool quick = at_clock_us() - started_us < QUICK_S * G_USEC_PER_SEC;
    for (int i = 0; i < SAVE_TRIES; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(at_mach) mach = at_mach_load(core->catalog, machine_id, &error);
        if (!mach || !g_str_equal(mach->state, "active") || !mach->want_running)
            return;
        mach->restarts = again ? (quick ? mach->restarts + 1 : 1) : mach->restarts;
        mach->want_running = again;
        bool saved = at_mach_save(core->catalog, mach, &error);
        if (!saved && at_error_classify(error) == AT_ERROR_CONFLICT)
            continue; /* a job has written it meanwhile */
        if (!saved)
            at_core_log("record of machine %s: %s", mach->id, error->message);
        if (again)
            at_restart_request(core, machine_id, false,
                               quick ? at_backoff_ms(FIRST_MS, MAX_MS, mach->restarts) : 1000);
        return;
    }
}
