/* SPDX-License-Identifier: Apache-2.0 */
/* One instant over several machines: stop all, switch all disks, resume all.
 * A guard process (atoll-guard) resumes everybody if we die in between. */
#pragma once
#include "qemu/block.h"

struct at_cut_disk {
    unsigned index;
    unsigned live_gen; /* now */
    unsigned next_gen; /* prepared by at_block_overlay_create; added to the machine here */
};
struct at_cut_machine {
    const char *name; /* for messages */
    const char *dir;
    const struct at_cut_disk *disks;
    unsigned n_disks;
    bool was_paused; /* stays paused afterwards */
    /* results, also on failure */
    bool switched;      /* its disks write to next_gen now */
    bool uncertain;     /* QEMU died or hangs: it may have switched (then @switched is true): count
                         * the overlay as part of the chain until at_block_live_gen() says no */
    int64_t stopped_us; /* monotonic: it stopped (QEMU's STOP event); 0 when it did not */
    int64_t resumed_us; /* monotonic: it ran again (RESUME event) */
};
struct at_cut_result {
    double pause_ms; /* first stop sent to last machine resumed (QEMU's RESUME event) */
    double skew_ms;  /* first machine stopped to last machine stopped */
};

/* Path of the guard program (installed beside atolld). Called once at start; the path is copied.
 */
void at_cut_set_guard(const char *path);

/* All or nothing: on failure every machine runs again, on its old disks where that was possible;
 * `switched` tells for each machine where an overlay stayed on top (harmless: it is empty or has
 * what was written since; the caller records it and the next seal merges it). Where it is false the
 * prepared overlay is not in use and its file may be removed.
 * @check (may be NULL) is called after preparing and before stopping: is the image server alive?
 * (With a dead one `stop` hangs, because QEMU drains the disks first.)
 * @deadline_ms for the whole pause (default 10 s when 0). Blocks; any thread.
 * Nothing is durable by this; record the intent before, and the outcome after. After a crash of
 * the caller the machines run (the guard saw to it), and at_block_live_gen() tells which switched.
 * Errors: UNAVAILABLE (a machine is not running, or the guard does not start: nothing was
 * stopped), TIMEOUT, PEER, or @check's own. */
bool at_cut_run(struct at_cut_machine *machines, unsigned n, bool (*check)(void *, GError **error),
                void *user, int deadline_ms, struct at_cut_result *ret_result, GError **error);
