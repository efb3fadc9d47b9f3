/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the daemon share. */
#pragma once
#include <glib.h>
#include <stdbool.h>

#include "core/core.h"

/* Tells the service manager (NOTIFY_SOCKET) "READY=1" and the like; without one does nothing. */
void at_notify(const char *state);

/* One line per message to standard error: with the journal's level prefix when that is where it
 * goes, else with the time. @verbose: debug messages too. */
void at_log_start(bool verbose);
/* Logs each event of @core in a line; progress only when verbose. */
void at_log_event(uint64_t id, JsonNode *event, void *unused);

/* Path of a program or plugin of ours: from the environment variable @env, else in the build tree
 * that this program runs from (@build, relative to it), else installed (@installed). Newly
 * allocated; UNAVAILABLE names all places that were tried. */
char *at_locate(const char *what, const char *env, const char *build, const char *installed,
                GError **error);
