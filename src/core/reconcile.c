/* SPDX-License-Identifier: Apache-2.0 */
/* After a start: running machines are found again; what should run and does not is started; what
 * the host has and the catalog does not know is reported, and removed where it is surely ours. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/json.h"
#include "core/steps.h"
#include "core/supervisor.h"
#include "core/vdc.h"
#include "net/net.h"
#include "qemu/block.h"

bool at_core_adopt(struct at_core *core, GError **error)
{
    g_autoptr(GPtrArray) machines = at_mach_load_all(core->catalog, NULL, error);
    for (unsigned i = 0; machines && i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        g_autofree char *dir = at_core_machine_dir(core, m->id);
        struct at_process process;
        g_autoptr(GError) local = NULL;
        if (!at_machine_find(dir, &process, NULL))
            continue;
        g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, m->vdc, &local);
        if (!vdc || !at_supervise(core, m, vdc, &process, &local))
            at_core_log("VDC %s: workstation %s runs (pid %d) but cannot be watched: %s", m->vdc,
                        m->workstation, (int)process.pid, local->message);
    }
    return machines != NULL;
}

static bool known_gen(const at_mach *m, unsigned disk, unsigned gen)
{
    for (unsigned i = 0; i < m->disks->len; i++) {
        const struct at_disk *d = m->disks->pdata[i];
        if (d->index != disk)
            continue;
        if (gen >= d->next)
            return true; /* a job may be about to use it */
        for (unsigned g = 0; g < d->gens->len; g++) {
            if (g_array_index(d->gens, unsigned, g) == gen)
                return true;
        }
    }
    return false;
}

/* Above all frozen files that were sealed, but whose removal a crash prevented. */
void at_machine_sweep(struct at_core *core, const char *id)
{
    at_machine_lock(core, id);
    g_autoptr(at_mach) m = at_mach_load(core->catalog, id, NULL);
    g_autofree char *path = at_core_machine_dir(core, id);
    DIR *dir = m ? opendir(path) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        unsigned disk, gen;
        int end = 0;
        if (sscanf(e->d_name, "d%u-%u.qcow2%n", &disk, &gen, &end) == 2 && e->d_name[end] == '\0' &&
            end > 0 && !known_gen(m, disk, gen))
            at_block_overlay_remove(path, disk, gen, NULL);
    }
    if (dir)
        closedir(dir);
    if (m)
        at_machine_pin(core, m, NULL);
    at_machine_unlock(core, id);
}

static bool reconcile_machines(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(GPtrArray) machines = at_mach_load_all(core->catalog, NULL, error);
    g_autofree char *root = g_build_filename(core->state_dir, "m", NULL);
    for (unsigned i = 0; machines && i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        if (!at_job_scope_held(core, m->vdc, NULL))
            at_machine_sweep(core, m->id);
    }
    DIR *dir = machines ? opendir(root) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        g_autofree char *key = g_strconcat("machine/", e->d_name, NULL);
        g_autoptr(at_record) known = NULL;
        if (e->d_name[0] == '.' || (known = at_catalog_get(core->catalog, key, NULL)))
            continue;
        at_job_note(job, "directory m/%s belongs to no machine of the catalog; left as it is",
                    e->d_name);
        at_core_log("%s/%s belongs to no machine of the catalog; left as it is", root, e->d_name);
    }
    if (dir)
        closedir(dir);
    return machines != NULL;
}

/* A crash of a guest or of the whole host: what wants to run is started. */
static bool reconcile_vdcs(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(GPtrArray) vdcs = at_vdc_load_all(core->catalog, error);
    for (unsigned i = 0; vdcs && i < vdcs->len; i++) {
        at_vdc *v = vdcs->pdata[i];
        g_autoptr(GError) local = NULL;
        g_autoptr(GPtrArray) machines = at_vdc_machines(core, v->id, "active", NULL);
        bool wanted = false, missing = false;
        for (unsigned k = 0; machines && k < machines->len; k++) {
            const at_mach *m = machines->pdata[k];
            struct at_process process;
            wanted |= m->want_running;
            missing |= m->want_running && !at_machine_process(core, m->id, &process);
        }
        if (!wanted || at_job_scope_held(core, v->name, NULL))
            continue;
        if (!at_vdc_network_check(core, v, &local)) {
            at_job_note(job, "VDC %s: network: %s; made again", v->name, local->message);
            g_clear_error(&local);
            if (!at_vdc_network_up(core, v, &local))
                at_core_log("VDC %s: %s", v->name, local->message);
            g_clear_error(&local);
        }
        if (missing && !at_power_on_all(core, v, &local)) {
            at_job_note(job, "VDC %s: %s", v->name, local->message);
            at_core_log("VDC %s: %s", v->name, local->message);
        }
    }
    return vdcs != NULL;
}

static bool reconcile_networks(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(GPtrArray) vdcs = at_vdc_load_all(core->catalog, error);
    g_auto(GStrv) ids = vdcs ? at_net_list(core->site_id, error) : NULL;
    if (!ids)
        return false;
    for (char **id = ids; *id; id++) {
        bool known = false;
        for (unsigned i = 0; i < vdcs->len; i++)
            known |= g_str_equal(((at_vdc *)vdcs->pdata[i])->id, *id);
        if (!known)
            at_job_note(job, "network of VDC id %s belongs to no VDC of the catalog", *id);
    }
    return true;
}

static const struct at_job_step steps[] = {
    {"machines", reconcile_machines, NULL},
    {"networks", reconcile_networks, NULL},
    {"start what should run", reconcile_vdcs, NULL},
};
const struct at_job_kind at_job_reconcile = {"reconcile", steps, 3, 0, 0};

bool at_core_reconcile_start(struct at_core *core, GError **error)
{
    g_autoptr(JsonNode) job =
        at_job_start(core, &at_job_reconcile, "node", NULL, &at_actor_daemon, NULL, error);
    return job != NULL;
}
