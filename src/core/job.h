/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: long operations as recorded steps.
 *
 * A kind is a table of steps. A job runs in a worker thread of its own; every step is recorded as
 * running (durable) before it acts, and must be idempotent: after a crash it is either run again
 * (from `resume_from` on) or undone, in reverse order, beginning with the step that was running.
 * A failure or a cancellation before `commit_at` undoes; from there on a failed step leaves the
 * job failed with its effects, and doing the same again, or the next start, brings it to its end.
 *
 * Catalog record: job/<8 digits>. Fault points: "job.<kind>.<step>.before" and ".after". */
#pragma once
#include <gio/gio.h>
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/core.h"

struct at_job;

struct at_job_step {
    const char *name; /* what a person reads: "create disks" */
    bool (*run)(struct at_job *job, GError **error);
    bool (*undo)(struct at_job *job, GError **error); /* NULL: nothing to undo */
};

struct at_job_kind {
    const char *name; /* "snapshot-create" */
    const struct at_job_step *steps;
    unsigned n_steps;
    unsigned resume_from; /* interrupted in this step or a later one: run on; before: undo */
    unsigned commit_at;   /* from this step on nothing is undone; n_steps: until the end */
};

/* Every kind there is, NULL-terminated (core/job-kinds.c). */
extern const struct at_job_kind *const at_job_kinds[];

/* Starts a job and returns its view (caller owns).
 * @target   what a person calls it: "rag-team", "rag-team@monday", "image debian-12"
 * @scope    name of the VDC (or "image/NAME", "vault") that it holds, or NULL. CONFLICT names the
 *           job that holds it. A job may give its scope back early (at_job_release_scope).
 * @args     taken: what the steps need; kept in the record as "args"
 * Main thread. */
JsonNode *at_job_start(struct at_core *core, const struct at_job_kind *kind, const char *target,
                       const char *scope, const struct at_actor *actor, JsonObject *args,
                       GError **error);
/* The daemon itself as actor. */
extern const struct at_actor at_actor_daemon;

/* True while some job has, or had and released, @scope. */
bool at_job_works_on(struct at_core *core, const char *scope);
/* True while some job holds @scope; *ret_state (may be NULL, else newly allocated):
 * "snapshot-create". */
bool at_job_scope_held(struct at_core *core, const char *scope, char **ret_kind);

/* ---- for steps (worker thread) ---- */
struct at_core *at_job_core(struct at_job *job);
JsonObject *at_job_args(struct at_job *job); /* borrowed; read only */
JsonObject *at_job_data(struct at_job *job); /* borrowed; what earlier steps have set */
/* @value is taken and never changed afterwards. Durable after the next at_job_save or step. */
void at_job_set(struct at_job *job, const char *name, JsonNode *value);
void at_job_set_str(struct at_job *job, const char *name, const char *value);
/* Shown to the caller at the end. */
void at_job_result(struct at_job *job, const char *name, JsonNode *value);
void at_job_result_str(struct at_job *job, const char *name, const char *value);
bool at_job_resumed(struct at_job *job); /* an earlier daemon began it */
const char *at_job_user(struct at_job *job);
/* The actor's numeric ids, for opening files with the caller's rights. */
int64_t at_job_uid(struct at_job *job);
int64_t at_job_gid(struct at_job *job);
GCancellable *at_job_cancellable(struct at_job *job); /* never cancelled from commit_at on */
bool at_job_save(struct at_job *job, GError **error); /* data is durable on return */
void at_job_release_scope(struct at_job *job);
/* Something stands in the way that somebody can remove (a full disk): tells @reason ("waiting" in
 * the view), and waits. True after @delay_ms, to try again; false with CANCELLED when the job was
 * cancelled, which is possible while it waits also after commit_at, or when the daemon stops. */
bool at_job_wait(struct at_job *job, int delay_ms, const char *reason, GError **error);
void at_job_waits_no_more(struct at_job *job);
/* Progress of the running step. @total 0: unknown. Any thread; cheap. */
void at_job_progress(struct at_job *job, uint64_t bytes_done, uint64_t bytes_total);
void at_job_percent(struct at_job *job, double percent);
/* A line for people in the record's "notes" (at most 100). */
void at_job_note(struct at_job *job, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* ---- for core ---- */
/* Takes up the jobs that an earlier daemon left; called once by at_core_open. */
bool at_jobs_recover(struct at_core *core, GError **error);
/* Waits at most @timeout_ms for the running steps to come to a safe point; false when some did not.
 * The main loop's sources are served meanwhile, because steps hand work over to it. Main thread. */
bool at_jobs_stop(struct at_core *core, int timeout_ms);
