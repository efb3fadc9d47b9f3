/* SPDX-License-Identifier: Apache-2.0 */
/* The jobs on snapshots: create, delete, verify. */
#include <string.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "core/vdc.h"
#include "vault/maintenance.h"

static const char *arg(struct at_job *job, const char *name)
{
    return at_json_str(at_job_args(job), name, NULL);
}

/* ---- create ---- */

static bool create_prepare(struct at_job *job, GError **error)
{
    return at_capture_prepare(job, arg(job, "vdc"), arg(job, "name"), false, error);
}

static bool create_undo(struct at_job *job, GError **error)
{
    return at_capture_undo(job, arg(job, "name"), error);
}

static bool create_capture(struct at_job *job, GError **error)
{
    return at_capture_run(job, arg(job, "vdc"), arg(job, "name"),
                          at_json_bool(at_job_args(job), "quiesce", false), arg(job, "description"),
                          error);
}

static bool seal(struct at_job *job, const char *vdc_id, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autofree char *subject = g_strdup_printf("%s@%s", arg(job, "vdc"), arg(job, "name"));
    g_autoptr(GError) local = NULL;
    at_job_release_scope(job); /* the team may go on: what is captured does not change any more */
    bool ok = at_seal_snapshot(job, vdc_id, arg(job, "name"), &local);
    g_autoptr(at_snap) snap = at_snap_load(core->catalog, vdc_id, arg(job, "name"), NULL);
    if (!snap) {
        at_job_note(job, "snapshot %s was deleted before it was sealed", subject);
        return true;
    }
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    at_job_result_str(job, "snapshot", subject);
    at_job_result_str(job, "digest", snap->digest);
    at_event_emit(core, "snapshot.sealed", subject, at_job_user(job), NULL);
    if (!at_seal_exclude(job, vdc_id, error))
        return false;
    ok = at_seal_cleanup(core, vdc_id, error);
    at_seal_include(vdc_id);
    return ok;
}

static bool create_seal(struct at_job *job, GError **error)
{
    g_autofree char *subject = g_strdup_printf("%s@%s", arg(job, "vdc"), arg(job, "name"));
    at_event_emit(at_job_core(job), "snapshot.captured", subject, at_job_user(job), NULL);
    return seal(job, at_json_str(at_job_data(job), "vdc_id", ""), error);
}

static const struct at_job_step create_steps[] = {
    {"prepare", create_prepare, create_undo},
    {"capture", create_capture, NULL},
    {"seal", create_seal, NULL},
};
const struct at_job_kind at_job_snapshot_create = {"snapshot-create", create_steps, 3, 2, 2};

/* ---- seal: what an earlier job left captured ---- */

static bool seal_left(struct at_job *job, GError **error)
{
    return seal(job, arg(job, "vdc_id"), error);
}

static const struct at_job_step seal_steps[] = {{"seal", seal_left, NULL}};
const struct at_job_kind at_job_snapshot_seal = {"snapshot-seal", seal_steps, 1, 0, 0};

bool at_seal_what_is_left(struct at_core *core, GError **error)
{
    g_autoptr(GPtrArray) snaps = at_snap_load_all(core->catalog, NULL, error);
    for (unsigned i = 0; snaps && i < snaps->len; i++) {
        const at_snap *s = snaps->pdata[i];
        if (s->digest || at_job_works_on(core, s->vdc))
            continue;
        JsonObject *args = json_object_new();
        json_object_set_string_member(args, "vdc", s->vdc);
        json_object_set_string_member(args, "vdc_id", s->vdc_id);
        json_object_set_string_member(args, "name", s->name);
        g_autofree char *target = g_strdup_printf("%s@%s", s->vdc, s->name);
        g_autoptr(JsonNode) job =
            at_job_start(core, &at_job_snapshot_seal, target, NULL, &at_actor_daemon, args, error);
        if (!job)
            return false;
    }
    return snaps != NULL;
}

/* ---- delete ---- */

static bool delete_record(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    const char *vdc_id = arg(job, "vdc_id"), *name = arg(job, "name");
    g_autofree char *root = g_strdup_printf("snapshot/%s/%s", vdc_id, name);
    g_autofree char *pins = g_strconcat(root, "/", NULL);
    if (!at_seal_exclude(job, vdc_id, error))
        return false;
    g_autoptr(at_snap) snap = at_snap_load(core->catalog, vdc_id, name, NULL);
    bool ok = true;
    if (snap) {
        struct at_txn *txn = at_txn_new(core->catalog);
        at_snap_delete(txn, snap);
        ok = at_txn_commit(txn, NULL, error);
    }
    ok = ok && at_fault_point("snapshot.unroot", error) &&
         at_vault_root_remove(core->vault, root, error) &&
         at_vault_roots_remove(core, pins, error) && at_seal_cleanup(core, vdc_id, error);
    at_seal_include(vdc_id);
    return ok;
}

static const struct at_job_step delete_steps[] = {{"remove", delete_record, NULL}};
const struct at_job_kind at_job_snapshot_delete = {"snapshot-delete", delete_steps, 1, 0, 0};

/* ---- verify ---- */

static void progress(uint64_t done, uint64_t total, void *user)
{
    at_job_progress(user, done, total);
}

static bool verify_read(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    const char *vdc_id = arg(job, "vdc_id"), *name = arg(job, "name");
    struct at_verify_report *report = NULL;
    struct at_digest digest;
    if (!at_seal_snapshot(job, vdc_id, name, error))
        return false;
    g_autoptr(at_snap) snap = at_snap_load(core->catalog, vdc_id, name, error);
    if (!snap || !at_digest_from_hex(snap->digest, &digest, error) ||
        !at_vault_verify_root(core->vault, AT_ROOT_MANIFEST, &digest, progress, job,
                              at_job_cancellable(job), &report, error))
        return false;
    unsigned n = report->problems->len;
    at_job_result(job, "report", at_verify_report_json(core, report));
    at_verify_report_free(report);
    g_free(snap->state);
    snap->state = g_strdup(n > 0 ? "sealed" : "verified");
    if (!at_snap_save(core->catalog, snap, error))
        return false;
    if (n > 0)
        return at_error(error, AT_ERROR_CORRUPT,
                        "%u chunks of snapshot %s are damaged; they are named in the job's result "
                        "(atoll --json job show)",
                        n, name);
    return true;
}

static const struct at_job_step verify_steps[] = {{"read back and compare", verify_read, NULL}};
const struct at_job_kind at_job_snapshot_verify = {"snapshot-verify", verify_steps, 1, 0, 1};
