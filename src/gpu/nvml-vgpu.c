/* SPDX-License-Identifier: Apache-2.0 */
/* The vGPU types of a card as profiles, with the geometry of the GPU instances below them; and the
 * mode in which sizes may be mixed. All of it exists only under the vGPU host driver. */
#include <string.h>

#include "gpu/nvml-internal.h"

enum { TRIES = 3, ROOM = 16 };

/* False when the library cannot tell; then nothing was appended. */
static bool list_types(struct at_nvml_ask *ask, GArray *ret)
{
    unsigned room = 0;
    for (unsigned i = 0; ask->nvml->f.vgpu_supported && i < TRIES; i++) {
        unsigned count = room;
        g_autofree unsigned *found = g_new0(unsigned, room + 1);
        int result = ask->nvml->f.vgpu_supported(ask->device, &count, found);
        if (at_nvml_got(ask, result)) {
            g_array_append_vals(ret, found, MIN(count, room));
            return true;
        }
        if (result != NVML_INSUFFICIENT_SIZE || room == AT_NVML_LIST_MAX)
            return false;
        room = MIN(count, (unsigned)AT_NVML_LIST_MAX - ROOM) + ROOM;
    }
    return false;
}

static char *name_of_type(struct at_nvml_ask *ask, unsigned type)
{
    char buf[NVML_VGPU_NAME_SIZE * 2] = "";
    unsigned size = sizeof buf;
    if (!AT_NVML_ASK(ask, vgpu_name, type, buf, &size))
        return NULL;
    g_autofree char *full = at_nvml_text(buf, sizeof buf);
    const char *name = full ? full : "";
    if (g_str_has_prefix(name, "NVIDIA "))
        name += strlen("NVIDIA ");
    else if (g_str_has_prefix(name, "GRID "))
        name += strlen("GRID ");
    return *name ? g_strdup(name) : NULL;
}

static unsigned most_when_mixed(struct at_nvml_ask *ask, unsigned type, unsigned most)
{
    unsigned room = CLAMP(most, ROOM, AT_NVML_LIST_MAX);
    g_autofree unsigned *ids = g_new0(unsigned, room);
    struct nvml_vgpu_placements list = {.version = NVML_VERSION_OF(struct nvml_vgpu_placements, 2),
                                        .count = room,
                                        .placementIds = ids};
    if (AT_NVML_ASK(ask, vgpu_placements, ask->device, type, &list))
        return MIN(list.count, room);
    /* The first version of the structure is a part of the second. */
    list.version = NVML_VERSION_OF(struct nvml_vgpu_placements_v1, 1);
    list.count = room;
    if (AT_NVML_ASK(ask, vgpu_placements, ask->device, type, &list))
        return MIN(list.count, room);
    return 0;
}

static unsigned most_in_instance(struct at_nvml_ask *ask, unsigned type)
{
    struct nvml_vgpu_max_per_gi max = {.version = NVML_VERSION_OF(struct nvml_vgpu_max_per_gi, 1),
                                       .vgpuTypeId = type};
    if (!AT_NVML_ASK(ask, vgpu_max_per_gi, &max) || max.maxInstancePerGI == 0)
        return 1;
    return MIN(max.maxInstancePerGI, (unsigned)AT_NVML_LIST_MAX);
}

static const struct at_nvml_gi *find_profile(const GArray *profiles, unsigned id)
{
    for (unsigned i = 0; i < profiles->len; i++) {
        const struct at_nvml_gi *gi = &g_array_index(profiles, struct at_nvml_gi, i);
        if (gi->id == id)
            return gi;
    }
    return NULL;
}

/* What lies below the type: NVML_NO_PROFILE for a time-sliced one. False when it is unknown; such a
 * type cannot be placed. */
static bool read_gi_profile(struct at_nvml_ask *ask, unsigned type, bool mig_capable, unsigned *ret)
{
    if (AT_NVML_ASK(ask, vgpu_gi_profile, type, ret))
        return true;
    *ret = NVML_NO_PROFILE;
    return !mig_capable;
}

static void set_geometry(struct at_gpu_profile *profile, const struct at_nvml_gi *gi)
{
    profile->gi_profile = gi->id;
    profile->gi_name = g_strdup(gi->name);
    profile->slices = gi->slices;
    profile->compute = gi->compute;
    profile->starts = gi->starts;
    profile->gi_max = gi->max;
    profile->media = gi->media;
}

static struct at_gpu_profile *read_type(struct at_nvml_ask *ask, unsigned type,
                                        const GArray *gi_profiles, const struct at_gpu_card *card)
{
    unsigned gi_profile;
    if (!read_gi_profile(ask, type, card->mig_capable, &gi_profile))
        return NULL;
    const struct at_nvml_gi *gi = NULL;
    if (gi_profile != NVML_NO_PROFILE && !(gi = find_profile(gi_profiles, gi_profile)))
        return NULL;
    g_autofree char *name = name_of_type(ask, type);
    if (!name)
        return NULL;
    struct at_gpu_profile *p = at_gpu_profile_new(name, gi ? AT_GPU_MIG_VGPU : AT_GPU_VGPU);
    p->type_id = type;
    unsigned long long memory;
    if (AT_NVML_ASK(ask, vgpu_memory, type, &memory))
        p->memory = memory;
    unsigned most;
    if (AT_NVML_ASK(ask, vgpu_max, ask->device, type, &most))
        p->max = MIN(most, (unsigned)AT_NVML_LIST_MAX);
    if (gi) {
        set_geometry(p, gi);
        p->per_gi = most_in_instance(ask, type);
    } else if (card->mixes_sizes) {
        p->max_mixed = most_when_mixed(ask, type, p->max);
    }
    p->isolation = gi && p->per_gi == 1 ? AT_GPU_HARDWARE : AT_GPU_SHARED;
    return p;
}

static void remove_vgpu_profiles(GPtrArray *profiles)
{
    for (unsigned i = profiles->len; i > 0; i--) {
        const struct at_gpu_profile *p = profiles->pdata[i - 1];
        if (p->kind == AT_GPU_VGPU || p->kind == AT_GPU_MIG_VGPU)
            g_ptr_array_remove_index(profiles, i - 1);
    }
}

void at_nvml_ask_vgpu(struct at_nvml_ask *ask, const GArray *gi_profiles, struct at_gpu_card *card)
{
    g_autoptr(GArray) types = g_array_new(FALSE, FALSE, sizeof(unsigned));
    if (!list_types(ask, types))
        return;
    unsigned mixes = 0;
    card->mixes_sizes =
        AT_NVML_ASK(ask, vgpu_capability, ask->device, NVML_VGPU_CAP_MIXED_SIZES, &mixes) &&
        mixes != 0;
    remove_vgpu_profiles(card->profiles);
    for (unsigned i = 0; i < types->len; i++) {
        struct at_gpu_profile *p =
            read_type(ask, g_array_index(types, unsigned, i), gi_profiles, card);
        if (p && !at_gpu_card_profile(card, p->name))
            g_ptr_array_add(card->profiles, p);
        else
            at_gpu_profile_free(p);
    }
}

/* True when the mode is as wanted already. */
static bool is_mixed(struct at_nvml_ask *ask, bool on)
{
    struct nvml_vgpu_mixed now = {.version = NVML_VERSION_OF(struct nvml_vgpu_mixed, 1)};
    return AT_NVML_ASK(ask, get_mixed, ask->device, &now) && (now.mode == 1) == on;
}

static bool set_mixed(struct at_nvml_ask *ask, const char *address, bool on, GError **error)
{
    if (is_mixed(ask, on))
        return true;
    if (!ask->nvml->f.set_mixed)
        return at_nvml_lacks(error, "mix sizes of vGPUs");
    struct nvml_vgpu_mixed wanted = {.version = NVML_VERSION_OF(struct nvml_vgpu_mixed, 1),
                                     .mode = on};
    int result = ask->nvml->f.set_mixed(ask->device, &wanted);
    if (at_nvml_got(ask, result))
        return true;
    if (result == NVML_IN_USE)
        return at_error(error, AT_ERROR_CONFLICT,
                        "whether vGPUs of different sizes share the card %s can be changed only "
                        "while it has none; stop those that use it first (NVML error %d)",
                        address, result);
    return at_nvml_fail(error, result, "the card %s cannot %s vGPUs of different sizes", address,
                        on ? "mix" : "stop mixing");
}

bool at_nvml_set_mixed_sizes(struct at_nvml *nvml, const char *address, bool on, GError **error)
{
    if (!at_nvml_enter(nvml, error))
        return false;
    struct at_nvml_ask ask;
    bool done = at_nvml_ask_init(&ask, nvml, address, error) && set_mixed(&ask, address, on, error);
    at_nvml_leave(nvml);
    return done;
}
