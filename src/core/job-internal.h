/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the job engine share: job.c runs and recovers, job-step.c is what steps call,
 * job-view.c shows and cancels. */
#pragma once
#include "core/core-internal.h"
#include "core/job.h"

struct at_jobs {
    GMutex lock; /* guards every member here and the scope, progress and steps of each job */
    GCond ended;
    GCond wake;          /* a job that waits was cancelled, or all are to stop */
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
    char *waiting; /* what stands in the way of the running step, or NULL */
    int64_t step_started_us, last_event_us;
    uint64_t bytes_done, bytes_total;
    double percent;
};

struct at_jobs *at_jobs_of(struct at_core *core);
char *at_job_key(unsigned id); /* in the catalog */
/* "_locked": with the lock of the jobs held. */
bool at_job_save_locked(struct at_job *job, GError **error);
JsonNode *at_job_view_locked(struct at_job *job);
void at_job_announce(struct at_job *job, const char *event_type);
