/* SPDX-License-Identifier: Apache-2.0 */
/* A tree of files like /sys, /dev and /proc of a host with GPUs, for tests of what reads them.
 * Plain files and links: nothing in it reacts to a write. It is removed when the running test ends.
 *
 *     struct gpu_tree *tree = gpu_tree_new();
 *     gpu_tree_add(tree, "l40s", "0000:41:00.0", &(struct gpu_tree_options){.vfs = 32});
 *     struct at_gpu_paths paths = {gpu_tree_sys(tree), gpu_tree_dev(tree), gpu_tree_proc(tree)};
 *
 * Paths given to it are relative to its root: "sys/bus/pci/devices/0000:41:00.0/numa_node".
 * Anything that cannot be written aborts the test. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

struct gpu_tree;
struct gpu_tree *gpu_tree_new(void); /* valid until the test ends */
const char *gpu_tree_root(const struct gpu_tree *tree);
const char *gpu_tree_sys(const struct gpu_tree *tree);
const char *gpu_tree_dev(const struct gpu_tree *tree);
const char *gpu_tree_proc(const struct gpu_tree *tree);

/* By which interface of the kernel vGPUs are made; a board for which none is known has none. */
enum gpu_tree_vgpu {
    GPU_TREE_VGPU_NONE, /* the driver of the data centre, which makes none */
    GPU_TREE_MDEV,      /* mdev_supported_types of the VFs, or of the card (T4) */
    GPU_TREE_VENDOR,    /* nvidia/creatable_vgpu_types of the VFs */
};

struct gpu_tree_options {
    const char *driver; /* NULL: the one of its vendor; "": none */
    unsigned vfs;       /* that are on; their driver is the card's */
    enum gpu_tree_vgpu vgpu;
    bool no_iommu;
    bool no_reset;
    bool no_serial; /* no capability with a serial number */
    bool no_unique; /* amdgpu does not know a number of it */
    bool boot_vga;
    bool audio;          /* function 1 of its slot, in its group, with driver snd_hda_intel */
    bool foreign;        /* a network card with driver igb at bus + 1 in its group */
    bool bridge;         /* a bridge with driver pcieport at the slot above in its group */
    bool lost;           /* the configuration space reads all ones */
    const char *sharing; /* address of a card that is there already: the same IOMMU group */
};

/* Adds a card, @options NULL: as it comes. Boards (the attributes are those of real ones as far as
 * they are public): "h100-pcie", "a100-sxm4-80", "a100-pcie-80", "l40s", "h200-sxm",
 * "rtx-pro-6000", "mi300x", "flex-170", "t4". @address in sysfs's form. Gives @address, or a copy.
 */
const char *gpu_tree_add(struct gpu_tree *tree, const char *board, const char *address,
                         const struct gpu_tree_options *options);

/* Address of VF @n (from 0) of a card, from its link; valid until the test ends. */
const char *gpu_tree_vf(struct gpu_tree *tree, const char *address, unsigned n);
/* IOMMU group of a function; -1: none. */
int gpu_tree_group(struct gpu_tree *tree, const char *address);
/* Binds another driver ("": none), with /dev/vfio/GROUP for vfio-pci. What the former one showed
 * of the card is gone. */
void gpu_tree_bind(struct gpu_tree *tree, const char *address, const char *driver);
/* What the driver that is bound now shows of a card's health: amdgpu of an idle MI300X, xe and i915
 * of an idle Flex 170; other drivers nothing. gpu_tree_add() does it, too. @unique: of amdgpu's
 * unique_id; "": it is empty. */
void gpu_tree_show_health(struct gpu_tree *tree, const char *address, const char *unique);
/* An mdev of @type ("nvidia-471") that exists on @parent. */
void gpu_tree_mdev(struct gpu_tree *tree, const char *parent, const char *uuid, const char *type);

/* Any other function: its class is of 24 bits, @group an IOMMU group or -1, @driver "" for none. */
void gpu_tree_function(struct gpu_tree *tree, const char *address, unsigned vendor, unsigned device,
                       unsigned class_code, int group, const char *driver);

/* One attribute of a function: written, read (newly allocated), removed. */
void gpu_tree_set(struct gpu_tree *tree, const char *address, const char *name, const char *text);
char *gpu_tree_get(struct gpu_tree *tree, const char *address, const char *name);
void gpu_tree_unset(struct gpu_tree *tree, const char *address, const char *name);

/* Files of any path, with the directories above them. */
void gpu_tree_write(struct gpu_tree *tree, const char *relative, const char *text);
void gpu_tree_write_bytes(struct gpu_tree *tree, const char *relative, const void *data,
                          size_t len);
void gpu_tree_link(struct gpu_tree *tree, const char *relative, const char *target);
void gpu_tree_remove(struct gpu_tree *tree, const char *relative);      /* with all below it */
char *gpu_tree_path(const struct gpu_tree *tree, const char *relative); /* newly allocated */
