/* SPDX-License-Identifier: Apache-2.0 */
/* The jobs that make, change, start, stop and delete a VDC. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "core/steps.h"
#include "core/supervisor.h"
#include "core/vdc.h"

static const char *vdc_name(struct at_job *job)
{
    return at_json_str(at_job_args(job), "vdc", "");
}

static bool is_not_found(const GError *error)
{
    return at_error_classify(error) == AT_ERROR_NOT_FOUND;
}

/* ---- create ---- */

static bool create_record(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    JsonObject *args = at_job_args(job);
    g_autoptr(at_vdc) exists = at_vdc_load(core->catalog, vdc_name(job), NULL);
    if (exists && g_strcmp0(exists->id, at_json_str(args, "id", "")) == 0)
        return true; /* an earlier run of this step came that far */
    if (exists)
        return at_error(error, AT_ERROR_CONFLICT, "VDC %s exists already", vdc_name(job));
    g_autoptr(at_vdc) vdc = g_new0(at_vdc, 1);
    vdc->name = g_strdup(vdc_name(job));
    vdc->id = g_strdup(at_json_str(args, "id", NULL));
    vdc->owner = g_strdup(at_job_user(job));
    vdc->created = g_strdup(at_json_str(args, "created", NULL));
    vdc->uplink = g_strdup("");
    vdc->ports = json_array_new();
    vdc->want_running = at_json_bool(args, "start", true);
    vdc->def = at_definition_parse(json_object_get_member(args, "definition"), NULL, error);
    struct at_identity identity = {0};
    g_autoptr(GPtrArray) machines =
        vdc->def ? at_instantiate(core, vdc, NULL, at_json_obj(args, "ids"), "active", &identity,
                                  at_origin_image, core, error)
                 : NULL;
    if (!machines)
        return false;
    at_vdc_ports_lock();
    bool ok = at_vdc_assign_ports(core, vdc, false, error) &&
              at_machines_record(core, vdc, machines, NULL, error);
    at_vdc_ports_unlock();
    return ok;
}

static bool remove_machines(struct at_core *core, JsonObject *ids, GError **error)
{
    g_autoptr(GList) values = ids ? json_object_get_values(ids) : NULL;
    for (GList *l = values; l; l = l->next) {
        if (!at_machine_destroy(core, json_node_get_string(l->data), error))
            return false;
    }
    return true;
}

bool at_step_unrecord(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    JsonObject *args = at_job_args(job);
    if (!remove_machines(core, at_json_obj(args, "ids"), error))
        return false;
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name(job), NULL);
    if (!vdc || g_strcmp0(vdc->id, at_json_str(args, "id", "")) != 0)
        return true;
    struct at_txn *txn = at_txn_new(core->catalog);
    at_vdc_delete(txn, vdc);
    return at_txn_commit(txn, NULL, error);
}

bool at_step_make_files(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name(job), error);
    g_autoptr(GPtrArray) machines = vdc ? at_vdc_machines(core, vdc->id, "active", error) : NULL;
    for (unsigned i = 0; machines && i < machines->len; i++) {
        if (g_cancellable_is_cancelled(at_job_cancellable(job)))
            return at_error(error, AT_ERROR_CANCELLED, "cancelled");
        if (!at_machine_make_files(core, machines->pdata[i], error))
            return false;
        at_job_percent(job, 100.0 * (i + 1) / machines->len);
    }
    return machines != NULL;
}

bool at_step_network_up(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name(job), error);
    return vdc && at_vdc_network_up(core, vdc, error);
}

bool at_step_network_down(struct at_job *job, GError **error)
{
    const char *id = at_json_str(at_job_args(job), "id", NULL);
    return !id || at_vdc_network_down(at_job_core(job), id, error);
}

static void tell(struct at_job *job, const char *type)
{
    at_event_emit(at_job_core(job), type, vdc_name(job), at_job_user(job), NULL);
}

/* The last thing that happens to a VDC whatever is done to it, so that it has changed then. */
bool at_step_power_on(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name(job), error);
    if (!vdc || !at_power_on_all(core, vdc, error))
        return false;
    tell(job, "vdc.changed");
    return true;
}

static const struct at_job_step create_steps[] = {
    {"record", create_record, at_step_unrecord},
    {"create disks", at_step_make_files, NULL},
    {"network", at_step_network_up, at_step_network_down},
    {"power on", at_step_power_on, NULL},
};
const struct at_job_kind at_job_vdc_create = {"vdc-create", create_steps, 4, 0, 4};

/* ---- start, stop, restart ---- */

static const char **names_arg(struct at_job *job)
{
    JsonArray *list = at_json_arr(at_job_args(job), "workstations");
    if (!list)
        return NULL;
    unsigned n = json_array_get_length(list);
    const char **names = g_new0(const char *, n + 1);
    for (unsigned i = 0; i < n; i++)
        names[i] = json_array_get_string_element(list, i);
    return names;
}

static bool set_want(struct at_job *job, bool want, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autofree const char **names = names_arg(job);
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name(job), error);
    if (!vdc || !at_want_running(core, vdc->id, names, want, error))
        return false;
    if (names || vdc->want_running == want)
        return true;
    vdc->want_running = want;
    return at_vdc_save(core->catalog, vdc, error);
}

static bool want_on(struct at_job *job, GError **error)
{
    return set_want(job, true, error);
}

static bool want_off(struct at_job *job, GError **error)
{
    return set_want(job, false, error);
}

struct stopper {
    struct at_core *core;
    struct at_job *job;
    const at_mach *mach;
    int timeout_ms;
    bool ok, clean;
    GError *error;
};

static void *stop_one(void *user)
{
    struct stopper *s = user;
    s->ok = at_power_off(s->core, s->mach->id, s->timeout_ms, at_job_cancellable(s->job), &s->clean,
                         &s->error);
    return NULL;
}

/* Stops those that do not want to run (or, with @all, everybody named). */
static bool stop_machines(struct at_job *job, bool all, GError **error)
{
    struct at_core *core = at_job_core(job);
    JsonObject *args = at_job_args(job);
    g_autofree const char **names = names_arg(job);
    int timeout_ms = at_json_bool(args, "force", false)
                         ? 0
                         : (int)CLAMP(at_json_int(args, "timeout_s", 60), 1, 3600) * 1000;
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name(job), error);
    g_autoptr(GPtrArray) machines = vdc ? at_vdc_machines(core, vdc->id, "active", error) : NULL;
    if (!machines)
        return false;
    g_autofree struct stopper *stoppers = g_new0(struct stopper, machines->len + 1);
    g_autofree GThread **threads = g_new0(GThread *, machines->len + 1);
    bool ok = true;
    for (unsigned i = 0; i < machines->len; i++) {
        at_mach *m = machines->pdata[i];
        if ((names && !g_strv_contains(names, m->workstation)) || (!all && m->want_running))
            continue;
        stoppers[i] =
            (struct stopper){.core = core, .job = job, .mach = m, .timeout_ms = timeout_ms};
        threads[i] = g_thread_new("power-off", stop_one, &stoppers[i]);
    }
    for (unsigned i = 0; i < machines->len; i++) {
        if (!threads[i])
            continue;
        g_thread_join(threads[i]);
        if (stoppers[i].ok && !stoppers[i].clean && timeout_ms > 0)
            at_job_note(job, "workstation %s did not shut down within %d s and was powered off",
                        stoppers[i].mach->workstation, timeout_ms / 1000);
        if (stoppers[i].ok)
            continue;
        if (ok)
            g_propagate_prefixed_error(error, stoppers[i].error,
                                       "workstation %s: ", stoppers[i].mach->workstation);
        else
            g_clear_error(&stoppers[i].error);
        ok = false;
    }
    return ok;
}

static bool stop_unwanted(struct at_job *job, GError **error)
{
    if (!stop_machines(job, false, error))
        return false;
    tell(job, "vdc.changed");
    return true;
}

static bool stop_named(struct at_job *job, GError **error)
{
    return stop_machines(job, true, error);
}

static const struct at_job_step start_steps[] = {
    {"record", want_on, NULL},
    {"network", at_step_network_up, NULL},
    {"power on", at_step_power_on, NULL},
};
const struct at_job_kind at_job_vdc_start = {"vdc-start", start_steps, 3, 0, 0};

static const struct at_job_step stop_steps[] = {
    {"record", want_off, NULL},
    {"shut down", stop_unwanted, want_on},
};
const struct at_job_kind at_job_vdc_stop = {"vdc-stop", stop_steps, 2, 0, 2};

static const struct at_job_step restart_steps[] = {
    {"shut down", stop_named, NULL},
    {"record", want_on, NULL},
    {"network", at_step_network_up, NULL},
    {"power on", at_step_power_on, NULL},
};
const struct at_job_kind at_job_vdc_restart = {"vdc-restart", restart_steps, 4, 0, 1};

/* ---- delete ---- */

static bool delete_machines_now(struct at_core *core, const char *vdc_id, GError **error)
{
    g_autoptr(GPtrArray) machines = at_mach_load_all(core->catalog, vdc_id, error);
    /* A crash in between must not start one again. */
    if (!machines || !at_want_running(core, vdc_id, NULL, false, error))
        return false;
    for (unsigned i = 0; i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        if (!at_machine_destroy(core, m->id, error)) {
            g_prefix_error(error, "workstation %s: ", m->workstation);
            return false;
        }
    }
    return true;
}

static bool delete_machines(struct at_job *job, GError **error)
{
    const char *id = at_json_str(at_job_args(job), "id", "");
    if (!at_seal_exclude(job, id, error))
        return false;
    bool ok = delete_machines_now(at_job_core(job), id, error);
    at_seal_include(id);
    return ok;
}

static bool delete_records(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    const char *id = at_json_str(at_job_args(job), "id", "");
    g_autofree char *prefix = g_strdup_printf("snapshot/%s/", id);
    g_autoptr(GPtrArray) snaps = at_snap_load_all(core->catalog, id, error);
    g_autoptr(GPtrArray) roots = at_vault_root_list(core->vault, prefix, error);
    g_autoptr(GError) local = NULL;
    if (!snaps || !roots)
        return false;
    struct at_txn *txn = at_txn_new(core->catalog);
    for (unsigned i = 0; i < snaps->len; i++)
        at_snap_delete(txn, snaps->pdata[i]);
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name(job), &local);
    if (vdc && g_str_equal(vdc->id, id))
        at_vdc_delete(txn, vdc);
    if (!vdc && !is_not_found(local)) {
        at_txn_free(txn);
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (!at_txn_commit(txn, NULL, error))
        return false;
    tell(job, "vdc.deleted");
    /* The catalog lets go before the vault does: a name never outlives its content. */
    for (unsigned i = 0; i < roots->len; i++) {
        struct at_root *r = roots->pdata[i];
        if (!at_vault_root_remove(core->vault, r->name, error))
            return false;
    }
    return true;
}

static const struct at_job_step delete_steps[] = {
    {"power off and remove disks", delete_machines, NULL},
    {"network", at_step_network_down, NULL},
    {"records", delete_records, NULL},
};
const struct at_job_kind at_job_vdc_delete = {"vdc-delete", delete_steps, 3, 0, 0};
