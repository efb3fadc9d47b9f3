/* SPDX-License-Identifier: Apache-2.0 */
/* NVML's double: vGPU types, under the vGPU host driver. What is supported never changes; what can
 * be created depends on what the card has. */
#include <stdio.h>
#include <string.h>

#include "lib/nvml-double/double.h"

#define BEGIN(name)                                                                                \
    struct card *card;                                                                             \
    int result = enter(#name);                                                                     \
    if (result)                                                                                    \
        return result;                                                                             \
    if ((result = card_of(device, DEVICE, &card)))                                                 \
        return leave(result);                                                                      \
    if (!state.host)                                                                               \
    return leave(NOT_SUPPORTED)

enum { TYPES = 32 };

/* vGPU types are numbers without a card; the boards of the state are looked through. */
#define BEGIN_TYPE(name)                                                                           \
    const struct vgpu_type *t;                                                                     \
    int result = enter(#name);                                                                     \
    if (result)                                                                                    \
        return result;                                                                             \
    if (!(t = any_type(type)))                                                                     \
    return leave(INVALID)

static const struct vgpu_type *any_type(unsigned id)
{
    for (unsigned i = 0; i < state.n_cards; i++) {
        const struct vgpu_type *t = board_type(state.cards[i].board, id);
        if (t)
            return t;
    }
    return NULL;
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedVgpus(nvmlDevice_t device, unsigned *count,
                                                unsigned *ret);
nvmlReturn_t nvmlDeviceGetSupportedVgpus(nvmlDevice_t device, unsigned *count, unsigned *ret)
{
    BEGIN(nvmlDeviceGetSupportedVgpus);
    unsigned ids[TYPES], n = 0;
    for (const struct vgpu_type *t = card->board->types; t->name; t++)
        ids[n++] = t->id;
    return leave(give_list(ids, n, count, ret));
}

static unsigned running(const struct card *card, const struct vgpu_type *type, int gi)
{
    unsigned n = 0;
    for (unsigned i = 0; i < state.n_vgpus; i++) {
        const struct vgpu *v = &state.vgpus[i];
        n += strcmp(v->address, card->address) == 0 && (!type || v->type == type->id) &&
             (gi < 0 || v->gi == gi);
    }
    return n;
}

static bool has_room_in_gi(const struct card *card, const struct vgpu_type *type)
{
    for (unsigned i = 0; i < state.n_gis; i++) {
        const struct instance *gi = &state.gis[i];
        if (strcmp(gi->address, card->address) == 0 && (int)gi->profile == type->gi_profile &&
            running(card, NULL, (int)gi->id) < type->per_gi)
            return true;
    }
    return false;
}

/* Memory of all that runs; equal sizes only, unless the card mixes them. */
static bool has_room(const struct card *card, const struct vgpu_type *type)
{
    unsigned used = type->memory_mb;
    for (unsigned i = 0; i < state.n_vgpus; i++) {
        const struct vgpu *v = &state.vgpus[i];
        const struct vgpu_type *other = board_type(card->board, v->type);
        if (!other || strcmp(v->address, card->address) != 0)
            continue;
        if (!card->mixed && other->memory_mb != type->memory_mb)
            return false;
        used += other->memory_mb;
    }
    return used <= (card->board->memory_mb + 2048) &&
           running(card, type, -1) < (card->mixed ? type->max_mixed : type->max);
}

EXPORT nvmlReturn_t nvmlDeviceGetCreatableVgpus(nvmlDevice_t device, unsigned *count,
                                                unsigned *ret);
nvmlReturn_t nvmlDeviceGetCreatableVgpus(nvmlDevice_t device, unsigned *count, unsigned *ret)
{
    BEGIN(nvmlDeviceGetCreatableVgpus);
    unsigned ids[TYPES], n = 0;
    for (const struct vgpu_type *t = card->board->types; t->name; t++) {
        bool fits = t->gi_profile >= 0 ? card->mig && has_room_in_gi(card, t)
                                       : !card->mig && has_room(card, t);
        if (fits)
            ids[n++] = t->id;
    }
    return leave(give_list(ids, n, count, ret));
}

EXPORT nvmlReturn_t nvmlVgpuTypeGetName(unsigned type, char *buf, unsigned *size);
nvmlReturn_t nvmlVgpuTypeGetName(unsigned type, char *buf, unsigned *size)
{
    BEGIN_TYPE(nvmlVgpuTypeGetName);
    unsigned needed = (unsigned)strlen(t->name) + 1, room = *size;
    *size = needed;
    if (room < needed)
        return leave(TOO_SMALL);
    memcpy(buf, t->name, needed);
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlVgpuTypeGetFramebufferSize(unsigned type, unsigned long long *ret);
nvmlReturn_t nvmlVgpuTypeGetFramebufferSize(unsigned type, unsigned long long *ret)
{
    BEGIN_TYPE(nvmlVgpuTypeGetFramebufferSize);
    *ret = (unsigned long long)t->memory_mb << 20;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlVgpuTypeGetGpuInstanceProfileId(unsigned type, unsigned *ret);
nvmlReturn_t nvmlVgpuTypeGetGpuInstanceProfileId(unsigned type, unsigned *ret)
{
    BEGIN_TYPE(nvmlVgpuTypeGetGpuInstanceProfileId);
    *ret = (unsigned)t->gi_profile;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlVgpuTypeGetMaxInstances(nvmlDevice_t device, unsigned type, unsigned *ret);
nvmlReturn_t nvmlVgpuTypeGetMaxInstances(nvmlDevice_t device, unsigned type, unsigned *ret)
{
    BEGIN(nvmlVgpuTypeGetMaxInstances);
    const struct vgpu_type *t = board_type(card->board, type);
    if (!t)
        return leave(INVALID);
    *ret = t->max;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlVgpuTypeGetMaxInstancesPerGpuInstance(nvmlVgpuTypeMaxInstance_v1_t *max);
nvmlReturn_t nvmlVgpuTypeGetMaxInstancesPerGpuInstance(nvmlVgpuTypeMaxInstance_v1_t *max)
{
    unsigned type = max->vgpuTypeId;
    BEGIN_TYPE(nvmlVgpuTypeGetMaxInstancesPerGpuInstance);
    if (max->version != VERSION(nvmlVgpuTypeMaxInstance_v1_t, 1))
        return leave(WRONG_VERSION);
    max->maxInstancePerGI = t->per_gi;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetVgpuTypeSupportedPlacements(nvmlDevice_t device, unsigned type,
                                                             nvmlVgpuPlacementList_v2_t *list);
nvmlReturn_t nvmlDeviceGetVgpuTypeSupportedPlacements(nvmlDevice_t device, unsigned type,
                                                      nvmlVgpuPlacementList_v2_t *list)
{
    BEGIN(nvmlDeviceGetVgpuTypeSupportedPlacements);
    /* The first version has the same members but for the last. */
    bool second = list->version == VERSION(nvmlVgpuPlacementList_v2_t, 2);
    if (!second && list->version != (24U | 1U << 24))
        return leave(WRONG_VERSION);
    const struct vgpu_type *t = board_type(card->board, type);
    if (!t || t->gi_profile >= 0 || !card->board->mixes)
        return leave(NOT_SUPPORTED);
    unsigned n = second && list->mode == 1 ? t->max : t->max_mixed;
    unsigned room = list->count;
    list->count = n;
    list->placementSize = t->memory_mb / 1024;
    if (room < n)
        return leave(TOO_SMALL);
    for (unsigned i = 0; i < n; i++)
        list->placementIds[i] = i * list->placementSize;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetVgpuCapabilities(nvmlDevice_t device, int capability,
                                                  unsigned *ret);
nvmlReturn_t nvmlDeviceGetVgpuCapabilities(nvmlDevice_t device, int capability, unsigned *ret)
{
    BEGIN(nvmlDeviceGetVgpuCapabilities);
    *ret = (capability == 1 || capability == 2) && card->board->mixes;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetVgpuHeterogeneousMode(nvmlDevice_t device,
                                                       nvmlVgpuHeterogeneousMode_v1_t *mode);
nvmlReturn_t nvmlDeviceGetVgpuHeterogeneousMode(nvmlDevice_t device,
                                                nvmlVgpuHeterogeneousMode_v1_t *mode)
{
    BEGIN(nvmlDeviceGetVgpuHeterogeneousMode);
    if (mode->version != VERSION(nvmlVgpuHeterogeneousMode_v1_t, 1))
        return leave(WRONG_VERSION);
    if (!card->board->mixes)
        return leave(NOT_SUPPORTED);
    mode->mode = card->mixed;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceSetVgpuHeterogeneousMode(nvmlDevice_t device,
                                                       const nvmlVgpuHeterogeneousMode_v1_t *mode);
nvmlReturn_t nvmlDeviceSetVgpuHeterogeneousMode(nvmlDevice_t device,
                                                const nvmlVgpuHeterogeneousMode_v1_t *mode)
{
    BEGIN(nvmlDeviceSetVgpuHeterogeneousMode);
    if (mode->version != VERSION(nvmlVgpuHeterogeneousMode_v1_t, 1))
        return leave(WRONG_VERSION);
    if (!card->board->mixes || card->mig)
        return leave(NOT_SUPPORTED);
    if (running(card, NULL, -1))
        return leave(IN_USE);
    card->mixed = mode->mode;
    state.changed = true;
    return leave(OK);
}
