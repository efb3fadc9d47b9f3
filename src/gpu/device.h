/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying out a grant on this host, and taking it back: drivers bound, VFs and vGPUs made, MIG
 * instances cut. Every function here is idempotent, may be run again after a crash, and reads back
 * what it wrote. Writes that the kernel can hold up for ever (unbind, remove, sriov_numvfs) are
 * made by a child process with a deadline: TIMEOUT says who holds the device. Worker threads;
 * blocks. */
#pragma once
#include <gio/gio.h>

#include "gpu/gpu.h"
#include "gpu/nvml.h"

struct at_gpu_host {
    struct at_gpu_paths paths;
    struct at_nvml *nvml;     /* or NULL */
    const char *sriov_manage; /* NVIDIA's script; NULL: /usr/lib/nvidia/sriov-manage */
    const char *modprobe;     /* NULL: "modprobe" */
    int write_timeout_ms;     /* of one write; 0: 10 s */
};

/* What is granted, and what became of it; the caller keeps it (as a record) from before the first
 * step, so that a crash in between leaves a name for all that was made. */
struct at_gpu_attachment {
    const char *address; /* of the card */
    const struct at_gpu_profile *profile;
    unsigned start;   /* MIG-backed: memory slice */
    const char *uuid; /* for an mdev; chosen by the caller before the first step */
    /* Functions that the records of other attachments name: never chosen. NULL: none. */
    const char *const *others;
    bool mixed_sizes; /* time-sliced: other sizes shall be possible beside it; the card is switched
                       * to that as long as it has no vGPU (needs NVML) */
    /* Chosen by at_gpu_attach(), and given back to it and to at_gpu_detach() later. */
    char *function;      /* the VF that is used, or NULL */
    unsigned instance;   /* MIG GPU instance id + 1; 0: none */
    char *former_driver; /* what to bind again at the end ("" for none); NULL: not bound yet */
    /* By at_gpu_detach(): what was done about what the holder left: "reset", "bus reset" (of all
     * functions on its bus), or "vGPU removed", each with ", no scrub" while no device offers to
     * have its memory overwritten; or "nothing to clear" (undone before). Static; NULL: the card is
     * gone. */
    const char *cleared;
};
/* Frees what was chosen, and forgets it. */
void at_gpu_attachment_clear(struct at_gpu_attachment *att);

/* For QEMU. */
struct at_gpu_device {
    GStrv hosts;     /* addresses of functions of one slot, in order: the first is the GPU */
    char *sysfsdev;  /* instead of hosts, for an mdev */
    GStrv nodes;     /* device nodes that QEMU must be able to open: "/dev/vfio/12" */
    GStrv cdevs;     /* of each of hosts: "/dev/vfio/devices/vfio3"; NULL: the kernel has none */
    uint64_t window; /* bytes of 64-bit address space that its BARs need */
    int numa_node;   /* -1: unknown */
    char *cpulist;   /* CPUs beside it, or NULL */
};
void at_gpu_device_clear(struct at_gpu_device *device);

/* Makes it so. @chosen is called (may be NULL) when @att->function, instance or former_driver were
 * decided and before anything is changed by them: the caller makes them durable; false aborts.
 * (The number of an instance is known only after it was made; until then its profile and start
 * name it.) What is there already, as the record has it, is left alone, also while it is open.
 * On failure what this call has changed is undone. When that worked, what was chosen is as before
 * the call, and @chosen is told; else the message says what was left, and at_gpu_detach() finds it.
 * CONFLICT: in use, by whom; UNAVAILABLE: no IOMMU, no reset, a group that is not viable (and which
 * function is in the way, with which driver); TIMEOUT; IO. */
typedef bool (*at_gpu_chosen_func)(const struct at_gpu_attachment *att, void *user, GError **error);
bool at_gpu_attach(const struct at_gpu_host *host, struct at_gpu_attachment *att,
                   at_gpu_chosen_func chosen, void *chosen_user, GCancellable *cancellable,
                   struct at_gpu_device *ret_device, GError **error);

/* Takes it back: first it is made sure that nobody has the device open (CONFLICT with the process
 * otherwise), then it is reset, and everything that attach made is removed. Nothing there to take
 * back is success; a VF that has another vGPU type by now is somebody else's and is left alone.
 * With @give_back the card goes back to @att->former_driver when it was passed through, and VFs are
 * turned off when none of them is used any more. On success what was chosen is forgotten (without
 * @give_back a card stays with vfio-pci, and its former driver in @att). */
bool at_gpu_detach(const struct at_gpu_host *host, struct at_gpu_attachment *att, bool give_back,
                   GCancellable *cancellable, GError **error);

/* Processes that have the VFIO group or device of @address (or of the mdev @uuid) open:
 * "qemu-system-x86 (1234)", or NULL when there are none. */
char *at_gpu_opened_by(const struct at_gpu_paths *paths, const char *address, const char *uuid);

/* Resets a function (by its reset file, or where the kernel refuses that because others are on its
 * bus, with all of them by VFIO: then *ret_bus), and reads its configuration space. UNAVAILABLE: no
 * way to; CONFLICT: not everything that would be hit is with vfio-pci. */
bool at_gpu_reset(const struct at_gpu_host *host, const char *address, bool *ret_bus,
                  GError **error);
