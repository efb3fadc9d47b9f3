/* SPDX-License-Identifier: Apache-2.0 */
/* Time: monotonic for deadlines and durations, RFC 3339 UTC for records. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* CLOCK_MONOTONIC in microseconds. */
int64_t at_clock_us(void);

/* A deadline @timeout_ms from now, in at_clock_us() units, and what is left of it in ms (>= 0). */
int64_t at_deadline_ms(int64_t timeout_ms);
int at_deadline_left_ms(int64_t deadline_us);

/* Wall-clock UTC, "2026-11-23T19:02:11.123Z"; newly allocated. */
char *at_clock_rfc3339(void);
