/* SPDX-License-Identifier: Apache-2.0 */
/* The noisy neighbour: of two guests that have parts of one card, one measures alone and then
 * beside the other, which fills all memory that it gets and hogs bandwidth. Both run
 * `atoll-gpu-load`, which is brought in by their guest agents and removed again. */
#pragma once
#include <gio/gio.h>
#include <stdbool.h>

#include "gpu/isolation-test.h"

struct at_neighbour_guest {
    const char *name; /* vdc/workstation, for messages */
    const char *agent_socket;
};

struct at_neighbour_plan {
    const char *program; /* atoll-gpu-load on this host */
    struct at_neighbour_guest victim, neighbour;
    enum at_gpu_isolation isolation;              /* the weaker of what both have */
    double measure_s;                             /* of each of the victim's runs, seconds */
    double load_s;                                /* of the neighbour's load, several times that */
    GCancellable *cancellable;                    /* or NULL */
    void (*progress)(double percent, void *user); /* or NULL */
    void *user;
};

/* Adds the check "noisy neighbour" to @checks: failed when memory of the victim was changed or seen
 * by the neighbour, or when hardware should have kept the victim's bandwidth and it fell below 90
 * %; not tested, with the reason, when a guest or its agent does not play along. False only when
 * cancelled; then the loads end by themselves. Worker thread; blocks for about @load_s and four
 * times @measure_s. */
bool at_neighbour_measure(const struct at_neighbour_plan *plan, GPtrArray *checks, GError **error);
