/* SPDX-License-Identifier: Apache-2.0 */
/* The boards that gpu-tree knows: ids, BARs, VFs and vGPU types of each. */
#pragma once
#include <stdint.h>

#include "lib/gpu-tree.h"

struct gpu_board_region {
    uint64_t size;
    unsigned flags; /* of the file `resource` */
};
/* With the numbers of the last field the kernel writes them: NVIDIA's are the same in both
 * interfaces. */
struct gpu_board_type {
    unsigned id;
    const char *name; /* as the driver says it */
    unsigned framebuffer_mib, max;
};
struct gpu_board {
    const char *name;
    unsigned vendor, device, subsystem_vendor, subsystem_device, class_code, revision;
    const char *driver; /* of its vendor */
    struct gpu_board_region bars[6];
    uint64_t rom;
    unsigned vfs_total, vf_device;
    unsigned vf_offset; /* of the first VF's address behind the card's; each next is one further */
    const struct gpu_board_type *types; /* ends with id 0; NULL: no vGPUs */
};

/* Aborts when there is none of that name. */
const struct gpu_board *gpu_board_find(const char *name);
