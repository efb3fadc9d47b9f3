/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in for core behind the true header, so that the API can be tested by itself: it answers
 * with fixed views, notes how it was called, and fails on request: a VDC, image or job that is
 * named like an error code ("no_space") fails with it. Runs an API in a thread of its own. */
#pragma once
#include <glib.h>
#include <stdint.h>

/* Starts the API on <dir>/api.sock; gives its path. One at a time. */
const char *double_start(const char *dir);
/* Stops it; the thread and every connection are gone on return. */
void double_stop(void);

/* The last verb with its arguments: "vdc_stop rag-team [a,b] 5 force by root". Caller frees. */
char *double_last_call(void);

/* Delivers an event with this much padding to all watchers; they may come in another thread's
 * time. Gives its id. */
uint64_t double_emit(const char *type, size_t padding);
/* Watchers that core has now. */
unsigned double_watchers(void);

/* The workstation's end of the console that was opened last; the caller owns it. -1: none. */
int double_take_console(void);
