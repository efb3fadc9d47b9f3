/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting to a socket in the file system with a deadline; used for monitors and guest agents. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* INVALID when @path does not fit into a socket address (107 bytes). */
bool at_unix_path_check(const char *path, GError **error);

/* A connected, non-blocking, close-on-exec stream socket, or -1: INVALID, UNAVAILABLE (nobody
 * listens), TIMEOUT (a full backlog until @deadline_us), DENIED, IO. */
int at_unix_connect(const char *path, int64_t deadline_us, GError **error);
