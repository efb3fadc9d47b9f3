/* SPDX-License-Identifier: Apache-2.0 */
/* Benches: measured rows in one shape, printed as a table and written as JSON.
 * The file is $ATOLL_BENCH_DIR/<name>.json (default: the current directory):
 * {"machine", "date", "rows": [{"what", "value", "unit", "goal", "holds", "note"}]}. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum at_bench_goal {
    AT_BENCH_AT_MOST,  /* holds when value <= goal */
    AT_BENCH_AT_LEAST, /* holds when value >= goal */
    AT_BENCH_ONLY,     /* no goal: a figure to compare with; holds */
};

struct at_bench;

/* @name becomes the name of the file: letters, digits and hyphens. */
struct at_bench *at_bench_new(const char *name);

/* Adds a measured row. @goal is ignored with AT_BENCH_ONLY; @note may be NULL (conditions). */
void at_bench_row(struct at_bench *bench, const char *what, double value, const char *unit,
                  enum at_bench_goal kind, double goal, const char *note);

/* Adds a row that could not be measured, with the reason; it does not hold. */
void at_bench_missing(struct at_bench *bench, const char *what, const char *unit,
                      enum at_bench_goal kind, double goal, const char *reason);

/* Prints the table, writes the file, frees. Gives the exit status for main: 0 when the file was
 * written (whether or not the goals hold; scripts/bench shows that), 1 otherwise. */
int at_bench_finish(struct at_bench *bench);

/* Median of @n values (copied; n >= 1). */
double at_bench_median(const double *values, unsigned n);

/* Seconds on the monotonic clock; seconds of CPU of this process (all threads). */
double at_bench_seconds(void);
double at_bench_cpu_seconds(void);

/* Fills @len bytes with pseudo-random data that depends only on @seed and does not compress. */
void at_bench_fill(void *data, size_t len, uint64_t seed);
