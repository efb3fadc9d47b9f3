/* SPDX-License-Identifier: Apache-2.0 */
/* Boards: MIG profiles and vGPU types as NVIDIA's guides print them. Ids of vGPU types are
 * NVIDIA's where they were published (L40S, H200X, RTX PRO 6000 in parts), else of this double. */
#include <string.h>

#include "lib/nvml-double/double.h"

#define AT(n) (1U << (n))
#define SMALL (AT(0) | AT(1) | AT(2) | AT(3) | AT(4) | AT(5) | AT(6))
#define DOUBLE (AT(0) | AT(2) | AT(4) | AT(6))
/* The grid of eight slices: ids and places are the same on all of its boards. */
#define EIGHT(a, am, ame, d, dm, two, twom, three, threem, four, fourm, seven, sevenm, sm)         \
    {                                                                                              \
        {0, 19, a, am, sm, 1, 7, 1, SMALL, false}, {7, 20, ame, am, sm, 1, 1, 1, SMALL, true},     \
            {9, 15, d, dm, sm, 1, 4, 2, DOUBLE, false},                                            \
            {1, 14, two, twom, 2 * sm, 2, 3, 2, AT(0) | AT(2) | AT(4), false},                     \
            {2, 9, three, threem, 3 * sm, 3, 2, 4, AT(0) | AT(4), false},                          \
            {3, 5, four, fourm, 4 * sm, 4, 1, 4, AT(0), false},                                    \
            {4, 0, seven, sevenm, 7 * sm, 7, 1, 8, AT(0), false},                                  \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

static const struct gi_profile a100_40[] =
    EIGHT("1g.5gb", 4864, "1g.5gb+me", "1g.10gb", 9856, "2g.10gb", 9856, "3g.20gb", 19968,
          "4g.20gb", 19968, "7g.40gb", 40192, 14);
static const struct gi_profile a100_80[] =
    EIGHT("1g.10gb", 9728, "1g.10gb+me", "1g.20gb", 19968, "2g.20gb", 19968, "3g.40gb", 40192,
          "4g.40gb", 40192, "7g.80gb", 80896, 14);
static const struct gi_profile h100[] =
    EIGHT("1g.10gb", 9984, "1g.10gb+me", "1g.20gb", 20096, "2g.20gb", 20096, "3g.40gb", 40448,
          "4g.40gb", 40448, "7g.80gb", 80896, 16);
static const struct gi_profile h200[] =
    EIGHT("1g.18gb", 16384, "1g.18gb+me", "1g.35gb", 33280, "2g.35gb", 33280, "3g.71gb", 71168,
          "4g.71gb", 71168, "7g.141gb", 143360, 16);

#define FOUR (AT(0) | AT(1) | AT(2) | AT(3))
static const struct gi_profile a30[] = {
    {0, 14, "1g.6gb", 5952, 14, 1, 4, 1, FOUR, false},
    {7, 21, "1g.6gb+me", 5952, 14, 1, 1, 1, FOUR, true},
    {1, 5, "2g.12gb", 11968, 28, 2, 2, 2, AT(0) | AT(2), false},
    {8, 6, "2g.12gb+me", 11968, 28, 2, 1, 2, AT(0) | AT(2), true},
    {3, 0, "4g.24gb", 24064, 56, 4, 1, 4, AT(0), false},
    {0}};

#define QUARTER (AT(0) | AT(3) | AT(6) | AT(9))
#define HALF (AT(0) | AT(6))
static const struct gi_profile rtx6000[] = {
    {0x0, 14, "1g.24gb", 24192, 46, 1, 4, 3, QUARTER, false},
    {0x7, 21, "1g.24gb+me", 24192, 46, 1, 1, 3, QUARTER, true},
    {0xa, 47, "1g.24gb+gfx", 24192, 46, 1, 4, 3, QUARTER, false},
    {0xf, 65, "1g.24gb+me.all", 24192, 46, 1, 1, 3, QUARTER, true},
    {0xd, 67, "1g.24gb-me", 24192, 46, 1, 4, 3, QUARTER, false},
    {0x1, 5, "2g.48gb", 48512, 94, 2, 2, 6, HALF, false},
    {0xb, 35, "2g.48gb+gfx", 48512, 94, 2, 2, 6, HALF, false},
    {0x10, 64, "2g.48gb+me.all", 48512, 94, 2, 1, 6, HALF, true},
    {0xe, 66, "2g.48gb-me", 48512, 94, 2, 2, 6, HALF, false},
    {0x3, 0, "4g.96gb", 97408, 188, 4, 1, 12, AT(0), false},
    {0xc, 32, "4g.96gb+gfx", 97408, 188, 4, 1, 12, AT(0), false},
    {0}};

#define G(n) ((n)*1024)
static const struct vgpu_type h100_types[] = {{1129, "NVIDIA H100-1-10C", G(10), 19, 7, 1, 0},
                                              {1130, "NVIDIA H100-1-10CME", G(10), 20, 1, 1, 0},
                                              {1131, "NVIDIA H100-1-20C", G(20), 15, 4, 1, 0},
                                              {1132, "NVIDIA H100-2-20C", G(20), 14, 3, 1, 0},
                                              {1133, "NVIDIA H100-3-40C", G(40), 9, 2, 1, 0},
                                              {1134, "NVIDIA H100-4-40C", G(40), 5, 1, 1, 0},
                                              {1135, "NVIDIA H100-7-80C", G(80), 0, 1, 1, 0},
                                              {1136, "NVIDIA H100-4C", G(4), -1, 20, 1, 16},
                                              {1137, "NVIDIA H100-8C", G(8), -1, 10, 1, 8},
                                              {1138, "NVIDIA H100-10C", G(10), -1, 8, 1, 8},
                                              {1139, "NVIDIA H100-16C", G(16), -1, 5, 1, 4},
                                              {1140, "NVIDIA H100-20C", G(20), -1, 4, 1, 4},
                                              {1141, "NVIDIA H100-40C", G(40), -1, 2, 1, 2},
                                              {1142, "NVIDIA H100-80C", G(80), -1, 1, 1, 1},
                                              {0}};
static const struct vgpu_type a100_40_types[] = {{468, "GRID A100-4C", G(4), -1, 10, 1, 0},
                                                 {471, "GRID A100-10C", G(10), -1, 4, 1, 0},
                                                 {472, "GRID A100-20C", G(20), -1, 2, 1, 0},
                                                 {473, "GRID A100-40C", G(40), -1, 1, 1, 0},
                                                 {474, "GRID A100-1-5C", G(5), 19, 7, 1, 0},
                                                 {475, "GRID A100-1-5CME", G(5), 20, 1, 1, 0},
                                                 {476, "GRID A100-2-10C", G(10), 14, 3, 1, 0},
                                                 {477, "GRID A100-3-20C", G(20), 9, 2, 1, 0},
                                                 {478, "GRID A100-4-20C", G(20), 5, 1, 1, 0},
                                                 {479, "GRID A100-7-40C", G(40), 0, 1, 1, 0},
                                                 {0}};
static const struct vgpu_type a100_80_types[] = {{695, "NVIDIA A100D-8C", G(8), -1, 10, 1, 0},
                                                 {697, "NVIDIA A100D-20C", G(20), -1, 4, 1, 0},
                                                 {699, "NVIDIA A100D-80C", G(80), -1, 1, 1, 0},
                                                 {700, "NVIDIA A100D-1-10C", G(10), 19, 7, 1, 0},
                                                 {702, "NVIDIA A100D-2-20C", G(20), 14, 3, 1, 0},
                                                 {703, "NVIDIA A100D-3-40C", G(40), 9, 2, 1, 0},
                                                 {704, "NVIDIA A100D-4-40C", G(40), 5, 1, 1, 0},
                                                 {705, "NVIDIA A100D-7-80C", G(80), 0, 1, 1, 0},
                                                 {0}};
static const struct vgpu_type h200_types[] = {{1414, "NVIDIA H200X-1-18C", G(18), 19, 7, 1, 0},
                                              {1415, "NVIDIA H200X-1-18CME", G(18), 20, 1, 1, 0},
                                              {1416, "NVIDIA H200X-1-35C", G(35), 15, 4, 1, 0},
                                              {1417, "NVIDIA H200X-2-35C", G(35), 14, 3, 1, 0},
                                              {1418, "NVIDIA H200X-3-71C", G(72), 9, 2, 1, 0},
                                              {1419, "NVIDIA H200X-4-71C", G(72), 5, 1, 1, 0},
                                              {1420, "NVIDIA H200X-7-141C", G(144), 0, 1, 1, 0},
                                              {1425, "NVIDIA H200X-28C", G(28), -1, 5, 1, 4},
                                              {1426, "NVIDIA H200X-35C", G(35), -1, 4, 1, 4},
                                              {1427, "NVIDIA H200X-70C", G(70), -1, 2, 1, 2},
                                              {1428, "NVIDIA H200X-141C", G(141), -1, 1, 1, 1},
                                              {0}};
static const struct vgpu_type l40s_types[] = {
    {1145, "NVIDIA L40S-1B", G(1), -1, 32, 1, 32}, {1147, "NVIDIA L40S-1Q", G(1), -1, 32, 1, 32},
    {1148, "NVIDIA L40S-2Q", G(2), -1, 24, 1, 16}, {1152, "NVIDIA L40S-8Q", G(8), -1, 6, 1, 4},
    {1154, "NVIDIA L40S-16Q", G(16), -1, 3, 1, 2}, {1155, "NVIDIA L40S-24Q", G(24), -1, 2, 1, 2},
    {1156, "NVIDIA L40S-48Q", G(48), -1, 1, 1, 1}, {1166, "NVIDIA L40S-48A", G(48), -1, 1, 1, 1},
    {2164, "NVIDIA L40S-3B", G(3), -1, 16, 1, 15}, {0}};
static const struct vgpu_type a30_types[] = {
    {686, "NVIDIA A30-4C", G(4), -1, 6, 1, 0},    {689, "NVIDIA A30-24C", G(24), -1, 1, 1, 0},
    {690, "NVIDIA A30-1-6C", G(6), 14, 4, 1, 0},  {691, "NVIDIA A30-1-6CME", G(6), 21, 1, 1, 0},
    {692, "NVIDIA A30-2-12C", G(12), 5, 2, 1, 0}, {693, "NVIDIA A30-2-12CME", G(12), 6, 1, 1, 0},
    {694, "NVIDIA A30-4-24C", G(24), 0, 1, 1, 0}, {0}};
static const struct vgpu_type t4_types[] = {{222, "GRID T4-1B", G(1), -1, 16, 1, 0},
                                            {230, "GRID T4-1Q", G(1), -1, 16, 1, 0},
                                            {231, "GRID T4-2Q", G(2), -1, 8, 1, 0},
                                            {234, "GRID T4-16Q", G(16), -1, 1, 1, 0},
                                            {0}};
#define RTX "NVIDIA RTX Pro 6000 Blackwell "
static const struct vgpu_type rtx6000_types[] = {
    {1559, RTX "DC-1-8Q", G(8), 47, 12, 3, 0},  {1560, RTX "DC-1-12Q", G(12), 47, 8, 2, 0},
    {1561, RTX "DC-1-24Q", G(24), 47, 4, 1, 0}, {1562, RTX "DC-2-24Q", G(24), 35, 4, 2, 0},
    {1563, RTX "DC-2-48Q", G(48), 35, 2, 1, 0}, {1564, RTX "DC-4-48Q", G(48), 32, 2, 2, 0},
    {1565, RTX "DC-4-96Q", G(96), 32, 1, 1, 0}, {1570, RTX "DC-24Q", G(24), -1, 4, 1, 4},
    {1572, RTX "DC-96Q", G(96), -1, 1, 1, 1},   {0}};

static const struct board boards[] = {
    {"a100-40", "NVIDIA A100-PCIE-40GB", 0x20f1, 7, 40960, 8, 7, false, true, true, a100_40,
     a100_40_types},
    {"a100-80", "NVIDIA A100 80GB PCIe", 0x20b5, 7, 81920, 8, 7, false, true, true, a100_80,
     a100_80_types},
    {"h100-pcie", "NVIDIA H100 PCIe", 0x2331, 9, 81559, 8, 7, true, false, false, h100, h100_types},
    {"h200-sxm", "NVIDIA H200", 0x2335, 9, 143771, 8, 7, true, false, true, h200, h200_types},
    {"l40s", "NVIDIA L40S", 0x26b9, 8, 46068, 0, 0, true, false, false, NULL, l40s_types},
    {"rtx6000", "NVIDIA RTX PRO 6000 Blackwell Server Edition", 0x2bb5, 10, 97887, 12, 4, true,
     false, false, rtx6000, rtx6000_types},
    {"a30", "NVIDIA A30", 0x20b7, 7, 24576, 4, 4, false, true, true, a30, a30_types},
    {"t4", "Tesla T4", 0x1eb8, 6, 15360, 0, 0, false, false, false, NULL, t4_types},
};

const struct board *board_find(const char *key)
{
    for (size_t i = 0; i < sizeof boards / sizeof boards[0]; i++) {
        if (strcmp(boards[i].key, key) == 0)
            return &boards[i];
    }
    return NULL;
}

const struct gi_profile *board_profile(const struct board *board, unsigned id)
{
    for (const struct gi_profile *p = board->profiles; p && p->name; p++) {
        if (p->id == id)
            return p;
    }
    return NULL;
}

const struct vgpu_type *board_type(const struct board *board, unsigned id)
{
    for (const struct vgpu_type *t = board->types; t->name; t++) {
        if (t->id == id)
            return t;
    }
    return NULL;
}
