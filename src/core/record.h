/* SPDX-License-Identifier: Apache-2.0 */
/* The core's catalog records as typed values: VDC, machine, snapshot. Each is read from and
 * written to JSON here and nowhere else; unknown members of a record are dropped. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "catalog/catalog.h"
#include "wire/definition.h"

/* ---- vdc/<name> ---- */
struct at_vdc {
    char *name, *id; /* id: 8 hex */
    char *owner, *created;
    char *uplink;      /* "100.x.y.z/30"; "" while there is none */
    char *cloned_from; /* "vdc@snap" or NULL */
    char *undo;        /* name of the safety snapshot of the last restore, or NULL */
    bool want_running;
    bool ready; /* false while a job is still making it */
    struct at_definition *def;
    JsonArray *ports; /* {host, guest, workstation, protocol, address}: what is really published */
    uint64_t revision;
};
typedef struct at_vdc at_vdc;
void at_vdc_free(at_vdc *vdc);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_vdc, at_vdc_free)

/* ---- machine/<id>: one instance of a workstation; a restore makes new ones ---- */
struct at_disk {
    unsigned index;
    char *name;
    uint64_t size;
    bool readonly; /* a volume shared read-only: no overlays */
    char *base;    /* 64 hex, NULL: zeros */
    GArray *gens;  /* unsigned: overlay generations, oldest first, the last is live */
    unsigned next; /* next generation that was never used */
};
struct at_mach {
    char *id; /* 8 hex; directory STATE/m/<id> */
    char *vdc, *vdc_id, *workstation;
    char *uuid, *vmgenid, *instance_id;
    bool fresh;    /* identity policy `fresh` was asked for at cloning */
    unsigned slot; /* uid = site's base + slot */
    char *state;   /* active | pending (a restore prepares it) | retired (only its frozen
                    * overlays are still needed) */
    bool want_running;
    unsigned restarts;
    char *last_crash;   /* when its process last died by itself, RFC 3339, or NULL */
    bool down_by_crash; /* and it was not started since */
    GPtrArray *disks;   /* struct at_disk* */
    uint64_t revision;
};
typedef struct at_mach at_mach;
void at_mach_free(at_mach *mach);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_mach, at_mach_free)
struct at_disk *at_disk_new(unsigned index, const char *name, uint64_t size, const char *base,
                            bool readonly);
void at_disk_free(struct at_disk *disk);
/* The live generation, 0 when there is none. */
unsigned at_disk_live(const struct at_disk *disk);

/* ---- snapshot/<vdc-id>/<name> ---- */
struct at_snap_disk {
    char *workstation, *name;
    char *machine;        /* whose overlays still hold it; NULL once sealed */
    unsigned index, upto; /* content = base + generations <= upto */
    uint64_t size;
    char *root; /* 64 hex once sealed */
};
struct at_snap {
    char *name, *vdc, *vdc_id;
    char *state; /* capturing | captured | sealed | verified */
    char *digest, *created, *actor, *description;
    bool safety;
    double pause_ms, skew_ms;
    uint64_t stored_bytes, changed_bytes;
    JsonObject *consistency; /* workstation -> {class, reason} */
    JsonObject *identity;    /* workstation -> {uuid, instance_id} */
    JsonNode *definition;
    GPtrArray *disks; /* struct at_snap_disk* */
    uint64_t revision;
};
typedef struct at_snap at_snap;
at_snap *at_snap_new(const char *name, const char *vdc, const char *vdc_id);
void at_snap_free(at_snap *snap);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_snap, at_snap_free)

/* Reading: NOT_FOUND "VDC x does not exist", CORRUPT when a record cannot be understood. */
at_vdc *at_vdc_load(struct at_catalog *catalog, const char *name, GError **error);
at_mach *at_mach_load(struct at_catalog *catalog, const char *id, GError **error);
at_snap *at_snap_load(struct at_catalog *catalog, const char *vdc_id, const char *name,
                      GError **error);
/* Lists; free funcs set. @vdc_id NULL: all. */
GPtrArray *at_vdc_load_all(struct at_catalog *catalog, GError **error);
GPtrArray *at_mach_load_all(struct at_catalog *catalog, const char *vdc_id, GError **error);
GPtrArray *at_snap_load_all(struct at_catalog *catalog, const char *vdc_id, GError **error);

/* Into a transaction, expecting the revision that was read (0: must be new). */
void at_vdc_put(struct at_txn *txn, const at_vdc *vdc);
void at_mach_put(struct at_txn *txn, const at_mach *mach);
void at_snap_put(struct at_txn *txn, const at_snap *snap);
void at_vdc_delete(struct at_txn *txn, const at_vdc *vdc);
void at_mach_delete(struct at_txn *txn, const at_mach *mach);
void at_snap_delete(struct at_txn *txn, const at_snap *snap);
/* One record in a transaction of its own; updates its revision. */
bool at_vdc_save(struct at_catalog *catalog, at_vdc *vdc, GError **error);
bool at_mach_save(struct at_catalog *catalog, at_mach *mach, GError **error);
/* Loads the machine, has @change change it, and saves it; again when somebody else came in between.
 * @change gives false when there is nothing to save. */
typedef bool (*at_mach_change)(at_mach *mach, void *user);
bool at_mach_update(struct at_catalog *catalog, const char *id, at_mach_change change, void *user,
                    GError **error);
bool at_snap_save(struct at_catalog *catalog, at_snap *snap, GError **error);
