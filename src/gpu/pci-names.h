/* SPDX-License-Identifier: Apache-2.0 */
/* Names of PCI ids, of the list that every distribution ships (pci.ids), read by libpci without
 * touching a device. Without the list nothing has a name; of a damaged one, what stands before the
 * damage. */
#pragma once
#include <glib.h>
#include <stdint.h>

struct at_pci_names;
/* @file  NULL: the system's list. Never fails. One thread at a time. */
struct at_pci_names *at_pci_names_open(const char *file);
void at_pci_names_close(struct at_pci_names *names);

/* "NVIDIA Corporation", "GH100 [H100 PCIe]"; NULL: not in the list. Newly allocated. */
char *at_pci_names_vendor(struct at_pci_names *names, uint16_t vendor);
char *at_pci_names_device(struct at_pci_names *names, uint16_t vendor, uint16_t device);
/* What it is sold as, which the list puts in brackets behind the chip: "H100 PCIe"; else as above.
 */
char *at_pci_names_product(struct at_pci_names *names, uint16_t vendor, uint16_t device);
/* Vendor and device in one, with numbers for what has no name: "10de:2331". Never NULL. */
char *at_pci_names_full(struct at_pci_names *names, uint16_t vendor, uint16_t device);

typedef struct at_pci_names at_pci_names_auto;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_pci_names_auto, at_pci_names_close)
