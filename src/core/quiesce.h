/* SPDX-License-Identifier: Apache-2.0 */
/* The file systems of running guests, frozen for a capture. A guest whose agent is dead or hostile
 * costs at most the deadline, and is told of. Worker threads; blocks. */
#pragma once
#include "core/core-internal.h"
#include "core/job.h"

struct at_freezer {
    struct at_core *core;
    const at_mach *mach;
    struct at_agent *agent; /* open and frozen */
    char *reason;           /* why not; of a thaw: why it failed */
};

/* Each of @freezers that has a machine: afterwards either its agent is open and the file systems
 * are frozen, or its reason says why not. */
void at_quiesce_freeze(struct at_freezer *freezers, unsigned n);
/* Those that are frozen, or (@all) that have a machine; what fails becomes a note of @job and a
 * line of the log. Their reasons must be cleared before. */
void at_quiesce_thaw(struct at_job *job, struct at_freezer *freezers, unsigned n, bool all);
