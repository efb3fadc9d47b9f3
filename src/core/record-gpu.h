/* SPDX-License-Identifier: Apache-2.0 */
/* gpu/<id>: what the site knows of a card, and who holds what of it. All that is held of one card
 * is in one record, so that a grant that another one has overtaken is refused by the record's
 * revision. */
#pragma once
#include "core/record.h"
#include "gpu/gpu.h"

/* A part of a card that a workstation has; from before the first change on the host until after the
 * last one is undone. */
struct at_gpu_hold_rec {
    char *machine, *vdc, *workstation;
    unsigned request, nth;          /* of the workstation's list `gpus`, and of its count */
    struct at_gpu_profile *profile; /* as it was when it was granted */
    unsigned start;                 /* MIG-backed: memory slice */
    bool keep;                      /* also while the workstation is stopped */
    char *asked;                    /* the request as text: another one needs another grant */
    char *since;
    /* What was made on the host for it (see struct at_gpu_attachment); attached: it may be there.
     */
    bool attached;
    char *uuid, *function, *former_driver;
    unsigned instance;
};
struct at_gpu_hold_rec *at_gpu_hold_rec_new(void);
void at_gpu_hold_rec_free(struct at_gpu_hold_rec *hold);

/* Who had a part of a card before, and how what they left in it was cleared. */
struct at_gpu_past_rec {
    char *vdc, *workstation, *profile, *isolation;
    char *from, *to;
    char *cleared; /* as struct at_gpu_attachment says */
};
enum { AT_GPU_PAST_MAX = 64 };        /* of a card */
enum { AT_GPU_REMEMBERED_MAX = 160 }; /* profiles of a card */

struct at_gpu_rec {
    char *id, *node, *address;
    uint16_t vendor, device;
    char *vendor_name, *name, *serial;
    /* What is lasting of the card beside its id (gpu-identity.c), or NULL; AT_GPU_NUMBER_SHARED: it
     * was found to be no number of this card alone. */
    char *pci_serial, *unique_id;
    uint64_t memory; /* 0: unknown */
    bool present;    /* seen by the last scan */
    char *first_seen;
    char *reserved;    /* why it is kept for the host, or NULL */
    char *quarantined; /* why it is not to be used any more, or NULL */
    bool mixed;        /* time-sliced vGPUs of different sizes are wanted on it */
    JsonNode *test;    /* result of the last isolation test, or NULL */
    GPtrArray *holds;  /* struct at_gpu_hold_rec* */
    GPtrArray *past;   /* struct at_gpu_past_rec*, oldest first */
    /* What can be given of it, and of how many slices it is, as it said when it last could. */
    GPtrArray *profiles; /* struct at_gpu_profile* */
    unsigned grid_slices, grid_compute;
    uint64_t revision;
};
typedef struct at_gpu_rec at_gpu_rec;
at_gpu_rec *at_gpu_rec_new(const char *id);
void at_gpu_rec_free(at_gpu_rec *rec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_gpu_rec, at_gpu_rec_free)

/* NOT_FOUND "GPU x does not exist". @id is not trusted. */
at_gpu_rec *at_gpu_rec_load(struct at_catalog *catalog, const char *id, GError **error);
GPtrArray *at_gpu_rec_load_all(struct at_catalog *catalog, GError **error);
void at_gpu_rec_put(struct at_txn *txn, const at_gpu_rec *rec);
void at_gpu_rec_delete(struct at_txn *txn, const at_gpu_rec *rec);
bool at_gpu_rec_save(struct at_catalog *catalog, at_gpu_rec *rec, GError **error);
/* As at_mach_update(). */
typedef bool (*at_gpu_rec_change)(at_gpu_rec *rec, void *user);
bool at_gpu_rec_update(struct at_catalog *catalog, const char *id, at_gpu_rec_change change,
                       void *user, GError **error);

/* The hold of a machine's request, borrowed; NULL when it has none. */
struct at_gpu_hold_rec *at_gpu_rec_hold(const at_gpu_rec *rec, const char *machine,
                                        unsigned request, unsigned nth);
/* Of a workstation's request, whichever machine has it. */
struct at_gpu_hold_rec *at_gpu_rec_hold_of(const at_gpu_rec *rec, const char *vdc,
                                           const char *workstation, unsigned request, unsigned nth);
/* A hold that nobody uses any more and that could not be given back: its machine. */
#define AT_GPU_NOBODY "-"

/* @hold ended now. The oldest one gives way when there are too many. @cleared may be NULL. */
void at_gpu_rec_add_past(at_gpu_rec *rec, const struct at_gpu_hold_rec *hold, const char *cleared);

/* Remembers what @card says of its profiles and its grid. True when that is something new. */
bool at_gpu_rec_remember(at_gpu_rec *rec, const struct at_gpu_card *card);

/* True when it can be part of a catalog's key. */
bool at_gpu_id_valid(const char *id);
JsonObject *at_gpu_profile_json(const struct at_gpu_profile *profile);
