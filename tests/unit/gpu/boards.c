/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of what real cards can give. */
#include "boards.h"

#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* A GI profile: its name's part after the memory, NVML's id, where it may begin. */
struct gi {
    unsigned id, slices, compute, max;
    uint32_t starts;
    unsigned media;
};

/* The 8-slice family. */
enum { G1, G1ME, G1DOUBLE, G2, G3, G4, G7 };
static const struct gi grid8[] = {
    [G1] = {19, 1, 1, 7, 0x7f, 0},       [G1ME] = {20, 1, 1, 1, 0x7f, 1},
    [G1DOUBLE] = {15, 2, 1, 4, 0x55, 0}, [G2] = {14, 2, 2, 3, 0x15, 0},
    [G3] = {9, 4, 3, 2, 0x11, 0},        [G4] = {5, 4, 4, 1, 0x01, 0},
    [G7] = {0, 8, 7, 1, 0x01, 0},
};
/* The A30. */
enum { A1, A1ME, A2, A2ME, A4 };
static const struct gi grid4[] = {
    [A1] = {14, 1, 1, 4, 0x0f, 0},  [A1ME] = {21, 1, 1, 1, 0x0f, 1}, [A2] = {5, 2, 2, 2, 0x05, 0},
    [A2ME] = {6, 2, 2, 1, 0x05, 1}, [A4] = {0, 4, 4, 1, 0x01, 0},
};
/* The RTX PRO 6000: for vGPUs only the instances with graphics. */
enum { R1, R2, R4 };
static const struct gi grid12[] = {
    [R1] = {47, 3, 1, 4, 0x249, 0}, [R2] = {35, 6, 2, 2, 0x41, 0}, [R4] = {32, 12, 4, 1, 0x01, 0}};

struct mig_type {
    const char *name, *gi_name;
    unsigned mib, gi, per_gi;
};
struct sliced_type {
    const char *name;
    unsigned mib, max, max_mixed;
};
#define MIG(...) ((const struct mig_type[]){__VA_ARGS__, {0}})
#define SLICED(...) ((const struct sliced_type[]){__VA_ARGS__, {0}})

static const struct board {
    const char *model, *name, *vendor_name, *architecture;
    uint16_t vendor, device;
    unsigned gib, slices, compute, vfs;
    bool mixes;
    unsigned vf_max, vf_gib;
    const struct gi *grid;
    const struct mig_type *mig;
    const struct sliced_type *sliced;
} boards[] = {
    {"A100-40", "NVIDIA A100-PCIE-40GB", "NVIDIA Corporation", "Ampere", 0x10de, 0x20f1, 40, 8, 7,
     16, false, 0, 0, grid8,
     MIG({"A100-1-5C", "1g.5gb", 4864, G1, 1}, {"A100-1-5CME", "1g.5gb+me", 4864, G1ME, 1},
         {"A100-1-10C", "1g.10gb", 9856, G1DOUBLE, 1}, {"A100-2-10C", "2g.10gb", 9856, G2, 1},
         {"A100-3-20C", "3g.20gb", 19968, G3, 1}, {"A100-4-20C", "4g.20gb", 19968, G4, 1},
         {"A100-7-40C", "7g.40gb", 40192, G7, 1}),
     SLICED({"A100-4C", 4096, 10, 0}, {"A100-5C", 5120, 8, 0}, {"A100-8C", 8192, 5, 0},
            {"A100-10C", 10240, 4, 0}, {"A100-20C", 20480, 2, 0}, {"A100-40C", 40960, 1, 0})},
    {"A100-80", "NVIDIA A100 80GB PCIe", "NVIDIA Corporation", "Ampere", 0x10de, 0x20b5, 80, 8, 7,
     20, false, 0, 0, grid8,
     MIG({"A100D-1-10C", "1g.10gb", 9728, G1, 1}, {"A100D-1-10CME", "1g.10gb+me", 9728, G1ME, 1},
         {"A100D-1-20C", "1g.20gb", 19968, G1DOUBLE, 1}, {"A100D-2-20C", "2g.20gb", 19968, G2, 1},
         {"A100D-3-40C", "3g.40gb", 40192, G3, 1}, {"A100D-4-40C", "4g.40gb", 40192, G4, 1},
         {"A100D-7-80C", "7g.80gb", 80896, G7, 1}),
     SLICED({"A100D-8C", 8192, 10, 0}, {"A100D-10C", 10240, 8, 0}, {"A100D-20C", 20480, 4, 0},
            {"A100D-40C", 40960, 2, 0}, {"A100D-80C", 81920, 1, 0})},
    {"H100", "NVIDIA H100 PCIe", "NVIDIA Corporation", "Hopper", 0x10de, 0x2331, 80, 8, 7, 20, true,
     0, 0, grid8,
     MIG({"H100-1-10C", "1g.10gb", 9984, G1, 1}, {"H100-1-10CME", "1g.10gb+me", 9984, G1ME, 1},
         {"H100-1-20C", "1g.20gb", 20096, G1DOUBLE, 1}, {"H100-2-20C", "2g.20gb", 20096, G2, 1},
         {"H100-3-40C", "3g.40gb", 40448, G3, 1}, {"H100-4-40C", "4g.40gb", 40448, G4, 1},
         {"H100-7-80C", "7g.80gb", 81920, G7, 1}),
     SLICED({"H100-4C", 4096, 20, 16}, {"H100-5C", 5120, 16, 16}, {"H100-8C", 8192, 10, 8},
            {"H100-10C", 10240, 8, 8}, {"H100-16C", 16384, 5, 4}, {"H100-20C", 20480, 4, 4},
            {"H100-40C", 40960, 2, 2}, {"H100-80C", 81920, 1, 1})},
    {"H200", "NVIDIA H200 NVL", "NVIDIA Corporation", "Hopper", 0x10de, 0x233b, 141, 8, 7, 32, true,
     0, 0, grid8,
     MIG({"H200-1-18C", "1g.18gb", 16384, G1, 1}, {"H200-1-18CME", "1g.18gb+me", 16384, G1ME, 1},
         {"H200-1-35C", "1g.35gb", 33280, G1DOUBLE, 1}, {"H200-2-35C", "2g.35gb", 33280, G2, 1},
         {"H200-3-71C", "3g.71gb", 71168, G3, 1}, {"H200-4-71C", "4g.71gb", 71168, G4, 1},
         {"H200-7-141C", "7g.141gb", 143360, G7, 1}),
     NULL},
    {"A30", "NVIDIA A30", "NVIDIA Corporation", "Ampere", 0x10de, 0x20b7, 24, 4, 4, 16, false, 0, 0,
     grid4,
     MIG({"A30-1-6C", "1g.6gb", 5952, A1, 1}, {"A30-1-6CME", "1g.6gb+me", 5952, A1ME, 1},
         {"A30-2-12C", "2g.12gb", 11970, A2, 1}, {"A30-2-12CME", "2g.12gb+me", 11970, A2ME, 1},
         {"A30-4-24C", "4g.24gb", 24064, A4, 1}),
     SLICED({"A30-4C", 4096, 6, 0}, {"A30-6C", 6144, 4, 0}, {"A30-8C", 8192, 3, 0},
            {"A30-12C", 12288, 2, 0}, {"A30-24C", 24576, 1, 0})},
    {"RTX6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition", "NVIDIA Corporation", "Blackwell",
     0x10de, 0x2bb5, 96, 12, 4, 48, false, 0, 0, grid12,
     MIG({"DC-1-24Q", "1g.24gb+gfx", 24064, R1, 1}, {"DC-1-12Q", "1g.24gb+gfx", 12288, R1, 2},
         {"DC-1-12A", "1g.24gb+gfx", 12288, R1, 2}, {"DC-1-8Q", "1g.24gb+gfx", 8192, R1, 3},
         {"DC-1-6Q", "1g.24gb+gfx", 6144, R1, 4}, {"DC-2-48Q", "2g.48gb+gfx", 48128, R2, 1},
         {"DC-2-24Q", "2g.48gb+gfx", 24064, R2, 2}, {"DC-4-96Q", "4g.96gb+gfx", 96256, R4, 1},
         {"DC-4-48Q", "4g.96gb+gfx", 48128, R4, 2}),
     NULL},
    {"L40S", "NVIDIA L40S", "NVIDIA Corporation", "Ada Lovelace", 0x10de, 0x26b9, 45, 0, 0, 32,
     true, 0, 0, NULL, NULL,
     SLICED({"L40S-1B", 1024, 32, 32}, {"L40S-1Q", 1024, 32, 32}, {"L40S-4A", 4096, 12, 8},
            {"L40S-4Q", 4096, 12, 8}, {"L40S-6Q", 6144, 8, 8}, {"L40S-8Q", 8192, 6, 4},
            {"L40S-12A", 12288, 4, 4}, {"L40S-12Q", 12288, 4, 4}, {"L40S-12C", 12288, 4, 4},
            {"L40S-16Q", 16384, 3, 2}, {"L40S-24Q", 24576, 2, 2}, {"L40S-48Q", 49152, 1, 1})},
    {"T4", "Tesla T4", "NVIDIA Corporation", "Turing", 0x10de, 0x1eb8, 15, 0, 0, 0, false, 0, 0,
     NULL, NULL,
     SLICED({"T4-1Q", 1024, 16, 0}, {"T4-2Q", 2048, 8, 0}, {"T4-4Q", 4096, 4, 0},
            {"T4-8Q", 8192, 2, 0}, {"T4-16Q", 16384, 1, 0})},
    {"MI300X", "AMD Instinct MI300X", "Advanced Micro Devices, Inc. [AMD/ATI]", NULL, 0x1002,
     0x74a1, 192, 0, 0, 8, false, 8, 24, NULL, NULL, NULL},
    {"FLEX170", "DG2 [Data Center GPU Flex 170]", "Intel Corporation", NULL, 0x8086, 0x56c0, 16, 0,
     0, 31, false, 4, 4, NULL, NULL, NULL},
    {"GTX", "GP106 [GeForce GTX 1060 6GB]", "NVIDIA Corporation", NULL, 0x10de, 0x1c03, 6, 0, 0, 0,
     false, 0, 0, NULL, NULL, NULL},
};
const char *const test_board_models[] = {"A100-40", "A100-80", "H100", "H200",
                                         "A30",     "RTX6000", "L40S", "T4",
                                         "MI300X",  "FLEX170", "GTX",  NULL};

static struct at_gpu_profile *add(struct at_gpu_card *card, const char *name, enum at_gpu_kind kind,
                                  enum at_gpu_isolation isolation, uint64_t memory)
{
    struct at_gpu_profile *p = at_gpu_profile_new(name, kind);
    p->isolation = isolation;
    p->memory = memory;
    p->type_id = card->profiles->len + 400;
    g_ptr_array_add(card->profiles, p);
    return p;
}

static void add_mig(struct at_gpu_card *card, const struct board *b, const struct mig_type *type)
{
    const struct gi *gi = &b->grid[type->gi];
    struct at_gpu_profile *p =
        add(card, type->name, AT_GPU_MIG_VGPU, type->per_gi > 1 ? AT_GPU_SHARED : AT_GPU_HARDWARE,
            type->mib * MIB);
    p->gi_profile = gi->id;
    p->gi_name = g_strdup(type->gi_name);
    p->slices = gi->slices;
    p->compute = gi->compute;
    p->starts = gi->starts;
    p->gi_max = gi->max;
    p->per_gi = type->per_gi;
    p->media = gi->media;
    p->max = gi->max * type->per_gi;
}

static void fill(struct at_gpu_card *card, const struct board *b)
{
    add(card, "passthrough", AT_GPU_PASSTHROUGH, AT_GPU_EXCLUSIVE, b->gib * GIB);
    for (const struct sliced_type *type = b->sliced; type && type->name; type++) {
        struct at_gpu_profile *p =
            add(card, type->name, AT_GPU_VGPU, AT_GPU_SHARED, type->mib * MIB);
        p->max = type->max;
        p->max_mixed = type->max_mixed;
    }
    for (const struct mig_type *type = b->mig; type && type->name; type++)
        add_mig(card, b, type);
    if (b->vf_max)
        add(card, "vf", AT_GPU_VF, AT_GPU_HARDWARE, b->vf_gib * GIB)->max = b->vf_max;
}

struct at_gpu_card *test_board(const char *model, const char *address, int numa_node)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(boards); i++) {
        const struct board *b = &boards[i];
        if (strcmp(b->model, model) != 0)
            continue;
        struct at_gpu_card *card = at_gpu_card_new(address);
        card->id = g_strdup_printf("TEST-%s-%s", model, address);
        card->vendor = b->vendor;
        card->device = b->device;
        card->name = g_strdup(b->name);
        card->vendor_name = g_strdup(b->vendor_name);
        card->architecture = g_strdup(b->architecture);
        card->memory = b->gib * GIB;
        card->numa_node = numa_node;
        card->mig_capable = b->mig != NULL;
        card->grid_slices = b->slices;
        card->grid_compute = b->compute;
        card->vfs_total = b->vfs;
        card->physical_function = b->vfs > 0;
        card->mixes_sizes = b->mixes;
        card->vgpu = !b->sliced && !b->mig ? AT_GPU_VGPU_NONE
                     : b->vfs              ? AT_GPU_VGPU_VENDOR
                                           : AT_GPU_VGPU_MDEV;
        fill(card, b);
        return card;
    }
    return NULL;
}
