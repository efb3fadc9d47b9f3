/* SPDX-License-Identifier: Apache-2.0 */
/* What sysfs says of a card as a PCI function. */
#include "gpu/attribute.h"
#include "gpu/card-internal.h"
#include "gpu/function.h"
#include "gpu/group.h"
#include "gpu/reset.h"
#include "gpu/resource.h"

enum { RESET_METHODS_MAX = 16 };

static void read_identity(struct at_gpu_card *card, const char *dir, struct at_pci_names *names)
{
    uint64_t revision, serial = 0;
    card->vendor = at_pci_function_id(dir, "vendor");
    card->device = at_pci_function_id(dir, "device");
    card->subsystem_vendor = at_pci_function_id(dir, "subsystem_vendor");
    card->subsystem_device = at_pci_function_id(dir, "subsystem_device");
    at_pci_function_class(dir, &card->class);
    if (at_gpu_attr_number(dir, "revision", 16, G_MAXUINT8, &revision))
        card->revision = (uint8_t)revision;
    card->health.lost = !at_pci_function_config(dir, &serial) || card->vendor == G_MAXUINT16;
    if (serial != 0)
        card->pci_serial = g_strdup_printf("%016" G_GINT64_MODIFIER "x", serial);
    card->vendor_name = at_pci_names_vendor(names, card->vendor);
    card->name = at_pci_names_product(names, card->vendor, card->device);
    if (!card->name)
        card->name = g_strdup_printf("%04x:%04x", card->vendor, card->device);
}

static void read_place(struct at_gpu_card *card, const char *dir)
{
    card->driver = at_pci_function_driver(dir);
    card->iommu_group = at_pci_function_iommu_group(dir);
    card->numa_node = at_pci_function_numa_node(dir);
    card->cpulist = at_pci_function_cpulist(dir);
    g_autofree char *resource = at_gpu_attr_text(dir, "resource");
    if (resource)
        at_pci_resource_parse(resource, card->bars);
    uint64_t boot_vga;
    card->boot_vga = at_gpu_attr_number(dir, "boot_vga", 10, 1, &boot_vga) && boot_vga == 1;
}

static void read_neighbours(struct at_gpu_card *card, const struct at_gpu_paths *paths,
                            struct at_pci_names *names)
{
    GPtrArray *group = at_gpu_group_read(paths, card->address, AT_GPU_NEIGHBOURS_MAX);
    if (!group)
        return;
    g_ptr_array_unref(card->neighbours);
    card->neighbours = group;
    for (unsigned i = 0; i < group->len; i++) {
        struct at_gpu_neighbour *near = group->pdata[i];
        g_autofree char *dir = at_pci_function_dir(paths, near->address);
        near->name = at_pci_names_full(names, at_pci_function_id(dir, "vendor"),
                                       at_pci_function_id(dir, "device"));
    }
}

/* Linux before 5.15 only says that there is a way ("reset"), not which. */
static void read_reset(struct at_gpu_card *card, const char *dir, const struct at_gpu_paths *paths)
{
    g_autoptr(GStrvBuilder) methods = g_strv_builder_new();
    g_autofree char *text = at_gpu_attr_text(dir, "reset_method");
    g_auto(GStrv) words = g_strsplit_set(text ? text : "", " \n", RESET_METHODS_MAX);
    for (unsigned i = 0; words[i]; i++) {
        if (*words[i])
            g_strv_builder_add(methods, words[i]);
    }
    if (!at_gpu_attr_exists(dir, "reset_method") && at_gpu_attr_exists(dir, "reset"))
        g_strv_builder_add(methods, "unknown");
    card->reset_methods = g_strv_builder_end(methods);
    if (at_gpu_reset_by_bus((const char *const *)card->reset_methods))
        card->reset_hits = at_gpu_reset_strangers(paths, card->address);
}

static void add_vf(struct at_gpu_card *card, const struct at_gpu_paths *paths, const char *address)
{
    g_autofree char *dir = at_pci_function_dir(paths, address);
    struct at_gpu_vf *vf = g_new0(struct at_gpu_vf, 1);
    uint64_t type;
    vf->address = g_strdup(address);
    vf->driver = at_pci_function_driver(dir);
    vf->iommu_group = at_pci_function_iommu_group(dir);
    vf->vendor_vfio = at_gpu_attr_exists(dir, "nvidia/current_vgpu_type");
    if (at_gpu_attr_number(dir, "nvidia/current_vgpu_type", 10, G_MAXUINT, &type))
        vf->vgpu_type = (unsigned)type;
    g_ptr_array_add(card->vfs, vf);
}

static void read_vfs(struct at_gpu_card *card, const char *dir, const struct at_gpu_paths *paths)
{
    uint64_t total, on;
    card->physical_function = at_gpu_attr_exists(dir, "sriov_totalvfs");
    if (!card->physical_function)
        return;
    if (at_gpu_attr_number(dir, "sriov_totalvfs", 10, G_MAXUINT16, &total))
        card->vfs_total = (unsigned)total;
    g_autoptr(GPtrArray) vfs = at_pci_function_vfs(paths, card->address);
    for (unsigned i = 0; i < vfs->len; i++)
        add_vf(card, paths, vfs->pdata[i]);
    card->vfs_on = card->vfs->len;
    if (at_gpu_attr_number(dir, "sriov_numvfs", 10, G_MAXUINT16, &on))
        card->vfs_on = (unsigned)on;
}

void at_gpu_card_read_pci(struct at_gpu_card *card, const struct at_gpu_paths *paths,
                          struct at_pci_names *names)
{
    g_autofree char *dir = at_pci_function_dir(paths, card->address);
    read_identity(card, dir, names);
    read_place(card, dir);
    read_neighbours(card, paths, names);
    read_reset(card, dir, paths);
    read_vfs(card, dir, paths);
}
