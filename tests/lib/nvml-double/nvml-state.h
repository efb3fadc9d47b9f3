/* SPDX-License-Identifier: Apache-2.0 */
/* The state of NVML's double: a text file, named by ATOLL_NVML_DOUBLE, that all processes with the
 * double and the tests share under flock(2); every call of the double reads it anew. One thing a
 * line, numbers decimal, "#" begins a comment:
 *
 *   driver 580.65.06               versions: of the driver, NVML, CUDA (major * 1000 + minor * 10)
 *   nvml 13.580.65.06
 *   cuda 13000
 *   host 1                         the vGPU host driver: vGPU types exist
 *   card ADDRESS BOARD [KEY=VALUE]...      boards: boards.c; keys: struct card in double.h
 *   gi ADDRESS ID PROFILE START            GPU instances
 *   ci ADDRESS GI ID PROFILE               compute instances in them
 *   process ADDRESS PID BYTES GI KIND      GI -1: none; KIND c (computes) or g (draws)
 *   vgpu ADDRESS TYPE GI                   vGPUs that run
 *   event ADDRESS XID                      to be delivered once
 *   fail FUNCTION CODE AFTER TIMES         after AFTER calls, TIMES times (0: always)
 *
 * Cards keep their order. What follows is for tests. */
#pragma once
#include <glib.h>

/* Writes @text as the state into a file in @dir, which ATOLL_NVML_DOUBLE then names; the path is
 * valid until the test ends. */
const char *nvml_state_new(const char *dir, const char *text);

/* Adds a line. */
void nvml_state_add(const char *path, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* Removes the lines that begin with @prefix; gives how many there were. */
unsigned nvml_state_remove(const char *path, const char *prefix);

/* How many lines begin with @prefix. */
unsigned nvml_state_count(const char *path, const char *prefix);

/* Sets a key of a card: nvml_state_set(path, "0000:41:00.0", "lost", "1"). */
void nvml_state_set(const char *path, const char *address, const char *key, const char *value);
