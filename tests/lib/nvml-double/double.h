/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of NVML's double: boards, the state, and what a call begins and ends with. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "lib/nvml-double/nvml-types.h"

/* ---- boards ---- */
struct gi_profile {
    unsigned index, id;
    const char *name;
    unsigned memory_mb, sm, slices, count, size;
    uint32_t starts; /* bit n: may begin at memory slice n */
    bool media;      /* of these only one can exist */
};
struct vgpu_type {
    unsigned id;
    const char *name;
    unsigned memory_mb;
    int gi_profile; /* -1: time-sliced */
    unsigned max, per_gi, max_mixed;
};
struct board {
    const char *key, *name;
    unsigned pci_device, architecture, memory_mb, grid, compute;
    bool mixes;      /* sizes of time-sliced vGPUs */
    bool resets;     /* MIG mode changes by a reset of the card (Ampere) */
    bool mig_prefix; /* its profiles are called "MIG 1g..." */
    const struct gi_profile *profiles;
    const struct vgpu_type *types;
};
const struct board *board_find(const char *key);
const struct gi_profile *board_profile(const struct board *board, unsigned id);
const struct vgpu_type *board_type(const struct board *board, unsigned id);

/* ---- the state ---- */
enum { CARDS = 16, THINGS = 64, FAILS = 32 };
struct card {
    char address[16];
    const struct board *board;
    char uuid[48], serial[32];
    unsigned mig, pending, generation, mixed, lost;
    unsigned guest; /* in a guest it cannot be reset: MIG mode stays pending */
    unsigned vfs;   /* enabled VFs keep MIG mode as it is */
    unsigned temperature, power, limit, gpu, memory, used; /* used: MiB */
    unsigned corrected, uncorrected, rows_c, rows_u, rows_pending, rows_failed;
};
struct instance {
    char address[16];
    unsigned id, profile, start;
};
struct compute {
    char address[16];
    unsigned gi, id, profile;
};
struct process {
    char address[16];
    unsigned pid;
    unsigned long long bytes;
    int gi;
    char kind;
};
struct vgpu {
    char address[16];
    unsigned type;
    int gi;
};
struct event {
    char address[16];
    unsigned xid;
};
struct fail {
    char function[64];
    int code;
    unsigned after, times;
    bool spent;
};
struct state {
    char driver[80], nvml[80];
    int cuda;
    unsigned host;
    struct card cards[CARDS];
    struct instance gis[THINGS];
    struct compute cis[THINGS];
    struct process processes[THINGS];
    struct vgpu vgpus[THINGS];
    struct event events[THINGS];
    struct fail fails[FAILS];
    unsigned n_cards, n_gis, n_cis, n_processes, n_vgpus, n_events, n_fails;
    bool changed;
};
/* Under the lock of the file @fd. */
bool state_read(int fd, struct state *state);
void state_write(int fd, const struct state *state);

/* ---- calls ---- */
extern struct state state; /* between enter() and leave() */
int enter(const char *function);
int leave(int result);

/* One pointer for one meaning, as long as the process lives. */
enum kind { DEVICE = 1, GPU_INSTANCE, COMPUTE_INSTANCE };
struct handle {
    enum kind kind;
    char address[16];
    unsigned generation, gi, ci;
};
struct handle *handle_of(enum kind kind, const struct card *card, unsigned gi, unsigned ci);
/* OK with the card; INVALID for a handle that is none, or of before a reset; IS_LOST. */
int card_of(const struct handle *handle, enum kind kind, struct card **ret);
struct card *find_card(const char *address);
unsigned instances_of(const struct card *card);
struct instance *find_gi(const char *address, unsigned id);
/* For two-call lists of numbers. */
int give_list(const unsigned *list, unsigned n, unsigned *count, unsigned *ret);
#define VERSION(type, n) ((unsigned)(sizeof(type) | ((unsigned)(n) << 24)))
/* Whether an instance of the profile has room at @start now. */
bool gi_fits(const struct card *card, const struct gi_profile *profile, unsigned start);
