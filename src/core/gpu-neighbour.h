/* SPDX-License-Identifier: Apache-2.0 */
/* The noisy neighbour: of two guests that have parts of one card, one measures alone, then beside
 * the other, which fills all memory that it gets and hogs bandwidth, and then alone again. Both run
 * `atoll-gpu-load`, which is brought in by their guest agents and removed again. */
#pragma once
#include <gio/gio.h>
#include <stdbool.h>

#include "gpu/isolation-test.h"

#define AT_NEIGHBOUR_CHECK "noisy neighbour"

struct at_neighbour_guest {
    const char *name; /* vdc/workstation, for messages */
    const char *agent_socket;
    enum at_gpu_isolation isolation; /* of its part; what is promised to the victim is judged */
};

struct at_neighbour_plan {
    const char *program; /* atoll-gpu-load on this host; it need not be there */
    const char *name;    /* of the directories in the guests: 16 hexadecimal digits, random */
    bool again;          /* an earlier daemon may have left them, and loads that still run */
    struct at_neighbour_guest victim, neighbour;
    double measure_s;                             /* of each of the victim's runs, seconds */
    double load_s;                                /* of the neighbour's load, several times that */
    double slack_s;                               /* that each may take longer; 0: a minute */
    GCancellable *cancellable;                    /* or NULL */
    void (*progress)(double percent, void *user); /* or NULL */
    void *user;
};

/* Adds the check AT_NEIGHBOUR_CHECK to @checks, by the rules of gpu-neighbour-judge.h: also when
 * the program is missing, or a guest or its agent does not play along. False only when cancelled.
 * On return the loads have been told to end, by removing their program, and mostly have.
 * Worker thread; blocks for about @load_s and six times @measure_s, when guests hang up to @load_s
 * and thrice @slack_s. */
bool at_neighbour_measure(const struct at_neighbour_plan *plan, GPtrArray *checks, GError **error);
