/* SPDX-License-Identifier: Apache-2.0 */
/* Starting machines again. A request is kept until the machine runs or is not wanted any more: it
 * was stopped, deleted, replaced by a restore. It waits while a job works on the VDC; a start that
 * fails is tried more and more slowly, once only with the policy `never`. One request per machine,
 * the newest counts. Main thread. */
#pragma once
#include "core/core-internal.h"

struct at_restarts *at_restarts_new(struct at_core *core);
void at_restarts_free(struct at_restarts *restarts);

/* @apply_policy  its end was not seen and the policy is still to be applied: with `never` it is not
 *                wanted any more. Otherwise that has been decided. */
void at_restart_request(struct at_core *core, const char *machine_id, bool apply_policy,
                        unsigned delay_ms);
/* The same where no request waits already. Any thread; returns when it is made. */
void at_restart_ensure(struct at_core *core, const char *machine_id);
void at_restart_forget(struct at_core *core, const char *machine_id);

/* Applies the policies that are still to be applied, where no job works on the VDC; before anything
 * else is started. */
void at_restart_settle(struct at_core *core);

/* The end of a process that nobody asked for: by the policy it is wanted again, or not any more. */
void at_restart_decide(struct at_core *core, const char *machine_id, const char *policy,
                       bool crashed, int64_t started_us);
