/* SPDX-License-Identifier: Apache-2.0 */
/* The GPUs of the site: which there are, who holds what, and carrying grants out on this host.
 * What is granted is in the catalog before anything is changed on the host, and leaves it after
 * everything is changed back: a crash at any point leaves a record of what may be there. */
#pragma once
#include "core/core-internal.h"
#include "core/record-gpu.h"
#include "gpu/device.h"
#include "gpu/placement.h"

struct at_gpus;

/* Looks at the host once (blocks), and from then on whenever it changes. Main thread. */
bool at_gpus_open(struct at_core *core, const char *weakest, GError **error);
void at_gpus_close(struct at_core *core);
/* Looks at the host again and brings the records up to date. Any thread; blocks. */
bool at_gpus_scan(struct at_core *core, GError **error);
/* The same soon, in a thread of its own. Any thread. */
void at_gpus_scan_later(struct at_core *core);
/* Something was taken back on the host: cards may have more to give than the last scan found.
 * Before at_gpus_change_end(). */
void at_gpus_note_detached(struct at_core *core);
/* Whether that is so. */
bool at_gpus_scan_is_due(struct at_core *core);
/* Scans if it is; another thread's scan will do. Any thread; blocks. */
bool at_gpus_scan_if_due(struct at_core *core, GError **error);
/* What the last scan found: struct at_gpu_card*, not to be changed; unref. Any thread. */
GPtrArray *at_gpus_cards(struct at_core *core);
const struct at_gpu_card *at_gpus_find(const GPtrArray *cards, const char *id);
const char *at_gpus_node(struct at_core *core);
/* What the site allows at least. */
enum at_gpu_isolation at_gpus_weakest(struct at_core *core);
/* Around planning and the commit of the plan. */
void at_gpus_plan_lock(struct at_core *core);
void at_gpus_plan_unlock(struct at_core *core);
/* Around a change of this host's devices; one at a time, and no scan meanwhile. What is given
 * is valid until the end. Blocks. */
const struct at_gpu_host *at_gpus_change_begin(struct at_core *core);
void at_gpus_change_end(struct at_core *core);
/* Every @seconds: health of the cards, and releases that failed. Worker thread. */
void at_gpus_look(struct at_core *core);

/* ---- planning (gpu-layout.c, gpu-plan.c) ---- */
/* The site as placement sees it. */
struct at_gpu_layout {
    GPtrArray *cards, *recs; /* struct at_gpu_card*, at_gpu_rec* (of the same order; NULL: none) */
    GPtrArray *gone;         /* at_gpu_rec* of cards that the last scan has not found */
    GPtrArray *held;         /* struct at_gpu_hold_rec* of all of them that are not left out */
    struct at_gpu_place_card *place;
    struct at_gpu_place_node node;
    enum at_gpu_isolation weakest; /* that the site allows */
    GPtrArray *texts, *copies;     /* holds and reasons, cards without some instances: for @place */
};
/* @without_vdc   whose holds are left out, with what was made for them; or NULL
 * @workstations  of the VDC, NULL-terminated: only theirs; NULL: all of it */
struct at_gpu_layout *at_gpu_layout_new(struct at_core *core, const char *without_vdc,
                                        const char *const *workstations, GError **error);
typedef struct at_gpu_layout at_gpu_layout;
void at_gpu_layout_free(struct at_gpu_layout *site);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_gpu_layout, at_gpu_layout_free)

/* Where what a workstation of @def asks for would go. @vdc names the holders. The quota counts what
 * the VDC has in @site and what it would get. */
struct at_gpu_plan *at_gpu_plan_for(const struct at_gpu_layout *site, const char *vdc,
                                    const struct at_definition *def, const char *workstation,
                                    GError **error);
/* Whether all of it could be had, leaving out what the VDC has now. @workstations: only what these
 * ask for, and have; NULL: all. What a workstation has attached of a card that is in quarantine or
 * gone it goes on with: that need not be had again, but counts. At once when there is nothing asked
 * for. */
bool at_gpu_plan_check(struct at_core *core, const char *vdc, const struct at_definition *def,
                       const char *const *workstations, GError **error);
/* The same for what stops all of the VDC first: nothing goes on with what it has. */
bool at_gpu_plan_check_anew(struct at_core *core, const char *vdc, const struct at_definition *def,
                            GError **error);
/* For `gpu plan`: {"grants": [...]}, or the refusal in {"refused": {"code", "message"}}. */
JsonNode *at_gpu_plan_json(struct at_core *core, const struct at_definition *def, GError **error);

/* ---- grants (gpu-grant.c); worker threads, under the machine's lock ----
 * What is held belongs to the workstation of the VDC: the machine that a restore puts in its place
 * takes it over. */
enum at_gpu_release {
    AT_GPU_DETACH, /* everything stays granted */
    AT_GPU_RETURN, /* but for what is to be kept while it is stopped, it is given back */
    AT_GPU_FORGET, /* all is given back */
};
/* What the machine asks for is held and attached; *ret_devices (struct at_gpu_device, cleared by
 * the array) in the order of the definition. On failure nothing is held that was not before. */
bool at_gpu_acquire(struct at_core *core, const at_vdc *vdc, const at_mach *mach,
                    GCancellable *cancellable, GArray **ret_devices, GError **error);
/* The machine runs: what is to be kept while it is stopped is kept from now on, and no start that
 * fails keeps anything that it had just been granted. */
void at_gpu_note_started(struct at_core *core, const at_vdc *vdc, const at_mach *mach);
/* Detaches all that the machine has, and unless it stays granted looks at the cards again. What
 * cannot be given back stays held and is tried again later; that is logged and told. */
void at_gpu_release(struct at_core *core, const char *machine_id, enum at_gpu_release how);
/* Gives back what machines have that neither run nor should; takes their locks. Worker thread. */
void at_gpu_reconcile(struct at_core *core);
/* The same soon, in a thread of its own. Any thread. */
void at_gpu_reconcile_later(struct at_core *core);
/* At the start, before any workstation is started: waits for it, for a while. */
void at_gpu_reconcile_first(struct at_core *core);

/* ---- snapshots and clones (gpu-clone.c) ---- */
enum at_gpu_wish {
    AT_GPU_WISH_SAME,       /* as the definition says */
    AT_GPU_WISH_EQUIVALENT, /* what is as good as what the original had */
    AT_GPU_WISH_NONE,
};
/* "same-profile", "equivalent", "none" */
bool at_gpu_wish_parse(const char *text, enum at_gpu_wish *ret);
bool at_gpu_wish_apply(struct at_definition *def, enum at_gpu_wish wish, const at_snap *snap,
                       GError **error);
/* What each workstation has now, and that it is not in the snapshot; into its consistency. */
void at_gpu_note_captured(struct at_core *core, const at_vdc *vdc, at_snap *snap);

/* ---- for people (gpu-view.c, gpu-verbs.c) ---- */
/* What the card is to somebody who looks for one: free | used | reserved | quarantined | unusable,
 * or absent without a @card. */
const char *at_gpu_state(const struct at_gpu_card *card, const at_gpu_rec *rec);
/* The id of the card that @name means: its id, the beginning of it, or its address. */
char *at_gpu_resolve(struct at_core *core, const char *name, GError **error);

/* ---- errors of cards, counted since the daemon started (gpu-faults.c); main thread ---- */
#define AT_GPU_FAULT_LOST "lost"
#define AT_GPU_FAULT_MEMORY "memory" /* of amdgpu: its count of errors that were not corrected */
/* "xid-79"; "xid-other" for all that are in no catalogue here. Newly allocated. */
char *at_gpu_fault_kind_of_xid(unsigned xid);
/* All that can be heard of cards of that vendor. Newly allocated. */
GStrv at_gpu_fault_kinds(uint16_t vendor);
GHashTable *at_gpu_faults_new(void); /* unref */
void at_gpu_faults_count(GHashTable *faults, const char *id, const char *kind);
/* @faults  may be NULL: none was heard yet.  @kind: NULL: of any */
uint64_t at_gpu_faults_heard(GHashTable *faults, const char *id, const char *kind);

JsonArray *at_gpu_holds_of(struct at_core *core, const char *vdc, const char *workstation);
/* A card that must not be used any more: told, recorded, and its workstations are dealt with as
 * their policies say. Main thread. */
void at_gpu_quarantine(struct at_core *core, const char *id, const char *reason);
