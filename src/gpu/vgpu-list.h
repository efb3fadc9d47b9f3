/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the lists of vGPU types that NVIDIA's kernel driver writes in text. Lines that do not
 * mean anything are passed over; nothing is trusted to end. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum { AT_VGPU_TYPES_MAX = 512 }; /* of one list */

struct at_vgpu_type {
    unsigned id;
    char *name;      /* without "NVIDIA " or "GRID " */
    uint64_t memory; /* 0: not said */
    unsigned max;    /* on one card; 0: not said */
};
void at_vgpu_type_clear(struct at_vgpu_type *type);
GArray *at_vgpu_types_new(void); /* of struct at_vgpu_type, cleared with it */
/* Whether one of them has this id. */
bool at_vgpu_types_have(const GArray *types, uint64_t id);

/* Adds what nvidia/creatable_vgpu_types of a VF lists, "1145  : NVIDIA L40S-1B" a line, with or
 * without the heading "ID    : vGPU Name", to @types; an id that is in it already is not added. */
void at_vgpu_creatable_parse(const char *text, GArray *types);

/* The description of a type under mdev_supported_types: "num_heads=4, framebuffer=4864M,
 * max_instance=7", in any order. What it does not say stays as it is in @type. */
void at_vgpu_description_parse(const char *text, struct at_vgpu_type *type);
