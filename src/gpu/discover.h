/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the GPUs of this host: PCI functions of the classes 0x0300 (VGA), 0x0302 (3D), 0x0380
 * (other display) and 0x1200 (accelerator) that are not VFs, by sysfs and, where the vendor's
 * driver is loaded, by its library. What cannot be read is unknown, with the reason; nothing is
 * guessed. */
#pragma once
#include "gpu/gpu.h"
#include "gpu/nvml.h"

/* All cards in the order of their addresses: struct at_gpu_card*, with free func.
 * @nvml  may be NULL; then @why says why there is none (a line, or NULL)
 * Any thread; blocks (reads small files, asks the library). IO when sysfs itself cannot be read. */
GPtrArray *at_gpu_discover(const struct at_gpu_paths *paths, struct at_nvml *nvml, const char *why,
                           GError **error);

/* Calls @func on the thread-default main context when a function appeared, went, or changed its
 * driver; several changes within a second become one call. NULL with UNAVAILABLE where the kernel
 * sends no events (the inventory is still read on demand). */
struct at_gpu_watch;
struct at_gpu_watch *at_gpu_watch_new(void (*func)(void *user), void *user, GError **error);
void at_gpu_watch_free(struct at_gpu_watch *watch);
