/* SPDX-License-Identifier: Apache-2.0 */
/* Names of vGPU types, which have a grammar (the one of NVIDIA's vgpu-device-manager):
 *   time-sliced  <board>-<GB><series>             "L40S-48Q", "RTX6000-Ada-24Q"
 *   MIG-backed   <board>-<slices>-<GB><series>[suffix]  "H100-1-10CME"
 * Series: A (apps), B (PC), C (compute), Q (workstation). Suffixes are those of the MIG profile: ME
 * (media engines), NOME, MEALL, GFX; old time-sliced types can end in 4 (displays): "T4-2B4". */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct at_vgpu_name {
    char board[64];     /* "H100", "RTX Pro 6000 Blackwell DC" */
    unsigned slices;    /* compute slices of its MIG instance; 0: time-sliced */
    unsigned gigabytes; /* of memory, rounded; 0: half of one */
    char series;        /* 'A', 'B', 'C' or 'Q' */
    char suffix[8];     /* "ME", or "" */
};

/* False when @name, with or without the driver's prefix, is no such name. */
bool at_vgpu_name_parse(const char *name, struct at_vgpu_name *ret);
/* @name behind "NVIDIA " or "GRID "; borrowed. */
const char *at_vgpu_name_strip(const char *name);
/* Bytes of memory that the name speaks of. */
uint64_t at_vgpu_name_memory(const struct at_vgpu_name *name);
