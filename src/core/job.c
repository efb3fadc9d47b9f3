/* SPDX-License-Identifier: Apache-2.0 */
/* The job engine: runs steps in worker threads, records them, recovers them after a crash. */
#include "core/job.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "core/core-internal.h"
#include "core/job-internal.h"

enum { JOBS_KEPT = 500, SERVE_US = 10000, SERVE_MAX = 100 };

const struct at_actor at_actor_daemon = {.user = "atolld", .uid = 0, .gid = 0, .from = "daemon"};

struct at_jobs *at_jobs_of(struct at_core *core)
{
    if (!core->jobs) {
        core->jobs = g_new0(struct at_jobs, 1);
        g_mutex_init(&core->jobs->lock);
        g_cond_init(&core->jobs->ended);
        g_cond_init(&core->jobs->wake);
        core->jobs->running = g_hash_table_new(g_str_hash, g_str_equal);
    }
    return core->jobs;
}

static void job_free(struct at_job *job)
{
    g_free(job->id);
    g_free(job->key);
    g_free(job->scope);
    g_free(job->waiting);
    json_object_unref(job->record);
    g_object_unref(job->cancellable);
    g_object_unref(job->never);
    g_free(job);
}

char *at_job_key(unsigned id)
{
    return g_strdup_printf("job/%08u", id);
}

bool at_job_save_locked(struct at_job *job, GError **error)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    json_node_set_object(node, job->record);
    if (!at_catalog_put(job->core->catalog, job->key, node, AT_REVISION_ANY, NULL, error)) {
        g_prefix_error(error, "record job %s: ", job->id);
        return false;
    }
    return true;
}

void at_job_announce(struct at_job *job, const char *type)
{
    struct at_jobs *jobs = at_jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    g_autoptr(JsonNode) view = at_job_view_locked(job);
    job->last_event_us = at_clock_us();
    g_mutex_unlock(&jobs->lock);
    JsonObject *data = json_object_new();
    json_object_set_member(data, "job", g_steal_pointer(&view));
    JsonObject *actor = at_json_obj(job->record, "actor");
    at_event_emit(job->core, type, job->id, at_json_str(actor, "user", NULL), data);
}

static JsonObject *step_object(struct at_job *job, unsigned i)
{
    return json_array_get_object_element(at_json_arr(job->record, "steps"), i);
}

/* Records that step @i is in @state; durable. */
static bool record_step(struct at_job *job, unsigned i, const char *state, const char *job_state,
                        GError **error)
{
    struct at_jobs *jobs = at_jobs_of(job->core);
    g_autofree char *now = at_clock_rfc3339();
    g_mutex_lock(&jobs->lock);
    JsonObject *step = step_object(job, i);
    g_clear_pointer(&job->waiting, g_free);
    json_object_set_string_member(step, "state", state);
    if (g_str_equal(state, "running")) {
        json_object_set_string_member(step, "started", now);
        job->step = i;
        job->step_started_us = at_clock_us();
        job->bytes_done = job->bytes_total = 0;
        job->percent = 100.0 * i / job->kind->n_steps;
    } else {
        json_object_set_string_member(step, "finished", now);
    }
    json_object_set_string_member(job->record, "step", job->kind->steps[i].name);
    json_object_set_int_member(job->record, "step_index", i);
    json_object_set_string_member(job->record, "state", job_state);
    bool ok = at_job_save_locked(job, error);
    g_mutex_unlock(&jobs->lock);
    at_job_announce(job, "job.step");
    return ok;
}

/* The end is recorded before anybody is told. While the catalog cannot take it (a full disk), the
 * job goes on being listed as running, and the next daemon would take it up again. */
static void finish(struct at_job *job, const char *state, const GError *cause)
{
    struct at_jobs *jobs = at_jobs_of(job->core);
    g_autofree char *now = at_clock_rfc3339();
    g_mutex_lock(&jobs->lock);
    json_object_set_string_member(job->record, "state", state);
    json_object_set_string_member(job->record, "finished", now);
    if (cause) {
        JsonObject *e = json_object_new();
        json_object_set_string_member(e, "code", at_error_code_name(at_error_classify(cause)));
        json_object_set_string_member(e, "message", cause->message);
        json_object_set_object_member(job->record, "error", e);
    }
    if (g_str_equal(state, "done"))
        job->percent = 100;
    json_object_set_double_member(job->record, "percent", job->percent);
    for (bool told = false;; told = true) {
        g_autoptr(GError) error = NULL;
        if (at_job_save_locked(job, &error) || jobs->stopping)
            break;
        if (!told)
            at_core_log("%s; tried again every second", error->message);
        g_cond_wait_until(&jobs->wake, &jobs->lock, at_deadline_ms(1000));
    }
    g_mutex_unlock(&jobs->lock);
    at_job_announce(job, "job.finished");
}

static bool fault(struct at_job *job, unsigned i, const char *where, GError **error)
{
    g_autofree char *slug = g_strdup(job->kind->steps[i].name);
    g_strdelimit(slug, " ", '-');
    g_autofree char *name = g_strdup_printf("job.%s.%s.%s", job->kind->name, slug, where);
    return at_fault_point(name, error);
}

static bool run_step(struct at_job *job, unsigned i, GError **error)
{
    const struct at_job_step *step = &job->kind->steps[i];
    if (i < job->kind->commit_at && g_cancellable_is_cancelled(job->cancellable))
        return at_error(error, AT_ERROR_CANCELLED, "cancelled before step \"%s\"", step->name);
    if (!record_step(job, i, "running", "running", error))
        return false;
    if (!fault(job, i, "before", error) || !step->run(job, error) ||
        !fault(job, i, "after", error)) {
        g_prefix_error(error, "%s: ", step->name);
        return false;
    }
    return record_step(job, i, "done", "running", error);
}

/* Undoes the steps last..0. A step that cannot be undone is told and the others are still tried. */
static bool undo_from(struct at_job *job, unsigned last)
{
    bool ok = true;
    job->undoing = true;
    for (unsigned i = last + 1; i-- > 0;) {
        g_autoptr(GError) error = NULL;
        const struct at_job_step *step = &job->kind->steps[i];
        if (!step->undo) {
            if (!record_step(job, i, "undone", "running", &error))
                at_core_log("%s", error->message);
            continue;
        }
        if (!record_step(job, i, "undoing", "running", &error) || !step->undo(job, &error)) {
            at_job_note(job, "undo of \"%s\" failed: %s", step->name, error->message);
            at_core_log("job %s (%s): undo of \"%s\": %s", job->id, job->kind->name, step->name,
                        error->message);
            ok = false;
            continue;
        }
        if (!record_step(job, i, "undone", "running", &error))
            at_core_log("%s", error->message);
    }
    return ok;
}

static void end_job(struct at_job *job)
{
    struct at_jobs *jobs = at_jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    g_hash_table_remove(jobs->running, job->id);
    g_cond_broadcast(&jobs->ended);
    g_mutex_unlock(&jobs->lock);
    job_free(job);
}

static void *job_thread(void *user)
{
    struct at_job *job = user;
    const struct at_job_kind *kind = job->kind;
    g_autoptr(GError) error = NULL;
    unsigned i = job->step;
    if (job->undoing) {
        at_error(&error, AT_ERROR_CANCELLED,
                 "the daemon was interrupted during \"%s\"; what had been done was undone",
                 kind->steps[i].name);
        bool ok = undo_from(job, i);
        finish(job, ok ? "undone" : "failed", error);
        end_job(job);
        return NULL;
    }
    while (i < kind->n_steps && run_step(job, i, &error))
        i++;
    if (i == kind->n_steps) {
        finish(job, "done", NULL);
    } else if (job->core->closing) {
        /* Left as it is: the next daemon takes it up where it stands. */
    } else if (i >= kind->commit_at) {
        bool cancelled = at_error_classify(error) == AT_ERROR_CANCELLED;
        at_core_log("job %s (%s): %s", job->id, kind->name, error->message);
        finish(job, cancelled ? "cancelled" : "failed", error);
    } else {
        bool cancelled = at_error_classify(error) == AT_ERROR_CANCELLED;
        if (!cancelled)
            at_core_log("job %s (%s): %s", job->id, kind->name, error->message);
        bool ok = undo_from(job, i);
        finish(job, ok && cancelled ? "cancelled" : "failed", error);
    }
    end_job(job);
    return NULL;
}

static void launch(struct at_job *job)
{
    g_autofree char *name = g_strdup_printf("job-%s", job->id);
    g_thread_unref(g_thread_new(name, job_thread, job));
}

static struct at_job *job_new(struct at_core *core, const struct at_job_kind *kind, unsigned id,
                              JsonObject *record)
{
    struct at_job *job = g_new0(struct at_job, 1);
    job->core = core;
    job->kind = kind;
    job->id = g_strdup_printf("%u", id);
    job->key = at_job_key(id);
    job->record = record;
    job->scope = g_strdup(at_json_str(record, "scope", NULL));
    job->holds_scope = at_json_bool(record, "holds_scope", false);
    job->cancellable = g_cancellable_new();
    job->never = g_cancellable_new();
    job->step_started_us = at_clock_us();
    return job;
}

static struct at_job *holder_locked(struct at_jobs *jobs, const char *scope)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, jobs->running);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct at_job *job = value;
        if (g_strcmp0(job->scope, scope) == 0 && job->holds_scope)
            return job;
    }
    return NULL;
}

static bool busy(struct at_job *by, const char *scope, GError **error)
{
    JsonObject *actor = at_json_obj(by->record, "actor");
    return at_error(error, AT_ERROR_CONFLICT,
                    "%s is busy with job %s (%s, step \"%s\", started by %s); wait for it or "
                    "cancel it with: atoll job cancel %s",
                    scope, by->id, by->kind->name, at_json_str(by->record, "step", "waiting"),
                    at_json_str(actor, "user", "?"), by->id);
}

bool at_job_works_on(struct at_core *core, const char *scope)
{
    struct at_jobs *jobs = at_jobs_of(core);
    bool found = false;
    GHashTableIter iter;
    void *value;
    g_mutex_lock(&jobs->lock);
    g_hash_table_iter_init(&iter, jobs->running);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        found |= g_strcmp0(((struct at_job *)value)->scope, scope) == 0;
    g_mutex_unlock(&jobs->lock);
    return found;
}

bool at_job_scope_held(struct at_core *core, const char *scope, char **ret_kind)
{
    struct at_jobs *jobs = at_jobs_of(core);
    g_mutex_lock(&jobs->lock);
    struct at_job *by = holder_locked(jobs, scope);
    if (by && ret_kind)
        *ret_kind = g_strdup(by->kind->name);
    g_mutex_unlock(&jobs->lock);
    return by != NULL;
}

JsonNode *at_job_start(struct at_core *core, const struct at_job_kind *kind, const char *target,
                       const char *scope, const struct at_actor *actor, JsonObject *args,
                       GError **error)
{
    struct at_jobs *jobs = at_jobs_of(core);
    g_autofree char *now = at_clock_rfc3339();
    JsonObject *r = json_object_new();
    JsonObject *who = json_object_new();
    at_json_set_str(who, "user", actor->user);
    json_object_set_int_member(who, "uid", actor->uid);
    json_object_set_int_member(who, "gid", actor->gid);
    at_json_set_str(who, "from", actor->from);
    JsonArray *steps = json_array_new();
    for (unsigned i = 0; i < kind->n_steps; i++) {
        JsonObject *step = json_object_new();
        json_object_set_string_member(step, "name", kind->steps[i].name);
        json_object_set_string_member(step, "state", "waiting");
        json_array_add_object_element(steps, step);
    }
    json_object_set_string_member(r, "kind", kind->name);
    at_json_set_str(r, "target", target);
    at_json_set_str(r, "scope", scope);
    json_object_set_boolean_member(r, "holds_scope", scope != NULL);
    json_object_set_object_member(r, "actor", who);
    json_object_set_string_member(r, "state", "queued");
    json_object_set_string_member(r, "step", kind->steps[0].name);
    json_object_set_int_member(r, "step_index", 0);
    json_object_set_array_member(r, "steps", steps);
    json_object_set_null_member(r, "error");
    json_object_set_string_member(r, "created", now);
    json_object_set_string_member(r, "started", now);
    json_object_set_null_member(r, "finished");
    json_object_set_array_member(r, "notes", json_array_new());
    json_object_set_object_member(r, "args", args ? args : json_object_new());
    json_object_set_object_member(r, "data", json_object_new());
    json_object_set_object_member(r, "result", json_object_new());

    g_mutex_lock(&jobs->lock);
    struct at_job *by = scope ? holder_locked(jobs, scope) : NULL;
    if (by || jobs->stopping) {
        if (by)
            busy(by, scope, error);
        else
            at_error(error, AT_ERROR_UNAVAILABLE, "the daemon is stopping");
        g_mutex_unlock(&jobs->lock);
        json_object_unref(r);
        return NULL;
    }
    unsigned id = ++jobs->last_id;
    struct at_job *job = job_new(core, kind, id, r);
    json_object_set_string_member(r, "id", job->id);
    if (!at_job_save_locked(job, error)) {
        g_mutex_unlock(&jobs->lock);
        job_free(job);
        return NULL;
    }
    g_hash_table_insert(jobs->running, job->id, job);
    JsonNode *view = at_job_view_locked(job);
    g_mutex_unlock(&jobs->lock);
    if (id % 50 == 0) {
        for (unsigned old = id > 2 * JOBS_KEPT ? id - 2 * JOBS_KEPT : 1; old + JOBS_KEPT < id;
             old++) {
            g_autofree char *key = at_job_key(old);
            at_catalog_delete(core->catalog, key, AT_REVISION_ANY, NULL);
        }
        at_catalog_trim(core->catalog, "job/", 0, NULL);
    }
    launch(job);
    return view;
}

bool at_jobs_recover(struct at_core *core, GError **error)
{
    struct at_jobs *jobs = at_jobs_of(core);
    g_autoptr(GPtrArray) records = at_catalog_list(core->catalog, "job/", error);
    if (!records)
        return false;
    for (unsigned i = 0; i < records->len; i++) {
        struct at_record *record = records->pdata[i];
        unsigned id = (unsigned)strtoul(record->key + strlen("job/"), NULL, 10);
        jobs->last_id = MAX(jobs->last_id, id);
        JsonObject *o = json_node_get_object(record->value);
        const char *state = at_json_str(o, "state", "");
        if (!g_str_equal(state, "running") && !g_str_equal(state, "queued"))
            continue;
        const struct at_job_kind *kind = NULL;
        for (unsigned k = 0; at_job_kinds[k] && !kind; k++) {
            if (g_strcmp0(at_job_kinds[k]->name, at_json_str(o, "kind", "")) == 0)
                kind = at_job_kinds[k];
        }
        if (!kind || json_array_get_length(at_json_arr(o, "steps")) != kind->n_steps) {
            at_core_log("job %u is of a kind (%s) that this version does not know; left as it is",
                        id, at_json_str(o, "kind", "?"));
            continue;
        }
        g_autoptr(JsonNode) copy = at_json_thaw(record->value);
        JsonObject *thawed = json_object_ref(json_node_get_object(copy));
        struct at_job *job = job_new(core, kind, id, thawed);
        job->step = (unsigned)CLAMP(at_json_int(o, "step_index", 0), 0, kind->n_steps - 1);
        const char *step_state = at_json_str(step_object(job, job->step), "state", "");
        bool was_undoing = g_str_equal(step_state, "undoing") || g_str_equal(step_state, "undone");
        bool never_ran = g_str_equal(state, "queued");
        /* What is done counts as done: the next step decides whether it goes on. */
        if (g_str_equal(step_state, "done") && job->step + 1 < kind->n_steps)
            job->step++;
        job->undoing = was_undoing || (job->step < kind->resume_from && !never_ran);
        job->resumed = true;
        at_job_note(job, "%s after a restart of the daemon",
                    job->undoing ? "undone" : "taken up again");
        at_core_log("job %s (%s %s): %s from step \"%s\"", job->id, kind->name,
                    at_json_str(o, "target", ""), job->undoing ? "undoing" : "resuming",
                    kind->steps[job->step].name);
        g_mutex_lock(&jobs->lock);
        g_hash_table_insert(jobs->running, job->id, job);
        g_mutex_unlock(&jobs->lock);
        launch(job);
    }
    return true;
}

bool at_jobs_stop(struct at_core *core, int timeout_ms)
{
    struct at_jobs *jobs = at_jobs_of(core);
    int64_t deadline = at_deadline_ms(timeout_ms);
    core->closing = true;
    g_mutex_lock(&jobs->lock);
    jobs->stopping = true;
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, jobs->running);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct at_job *job = value;
        g_cancellable_cancel(job->cancellable);
        g_cancellable_cancel(job->never);
    }
    g_cond_broadcast(&jobs->wake);
    while (g_hash_table_size(jobs->running) > 0 && at_deadline_left_ms(deadline) > 0) {
        g_cond_wait_until(&jobs->ended, &jobs->lock, g_get_monotonic_time() + SERVE_US);
        g_mutex_unlock(&jobs->lock);
        for (int i = 0; i < SERVE_MAX && g_main_context_iteration(core->main, FALSE); i++)
            ;
        g_mutex_lock(&jobs->lock);
    }
    bool all = g_hash_table_size(jobs->running) == 0;
    g_mutex_unlock(&jobs->lock);
    return all;
}
