/* SPDX-License-Identifier: Apache-2.0 */
/* A model of the kernel's sysfs for tests: a tree on disk that reacts to writes as the kernel
 * does (drivers, IOMMU groups, VFs, mdevs, NVIDIA's vGPU types), with what it refuses and what it
 * holds up. All that changes is on disk, so that it outlives a process that is killed. */
#pragma once
#include "gpu/device.h"

struct model {
    const char *root;          /* a directory of the test */
    struct at_gpu_paths paths; /* below it */
    struct at_gpu_host host;   /* with the paths, a script in place of sriov-manage, NVML below */
    /* What goes wrong. */
    unsigned writes;      /* made so far; NVML's changes count as well */
    unsigned fail_at;     /* this one fails; 0: none */
    int fail_errno;       /* with this, or AT_SYSFS_WRITE_BLOCKS */
    unsigned die_at;      /* the process ends at this one; 0: none */
    bool die_before;      /* before its effect and not after */
    bool no_single_reset; /* of a function: others are on its bus */
    unsigned bus_resets;  /* made by VFIO */
    const char *ignore;   /* writes to files that end so succeed without an effect */
    /* Of the NVML double. */
    bool nvml_pending;         /* MIG mode only after a reset */
    unsigned nvml_processes;   /* of the host */
    unsigned wrong_instance;   /* + 1: where the driver puts a vGPU in place of the right one */
    GPtrArray *default_driver; /* pairs: address, driver that takes it at drivers_probe */
    GPtrArray *open;           /* addresses and UUIDs that somebody has open */
};

/* An empty host, whose files are in a directory of the test. It is the one that the hook of
 * sysfs-write sees until the test ends. */
struct model *model_new(void);
void model_free(struct model *model);

/* A function with its driver (NULL: none), alone in a group or in one with others. */
void model_add(struct model *model, const char *address, const char *vendor, const char *class,
               const char *driver, unsigned group);
void model_add_driver(struct model *model, const char *driver);
/* @n VFs that appear when they are turned on: address up to the dot, from function @first on, in
 * groups from @group on. With @types (lines of creatable_vgpu_types) they are NVIDIA's. */
void model_add_vfs(struct model *model, const char *pf, const char *slot, unsigned first,
                   unsigned n, unsigned group, const char *types);
/* mdev types of a function (also of a VF that is off). */
void model_add_mdev_type(struct model *model, const char *address, const char *type,
                         unsigned instances);
/* Replaces NULL by an NVML double: MIG mode and instances. */
void model_add_nvml(struct model *model, bool mig_on);
void model_add_instance(struct model *model, unsigned id, unsigned profile, unsigned start);
unsigned model_instances(const struct model *model);
bool model_mig_on(const struct model *model);

/* A process has the VFIO group of the function, or of the mdev, open. */
void model_open(struct model *model, const char *address, const char *uuid, unsigned pid,
                const char *comm);
void model_close(struct model *model, unsigned pid);
/* A process has that path open. */
void model_open_path(struct model *model, const char *path, unsigned pid, const char *comm);

/* Text of a file of a function, or what a link of it points to; NULL when there is none. */
char *model_text(const struct model *model, const char *address, const char *file);
char *model_driver(const struct model *model, const char *address);
void model_set(struct model *model, const char *address, const char *file, const char *text);
void model_remove(struct model *model, const char *address, const char *file);

/* All that a grant can change, as one text. */
char *model_state(const struct model *model);
