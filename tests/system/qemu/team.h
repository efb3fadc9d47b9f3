/* SPDX-License-Identifier: Apache-2.0 */
/* A few tiny guests with two disks each that write all the time, on a base that nbdkit serves: for
 * tests and benches of what happens below a running guest. Works with and without GTest. They die
 * with the process that made them. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/process.h"
#include "qemu/cut.h"

enum { TEAM_MAX = 4, TEAM_DISKS = 2, TEAM_DATA_BYTES = 64 << 20 };

struct team_member {
    char *dir;
    char *name;
    struct at_process process;
    char *roots[TEAM_DISKS]; /* base of each disk; NULL: none */
    unsigned gen;            /* live one, of all its disks */
};
struct team {
    char *dir, *exports, *socket;
    struct at_process nbdkit;
    int reaper_fd;
    struct team_member members[TEAM_MAX];
    unsigned n;
};

/* @image: the tiny guest. Starts the server and @n machines, without waiting for the guests.
 * False with the reason; then nothing is left. */
bool team_start(struct team *team, const char *image, unsigned n, GError **error);
void team_end(struct team *team);

/* Starts one more machine on copies of layer @gen of member @of and what is below. */
bool team_start_copy(struct team *team, unsigned of, unsigned gen, GError **error);

/* The guest's console. */
char *team_console(const struct team_member *member);

/* True once all guests write, with no error so far. */
bool team_loaded(const struct team *team);

/* A new layer on everything, at one instant. */
bool team_cut(struct team *team, struct at_cut_result *ret_result, GError **error);

/* Merges what is below the live layers into new bases and takes it out of the running machines. */
bool team_seal(struct team *team, GError **error);
