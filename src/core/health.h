/* SPDX-License-Identifier: Apache-2.0 */
/* Health checks of one running machine: asked in a thread pool, judged on the main loop. */
#pragma once
#include "core/core-internal.h"

struct at_health;
struct at_health *at_health_new(struct at_core *core, const at_mach *mach, const at_vdc *vdc,
                                const struct at_def_workstation *ws);
/* Checks that are still under way end by themselves. */
void at_health_free(struct at_health *health);
/* Starts what is due. Main thread; does not block. */
void at_health_tick(struct at_health *health, bool paused);
/* "none" for NULL; unknown until every check has answered once. */
void at_health_view(const struct at_health *health, const char **ret_state, char *reason,
                    size_t cap);
