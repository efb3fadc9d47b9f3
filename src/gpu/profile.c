/* SPDX-License-Identifier: Apache-2.0 */
/* What can be given of any card. */
#include "gpu/card-internal.h"

enum { CLASS_ACCELERATOR = 0x1200 };

/* VFs of AMD's accelerators (MI300X and later) are the whole card or a compute partition with its
 * own memory. Its other boards, and Intel's cards, let their VFs take turns on the engines. */
static enum at_gpu_isolation vf_isolation(const struct at_gpu_card *card)
{
    bool partitions = card->vendor == AT_GPU_VENDOR_AMD && card->class >> 8 == CLASS_ACCELERATOR;
    return partitions ? AT_GPU_HARDWARE : AT_GPU_SHARED;
}

static void add_vf(struct at_gpu_card *card)
{
    struct at_gpu_profile *p = at_gpu_profile_new("vf", AT_GPU_VF);
    p->isolation = vf_isolation(card);
    p->max = card->vfs_on ? card->vfs_on : card->vfs_total;
    g_ptr_array_insert(card->profiles, 0, p);
}

void at_gpu_card_add_profiles(struct at_gpu_card *card)
{
    bool vf_vendor = card->vendor == AT_GPU_VENDOR_AMD || card->vendor == AT_GPU_VENDOR_INTEL;
    if (vf_vendor && card->vfs_total > 0 && !at_gpu_card_profile(card, "vf"))
        add_vf(card);
    if (at_gpu_card_profile(card, "passthrough"))
        return;
    struct at_gpu_profile *p = at_gpu_profile_new("passthrough", AT_GPU_PASSTHROUGH);
    p->isolation = AT_GPU_EXCLUSIVE;
    p->memory = card->memory;
    p->max = 1;
    g_ptr_array_insert(card->profiles, 0, p);
}
