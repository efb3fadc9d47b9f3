/* SPDX-License-Identifier: Apache-2.0 */
/* One PCI function to vfio-pci and back, by driver_override: the one way that takes no other device
 * of the same kind with it. Every write can succeed without an effect, so each is read back. */
#include "base/error.h"
#include "base/process.h"
#include "gpu/attribute.h"
#include "gpu/device-internal.h"

enum { MODPROBE_TIMEOUT_MS = 30000 };

bool at_gpu_vfio_load(struct at_gpu_run *run, GError **error)
{
    if (at_gpu_driver_loaded(run->host, AT_GPU_VFIO))
        return true;
    const char *const argv[] = {run->host->modprobe ? run->host->modprobe : "modprobe", AT_GPU_VFIO,
                                NULL};
    g_autoptr(GError) local = NULL;
    if (at_run(argv, NULL, MODPROBE_TIMEOUT_MS, run->cancellable, NULL, &local) &&
        at_gpu_driver_loaded(run->host, AT_GPU_VFIO))
        return true;
    return at_error(error, AT_ERROR_UNAVAILABLE,
                    "the kernel has no driver vfio-pci, and loading it did not help: %s",
                    local ? local->message : "it is not there after modprobe either");
}

bool at_gpu_not_open(struct at_gpu_run *run, const char *address, const char *uuid, GError **error)
{
    g_autofree char *who = at_gpu_opened_by(&run->host->paths, address, uuid);
    return !who ||
           at_error(error, AT_ERROR_CONFLICT, "%s is open in %s: end that, or wait for it to end",
                    uuid ? uuid : address, who);
}

static bool overridden(const struct at_gpu_host *host, const char *address)
{
    g_autofree char *text = at_gpu_text(host, address, "driver_override");
    return g_strcmp0(text, AT_GPU_VFIO) == 0;
}

static bool override(struct at_gpu_run *run, const char *address, bool on, GError **error)
{
    if (!at_gpu_run_set(run, address, "driver_override", on ? AT_GPU_VFIO : "\n", error))
        return false;
    return overridden(run->host, address) == on ||
           at_error(error, AT_ERROR_IO, "%s: driver_override does not keep what was written to it",
                    address);
}

/* NVIDIA's driver promises to stand an unbind once this lock was obtained; it does not give it
 * while somebody uses the card. */
static bool take_unbind_lock(struct at_gpu_run *run, const char *address, GError **error)
{
    g_autofree char *path = at_gpu_nvidia_path(&run->host->paths, address, "unbindLock");
    uint64_t held = 0;
    if (!at_gpu_attr_exists(path, NULL))
        return true;
    if (!at_gpu_run_write(run, address, path, "1", error))
        return false;
    if (at_gpu_attr_number(path, NULL, 10, 1, &held) && held == 1)
        return true;
    g_autofree char *who = at_gpu_users(run->host, address);
    return at_error(error, AT_ERROR_CONFLICT,
                    "%s: the driver nvidia does not let it go (unbindLock); in use by %s", address,
                    who ? who : "nobody that /proc shows (is persistence mode on?)");
}

/* After a refused unbind, for the driver would start nothing new on the card. */
static void drop_unbind_lock(struct at_gpu_run *run, const char *address)
{
    g_autofree char *path = at_gpu_nvidia_path(&run->host->paths, address, "unbindLock");
    if (at_gpu_attr_exists(path, NULL))
        at_gpu_run_write(run, address, path, "0", NULL);
}

static bool unbind(struct at_gpu_run *run, const char *address, GError **error)
{
    g_autofree char *driver = at_gpu_driver(run->host, address);
    if (!driver)
        return true;
    if (g_str_equal(driver, "nvidia") && !take_unbind_lock(run, address, error))
        return false;
    if (!at_gpu_run_set(run, address, "driver/unbind", address, error)) {
        g_prefix_error(error, "taking %s from its driver %s: ", address, driver);
        drop_unbind_lock(run, address);
        return false;
    }
    g_autofree char *still = at_gpu_driver(run->host, address);
    return !still || at_error(error, AT_ERROR_IO,
                              "%s is still bound to %s after it was unbound: something on the host "
                              "binds it again",
                              address, still);
}

static bool probe(struct at_gpu_run *run, const char *address, GError **error)
{
    g_autofree char *path = g_build_filename(run->host->paths.sys, "bus/pci/drivers_probe", NULL);
    return at_gpu_run_write(run, address, path, address, error);
}

static bool undo_with_driver(struct at_gpu_run *run, const char *address, GError **error)
{
    return at_gpu_unbind_function(run, address, true, error) &&
           (!at_gpu_has_driver(run->host, address, NULL) ||
            at_error(error, AT_ERROR_IO, "%s has no driver now, and its own does not take it",
                     address));
}

static bool undo_without_driver(struct at_gpu_run *run, const char *address, GError **error)
{
    return at_gpu_unbind_function(run, address, false, error);
}

static bool bound(struct at_gpu_run *run, const char *address, GError **error)
{
    g_autoptr(GError) local = NULL;
    bool probed = probe(run, address, &local);
    g_autofree char *driver = at_gpu_driver(run->host, address);
    if (g_strcmp0(driver, AT_GPU_VFIO) == 0)
        return true;
    if (driver)
        return at_error(error, AT_ERROR_CONFLICT,
                        "%s was bound to %s in place of vfio-pci: "
                        "something on the host binds it",
                        address, driver);
    if (!probed && !g_error_matches(local, AT_ERROR, AT_ERROR_IO)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return at_error(error, AT_ERROR_UNAVAILABLE,
                    "vfio-pci does not take %s (%s): there is no IOMMU for it, or a function of "
                    "its group is in use; the kernel's log has the reason",
                    address, probed ? "it has no driver after drivers_probe" : local->message);
}

bool at_gpu_bind_function(struct at_gpu_run *run, const char *address, GError **error)
{
    g_autofree char *driver = at_gpu_driver(run->host, address);
    if (g_strcmp0(driver, AT_GPU_VFIO) == 0)
        return true;
    if (!at_gpu_run_step(run, "gpu.bind", error))
        return false;
    at_gpu_run_on_failure(run, driver ? undo_with_driver : undo_without_driver, address);
    /* A driver that was bound stays bound when the override changes: it must go first. */
    return override(run, address, true, error) && at_gpu_run_step(run, "gpu.bind", error) &&
           unbind(run, address, error) && at_gpu_run_step(run, "gpu.bind", error) &&
           bound(run, address, error) && at_gpu_run_step(run, "gpu.bound", error);
}

bool at_gpu_unbind_function(struct at_gpu_run *run, const char *address, bool probing,
                            GError **error)
{
    const struct at_gpu_host *host = run->host;
    if (!at_gpu_exists(host, address, NULL))
        return true;
    if (at_gpu_has_driver(host, address, AT_GPU_VFIO) &&
        !at_gpu_not_open(run, address, NULL, error))
        return false;
    if (overridden(host, address) &&
        (!at_gpu_run_step(run, "gpu.release", error) || !override(run, address, false, error)))
        return false;
    if (at_gpu_has_driver(host, address, AT_GPU_VFIO) &&
        (!at_gpu_run_step(run, "gpu.release", error) || !unbind(run, address, error)))
        return false;
    if (!probing || !at_gpu_has_driver(host, address, NULL))
        return true;
    return at_gpu_run_step(run, "gpu.release", error) && probe(run, address, error);
}
