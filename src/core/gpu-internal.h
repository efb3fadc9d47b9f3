/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of gpu.h share. */
#pragma once
#include "core/gpu.h"

/* Brings the records up to date with @cards, which take from them what they cannot say themselves
 * (gpu-compare.c). CONFLICT when a record was changed meanwhile. */
bool at_gpus_compare(struct at_core *core, GPtrArray *cards, GError **error);
/* @user: the core (gpu-health.c). */
void at_gpu_fault_met(const char *address, unsigned xid, bool lost, void *user);

/* A scan has found @cards where the one before it found @before: errors that nobody reported are
 * told (gpu-health.c). Any thread. */
void at_gpu_note_scan(struct at_core *core, const GPtrArray *before, const GPtrArray *cards);

/* ---- what was discovered, for people (gpu-device-view.c) ---- */
/* NVIDIA's driver on the card's host: {"driver", "cuda", "unknown"} */
JsonObject *at_gpu_versions_json(const struct at_gpu_card *card);
JsonObject *at_gpu_mig_json(const struct at_gpu_card *card);
/* @faults  that were heard of the card */
JsonObject *at_gpu_health_json(const struct at_gpu_card *card, uint64_t faults);
/* All else, into the card's own object. */
void at_gpu_device_add(JsonObject *o, const struct at_gpu_card *card);

/* ---- single holds (gpu-attach.c) ---- */

/* One hold, by names that stay while records are loaded again. */
struct at_gpu_which {
    char *gpu, *machine;
    unsigned request, nth;
};
GArray *at_gpu_which_list(void);
void at_gpu_which_clear(void *which);

/* Changes the record of a hold, however often somebody else comes in between. NOT_FOUND when it is
 * not held any more. */
typedef void (*at_gpu_hold_change)(at_gpu_rec *rec, struct at_gpu_hold_rec *hold, const void *user);
bool at_gpu_hold_update(struct at_core *core, const struct at_gpu_which *which,
                        at_gpu_hold_change change, const void *user, GError **error);
void at_gpu_hold_remove(at_gpu_rec *rec, struct at_gpu_hold_rec *hold, const void *user);
/* In memory only. */
void at_gpu_hold_take(struct at_gpu_hold_rec *hold, const char *machine);
/* It is nobody's then. */
void at_gpu_hold_give_up(at_gpu_rec *rec, struct at_gpu_hold_rec *hold, const void *user);

/* On the host; what is made is recorded before it is made. */
bool at_gpu_attach_hold(struct at_core *core, const struct at_gpu_which *which,
                        GCancellable *cancellable, struct at_gpu_device *ret_device,
                        GError **error);
/* False when it could not be taken back; the hold is as it was. */
bool at_gpu_detach_hold(struct at_core *core, const struct at_gpu_which *which, GError **error);
