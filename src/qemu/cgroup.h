/* SPDX-License-Identifier: Apache-2.0 */
/* A control group of its own for each machine, where the host offers one: the unified hierarchy, or
 * the separate ones of version 1. They keep a machine that went wild from taking the host along.
 * Groups are <root>/atoll-<site>/<machine>; with no machine left the site's group goes too. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Makes the groups (existing ones are used again) and sets the limits: @memory plus what QEMU
 * itself needs, a number of tasks, a CPU weight by @cpus. Both ids are 8 hex digits.
 * @ret_list  directories for struct at_spawn: NUL-separated, an empty one last; newly allocated
 * False with UNAVAILABLE and the reason when the host offers none that can be used: the machine
 * then runs without. Nothing is left behind in that case. */
bool at_cgroup_make(const char *site_id, const char *machine_id, unsigned cpus, uint64_t memory,
                    char **ret_list, GError **error);

/* Makes a group and removes it again. "v2", "v1", or "none" and the reason, newly allocated. */
const char *at_cgroup_probe(const char *site_id, char **ret_reason);
/* The hierarchy that the host offers, without a try. */
const char *at_cgroup_kind(void);

/* Removes the groups; missing ones are fine. CONFLICT while a process is left in one. */
bool at_cgroup_remove(const char *site_id, const char *machine_id, GError **error);

/* What QEMU may use beside the memory of its guest: translated code, caches, graphics. */
uint64_t at_cgroup_overhead(uint64_t memory);
