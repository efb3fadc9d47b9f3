/* SPDX-License-Identifier: Apache-2.0 */
/* The jobs on the vault: gc, verify, reindex. And its view. */
#include "base/error.h"
#include "base/json.h"
#include "core/scrub.h"
#include "core/vdc.h"
#include "vault/maintenance.h"

static void progress(uint64_t done, uint64_t total, void *user)
{
    at_job_progress(user, done, total);
}

static JsonNode *int_node(uint64_t value)
{
    JsonNode *node = json_node_new(JSON_NODE_VALUE);
    json_node_set_int(node, (int64_t)value);
    return node;
}

static bool gc_run(struct at_job *job, GError **error)
{
    struct at_gc_report report = {0};
    if (!at_vault_gc(at_job_core(job)->vault, progress, job, at_job_cancellable(job), &report,
                     error))
        return false;
    at_job_result(job, "chunks_freed", int_node(report.chunks_freed));
    at_job_result(job, "bytes_freed", int_node(report.bytes_freed));
    at_job_result(job, "stored_bytes", int_node(report.stored_bytes));
    return true;
}

static bool verify_run(struct at_job *job, GError **error)
{
    struct at_verify_report *report = NULL;
    double percent = at_json_num(at_job_args(job), "sample_percent", 100);
    if (!at_vault_verify(at_job_core(job)->vault, percent, progress, job, at_job_cancellable(job),
                         &report, error))
        return false;
    unsigned n = report->problems->len;
    at_job_result(job, "report", at_verify_report_json(at_job_core(job), report));
    if (percent >= 100)
        at_scrub_note(at_job_core(job), report);
    at_verify_report_free(report);
    return n == 0 ||
           at_error(error, AT_ERROR_CORRUPT,
                    "%u chunks are damaged; the job's result names them and the disks and "
                    "snapshots they hit",
                    n);
}

static bool reindex_run(struct at_job *job, GError **error)
{
    return at_vault_reindex(at_job_core(job)->vault, progress, job, at_job_cancellable(job), error);
}

static const struct at_job_step gc_steps[] = {{"collect", gc_run, NULL}};
static const struct at_job_step verify_steps[] = {{"read and hash", verify_run, NULL}};
static const struct at_job_step reindex_steps[] = {{"rebuild the index", reindex_run, NULL}};
const struct at_job_kind at_job_vault_gc = {"vault-gc", gc_steps, 1, 0, 1};
const struct at_job_kind at_job_vault_verify = {"vault-verify", verify_steps, 1, 0, 1};
const struct at_job_kind at_job_vault_reindex = {"vault-reindex", reindex_steps, 1, 0, 1};

JsonNode *at_core_vault_gc(struct at_core *core, const struct at_actor *actor, GError **error)
{
    return at_job_start(core, &at_job_vault_gc, "vault", "vault", actor, NULL, error);
}

JsonNode *at_core_vault_verify(struct at_core *core, const struct at_actor *actor,
                               double sample_percent, GError **error)
{
    if (!(sample_percent > 0 && sample_percent <= 100)) {
        at_error(error, AT_ERROR_INVALID, "the sample is more than 0 and at most 100 percent");
        return NULL;
    }
    JsonObject *args = json_object_new();
    json_object_set_double_member(args, "sample_percent", sample_percent);
    return at_job_start(core, &at_job_vault_verify, "vault", "vault", actor, args, error);
}

JsonNode *at_core_vault_reindex(struct at_core *core, const struct at_actor *actor, GError **error)
{
    return at_job_start(core, &at_job_vault_reindex, "vault", "vault", actor, NULL, error);
}

JsonNode *at_core_vault_view(struct at_core *core, GError **error)
{
    struct at_vault_stats stats = {0};
    if (!at_vault_stats(core->vault, &stats, error))
        return NULL;
    JsonObject *o = json_object_new();
    json_object_set_int_member(o, "chunks", (int64_t)stats.chunks);
    json_object_set_int_member(o, "plain_bytes", (int64_t)stats.plain_bytes);
    json_object_set_int_member(o, "stored_bytes", (int64_t)stats.stored_bytes);
    json_object_set_int_member(o, "packs", (int64_t)stats.packs);
    json_object_set_int_member(o, "quarantined", (int64_t)stats.quarantined);
    json_object_set_boolean_member(o, "index_damaged", at_vault_index_suspect(core->vault));
    json_object_set_object_member(o, "verify", at_scrub_view(core));
    return at_json_take_obj(o);
}
