/* SPDX-License-Identifier: Apache-2.0 */
/* A site with GPUs for tests of core: a catalog in memory, a tree of files in place of the host,
 * and the double of NVIDIA's library. */
#pragma once
#include "core/gpu.h"
#include "lib/at-test.h"
#include "lib/gpu-tree.h"
#include "lib/nvml-double/nvml-state.h"

#define CARD "0000:41:00.0"
#define OTHER "0000:81:00.0"
#define MACHINE "01234567"

struct gpu_site {
    struct at_core core;
    struct gpu_tree *tree;
    const char *state; /* of the double */
};

/* A site with the H100 CARD and four VFs; @cards: more lines for the double's state. */
struct gpu_site *gpu_site_new(const char *cards);
void gpu_site_free(struct gpu_site *site);
void gpu_site_scan(struct gpu_site *site);

/* What the last scan found at the address, and its record. */
const struct at_gpu_card *gpu_site_card(struct gpu_site *site, const char *address);
at_gpu_rec *gpu_site_rec(struct gpu_site *site, const char *address);

/* "team/tune" holds that of the card, as @asked, from @start on; @machine: MACHINE, or another. It
 * counts as attached. With its MIG instance, when it has one. */
struct held {
    const char *holder, *machine, *profile, *asked;
    unsigned start, instance; /* 0: none is made */
    bool keep;
};
void gpu_site_hold(struct gpu_site *site, const char *address, const struct held *held);
void gpu_site_quarantine(struct gpu_site *site, const char *address);

/* A VDC with one workstation for each list of requests: names a, b, ... ("tune" when it is one). */
struct at_definition *gpu_site_def(const char *vdc, const char *policy, const char *const *wants);
