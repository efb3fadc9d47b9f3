/* SPDX-License-Identifier: Apache-2.0 */
/* Attach and detach: the order of all, one at a time on each card, and what QEMU is told. */
#include "gpu/device.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "gpu/attribute.h"
#include "gpu/device-internal.h"
#include "gpu/function.h"
#include "gpu/group.h"
#include "gpu/mdev-read.h"

/* A run on a card lasts as long as its writes; the next one waits for a few of those. */
enum { LOCK_WRITES = 12 };

/* ---- one run at a time on a card ---- */

static GMutex busy_lock; /* guards busy: choosing a VF and taking it must be one step */
static GCond busy_changed;
static GHashTable *busy; /* addresses of cards that a run is at work on */

static bool lock_card(struct at_gpu_run *run, GError **error)
{
    const char *address = run->att->address;
    gint64 deadline = g_get_monotonic_time() + (gint64)at_gpu_run_timeout(run) * LOCK_WRITES * 1000;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&busy_lock);
    (void)locker;
    if (!busy)
        busy = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    while (g_hash_table_contains(busy, address)) {
        if (!g_cond_wait_until(&busy_changed, &busy_lock, deadline))
            return at_error(error, AT_ERROR_TIMEOUT, "%s is still being attached or detached",
                            address);
    }
    return g_hash_table_add(busy, g_strdup(address));
}

static void unlock_card(const char *address)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&busy_lock);
    (void)locker;
    g_hash_table_remove(busy, address);
    g_cond_broadcast(&busy_changed);
}

/* ---- what QEMU is told ---- */

void at_gpu_device_clear(struct at_gpu_device *device)
{
    g_strfreev(device->hosts);
    g_strfreev(device->nodes);
    g_strfreev(device->cdevs);
    g_free(device->sysfsdev);
    g_free(device->cpulist);
    *device = (struct at_gpu_device){.numa_node = -1};
}

void at_gpu_attachment_clear(struct at_gpu_attachment *att)
{
    g_clear_pointer(&att->function, g_free);
    g_clear_pointer(&att->former_driver, g_free);
    att->instance = 0;
}

static GStrv node_of(const struct at_gpu_host *host, const char *device)
{
    g_autofree char *group = at_gpu_attr_link(device, "iommu_group");
    GStrv nodes = g_new0(char *, 2);
    if (group)
        nodes[0] = g_build_filename(host->paths.dev, "vfio", group, NULL);
    return nodes;
}

/* Of Linux 6.6 and later, built with VFIO_DEVICE_CDEV: all of them, or NULL. */
static GStrv cdevs_of(const struct at_gpu_host *host, GStrv hosts)
{
    unsigned n = g_strv_length(hosts);
    g_auto(GStrv) nodes = g_new0(char *, n + 1);
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *dir = at_pci_function_dir(&host->paths, hosts[i]);
        g_autofree char *known = g_build_filename(dir, "vfio-dev", NULL);
        g_autoptr(GPtrArray) names = at_gpu_attr_list(known, 1, NULL);
        if (!names || names->len != 1)
            return NULL;
        nodes[i] = g_build_filename(host->paths.dev, "vfio", "devices", names->pdata[0], NULL);
        if (access(nodes[i], F_OK) != 0)
            return NULL;
    }
    return g_steal_pointer(&nodes);
}

static void fill_place(const struct at_gpu_host *host, const char *address,
                       struct at_gpu_device *device)
{
    g_autofree char *dir = at_pci_function_dir(&host->paths, address);
    device->numa_node = at_pci_function_numa_node(dir);
    device->cpulist = at_pci_function_cpulist(dir);
}

static bool fill_hosts(const struct at_gpu_host *host, const struct at_gpu_attachment *att,
                       struct at_gpu_device *device, GError **error)
{
    bool whole = att->profile->kind == AT_GPU_PASSTHROUGH;
    const char *first = whole ? att->address : att->function;
    g_autoptr(GPtrArray) members = at_gpu_group_members(&host->paths, first, error);
    if (!members)
        return false;
    g_autoptr(GStrvBuilder) hosts = g_strv_builder_new();
    for (unsigned i = 0; i < members->len; i++) {
        const struct at_gpu_neighbour *m = members->pdata[i];
        if (i > 0 && !(whole && m->same_card && g_strcmp0(m->driver, AT_GPU_VFIO) == 0))
            continue;
        g_strv_builder_add(hosts, m->address);
        device->window += at_gpu_bar_window(host, m->address);
    }
    device->hosts = g_strv_builder_end(hosts);
    device->cdevs = cdevs_of(host, device->hosts);
    g_autofree char *dir = at_pci_function_dir(&host->paths, first);
    device->nodes = node_of(host, dir);
    return true;
}

static bool fill_device(const struct at_gpu_host *host, const struct at_gpu_attachment *att,
                        struct at_gpu_device *device, GError **error)
{
    bool vgpu = att->profile->kind == AT_GPU_VGPU || att->profile->kind == AT_GPU_MIG_VGPU;
    fill_place(host, att->address, device);
    if (!vgpu || !att->uuid || !at_mdev_exists(&host->paths, att->uuid))
        return fill_hosts(host, att, device, error);
    device->sysfsdev = at_mdev_dir(&host->paths, att->uuid);
    device->nodes = node_of(host, device->sysfsdev);
    /* The BARs of an mdev are in no file; those of the VF behind it are the nearest. */
    if (att->function && !g_str_equal(att->function, att->address))
        device->window = at_gpu_bar_window(host, att->function);
    return device->nodes[0] ||
           at_error(error, AT_ERROR_UNAVAILABLE, "the mdev %s is in no IOMMU group", att->uuid);
}

/* ---- attach and detach ---- */

static bool valid(const struct at_gpu_attachment *att, GError **error)
{
    if (!att->address || !at_pci_address_valid(att->address) ||
        (att->function && !at_pci_address_valid(att->function)))
        return at_error(error, AT_ERROR_INVALID, "\"%s\" is not the address of a PCI function",
                        att->function  ? att->function
                        : att->address ? att->address
                                       : "");
    if (att->uuid && !at_mdev_uuid_valid(att->uuid))
        return at_error(error, AT_ERROR_INVALID, "\"%s\" is not a UUID in lower case", att->uuid);
    return true;
}

static bool attach_kind(struct at_gpu_run *run, GError **error)
{
    switch (run->att->profile->kind) {
    case AT_GPU_PASSTHROUGH:
        return at_gpu_card_bind(run, error);
    case AT_GPU_VGPU:
        return at_gpu_vgpu_attach(run, error);
    case AT_GPU_MIG_VGPU:
        return at_gpu_mig_attach(run, error);
    case AT_GPU_VF:
        return at_gpu_vf_attach(run, error);
    case AT_GPU_N_KINDS:
        break;
    }
    return at_error(error, AT_ERROR_INVALID, "the profile %s is of no kind",
                    run->att->profile->name);
}

struct choice {
    char *function, *former_driver;
    unsigned instance;
};

static struct choice choice_of(const struct at_gpu_attachment *att)
{
    return (struct choice){.function = g_strdup(att->function),
                           .former_driver = g_strdup(att->former_driver),
                           .instance = att->instance};
}

static void choice_clear(struct choice *choice)
{
    g_free(choice->function);
    g_free(choice->former_driver);
}

/* All is as it was; so shall the record be, or it would name what somebody else may take next. */
static void forget_choice(struct at_gpu_run *run, struct choice *before, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    if (g_strcmp0(att->function, before->function) == 0 &&
        g_strcmp0(att->former_driver, before->former_driver) == 0 &&
        att->instance == before->instance)
        return;
    at_gpu_attachment_clear(att);
    att->function = g_steal_pointer(&before->function);
    att->former_driver = g_steal_pointer(&before->former_driver);
    att->instance = before->instance;
    g_autoptr(GError) local = NULL;
    if (!at_gpu_run_choose(run, &local))
        at_gpu_error_add(error, "; and then: %s", local->message);
}

static bool attach(struct at_gpu_run *run, struct at_gpu_device *ret_device, GError **error)
{
    g_autoptr(GError) local = NULL;
    struct at_gpu_device device = {.numa_node = -1};
    struct choice before = choice_of(run->att);
    at_gpu_run_begin(run);
    bool ok = attach_kind(run, &local) && fill_device(run->host, run->att, &device, &local);
    if (ok) {
        *ret_device = device;
        at_gpu_run_keep(run);
    } else {
        at_gpu_device_clear(&device);
        if (at_gpu_run_undo(run, &local))
            forget_choice(run, &before, &local);
        g_propagate_error(error, g_steal_pointer(&local));
    }
    choice_clear(&before);
    return ok;
}

bool at_gpu_attach(const struct at_gpu_host *host, struct at_gpu_attachment *att,
                   at_gpu_chosen_func chosen, void *chosen_user, GCancellable *cancellable,
                   struct at_gpu_device *ret_device, GError **error)
{
    struct at_gpu_run run = {.host = host,
                             .att = att,
                             .chosen = chosen,
                             .chosen_user = chosen_user,
                             .cancellable = cancellable};
    if (!valid(att, error))
        return false;
    if (!at_gpu_exists(host, att->address, NULL))
        return at_error(error, AT_ERROR_NOT_FOUND,
                        "there is no PCI function %s: the card was taken out, or fell off the bus",
                        att->address);
    if (!lock_card(&run, error))
        return false;
    bool ok = attach(&run, ret_device, error);
    unlock_card(att->address);
    return ok;
}

static bool release_vgpu(struct at_gpu_run *run, bool give_back, GError **error)
{
    bool mig = run->att->profile->kind == AT_GPU_MIG_VGPU;
    bool any = run->att->function || run->att->instance ||
               (run->att->uuid && at_mdev_exists(&run->host->paths, run->att->uuid));
    if (!(mig ? at_gpu_mig_release(run, error) : at_gpu_vgpu_release(run, error)))
        return false;
    run->att->cleared = any ? "vGPU removed, no scrub" : NULL;
    return !give_back || at_gpu_vgpu_give_back(run, error);
}

/* Where a node stays (the function keeps a VFIO driver), who had it must not open it again. */
static void close_nodes(const struct at_gpu_host *host, const struct at_gpu_attachment *att)
{
    struct at_gpu_device device = {0};
    bool any = att->profile->kind == AT_GPU_PASSTHROUGH || att->function ||
               (att->uuid && at_mdev_exists(&host->paths, att->uuid));
    if (any)
        fill_device(host, att, &device, NULL);
    for (char **node = device.nodes; node && *node; node++) {
        if (lchown(*node, 0, 0) == 0)
            chmod(*node, 0600);
    }
    at_gpu_device_clear(&device);
}

bool at_gpu_detach(const struct at_gpu_host *host, struct at_gpu_attachment *att, bool give_back,
                   GCancellable *cancellable, GError **error)
{
    struct at_gpu_run run = {.host = host, .att = att, .cancellable = cancellable};
    if (!valid(att, error) || !lock_card(&run, error))
        return false;
    bool ok;
    att->cleared = NULL;
    close_nodes(host, att);
    if (att->profile->kind == AT_GPU_PASSTHROUGH)
        ok = at_gpu_card_release(&run, give_back, error);
    else if (att->profile->kind == AT_GPU_VF)
        ok = at_gpu_vf_release(&run, give_back, error);
    else
        ok = release_vgpu(&run, give_back, error);
    if (!at_gpu_exists(host, att->address, NULL))
        att->cleared = NULL;
    else if (!att->cleared)
        att->cleared = "nothing to clear";
    unlock_card(att->address);
    if (ok && att->profile->kind != AT_GPU_PASSTHROUGH)
        at_gpu_attachment_clear(att);
    return ok;
}
