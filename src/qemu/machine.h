/* SPDX-License-Identifier: Apache-2.0 */
/* One workstation as a QEMU process: command line, start, adopt after our restart, stop. */
#pragma once
#include <gio/gio.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/process.h"

enum at_accel { AT_ACCEL_AUTO, AT_ACCEL_KVM, AT_ACCEL_TCG };

struct at_machine_disk {
    unsigned index;        /* device disk<index>, serial "d<index>" unless @serial is given */
    const char *serial;    /* shown in the guest as /dev/disk/by-id/virtio-<serial>; of more than 20
                              bytes, at most 63, the first 11 and '-' and 8 digits of the SHA-256 */
    uint64_t size;         /* bytes; for the caller's use, the overlays know it */
    bool readonly;         /* no overlays: the base itself, read-only */
    const char *base_root; /* 64 hex: nbd export below the overlays; NULL: zeros (null base) */
    const unsigned *gens;  /* overlay generations, oldest first; the last is the live one */
    unsigned n_gens;
};
struct at_machine_nic {
    unsigned index;
    const char *mac;
    int tap_fd; /* stays the caller's, who closes it after the start */
};
/* A device of the host that the guest drives by itself (VFIO). All its memory stays pinned. */
struct at_machine_gpu {
    const char *const *hosts; /* PCI functions of one slot, in order; NULL-terminated */
    const char *sysfsdev;     /* instead of hosts: a mediated device */
    /* Device nodes that QEMU opens; they get its owner. NULL-terminated */
    const char *const *nodes;
    /* With iommufd: "/dev/vfio/devices/vfioN" of each of @hosts, opened by us. NULL-terminated */
    const char *const *cdevs;
    uint64_t window; /* bytes of 64-bit address space that its BARs take */
};
struct at_machine_config {
    const char *name;       /* for ps and logs: "vdc/workstation" */
    const char *uuid;       /* SMBIOS */
    const char *vmgenid;    /* UUID; a new one after clone and restore; NULL: none */
    const char *dir;        /* STATE/m/<id>, absolute; what is in it is listed in start.c */
    const char *nbd_socket; /* nbdkit's; may be NULL when no disk has a base */
    uid_t uid;
    gid_t gid;
    unsigned cpus;
    uint64_t memory;       /* bytes, whole MiB */
    enum at_accel accel;   /* KVM or TCG; AUTO must be resolved before */
    bool uefi;             /* firmware: OVMF in place of BIOS; its variables are in DIR/vars.fd */
    const char *seed_path; /* NoCloud ISO, or NULL */
    const char *cgroup;    /* see struct at_spawn */
    bool paused;           /* -S */
    const struct at_machine_disk *disks;
    unsigned n_disks;
    const struct at_machine_nic *nics;
    unsigned n_nics;
    const struct at_machine_gpu *gpus;
    unsigned n_gpus;
    bool iommufd;        /* the GPU as descriptors; only where at_machine_can_iommufd() */
    int numa_node;       /* with GPUs: the node that memory should come from; -1: any */
    const char *cpulist; /* with GPUs: processors to run on, "0-31,64-95"; NULL: all */
};

/* The arguments as they will be executed, for tests and `ws show --command`; NULL-terminated. The
 * numbers of the descriptors are examples. INVALID when something in @config cannot be right. */
GStrv at_machine_argv(const struct at_machine_config *config, GError **error);

/* Starts QEMU: the directory becomes root's (QEMU cannot write into it), overlays and seed get
 * their owner, pid file `pid` is written, and the monitors answer when this returns. On failure
 * nothing runs, pid file and sockets are gone, and the error carries the end of qemu.log. CONFLICT
 * when it runs already. The first of @disks is booted from. Blocks up to 30 s. */
bool at_machine_start(const struct at_machine_config *config, struct at_process *ret_process,
                      GError **error);

/* True when the GPU of @config can be handed over as descriptors by the QEMU of @qemu_version
 * (NULL: unknown). Not several GPUs, which would lose direct transfers between them, and no
 * mediated device, which QEMU would take for a whole one. */
bool at_machine_can_iommufd(const struct at_machine_config *config, const char *qemu_version);

/* The process that an earlier daemon started, by the pid file and its command line; also when that
 * daemon died between the start and the pid file. NOT_FOUND when it does not run any more. */
bool at_machine_find(const char *dir, struct at_process *ret_process, GError **error);

/* Removes what a machine that is gone leaves in its directory: sockets and the pid file. */
void at_machine_clean_dir(const char *dir);

/* Asks the guest to shut down (ACPI power button, and the agent when it answers; again and again,
 * since a booting guest hears neither), waits @timeout_ms for the process to end, then quits QEMU.
 * A paused guest is resumed for it. @ret_clean (may be NULL): the guest did it by itself.
 * CANCELLED leaves a guest that may still end. Blocks. */
bool at_machine_shutdown(const char *dir, const struct at_process *process, int timeout_ms,
                         GCancellable *cancellable, bool *ret_clean, GError **error);

/* Quits at once: QMP quit (flushes), then SIGKILL. Gone when this returns true, with its sockets
 * and pid file. Blocks up to 21 s. */
bool at_machine_quit(const char *dir, const struct at_process *process, GError **error);

/* Decides AUTO: KVM only when a probe guest really ran on it within a second of its boot; it is
 * kept until at_machine_probe_again(). @ret_reason (may be NULL): why AUTO became TCG, newly
 * allocated. KVM that does not work: AT_ACCEL_AUTO with UNAVAILABLE. Any thread; blocks up to 4 s.
 */
enum at_accel at_machine_probe_accel(enum at_accel wanted, char **ret_reason, GError **error);

/* Probes KVM again where an earlier probe only took too long, as on a host that is busy; three
 * times at most. True while another try is left and could change the answer. Any thread; blocks up
 * to 4 s.
 */
bool at_machine_probe_again(void);
const char *at_accel_name(enum at_accel accel);

/* Version and binary of QEMU, e.g. "7.2.22"; UNAVAILABLE when missing or older than 7.2. */
char *at_qemu_version(GError **error);
