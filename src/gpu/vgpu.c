/* SPDX-License-Identifier: Apache-2.0 */
/* A vGPU by whichever interface the card's driver has. */
#include "base/error.h"
#include "gpu/device-internal.h"
#include "gpu/mdev-read.h"

/* Sizes can be mixed only when that was switched on before the first vGPU. */
static bool mix_sizes(struct at_gpu_run *run, GError **error)
{
    const struct at_gpu_attachment *att = run->att;
    if (!att->mixed_sizes || att->profile->kind != AT_GPU_VGPU || !run->host->nvml)
        return true;
    g_autofree char *used = at_gpu_vfs_used(run->host, att->address);
    g_autoptr(GPtrArray) mdevs = at_mdev_list(&run->host->paths, att->address);
    return used || mdevs->len ||
           at_nvml_set_mixed_sizes(run->host->nvml, att->address, true, error);
}

bool at_gpu_vgpu_attach(struct at_gpu_run *run, GError **error)
{
    const char *address = run->att->address;
    if (run->att->profile->type_id == 0)
        return at_error(error, AT_ERROR_INVALID, "the profile %s has no number of a vGPU type",
                        run->att->profile->name);
    if (at_gpu_vgpu_interface_of(run->host, address) == AT_GPU_VGPU_NONE &&
        !at_gpu_vfs_enable(run, error))
        return false;
    if (!mix_sizes(run, error))
        return false;
    return at_gpu_vgpu_interface_of(run->host, address) == AT_GPU_VGPU_MDEV
               ? at_gpu_mdev_attach(run, error)
               : at_gpu_vendor_attach(run, error);
}

bool at_gpu_vgpu_release(struct at_gpu_run *run, GError **error)
{
    return at_gpu_mdev_release(run, error) && at_gpu_vendor_release(run, error);
}

/* Turning VFs off wipes instances: where it is not known that there are none, they stay on. */
static bool may_turn_off(struct at_gpu_run *run)
{
    if (!run->host->nvml)
        return true;
    struct at_gpu_card *card = at_gpu_card_new(run->att->address);
    bool none = at_nvml_fill(run->host->nvml, card, NULL) && card->instances->len == 0;
    at_gpu_card_free(card);
    return none;
}

bool at_gpu_vgpu_give_back(struct at_gpu_run *run, GError **error)
{
    return !may_turn_off(run) || at_gpu_vfs_disable_unused(run, error);
}
