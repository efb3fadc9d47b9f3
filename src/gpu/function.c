/* SPDX-License-Identifier: Apache-2.0 */
/* One function of a PCI device as sysfs shows it. */
#include "gpu/function.h"

#include <string.h>

#include "gpu/attribute.h"

enum {
    NUMA_NODES_MAX = 1 << 16,
    CONFIG_SIZE = 4096, /* of a PCI Express function */
    CONFIG_EXTENDED = 0x100,
    CAPABILITY_SERIAL = 0x0003,
    CAPABILITY_HEADER = 4,
    CAPABILITY_MIN = 12, /* bytes of one that are read here and in isolation-acs.c */
};

/* Hexadecimal digits as sysfs writes them, up to @end. */
static bool parse_hex(const char **text, unsigned min, unsigned max, char end, uint32_t *ret)
{
    uint32_t value = 0;
    unsigned n = 0;
    const char *p = *text;
    for (; n < max && g_ascii_isxdigit(*p) && !g_ascii_isupper(*p); n++)
        value = value << 4 | (uint32_t)g_ascii_xdigit_value(*p++);
    if (n < min || *p != end)
        return false;
    *text = end ? p + 1 : p;
    *ret = value;
    return true;
}

bool at_pci_address_parse(const char *text, struct at_pci_address *ret)
{
    uint32_t domain, bus, slot, function;
    if (!parse_hex(&text, 4, 8, ':', &domain) || !parse_hex(&text, 2, 2, ':', &bus) ||
        !parse_hex(&text, 2, 2, '.', &slot) || !parse_hex(&text, 1, 1, '\0', &function) ||
        slot > 0x1f || function > 7)
        return false;
    *ret = (struct at_pci_address){domain, (uint8_t)bus, (uint8_t)slot, (uint8_t)function};
    return true;
}

bool at_pci_address_valid(const char *text)
{
    struct at_pci_address address;
    return at_pci_address_parse(text, &address);
}

static uint64_t rank(const char *text)
{
    struct at_pci_address a = {0};
    at_pci_address_parse(text, &a);
    return (uint64_t)a.domain << 16 | (uint64_t)a.bus << 8 | (uint64_t)a.slot << 3 | a.function;
}

int at_pci_address_compare(const char *a, const char *b)
{
    uint64_t first = rank(a), second = rank(b);
    return first < second ? -1 : first > second;
}

bool at_pci_address_same_slot(const char *a, const char *b)
{
    return rank(a) >> 3 == rank(b) >> 3;
}

char *at_pci_function_dir(const struct at_gpu_paths *paths, const char *address)
{
    return g_build_filename(paths->sys, "bus/pci/devices", address, NULL);
}

bool at_pci_function_class(const char *dir, uint32_t *ret)
{
    uint64_t value;
    if (!at_gpu_attr_number(dir, "class", 16, 0xffffff, &value))
        return false;
    *ret = (uint32_t)value;
    return true;
}

bool at_pci_class_is_gpu(uint32_t class)
{
    static const uint32_t classes[] = {0x0300, 0x0302, 0x0380, 0x1200};
    for (unsigned i = 0; i < G_N_ELEMENTS(classes); i++) {
        if (class >> 8 == classes[i])
            return true;
    }
    return false;
}

bool at_pci_function_is_vf(const char *dir)
{
    g_autofree char *physfn = at_gpu_attr_link(dir, "physfn");
    return physfn != NULL;
}

char *at_pci_function_driver(const char *dir)
{
    return at_gpu_attr_link(dir, "driver");
}

int at_pci_function_iommu_group(const char *dir)
{
    g_autofree char *group = at_gpu_attr_link(dir, "iommu_group");
    uint64_t value;
    return group && at_gpu_number_parse(group, 10, G_MAXINT, &value) ? (int)value : -1;
}

int at_pci_function_numa_node(const char *dir)
{
    uint64_t node;
    return at_gpu_attr_number(dir, "numa_node", 10, NUMA_NODES_MAX, &node) ? (int)node : -1;
}

char *at_pci_function_cpulist(const char *dir)
{
    g_autofree char *cpus = at_gpu_attr_line(dir, "local_cpulist");
    bool is_list = cpus && *cpus && strspn(cpus, "0123456789,-") == strlen(cpus);
    return is_list ? g_steal_pointer(&cpus) : NULL;
}

/* Where a VF is follows from nothing that could be computed here: the links say it. */
GPtrArray *at_pci_function_vfs(const struct at_gpu_paths *paths, const char *address)
{
    GPtrArray *vfs = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *dir = at_pci_function_dir(paths, address);
    for (unsigned i = 0; i < AT_PCI_VFS_MAX; i++) {
        char link[24];
        g_snprintf(link, sizeof link, "virtfn%u", i);
        g_autofree char *vf = at_gpu_attr_link(dir, link);
        if (!vf)
            break;
        if (at_pci_address_valid(vf) && !g_str_equal(vf, address) &&
            !g_ptr_array_find_with_equal_func(vfs, vf, g_str_equal, NULL))
            g_ptr_array_add(vfs, g_steal_pointer(&vf));
    }
    return vfs;
}

uint16_t at_pci_function_id(const char *dir, const char *name)
{
    uint64_t value;
    return at_gpu_attr_number(dir, name, 16, G_MAXUINT16, &value) ? (uint16_t)value : 0;
}

bool at_pci_driver_lets_go(const char *driver)
{
    return !driver || g_str_equal(driver, "pci-stub") || g_str_has_suffix(driver, "vfio-pci") ||
           g_str_has_suffix(driver, "vfio_pci");
}

static uint32_t dword(const uint8_t *config, size_t at)
{
    uint32_t value;
    memcpy(&value, config + at, sizeof value);
    return GUINT32_FROM_LE(value);
}

/* Each capability says where the next one is; a chain that runs in a circle ends with the number
 * of those that can be there. */
size_t at_pci_config_extended(const uint8_t *config, unsigned id)
{
    size_t at = CONFIG_EXTENDED;
    for (unsigned n = 0; n < (CONFIG_SIZE - CONFIG_EXTENDED) / CAPABILITY_HEADER; n++) {
        uint32_t header = dword(config, at);
        if ((header & 0xffff) == id && at + CAPABILITY_MIN <= CONFIG_SIZE)
            return at;
        at = header >> 20 & 0xffc;
        if (header == 0 || at < CONFIG_EXTENDED)
            break;
    }
    return 0;
}

static uint64_t serial_of(const uint8_t *config)
{
    size_t at = at_pci_config_extended(config, CAPABILITY_SERIAL);
    return at ? (uint64_t)dword(config, at + 8) << 32 | dword(config, at + 4) : 0;
}

bool at_pci_function_config(const char *dir, uint64_t *ret_serial)
{
    uint8_t config[CONFIG_SIZE];
    size_t len = at_gpu_attr_bytes(dir, "config", config, sizeof config);
    if (len >= 4 && dword(config, 0) == UINT32_MAX)
        return false;
    uint64_t serial = len == CONFIG_SIZE ? serial_of(config) : 0;
    *ret_serial = serial == UINT64_MAX ? 0 : serial;
    return true;
}
