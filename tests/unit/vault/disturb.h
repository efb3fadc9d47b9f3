/* SPDX-License-Identifier: Apache-2.0 */
/* Running the life of a vault (life.h) in a process whose I/O goes through the shim (io-shim.c). */
#pragma once
#include "life.h"

struct world {
    char *dir;   /* of the test */
    char *disk;  /* what the shim looks at: dir/disk */
    char *vault; /* dir/disk/state/vault */
    char *marks, *log, *met;
};
void world_open(struct world *w);
void world_close(struct world *w); /* removes everything */

struct disturbance {
    bool again;        /* the life after another one's death */
    bool record;       /* into world.log */
    const char *fault; /* ATOLL_IO_FAULT */
    const char *kinds, *only;
    const char *plan; /* ATOLL_FAULT, see base/fault.h */
};
/* Gives the exit status, 137 when killed.  The program is this one; see disturb_child(). */
int disturb(const struct world *w, const struct disturbance *d);
/* Whether the fault was met since the world was opened; where, if @ret_where. */
bool disturb_met(const struct world *w, char **ret_where);
/* What has been promised by all that was written so far. */
struct life_promise *disturb_promise(const struct world *w);

/* To be called first in main(): true when this is the process that lives, and it is done. */
bool disturb_child(int argc, char **argv);

/* How much of a long loop is done here: 1 with g_test_slow() or ATOLL_LONG, else @step. */
unsigned disturb_step(unsigned step);
