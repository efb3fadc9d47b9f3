/* SPDX-License-Identifier: Apache-2.0 */
/* What people do with GPUs: look again, keep one for the host, take one out of use, plan. */
#include "base/error.h"
#include "base/json.h"
#include "core/gpu.h"
#include "core/job.h"
#include "core/supervisor.h"
#include "core/vdc.h"

enum { REASON_MAX = 200 };

/* ---- for the host ---- */

struct mark {
    const char *reason; /* NULL: taken back */
    bool quarantine;
    bool in_use, nothing;
};

static bool set_mark(at_gpu_rec *rec, void *user)
{
    struct mark *m = user;
    char **text = m->quarantine ? &rec->quarantined : &rec->reserved;
    m->nothing = g_strcmp0(*text, m->reason) == 0;
    m->in_use = m->reason && !m->quarantine && rec->holds->len > 0;
    if (m->nothing || m->in_use)
        return false;
    g_free(*text);
    *text = g_strdup(m->reason);
    return true;
}

static void tell(struct at_core *core, const char *type, const char *id, const char *actor,
                 const char *reason)
{
    JsonObject *data = json_object_new();
    at_json_set_str(data, "reason", reason);
    at_event_emit(core, type, id, actor, data);
}

static bool check_reason(const char *reason, GError **error)
{
    if (*reason && g_utf8_strlen(reason, -1) <= REASON_MAX)
        return true;
    return at_error(error, AT_ERROR_INVALID, "a reason has 1 to %d characters", REASON_MAX);
}

static void is_held(struct at_core *core, const char *id, GError **error)
{
    g_autoptr(at_gpu_rec) rec = at_gpu_rec_load(core->catalog, id, NULL);
    const struct at_gpu_hold_rec *h = rec && rec->holds->len ? rec->holds->pdata[0] : NULL;
    at_error(error, AT_ERROR_CONFLICT, "GPU %s is held by %s/%s%s", id, h ? h->vdc : "?",
             h ? h->workstation : "?",
             h && h->keep ? ", also while that is stopped (hold: true in its file)"
                          : "; stop that workstation first");
}

JsonNode *at_core_gpu_reserve(struct at_core *core, const struct at_actor *actor, const char *name,
                              const char *reason, GError **error)
{
    struct mark mark = {.reason = reason ? reason : "kept for the host"};
    g_autofree char *id = at_gpu_resolve(core, name, error);
    if (!id || !check_reason(mark.reason, error))
        return NULL;
    /* A plan that is being made meanwhile is refused by the record's revision, and made anew. */
    bool ok = at_gpu_rec_update(core->catalog, id, set_mark, &mark, error);
    if (ok && mark.in_use) {
        is_held(core, id, error);
        return NULL;
    }
    if (!ok)
        return NULL;
    if (!mark.nothing)
        tell(core, "gpu.reserved", id, actor->user, mark.reason);
    return at_core_gpu_view(core, id, error);
}

JsonNode *at_core_gpu_release(struct at_core *core, const struct at_actor *actor, const char *name,
                              GError **error)
{
    struct mark reserved = {0}, quarantined = {.quarantine = true};
    g_autofree char *id = at_gpu_resolve(core, name, error);
    if (!id || !at_gpu_rec_update(core->catalog, id, set_mark, &reserved, error) ||
        !at_gpu_rec_update(core->catalog, id, set_mark, &quarantined, error))
        return NULL;
    if (!reserved.nothing || !quarantined.nothing)
        tell(core, "gpu.released", id, actor->user,
             reserved.nothing ? "out of quarantine" : "not reserved any more");
    return at_core_gpu_view(core, id, error);
}

/* ---- sizes ---- */

struct mixing {
    bool on, in_use, nothing;
};

static bool set_mixing(at_gpu_rec *rec, void *user)
{
    struct mixing *m = user;
    m->nothing = rec->mixed == m->on;
    m->in_use = !m->nothing && rec->holds->len > 0;
    if (m->nothing || m->in_use)
        return false;
    rec->mixed = m->on;
    return true;
}

static bool can_mix(struct at_core *core, const char *id, GError **error)
{
    g_autoptr(GPtrArray) cards = at_gpus_cards(core);
    const struct at_gpu_card *card = at_gpus_find(cards, id);
    return (card && card->mixes_sizes) ||
           at_error(error, AT_ERROR_UNAVAILABLE, "GPU %s cannot mix vGPUs of different sizes%s%s",
                    id, card && card->unknown ? ", as far as is known: " : "",
                    card && card->unknown ? card->unknown : "");
}

JsonNode *at_core_gpu_mix(struct at_core *core, const struct at_actor *actor, const char *name,
                          bool on, GError **error)
{
    struct mixing mixing = {.on = on};
    g_autofree char *id = at_gpu_resolve(core, name, error);
    if (!id || (on && !can_mix(core, id, error)) ||
        !at_gpu_rec_update(core->catalog, id, set_mixing, &mixing, error))
        return NULL;
    if (mixing.in_use) {
        is_held(core, id, error);
        return NULL;
    }
    if (!mixing.nothing)
        tell(core, on ? "gpu.mixed" : "gpu.unmixed", id, actor->user, NULL);
    at_gpus_scan_later(core);
    return at_core_gpu_view(core, id, error);
}

/* ---- quarantine ---- */

/* The workstation starts on another card; a job that works on the VDC now is waited for by the next
 * look at the host. */
static void move_away(struct at_core *core, const struct at_gpu_hold_rec *h)
{
    const char *names[] = {h->workstation, NULL};
    struct at_process process;
    g_autoptr(GError) error = NULL;
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, h->vdc, NULL);
    if (!vdc || !g_str_equal(vdc->def->gpu_policy.on_failure, "move") ||
        !at_machine_process(core, h->machine, &process) || at_job_scope_held(core, h->vdc, NULL))
        return;
    g_autoptr(JsonNode) job = at_core_vdc_restart(core, &at_actor_daemon, h->vdc, names, &error);
    if (!job)
        at_core_log("VDC %s: workstation %s cannot move to another GPU: %s", h->vdc, h->workstation,
                    error->message);
}

void at_gpu_quarantine(struct at_core *core, const char *id, const char *reason)
{
    struct mark mark = {.reason = reason, .quarantine = true};
    g_autoptr(GError) error = NULL;
    g_autoptr(at_gpu_rec) before = at_gpu_rec_load(core->catalog, id, &error);
    /* The first reason counts. */
    if (before && !before->quarantined &&
        at_gpu_rec_update(core->catalog, id, set_mark, &mark, &error)) {
        tell(core, "gpu.quarantined", id, at_actor_daemon.user, reason);
        at_core_log("GPU %s (%s): %s; it is in quarantine until: atoll gpu release %s",
                    before->address, before->name ? before->name : "unknown", reason, id);
    }
    if (error)
        at_core_log("GPU %s: quarantine: %s", id, error->message);
    for (unsigned i = 0; before && i < before->holds->len; i++)
        move_away(core, before->holds->pdata[i]);
}

/* ---- planning ---- */

JsonNode *at_core_gpu_plan(struct at_core *core, JsonNode *definition, char **ret_pointer,
                           GError **error)
{
    g_autoptr(at_definition) def = at_definition_parse(definition, ret_pointer, error);
    return def ? at_gpu_plan_json(core, def, error) : NULL;
}

/* ---- looking again ---- */

static void scan_in_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    struct at_core *core = data;
    GError *error = NULL;
    if (at_gpus_scan(core, &error))
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_error(task, error);
}

void at_core_gpu_rescan_async(struct at_core *core, GAsyncReadyCallback callback, void *user)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, user);
    g_task_set_task_data(task, core, NULL);
    g_task_run_in_thread(task, scan_in_thread);
}

JsonNode *at_core_gpu_rescan_finish(struct at_core *core, GAsyncResult *result, GError **error)
{
    return g_task_propagate_boolean(G_TASK(result), error) ? at_core_gpu_list(core, error) : NULL;
}
