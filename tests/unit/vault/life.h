/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a vault, for tests that disturb it: a process that does everything a daemon does to
 * one and writes down what it was told is done, and a check that all of that is so.
 *
 * The process writes marks, a line each:
 *   phase WORD         where it is
 *   ~NAME WHAT         it begins to set root NAME to WHAT: the number of a content, m (the manifest
 *                      of the first two) or - (none)
 *   =NAME              that is done
 *   gc ID,ID...        gc has returned; these packs are there
 *   raised             the format is the newest
 *   bad HEX            damage of this object was noted
 *   err CODE MESSAGE   something has failed */
#pragma once
#include "vault/maintenance.h"

/* The process: opens the vault in @dir and works, going on after errors.  @again: after another one
 * has died; what that one left is taken note of first. */
void life_run(const char *dir, const char *marks, bool again);

/* What the marks promise. */
struct life_promise;
struct life_promise *life_promise_new(void);
void life_promise_free(struct life_promise *p);
void life_promise_mark(struct life_promise *p, const char *line);
/* GPtrArray of char*: "CODE MESSAGE" of each failure. */
const GPtrArray *life_promise_errors(const struct life_promise *p);
const char *life_promise_phase(const struct life_promise *p);
/* That the process came to its end. */
bool life_promise_ended(const struct life_promise *p);

/* Opens the vault in @dir in a process of its own, holds everything in it against the promise, and
 * goes on working with it.  NULL, or what is wrong. */
char *life_check(const char *dir, const struct life_promise *p);
