/* SPDX-License-Identifier: Apache-2.0 */
/* The two roles of the load. Both return false with @cuda->why. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "guest/cuda.h"

struct at_load_options {
    uint64_t token;  /* of this test; not 0 */
    double seconds;  /* of load, after what is prepared */
    uint64_t memory; /* at most so many bytes of the card; 0: as the role wants */
    double began;    /* at_load_clock() when the program did */
};

struct at_load_victim_result {
    uint64_t total, used; /* bytes of the card's memory: all that this guest has, and taken */
    double rate, slowest; /* bytes copied per second: median and slowest window */
    unsigned windows;
    uint64_t damaged; /* pages that were not read back as they were written */
};
/* Writes the pattern, copies it to and fro for @o->seconds, and reads it back. */
bool at_load_victim(struct at_cuda *cuda, const struct at_load_options *o,
                    struct at_load_victim_result *ret);

struct at_load_neighbour_result {
    uint64_t total, used;
    double fill_seconds;    /* from the start of the program until the memory was full */
    double load_seconds;    /* of copying after that */
    double rate;            /* bytes copied per second meanwhile */
    uint64_t looked, found; /* pages that were looked at before they were written; with the token */
};
/* Takes all memory that it gets, looks for the token in it, and copies as fast as it can. */
bool at_load_neighbour(struct at_cuda *cuda, const struct at_load_options *o,
                       struct at_load_neighbour_result *ret);

double at_load_clock(void); /* seconds, monotonic */
