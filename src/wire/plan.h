/* SPDX-License-Identifier: Apache-2.0 */
/* What applying a definition over another would change, in words for an operator, in the order in
 * which it is told: networks, volumes, workstations and their parts, restarts last.
 * Live on a running VDC: published ports, isolated, NAT, health, restart policy, new networks and
 * new workstations. A workstation must be started anew for cpus, memory, accel, disks, NICs and
 * volumes. */
#pragma once
#include "wire/definition.h"

struct at_change {
    const char *action; /* create | change | delete | restart (static text) */
    char *what;         /* "workstation retrieval", "network lab", "VDC rag-team" */
    char *detail;       /* "memory 1 GiB -> 2 GiB" */
    char *workstation;  /* the one it concerns, or NULL */
    bool needs_restart; /* of @workstation, when it runs */
    bool deletes_data;
};

/* The changes from @before (NULL: nothing exists yet) to @after; empty when they are equal. The
 * name of the VDC is not compared. Free with g_ptr_array_unref().
 * NULL with CONFLICT for what cannot be done in place: a disk or writable volume that would shrink
 * or get another image, a writable volume made read-only. A size that is not given (0) means "as it
 * is"; a size given first for a disk that had its image's is reported as a change, and whoever
 * knows the image checks that it does not shrink. @ret_pointer (may be NULL) as in
 * at_definition_parse(), a place in @after. Any thread. */
GPtrArray *at_plan_changes(const struct at_definition *before, const struct at_definition *after,
                           char **ret_pointer, GError **error);

/* {"changes": [{action, what, detail, needs_restart, deletes_data}]}; with no change one entry with
 * action "none". */
JsonNode *at_plan_to_json(const GPtrArray *changes, const char *vdc);
