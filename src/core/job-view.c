/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs as the API shows them: one, lists, and cancelling. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/job-internal.h"

/* The record without what is only for the steps: a definition may be large, and holds secrets. */
static JsonObject *public_part(JsonObject *record)
{
    JsonObject *o = json_object_new();
    g_autoptr(GList) names = json_object_get_members(record);
    for (GList *l = names; l; l = l->next) {
        if (!g_str_equal(l->data, "args") && !g_str_equal(l->data, "data"))
            json_object_set_member(o, l->data,
                                   json_node_copy(json_object_get_member(record, l->data)));
    }
    return o;
}

/* Called with the lock held. The stored members plus what only lives in memory. */
JsonNode *at_job_view_locked(struct at_job *job)
{
    g_autoptr(JsonNode) wrapped = json_node_new(JSON_NODE_OBJECT);
    json_node_take_object(wrapped, public_part(job->record));
    g_autofree char *text = at_json_text(wrapped);
    g_autoptr(JsonNode) copy = at_json_parse(text, -1, NULL);
    /* The parser's tree is immutable: the view is a shallow copy of it with members added. */
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *o = public_part(json_node_get_object(copy));
    double elapsed = (double)(at_clock_us() - job->step_started_us) / 1e6;
    double rate = elapsed > 0.2 ? (double)job->bytes_done / elapsed : 0;
    json_object_set_double_member(o, "percent", job->percent);
    json_object_set_int_member(o, "bytes_done", (int64_t)job->bytes_done);
    json_object_set_int_member(o, "bytes_total", (int64_t)job->bytes_total);
    json_object_set_int_member(o, "rate", (int64_t)rate);
    at_json_set_str(o, "waiting", job->waiting);
    if (rate > 0 && job->bytes_total > job->bytes_done)
        json_object_set_int_member(o, "eta_s",
                                   (int64_t)((double)(job->bytes_total - job->bytes_done) / rate));
    else
        json_object_set_null_member(o, "eta_s");
    json_node_take_object(node, o);
    return node;
}

static JsonNode *stored_view(struct at_record *record)
{
    JsonObject *stored = json_node_get_object(record->value);
    JsonObject *o = public_part(stored);
    json_object_set_int_member(o, "bytes_done", at_json_int(stored, "bytes_done", 0));
    json_object_set_int_member(o, "bytes_total", at_json_int(stored, "bytes_total", 0));
    json_object_set_int_member(o, "rate", 0);
    json_object_set_null_member(o, "eta_s");
    json_object_set_null_member(o, "waiting");
    if (!json_object_has_member(o, "percent"))
        json_object_set_double_member(o, "percent", 0);
    return at_json_take_obj(o);
}

JsonNode *at_core_job_view(struct at_core *core, const char *id, GError **error)
{
    struct at_jobs *jobs = at_jobs_of(core);
    char *end = NULL;
    unsigned long number = strtoul(id, &end, 10);
    if (!*id || *end || number == 0 || number > 99999999) {
        at_error(error, AT_ERROR_NOT_FOUND, "job %s does not exist (ids are numbers)", id);
        return NULL;
    }
    g_autofree char *plain = g_strdup_printf("%lu", number);
    g_mutex_lock(&jobs->lock);
    struct at_job *job = g_hash_table_lookup(jobs->running, plain);
    JsonNode *view = job ? at_job_view_locked(job) : NULL;
    g_mutex_unlock(&jobs->lock);
    if (view)
        return view;
    g_autofree char *key = at_job_key((unsigned)number);
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
    struct at_jobs *jobs = at_jobs_of(core);
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
    if (job->step >= job->kind->commit_at && !job->waiting) {
        at_error(error, AT_ERROR_CONFLICT,
                 "job %s is past the point where it can be undone (step \"%s\"); it will finish",
                 id, job->kind->steps[job->step].name);
    } else {
        g_cancellable_cancel(job->cancellable);
        g_cond_broadcast(&jobs->wake);
        view = at_job_view_locked(job);
    }
    g_mutex_unlock(&jobs->lock);
    if (view)
        at_event_emit(core, "job.cancel-requested", id, actor->user, NULL);
    return view;
}
