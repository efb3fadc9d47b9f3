/* SPDX-License-Identifier: Apache-2.0 */
/* What may be on one card at the same time. A board is a card's profiles in a compact form, made
 * once for all cards that are alike; a slot is one card with what is taken of it. Slots change and
 * change back in constant time and without memory, so that the planner can try.
 *
 * The rules:
 * - passthrough is alone; parts of different kinds (MIG-backed, time-sliced, VF) exclude each
 * other;
 * - MIG: an instance begins where its profile may, memory slices do not overlap, compute slices
 *   add up to no more than the grid has, each GI profile has its maximum, and of one group of media
 *   engines there is one instance. vGPUs of one size and GI profile share an instance while it has
 *   room;
 * - time-sliced: of one size as many as its maximum. Of several sizes, where the card can mix them,
 *   each at most max_mixed; one of them then takes 1/max_mixed of the card, because the driver
 * gives it a place of that size;
 * - a vGPU or VF needs a virtual function, where the card has them.
 * Every part of a set that may be can also be alone, so the order of taking does not matter. */
#pragma once
#include "gpu/placement.h"

#define AT_GPU_SLICES 32 /* of the largest grid */
#define AT_GPU_ALL_SHARES (UINT64_C(1) << 32)
#define AT_GPU_MANY 0xffff /* no count goes beyond */
#define AT_GPU_MEMO 1024   /* worths that a board remembers; a power of two */

/* Parts that are counted together: of one kind, GI profile and memory. */
struct at_gpu_size {
    uint64_t memory;
    unsigned max, max_mixed, per_gi;
    uint64_t share; /* of AT_GPU_ALL_SHARES, when sizes are mixed */
    uint8_t kind, gi;
};

struct at_gpu_gi {
    uint32_t starts, span; /* span: as many low bits as it has slices */
    uint32_t media;        /* a bit, or 0 */
    unsigned id, max;
    uint8_t slices, compute;
    bool twin; /* an earlier one has the same shape */
};

struct at_gpu_part {
    uint64_t memory;
    uint32_t starts;
    uint8_t kind, isolation, size, gi, slices, compute;
    bool usable; /* its description makes sense */
};

struct at_gpu_worth {
    uint32_t taken, worth;
    uint16_t compute; /* + 1; 0: empty */
};

struct at_gpu_board {
    const struct at_gpu_card *card;      /* the first of its kind */
    const struct at_gpu_profile **names; /* of the parts, in the order of the card's profiles */
    struct at_gpu_part *parts;
    struct at_gpu_size *sizes;
    struct at_gpu_gi *gis;
    unsigned n_parts, n_sizes, n_gis;
    unsigned grid, compute, vfs;
    uint64_t capacity; /* memory for time-sliced parts */
    bool mixes;
    uint8_t *index; /* hash of names: part + 1 */
    unsigned index_mask;
    struct at_gpu_worth *memo;
    /* For who collects boards. */
    struct at_gpu_board *next;
    unsigned number;
};

struct at_gpu_board *at_gpu_board_new(const struct at_gpu_card *card);
void at_gpu_board_free(struct at_gpu_board *board);
/* Whether @card is like the one the board was made from, in all that counts for placing. */
bool at_gpu_board_is(const struct at_gpu_board *board, const struct at_gpu_card *card);
/* Index of the part of that name, or -1. */
int at_gpu_board_part(const struct at_gpu_board *board, const char *name);

struct at_gpu_slot_instance {
    uint8_t gi; /* + 1; 0: none begins here; 255: of a profile that is not known */
    uint8_t size;
    uint16_t n : 15;
    uint16_t foreign : 1; /* was there before, made by nobody here */
};

struct at_gpu_slot {
    struct at_gpu_board *board;
    uint16_t *count; /* per size, then per GI profile; at_gpu_slot_counts() of them */
    uint64_t memory, share;
    uint32_t taken, media;
    uint16_t n, compute;
    uint16_t foreign; /* instances that nobody here made */
    uint8_t kind;     /* of what is taken */
    struct at_gpu_slot_instance at[AT_GPU_SLICES];
};

static inline unsigned at_gpu_slot_counts(const struct at_gpu_board *board)
{
    return board->n_sizes + board->n_gis;
}

/* As many low bits as there are slices. */
static inline uint32_t at_gpu_span(unsigned slices)
{
    return slices >= AT_GPU_SLICES ? UINT32_MAX : (UINT32_C(1) << slices) - 1;
}

static inline bool at_gpu_slot_busy(const struct at_gpu_slot *slot)
{
    return slot->n || slot->foreign;
}

enum at_gpu_fit {
    AT_GPU_FITS,
    AT_GPU_MISFIT_UNUSABLE, /* the profile's description makes no sense */
    AT_GPU_MISFIT_KIND,     /* the card is used in another way */
    AT_GPU_MISFIT_COUNT,    /* the maximum of this profile */
    AT_GPU_MISFIT_VFS,      /* no virtual function is left */
    AT_GPU_MISFIT_MEMORY,
    AT_GPU_MISFIT_SIZES, /* the card does not mix sizes, or not these */
    AT_GPU_MISFIT_START, /* the profile cannot begin there */
    AT_GPU_MISFIT_TAKEN, /* the slices are taken */
    AT_GPU_MISFIT_COMPUTE,
    AT_GPU_MISFIT_GI, /* the maximum of the GI profile */
    AT_GPU_MISFIT_MEDIA,
    AT_GPU_MISFIT_INSTANCE, /* the instance there is full, or has vGPUs of another size */
};
const char *at_gpu_fit_text(enum at_gpu_fit fit); /* ends "cannot be beside the rest: ..." */

/* Whether one more part fits; @start counts for MIG-backed ones only. */
enum at_gpu_fit at_gpu_slot_fit(const struct at_gpu_slot *slot, unsigned part, unsigned start);
/* Takes what fits; gives back what was taken. */
void at_gpu_slot_take(struct at_gpu_slot *slot, unsigned part, unsigned start);
void at_gpu_slot_drop(struct at_gpu_slot *slot, unsigned part, unsigned start);
/* Marks the MIG instances of the card that belong to nothing that is taken: they keep their slices,
 * but a vGPU of their GI profile can go into them. */
void at_gpu_slot_see_instances(struct at_gpu_slot *slot, const struct at_gpu_card *card);

/* What instances could still be cut of the grid: first how large the largest is, then how many
 * places there are, large ones counting more. */
#define AT_GPU_LARGEST_SHIFT 16 /* above: slices of the largest; below: the places */
uint32_t at_gpu_slot_worth(const struct at_gpu_slot *slot);
/* The same as if one more instance were there. */
uint32_t at_gpu_slot_worth_with(const struct at_gpu_slot *slot, const struct at_gpu_part *part,
                                unsigned start);
