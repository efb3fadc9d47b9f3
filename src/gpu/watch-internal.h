/* SPDX-License-Identifier: Apache-2.0 */
/* The half of the watch that makes one call of many changes, without the kernel's events. */
#pragma once
#include "gpu/discover.h"

/* A watch that hears nothing by itself; calls come @delay_ms after the first change. */
struct at_gpu_watch *at_gpu_watch_deaf(void (*func)(void *user), void *user, unsigned delay_ms);
/* A change was heard of. */
void at_gpu_watch_hear(struct at_gpu_watch *watch);
/* Whether a call is to come. */
bool at_gpu_watch_pending(const struct at_gpu_watch *watch);
