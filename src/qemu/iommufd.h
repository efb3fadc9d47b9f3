/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU handed to QEMU as descriptors (iommufd, Linux 6.6 and later; QEMU 9.0 and later): then QEMU
 * needs no right to open any node. Source: docs/devel/vfio-iommufd.rst of QEMU. */
#pragma once
#include "qemu/machine.h"

enum { AT_IOMMUFD_MAX = 8 }; /* functions of a slot */

/* For one start: /dev/iommu, and the device of each function in their order. None: @iommu is -1. */
struct at_iommufd {
    int iommu;
    unsigned n;
    int devices[AT_IOMMUFD_MAX];
};
#define AT_IOMMUFD_NONE ((struct at_iommufd){.iommu = -1})

/* Opens them when @config asks for it. False when one cannot be opened: then none is. */
bool at_iommufd_open(const struct at_machine_config *config, struct at_iommufd *ret,
                     GError **error);
void at_iommufd_close(struct at_iommufd *fds);
