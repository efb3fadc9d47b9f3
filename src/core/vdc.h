/* SPDX-License-Identifier: Apache-2.0 */
/* What the jobs on VDCs share: making machines from disks, their networks, power. All of it runs in
 * worker threads, blocks, and is idempotent. */
#pragma once
#include "core/core-internal.h"
#include "core/job.h"

/* ---- lookups ---- */
const struct at_def_workstation *at_vdc_workstation(const at_vdc *vdc, const char *name);
const struct at_def_volume *at_vdc_volume(const at_vdc *vdc, const char *name);
/* The VDC's machines in the state "active", in the order of the definition; free func set. */
GPtrArray *at_vdc_machines(struct at_core *core, const char *vdc_id, const char *state,
                           GError **error);
/* NOT_FOUND names the VDC. @ret_vdc may be NULL. */
at_snap *at_core_find_snapshot(struct at_core *core, const char *vdc_name, const char *name,
                               at_vdc **ret_vdc, GError **error);
/* A verification's outcome for a job's result: what is damaged and what that hits, by the names
 * that people use (verify-report.c). Any thread. */
struct at_verify_report;
JsonNode *at_verify_report_json(struct at_core *core, const struct at_verify_report *report);
/* The event vault.damaged, with the names that the first of @problems hit. */
void at_verify_tell(struct at_core *core, const GPtrArray *problems);
/* By the name of a workstation, borrowed from @machines; NULL when missing. */
at_mach *at_machines_find(const GPtrArray *machines, const char *workstation);

/* ---- making machines (instantiate.c) ---- */
/* Where the content of a new machine's disk comes from: an image, or the disk of a snapshot. Gives
 * the root (NULL: zeros; newly allocated) and the size. */
typedef bool (*at_disk_origin)(const char *workstation, const char *disk, const char *image,
                               uint64_t want_size, char **ret_root, uint64_t *ret_size, void *user,
                               GError **error);
bool at_origin_image(const char *workstation, const char *disk, const char *image,
                     uint64_t want_size, char **ret_root, uint64_t *ret_size, void *user,
                     GError **error); /* user: struct at_core* */
bool at_origin_snapshot(const char *workstation, const char *disk, const char *image,
                        uint64_t want_size, char **ret_root, uint64_t *ret_size, void *user,
                        GError **error); /* user: at_snap* that is sealed */

struct at_identity {     /* whose identity the machines take */
    const at_snap *snap; /* uuid and instance id from here, or NULL: new ones */
    bool fresh;          /* new ones, and the guest is told to renew its own */
};

/* Machine records for all workstations of @vdc that @only names (NULL: all), with ids from @ids
 * ({workstation: id}); slots are not set yet. */
GPtrArray *at_instantiate(struct at_core *core, const at_vdc *vdc, const GPtrArray *only,
                          JsonObject *ids, const char *state, const struct at_identity *identity,
                          at_disk_origin origin, void *user, GError **error);
/* A disk record for one more disk of an existing machine. */
struct at_disk *at_instantiate_disk(const at_vdc *vdc, const char *workstation, unsigned index,
                                    const char *name, const char *image, uint64_t size,
                                    bool readonly, at_disk_origin origin, void *user,
                                    GError **error);
/* New ids for all workstations of @vdc: {workstation: id}. */
JsonObject *at_instantiate_ids(const at_vdc *vdc);

/* Pins the content (vault roots first), then commits @vdc (may be NULL), the new @machines with
 * free slots, and @changed (existing machines; may be NULL) in one transaction. */
bool at_machines_record(struct at_core *core, at_vdc *vdc, GPtrArray *machines,
                        const GPtrArray *changed, GError **error);
/* Pins what the machine's disks are based on and lets go what they are not any more. Under the
 * machine's lock, or while nobody else knows it. */
bool at_machine_pin(struct at_core *core, const at_mach *mach, GError **error);
/* Only the first half of it. */
bool at_machine_pin_more(struct at_core *core, const at_mach *mach, GError **error);
/* Removes the overlays of the machine's directory that its record does not name (left by a crash),
 * and its pins that are not needed. Takes the machine's lock; failures are left for the next time.
 */
void at_machine_sweep(struct at_core *core, const char *id);
/* Removes the vault's roots whose names begin with @prefix. */
bool at_vault_roots_remove(struct at_core *core, const char *prefix, GError **error);
/* At the start of the daemon: pins of machines that the catalog does not know. */
bool at_machines_unpin_unknown(struct at_core *core, GError **error);

/* Directory and empty overlays: for a machine that has never run. */
bool at_machine_make_files(struct at_core *core, const at_mach *mach, GError **error);
/* What cloud-init reads, from the definition as it is now: before each start. */
bool at_machine_make_seed(struct at_core *core, const at_vdc *vdc, const at_mach *mach,
                          GError **error);
bool at_machine_make_overlay(struct at_core *core, const at_mach *mach, unsigned disk, unsigned gen,
                             uint64_t size, GError **error);
/* Power off, directory, pins, record: all of it gone. Missing parts are fine. */
bool at_machine_destroy(struct at_core *core, const char *id, GError **error);

/* ---- network (network.c) ---- */
/* Makes it as the definition says and records the uplink. */
bool at_vdc_network_up(struct at_core *core, at_vdc *vdc, GError **error);
bool at_vdc_network_down(struct at_core *core, const char *vdc_id, GError **error);
/* True when all of it is there. */
bool at_vdc_network_check(struct at_core *core, const at_vdc *vdc, GError **error);
/* Fills vdc->ports from the definition; @reassign: a host port that is taken is replaced by a free
 * one (clones) instead of refused. Keeps what @vdc has already. */
bool at_vdc_assign_ports(struct at_core *core, at_vdc *vdc, bool reassign, GError **error);
/* Around assigning ports and the commit that records them, or two VDCs get the same one. Taken
 * before any machine's lock. */
void at_vdc_ports_lock(void);
void at_vdc_ports_unlock(void);

/* ---- power (power.c) ---- */
/* Starts the machine when it does not run. */
bool at_power_on(struct at_core *core, const at_vdc *vdc, const char *machine_id, GError **error);
/* @timeout_ms 0: at once. @ret_clean (may be NULL): it shut down by itself. */
bool at_power_off(struct at_core *core, const char *machine_id, int timeout_ms,
                  GCancellable *cancellable, bool *ret_clean, GError **error);
/* All that want to run, one thread each; the first error, with the workstation's name. */
bool at_power_on_all(struct at_core *core, const at_vdc *vdc, GError **error);
bool at_want_running(struct at_core *core, const char *vdc_id, const char *const *workstations,
                     bool want, GError **error);

/* ---- parts of the snapshot job that restore uses too (capture.c) ---- */
/* args: vdc, name, quiesce, description, safety; data: vdc_id, prepared */
bool at_capture_prepare(struct at_job *job, const char *vdc_name, const char *snap_name,
                        bool safety, GError **error);
bool at_capture_run(struct at_job *job, const char *vdc_name, const char *snap_name, bool quiesce,
                    const char *description, GError **error);
bool at_capture_undo(struct at_job *job, const char *snap_name, GError **error);
/* The part of it that is one machine's (capture-undo.c): @gens {disk index: generation} was
 * prepared. */
bool at_capture_undo_machine(struct at_core *core, const char *id, JsonObject *gens,
                             GError **error);

/* Overlays beyond the record, left by a capture whose undo could not ask the machine, become part
 * of the chain or go. Under the machine's lock, before it is started or captured. */
bool at_machine_settle(struct at_core *core, const char *id, GError **error);

/* ---- sealing (seal.c) ---- */
/* Seals what the snapshot needs (its machines' frozen overlays up to its own), then makes its
 * manifest. Does nothing when it is sealed. While the disk is full it waits (at_job_wait) and goes
 * on when there is space. NOT_FOUND: the snapshot was deleted meanwhile. */
bool at_seal_snapshot(struct at_job *job, const char *vdc_id, const char *name, GError **error);
/* Seals every frozen overlay of the machine, also those that no snapshot waits for. */
bool at_seal_machine(struct at_job *job, const char *machine_id, GError **error);
/* No seal of the VDC is under way from the first to the second; blocks, also for long. */
bool at_seal_exclude(struct at_job *job, const char *vdc_id, GError **error);
void at_seal_include(const char *vdc_id);
/* Starts a job for each snapshot that is captured and that no job seals. Main thread. */
bool at_seal_what_is_left(struct at_core *core, GError **error);
/* Removes the VDC's retired machines whose overlays no snapshot waits for. */
bool at_seal_cleanup(struct at_core *core, const char *vdc_id, GError **error);

extern const struct at_job_kind at_job_vdc_create, at_job_vdc_change, at_job_vdc_start,
    at_job_vdc_stop, at_job_vdc_restart, at_job_vdc_delete, at_job_snapshot_create,
    at_job_snapshot_delete, at_job_snapshot_verify, at_job_snapshot_seal, at_job_clone,
    at_job_restore, at_job_vault_gc, at_job_vault_verify, at_job_vault_reindex, at_job_reconcile,
    at_job_image_import, at_job_image_build, at_job_image_export, at_job_image_delete,
    at_job_gpu_test;
