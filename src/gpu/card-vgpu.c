/* SPDX-License-Identifier: Apache-2.0 */
/* What sysfs says of the vGPUs of a card: mediated devices, or the files of NVIDIA's own VFIO
 * driver (vGPU 17 and later). Which of the two there is differs from card to card, not from host to
 * host.
 */
#include <string.h>

#include "gpu/attribute.h"
#include "gpu/card-internal.h"
#include "gpu/function.h"
#include "gpu/mdev-read.h"
#include "gpu/text-list.h"
#include "gpu/vgpu-list.h"
#include "gpu/vgpu-name.h"

enum { NAME_MAX_BYTES = 128 };

bool at_gpu_card_has_kind(const struct at_gpu_card *card, enum at_gpu_kind kind)
{
    for (unsigned i = 0; i < card->profiles->len; i++) {
        const struct at_gpu_profile *p = card->profiles->pdata[i];
        if (p->kind == kind)
            return true;
    }
    return false;
}

/* Cards by the addresses of their functions that vGPUs can be made on. */
static GHashTable *by_function(const GPtrArray *cards)
{
    GHashTable *table = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; i < cards->len; i++) {
        struct at_gpu_card *card = cards->pdata[i];
        g_hash_table_insert(table, card->address, card);
        for (unsigned v = 0; v < card->vfs->len; v++) {
            const struct at_gpu_vf *vf = card->vfs->pdata[v];
            g_hash_table_insert(table, vf->address, card);
        }
    }
    return table;
}

/* The number in "nvidia-471"; 0: it has none. */
static unsigned type_number(const char *type)
{
    uint64_t id;
    return g_str_has_prefix(type, "nvidia-") &&
                   at_gpu_number_parse(type + strlen("nvidia-"), 10, G_MAXUINT, &id)
               ? (unsigned)id
               : 0;
}

void at_gpu_mdevs_read(const struct at_gpu_paths *paths, const GPtrArray *cards)
{
    g_autoptr(GPtrArray) uuids = at_mdev_list(paths, NULL);
    g_autoptr(GHashTable) table = by_function(cards);
    for (unsigned i = 0; i < uuids->len; i++) {
        g_autofree char *parent = at_mdev_parent(paths, uuids->pdata[i]);
        g_autofree char *type = at_mdev_type(paths, uuids->pdata[i]);
        struct at_gpu_card *card = parent ? g_hash_table_lookup(table, parent) : NULL;
        if (!card)
            continue;
        struct at_gpu_mdev *mdev = g_new0(struct at_gpu_mdev, 1);
        mdev->uuid = g_strdup(uuids->pdata[i]);
        mdev->parent = g_steal_pointer(&parent);
        mdev->type_id = type ? type_number(type) : 0;
        mdev->type = type ? g_steal_pointer(&type) : g_strdup("unknown");
        g_ptr_array_add(card->mdevs, mdev);
    }
}

/* The directory mdev_supported_types of the card or of the first of its VFs that has one: it is the
 * same list on all. NULL when there is none. */
static char *mdev_types_dir(const struct at_gpu_card *card, const struct at_gpu_paths *paths)
{
    for (unsigned i = 0; i <= card->vfs->len; i++) {
        const struct at_gpu_vf *vf = i > 0 ? card->vfs->pdata[i - 1] : NULL;
        g_autofree char *dir = at_pci_function_dir(paths, vf ? vf->address : card->address);
        if (at_gpu_attr_exists(dir, "mdev_supported_types"))
            return g_build_filename(dir, "mdev_supported_types", NULL);
    }
    return NULL;
}

static bool is_numbered(const char *type)
{
    return type_number(type) != 0;
}

static GArray *read_mdev_types(const char *dir)
{
    GArray *types = at_vgpu_types_new();
    g_autoptr(GPtrArray) names = at_gpu_attr_list(dir, AT_VGPU_TYPES_MAX, is_numbered);
    for (unsigned i = 0; names && i < names->len; i++) {
        g_autofree char *own = g_build_filename(dir, names->pdata[i], NULL);
        g_autofree char *name = at_gpu_attr_line(own, "name");
        g_autofree char *description = at_gpu_attr_text(own, "description");
        if (!name || !*name || strlen(name) > NAME_MAX_BYTES)
            continue;
        struct at_vgpu_type type = {.id = type_number(names->pdata[i]),
                                    .name = g_strdup(at_vgpu_name_strip(name))};
        if (description)
            at_vgpu_description_parse(description, &type);
        type.max = MAX(type.max, 1); /* not said: one is not too many */
        g_array_append_val(types, type);
    }
    return types;
}

/* What each VF lists is what can be made on it now, so all of them are asked. */
static GArray *read_vendor_types(const struct at_gpu_card *card, const struct at_gpu_paths *paths)
{
    GArray *types = at_vgpu_types_new();
    for (unsigned i = 0; i < card->vfs->len; i++) {
        const struct at_gpu_vf *vf = card->vfs->pdata[i];
        g_autofree char *dir = at_pci_function_dir(paths, vf->address);
        g_autofree char *text = at_gpu_attr_text(dir, "nvidia/creatable_vgpu_types");
        if (text)
            at_vgpu_creatable_parse(text, types);
    }
    return types;
}

/* How many of a type a card has room for is written in no list of the vendor's VFIO driver. The
 * largest type that can be made tells the memory that is there; beside vGPUs that exist already
 * only types of their size are listed, and then one more fits for certain. So this can be less
 * than the card could bear, and never more. */
static void count_vendor_types(const struct at_gpu_card *card, GArray *types)
{
    uint64_t largest = 0;
    unsigned made = 0;
    struct at_vgpu_name name;
    for (unsigned i = 0; i < card->vfs->len; i++) {
        const struct at_gpu_vf *vf = card->vfs->pdata[i];
        made += vf->vgpu_type != 0;
    }
    for (unsigned i = 0; i < types->len; i++) {
        struct at_vgpu_type *type = &g_array_index(types, struct at_vgpu_type, i);
        if (at_vgpu_name_parse(type->name, &name) && name.slices == 0) {
            type->memory = at_vgpu_name_memory(&name);
            largest = MAX(largest, type->memory);
        }
    }
    for (unsigned i = 0; i < types->len; i++) {
        struct at_vgpu_type *type = &g_array_index(types, struct at_vgpu_type, i);
        uint64_t room = type->memory ? largest / type->memory : 1;
        type->max = (unsigned)MIN(MAX(room, made + 1), MAX(card->vfs_total, 1));
    }
}

static void add_profile(struct at_gpu_card *card, const struct at_vgpu_type *type,
                        const struct at_vgpu_name *name)
{
    if (at_gpu_card_profile(card, type->name))
        return;
    struct at_gpu_profile *p = at_gpu_profile_new(type->name, AT_GPU_VGPU);
    p->isolation = AT_GPU_SHARED;
    p->memory = type->memory ? type->memory : at_vgpu_name_memory(name);
    p->type_id = type->id;
    p->max = type->max;
    g_ptr_array_add(card->profiles, p);
}

/* Time-sliced types become profiles. A name outside the grammar could be of either sort. */
static char *add_types(struct at_gpu_card *card, const GArray *types)
{
    g_autoptr(GString) left_out = g_string_new(NULL);
    for (unsigned i = 0; i < types->len; i++) {
        const struct at_vgpu_type *type = &g_array_index(types, struct at_vgpu_type, i);
        struct at_vgpu_name name;
        if (at_vgpu_name_parse(type->name, &name) && name.slices == 0)
            add_profile(card, type, &name);
        else
            at_gpu_list_add(left_out, "%s", type->name);
    }
    return left_out->len ? g_strdup(left_out->str) : NULL;
}

static bool has_vendor_vfio(const struct at_gpu_card *card)
{
    for (unsigned i = 0; i < card->vfs->len; i++) {
        const struct at_gpu_vf *vf = card->vfs->pdata[i];
        if (vf->vendor_vfio)
            return true;
    }
    return false;
}

char *at_gpu_card_read_vgpu(struct at_gpu_card *card, const struct at_gpu_paths *paths)
{
    if (card->vendor != AT_GPU_VENDOR_NVIDIA)
        return NULL;
    bool told =
        at_gpu_card_has_kind(card, AT_GPU_VGPU) || at_gpu_card_has_kind(card, AT_GPU_MIG_VGPU);
    g_autofree char *types_dir = mdev_types_dir(card, paths);
    g_autoptr(GArray) types = NULL;
    if (types_dir) {
        card->vgpu = AT_GPU_VGPU_MDEV;
        types = told ? NULL : read_mdev_types(types_dir);
    } else if (has_vendor_vfio(card)) {
        card->vgpu = AT_GPU_VGPU_VENDOR;
        types = told ? NULL : read_vendor_types(card, paths);
        if (types)
            count_vendor_types(card, types);
    }
    return types ? add_types(card, types) : NULL;
}
