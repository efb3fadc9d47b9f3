/* SPDX-License-Identifier: Apache-2.0 */
/* vGPUs that are backed by a MIG instance. The order is not free: MIG mode, then VFs (turning them
 * on wipes instances), then the instance, then the vGPU type. The driver itself picks the instance
 * for a type; which one it took is read back. */
#include <stdlib.h>

#include "base/error.h"
#include "gpu/device-internal.h"
#include "gpu/function.h"

static struct at_gpu_card *read_card(struct at_gpu_run *run, GError **error)
{
    if (!run->host->nvml) {
        at_error(error, AT_ERROR_UNAVAILABLE,
                 "%s: MIG instances need NVIDIA's library (libnvidia-ml.so.1), which is not there",
                 run->att->address);
        return NULL;
    }
    struct at_gpu_card *card = at_gpu_card_new(run->att->address);
    if (at_nvml_fill(run->host->nvml, card, error))
        return card;
    at_gpu_card_free(card);
    return NULL;
}

/* ---- MIG mode ---- */

static bool pending(struct at_gpu_run *run, GError **error)
{
    return at_error(error, AT_ERROR_UNAVAILABLE,
                    "MIG mode of %s is switched on only by a reset of the card: end all that uses "
                    "it and run \"nvidia-smi --gpu-reset -i %s\", or boot the host again",
                    run->att->address, run->att->address);
}

static bool undo_mode(struct at_gpu_run *run, const char *address, GError **error)
{
    bool later;
    return at_nvml_set_mig(run->host->nvml, address, false, &later, error);
}

static bool switch_on(struct at_gpu_run *run, GError **error)
{
    const char *address = run->att->address;
    g_autofree char *used = at_gpu_vfs_used(run->host, address);
    if (used)
        return at_error(error, AT_ERROR_CONFLICT,
                        "MIG mode of %s is off and cannot be switched on while %s", address, used);
    bool later;
    if (!at_gpu_vfs_disable_unused(run, error) || !at_gpu_run_step(run, "gpu.instance", error))
        return false;
    at_gpu_run_on_failure(run, undo_mode, address);
    if (!at_nvml_set_mig(run->host->nvml, address, true, &later, error)) {
        g_prefix_error(error, "switching MIG mode of %s on: ", address);
        return false;
    }
    return !later || pending(run, error);
}

static bool mode_on(struct at_gpu_run *run, GError **error)
{
    struct at_gpu_card *card = read_card(run, error);
    if (!card)
        return false;
    bool on = card->mig_on, waits = card->mig_pending;
    at_gpu_card_free(card);
    if (on)
        return true;
    return waits ? pending(run, error) : switch_on(run, error);
}

/* ---- the instance ---- */

/* Number of the instance of our profile at our start, plus 1; 0: there is none. */
static unsigned find_instance(const struct at_gpu_card *card, const struct at_gpu_attachment *att)
{
    for (unsigned i = 0; i < card->instances->len; i++) {
        const struct at_gpu_instance *in = card->instances->pdata[i];
        if (in->gi_profile == att->profile->gi_profile && in->start == att->start)
            return in->id + 1;
    }
    return 0;
}

/* vGPUs of VFs other than ours in it. Of mdevs the kernel does not say where they are. */
static unsigned others_in(const struct at_gpu_run *run, unsigned id)
{
    unsigned n = 0;
    g_autoptr(GPtrArray) vfs = at_pci_function_vfs(&run->host->paths, run->att->address);
    for (unsigned i = 0; i < vfs->len; i++) {
        const char *vf = vfs->pdata[i];
        uint64_t in;
        n += g_strcmp0(vf, run->att->function) != 0 && at_gpu_vendor_type(run->host, vf) &&
             at_gpu_number(run->host, vf, "nvidia/gpu_instance_id", &in) && in == id;
    }
    return n;
}

static bool undo_instance(struct at_gpu_run *run, const char *id, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (at_nvml_instance_destroy(run->host->nvml, run->att->address,
                                 (unsigned)strtoul(id, NULL, 10), &local) ||
        g_error_matches(local, AT_ERROR, AT_ERROR_NOT_FOUND))
        return true;
    g_propagate_prefixed_error(error, g_steal_pointer(&local),
                               "destroying MIG instance %s of %s: ", id, run->att->address);
    return false;
}

static bool create_instance(struct at_gpu_run *run, unsigned *ret_id, GError **error)
{
    const struct at_gpu_attachment *att = run->att;
    if (!at_gpu_run_step(run, "gpu.instance", error))
        return false;
    if (!at_nvml_instance_create(run->host->nvml, att->address, att->profile->gi_profile,
                                 att->start, ret_id, error)) {
        g_prefix_error(error, "making the MIG instance %s at slice %u of %s: ",
                       att->profile->gi_name ? att->profile->gi_name : "?", att->start,
                       att->address);
        return false;
    }
    char text[16];
    g_snprintf(text, sizeof text, "%u", *ret_id);
    at_gpu_run_on_failure(run, undo_instance, text);
    return at_gpu_run_step(run, "gpu.instance", error);
}

/* One that exists is used: it is shared, or was left by a crash. */
static bool instance(struct at_gpu_run *run, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    struct at_gpu_card *card = read_card(run, error);
    if (!card)
        return false;
    unsigned found = find_instance(card, att), id = 0;
    at_gpu_card_free(card);
    if (found && others_in(run, found - 1) >= MAX(att->profile->per_gi, 1))
        return at_error(error, AT_ERROR_CONFLICT,
                        "the MIG instance at slice %u of %s is full: it has %u vGPUs", att->start,
                        att->address, others_in(run, found - 1));
    if (!found && !create_instance(run, &id, error))
        return false;
    unsigned chosen = found ? found : id + 1;
    if (att->instance == chosen)
        return true;
    att->instance = chosen;
    return at_gpu_run_choose(run, error);
}

static bool landed(struct at_gpu_run *run, GError **error)
{
    const struct at_gpu_attachment *att = run->att;
    uint64_t in;
    if (!at_gpu_exists(run->host, att->function, "nvidia/current_vgpu_type"))
        return true; /* an mdev */
    if (!at_gpu_number(run->host, att->function, "nvidia/gpu_instance_id", &in))
        return at_error(error, AT_ERROR_IO,
                        "%s has a vGPU, but does not tell in which MIG instance it is",
                        att->function);
    return in == att->instance - 1 ||
           at_error(error, AT_ERROR_CONFLICT,
                    "the driver put the vGPU of %s into MIG instance %" G_GUINT64_FORMAT
                    " of %s in place of %u: an instance of the same profile is free that nobody "
                    "holds; destroy it (nvidia-smi mig -dgi -gi %" G_GUINT64_FORMAT ")",
                    att->function, in, att->address, att->instance - 1, in);
}

bool at_gpu_mig_attach(struct at_gpu_run *run, GError **error)
{
    if (!mode_on(run, error))
        return false;
    /* Cards with mdev types of their own have no MIG: VFs are always needed. */
    return at_gpu_vfs_enable(run, error) && instance(run, error) &&
           at_gpu_vgpu_attach(run, error) && landed(run, error);
}

/* ---- taking back ---- */

static bool shared(struct at_gpu_run *run, unsigned id)
{
    if (others_in(run, id) > 0)
        return true;
    if (at_gpu_vgpu_interface_of(run->host, run->att->address) != AT_GPU_VGPU_MDEV)
        return false;
    /* Any mdev may be in it; the driver then refuses, and the last one takes the instance away. */
    return run->att->profile->per_gi > 1 && at_gpu_vfs_used(run->host, run->att->address);
}

static bool destroy_instance(struct at_gpu_run *run, GError **error)
{
    g_autoptr(GError) local = NULL;
    struct at_gpu_card *card = read_card(run, &local);
    if (!card && g_error_matches(local, AT_ERROR, AT_ERROR_NOT_FOUND))
        return true; /* another driver has the card: its instances are gone */
    if (!card) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    unsigned found = card->mig_on ? find_instance(card, run->att) : 0;
    at_gpu_card_free(card);
    if (!found || shared(run, found - 1))
        return true;
    char text[16];
    g_snprintf(text, sizeof text, "%u", found - 1);
    return at_gpu_run_step(run, "gpu.release", error) && undo_instance(run, text, error);
}

bool at_gpu_mig_release(struct at_gpu_run *run, GError **error)
{
    return at_gpu_vgpu_release(run, error) &&
           (!at_gpu_exists(run->host, run->att->address, NULL) || destroy_instance(run, error));
}
