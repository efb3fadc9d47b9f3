/* SPDX-License-Identifier: Apache-2.0 */
/* The domain behind the API. One object per site; every function here is called on the main-loop
 * thread, does not block for long, and long operations become jobs.
 *
 * Views are JSON as in data/openapi.json; the caller owns returned nodes. Verbs that start a job
 * return its record. All errors are AT_ERROR with messages for an operator. */
#pragma once
#include <gio/gio.h>
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

struct at_core;

struct at_core_config {
    const char *state_dir;
    const char *guard_path;    /* atoll-guard */
    const char *plugin_path;   /* nbdkit-atoll-plugin.so */
    const char *gpu_load_path; /* atoll-gpu-load, which guests run; it may be missing */
    const char *accel;         /* auto | kvm | tcg: site default */
    const char *gpu_isolation; /* the weakest that is given: any | shared | hardware | exclusive */
    double verify_days;        /* the vault is read back within so many; 0: never */
    unsigned verify_mib;       /* per second at most, for that; 0: 10 */
};

/* Opens (or creates) the site: locks the state directory, opens catalog and vault, starts or finds
 * nbdkit, adopts running machines, resumes or undoes interrupted jobs. Blocks up to some seconds.
 */
struct at_core *at_core_open(const struct at_core_config *config, GError **error);
/* Stops our threads and writes nothing more; guests, nbdkit and dnsmasq keep running. */
void at_core_close(struct at_core *core);
/* Stops every guest, nbdkit, dnsmasq, namespaces: for private sites that go away. Blocks. */
bool at_core_shutdown_site(struct at_core *core, GError **error);

struct at_actor {
    const char *user; /* login name, or "uid 1000" */
    int64_t uid;
    int64_t gid;
    const char *from; /* "unix socket, pid 123" */
};

/* ---- site ---- */
JsonNode *at_core_site_view(struct at_core *core);
JsonNode *at_core_node_view(struct at_core *core);
JsonNode *at_core_vault_view(struct at_core *core, GError **error);
JsonNode *at_core_vault_gc(struct at_core *core, const struct at_actor *actor, GError **error);
JsonNode *at_core_vault_verify(struct at_core *core, const struct at_actor *actor,
                               double sample_percent, GError **error);
/* The state of the site in Prometheus' text format; newly allocated. */
char *at_core_metrics(struct at_core *core, GError **error);
JsonNode *at_core_vault_reindex(struct at_core *core, const struct at_actor *actor, GError **error);

/* ---- VDCs ---- */
JsonNode *at_core_vdc_list(struct at_core *core, GError **error);
JsonNode *at_core_vdc_view(struct at_core *core, const char *vdc, GError **error);
/* What applying would do: {"changes":[{action, what, detail}]}. @ret_pointer as in wire. */
JsonNode *at_core_vdc_plan(struct at_core *core, JsonNode *definition, char **ret_pointer,
                           GError **error);
JsonNode *at_core_vdc_apply(struct at_core *core, const struct at_actor *actor,
                            JsonNode *definition, bool start, char **ret_pointer, GError **error);
JsonNode *at_core_vdc_delete(struct at_core *core, const struct at_actor *actor, const char *vdc,
                             bool with_snapshots, GError **error);
/* @workstations: names, NULL for all. */
JsonNode *at_core_vdc_start(struct at_core *core, const struct at_actor *actor, const char *vdc,
                            const char *const *workstations, GError **error);
JsonNode *at_core_vdc_stop(struct at_core *core, const struct at_actor *actor, const char *vdc,
                           const char *const *workstations, unsigned timeout_s, bool force,
                           GError **error);
JsonNode *at_core_vdc_restart(struct at_core *core, const struct at_actor *actor, const char *vdc,
                              const char *const *workstations, GError **error);
/* Back to the safety snapshot of the last restore. */
JsonNode *at_core_vdc_undo(struct at_core *core, const struct at_actor *actor, const char *vdc,
                           GError **error);
JsonNode *at_core_workstation_view(struct at_core *core, const char *vdc, const char *ws,
                                   GError **error);
/* The last @tail bytes of the serial console log (bounded to 1 MiB). */
char *at_core_workstation_log(struct at_core *core, const char *vdc, const char *ws, size_t tail,
                              GError **error);
/* Connected to the serial console (unix socket); the caller owns the fd. CONFLICT when somebody
 * else has it open. -1 on error. */
int at_core_console_open(struct at_core *core, const char *vdc, const char *ws, GError **error);

/* ---- snapshots ---- */
/* @vdc NULL: of all. */
JsonNode *at_core_snapshot_list(struct at_core *core, const char *vdc, GError **error);
JsonNode *at_core_snapshot_view(struct at_core *core, const char *vdc, const char *snap,
                                GError **error);
/* The manifest's own bytes, canonical JSON, whose SHA-256 is the snapshot's digest. CONFLICT while
 * it is not sealed. */
char *at_core_snapshot_manifest(struct at_core *core, const char *vdc, const char *snap,
                                GError **error);
/* @name NULL: a name is made from the time. */
JsonNode *at_core_snapshot_create(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc, const char *name, bool quiesce,
                                  const char *description, GError **error);
JsonNode *at_core_snapshot_verify(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc, const char *snap, GError **error);
JsonNode *at_core_snapshot_delete(struct at_core *core, const struct at_actor *actor,
                                  const char *vdc, const char *snap, GError **error);
struct at_clone_options {
    bool fresh_identity, isolated, start;
    const char *gpu; /* same-profile | equivalent | none */
};
JsonNode *at_core_snapshot_clone(struct at_core *core, const struct at_actor *actor,
                                 const char *vdc, const char *snap, const char *new_name,
                                 const struct at_clone_options *options, GError **error);
JsonNode *at_core_snapshot_restore(struct at_core *core, const struct at_actor *actor,
                                   const char *vdc, const char *snap, GError **error);
/* Runs in a worker (may take a while on large trees): finish gives the node. */
void at_core_diff_async(struct at_core *core, const char *vdc_a, const char *snap_a,
                        const char *vdc_b, const char *snap_b, GAsyncReadyCallback callback,
                        void *user);
JsonNode *at_core_diff_finish(GAsyncResult *result, GError **error);

/* ---- images ---- */
JsonNode *at_core_image_list(struct at_core *core, GError **error);
JsonNode *at_core_image_view(struct at_core *core, const char *name, GError **error);
/* @path is opened with the caller's own rights. */
JsonNode *at_core_image_import(struct at_core *core, const struct at_actor *actor, const char *name,
                               const char *path, GError **error);
JsonNode *at_core_image_build(struct at_core *core, const struct at_actor *actor, const char *name,
                              JsonObject *build, GError **error);
JsonNode *at_core_image_export(struct at_core *core, const struct at_actor *actor, const char *name,
                               const char *path, const char *format, GError **error);
JsonNode *at_core_image_delete(struct at_core *core, const struct at_actor *actor, const char *name,
                               GError **error);

/* ---- GPUs ---- */
/* @name: the card's id, the beginning of it, or its address. */
JsonNode *at_core_gpu_list(struct at_core *core, GError **error);
JsonNode *at_core_gpu_view(struct at_core *core, const char *name, GError **error);
/* Looks at the host again (in a worker); finish gives the list. */
void at_core_gpu_rescan_async(struct at_core *core, GAsyncReadyCallback callback, void *user);
JsonNode *at_core_gpu_rescan_finish(struct at_core *core, GAsyncResult *result, GError **error);
/* Keeps the card for the host; CONFLICT names who holds it. @reason NULL: a general one. */
JsonNode *at_core_gpu_reserve(struct at_core *core, const struct at_actor *actor, const char *name,
                              const char *reason, GError **error);
/* Takes that back, and a quarantine. */
JsonNode *at_core_gpu_release(struct at_core *core, const struct at_actor *actor, const char *name,
                              GError **error);
/* Whether time-sliced vGPUs of different sizes share the card; planned so after the look at the
 * host that this starts. CONFLICT names who holds it; UNAVAILABLE: it cannot. */
JsonNode *at_core_gpu_mix(struct at_core *core, const struct at_actor *actor, const char *name,
                          bool on, GError **error);
/* A job that checks how well holders of the card are kept apart; its result is kept with the card.
 * @victim, @neighbour  "VDC/WORKSTATION" that run with parts of it and are loaded, one to measure
 * and the other to disturb it; or both NULL */
JsonNode *at_core_gpu_test(struct at_core *core, const struct at_actor *actor, const char *name,
                           const char *victim, const char *neighbour, GError **error);
/* Where the GPUs of @definition would go: {vdc, grants: [...], refused: null or why}. */
JsonNode *at_core_gpu_plan(struct at_core *core, JsonNode *definition, char **ret_pointer,
                           GError **error);

/* ---- jobs and events ---- */
JsonNode *at_core_job_list(struct at_core *core, const char *state, const char *vdc,
                           GError **error);
JsonNode *at_core_job_view(struct at_core *core, const char *id, GError **error);
JsonNode *at_core_job_cancel(struct at_core *core, const struct at_actor *actor, const char *id,
                             GError **error);

/* Events: {id, time, type, subject, actor, data}; type such as "vdc.changed", "job.progress",
 * "workstation.crashed". Ids grow. @func runs on the main loop; what happened after @since and is
 * still known is delivered first (0: only new ones). */
typedef void (*at_event_func)(uint64_t id, JsonNode *event, void *user);
unsigned at_core_events_watch(struct at_core *core, uint64_t since, at_event_func func, void *user);
void at_core_events_unwatch(struct at_core *core, unsigned watch);
