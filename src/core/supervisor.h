/* SPDX-License-Identifier: Apache-2.0 */
/* Watches running machines: their process, their events, their health; restarts by policy,
 * continues guests that stopped on an I/O error. Also the lock that serialises whoever changes a
 * machine's process or block graph. */
#pragma once
#include "base/process.h"
#include "core/core-internal.h"

struct at_supervisor *at_supervisor_new(struct at_core *core);
void at_supervisor_free(struct at_supervisor *supervisor);
struct at_machine_locks *at_machine_locks_new(void);
void at_machine_locks_free(struct at_machine_locks *locks);

/* Guards, per machine: starting, stopping, cutting, rebasing, and the machine's disks in the
 * catalog. Held by worker threads only, never across a wait for a person. In the order of machine
 * ids when several are taken. */
void at_machine_lock(struct at_core *core, const char *id);
void at_machine_unlock(struct at_core *core, const char *id);

/* From now on the process is watched. Opens monitor `a`: any worker thread, under the lock. */
bool at_supervise(struct at_core *core, const at_mach *mach, const at_vdc *vdc,
                  const struct at_process *process, GError **error);
/* The process has ended unwatched: told as a crash, and shown as one until the next start. The
 * caller decides on a restart. Main thread. */
void at_supervise_ended(struct at_core *core, const at_mach *mach, const at_vdc *vdc,
                        const struct at_process *process);
/* @expected: the next end of the process is wanted, no restart; false takes that back. */
void at_supervise_expect_exit(struct at_core *core, const char *id, bool expected);
/* The machine is gone for good: nothing is kept of it. Any thread; does not wait. */
void at_supervise_forget(struct at_core *core, const char *id);
/* Health checks, restart policy were changed. */
void at_supervise_update(struct at_core *core, const at_mach *mach, const at_vdc *vdc);
/* True and the process when the machine runs. Any thread. */
bool at_machine_process(struct at_core *core, const char *id, struct at_process *ret_process);

struct at_machine_status {
    const char *state;  /* running | paused | stopped | crashed */
    bool io_stopped;    /* paused because its disk does not answer; goes on by itself */
    const char *health; /* healthy | unhealthy | unknown | none */
    char health_reason[160];
    pid_t pid;
    const char *accel;
};
void at_machine_status(struct at_core *core, const char *id, struct at_machine_status *ret_status);
