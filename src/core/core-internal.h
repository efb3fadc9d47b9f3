/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of core share: the site object, paths, identifiers. */
#pragma once
#include <gio/gio.h>
#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "catalog/catalog.h"
#include "core/core.h"
#include "core/record.h"
#include "qemu/machine.h"
#include "vault/vault.h"

struct at_jobs;
struct at_events;
struct at_supervisor;
struct at_machine_locks;
struct at_restarts;
struct at_nbd;
struct at_watchdog;
struct at_node;
struct at_scrub;
struct at_gpus;

struct at_core {
    char *state_dir, *site_id;
    char *plugin_path;
    char *gpu_load_path;
    char *created;
    enum at_accel accel_wanted; /* what machines that say `auto` get */
    int lock_fd;
    uid_t uid_base; /* first of the site's block of 65536; uid_base as gid is the site's group */
    struct at_catalog *catalog;
    struct at_vault *vault;
    struct at_jobs *jobs;
    struct at_events *events;
    struct at_supervisor *supervisor;
    struct at_machine_locks *machine_locks;
    struct at_restarts *restarts;
    struct at_nbd *nbd;
    struct at_watchdog *watchdog;
    struct at_node *node;
    struct at_scrub *scrub;
    struct at_gpus *gpus;
    GHashTable *gpu_faults; /* errors heard of cards, or NULL; main thread (gpu-faults.c) */
    GMainContext *main;     /* the loop that owns us, and its thread */
    GThread *main_thread;
    bool closing;
};

/* The image server's slot is its uid and its gid: the vault is of that group, guests are not. */
enum { AT_SLOT_NBD = 1, AT_SLOT_FIRST = 16, AT_SLOT_LAST = 65000 };

/* "STATE/m/<id>" and the like; newly allocated. */
char *at_core_machine_dir(struct at_core *core, const char *machine_id);
char *at_core_net_dir(struct at_core *core, const char *vdc_id);
char *at_core_nbd_socket(struct at_core *core);
char *at_core_tmp_dir(struct at_core *core);
char *at_new_id(void);   /* 8 hex */
char *at_new_uuid(void); /* RFC 4122 version 4 */

/* Whether memory of this node is in several places (NUMA). */
bool at_node_has_numa(void);
/* Memory of this node in bytes; 0 when unknown. */
uint64_t at_node_memory(uint64_t *ret_available);

/* The file system of the state directory, in bytes. Guests come first: the vault stops taking new
 * content when no more than @kept is available, and leaves that to their overlays. Any thread. */
struct at_node_space {
    uint64_t total, available, kept;
};
bool at_node_space(struct at_core *core, struct at_node_space *ret_space, GError **error);
/* False with NO_SPACE, what is free, and what to do, when only that is left. */
bool at_node_room(struct at_core *core, GError **error);

/* ---- after a start of the daemon (reconcile.c) ---- */
/* Finds the machines that an earlier daemon left running. Main thread. */
bool at_core_adopt(struct at_core *core, GError **error);
/* Compares the host with the catalog in a job of its own. */
bool at_core_reconcile_start(struct at_core *core, GError **error);

/* Runs @func once on the main loop, later. Any thread. */
void at_core_later(struct at_core *core, GSourceFunc func, void *user);
/* Runs @func once on the main loop and waits for it; at once when this is its thread. Not under a
 * lock that the main loop takes. */
void at_core_call(struct at_core *core, GSourceFunc func, void *user);
/* Logs one line where an error stops travelling. Any thread. */
void at_core_log(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/* ---- what this host offers (node.c) ---- */
/* Tries the control groups, begins to look for warnings. Main thread. */
void at_node_open(struct at_core *core);
void at_node_close(struct at_core *core); /* looks that are under way end by themselves */
/* What became of a machine's control group: NULL, or why it runs without. Logged once for each
 * reason. Any thread. */
void at_node_note_cgroup(struct at_core *core, const char *reason);

/* ---- the slow round (watchdog.c); main thread ---- */
void at_watchdog_start(struct at_core *core);
void at_watchdog_stop(struct at_core *core);

/* ---- events (event.c) ---- */
struct at_events *at_events_new(struct at_core *core);
void at_events_free(struct at_events *events);
/* @data is taken (may be NULL). Any thread. */
void at_event_emit(struct at_core *core, const char *type, const char *subject, const char *actor,
                   JsonObject *data);

/* ---- the image server (nbd.c) ---- */
bool at_nbd_start(struct at_core *core, GError **error); /* finds or starts it; main thread */
void at_nbd_close(struct at_core *core);                 /* it keeps running */
bool at_nbd_stop(struct at_core *core, GError **error);  /* for a site that goes away */
/* Its process runs as far as we know. Main thread; does not block. */
bool at_nbd_alive(struct at_core *core);
/* Does it answer? Any thread; blocks at most 2 s. UNAVAILABLE otherwise. */
bool at_nbd_check(struct at_core *core, GError **error);
