/* SPDX-License-Identifier: Apache-2.0 */
/* One line of progress on the terminal that standard error is, or one line per step elsewhere. */
#pragma once
#include <json-glib/json-glib.h>
#include <stdbool.h>

struct at_progress;

/* @quiet: nothing is shown where standard error is no terminal. */
struct at_progress *at_progress_new(bool quiet);
/* Shows the state of a job record; draws only what has changed. */
void at_progress_show(struct at_progress *progress, JsonObject *job);
/* Prints a line of its own above the progress. */
void at_progress_note(struct at_progress *progress, const char *text);
/* Takes the line away and gives the cursor back. */
void at_progress_free(struct at_progress *progress);

/* The line for @width columns; newly allocated. For tests, too. */
char *at_progress_line(JsonObject *job, unsigned width, bool utf8);
