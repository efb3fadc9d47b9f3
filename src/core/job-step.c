/* SPDX-License-Identifier: Apache-2.0 */
/* What the steps of a job call: arguments, data, results, progress, notes, waiting. */
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/job-internal.h"

enum { NOTES_MAX = 100 };

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
    struct at_jobs *jobs = at_jobs_of(job->core);
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

bool at_job_resumed(struct at_job *job)
{
    return job->resumed;
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
    struct at_jobs *jobs = at_jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    bool ok = at_job_save_locked(job, error);
    g_mutex_unlock(&jobs->lock);
    return ok;
}

bool at_job_wait(struct at_job *job, int delay_ms, const char *reason, GError **error)
{
    struct at_jobs *jobs = at_jobs_of(job->core);
    int64_t deadline = at_deadline_ms(delay_ms);
    bool news = g_strcmp0(job->waiting, reason) != 0;
    if (news) {
        at_job_note(job, "waits: %s", reason);
        at_core_log("job %s (%s): waits: %s", job->id, job->kind->name, reason);
    }
    g_mutex_lock(&jobs->lock);
    g_free(job->waiting);
    job->waiting = g_strdup(reason);
    g_mutex_unlock(&jobs->lock);
    if (news)
        at_job_announce(job, "job.waiting");
    g_mutex_lock(&jobs->lock);
    while (!jobs->stopping && !g_cancellable_is_cancelled(job->cancellable) &&
           g_cond_wait_until(&jobs->wake, &jobs->lock, deadline))
        ;
    bool stopping = jobs->stopping, cancelled = g_cancellable_is_cancelled(job->cancellable);
    g_mutex_unlock(&jobs->lock);
    if (stopping)
        return at_error(error, AT_ERROR_CANCELLED, "the daemon stops");
    return !cancelled ||
           at_error(error, AT_ERROR_CANCELLED, "cancelled while it waited: %s", reason);
}

void at_job_waits_no_more(struct at_job *job)
{
    struct at_jobs *jobs = at_jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    g_clear_pointer(&job->waiting, g_free);
    g_mutex_unlock(&jobs->lock);
}

void at_job_release_scope(struct at_job *job)
{
    struct at_jobs *jobs = at_jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    job->holds_scope = false;
    json_object_set_boolean_member(job->record, "holds_scope", false);
    g_mutex_unlock(&jobs->lock);
}

static void progress_event(struct at_job *job)
{
    if (at_clock_us() - job->last_event_us > 250000)
        at_job_announce(job, "job.progress");
}

void at_job_progress(struct at_job *job, uint64_t bytes_done, uint64_t bytes_total)
{
    struct at_jobs *jobs = at_jobs_of(job->core);
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
    struct at_jobs *jobs = at_jobs_of(job->core);
    g_mutex_lock(&jobs->lock);
    job->percent = 100.0 * (job->step + CLAMP(percent, 0, 100) / 100) / job->kind->n_steps;
    g_mutex_unlock(&jobs->lock);
    progress_event(job);
}

void at_job_note(struct at_job *job, const char *fmt, ...)
{
    struct at_jobs *jobs = at_jobs_of(job->core);
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
