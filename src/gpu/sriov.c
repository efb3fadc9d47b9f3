/* SPDX-License-Identifier: Apache-2.0 */
/* SR-IOV: turning the VFs of a card on and off, and what uses them. NVIDIA's are turned on by its
 * own script, because its driver refuses a plain write; where the script is missing the plain
 * write is tried all the same (not known to work with NVIDIA's driver; other kernels' doubles of it
 * take it). The script unbinds the card and binds it again: every MIG instance goes with that. */
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/process.h"
#include "gpu/attribute.h"
#include "gpu/device-internal.h"
#include "gpu/function.h"
#include "gpu/group.h"
#include "gpu/mdev-read.h"

#define SRIOV_MANAGE "/usr/lib/nvidia/sriov-manage"
/* Of the whole of it, in times of one write. */
enum { SCRIPT_WRITES = 6, RETRY_MAX_MS = 1000 };

/* ---- what is there ---- */

static char *vf_used(const struct at_gpu_host *host, const char *vf)
{
    unsigned type = at_gpu_vendor_type(host, vf);
    if (type)
        return g_strdup_printf("%s has the vGPU type %u", vf, type);
    g_autoptr(GPtrArray) mdevs = at_mdev_list(&host->paths, vf);
    if (mdevs->len)
        return g_strdup_printf("%s has the mdev %s", vf, (const char *)mdevs->pdata[0]);
    g_autofree char *who = at_gpu_opened_by(&host->paths, vf, NULL);
    if (who)
        return g_strdup_printf("%s is open in %s", vf, who);
    if (at_gpu_has_driver(host, vf, AT_GPU_VFIO))
        return g_strdup_printf("%s is bound to vfio-pci", vf);
    return NULL;
}

char *at_gpu_vfs_used(const struct at_gpu_host *host, const char *address)
{
    g_autoptr(GPtrArray) vfs = at_pci_function_vfs(&host->paths, address);
    for (unsigned i = 0; i < vfs->len; i++) {
        char *used = vf_used(host, vfs->pdata[i]);
        if (used)
            return used;
    }
    return NULL;
}

static bool named_by_others(const struct at_gpu_run *run, const char *address)
{
    const char *const *others = run->att->others;
    return others && g_strv_contains(others, address);
}

bool at_gpu_vf_free(struct at_gpu_run *run, const char *address)
{
    if (named_by_others(run, address))
        return false;
    g_autoptr(GPtrArray) members = at_gpu_group_members(&run->host->paths, address, NULL);
    if (!members || !at_gpu_group_viable(members, address, true, NULL))
        return false;
    g_autofree char *who = at_gpu_opened_by(&run->host->paths, address, NULL);
    return !who;
}

enum at_gpu_vgpu_interface at_gpu_vgpu_interface_of(const struct at_gpu_host *host,
                                                    const char *address)
{
    g_autoptr(GPtrArray) all = at_pci_function_vfs(&host->paths, address);
    g_ptr_array_insert(all, 0, g_strdup(address));
    for (unsigned i = 0; i < all->len; i++) {
        if (at_gpu_exists(host, all->pdata[i], "mdev_supported_types"))
            return AT_GPU_VGPU_MDEV;
        if (at_gpu_exists(host, all->pdata[i], "nvidia/creatable_vgpu_types"))
            return AT_GPU_VGPU_VENDOR;
    }
    return AT_GPU_VGPU_NONE;
}

static uint64_t vfs_on(const struct at_gpu_host *host, const char *address)
{
    uint64_t n = 0;
    return at_gpu_number(host, address, "sriov_numvfs", &n) ? n : 0;
}

/* ---- by the script ---- */

static const char *script_of(const struct at_gpu_run *run)
{
    const char *script = run->host->sriov_manage ? run->host->sriov_manage : SRIOV_MANAGE;
    return access(script, X_OK) == 0 ? script : NULL;
}

/* It may be held up by the kernel like a write of ours, so that it is never waited for without a
 * deadline: it is init's child, and what it did is seen in sysfs. */
static bool run_script(struct at_gpu_run *run, const char *script, const char *option, int left_ms,
                       char **ret_said, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *log = NULL;
    int fd = g_file_open_tmp("atoll-sriov-XXXXXX", &log, &local);
    if (fd < 0)
        return at_error(error, AT_ERROR_IO, "%s", local->message);
    close(fd);
    const char *const argv[] = {script, option, run->att->address, NULL};
    const struct at_spawn spawn = {.argv = argv, .log_path = log, .orphan = true};
    struct at_process process;
    bool ok = at_spawn(&spawn, &process, error);
    if (ok && !at_process_wait(&process, left_ms, error)) {
        at_process_kill(&process, SIGKILL, NULL);
        g_autofree char *who = at_gpu_users(run->host, run->att->address);
        at_gpu_error_add(error, " (%s %s %s; in use by %s)", script, option, run->att->address,
                         who ? who : "nobody that /proc shows");
        ok = false;
    }
    if (ok)
        *ret_said = at_gpu_attr_text(log, NULL);
    unlink(log);
    return ok;
}

static bool pause_before_retry(struct at_gpu_run *run, int64_t deadline)
{
    int pause = MIN(RETRY_MAX_MS, at_gpu_run_timeout(run) / 10);
    if (at_deadline_left_ms(deadline) <= pause || g_cancellable_is_cancelled(run->cancellable))
        return false;
    g_usleep((gulong)pause * 1000);
    return true;
}

/* Another change of the card makes the script give up at once: "Cannot obtain unbindLock". */
static bool by_script(struct at_gpu_run *run, const char *script, bool on, GError **error)
{
    const char *address = run->att->address;
    int64_t deadline = at_deadline_ms((int64_t)at_gpu_run_timeout(run) * SCRIPT_WRITES);
    for (;;) {
        g_autofree char *said = NULL;
        /* It takes the card from its driver for a moment, which our own library must not prevent.
         */
        if (run->host->nvml && !at_nvml_pause(run->host->nvml, error))
            return false;
        bool ran =
            run_script(run, script, on ? "-e" : "-d", at_deadline_left_ms(deadline), &said, error);
        if (run->host->nvml)
            at_nvml_resume(run->host->nvml);
        if (!ran)
            return false;
        if ((vfs_on(run->host, address) > 0) == on)
            return true;
        bool locked = said && strstr(said, "unbindLock");
        if (locked && pause_before_retry(run, deadline))
            continue;
        g_autofree char *who = at_gpu_users(run->host, address);
        return at_error(error, locked ? AT_ERROR_CONFLICT : AT_ERROR_UNAVAILABLE,
                        "%s did not turn the VFs of %s %s: %s; in use by %s", script, address,
                        on ? "on" : "off", said && *said ? said : "it said nothing",
                        who ? who : "nobody that /proc shows");
    }
}

/* ---- by a write ---- */

static bool write_count(struct at_gpu_run *run, uint64_t count, GError **error)
{
    char text[24];
    g_snprintf(text, sizeof text, "%" G_GUINT64_FORMAT, count);
    if (!at_gpu_run_set(run, run->att->address, "sriov_numvfs", text, error)) {
        g_prefix_error(error, "turning VFs %s: ", count ? "on" : "off");
        return false;
    }
    uint64_t now = vfs_on(run->host, run->att->address);
    return now == count ||
           at_error(error, AT_ERROR_IO, "%s has %" G_GUINT64_FORMAT " VFs after %s were asked for",
                    run->att->address, now, text);
}

bool at_gpu_vfs_autoprobe(struct at_gpu_run *run, bool on, GError **error)
{
    const char *address = run->att->address;
    uint64_t now;
    if (at_gpu_is_nvidia(run->host, address) ||
        !at_gpu_number(run->host, address, "sriov_drivers_autoprobe", &now) || now == on)
        return true;
    return at_gpu_run_set(run, address, "sriov_drivers_autoprobe", on ? "1" : "0", error);
}

static bool undo_vfs(struct at_gpu_run *run, const char *what, GError **error)
{
    return at_gpu_vfs_disable_unused(run, error);
}

bool at_gpu_vfs_raise(struct at_gpu_run *run, uint64_t count, GError **error)
{
    if (!at_gpu_run_step(run, "gpu.vf", error))
        return false;
    at_gpu_run_on_failure(run, undo_vfs, run->att->address);
    return write_count(run, count, error);
}

/* ---- on and off ---- */

bool at_gpu_vfs_driver(struct at_gpu_run *run, GError **error)
{
    const char *address = run->att->address;
    g_autofree char *driver = at_gpu_driver(run->host, address);
    return (driver && !g_str_equal(driver, AT_GPU_VFIO)) ||
           at_error(error, AT_ERROR_UNAVAILABLE,
                    "%s is bound to %s: its VFs need the host's driver of the card", address,
                    driver ? driver : "no driver");
}

static bool can_enable(struct at_gpu_run *run, uint64_t *ret_total, GError **error)
{
    const char *address = run->att->address;
    if (!at_gpu_number(run->host, address, "sriov_totalvfs", ret_total) || *ret_total == 0)
        return at_error(error, AT_ERROR_UNAVAILABLE,
                        "%s offers no vGPUs: it has neither VFs nor mdev types (the vGPU host "
                        "driver is not loaded, or SR-IOV is off in the firmware's setup)",
                        address);
    return at_gpu_vfs_driver(run, error);
}

static bool no_instances(struct at_gpu_run *run, GError **error)
{
    if (!run->host->nvml || !at_gpu_is_nvidia(run->host, run->att->address))
        return true;
    struct at_gpu_card *card = at_gpu_card_new(run->att->address);
    bool ok = at_nvml_fill(run->host->nvml, card, error);
    if (ok && card->instances->len > 0)
        ok = at_error(error, AT_ERROR_CONFLICT,
                      "%s has %u MIG instances, and turning its VFs on would wipe them: destroy "
                      "them first (nvidia-smi mig -dci, -dgi)",
                      card->address, card->instances->len);
    at_gpu_card_free(card);
    return ok;
}

static bool offers_vgpus(const struct at_gpu_host *host, const char *address)
{
    return at_gpu_vgpu_interface_of(host, address) != AT_GPU_VGPU_NONE;
}

bool at_gpu_vfs_enable(struct at_gpu_run *run, GError **error)
{
    const char *address = run->att->address;
    uint64_t total;
    if (vfs_on(run->host, address) == 0) {
        if (!can_enable(run, &total, error) || !no_instances(run, error) ||
            !at_gpu_run_step(run, "gpu.vf", error))
            return false;
        at_gpu_run_on_failure(run, undo_vfs, address);
        const char *script = script_of(run);
        if (!(script ? by_script(run, script, true, error) : write_count(run, total, error)))
            return false;
    }
    return at_gpu_run_wait(run, offers_vgpus, address, at_gpu_run_timeout(run)) ||
           at_error(
               error, AT_ERROR_TIMEOUT,
               "the VFs of %s are on, but offer no vGPU types: is nvidia-vgpu-mgr running, and "
               "the IOMMU on?",
               address);
}

bool at_gpu_vfs_disable(struct at_gpu_run *run, GError **error)
{
    const char *address = run->att->address;
    const char *script = at_gpu_is_nvidia(run->host, address) ? script_of(run) : NULL;
    if (!at_gpu_run_step(run, "gpu.vf", error))
        return false;
    if (script)
        return by_script(run, script, false, error);
    return write_count(run, 0, error) && at_gpu_vfs_autoprobe(run, true, error);
}

bool at_gpu_vfs_disable_unused(struct at_gpu_run *run, GError **error)
{
    if (vfs_on(run->host, run->att->address) == 0)
        return at_gpu_vfs_autoprobe(run, true, error);
    g_autofree char *used = at_gpu_vfs_used(run->host, run->att->address);
    return used || at_gpu_vfs_disable(run, error);
}
