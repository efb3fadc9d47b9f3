/* SPDX-License-Identifier: Apache-2.0 */
/* IOMMU groups: who is in one, and whether it can be given away. */
#include "gpu/group.h"

#include "base/error.h"
#include "gpu/attribute.h"
#include "gpu/function.h"

enum { CLASS_PCI_BRIDGE = 0x0604, CLASS_SEMI_TRANSPARENT_BRIDGE = 0x0609 };

/* Bridges that only pass on what comes, and whose driver does no DMA of its own. */
static bool is_bridge(const struct at_gpu_neighbour *near)
{
    return near->class >> 8 == CLASS_PCI_BRIDGE ||
           near->class >> 8 == CLASS_SEMI_TRANSPARENT_BRIDGE ||
           g_strcmp0(near->driver, "pcieport") == 0;
}

static struct at_gpu_neighbour *read_one(const struct at_gpu_paths *paths, const char *of,
                                         const char *address)
{
    g_autofree char *dir = at_pci_function_dir(paths, address);
    struct at_gpu_neighbour *near = g_new0(struct at_gpu_neighbour, 1);
    near->address = g_strdup(address);
    near->driver = at_pci_function_driver(dir);
    at_pci_function_class(dir, &near->class);
    near->bridge = is_bridge(near);
    /* A VF can have an address in its card's slot, and is no part of the card all the same. */
    near->same_card = g_str_equal(of, address) ||
                      (at_pci_address_same_slot(of, address) && !at_pci_function_is_vf(dir));
    return near;
}

static int compare_addresses(const void *a, const void *b)
{
    const struct at_gpu_neighbour *first = *(void *const *)a, *second = *(void *const *)b;
    return at_pci_address_compare(first->address, second->address);
}

GPtrArray *at_gpu_group_read(const struct at_gpu_paths *paths, const char *of, unsigned max)
{
    g_autofree char *dir = at_pci_function_dir(paths, of);
    g_autofree char *devices = g_build_filename(dir, "iommu_group/devices", NULL);
    g_autoptr(GPtrArray) names = at_gpu_attr_list(devices, max, at_pci_address_valid);
    if (!names && !at_gpu_attr_exists(dir, "iommu_group"))
        return NULL;
    GPtrArray *group = g_ptr_array_new_with_free_func((GDestroyNotify)at_gpu_neighbour_free);
    for (unsigned i = 0; names && i < names->len; i++) {
        if (!g_str_equal(names->pdata[i], of))
            g_ptr_array_add(group, read_one(paths, of, names->pdata[i]));
    }
    g_ptr_array_sort(group, compare_addresses);
    return group;
}

GPtrArray *at_gpu_group_members(const struct at_gpu_paths *paths, const char *address,
                                GError **error)
{
    GPtrArray *members = at_gpu_group_read(paths, address, AT_GPU_LIST_MAX);
    if (members)
        g_ptr_array_insert(members, 0, read_one(paths, address, address));
    else
        at_error(
            error, AT_ERROR_UNAVAILABLE,
            "%s is in no IOMMU group: the host has no IOMMU switched on (VT-d or AMD-Vi in the "
            "firmware's setup; intel_iommu=on on the kernel's command line)",
            address);
    return members;
}

bool at_gpu_group_viable(const GPtrArray *members, const char *address, bool alone, GError **error)
{
    for (unsigned i = 0; i < members->len; i++) {
        const struct at_gpu_neighbour *m = members->pdata[i];
        if (m->bridge || g_str_equal(m->address, address) || (m->same_card && !alone))
            continue;
        if (alone)
            return at_error(error, AT_ERROR_UNAVAILABLE,
                            "%s is not kept apart from %s: both are in one IOMMU group (no ACS on "
                            "the way to them)",
                            address, m->address);
        if (!at_pci_driver_lets_go(m->driver))
            return at_error(error, AT_ERROR_UNAVAILABLE,
                            "%s cannot be given: its IOMMU group holds %s too, which the host uses "
                            "by its driver %s (unbind that, or move the card to another slot)",
                            address, m->address, m->driver);
    }
    return true;
}
