/* SPDX-License-Identifier: Apache-2.0 */
/* IOMMU groups: the unit that the kernel gives away. */
#include <string.h>

#include "base/error.h"
#include "gpu/device-internal.h"
#include "gpu/sysfs-read.h"

enum { CLASS_PCI_BRIDGE = 0x0604, CLASS_SEMI_TRANSPARENT_BRIDGE = 0x0609 };

static void member_free(void *p)
{
    struct at_gpu_member *m = p;
    g_free(m->address);
    g_free(m->driver);
    g_free(m);
}

/* Up to the dot: functions of one slot. */
static bool same_slot(const char *a, const char *b)
{
    size_t n = (size_t)(strrchr(a, '.') - a);
    return strncmp(a, b, n) == 0 && b[n] == '.';
}

/* Bridges that only pass on what comes, and whose driver does no DMA of its own. */
static bool is_bridge(const struct at_gpu_host *host, const char *address, const char *driver)
{
    uint64_t class = 0;
    at_gpu_number(host, address, "class", &class);
    class >>= 8;
    return class == CLASS_PCI_BRIDGE || class == CLASS_SEMI_TRANSPARENT_BRIDGE ||
           g_strcmp0(driver, "pcieport") == 0;
}

static struct at_gpu_member *member_new(const struct at_gpu_host *host, const char *of,
                                        const char *address)
{
    struct at_gpu_member *m = g_new0(struct at_gpu_member, 1);
    m->address = g_strdup(address);
    m->driver = at_gpu_driver(host, address);
    m->bridge = is_bridge(host, address, m->driver);
    m->same_card = same_slot(of, address);
    return m;
}

GPtrArray *at_gpu_group_members(const struct at_gpu_host *host, const char *address, GError **error)
{
    if (!at_gpu_exists(host, address, "iommu_group")) {
        at_error(
            error, AT_ERROR_UNAVAILABLE,
            "%s is in no IOMMU group: the host has no IOMMU switched on (VT-d or AMD-Vi in the "
            "firmware's setup; intel_iommu=on on the kernel's command line)",
            address);
        return NULL;
    }
    GPtrArray *members = g_ptr_array_new_with_free_func(member_free);
    g_ptr_array_add(members, member_new(host, address, address));
    g_autofree char *dir = at_gpu_path(host, address, "iommu_group/devices");
    g_autoptr(GPtrArray) names = at_gpu_list(dir);
    for (unsigned i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        if (at_gpu_address_valid(name) && !g_str_equal(name, address))
            g_ptr_array_add(members, member_new(host, address, name));
    }
    return members;
}

bool at_gpu_group_viable(const GPtrArray *members, const char *address, bool alone, GError **error)
{
    for (unsigned i = 0; i < members->len; i++) {
        const struct at_gpu_member *m = members->pdata[i];
        if (m->bridge || g_str_equal(m->address, address) || (m->same_card && !alone))
            continue;
        if (alone)
            return at_error(error, AT_ERROR_UNAVAILABLE,
                            "%s is not kept apart from %s: both are in one IOMMU group (no ACS on "
                            "the way to them)",
                            address, m->address);
        if (m->driver && !g_str_equal(m->driver, AT_GPU_VFIO) &&
            !g_str_equal(m->driver, "pci-stub"))
            return at_error(error, AT_ERROR_UNAVAILABLE,
                            "%s cannot be given: its IOMMU group holds %s too, which the host uses "
                            "by its driver %s (unbind that, or move the card to another slot)",
                            address, m->address, m->driver);
    }
    return true;
}
