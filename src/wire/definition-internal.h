/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that make up and read the definition share. */
#pragma once
#include "wire/definition.h"
#include "wire/place.h"

/* Empty values with their lists made. */
struct at_definition *at_definition_new(void);
struct at_def_workstation *at_def_workstation_new(void);

enum { AT_MAX_NETWORKS = 16 };

struct at_range {
    uint32_t net, mask;
};

/* What one document has used so far. The tables' values are texts such as "workstation tune". */
struct at_reader {
    struct at_check check;
    struct at_definition *def;
    struct at_range *ranges; /* of def->networks, same order */
    GHashTable *addresses, *macs, *ports, *writers;
};

/* Index in def->networks, or -1; the volume, or NULL. */
int at_reader_network(const struct at_reader *r, const char *name);
const struct at_def_volume *at_reader_volume(const struct at_reader *r, const char *name);

/* Reads one workstation but for its health checks and appends it; networks and volumes are there.
 */
bool at_reader_workstation(struct at_reader *r, const struct at_place *at, JsonNode *node);
/* Reads the health checks of a workstation whose addresses are all known. */
bool at_reader_health(struct at_reader *r, struct at_def_workstation *ws, const struct at_place *at,
                      JsonObject *obj);

/* Reads the requests for GPUs of one workstation, and the VDC's policy about them. */
bool at_reader_gpu(struct at_reader *r, struct at_def_workstation *ws, const struct at_place *at,
                   JsonNode *node);
bool at_reader_gpu_policy(struct at_reader *r, const struct at_place *at, JsonNode *node);
void at_def_gpu_free(void *gpu);
/* As they are written in normalised JSON; NULL for a policy that limits nothing. */
JsonObject *at_def_gpu_json(const void *gpu);
JsonObject *at_def_gpu_policy_json(const struct at_def_gpu_policy *policy);

/* The bounds of every disk and volume, in bytes. */
#define AT_MIN_DISK (UINT64_C(1) << 20)
#define AT_MAX_DISK (UINT64_C(64) << 40)
