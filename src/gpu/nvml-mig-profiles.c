/* SPDX-License-Identifier: Apache-2.0 */
/* MIG as a card has it: GPU instance profiles with their places, the grid, the instances that
 * exist. Profiles are enumerated by an index; all else is said with the profile's id, which means
 * something only together with the card. */
#include <math.h>
#include <string.h>

#include "gpu/nvml-internal.h"

/* What profiles of an index are for; used where the library does not name them. */
static const char *suffix_of(unsigned index)
{
    switch (index) {
    case 0x7:
    case 0x8:
        return "+me";
    case 0xa:
    case 0xb:
    case 0xc:
    case 0x11:
        return "+gfx";
    case 0xd:
    case 0xe:
        return "-me";
    case 0xf:
    case 0x10:
        return "+me.all";
    default:
        return "";
    }
}

/* NVIDIA's tools name the memory of an instance in eighths of the card's, rounded up. */
static char *name_of(const struct at_nvml_gi *gi, uint64_t memory)
{
    if (memory == 0)
        return g_strdup_printf("%ug%s", gi->compute, suffix_of(gi->index));
    double part = ceil((double)gi->memory_mb * 1048576.0 / (double)memory * 8) / 8;
    uint64_t gib = (memory + (1ULL << 30) - 1) >> 30;
    return g_strdup_printf("%ug.%.0fgb%s", gi->compute, round(MIN(part, 1) * (double)gib),
                           suffix_of(gi->index));
}

/* NVML_SUCCESS, NVML_INVALID_ARGUMENT at the end of the indices, or why there is none at @index. */
static int read_profile(struct at_nvml_ask *ask, unsigned index, struct at_nvml_gi *ret)
{
    struct nvml_gi_profile_v2 v2 = {.version = NVML_VERSION_OF(struct nvml_gi_profile_v2, 2)};
    struct nvml_gi_profile v1 = {0};
    int result = NVML_FUNCTION_NOT_FOUND;
    if (ask->nvml->f.gi_profile_v)
        result = ask->nvml->f.gi_profile_v(ask->device, index, &v2);
    if (at_nvml_got(ask, result)) {
        *ret = (struct at_nvml_gi){.id = v2.id,
                                   .compute = v2.sliceCount,
                                   .max = v2.instanceCount,
                                   .memory_mb = v2.memorySizeMB,
                                   .name = at_nvml_text(v2.name, sizeof v2.name)};
        return result;
    }
    if (result == NVML_INVALID_ARGUMENT || result == NVML_NOT_SUPPORTED || !ask->nvml->f.gi_profile)
        return result;
    result = ask->nvml->f.gi_profile(ask->device, index, &v1);
    if (at_nvml_got(ask, result))
        *ret = (struct at_nvml_gi){.id = v1.id,
                                   .compute = v1.sliceCount,
                                   .max = v1.instanceCount,
                                   .memory_mb = v1.memorySizeMB};
    return result;
}

/* False when the library names no place that makes sense. */
static bool read_places(struct at_nvml_ask *ask, struct at_nvml_gi *gi)
{
    struct nvml_placement places[AT_NVML_PROFILES_MAX];
    unsigned count = 0;
    memset(places, 0, sizeof places);
    if (!AT_NVML_ASK(ask, gi_placements, ask->device, gi->id, NULL, &count) || count == 0 ||
        count > G_N_ELEMENTS(places))
        return false;
    unsigned room = count;
    if (!AT_NVML_ASK(ask, gi_placements, ask->device, gi->id, places, &count))
        return false;
    for (unsigned i = 0; i < MIN(count, room); i++) {
        unsigned start = places[i].start, size = places[i].size;
        bool fits = size > 0 && size <= AT_NVML_SLICES_MAX && start < AT_NVML_SLICES_MAX &&
                    start + size <= AT_NVML_SLICES_MAX;
        if (!fits || (gi->slices && gi->slices != size))
            continue;
        gi->slices = size;
        gi->starts |= 1U << start;
    }
    return gi->starts != 0;
}

/* "MIG 1g.10gb" in some versions. */
static void name_profile(struct at_nvml_gi *gi, uint64_t memory)
{
    if (gi->name && g_str_has_prefix(gi->name, "MIG "))
        memmove(gi->name, gi->name + 4, strlen(gi->name + 4) + 1);
    if (!gi->name || !*gi->name) {
        g_free(gi->name);
        gi->name = name_of(gi, memory);
    }
    if (g_str_has_suffix(gi->name, "+me") || g_str_has_suffix(gi->name, "+me.all"))
        gi->media = 1;
}

static void clear_profile(void *p)
{
    struct at_nvml_gi *gi = p;
    g_free(gi->name);
}

GArray *at_nvml_ask_gi_profiles(struct at_nvml_ask *ask, uint64_t memory)
{
    GArray *profiles = g_array_new(FALSE, FALSE, sizeof(struct at_nvml_gi));
    g_array_set_clear_func(profiles, clear_profile);
    for (unsigned index = 0; index < AT_NVML_PROFILES_MAX; index++) {
        struct at_nvml_gi gi = {0};
        int result = read_profile(ask, index, &gi);
        if (result == NVML_INVALID_ARGUMENT || result == NVML_GPU_IS_LOST)
            break;
        if (result != NVML_SUCCESS)
            continue;
        gi.index = index;
        bool sane = gi.compute >= 1 && gi.compute <= AT_NVML_SLICES_MAX && gi.max >= 1 &&
                    gi.max <= AT_NVML_SLICES_MAX;
        if (sane && read_places(ask, &gi)) {
            name_profile(&gi, memory);
            g_array_append_val(profiles, gi);
        } else {
            g_free(gi.name);
        }
    }
    return profiles;
}

/* The grid is what the largest profile takes. */
static void set_grid(const GArray *profiles, struct at_gpu_card *card)
{
    card->grid_slices = card->grid_compute = 0;
    for (unsigned i = 0; i < profiles->len; i++) {
        const struct at_nvml_gi *gi = &g_array_index(profiles, struct at_nvml_gi, i);
        if (gi->slices > card->grid_slices) {
            card->grid_slices = gi->slices;
            card->grid_compute = gi->compute;
        } else if (gi->slices == card->grid_slices) {
            card->grid_compute = MAX(card->grid_compute, gi->compute);
        }
    }
}

void at_nvml_ask_mig(struct at_nvml_ask *ask, const GArray *profiles, struct at_gpu_card *card)
{
    unsigned now = 0, later = 0;
    card->mig_capable = AT_NVML_ASK(ask, mig_mode, ask->device, &now, &later);
    card->mig_on = card->mig_capable && now == 1;
    card->mig_pending = card->mig_capable && now != later;
    set_grid(profiles, card);
    g_ptr_array_set_size(card->instances, 0);
    if (card->mig_on)
        at_nvml_ask_instances(ask, profiles, card->instances);
}

unsigned at_nvml_ask_compute(struct at_nvml_ask *ask, struct nvml_gi *gi, struct nvml_ci **ret,
                             unsigned cap)
{
    unsigned n = 0;
    for (unsigned index = 0; index < AT_NVML_PROFILES_MAX; index++) {
        struct nvml_ci_profile profile = {0};
        if (!ask->nvml->f.ci_profile)
            break;
        int result = ask->nvml->f.ci_profile(gi, index, 0, &profile);
        if (result == NVML_INVALID_ARGUMENT)
            break;
        /* The library is not told the size of the list: it has room for as many as there can be. */
        struct nvml_ci *found[AT_NVML_PROFILES_MAX] = {NULL};
        unsigned count = 0;
        if (result != NVML_SUCCESS || profile.instanceCount > G_N_ELEMENTS(found) ||
            !AT_NVML_ASK(ask, ci_list, gi, profile.id, found, &count))
            continue;
        for (unsigned i = 0; i < MIN(count, G_N_ELEMENTS(found)) && n < cap; i++) {
            if (found[i])
                ret[n++] = found[i];
        }
    }
    return n;
}

static struct at_gpu_instance *read_instance(struct at_nvml_ask *ask, struct nvml_gi *handle)
{
    struct nvml_gi_info info = {0};
    struct nvml_ci *compute[AT_NVML_PROFILES_MAX];
    if (!handle || !AT_NVML_ASK(ask, gi_info, handle, &info))
        return NULL;
    if (info.placement.start >= AT_NVML_SLICES_MAX || info.placement.size > AT_NVML_SLICES_MAX)
        return NULL;
    struct at_gpu_instance *instance = g_new0(struct at_gpu_instance, 1);
    instance->id = info.id;
    instance->gi_profile = info.profileId;
    instance->start = info.placement.start;
    instance->slices = info.placement.size;
    instance->compute_instances = at_nvml_ask_compute(ask, handle, compute, G_N_ELEMENTS(compute));
    return instance;
}

static int by_start(const void *a, const void *b)
{
    const struct at_gpu_instance *const *x = a, *const *y = b;
    return (int)(*x)->start - (int)(*y)->start;
}

void at_nvml_ask_instances(struct at_nvml_ask *ask, const GArray *profiles, GPtrArray *ret)
{
    for (unsigned i = 0; i < profiles->len; i++) {
        const struct at_nvml_gi *gi = &g_array_index(profiles, struct at_nvml_gi, i);
        struct nvml_gi *found[AT_NVML_PROFILES_MAX] = {NULL};
        unsigned count = 0;
        if (!AT_NVML_ASK(ask, gi_list, ask->device, gi->id, found, &count))
            continue;
        for (unsigned n = 0; n < MIN(count, G_N_ELEMENTS(found)); n++) {
            struct at_gpu_instance *instance = read_instance(ask, found[n]);
            if (instance)
                g_ptr_array_add(ret, instance);
        }
    }
    g_ptr_array_sort(ret, by_start);
}
