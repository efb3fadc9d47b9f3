/* SPDX-License-Identifier: Apache-2.0 */
/* NVIDIA's management library (NVML), opened at run time: nothing of it is needed to build or to
 * start. Every answer may be an error; it is then unknown, never zero. Any thread; the library
 * locks for itself. */
#pragma once
#include "gpu/gpu.h"

struct at_nvml;
/* @library  NULL: "libnvidia-ml.so.1"
 * UNAVAILABLE with the reason in words: not installed, no driver loaded, library and kernel driver
 * of different versions (and which), a function that is missing. */
struct at_nvml *at_nvml_open(const char *library, GError **error);
void at_nvml_close(struct at_nvml *nvml); /* after its faults were freed */

/* NVML holds the device files of all cards open as long as it runs, and the nvidia driver cannot be
 * taken from a card that is open: unbinding would wait for this very process. Whoever changes a
 * card's driver (or resets it) calls at_nvml_pause() first and at_nvml_resume() after. In between
 * every other function here fails with UNAVAILABLE, and faults are not heard. Pauses nest; the
 * library starts again with the next use. Waits for calls in progress; TIMEOUT after 15 s, then
 * nothing is paused. Not from a fault func. */
bool at_nvml_pause(struct at_nvml *nvml, GError **error);
void at_nvml_resume(struct at_nvml *nvml);

/* Whether the library can be asked now: its driver may have been unloaded or replaced since it was
 * opened. UNAVAILABLE with the reason, as at_nvml_open() and at_nvml_pause() say. */
bool at_nvml_answers(struct at_nvml *nvml, GError **error);
/* Of the driver that it was opened with, the only one that it works with. Borrowed: "580.65.06";
 * "13.0"; NULL when unknown. */
const char *at_nvml_driver_version(const struct at_nvml *nvml);
const char *at_nvml_cuda_version(const struct at_nvml *nvml);

/* Fills what NVML knows of the card at card->address: id, serial, name, memory, architecture, MIG
 * mode, grid and instances, vGPU profiles with their geometry (type, GI profile, placements),
 * processes, health. False with NOT_FOUND (the library does not see it, as when another driver has
 * it) or IO/UNAVAILABLE with NVML's word for it; the card is as it was. What NVML does not tell
 * stays as it was, too. A card that NVML calls lost is no error: only card->health.lost is set.
 * vGPU profiles (of the kinds VGPU and MIG_VGPU) are replaced, other profiles stay. */
bool at_nvml_fill(struct at_nvml *nvml, struct at_gpu_card *card, GError **error);
/* Only card->health and card->processes; cheap enough for every few seconds. */
bool at_nvml_read_health(struct at_nvml *nvml, struct at_gpu_card *card, GError **error);

/* ---- MIG (root) ---- */
/* Switches MIG mode. *ret_pending: it will hold only after a reset of the card. CONFLICT when the
 * card is in use (by whom, as far as NVML says). */
bool at_nvml_set_mig(struct at_nvml *nvml, const char *address, bool on, bool *ret_pending,
                     GError **error);
/* Makes a GPU instance of @gi_profile at memory slice @start and one compute instance over all of
 * it; both or neither. Other instances run on. CONFLICT when the place is taken, INVALID when the
 * profile cannot be there. */
bool at_nvml_instance_create(struct at_nvml *nvml, const char *address, unsigned gi_profile,
                             unsigned start, unsigned *ret_id, GError **error);
/* With its compute instances. CONFLICT while something runs in it; NOT_FOUND when it is gone. */
bool at_nvml_instance_destroy(struct at_nvml *nvml, const char *address, unsigned id,
                              GError **error);
/* Time-sliced vGPUs of different sizes on one card; only while there are none. */
bool at_nvml_set_mixed_sizes(struct at_nvml *nvml, const char *address, bool on, GError **error);

/* ---- errors that cards report while they work ---- */
/* @xid: NVIDIA's number of the error; 0: the card was lost, in which case @lost is true. */
typedef void (*at_nvml_fault_func)(const char *address, unsigned xid, bool lost, void *user);
/* Waits for XID events of all cards in a thread of its own and calls @func there. NULL with
 * UNAVAILABLE when events are not supported. */
struct at_nvml_faults;
struct at_nvml_faults *at_nvml_faults_new(struct at_nvml *nvml, at_nvml_fault_func func, void *user,
                                          GError **error);
void at_nvml_faults_free(struct at_nvml_faults *faults); /* waits for the thread */
/* What an XID means: a line for people, and whether the card must not be used any more. Borrowed.
 */
const char *at_nvml_xid_text(unsigned xid, bool *ret_fatal);
/* Those whose meaning is known here, one after the other; 0 behind the last. */
unsigned at_nvml_xid_nth(unsigned n);
