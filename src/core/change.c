/* SPDX-License-Identifier: Apache-2.0 */
/* Applying a definition to a VDC that exists: only what differs is touched. Workstations whose
 * machine changes are shut down first and started anew at the end; the others run on. */
#include <string.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/process.h"
#include "core/steps.h"
#include "core/supervisor.h"
#include "core/vdc.h"
#include "core/volume-move.h"
#include "qemu/block.h"
#include "wire/plan.h"

static const char *arg(struct at_job *job, const char *name)
{
    return at_json_str(at_job_args(job), name, NULL);
}

/* What is recorded and what is wanted; false on error. */
static bool load(struct at_job *job, at_vdc **ret_vdc, struct at_definition **ret_def,
                 GPtrArray **ret_changes, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, arg(job, "vdc"), error);
    g_autoptr(at_definition) def =
        vdc ? at_definition_parse(json_object_get_member(at_job_args(job), "definition"), NULL,
                                  error)
            : NULL;
    g_autoptr(GPtrArray) changes = def ? at_plan_changes(vdc->def, def, NULL, error) : NULL;
    if (!changes)
        return false;
    *ret_vdc = g_steal_pointer(&vdc);
    *ret_def = g_steal_pointer(&def);
    *ret_changes = g_steal_pointer(&changes);
    return true;
}

static bool defines(const struct at_definition *def, const char *workstation)
{
    at_vdc v = {.def = (struct at_definition *)def};
    return at_vdc_workstation(&v, workstation) != NULL;
}

static bool must_stop(const GPtrArray *changes, const struct at_definition *def, const char *ws)
{
    for (unsigned i = 0; i < changes->len; i++) {
        const struct at_change *c = changes->pdata[i];
        if (c->needs_restart && g_strcmp0(c->workstation, ws) == 0)
            return true;
    }
    return !defines(def, ws);
}

static bool shut_down(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_vdc) vdc = NULL;
    g_autoptr(at_definition) def = NULL;
    g_autoptr(GPtrArray) changes = NULL;
    if (!load(job, &vdc, &def, &changes, error))
        return false;
    g_autoptr(GPtrArray) machines = at_vdc_machines(core, vdc->id, "active", error);
    /* Frozen overlays are sealed while the guests still run. */
    for (unsigned i = 0; machines && i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        if (must_stop(changes, def, m->workstation) && !at_seal_machine(job, m->id, error))
            return false;
    }
    for (unsigned i = 0; machines && i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        if (must_stop(changes, def, m->workstation) &&
            !at_power_off(core, m->id, 60000, at_job_cancellable(job), NULL, error)) {
            g_prefix_error(error, "workstation %s: ", m->workstation);
            return false;
        }
    }
    return machines != NULL;
}

static struct at_disk *take_disk(GPtrArray *disks, const char *name)
{
    for (unsigned i = 0; i < disks->len; i++) {
        struct at_disk *d = disks->pdata[i];
        if (g_str_equal(d->name, name))
            return g_ptr_array_steal_index(disks, i);
    }
    return NULL;
}

/* Whether a disk without overlays shows what the image @image, at @size, has. */
static bool shows(struct at_core *core, const struct at_disk *d, const char *workstation,
                  const char *image, uint64_t size)
{
    g_autofree char *root = NULL;
    uint64_t real = 0;
    return at_origin_image(workstation, d->name, image, size, &root, &real, core, NULL) &&
           g_strcmp0(root, d->base) == 0 && real == d->size;
}

/* The disk that was, grown where asked, or a new one with the next free index. */
static bool keep_or_make(at_mach *m, GPtrArray *old, const at_vdc *vdc, unsigned *next_index,
                         const char *name, const char *image, uint64_t size, bool readonly,
                         struct at_core *core, GError **error)
{
    struct at_disk *d = take_disk(old, name);
    if (d &&
        (d->readonly != readonly || (readonly && !shows(core, d, m->workstation, image, size)))) {
        g_ptr_array_add(old, d);
        d = NULL;
    }
    if (d && size > d->size)
        d->size = size;
    if (!d)
        d = at_instantiate_disk(vdc, m->workstation, (*next_index)++, name, image, size, readonly,
                                at_origin_image, core, error);
    if (!d)
        return false;
    g_ptr_array_add(m->disks, d);
    return true;
}

/* The machine's disks in the order of the definition; what is left in @ret_gone goes. */
static bool rework_disks(struct at_core *core, const at_vdc *vdc,
                         const struct at_def_workstation *ws, at_mach *m, GPtrArray **ret_gone,
                         GError **error)
{
    GPtrArray *old = m->disks;
    unsigned next_index = 0;
    for (unsigned i = 0; i < old->len; i++)
        next_index = MAX(next_index, ((struct at_disk *)old->pdata[i])->index + 1);
    m->disks = g_ptr_array_new_with_free_func((GDestroyNotify)at_disk_free);
    bool ok = true;
    for (unsigned i = 0; ok && i < ws->disks->len; i++) {
        const struct at_def_disk *d = ws->disks->pdata[i];
        ok = keep_or_make(m, old, vdc, &next_index, d->name, d->image, d->size, false, core, error);
    }
    for (char **name = ws->volumes; ok && name && *name; name++) {
        const struct at_def_volume *v = at_vdc_volume(vdc, *name);
        ok = keep_or_make(m, old, vdc, &next_index, v->name, v->image, v->size, v->readonly, core,
                          error);
    }
    *ret_gone = old;
    return ok;
}

static bool all_sealed(const at_mach *m, GError **error)
{
    for (unsigned i = 0; i < m->disks->len; i++) {
        if (((struct at_disk *)m->disks->pdata[i])->gens->len > 1)
            return at_error(error, AT_ERROR_CONFLICT,
                            "workstation %s: a snapshot of its disks is not sealed yet; wait for "
                            "it or see: atoll job list",
                            m->workstation);
    }
    return true;
}

static GPtrArray *new_workstations(const at_vdc *vdc, const GPtrArray *machines)
{
    GPtrArray *added = g_ptr_array_new();
    for (unsigned i = 0; i < vdc->def->workstations->len; i++) {
        const struct at_def_workstation *ws = vdc->def->workstations->pdata[i];
        if (!at_machines_find(machines, ws->name))
            g_ptr_array_add(added, ws->name);
    }
    return added;
}

/* The machines that stay, with the disks that are wanted now: in @ret_changed, borrowed. */
static bool rework(struct at_job *job, const at_vdc *vdc, const GPtrArray *changes,
                   const GPtrArray *machines, GPtrArray *ret_changed, GError **error)
{
    struct at_core *core = at_job_core(job);
    for (unsigned i = 0; i < machines->len; i++) {
        at_mach *m = machines->pdata[i];
        const struct at_def_workstation *ws = at_vdc_workstation(vdc, m->workstation);
        g_autoptr(GPtrArray) gone = NULL;
        if (must_stop(changes, vdc->def, m->workstation) && !all_sealed(m, error))
            return false;
        if (!ws)
            continue;
        if (!rework_disks(core, vdc, ws, m, &gone, error) || !at_machine_pin_more(core, m, error))
            return false;
        if (at_json_bool(at_job_args(job), "start", true))
            m->want_running = true;
        g_ptr_array_add(ret_changed, m);
    }
    return true;
}

/* What moves is on record before the commit, so that the files follow after a crash, too. */
static bool move_volumes(struct at_job *job, const struct at_definition *before,
                         const struct at_definition *after, const GPtrArray *machines,
                         GError **error)
{
    g_autoptr(JsonArray) moves = at_volumes_move(at_job_core(job), before, after, machines);
    if (json_array_get_length(moves) == 0)
        return true;
    at_job_set(job, "moves", at_json_take_arr(g_steal_pointer(&moves)));
    return at_job_save(job, error);
}

/* VDC, machines that stay and new ones in one transaction. @ret_again: somebody else changed one of
 * the records meanwhile. */
static bool record_once(struct at_job *job, bool *ret_again, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_vdc) vdc = NULL;
    g_autoptr(at_definition) def = NULL;
    g_autoptr(GPtrArray) changes = NULL;
    *ret_again = false;
    if (!load(job, &vdc, &def, &changes, error))
        return false;
    g_autoptr(at_definition) before = g_steal_pointer(&vdc->def);
    vdc->def = g_steal_pointer(&def);
    vdc->want_running = vdc->want_running || at_json_bool(at_job_args(job), "start", true);
    g_autoptr(GPtrArray) machines = at_vdc_machines(core, vdc->id, "active", error);
    g_autoptr(GPtrArray) changed = g_ptr_array_new();
    if (!machines || !move_volumes(job, before, vdc->def, machines, error) ||
        !rework(job, vdc, changes, machines, changed, error) ||
        !at_vdc_assign_ports(core, vdc, false, error))
        return false;
    struct at_identity identity = {0};
    g_autoptr(GPtrArray) added = new_workstations(vdc, machines);
    g_autoptr(GPtrArray) fresh =
        at_instantiate(core, vdc, added, at_json_obj(at_job_args(job), "ids"), "active", &identity,
                       at_origin_image, core, error);
    if (!fresh)
        return false;
    for (unsigned i = 0; i < fresh->len; i++)
        ((at_mach *)fresh->pdata[i])->want_running = at_json_bool(at_job_args(job), "start", true);
    g_autoptr(GError) local = NULL;
    if (at_machines_record(core, vdc, fresh, changed, &local))
        return true;
    *ret_again = g_error_matches(local, AT_ERROR, AT_ERROR_CONFLICT);
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

/* After the commit: what no record names any more goes. */
static bool let_go(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    if (!at_volumes_move_files(core, at_json_arr(at_job_data(job), "moves"), error))
        return false;
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, arg(job, "vdc"), error);
    g_autoptr(GPtrArray) machines = vdc ? at_vdc_machines(core, vdc->id, "active", error) : NULL;
    for (unsigned i = 0; machines && i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        if (!at_vdc_workstation(vdc, m->workstation)) {
            if (!at_machine_destroy(core, m->id, error))
                return false;
        } else {
            at_machine_sweep(core, m->id);
        }
    }
    return machines != NULL;
}

static bool record(struct at_job *job, GError **error)
{
    enum { TRIES = 100 };
    struct at_core *core = at_job_core(job);
    g_autoptr(GPtrArray) machines = at_vdc_machines(core, arg(job, "id"), "active", error);
    if (!machines)
        return false;
    bool ok = false;
    at_vdc_ports_lock();
    for (unsigned i = 0; i < machines->len; i++) /* listed in the order of ids */
        at_machine_lock(core, ((at_mach *)machines->pdata[i])->id);
    for (unsigned tries = 1; !ok; tries++) {
        g_autoptr(GError) local = NULL;
        bool again = false;
        ok = record_once(job, &again, &local);
        if (!ok && (!again || tries == TRIES)) {
            g_propagate_error(error, g_steal_pointer(&local));
            break;
        }
    }
    for (unsigned i = 0; i < machines->len; i++)
        at_machine_unlock(core, ((at_mach *)machines->pdata[i])->id);
    at_vdc_ports_unlock();
    return ok && let_go(job, error);
}

static bool grow(const char *path, uint64_t size, GError **error)
{
    g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    const char *argv[] = {"qemu-img", "resize", "-q", "-f", "qcow2", path, bytes, NULL};
    return at_run(argv, NULL, 60000, NULL, NULL, error) && at_fsync_file(path, error);
}

static bool make_disks(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, arg(job, "vdc"), error);
    g_autoptr(GPtrArray) machines = vdc ? at_vdc_machines(core, vdc->id, "active", error) : NULL;
    for (unsigned i = 0; machines && i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        g_autofree char *dir = at_core_machine_dir(core, m->id);
        struct at_process process;
        if (at_machine_process(core, m->id, &process))
            continue; /* runs on unchanged */
        if (!at_mkdirs(dir, 0711, error))
            return false;
        for (unsigned k = 0; k < m->disks->len; k++) {
            const struct at_disk *d = m->disks->pdata[k];
            if (d->readonly)
                continue;
            g_autofree char *path = at_block_overlay_path(dir, d->index, at_disk_live(d));
            bool ok =
                g_file_test(path, G_FILE_TEST_EXISTS)
                    ? grow(path, d->size, error)
                    : at_machine_make_overlay(core, m, d->index, at_disk_live(d), d->size, error);
            if (!ok) {
                g_prefix_error(error, "workstation %s: disk %s: ", m->workstation, d->name);
                return false;
            }
        }
    }
    return machines != NULL;
}

static bool power_on(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    if (!at_step_power_on(job, error))
        return false;
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, arg(job, "vdc"), error);
    g_autoptr(GPtrArray) machines = vdc ? at_vdc_machines(core, vdc->id, "active", error) : NULL;
    for (unsigned i = 0; machines && i < machines->len; i++)
        at_supervise_update(core, machines->pdata[i], vdc);
    return machines != NULL;
}

static const struct at_job_step steps[] = {
    {"shut down what changes", shut_down, at_step_power_on},
    {"record", record, NULL},
    {"create disks", make_disks, NULL},
    {"network", at_step_network_up, NULL},
    {"power on", power_on, NULL},
};
const struct at_job_kind at_job_vdc_change = {"vdc-change", steps, 5, 0, 2};
