/* SPDX-License-Identifier: Apache-2.0 */
/* Which ways to reset a function are enough between two holders, and what else they hit. */
#pragma once
#include "gpu/gpu.h"

/* Whether one of @methods (of reset_method, NULL-terminated) is more than power management: the
 * move between D3hot and D0 resets what the device likes, and its memory it may keep (PCI Power
 * Management 1.2, section 5.4; No_Soft_Reset). */
bool at_gpu_reset_clears(const char *const *methods);

/* Whether none of @methods is of the function alone: what clears resets the bus, and hits all on
 * it. The kernel then refuses to reset one function where there are several, and VFIO's hot reset
 * does it. False when @methods clears nothing, or the kernel does not say which there are. */
bool at_gpu_reset_by_bus(const char *const *methods);

/* What is on the bus of @address and does not go with it, so that the bus cannot be reset for its
 * sake: "0000:04:01.0 (IOMMU group 9, driver igb)"; NULL: nothing. Newly allocated. Any thread. */
char *at_gpu_reset_strangers(const struct at_gpu_paths *paths, const char *address);
