/* SPDX-License-Identifier: Apache-2.0 */
/* The slow verify: one thread of low priority reads the whole vault back within some days, follows
 * every reference at the end, and begins again when the period is over. It keeps to a budget of
 * bytes per second, stands back while a job of the vault runs, and goes on after a restart where it
 * was (STATE/verify.json). What it finds is in quarantine, an event, and the vault's view. */
#pragma once
#include "core/core-internal.h"

struct at_verify_report;

/* @days  the period; 0: never (the last outcome is still shown)
 * @rate  bytes of packs per second, more than 0
 * Main thread. */
void at_scrub_start(struct at_core *core, double days, uint64_t rate);
/* Waits for the object that is being read, not for the pass. */
void at_scrub_stop(struct at_core *core);

/* A job has read all of the vault: that counts like a pass. Any thread. */
void at_scrub_note(struct at_core *core, const struct at_verify_report *report);

/* The member "verify" of the vault's view; the caller owns it. Any thread. */
JsonObject *at_scrub_view(struct at_core *core);
