/* SPDX-License-Identifier: Apache-2.0 */
/* Who has a device open: the links in /proc/PID/fd, held against the names of its nodes. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "gpu/attribute.h"
#include "gpu/device-internal.h"
#include "gpu/function.h"
#include "gpu/mdev-read.h"
#include "gpu/text-list.h"

/* A host with more than these is not searched to its end; the kernel still refuses what is busy. */
enum { LINKS_MAX = 1 << 20, NAMED_MAX = 8, NODES_MAX = 4096 };

struct search {
    const GPtrArray *nodes; /* ends of paths: "/vfio/12" */
    GString *found;
    unsigned links, named;
};

static bool is_node(const struct search *search, const char *target)
{
    for (unsigned i = 0; i < search->nodes->len; i++) {
        if (g_str_has_suffix(target, search->nodes->pdata[i]))
            return true;
    }
    return false;
}

/* One link is enough to name the process. */
static bool has_open(struct search *search, DIR *fds)
{
    const struct dirent *entry;
    while ((entry = readdir(fds)) && search->links < LINKS_MAX) {
        char target[256];
        search->links++;
        ssize_t n = readlinkat(dirfd(fds), entry->d_name, target, sizeof target - 1);
        if (n <= 0)
            continue;
        target[n] = 0;
        if (is_node(search, target))
            return true;
    }
    return false;
}

static void name_process(struct search *search, const char *proc, const char *pid)
{
    g_autofree char *name = at_gpu_process_name(proc, (unsigned)strtoul(pid, NULL, 10));
    if (search->named++ < NAMED_MAX)
        at_gpu_list_add(search->found, "%s (%s)", name ? name : "process", pid);
}

static char *opened(const char *proc, const GPtrArray *nodes)
{
    struct search search = {.nodes = nodes, .found = g_string_new(NULL)};
    DIR *dir = nodes->len ? opendir(proc) : NULL;
    const struct dirent *entry;
    while (dir && (entry = readdir(dir)) && search.links < LINKS_MAX) {
        if (!g_ascii_isdigit(*entry->d_name))
            continue;
        g_autofree char *path = g_build_filename(proc, entry->d_name, "fd", NULL);
        DIR *fds = opendir(path);
        if (fds && has_open(&search, fds))
            name_process(&search, proc, entry->d_name);
        if (fds)
            closedir(fds);
    }
    if (dir)
        closedir(dir);
    at_gpu_list_more(search.found, search.named > NAMED_MAX ? search.named - NAMED_MAX : 0);
    return g_string_free(search.found, search.named == 0);
}

/* Adds what stands in @device/@dir, which are names of nodes, behind @prefix. */
static void add_nodes(GPtrArray *nodes, const char *device, const char *dir, const char *prefix)
{
    g_autofree char *path = g_build_filename(device, dir, NULL);
    g_autoptr(GPtrArray) names = at_gpu_attr_list(path, NODES_MAX, NULL);
    for (unsigned i = 0; names && i < names->len; i++)
        g_ptr_array_add(nodes, g_strconcat(prefix, names->pdata[i], NULL));
}

char *at_gpu_opened_by(const struct at_gpu_paths *paths, const char *address, const char *uuid)
{
    g_autofree char *device = uuid ? at_mdev_dir(paths, uuid) : at_pci_function_dir(paths, address);
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *group = at_gpu_attr_link(device, "iommu_group");
    if (group)
        g_ptr_array_add(nodes, g_strconcat("/vfio/", group, NULL));
    add_nodes(nodes, device, "vfio-dev", "/vfio/devices/");
    return opened(paths->proc, nodes);
}

/* "Device Minor: \t 0" in the driver's own directory of the card. */
static char *nvidia_node(const struct at_gpu_paths *paths, const char *address)
{
    g_autofree char *path = at_gpu_nvidia_path(paths, address, "information");
    g_autofree char *text = at_gpu_attr_text(path, NULL);
    const char *line = text ? strstr(text, "Device Minor:") : NULL;
    return line ? g_strdup_printf("/nvidia%lu", strtoul(line + strlen("Device Minor:"), NULL, 10))
                : NULL;
}

char *at_gpu_host_users(const struct at_gpu_paths *paths, const char *address)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *device = at_pci_function_dir(paths, address);
    add_nodes(nodes, device, "drm", "/dri/");
    char *nvidia = nvidia_node(paths, address);
    if (nvidia)
        g_ptr_array_add(nodes, nvidia);
    return opened(paths->proc, nodes);
}

char *at_gpu_users(const struct at_gpu_host *host, const char *about)
{
    bool mdev = !at_pci_address_valid(about);
    g_autofree char *vfio =
        at_gpu_opened_by(&host->paths, mdev ? NULL : about, mdev ? about : NULL);
    g_autofree char *own = mdev ? NULL : at_gpu_host_users(&host->paths, about);
    if (vfio && own)
        return g_strconcat(vfio, ", ", own, NULL);
    return vfio ? g_steal_pointer(&vfio) : g_steal_pointer(&own);
}
