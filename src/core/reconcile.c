/* SPDX-License-Identifier: Apache-2.0 */
/* After a start: running machines are found again, the end of others is told; what should run and
 * does not is started; what the host has and the catalog does not know is reported, and removed
 * where it is surely ours. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/json.h"
#include "core/restart.h"
#include "core/steps.h"
#include "core/supervisor.h"
#include "core/vdc.h"
#include "net/net.h"
#include "qemu/block.h"

/* Whether the host has booted since a daemon last looked; records this boot. */
static bool host_has_booted(struct at_core *core)
{
    static const char key[] = "node/self";
    g_autofree char *boot = NULL;
    g_autoptr(GError) error = NULL;
    if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL))
        return false;
    g_strstrip(boot);
    g_autoptr(at_record) known = at_catalog_get(core->catalog, key, NULL);
    if (known &&
        g_strcmp0(at_json_str(json_node_get_object(known->value), "boot_id", NULL), boot) == 0)
        return false;
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "boot_id", boot);
    g_autoptr(JsonNode) node = at_json_take_obj(o);
    if (!at_catalog_put(core->catalog, key, node, AT_REVISION_ANY, NULL, &error))
        at_core_log("record of this boot of the host: %s", error->message);
    return true;
}

/* A guest of this boot ended while no daemon watched it; nobody can say how. */
static void tell_end(struct at_core *core, const at_mach *m, const char *dir)
{
    struct at_process process;
    g_autofree char *pidfile = g_build_filename(dir, "pid", NULL);
    g_autoptr(at_vdc) vdc = NULL;
    if (!g_str_equal(m->state, "active") || !m->want_running ||
        !at_pidfile_read(pidfile, &process, NULL) ||
        !(vdc = at_vdc_load(core->catalog, m->vdc, NULL)))
        return;
    at_supervise_ended(core, m, vdc, &process);
    at_restart_request(core, m->id, true, 0);
}

bool at_core_adopt(struct at_core *core, GError **error)
{
    bool booted = host_has_booted(core);
    g_autoptr(GPtrArray) machines = at_mach_load_all(core->catalog, NULL, error);
    for (unsigned i = 0; machines && i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        g_autofree char *dir = at_core_machine_dir(core, m->id);
        struct at_process process;
        g_autoptr(GError) local = NULL;
        if (!at_machine_find(dir, &process, NULL)) {
            if (booted)
                at_machine_clean_dir(dir); /* it went with the host: no end of its own */
            else
                tell_end(core, m, dir);
            continue;
        }
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
        if (!at_job_works_on(core, m->vdc)) /* not while a seal is at work either */
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

/* What wants to run and does not, after a boot of the host or a start that was cut off, gets a
 * request: it waits for the jobs that were taken up again. The watchdog looks after networks. */
static bool reconcile_power(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    g_autoptr(GPtrArray) machines = at_mach_load_all(core->catalog, NULL, error);
    for (unsigned i = 0; machines && i < machines->len && !core->closing; i++) {
        const at_mach *m = machines->pdata[i];
        struct at_process process;
        if (g_str_equal(m->state, "active") && m->want_running &&
            !at_machine_process(core, m->id, &process))
            at_restart_ensure(core, m->id);
    }
    return machines != NULL;
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
    {"start what should run", reconcile_power, NULL},
};
const struct at_job_kind at_job_reconcile = {"reconcile", steps, 3, 0, 0};

bool at_core_reconcile_start(struct at_core *core, GError **error)
{
    g_autoptr(JsonNode) job =
        at_job_start(core, &at_job_reconcile, "node", NULL, &at_actor_daemon, NULL, error);
    return job != NULL;
}
