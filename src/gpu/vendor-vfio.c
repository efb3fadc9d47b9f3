/* SPDX-License-Identifier: Apache-2.0 */
/* vGPUs as a type that is set on a VF (vGPU 17 and later on kernels without mdev). The VF stays
 * with the driver nvidia, which is a VFIO driver for it. One VF serves one user after the other:
 * what is set on it is taken away only when the record names it and the type is still ours. */
#include "base/error.h"
#include "gpu/device-internal.h"
#include "gpu/function.h"
#include "gpu/vgpu-list.h"

unsigned at_gpu_vendor_type(const struct at_gpu_host *host, const char *vf)
{
    uint64_t type = 0;
    return at_gpu_number(host, vf, "nvidia/current_vgpu_type", &type) && type <= G_MAXUINT
               ? (unsigned)type
               : 0;
}

static bool creatable(const struct at_gpu_host *host, const char *vf, unsigned type)
{
    g_autofree char *text = at_gpu_text(host, vf, "nvidia/creatable_vgpu_types");
    g_autoptr(GArray) types = at_vgpu_types_new();
    at_vgpu_creatable_parse(text ? text : "", types);
    return at_vgpu_types_have(types, type);
}

static bool write_type(struct at_gpu_run *run, const char *vf, unsigned type, GError **error)
{
    char text[16];
    g_snprintf(text, sizeof text, "%u", type);
    if (!at_gpu_run_set(run, vf, "nvidia/current_vgpu_type", text, error))
        return false;
    unsigned now = at_gpu_vendor_type(run->host, vf);
    return now == type ||
           at_error(error, AT_ERROR_IO, "%s has the vGPU type %u after %u was set", vf, now, type);
}

static bool undo_type(struct at_gpu_run *run, const char *vf, GError **error)
{
    unsigned now = at_gpu_vendor_type(run->host, vf);
    return now != run->att->profile->type_id || write_type(run, vf, 0, error);
}

/* ---- choosing ---- */

struct tally {
    unsigned vfs, taken, unlisted, held;
};

static bool usable(struct at_gpu_run *run, const char *vf, struct tally *tally)
{
    tally->vfs++;
    if (!at_gpu_exists(run->host, vf, "nvidia/current_vgpu_type") ||
        at_gpu_vendor_type(run->host, vf)) {
        tally->taken++;
        return false;
    }
    if (!creatable(run->host, vf, run->att->profile->type_id)) {
        tally->unlisted++;
        return false;
    }
    bool is_free = at_gpu_vf_free(run, vf);
    tally->held += !is_free;
    return is_free;
}

static bool choose(struct at_gpu_run *run, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    struct tally tally = {0};
    /* The one that the record names, as long as nobody else has taken it. */
    if (att->function && usable(run, att->function, &tally))
        return true;
    tally = (struct tally){0};
    g_autoptr(GPtrArray) vfs = at_pci_function_vfs(&run->host->paths, att->address);
    for (unsigned i = 0; i < vfs->len; i++) {
        if (!usable(run, vfs->pdata[i], &tally))
            continue;
        return at_gpu_run_choose_function(run, vfs->pdata[i], error);
    }
    return at_error(
        error, AT_ERROR_CONFLICT,
        "no VF of %s can take %s (type %u): of %u, %u have a vGPU, %u are held or share "
        "an IOMMU group, and %u do not offer this type now (the card's memory is given, "
        "its vGPUs have another size, or MIG mode is not as the type needs it)",
        att->address, att->profile->name, att->profile->type_id, tally.vfs, tally.taken, tally.held,
        tally.unlisted);
}

/* ---- giving and taking back ---- */

bool at_gpu_vendor_attach(struct at_gpu_run *run, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    unsigned type = att->profile->type_id;
    if (att->function && at_gpu_vendor_type(run->host, att->function) == type)
        return true;
    if (!choose(run, error) || !at_gpu_run_step(run, "gpu.vgpu", error))
        return false;
    at_gpu_run_on_failure(run, undo_type, att->function);
    if (!write_type(run, att->function, type, error)) {
        g_prefix_error(error, "making the vGPU %s on %s: ", att->profile->name, att->function);
        at_gpu_error_add(error, " (the kernel's log has NVIDIA's reason, beginning with NVRM)");
        return false;
    }
    return at_gpu_run_step(run, "gpu.vgpu", error);
}

bool at_gpu_vendor_release(struct at_gpu_run *run, GError **error)
{
    const char *vf = run->att->function;
    if (!vf || at_gpu_vendor_type(run->host, vf) != run->att->profile->type_id ||
        run->att->profile->type_id == 0)
        return true;
    return at_gpu_not_open(run, vf, NULL, error) && at_gpu_run_step(run, "gpu.release", error) &&
           write_type(run, vf, 0, error);
}
