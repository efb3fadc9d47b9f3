/* SPDX-License-Identifier: Apache-2.0 */
/* One function of a PCI device as sysfs shows it: its address, and what stands in its directory
 * (Documentation/ABI/testing/sysfs-bus-pci). */
#pragma once
#include "gpu/gpu.h"

enum { AT_PCI_VFS_MAX = 256 }; /* of a function */

struct at_pci_address {
    uint32_t domain;
    uint8_t bus, slot, function;
};
/* "0000:41:00.0" as sysfs writes it, nothing else. */
bool at_pci_address_parse(const char *text, struct at_pci_address *ret);
bool at_pci_address_valid(const char *text);
/* By numbers: domains of more than four digits come last. Both must be valid. */
int at_pci_address_compare(const char *a, const char *b);
bool at_pci_address_same_slot(const char *a, const char *b);

/* <sys>/bus/pci/devices/<address>; NULL: the directory of all. Newly allocated. The others take it
 * as @dir. */
char *at_pci_function_dir(const struct at_gpu_paths *paths, const char *address);
bool at_pci_function_class(const char *dir, uint32_t *ret); /* 24 bits */
bool at_pci_class_is_gpu(uint32_t class);                   /* display, 3D, accelerator */
bool at_pci_function_is_vf(const char *dir);
char *at_pci_function_driver(const char *dir);                  /* NULL: none */
int at_pci_function_iommu_group(const char *dir);               /* -1: none */
uint16_t at_pci_function_id(const char *dir, const char *name); /* 0: unknown */
int at_pci_function_numa_node(const char *dir);                 /* -1: unknown */
char *at_pci_function_cpulist(const char *dir); /* CPUs beside it: "0-31,64-95"; NULL: unknown */

/* Addresses of the VFs of @address that are on, in the order of their numbers, at most
 * AT_PCI_VFS_MAX; char* with free func, never NULL. */
GPtrArray *at_pci_function_vfs(const struct at_gpu_paths *paths, const char *address);

/* vfio-pci, pci-stub, or a variant of vfio-pci, which is called after it ("xe-vfio-pci",
 * "mlx5_vfio_pci"): a group stays viable with these. @driver may be NULL: true. */
bool at_pci_driver_lets_go(const char *driver);

/* What the configuration space says. @ret_serial: of the PCIe capability Device Serial Number (id
 * 0x0003), 0 when it has none, or when only root may read that far. False when it reads all ones:
 * nobody answers at that address any more. */
bool at_pci_function_config(const char *dir, uint64_t *ret_serial);

/* Where in a configuration space of 4096 bytes the extended capability @id begins; 12 bytes of it
 * can be read. 0: it has none. */
size_t at_pci_config_extended(const uint8_t *config, unsigned id);
