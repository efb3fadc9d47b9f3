/* SPDX-License-Identifier: Apache-2.0 */
/* IOMMU groups: the unit that the kernel gives away. */
#pragma once
#include "gpu/gpu.h"

/* What is in the group of the function @of beside it, by address: struct at_gpu_neighbour* without
 * their names, with free func; at most @max. NULL when it is in no group. Any thread. */
GPtrArray *at_gpu_group_read(const struct at_gpu_paths *paths, const char *of, unsigned max);

/* The same with the function itself first. UNAVAILABLE without an IOMMU, with what to do. */
GPtrArray *at_gpu_group_members(const struct at_gpu_paths *paths, const char *address,
                                GError **error);

/* UNAVAILABLE when a function that does not go with the card is in the way; names it. With @alone
 * nothing but bridges may be beside it. @members: of at_gpu_group_members(). Functions without a
 * driver, or with one that lets go (gpu/function.h), are not in the way. */
bool at_gpu_group_viable(const GPtrArray *members, const char *address, bool alone, GError **error);
