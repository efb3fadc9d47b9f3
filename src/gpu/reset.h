/* SPDX-License-Identifier: Apache-2.0 */
/* Which ways to reset a function are enough between two holders. */
#pragma once
#include <stdbool.h>

/* Whether one of @methods (of reset_method, NULL-terminated) is more than power management: the
 * move between D3hot and D0 resets what the device likes, and its memory it may keep (PCI Power
 * Management 1.2, section 5.4; No_Soft_Reset). */
bool at_gpu_reset_clears(const char *const *methods);
