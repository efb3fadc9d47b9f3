/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of gpu-tree share: files and functions (gpu-tree.c), cards (gpu-card.c),
 * what drivers show of them (gpu-health.c). */
#pragma once
#include "lib/gpu-tree.h"

struct gpu_tree {
    const char *root; /* of at_test_dir() */
    char *sys, *dev, *proc;
    int next_group;
};

/* gpu-health.c: takes away what gpu_tree_show_health() has made. */
void gpu_tree_hide_health(struct gpu_tree *tree, const char *address);
/* Puts a function into an IOMMU group; -1: into none. */
void gpu_tree_join(struct gpu_tree *tree, const char *address, int group);
