/* SPDX-License-Identifier: Apache-2.0 */
/* PCI functions as sysfs shows them: names, attributes, VFs, mdevs, sizes of BARs. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "gpu/device-internal.h"
#include "gpu/sysfs-read.h"

enum { LIST_MAX = 4096, VFS_MAX = 256, BARS = 6 };
/* Flags of a line of "resource" (linux/ioport.h). */
enum { RESOURCE_MEM = 0x200, RESOURCE_PREFETCH = 0x2000, RESOURCE_64 = 0x100000 };

static bool hex(const char *text, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (!g_ascii_isxdigit(text[i]) || g_ascii_isupper(text[i]))
            return false;
    }
    return true;
}

bool at_gpu_address_valid(const char *address)
{
    const char *colon = strchr(address, ':');
    size_t domain = colon ? (size_t)(colon - address) : 0;
    return domain >= 4 && domain <= 8 && strlen(colon) == 8 && hex(address, (unsigned)domain) &&
           hex(colon + 1, 2) && colon[3] == ':' && hex(colon + 4, 2) && colon[6] == '.' &&
           colon[7] >= '0' && colon[7] <= '7';
}

bool at_gpu_uuid_valid(const char *uuid)
{
    return g_uuid_string_is_valid(uuid) && !strpbrk(uuid, "ABCDEF");
}

char *at_gpu_path(const struct at_gpu_host *host, const char *address, const char *file)
{
    return g_build_filename(host->paths.sys, "bus/pci/devices", address, file, NULL);
}

bool at_gpu_exists(const struct at_gpu_host *host, const char *address, const char *file)
{
    g_autofree char *path = at_gpu_path(host, address, file);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

char *at_gpu_text(const struct at_gpu_host *host, const char *address, const char *file)
{
    g_autofree char *path = at_gpu_path(host, address, file);
    return at_sysfs_read_text(path);
}

bool at_gpu_number(const struct at_gpu_host *host, const char *address, const char *file,
                   uint64_t *ret)
{
    g_autofree char *path = at_gpu_path(host, address, file);
    return at_sysfs_read_number(path, ret);
}

char *at_gpu_driver(const struct at_gpu_host *host, const char *address)
{
    g_autofree char *path = at_gpu_path(host, address, "driver");
    return at_sysfs_link_name(path);
}

bool at_gpu_has_driver(const struct at_gpu_host *host, const char *address, const char *driver)
{
    g_autofree char *now = at_gpu_driver(host, address);
    return g_strcmp0(now, driver) == 0;
}

bool at_gpu_is_nvidia(const struct at_gpu_host *host, const char *address)
{
    uint64_t vendor;
    return at_gpu_number(host, address, "vendor", &vendor) && vendor == 0x10de;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *at_gpu_list(const char *path)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;
    while (dir && names->len < LIST_MAX && (name = g_dir_read_name(dir)))
        g_ptr_array_add(names, g_strdup(name));
    if (dir)
        g_dir_close(dir);
    g_ptr_array_sort(names, by_name);
    return names;
}

GPtrArray *at_gpu_vf_addresses(const struct at_gpu_host *host, const char *address)
{
    GPtrArray *vfs = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; i < VFS_MAX; i++) {
        char file[24];
        g_snprintf(file, sizeof file, "virtfn%u", i);
        g_autofree char *path = at_gpu_path(host, address, file);
        g_autofree char *vf = at_sysfs_link_name(path);
        if (!vf)
            break;
        if (at_gpu_address_valid(vf))
            g_ptr_array_add(vfs, g_steal_pointer(&vf));
    }
    return vfs;
}

GPtrArray *at_gpu_mdev_uuids(const struct at_gpu_host *host, const char *address)
{
    GPtrArray *uuids = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *bus = g_build_filename(host->paths.sys, "bus/mdev/devices", NULL);
    g_autoptr(GPtrArray) all = at_gpu_list(bus);
    for (unsigned i = 0; i < all->len; i++) {
        g_autofree char *link = g_build_filename(bus, all->pdata[i], NULL);
        g_autofree char *target = g_file_read_link(link, NULL);
        g_autofree char *dir = target ? g_path_get_dirname(target) : NULL;
        g_autofree char *parent = dir ? g_path_get_basename(dir) : NULL;
        if (g_strcmp0(parent, address) == 0)
            g_ptr_array_add(uuids, g_strdup(all->pdata[i]));
    }
    return uuids;
}

uint64_t at_gpu_bar_window(const struct at_gpu_host *host, const char *address)
{
    g_autofree char *text = at_gpu_text(host, address, "resource");
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", BARS + 1);
    uint64_t sum = 0;
    for (unsigned i = 0; i < BARS && lines[i]; i++) {
        const uint64_t wanted = RESOURCE_MEM | RESOURCE_PREFETCH | RESOURCE_64;
        unsigned long long start, end, flags;
        if (sscanf(lines[i], "%llx %llx %llx", &start, &end, &flags) != 3 || end <= start ||
            (flags & wanted) != wanted || sum + (end - start + 1) < sum)
            continue;
        sum += end - start + 1;
    }
    return sum;
}
