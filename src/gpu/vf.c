/* SPDX-License-Identifier: Apache-2.0 */
/* SR-IOV VFs of AMD and Intel cards, each given like a whole function. The host's own drivers are
 * kept off them. The number of VFs decides what each is worth, so that it is set once, from 0. */
#include "base/error.h"
#include "gpu/device-internal.h"
#include "gpu/function.h"

static bool vfs_are_on(const struct at_gpu_host *host, const char *address)
{
    g_autoptr(GPtrArray) vfs = at_pci_function_vfs(&host->paths, address);
    return vfs->len > 0;
}

static bool undo_autoprobe(struct at_gpu_run *run, const char *what, GError **error)
{
    return vfs_are_on(run->host, run->att->address) || at_gpu_vfs_autoprobe(run, true, error);
}

static bool can_raise(struct at_gpu_run *run, uint64_t *ret_count, GError **error)
{
    const char *address = run->att->address;
    uint64_t total;
    if (!at_gpu_number(run->host, address, "sriov_totalvfs", &total) || total == 0)
        return at_error(error, AT_ERROR_UNAVAILABLE,
                        "%s has no VFs: it cannot SR-IOV, or that is off in the firmware's setup",
                        address);
    if (!at_gpu_vfs_driver(run, error))
        return false;
    unsigned max = run->att->profile->max;
    *ret_count = max && max < total ? max : total;
    return true;
}

static bool turn_on(struct at_gpu_run *run, GError **error)
{
    const char *address = run->att->address;
    uint64_t on = 0, count = 0;
    if (!at_gpu_number(run->host, address, "sriov_numvfs", &on))
        on = 0;
    if (on == 0) {
        if (!can_raise(run, &count, error))
            return false;
        at_gpu_run_on_failure(run, undo_autoprobe, address);
        if (!at_gpu_vfs_autoprobe(run, false, error) || !at_gpu_vfs_raise(run, count, error))
            return false;
    }
    return at_gpu_run_wait(run, vfs_are_on, address, at_gpu_run_timeout(run)) ||
           at_error(error, AT_ERROR_TIMEOUT, "%s has VFs, but none of them has appeared", address);
}

/* @bound: also one that vfio-pci has, from a grant that nobody remembers. */
static bool usable(struct at_gpu_run *run, const char *vf, bool bound)
{
    g_autofree char *driver = at_gpu_driver(run->host, vf);
    bool suits = bound ? g_strcmp0(driver, AT_GPU_VFIO) == 0 : !driver;
    return suits && at_gpu_vf_free(run, vf);
}

static bool choose(struct at_gpu_run *run, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    g_autoptr(GPtrArray) vfs = at_pci_function_vfs(&run->host->paths, att->address);
    unsigned n = vfs->len;
    for (unsigned i = 0; i < 2 * n; i++) {
        const char *vf = vfs->pdata[i < n ? i : i - n];
        if (!usable(run, vf, i >= n))
            continue;
        return at_gpu_run_choose_function(run, vf, error);
    }
    return at_error(error, AT_ERROR_CONFLICT,
                    "none of the %u VFs of %s is free: each is held, open, bound to another driver "
                    "or shares an IOMMU group",
                    n, att->address);
}

/* The one that the record names, as long as it is there and fit. */
static bool keeps(struct at_gpu_run *run)
{
    const char *vf = run->att->function;
    return vf && at_gpu_exists(run->host, vf, NULL) &&
           (at_gpu_has_driver(run->host, vf, AT_GPU_VFIO) || usable(run, vf, false));
}

bool at_gpu_vf_attach(struct at_gpu_run *run, GError **error)
{
    if (!at_gpu_vfio_load(run, error) || !turn_on(run, error) ||
        (!keeps(run) && !choose(run, error)))
        return false;
    return at_gpu_reset_possible(run->host, run->att->function, error) &&
           at_gpu_bind_function(run, run->att->function, error) &&
           at_gpu_config_alive(run->host, run->att->function, error);
}

bool at_gpu_vf_release(struct at_gpu_run *run, bool give_back, GError **error)
{
    const char *vf = run->att->function;
    if (vf && at_gpu_exists(run->host, vf, NULL)) {
        if (!at_gpu_not_open(run, vf, NULL, error))
            return false;
        if (at_gpu_has_driver(run->host, vf, AT_GPU_VFIO) &&
            (!at_gpu_run_step(run, "gpu.release", error) || !at_gpu_run_reset(run, vf, error)))
            return false;
        if (!at_gpu_unbind_function(run, vf, false, error))
            return false;
    }
    return !give_back || at_gpu_vfs_disable_unused(run, error);
}
