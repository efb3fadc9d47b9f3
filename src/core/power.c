/* SPDX-License-Identifier: Apache-2.0 */
/* Power: starting a machine from its record, stopping it. */
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "core/gpu.h"
#include "core/supervisor.h"
#include "core/vdc.h"
#include "net/net.h"
#include "qemu/cgroup.h"

/* Of BARs that BIOS is known to place. */
#define BIOS_WINDOW (UINT64_C(16) << 30)

static bool make_taps(struct at_core *core, const at_vdc *vdc, const struct at_def_workstation *ws,
                      struct at_machine_nic *nics, GError **error)
{
    for (unsigned i = 0; i < ws->nics->len; i++) {
        const struct at_def_nic *nic = ws->nics->pdata[i];
        nics[i] = (struct at_machine_nic){
            .index = i,
            .mac = nic->mac,
            .tap_fd = at_net_tap(core->site_id, vdc->id, nic->network, nic->mac, error)};
        if (nics[i].tap_fd < 0) {
            g_prefix_error(error, "network %s: ", nic->network);
            return false;
        }
    }
    return true;
}

static bool resolve_accel(struct at_core *core, const char *wanted, enum at_accel *ret,
                          GError **error)
{
    enum at_accel accel = g_str_equal(wanted, "auto")  ? core->accel_wanted
                          : g_str_equal(wanted, "kvm") ? AT_ACCEL_KVM
                                                       : AT_ACCEL_TCG;
    *ret = at_machine_probe_accel(accel, NULL, error);
    return *ret != AT_ACCEL_AUTO;
}

/* Memory and processors near the cards, where all of them are in one place. */
static void give_devices(struct at_machine_config *config, struct at_machine_gpu *gpus,
                         const GArray *devices)
{
    bool together = true;
    const struct at_gpu_device *first = NULL;
    for (unsigned i = 0; i < devices->len; i++) {
        const struct at_gpu_device *d = &g_array_index(devices, struct at_gpu_device, i);
        gpus[i] = (struct at_machine_gpu){.hosts = (const char *const *)d->hosts,
                                          .sysfsdev = d->sysfsdev,
                                          .nodes = (const char *const *)d->nodes,
                                          .cdevs = (const char *const *)d->cdevs,
                                          .window = d->window};
        first = first ? first : d;
        together = together && d->numa_node == first->numa_node;
    }
    uint64_t window = 0;
    for (unsigned i = 0; i < devices->len; i++)
        window += gpus[i].window;
    if (!config->uefi && window > BIOS_WINDOW)
        at_core_log("%s: its GPUs have %" G_GUINT64_FORMAT
                    " GiB of BARs, which BIOS may leave out; "
                    "give it firmware: uefi",
                    config->name, window >> 30);
    if (first && together && at_node_has_numa()) {
        config->numa_node = first->numa_node;
        config->cpulist = first->numa_node >= 0 ? first->cpulist : NULL;
    }
}

/* By iommufd where that can be, and by VFIO groups where QEMU would not have it. */
static bool start(struct at_machine_config *config, struct at_process *ret_process, GError **error)
{
    g_autofree char *version = config->n_gpus > 0 ? at_qemu_version(NULL) : NULL;
    g_autoptr(GError) local = NULL;
    config->iommufd = at_machine_can_iommufd(config, version);
    if (config->iommufd) {
        if (at_machine_start(config, ret_process, &local))
            return true;
        at_core_log("%s; trying again by VFIO groups", local->message);
        config->iommufd = false;
    }
    return at_machine_start(config, ret_process, error);
}

static bool start_machine(struct at_core *core, const at_vdc *vdc, const at_mach *mach,
                          const struct at_def_workstation *ws, const GArray *devices,
                          struct at_process *ret_process, GError **error)
{
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    g_autofree char *nbd = at_core_nbd_socket(core);
    g_autofree char *seed = g_build_filename(dir, "seed.iso", NULL);
    g_autofree char *name = g_strdup_printf("%s/%s", vdc->name, ws->name);
    g_autofree char *cgroup = NULL;
    g_autofree struct at_machine_disk *disks = g_new0(struct at_machine_disk, mach->disks->len);
    g_autofree struct at_machine_nic *nics = g_new0(struct at_machine_nic, ws->nics->len + 1);
    enum at_accel accel;
    for (unsigned i = 0; i < mach->disks->len; i++) {
        const struct at_disk *d = mach->disks->pdata[i];
        disks[i] = (struct at_machine_disk){.index = d->index,
                                            .serial = d->name,
                                            .size = d->size,
                                            .readonly = d->readonly,
                                            .base_root = d->base,
                                            .gens = (const unsigned *)(void *)d->gens->data,
                                            .n_gens = d->gens->len};
    }
    g_autofree struct at_machine_gpu *gpus = g_new0(struct at_machine_gpu, devices->len + 1);
    for (unsigned i = 0; i < ws->nics->len; i++)
        nics[i].tap_fd = -1;
    if (!resolve_accel(core, ws->accel, &accel, error))
        return false;
    g_autoptr(GError) unlimited = NULL;
    at_cgroup_make(core->site_id, mach->id, ws->cpus, ws->memory, &cgroup, &unlimited);
    at_node_note_cgroup(core, unlimited ? unlimited->message : NULL);
    bool ok = make_taps(core, vdc, ws, nics, error);
    struct at_machine_config config = {.name = name,
                                       .uuid = mach->uuid,
                                       .vmgenid = mach->vmgenid,
                                       .dir = dir,
                                       .nbd_socket = nbd,
                                       .uid = core->uid_base + mach->slot,
                                       .gid = core->uid_base,
                                       .cpus = ws->cpus,
                                       .memory = ws->memory,
                                       .accel = accel,
                                       .uefi = g_str_equal(ws->firmware, "uefi"),
                                       .seed_path = seed,
                                       .cgroup = cgroup,
                                       .disks = disks,
                                       .n_disks = mach->disks->len,
                                       .nics = nics,
                                       .n_nics = ws->nics->len,
                                       .gpus = gpus,
                                       .n_gpus = devices->len,
                                       .numa_node = -1};
    give_devices(&config, gpus, devices);
    ok = ok && at_fault_point("power.start", error) && start(&config, ret_process, error);
    for (unsigned i = 0; i < ws->nics->len; i++) {
        if (nics[i].tap_fd >= 0)
            close(nics[i].tap_fd);
    }
    return ok;
}

static bool is_up(at_mach *mach, void *user)
{
    (void)user;
    mach->down_by_crash = false;
    return true;
}

static bool power_on_locked(struct at_core *core, const at_vdc *vdc, const char *machine_id,
                            GError **error)
{
    struct at_process process;
    g_autofree char *dir = at_core_machine_dir(core, machine_id);
    g_autoptr(at_mach) mach = at_mach_load(core->catalog, machine_id, error);
    if (!mach)
        return false;
    const struct at_def_workstation *ws = at_vdc_workstation(vdc, mach->workstation);
    if (!ws)
        return at_error(error, AT_ERROR_NOT_FOUND, "workstation %s is not defined",
                        mach->workstation);
    if (at_machine_process(core, machine_id, &process)) {
        at_gpu_note_started(core, vdc, mach); /* a daemon may have ended before it could */
        return true;
    }
    if (!at_machine_find(dir, &process, NULL)) {
        if (!at_machine_settle(core, machine_id, error))
            return false;
        at_mach_free(mach);
        mach = at_mach_load(core->catalog, machine_id, error);
        g_autoptr(GArray) devices = NULL;
        if (!mach || !at_machine_make_seed(core, vdc, mach, error) ||
            !at_gpu_acquire(core, vdc, mach, NULL, &devices, error))
            return false;
        if (!start_machine(core, vdc, mach, ws, devices, &process, error)) {
            at_gpu_release(core, machine_id, AT_GPU_RETURN);
            return false;
        }
    }
    at_gpu_note_started(core, vdc, mach);
    return at_supervise(core, mach, vdc, &process, error) &&
           (!mach->down_by_crash || at_mach_update(core->catalog, machine_id, is_up, NULL, error));
}

bool at_power_on(struct at_core *core, const at_vdc *vdc, const char *machine_id, GError **error)
{
    at_machine_lock(core, machine_id);
    bool ok = power_on_locked(core, vdc, machine_id, error);
    at_machine_unlock(core, machine_id);
    return ok;
}

bool at_power_off(struct at_core *core, const char *machine_id, int timeout_ms,
                  GCancellable *cancellable, bool *ret_clean, GError **error)
{
    struct at_process process;
    g_autofree char *dir = at_core_machine_dir(core, machine_id);
    bool ok = true;
    at_machine_lock(core, machine_id);
    if (at_machine_process(core, machine_id, &process) || at_machine_find(dir, &process, NULL)) {
        at_supervise_expect_exit(core, machine_id, true);
        ok = at_fault_point("power.stop", error) &&
             (timeout_ms > 0
                  ? at_machine_shutdown(dir, &process, timeout_ms, cancellable, ret_clean, error)
                  : at_machine_quit(dir, &process, error));
        if (!ok) /* it runs on: its end is not ours any more */
            at_supervise_expect_exit(core, machine_id, false);
    } else if (ret_clean) {
        *ret_clean = true;
    }
    if (ok) {
        g_autoptr(at_mach) mach = at_mach_load(core->catalog, machine_id, NULL);
        at_cgroup_remove(core->site_id, machine_id, NULL);
        /* One that is wanted is about to start again, or to be replaced by a restore. */
        at_gpu_release(core, machine_id,
                       mach && mach->want_running ? AT_GPU_DETACH : AT_GPU_RETURN);
    }
    at_machine_unlock(core, machine_id);
    return ok;
}

struct starter {
    struct at_core *core;
    const at_vdc *vdc;
    const at_mach *mach;
    bool ok;
    GError *error;
};

static void *start_one(void *user)
{
    struct starter *s = user;
    s->ok = at_power_on(s->core, s->vdc, s->mach->id, &s->error);
    return NULL;
}

bool at_power_on_all(struct at_core *core, const at_vdc *vdc, GError **error)
{
    g_autoptr(GPtrArray) machines = at_vdc_machines(core, vdc->id, "active", error);
    if (!machines)
        return false;
    g_autofree struct starter *starters = g_new0(struct starter, machines->len + 1);
    g_autofree GThread **threads = g_new0(GThread *, machines->len + 1);
    bool ok = true;
    for (unsigned i = 0; i < machines->len; i++) {
        at_mach *m = machines->pdata[i];
        if (!m->want_running)
            continue;
        starters[i] = (struct starter){.core = core, .vdc = vdc, .mach = m};
        threads[i] = g_thread_new("power-on", start_one, &starters[i]);
    }
    for (unsigned i = 0; i < machines->len; i++) {
        if (!threads[i])
            continue;
        g_thread_join(threads[i]);
        if (starters[i].ok)
            continue;
        if (ok) {
            g_propagate_prefixed_error(error, starters[i].error,
                                       "workstation %s: ", starters[i].mach->workstation);
            ok = false;
        } else {
            g_clear_error(&starters[i].error);
        }
    }
    return ok;
}

static bool set_want(at_mach *mach, void *user)
{
    const bool *want = user;
    bool differs = mach->want_running != *want;
    mach->want_running = *want;
    return differs;
}

bool at_want_running(struct at_core *core, const char *vdc_id, const char *const *workstations,
                     bool want, GError **error)
{
    g_autoptr(GPtrArray) machines = at_vdc_machines(core, vdc_id, "active", error);
    if (!machines)
        return false;
    for (unsigned i = 0; workstations && workstations[i]; i++) {
        if (!at_machines_find(machines, workstations[i]))
            return at_error(error, AT_ERROR_NOT_FOUND, "workstation %s does not exist",
                            workstations[i]);
    }
    for (unsigned i = 0; i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        if ((!workstations || g_strv_contains(workstations, m->workstation)) &&
            !at_mach_update(core->catalog, m->id, set_want, &want, error))
            return false;
    }
    return true;
}
