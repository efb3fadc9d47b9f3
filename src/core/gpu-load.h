/* SPDX-License-Identifier: Apache-2.0 */
/* `atoll-gpu-load` in one guest: brought in, started, asked, and taken away, by the guest's agent.
 * The order: init, bring, then any number of start and look, take_away, clear. All calls block;
 * errors name the guest and are those of qemu/agent-exec.h. */
#pragma once
#include "core/gpu-neighbour-judge.h"

struct at_gpu_load {
    const struct at_neighbour_guest *guest;
    const char *role;    /* "victim" or "neighbour" */
    char *dir, *program; /* in the guest */
    bool made;           /* the directory may be there */
    int64_t pid;         /* of the run that may go on; -1: none */
};

/* @guest and @role are borrowed. @name: as in struct at_neighbour_plan. */
void at_gpu_load_init(struct at_gpu_load *load, const struct at_neighbour_guest *guest,
                      const char *role, const char *name);
void at_gpu_load_clear(struct at_gpu_load *load);

/* Makes a directory that only root may enter and writes the program into it. @again: removes first
 * what an earlier daemon has left, which ends the loads that it had started. After a failure
 * at_gpu_load_take_away() removes what there is. */
bool at_gpu_load_bring(struct at_gpu_load *load, GBytes *program, bool again, GError **error);

/* @run begins. */
bool at_gpu_load_start(struct at_gpu_load *load, const char *token, double seconds,
                       struct at_neighbour_run *run, GError **error);

/* Whether it has ended; then the answer or the failure is in @run. */
bool at_gpu_load_look(struct at_gpu_load *load, struct at_neighbour_run *run, GError **error);

/* Removes the directory, which ends a run that goes on, and waits some seconds for both. Tells
 * nothing: a guest that does not play along has a small file too many. */
void at_gpu_load_take_away(struct at_gpu_load *load);
