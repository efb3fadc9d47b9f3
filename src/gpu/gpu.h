/* SPDX-License-Identifier: Apache-2.0 */
/* The GPUs of one host as plain data: what discovery has found, what can be given of each, and in
 * which geometry. Nothing here touches the host. Sizes are in bytes, addresses of PCI functions as
 * sysfs writes them ("0000:41:00.0", lower case). */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Where the kernel's files are; tests give a tree of their own. */
struct at_gpu_paths {
    const char *sys;  /* "/sys" */
    const char *dev;  /* "/dev" */
    const char *proc; /* "/proc" */
};
extern const struct at_gpu_paths at_gpu_host_paths;

/* How well a holder is kept apart from others on the same card; stronger is larger. */
enum at_gpu_isolation {
    AT_GPU_ANY = 0,   /* in requests: whatever there is */
    AT_GPU_SHARED,    /* memory is partitioned, engines are shared by time */
    AT_GPU_HARDWARE,  /* a MIG instance, or a VF with memory and engines of its own */
    AT_GPU_EXCLUSIVE, /* the whole device */
};
const char *at_gpu_isolation_name(enum at_gpu_isolation isolation); /* "any", "shared", ... */
bool at_gpu_isolation_parse(const char *text, enum at_gpu_isolation *ret);

enum at_gpu_kind {
    AT_GPU_PASSTHROUGH, /* the whole function, by vfio-pci */
    AT_GPU_VGPU,        /* a time-sliced vGPU type */
    AT_GPU_MIG_VGPU,    /* a vGPU type backed by a MIG instance */
    AT_GPU_VF,          /* an SR-IOV VF of AMD or Intel */
    AT_GPU_N_KINDS,
};
const char *at_gpu_kind_name(enum at_gpu_kind kind); /* "passthrough", "vgpu", "mig-vgpu", "vf" */

/* By which interface of the kernel vGPUs are made on a card. */
enum at_gpu_vgpu_interface {
    AT_GPU_VGPU_NONE,
    AT_GPU_VGPU_MDEV,   /* mdev_supported_types */
    AT_GPU_VGPU_VENDOR, /* nvidia/current_vgpu_type of VFs (vGPU 17 and later) */
};

/* One thing that can be given of a card. */
struct at_gpu_profile {
    char *
        name; /* "passthrough", "vf", or the vGPU type without "NVIDIA " or "GRID ": "H100-2-20C" */
    enum at_gpu_kind kind;
    enum at_gpu_isolation isolation;
    uint64_t memory;  /* for the guest; 0: unknown */
    unsigned type_id; /* of the vGPU type, as sysfs and NVML number it; 0: none */
    /* How many of this profile a card can have; 0: nothing but geometry and memory limits it. For
     * time-sliced types while all on the card have the same memory. */
    unsigned max;
    unsigned max_mixed; /* time-sliced: with other sizes beside it; 0: the card does not mix */
    /* MIG-backed: the GPU instance below. Slices are memory slices of the card's grid. */
    unsigned gi_profile; /* NVML's id of the profile, which means something only with the card */
    char *gi_name;       /* "2g.20gb", "1g.10gb+me" */
    unsigned slices;     /* that one instance takes */
    unsigned compute;    /* compute slices that it takes */
    uint32_t starts;     /* bit n: an instance may begin at memory slice n */
    unsigned gi_max;     /* instances of this GI profile that a card can have */
    unsigned per_gi; /* vGPUs of this type in one instance (>= 1); more than 1 share it by time */
    unsigned media;  /* of the GI profiles of a card with the same number other than 0, only one
                      * instance can exist (+me, +me.all, +gfx where it is limited) */
};
struct at_gpu_profile *at_gpu_profile_new(const char *name, enum at_gpu_kind kind);
struct at_gpu_profile *at_gpu_profile_copy(const struct at_gpu_profile *profile);
void at_gpu_profile_free(struct at_gpu_profile *profile);

struct at_gpu_bar {
    unsigned index;
    uint64_t size;
    bool wide, prefetchable; /* 64-bit */
};

enum {
    AT_GPU_VENDOR_AMD = 0x1002,
    AT_GPU_VENDOR_INTEL = 0x8086,
    AT_GPU_VENDOR_NVIDIA = 0x10de,
};

/* In place of a number that several cards have, so that it names none of them. */
#define AT_GPU_NUMBER_SHARED "=shared"

#define AT_GPU_MEMORY_MAX (UINT64_C(1) << 50) /* bytes of a card; more is nonsense */

/* A function of the card's IOMMU group other than the card itself. */
struct at_gpu_neighbour {
    char *address, *name;
    uint32_t class; /* 24 bits */
    char *driver;   /* NULL: none */
    bool bridge;    /* belongs to the fabric: stays where it is */
    bool same_card; /* another function of the same slot, which is no VF: goes with it */
};
void at_gpu_neighbour_free(struct at_gpu_neighbour *neighbour);

struct at_gpu_vf {
    char *address;
    char *driver;       /* NULL: none */
    int iommu_group;    /* -1: none */
    bool vendor_vfio;   /* has nvidia/current_vgpu_type */
    unsigned vgpu_type; /* what is set; 0: nothing */
};

struct at_gpu_mdev {
    char *uuid, *parent; /* address of the PF or VF */
    unsigned type_id;    /* of "nvidia-471"; 0 when the type is not numbered */
    char *type;          /* "nvidia-471" */
};

/* A MIG GPU instance that exists. */
struct at_gpu_instance {
    unsigned id, gi_profile, start, slices;
    unsigned compute_instances;
};

struct at_gpu_process {
    unsigned pid;
    char *name; /* from /proc, or NULL */
    uint64_t memory;
};

/* What the card says of itself now; a value counts only when its bit in @known is set. */
enum {
    AT_GPU_KNOWS_TEMPERATURE = 1 << 0,
    AT_GPU_KNOWS_POWER = 1 << 1,
    AT_GPU_KNOWS_UTILIZATION = 1 << 2,
    AT_GPU_KNOWS_MEMORY_USED = 1 << 3,
    AT_GPU_KNOWS_ECC = 1 << 4,
    AT_GPU_KNOWS_ROWS = 1 << 5,
};
struct at_gpu_health {
    unsigned known;
    int temperature_c;
    unsigned power_mw, power_limit_mw;            /* limit 0: unknown */
    unsigned utilization_gpu, utilization_memory; /* percent */
    uint64_t memory_used;
    uint64_t ecc_corrected, ecc_uncorrected; /* aggregate */
    unsigned rows_corrected, rows_uncorrected;
    bool rows_pending, rows_failed; /* rows of memory; of AMD's cards: pages */
    bool lost; /* fell off the bus: configuration space reads all ones, or NVML says so */
};

struct at_gpu_card {
    /* Identity. NVML's UUID where it was read ("GPU-6d0a2a5e-..."); else of the PCI device serial
     * number ("PCI-10de-2331-<serial>"), of the driver's number ("UID-1002-74a1-<number>"), or of
     * the address ("PCI-10de-2331-0000:41:00.0"). Stable as long as the card is in this host and
     * its driver can be asked. */
    char *id;
    char *serial; /* or NULL */
    /* PCIe Device Serial Number, 16 hexadecimal digits; NULL: none. It and the next are
     * AT_GPU_NUMBER_SHARED when another card of this host says the same. */
    char *pci_serial;
    /* What its driver calls it for good: amdgpu's unique_id, else the board's serial_number. NULL:
     * it does not say it, as while another driver has the card. */
    char *unique_id;
    char *address;
    uint16_t vendor, device, subsystem_vendor, subsystem_device;
    uint32_t class; /* 24 bits */
    uint8_t revision;
    char *vendor_name, *name; /* of NVML, else of pci.ids, else "10de:2331" */
    /* Why the vendor's library (NVIDIA) or the kernel's driver (others) said nothing of this card,
     * in one line; NULL: it did. And what of its health and memory that driver did not say, and
     * why; NULL: all, or nothing at all. */
    char *unknown, *health_unknown;
    /* NVIDIA's cards: its driver on this host ("580.65.06", "13.0"), the same for all of them; NULL
     * when unknown, and then why, in one line. */
    char *driver_version, *cuda_version, *version_unknown;

    /* PCI. */
    char *driver;               /* NULL: none */
    int iommu_group, numa_node; /* -1: none, unknown */
    char *cpulist;              /* "0-31,64-95", or NULL */
    GPtrArray *neighbours;      /* struct at_gpu_neighbour* */
    GArray *bars;               /* struct at_gpu_bar */
    GStrv reset_methods;        /* "flr", "bus", ...; empty: it cannot be reset */
    char *reset_hits;           /* what a reset hits that does not go with it, in words, or NULL */
    bool boot_vga;              /* the firmware's console */
    bool physical_function;     /* has sriov_totalvfs */
    unsigned vfs_total, vfs_on;
    GPtrArray *vfs;   /* struct at_gpu_vf* */
    GPtrArray *mdevs; /* struct at_gpu_mdev* */

    /* What it is made of. */
    uint64_t memory;    /* 0: unknown */
    char *architecture; /* "Hopper", or NULL */
    enum at_gpu_vgpu_interface vgpu;
    bool mixes_sizes;                      /* time-sliced: heterogeneous mode can be used */
    bool mig_capable, mig_on, mig_pending; /* pending: differs from what it will be after a reset */
    unsigned grid_slices, grid_compute;    /* of the MIG grid; 0: unknown */
    GPtrArray *profiles;  /* struct at_gpu_profile*: all that can be given in one way or another */
    GPtrArray *instances; /* struct at_gpu_instance* */
    GPtrArray *processes; /* struct at_gpu_process*: of the host, which keep it from being given */
    struct at_gpu_health health;

    /* Per kind: NULL when it can be given so, else why it cannot be. */
    char *obstacle[AT_GPU_N_KINDS];
};
struct at_gpu_card *at_gpu_card_new(const char *address);
void at_gpu_card_free(struct at_gpu_card *card);

/* The profile of that name, borrowed; NULL when the card has none. Case counts. */
const struct at_gpu_profile *at_gpu_card_profile(const struct at_gpu_card *card, const char *name);
/* The bytes that BARs (struct at_gpu_bar) take of a guest's address space: 64-bit prefetchable
 * ones, each a power of two. Those of a card: */
uint64_t at_gpu_bars_window(const GArray *bars);
uint64_t at_gpu_card_window(const struct at_gpu_card *card);
