/* SPDX-License-Identifier: Apache-2.0 */
/* NVML's double: MIG mode, GPU instances and compute instances, with the rules of the grid. */
#include <string.h>

#include "lib/nvml-double/double.h"

#define BEGIN(name, handle, kind)                                                                  \
    struct card *card;                                                                             \
    int result = enter(#name);                                                                     \
    if (result)                                                                                    \
        return result;                                                                             \
    if ((result = card_of(handle, kind, &card)))                                                   \
    return leave(result)

enum { GI_INDICES = 0x12, CI_INDICES = 9 };
/* Compute slices of the indices of compute instance profiles. */
static const unsigned ci_slices[CI_INDICES] = {1, 2, 3, 4, 7, 8, 6, 1, 7};

unsigned instances_of(const struct card *card)
{
    unsigned n = 0;
    for (unsigned i = 0; i < state.n_gis; i++)
        n += strcmp(state.gis[i].address, card->address) == 0;
    return n;
}

static unsigned users_of(const struct card *card, int gi)
{
    unsigned n = 0;
    for (unsigned i = 0; i < state.n_processes; i++)
        n += strcmp(state.processes[i].address, card->address) == 0 &&
             (gi < 0 || state.processes[i].gi == gi);
    for (unsigned i = 0; i < state.n_vgpus; i++)
        n += strcmp(state.vgpus[i].address, card->address) == 0 &&
             (gi < 0 || state.vgpus[i].gi == gi);
    return n;
}

struct instance *find_gi(const char *address, unsigned id)
{
    for (unsigned i = 0; i < state.n_gis; i++) {
        if (state.gis[i].id == id && strcmp(state.gis[i].address, address) == 0)
            return &state.gis[i];
    }
    return NULL;
}

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *now, unsigned *later);
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *now, unsigned *later)
{
    BEGIN(nvmlDeviceGetMigMode, device, DEVICE);
    if (!card->board->profiles)
        return leave(NOT_SUPPORTED);
    *now = card->mig;
    *later = card->pending ? !card->mig : card->mig;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned mode,
                                         nvmlReturn_t *activation);
nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned mode, nvmlReturn_t *activation)
{
    BEGIN(nvmlDeviceSetMigMode, device, DEVICE);
    if (!card->board->profiles)
        return leave(NOT_SUPPORTED);
    *activation = OK;
    if (mode == card->mig) {
        state.changed = true;
        card->pending = 0;
        return leave(OK);
    }
    unsigned users = users_of(card, -1) + card->vfs;
    if (instances_of(card) || (users && !card->board->resets))
        return leave(IN_USE);
    state.changed = true;
    card->pending = 1;
    if (users || card->guest) {
        *activation = users ? IN_USE : RESET_REQUIRED;
        return leave(OK);
    }
    card->pending = 0;
    card->mig = mode;
    card->generation++;
    return leave(OK);
}

static const struct gi_profile *at_index(const struct card *card, unsigned index)
{
    for (const struct gi_profile *p = card->board->profiles; p && p->name; p++) {
        if (p->index == index)
            return p;
    }
    return NULL;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned index,
                                                        nvmlGpuInstanceProfileInfo_t *ret);
nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned index,
                                                 nvmlGpuInstanceProfileInfo_t *ret)
{
    BEGIN(nvmlDeviceGetGpuInstanceProfileInfo, device, DEVICE);
    if (index >= GI_INDICES)
        return leave(INVALID);
    const struct gi_profile *p = at_index(card, index);
    if (!p)
        return leave(NOT_SUPPORTED);
    *ret = (nvmlGpuInstanceProfileInfo_t){.id = p->id,
                                          .sliceCount = p->slices,
                                          .instanceCount = p->count,
                                          .multiprocessorCount = p->sm,
                                          .copyEngineCount = p->slices,
                                          .memorySizeMB = p->memory_mb};
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned index,
                                                         nvmlGpuInstanceProfileInfo_v2_t *ret);
nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned index,
                                                  nvmlGpuInstanceProfileInfo_v2_t *ret)
{
    BEGIN(nvmlDeviceGetGpuInstanceProfileInfoV, device, DEVICE);
    if (ret->version != VERSION(nvmlGpuInstanceProfileInfo_v2_t, 2))
        return leave(WRONG_VERSION);
    if (index >= GI_INDICES)
        return leave(INVALID);
    const struct gi_profile *p = at_index(card, index);
    if (!p)
        return leave(NOT_SUPPORTED);
    *ret = (nvmlGpuInstanceProfileInfo_v2_t){.version = ret->version,
                                             .id = p->id,
                                             .sliceCount = p->slices,
                                             .instanceCount = p->count,
                                             .multiprocessorCount = p->sm,
                                             .copyEngineCount = p->slices,
                                             .memorySizeMB = p->memory_mb};
    if (card->board->mig_prefix)
        strcat(ret->name, "MIG ");
    strcat(ret->name, p->name);
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned id,
                                                                  nvmlGpuInstancePlacement_t *ret,
                                                                  unsigned *count);
nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned id,
                                                           nvmlGpuInstancePlacement_t *ret,
                                                           unsigned *count)
{
    BEGIN(nvmlDeviceGetGpuInstancePossiblePlacements_v2, device, DEVICE);
    const struct gi_profile *p = board_profile(card->board, id);
    if (!p)
        return leave(INVALID);
    unsigned n = 0;
    for (unsigned start = 0; start < 32; start++) {
        if (!(p->starts & 1U << start))
            continue;
        if (ret)
            ret[n] = (nvmlGpuInstancePlacement_t){start, p->size};
        n++;
    }
    *count = n;
    return leave(OK);
}

bool gi_fits(const struct card *card, const struct gi_profile *profile, unsigned start)
{
    unsigned compute = profile->slices, same = 1, media = profile->media;
    for (unsigned i = 0; i < state.n_gis; i++) {
        const struct instance *gi = &state.gis[i];
        if (strcmp(gi->address, card->address) != 0)
            continue;
        const struct gi_profile *other = board_profile(card->board, gi->profile);
        if (!other || (start < gi->start + other->size && gi->start < start + profile->size))
            return false;
        compute += other->slices;
        same += other == profile;
        media += other->media;
    }
    return compute <= card->board->compute && same <= profile->count && media <= 1;
}

/* As seen on hardware: by level of halving, and of halves of the grid of eight the second first. */
static unsigned id_for(const struct card *card, const struct gi_profile *p, unsigned start)
{
    unsigned parts = card->board->grid / p->size, at = start / p->size;
    if (parts == 2 && card->board->grid == 8)
        at = 1 - at;
    return parts - 1 + at;
}

EXPORT nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(
    nvmlDevice_t device, unsigned id, const nvmlGpuInstancePlacement_t *place,
    nvmlGpuInstance_t *ret);
nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, unsigned id,
                                                      const nvmlGpuInstancePlacement_t *place,
                                                      nvmlGpuInstance_t *ret)
{
    BEGIN(nvmlDeviceCreateGpuInstanceWithPlacement, device, DEVICE);
    if (!card->mig)
        return leave(NOT_SUPPORTED);
    const struct gi_profile *p = board_profile(card->board, id);
    if (!p || place->size != p->size || place->start >= 32 || !(p->starts & 1U << place->start))
        return leave(INVALID);
    if (!gi_fits(card, p, place->start) || state.n_gis + 1 == THINGS)
        return leave(NO_ROOM);
    struct instance *gi = &state.gis[state.n_gis++];
    memcpy(gi->address, card->address, sizeof gi->address);
    gi->id = id_for(card, p, place->start);
    gi->profile = id;
    gi->start = place->start;
    state.changed = true;
    *ret = handle_of(GPU_INSTANCE, card, gi->id, 0);
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t handle);
nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t handle)
{
    BEGIN(nvmlGpuInstanceDestroy, handle, GPU_INSTANCE);
    struct instance *gi = find_gi(card->address, handle->gi);
    if (!gi)
        return leave(INVALID);
    for (unsigned i = 0; i < state.n_cis; i++) {
        if (state.cis[i].gi == gi->id && strcmp(state.cis[i].address, card->address) == 0)
            return leave(IN_USE);
    }
    if (users_of(card, (int)gi->id))
        return leave(IN_USE);
    *gi = state.gis[--state.n_gis];
    state.changed = true;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned id,
                                              nvmlGpuInstance_t *ret, unsigned *count);
nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *ret,
                                       unsigned *count)
{
    BEGIN(nvmlDeviceGetGpuInstances, device, DEVICE);
    if (!card->mig)
        return leave(NOT_SUPPORTED);
    if (!board_profile(card->board, id))
        return leave(INVALID);
    *count = 0;
    for (unsigned i = 0; i < state.n_gis; i++) {
        const struct instance *gi = &state.gis[i];
        if (gi->profile == id && strcmp(gi->address, card->address) == 0)
            ret[(*count)++] = handle_of(GPU_INSTANCE, card, gi->id, 0);
    }
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned id,
                                                 nvmlGpuInstance_t *ret);
nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned id, nvmlGpuInstance_t *ret)
{
    BEGIN(nvmlDeviceGetGpuInstanceById, device, DEVICE);
    if (!card->mig)
        return leave(NOT_SUPPORTED);
    if (!find_gi(card->address, id))
        return leave(NOT_FOUND);
    *ret = handle_of(GPU_INSTANCE, card, id, 0);
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t handle, nvmlGpuInstanceInfo_t *ret);
nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t handle, nvmlGpuInstanceInfo_t *ret)
{
    BEGIN(nvmlGpuInstanceGetInfo, handle, GPU_INSTANCE);
    const struct instance *gi = find_gi(card->address, handle->gi);
    const struct gi_profile *p = gi ? board_profile(card->board, gi->profile) : NULL;
    if (!p)
        return leave(INVALID);
    *ret = (nvmlGpuInstanceInfo_t){.device = handle_of(DEVICE, card, 0, 0),
                                   .id = gi->id,
                                   .profileId = gi->profile,
                                   .placement = {gi->start, p->size}};
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(
    nvmlGpuInstance_t handle, unsigned index, unsigned engines,
    nvmlComputeInstanceProfileInfo_t *ret);
nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t handle, unsigned index,
                                                          unsigned engines,
                                                          nvmlComputeInstanceProfileInfo_t *ret)
{
    BEGIN(nvmlGpuInstanceGetComputeInstanceProfileInfo, handle, GPU_INSTANCE);
    const struct instance *gi = find_gi(card->address, handle->gi);
    const struct gi_profile *p = gi ? board_profile(card->board, gi->profile) : NULL;
    if (!p || index >= CI_INDICES || engines != 0)
        return leave(INVALID);
    if (index > 4 || ci_slices[index] > p->slices)
        return leave(NOT_SUPPORTED);
    *ret = (nvmlComputeInstanceProfileInfo_t){.id = index,
                                              .sliceCount = ci_slices[index],
                                              .instanceCount = p->slices / ci_slices[index],
                                              .multiprocessorCount =
                                                  p->sm / p->slices * ci_slices[index]};
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t handle, unsigned id,
                                                         nvmlComputeInstance_t *ret);
nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t handle, unsigned id,
                                                  nvmlComputeInstance_t *ret)
{
    BEGIN(nvmlGpuInstanceCreateComputeInstance, handle, GPU_INSTANCE);
    const struct instance *gi = find_gi(card->address, handle->gi);
    const struct gi_profile *p = gi ? board_profile(card->board, gi->profile) : NULL;
    if (!p || id >= CI_INDICES)
        return leave(INVALID);
    unsigned slices = ci_slices[id], next = 0;
    for (unsigned i = 0; i < state.n_cis; i++) {
        const struct compute *other = &state.cis[i];
        if (other->gi != gi->id || strcmp(other->address, card->address) != 0)
            continue;
        slices += ci_slices[other->profile];
        next = other->id >= next ? other->id + 1 : next;
    }
    if (slices > p->slices || state.n_cis + 1 == THINGS)
        return leave(NO_ROOM);
    struct compute *ci = &state.cis[state.n_cis++];
    *ci = (struct compute){.gi = gi->id, .id = next, .profile = id};
    memcpy(ci->address, card->address, sizeof ci->address);
    state.changed = true;
    *ret = handle_of(COMPUTE_INSTANCE, card, gi->id, next);
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t handle);
nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t handle)
{
    BEGIN(nvmlComputeInstanceDestroy, handle, COMPUTE_INSTANCE);
    for (unsigned i = 0; i < state.n_cis; i++) {
        struct compute *ci = &state.cis[i];
        if (ci->gi != handle->gi || ci->id != handle->ci || strcmp(ci->address, card->address) != 0)
            continue;
        if (users_of(card, (int)ci->gi))
            return leave(IN_USE);
        *ci = state.cis[--state.n_cis];
        state.changed = true;
        return leave(OK);
    }
    return leave(INVALID);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t handle, unsigned id,
                                                       nvmlComputeInstance_t *ret, unsigned *count);
nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t handle, unsigned id,
                                                nvmlComputeInstance_t *ret, unsigned *count)
{
    BEGIN(nvmlGpuInstanceGetComputeInstances, handle, GPU_INSTANCE);
    *count = 0;
    for (unsigned i = 0; i < state.n_cis; i++) {
        const struct compute *ci = &state.cis[i];
        if (ci->gi == handle->gi && ci->profile == id && strcmp(ci->address, card->address) == 0)
            ret[(*count)++] = handle_of(COMPUTE_INSTANCE, card, ci->gi, ci->id);
    }
    return leave(OK);
}
