/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in for atolld that gives canned answers (answers.json), and the program atoll run against
 * it. */
#pragma once
#include <gio/gio.h>
#include <stdbool.h>

struct double_run {
    int code; /* exit code */
    char *out, *err;
};

/* Starts the stand-in on a socket of its own. */
void double_start(void);
void double_stop(void);
const char *double_socket(void);

/* How often "METHOD /path" was asked for, and the body of the last time (borrowed, or NULL). */
unsigned double_asked(const char *request);
const char *double_body(const char *request);

/* Runs "atoll WORDS" with a fixed environment; @terminal_width > 0: its standard error is a
 * terminal so wide. @interrupts: SIGINT is sent so many times, each after one more poll of job 9.
 */
void double_run(const char *words, unsigned terminal_width, unsigned interrupts,
                struct double_run *ret);
void double_run_clear(struct double_run *run);

/* Bytes of the flooding console that were ever under way at once. */
size_t double_flood_most(void);

/* Runs the main loop until @done, a minute at most. */
void double_iterate_until(const bool *done);
