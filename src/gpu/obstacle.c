/* SPDX-License-Identifier: Apache-2.0 */
/* Why a card cannot be given in one way or another: for an administrator, each with its cause and
 * what to do about it. All causes are told at once, since many need a restart of the host. */
#include "gpu/card-internal.h"
#include "gpu/function.h"
#include "gpu/reset.h"
#include "gpu/text-list.h"

enum { NAMED_MAX = 4 }; /* of many in the way, as many are named */

static void add(struct at_gpu_card *card, enum at_gpu_kind kind, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static void add(struct at_gpu_card *card, enum at_gpu_kind kind, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    char *former = card->obstacle[kind];
    card->obstacle[kind] =
        former ? g_strdup_printf("%s; %s", former, text) : g_steal_pointer(&text);
    g_free(former);
}

char *at_gpu_driver_text(const char *driver)
{
    return driver ? g_strdup_printf("driver %s", driver) : g_strdup("no driver");
}

/* Appends one of several to a list; those beyond NAMED_MAX are only counted. */
static void list(GString *out, unsigned n, const char *text)
{
    if (n < NAMED_MAX)
        at_gpu_list_add(out, "%s", text);
}

static char *list_end(GString *out, unsigned n)
{
    at_gpu_list_more(out, n > NAMED_MAX ? n - NAMED_MAX : 0);
    return g_string_free(out, FALSE);
}

static void judge_iommu(struct at_gpu_card *card, enum at_gpu_kind kind)
{
    if (card->iommu_group < 0)
        add(card, kind,
            "the IOMMU is off: enable it in the firmware (VT-d, AMD-Vi) and boot with "
            "intel_iommu=on on Intel, without amd_iommu=off on AMD");
}

/* vfio wants every function of the group that is no bridge to be without a driver or with one of
 * its own. The functions of the card itself go with it. */
static void judge_group(struct at_gpu_card *card)
{
    GString *who = g_string_new(NULL);
    unsigned n = 0;
    for (unsigned i = 0; i < card->neighbours->len; i++) {
        const struct at_gpu_neighbour *near = card->neighbours->pdata[i];
        if (near->bridge || near->same_card || at_pci_driver_lets_go(near->driver))
            continue;
        g_autofree char *text =
            g_strdup_printf("%s (%s, driver %s)", near->address, near->name, near->driver);
        list(who, n++, text);
    }
    g_autofree char *all = list_end(who, n);
    if (n > 0)
        add(card, AT_GPU_PASSTHROUGH,
            "its IOMMU group %d is shared with %s: bind them to vfio-pci as well, or put the card "
            "into a slot with a group of its own",
            card->iommu_group, all);
}

/* A group belongs to one holder. When all in it are with vfio-pci, the kernel would give it to
 * whichever workstation comes first: here it is the first GPU that can be given, and no other. */
static void judge_sharing(struct at_gpu_card *card)
{
    for (unsigned i = 0; i < card->neighbours->len; i++) {
        const struct at_gpu_neighbour *near = card->neighbours->pdata[i];
        if (!at_pci_class_is_gpu(near->class) ||
            at_pci_address_compare(near->address, card->address) > 0)
            continue;
        add(card, AT_GPU_PASSTHROUGH,
            "of the GPUs in its IOMMU group %d only the first, %s, can be given: put this one into "
            "a slot with a group of its own",
            card->iommu_group, near->address);
        return;
    }
}

static void judge_processes(struct at_gpu_card *card)
{
    GString *who = g_string_new(NULL);
    for (unsigned i = 0; i < card->processes->len; i++) {
        const struct at_gpu_process *process = card->processes->pdata[i];
        g_autofree char *text =
            g_strdup_printf("%u (%s)", process->pid, process->name ? process->name : "unknown");
        list(who, i, text);
    }
    g_autofree char *all = list_end(who, card->processes->len);
    if (card->processes->len > 0)
        add(card, AT_GPU_PASSTHROUGH, "in use by host process %s: stop it", all);
}

static unsigned vfs_in_use(const struct at_gpu_card *card)
{
    unsigned n = 0;
    for (unsigned i = 0; i < card->vfs->len; i++) {
        const struct at_gpu_vf *vf = card->vfs->pdata[i];
        n += vf->vgpu_type || (vf->driver && at_pci_driver_lets_go(vf->driver));
    }
    return n;
}

static void judge_made(struct at_gpu_card *card)
{
    unsigned used = vfs_in_use(card);
    if (used > 0) /* those that nobody uses are turned off with the grant */
        add(card, AT_GPU_PASSTHROUGH,
            "%u of its VFs are in use (with a vGPU type, or bound to VFIO), which leave the whole "
            "card "
            "to nobody: release them",
            used);
    for (unsigned i = 0; i < card->mdevs->len; i++) {
        const struct at_gpu_mdev *mdev = card->mdevs->pdata[i];
        if (g_str_equal(mdev->parent, card->address)) {
            add(card, AT_GPU_PASSTHROUGH, "vGPU %s (%s) is on it: remove it", mdev->uuid,
                mdev->type);
            break;
        }
    }
}

static void judge_reset(struct at_gpu_card *card)
{
    if (!card->reset_methods || !card->reset_methods[0])
        add(card, AT_GPU_PASSTHROUGH,
            "there is no way to reset it between two holders (reset_method names none): put it "
            "alone below its bridge, or load a module that can (AMD: vendor-reset)");
    else if (!at_gpu_reset_clears((const char *const *)card->reset_methods))
        add(card, AT_GPU_PASSTHROUGH,
            "it can be reset by power management only (reset_method), which may leave in it what "
            "one "
            "holder had: put it alone below its bridge, or load a module that can (AMD: "
            "vendor-reset)");
    else if (card->reset_hits && card->iommu_group >= 0)
        add(card, AT_GPU_PASSTHROUGH,
            "it can only be reset together with all on its bus, and %s does not go with it: put "
            "the card into another slot",
            card->reset_hits);
}

static void judge_passthrough(struct at_gpu_card *card)
{
    judge_iommu(card, AT_GPU_PASSTHROUGH);
    judge_group(card);
    judge_sharing(card);
    judge_reset(card);
    if (card->boot_vga && !at_pci_driver_lets_go(card->driver))
        add(card, AT_GPU_PASSTHROUGH,
            "it is the console of the firmware, in use by driver %s: make another card the console "
            "in the firmware, or bind vfio-pci to this one at boot",
            card->driver);
    judge_processes(card);
    judge_made(card);
}

/* Without any interface for vGPUs: what would give one. */
static char *no_interface(const struct at_gpu_card *card)
{
    if (!card->driver || !g_str_equal(card->driver, "nvidia")) {
        g_autofree char *driver = at_gpu_driver_text(card->driver);
        return g_strdup_printf("vGPUs are made by NVIDIA's vGPU host driver, and the card has %s: "
                               "bind driver nvidia (of the vGPU release)",
                               driver);
    }
    bool host = at_gpu_card_has_kind(card, AT_GPU_VGPU) || //
                at_gpu_card_has_kind(card, AT_GPU_MIG_VGPU);
    if (host && card->vfs_total > 0 && card->vfs_on == 0)
        return NULL; /* its VFs are turned on when the first is needed */
    if (card->unknown && card->vfs_total > 0 && card->vfs_on == 0)
        return g_strdup_printf("whether driver nvidia is the vGPU host driver is not known (%s), "
                               "and no VF is on that would show it: install NVIDIA's library, or "
                               "turn the VFs on (sriov-manage -e %s)",
                               card->unknown, card->address);
    return g_strdup("driver nvidia offers no vGPUs on this card: install the host driver of an "
                    "NVIDIA vGPU release instead of the data-centre driver");
}

/* What is in the way of vGPUs of both kinds. */
static void judge_vgpu(struct at_gpu_card *card, enum at_gpu_kind kind)
{
    g_autofree char *missing = card->vgpu == AT_GPU_VGPU_NONE ? no_interface(card) : NULL;
    if (missing)
        add(card, kind, "%s", missing);
    /* Mediated devices of a card without SR-IOV are kept apart by the driver alone. */
    if (card->vgpu == AT_GPU_VGPU_VENDOR || card->vfs_total > 0)
        judge_iommu(card, kind);
}

static void judge_time_sliced(struct at_gpu_card *card)
{
    judge_vgpu(card, AT_GPU_VGPU);
    if (card->mig_on)
        add(card, AT_GPU_VGPU,
            "MIG mode is on, which leaves MIG-backed vGPUs only: turn it off (nvidia-smi -i %s "
            "-mig 0) when nothing uses the card",
            card->address);
    if (card->obstacle[AT_GPU_VGPU] || at_gpu_card_has_kind(card, AT_GPU_VGPU))
        return;
    if (card->unknown)
        add(card, AT_GPU_VGPU,
            "no time-sliced type can be made on it at present, and NVIDIA's library does not say "
            "which there are (%s)",
            card->unknown);
    else
        add(card, AT_GPU_VGPU, "the driver has no time-sliced vGPU type for this card");
}

static void judge_mig(struct at_gpu_card *card, const char *left_out)
{
    judge_vgpu(card, AT_GPU_MIG_VGPU);
    if (card->unknown) {
        /* Where nothing could be made anyway, what is not known is not in the way. */
        if (left_out || !card->obstacle[AT_GPU_MIG_VGPU])
            add(card, AT_GPU_MIG_VGPU,
                "MIG-backed types%s%s%s are not offered, because only NVIDIA's library knows their "
                "geometry, and it says nothing (%s)",
                left_out ? " (" : "", left_out ? left_out : "", left_out ? ")" : "", card->unknown);
        return;
    }
    if (!card->mig_capable)
        add(card, AT_GPU_MIG_VGPU, "the card cannot be cut into MIG instances");
    else if (card->mig_pending)
        add(card, AT_GPU_MIG_VGPU,
            "its MIG mode changes when it is reset: do that when nothing uses the card "
            "(nvidia-smi -i %s --gpu-reset)",
            card->address);
    else if (!card->mig_on &&
             card->processes->len > 0) /* else it is turned on with the first grant */
        add(card, AT_GPU_MIG_VGPU,
            "MIG mode is off, and processes of the host keep it from being turned on: stop them");
    else if (!at_gpu_card_has_kind(card, AT_GPU_MIG_VGPU))
        add(card, AT_GPU_MIG_VGPU, "the driver has no MIG-backed vGPU type for this card");
}

/* Whether the driver makes VFs of cards of its vendor. */
static bool makes_vfs(const struct at_gpu_card *card)
{
    static const char *const amd[] = {"gim", NULL};
    static const char *const intel[] = {"xe", "i915", NULL};
    return card->driver &&
           g_strv_contains(card->vendor == AT_GPU_VENDOR_AMD ? amd : intel, card->driver);
}

static void judge_vf(struct at_gpu_card *card)
{
    if (card->vendor != AT_GPU_VENDOR_AMD && card->vendor != AT_GPU_VENDOR_INTEL) {
        add(card, AT_GPU_VF, "VFs are given of AMD's and Intel's cards only");
        return;
    }
    if (card->vfs_total == 0) {
        add(card, AT_GPU_VF,
            "it has no VFs (sriov_totalvfs): enable SR-IOV in the firmware if the card has it");
        return;
    }
    judge_iommu(card, AT_GPU_VF);
    if (card->vfs_on == 0 && !makes_vfs(card)) {
        g_autofree char *driver = at_gpu_driver_text(card->driver);
        add(card, AT_GPU_VF, "no VF is on, and the card has %s: bind %s, which makes them", driver,
            card->vendor == AT_GPU_VENDOR_AMD ? "AMD's driver gim" : "driver xe (or i915)");
    }
}

void at_gpu_card_judge(struct at_gpu_card *card, const char *left_out)
{
    if (card->health.lost) {
        for (unsigned kind = 0; kind < AT_GPU_N_KINDS; kind++)
            add(card, kind,
                "the card does not answer any more (fell off the bus): power the host off and on, "
                "and look at its seat and its power if it comes again");
        return;
    }
    judge_passthrough(card);
    judge_vf(card);
    if (card->vendor == AT_GPU_VENDOR_NVIDIA) {
        judge_time_sliced(card);
        judge_mig(card, left_out);
    } else {
        add(card, AT_GPU_VGPU, "vGPU types are of NVIDIA's cards only");
        add(card, AT_GPU_MIG_VGPU, "MIG is of NVIDIA's cards only");
    }
}
