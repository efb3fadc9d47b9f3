/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of discovery, in this order; each fills its part of a card. */
#pragma once
#include "gpu/gpu.h"
#include "gpu/pci-names.h"

enum {
    AT_GPU_FUNCTIONS_MAX = 4096, /* of a host that are looked at */
    AT_GPU_NEIGHBOURS_MAX = 256, /* of a card */
};

/* identity.c: the last step, of all cards: an id for each that NVML has given none, and numbers
 * that several cards have are marked. */
void at_gpu_cards_name(const GPtrArray *cards);

/* card-pci.c: numbers, place, BARs, neighbours, ways to reset it, VFs; whether it is lost. */
void at_gpu_card_read_pci(struct at_gpu_card *card, const struct at_gpu_paths *paths,
                          struct at_pci_names *names);

/* card-driver.c: what the kernel's driver shows in sysfs of a card of which no library spoke:
 * memory, health, its lasting number. Whatever it does not say stays as it was, with the reason. */
void at_gpu_card_read_driver(struct at_gpu_card *card, const struct at_gpu_paths *paths);

/* card-vgpu.c: mediated devices of this host, each to the card that it is of. */
void at_gpu_mdevs_read(const struct at_gpu_paths *paths, const GPtrArray *cards);
/* By which interface vGPUs are made, and what is read there when NVIDIA's library gave no types.
 * Gives the names of the MIG-backed types that were left out, or NULL: how large their instances
 * are stands nowhere in sysfs. */
char *at_gpu_card_read_vgpu(struct at_gpu_card *card, const struct at_gpu_paths *paths);
bool at_gpu_card_has_kind(const struct at_gpu_card *card, enum at_gpu_kind kind);

/* profile.c: what can be given of any card: "passthrough", and "vf" of AMD's and Intel's. */
void at_gpu_card_add_profiles(struct at_gpu_card *card);

/* obstacle.c: card->obstacle of every kind. @left_out: of at_gpu_card_read_vgpu(). */
void at_gpu_card_judge(struct at_gpu_card *card, const char *left_out);

/* In words, for messages: "driver nvidia", "no driver". Newly allocated. */
char *at_gpu_driver_text(const char *driver);
