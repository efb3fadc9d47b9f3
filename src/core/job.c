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

enum { NOTES_MAX = 100, JOBS_KEPT = 500, SERVE_US = 10000, SERVE_MAX = 100 };

const struct at_actor at_actor_daemon = {.user = "atolld", .uid = 0, .gid = 0, .from = "daemon"};

struct at_jobs {
    GMutex lock; /* guards every member here and the scope, progress and steps of each job */
    GCond ended;
    GHashTable *running; /* id -> struct at_job* */
    unsigned last_id;
    bool stopping;
};

struct at_job {
    struct at_core *core;
    const struct at_job_kind *kind;
    char *id; /* "42" */
    char *key;
    char *scope;        /* what it works on */
    bool holds_scope;   /* exclusively */
    JsonObject *record; /* as stored; changed only under the lock */
    GCancellable *cancellable;
    GCancellable *never; /* given to steps that may not be cancelled any more */
    unsigned step;
    bool undoing, resumed;
    int64_t step_started_us, last_event_us;
    uint64_t bytes_done, bytes_total;
    double percent;
};

static struct at_jobs *jobs_of(struct at_core *core)
{
    if (!core->jobs) {
        core->jobs = g_new0(struct at_jobs, 1);
        g_mutex_init(&core->jobs->lock);
        g_cond_init(&core->jobs->ended);
        core->jobs->running = g_hash_table_new(g_str_hash, g_str_equal);
    }
    return core->jobs;
}

static void job_free(struct at_job *job)
{
    g_free(job->id);
    g_free(job->key);
    g_free(job->scope);
    json_object_unref(job->record);
    g_object_unref(job->cancellable);
    g_object_unref(job->never);
    g_free(job);
}

static char *key_of(unsigned id)
{
    return g_strdup_printf("job/%08u", id);
}

/* Called with the lock held. The stored members plus what only lives in memory. */
static JsonNode *view_locked(struct at_job *job)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    g_autoptr(JsonNode) wrapped = json_node_new(JSON_NODE_OBJECT);
    json_node_set_object(wrapped, job->record);
    g_autofree char *text = at_json_text(wrapped);
    g_autoptr(JsonNode) copy = at_json_parse(text, -1, NULL);
    /* The parser's tree is immutable: the view is a shallow copy of it with members added. */
    JsonObject *o = json_object_new();
    g_autoptr(GList) names = json_object_get_members(json_node_get_object(copy));
    for (GList *l = names; l; l = l->next)
        json_object_set_member(
            o, l->data,
            json_node_copy(json_object_get_member(json_node_get_object(copy), l->data)));
    double elapsed = (double)(at_clock_us() - job->step_started_us) / 1e6;
    double rate = elapsed > 0.2 ? (double)job->bytes_done / elapsed : 0;
    json_object_set_double_member(o, "percent", job->percent);
    json_object_set_int_member(o, "bytes_done", (int64_t)job->bytes_done);
    json_object_set_int_member(o, "bytes_total", (int64_t)job->bytes_total);
    json_object_set_int_member(o, "rate", (int64_t)rate);
    if (rate > 0 && job->bytes_total > job->bytes_done)
        json_object_set_int_member(o, "eta_s",
                                   (int64_t)((double)(job->bytes_total - job->bytes_done) / rate));
    else
        json_object_set_null_member(o, "eta_s");
    json_node_take_object(node, o);
    return node;
}

static bool save_locked(struct at_job *job, GError **error)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    json_node_set_object(node, job->record);
    if (!at_catalog_put(job->core->catalog, job->key, node, AT_REVISION_ANY, NULL, error)) {
        g_prefix_error(error, "record job %s: ", job->id);
        return false;
    }
    return true;
}

static void announce(struct at_job *job, const char *type)
{
    struct at_jobs *jobs = jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    g_autoptr(JsonNode) view = view_locked(job);
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
    struct at_jobs *jobs = jobs_of(job->core);
    g_autofree char *now = at_clock_rfc3339();
    g_mutex_lock(&jobs->lock);
    JsonObject *step = step_object(job, i);
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
    bool ok = save_locked(job, error);
    g_mutex_unlock(&jobs->lock);
    announce(job, "job.step");
    return ok;
}

static bool finish(struct at_job *job, const char *state, const GError *cause)
{
    struct at_jobs *jobs = jobs_of(job->core);
    g_autofree char *now = at_clock_rfc3339();
    g_autoptr(GError) error = NULL;
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
    bool ok = save_locked(job, &error);
    g_mutex_unlock(&jobs->lock);
    if (!ok)
        at_core_log("%s", error->message);
    announce(job, "job.finished");
    return ok;
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
    struct at_jobs *jobs = jobs_of(job->core);
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
        at_core_log("job %s (%s): %s", job->id, kind->name, error->message);
        finish(job, "failed", error);
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
    job->key = key_of(id);
    job->record = record;
    job->scope = g_strdup(at_json_str(record, "scope", NULL));
    job->holds_scope = at_json_bool(record, "holds_scope", false);
    job->cancellable = g_cancellable_new();
    job->never = g_cancellable_new();
    job->step_started_us = at_clock_us();
    return job;
}

static struct at_job *holder_locked(struct at_jobs *jobs, const char *scope, bool exclusive)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, jobs->running);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct at_job *job = value;
        if (g_strcmp0(job->scope, scope) == 0 && (job->holds_scope || !exclusive))
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

bool at_job_require_idle(struct at_core *core, const char *scope, GError **error)
{
    struct at_jobs *jobs = jobs_of(core);
    g_mutex_lock(&jobs->lock);
    struct at_job *by = holder_locked(jobs, scope, false);
    bool ok = !by || busy(by, scope, error);
    g_mutex_unlock(&jobs->lock);
    return ok;
}

bool at_job_scope_held(struct at_core *core, const char *scope, char **ret_kind)
{
    struct at_jobs *jobs = jobs_of(core);
    g_mutex_lock(&jobs->lock);
    struct at_job *by = holder_locked(jobs, scope, true);
    if (by && ret_kind)
        *ret_kind = g_strdup(by->kind->name);
    g_mutex_unlock(&jobs->lock);
    return by != NULL;
}

JsonNode *at_job_start(struct at_core *core, const struct at_job_kind *kind, const char *target,
                       const char *scope, const struct at_actor *actor, JsonObject *args,
                       GError **error)
{
    struct at_jobs *jobs = jobs_of(core);
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
    struct at_job *by = scope ? holder_locked(jobs, scope, true) : NULL;
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
    if (!save_locked(job, error)) {
        g_mutex_unlock(&jobs->lock);
        job_free(job);
        return NULL;
    }
    g_hash_table_insert(jobs->running, job->id, job);
    JsonNode *view = view_locked(job);
    g_mutex_unlock(&jobs->lock);
    if (id % 50 == 0) {
        for (unsigned old = id > 2 * JOBS_KEPT ? id - 2 * JOBS_KEPT : 1; old + JOBS_KEPT < id;
             old++) {
            g_autofree char *key = key_of(old);
            at_catalog_delete(core->catalog, key, AT_REVISION_ANY, NULL);
        }
    }
    launch(job);
    return view;
}

bool at_jobs_recover(struct at_core *core, GError **error)
{
    struct at_jobs *jobs = jobs_of(core);
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
        job->undoing = was_undoing || (job->step < kind->resume_from && !never_ran);
        job->resumed = true;
        if (g_str_equal(step_state, "done") && !job->undoing && job->step + 1 < kind->n_steps)
            job->step++;
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
    struct at_jobs *jobs = jobs_of(core);
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

/* ---- for steps ---- */

struct at_core *at_job_core(struct at_job *job)
{
    return job->core;
}

JsonObject *at_job_args(struct at_job *job)
{
    return at_json_obj(job->record, "args");
}

JsonObject *at_job_data(struct at_job *job)
{
    return at_json_obj(job->record, "data");
}

static void set_in(struct at_job *job, const char *where, const char *name, JsonNode *value)
{
    struct at_jobs *jobs = jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    json_object_set_member(at_json_obj(job->record, where), name, value);
    g_mutex_unlock(&jobs->lock);
}

static JsonNode *string_node(const char *value)
{
    JsonNode *node = json_node_new(value ? JSON_NODE_VALUE : JSON_NODE_NULL);
    if (value)
        json_node_set_string(node, value);
    return node;
}

void at_job_set(struct at_job *job, const char *name, JsonNode *value)
{
    set_in(job, "data", name, value);
}

void at_job_set_str(struct at_job *job, const char *name, const char *value)
{
    set_in(job, "data", name, string_node(value));
}

void at_job_result(struct at_job *job, const char *name, JsonNode *value)
{
    set_in(job, "result", name, value);
}

void at_job_result_str(struct at_job *job, const char *name, const char *value)
{
    set_in(job, "result", name, string_node(value));
}

const char *at_job_user(struct at_job *job)
{
    return at_json_str(at_json_obj(job->record, "actor"), "user", "?");
}

int64_t at_job_uid(struct at_job *job)
{
    return at_json_int(at_json_obj(job->record, "actor"), "uid", 65534);
}

int64_t at_job_gid(struct at_job *job)
{
    return at_json_int(at_json_obj(job->record, "actor"), "gid", 65534);
}

GCancellable *at_job_cancellable(struct at_job *job)
{
    return job->step < job->kind->commit_at && !job->undoing ? job->cancellable : job->never;
}

bool at_job_save(struct at_job *job, GError **error)
{
    struct at_jobs *jobs = jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    bool ok = save_locked(job, error);
    g_mutex_unlock(&jobs->lock);
    return ok;
}

void at_job_release_scope(struct at_job *job)
{
    struct at_jobs *jobs = jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    job->holds_scope = false;
    json_object_set_boolean_member(job->record, "holds_scope", false);
    g_mutex_unlock(&jobs->lock);
}

static void progress_event(struct at_job *job)
{
    if (at_clock_us() - job->last_event_us > 250000)
        announce(job, "job.progress");
}

void at_job_progress(struct at_job *job, uint64_t bytes_done, uint64_t bytes_total)
{
    struct at_jobs *jobs = jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    job->bytes_done = bytes_done;
    job->bytes_total = bytes_total;
    double part = bytes_total ? MIN(1.0, (double)bytes_done / (double)bytes_total) : 0;
    job->percent = 100.0 * (job->step + part) / job->kind->n_steps;
    g_mutex_unlock(&jobs->lock);
    progress_event(job);
}

void at_job_percent(struct at_job *job, double percent)
{
    struct at_jobs *jobs = jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    job->percent = 100.0 * (job->step + CLAMP(percent, 0, 100) / 100) / job->kind->n_steps;
    g_mutex_unlock(&jobs->lock);
    progress_event(job);
}

void at_job_note(struct at_job *job, const char *fmt, ...)
{
    struct at_jobs *jobs = jobs_of(job->core);
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_mutex_lock(&jobs->lock);
    JsonArray *notes = at_json_arr(job->record, "notes");
    if (json_array_get_length(notes) < NOTES_MAX)
        json_array_add_string_element(notes, text);
    g_mutex_unlock(&jobs->lock);
}

/* ---- views ---- */

static JsonNode *stored_view(struct at_record *record)
{
    JsonObject *o = json_object_new();
    JsonObject *stored = json_node_get_object(record->value);
    g_autoptr(GList) names = json_object_get_members(stored);
    for (GList *l = names; l; l = l->next)
        json_object_set_member(o, l->data, json_node_copy(json_object_get_member(stored, l->data)));
    json_object_set_int_member(o, "bytes_done", at_json_int(stored, "bytes_done", 0));
    json_object_set_int_member(o, "bytes_total", at_json_int(stored, "bytes_total", 0));
    json_object_set_int_member(o, "rate", 0);
    json_object_set_null_member(o, "eta_s");
    if (!json_object_has_member(o, "percent"))
        json_object_set_double_member(o, "percent", 0);
    return at_json_take_obj(o);
}

JsonNode *at_core_job_view(struct at_core *core, const char *id, GError **error)
{
    struct at_jobs *jobs = jobs_of(core);
    char *end = NULL;
    unsigned long number = strtoul(id, &end, 10);
    if (!*id || *end || number == 0 || number > 99999999) {
        at_error(error, AT_ERROR_NOT_FOUND, "job %s does not exist (ids are numbers)", id);
        return NULL;
    }
    g_autofree char *plain = g_strdup_printf("%lu", number);
    g_mutex_lock(&jobs->lock);
    struct at_job *job = g_hash_table_lookup(jobs->running, plain);
    JsonNode *view = job ? view_locked(job) : NULL;
    g_mutex_unlock(&jobs->lock);
    if (view)
        return view;
    g_autofree char *key = key_of((unsigned)number);
    g_autoptr(at_record) record = at_catalog_get(core->catalog, key, NULL);
    if (!record) {
        at_error(error, AT_ERROR_NOT_FOUND, "job %s does not exist", id);
        return NULL;
    }
    return stored_view(record);
}

JsonNode *at_core_job_list(struct at_core *core, const char *state, const char *vdc, GError **error)
{
    g_autoptr(GPtrArray) records = at_catalog_list(core->catalog, "job/", error);
    if (!records)
        return NULL;
    JsonArray *list = json_array_new();
    for (unsigned i = records->len; i-- > 0;) {
        struct at_record *record = records->pdata[i];
        JsonObject *o = json_node_get_object(record->value);
        if (vdc && g_strcmp0(at_json_str(o, "scope", NULL), vdc) != 0)
            continue;
        JsonNode *view = at_core_job_view(core, at_json_str(o, "id", "0"), NULL);
        if (!view)
            continue;
        if (state && g_strcmp0(at_json_str(json_node_get_object(view), "state", ""), state) != 0)
            json_node_unref(view);
        else
            json_array_add_element(list, view);
    }
    return at_json_take_arr(list);
}

JsonNode *at_core_job_cancel(struct at_core *core, const struct at_actor *actor, const char *id,
                             GError **error)
{
    struct at_jobs *jobs = jobs_of(core);
    JsonNode *view = NULL;
    g_mutex_lock(&jobs->lock);
    struct at_job *job = g_hash_table_lookup(jobs->running, id);
    if (!job) {
        g_mutex_unlock(&jobs->lock);
        g_autoptr(JsonNode) ended = at_core_job_view(core, id, error);
        if (ended)
            at_error(error, AT_ERROR_CONFLICT, "job %s has ended (%s)", id,
                     at_json_str(json_node_get_object(ended), "state", "?"));
        return NULL;
    }
    if (job->step >= job->kind->commit_at) {
        at_error(error, AT_ERROR_CONFLICT,
                 "job %s is past the point where it can be undone (step \"%s\"); it will finish",
                 id, job->kind->steps[job->step].name);
    } else {
        g_cancellable_cancel(job->cancellable);
        view = view_locked(job);
    }
    g_mutex_unlock(&jobs->lock);
    if (view)
        at_event_emit(core, "job.cancel-requested", id, actor->user, NULL);
    return view;
}
