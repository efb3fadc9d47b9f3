/* SPDX-License-Identifier: Apache-2.0 */
/* The model of a host's GPUs: names, making, copying, freeing. */
#include "gpu/gpu.h"

#include <string.h>

const struct at_gpu_paths at_gpu_host_paths = {.sys = "/sys", .dev = "/dev", .proc = "/proc"};

static const char *const isolations[] = {"any", "shared", "hardware", "exclusive"};
static const char *const kinds[AT_GPU_N_KINDS] = {"passthrough", "vgpu", "mig-vgpu", "vf"};

const char *at_gpu_isolation_name(enum at_gpu_isolation isolation)
{
    return isolations[isolation];
}

bool at_gpu_isolation_parse(const char *text, enum at_gpu_isolation *ret)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(isolations); i++) {
        if (g_str_equal(text, isolations[i])) {
            *ret = (enum at_gpu_isolation)i;
            return true;
        }
    }
    return false;
}

const char *at_gpu_kind_name(enum at_gpu_kind kind)
{
    return kinds[kind];
}

struct at_gpu_profile *at_gpu_profile_new(const char *name, enum at_gpu_kind kind)
{
    struct at_gpu_profile *p = g_new0(struct at_gpu_profile, 1);
    p->name = g_strdup(name);
    p->kind = kind;
    p->per_gi = 1;
    return p;
}

struct at_gpu_profile *at_gpu_profile_copy(const struct at_gpu_profile *profile)
{
    struct at_gpu_profile *p = g_memdup2(profile, sizeof *profile);
    p->name = g_strdup(profile->name);
    p->gi_name = g_strdup(profile->gi_name);
    return p;
}

void at_gpu_profile_free(struct at_gpu_profile *profile)
{
    if (!profile)
        return;
    g_free(profile->name);
    g_free(profile->gi_name);
    g_free(profile);
}

void at_gpu_neighbour_free(struct at_gpu_neighbour *neighbour)
{
    if (!neighbour)
        return;
    g_free(neighbour->address);
    g_free(neighbour->name);
    g_free(neighbour->driver);
    g_free(neighbour);
}

static void vf_free(void *p)
{
    struct at_gpu_vf *vf = p;
    g_free(vf->address);
    g_free(vf->driver);
    g_free(vf);
}

static void mdev_free(void *p)
{
    struct at_gpu_mdev *mdev = p;
    g_free(mdev->uuid);
    g_free(mdev->parent);
    g_free(mdev->type);
    g_free(mdev);
}

static void process_free(void *p)
{
    struct at_gpu_process *process = p;
    g_free(process->name);
    g_free(process);
}

struct at_gpu_card *at_gpu_card_new(const char *address)
{
    struct at_gpu_card *card = g_new0(struct at_gpu_card, 1);
    card->address = g_strdup(address);
    card->iommu_group = card->numa_node = -1;
    card->neighbours = g_ptr_array_new_with_free_func((GDestroyNotify)at_gpu_neighbour_free);
    card->bars = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_bar));
    card->vfs = g_ptr_array_new_with_free_func(vf_free);
    card->mdevs = g_ptr_array_new_with_free_func(mdev_free);
    card->profiles = g_ptr_array_new_with_free_func((GDestroyNotify)at_gpu_profile_free);
    card->instances = g_ptr_array_new_with_free_func(g_free);
    card->processes = g_ptr_array_new_with_free_func(process_free);
    return card;
}

void at_gpu_card_free(struct at_gpu_card *card)
{
    if (!card)
        return;
    char *const texts[] = {
        card->id,           card->serial,         card->address,      card->vendor_name,
        card->name,         card->unknown,        card->driver,       card->cpulist,
        card->architecture, card->driver_version, card->cuda_version, card->version_unknown,
        card->unique_id,    card->health_unknown, card->pci_serial};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(texts[i]);
    for (unsigned i = 0; i < AT_GPU_N_KINDS; i++)
        g_free(card->obstacle[i]);
    g_strfreev(card->reset_methods);
    g_free(card->reset_hits);
    g_array_unref(card->bars);
    GPtrArray *const lists[] = {card->neighbours, card->vfs,       card->mdevs,
                                card->profiles,   card->instances, card->processes};
    for (unsigned i = 0; i < G_N_ELEMENTS(lists); i++)
        g_ptr_array_unref(lists[i]);
    g_free(card);
}

const struct at_gpu_profile *at_gpu_card_profile(const struct at_gpu_card *card, const char *name)
{
    for (unsigned i = 0; i < card->profiles->len; i++) {
        const struct at_gpu_profile *p = card->profiles->pdata[i];
        if (g_str_equal(p->name, name))
            return p;
    }
    return NULL;
}

uint64_t at_gpu_bars_window(const GArray *bars)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < bars->len; i++) {
        const struct at_gpu_bar *bar = &g_array_index(bars, struct at_gpu_bar, i);
        if (bar->wide && bar->prefetchable && sum + bar->size > sum)
            sum += bar->size;
    }
    return sum;
}

uint64_t at_gpu_card_window(const struct at_gpu_card *card)
{
    return at_gpu_bars_window(card->bars);
}
