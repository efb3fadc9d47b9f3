/* SPDX-License-Identifier: Apache-2.0 */
/* Resetting a card together with all else on its bus. The kernel resets a bus for one function only
 * when nothing else is on it (ENOTTY otherwise): a GPU with an audio function has no reset of its
 * own then. VFIO's hot reset does it for who owns all that is hit, which is shown by the descriptor
 * of the IOMMU group (linux/vfio.h; Linux 6.1, drivers/vfio/pci/vfio_pci_core.c). */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "gpu/attribute.h"
#include "gpu/device-internal.h"
#include "gpu/function.h"
#include "gpu/reset.h"
#include "gpu/sysfs-write.h"
#include "gpu/text-list.h"

enum {
    AFFECTED_MAX = 256, /* functions that one bus can have */
    AGAIN_MAX = 50,     /* tries while somebody else has the lock of a function for a moment */
    AGAIN_MS = 20,
};

/* ---- what is on the bus ---- */

static bool same_bus(const char *a, const char *b)
{
    struct at_pci_address first, second;
    return at_pci_address_parse(a, &first) && at_pci_address_parse(b, &second) &&
           first.domain == second.domain && first.bus == second.bus;
}

/* Without VFs: they are off before their card is given as a whole. char* with free func. */
static GPtrArray *on_bus(const struct at_gpu_paths *paths, const char *address)
{
    g_autofree char *devices = at_pci_function_dir(paths, NULL);
    GPtrArray *names = at_gpu_attr_list(devices, AT_GPU_LIST_MAX, at_pci_address_valid);
    if (!names)
        return g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = names->len; i-- > 0;) {
        g_autofree char *dir = at_pci_function_dir(paths, names->pdata[i]);
        if (!same_bus(names->pdata[i], address) || at_pci_function_is_vf(dir))
            g_ptr_array_remove_index(names, i);
    }
    return names;
}

/* Drivers of VFIO; pci-stub lets its device be given, but not reset with others. */
static bool is_vfio(const char *driver)
{
    return driver && at_pci_driver_lets_go(driver) && !g_str_equal(driver, "pci-stub");
}

/* All that is hit must be of the card's group, for a group has one holder; and what is not bound
 * with the card (its own functions are) must be with VFIO already. */
static bool is_stranger(const struct at_gpu_paths *paths, const char *card, const char *address)
{
    g_autofree char *dir = at_pci_function_dir(paths, address);
    g_autofree char *card_dir = at_pci_function_dir(paths, card);
    g_autofree char *driver = at_pci_function_driver(dir);
    if (at_pci_function_iommu_group(dir) != at_pci_function_iommu_group(card_dir))
        return true;
    return !at_pci_address_same_slot(card, address) && !is_vfio(driver);
}

static bool is_unbound(const struct at_gpu_paths *paths, const char *card, const char *address)
{
    g_autofree char *dir = at_pci_function_dir(paths, address);
    g_autofree char *driver = at_pci_function_driver(dir);
    return !is_vfio(driver);
}

static char *named(const struct at_gpu_paths *paths, const char *address)
{
    g_autofree char *dir = at_pci_function_dir(paths, address);
    g_autofree char *driver = at_pci_function_driver(dir);
    return g_strdup_printf("%s (IOMMU group %d, %s%s)", address, at_pci_function_iommu_group(dir),
                           driver ? "driver " : "no driver", driver ? driver : "");
}

/* Those on the bus of which @is is true, in words; NULL: none. */
static char *those(const struct at_gpu_paths *paths, const char *card,
                   bool (*is)(const struct at_gpu_paths *, const char *, const char *))
{
    g_autoptr(GPtrArray) functions = on_bus(paths, card);
    GString *list = g_string_new(NULL);
    for (unsigned i = 0; i < functions->len; i++) {
        if (!is(paths, card, functions->pdata[i]))
            continue;
        g_autofree char *text = named(paths, functions->pdata[i]);
        at_gpu_list_add(list, "%s", text);
    }
    return g_string_free(list, list->len == 0);
}

char *at_gpu_reset_strangers(const struct at_gpu_paths *paths, const char *address)
{
    return those(paths, address, is_stranger);
}

bool at_gpu_bus_shared(const struct at_gpu_paths *paths, const char *address)
{
    g_autoptr(GPtrArray) functions = on_bus(paths, address);
    return functions->len > 1;
}

bool at_gpu_hot_reset_possible(const struct at_gpu_host *host, const char *address, GError **error)
{
    g_autofree char *strangers = at_gpu_reset_strangers(&host->paths, address);
    g_autofree char *container = g_build_filename(host->paths.dev, "vfio/vfio", NULL);
    if (strangers)
        return at_error(error, AT_ERROR_UNAVAILABLE,
                        "%s can only be reset together with all on its bus, and %s does not go "
                        "with it (move the card to another slot)",
                        address, strangers);
    if (!at_gpu_attr_exists(container, NULL))
        return at_error(error, AT_ERROR_UNAVAILABLE,
                        "%s can only be reset together with all on its bus, which needs %s, and "
                        "this kernel has none (built without VFIO_GROUP or VFIO_CONTAINER)",
                        address, container);
    return true;
}

/* ---- in the child ---- */

enum stage { CONTAINER, GROUP, JOIN, IOMMU, DEVICE, ASK, OTHER_GROUP, RESET };

/* In memory that is shared with the child, which sets the stage and what the kernel says is hit. */
struct hot_reset {
    const char *container, *group, *address;
    unsigned group_id;
    enum stage stage;
    struct vfio_pci_dependent_device other; /* at OTHER_GROUP */
    struct vfio_pci_hot_reset_info *info;   /* behind this struct */
};

static int open_device(struct hot_reset *r, int *container, int *group, int *device)
{
    r->stage = CONTAINER;
    *container = open(r->container, O_RDWR | O_CLOEXEC);
    if (*container < 0)
        return errno;
    r->stage = GROUP;
    *group = open(r->group, O_RDWR | O_CLOEXEC);
    if (*group < 0)
        return errno;
    r->stage = JOIN;
    if (ioctl(*group, VFIO_GROUP_SET_CONTAINER, container) < 0)
        return errno;
    r->stage = IOMMU;
    if (ioctl(*container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
        return errno;
    r->stage = DEVICE;
    *device = ioctl(*group, VFIO_GROUP_GET_DEVICE_FD, r->address);
    return *device < 0 ? errno : 0;
}

/* What the kernel would hit is the last word, before anything is. */
static int ask(struct hot_reset *r, int device)
{
    r->stage = ASK;
    r->info->argsz = sizeof *r->info + AFFECTED_MAX * sizeof r->info->devices[0];
    if (ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, r->info) < 0)
        return errno;
    for (unsigned i = 0; i < MIN(r->info->count, AFFECTED_MAX); i++) {
        if (r->info->devices[i].group_id == r->group_id)
            continue;
        r->stage = OTHER_GROUP;
        r->other = r->info->devices[i];
        return EPERM;
    }
    return 0;
}

static int hit(struct hot_reset *r, int device, int32_t group)
{
    _Alignas(struct vfio_pci_hot_reset) char buf[sizeof(struct vfio_pci_hot_reset) + sizeof group];
    struct vfio_pci_hot_reset *ask_for = (struct vfio_pci_hot_reset *)buf;
    *ask_for = (struct vfio_pci_hot_reset){.argsz = sizeof buf, .count = 1};
    memcpy(buf + sizeof *ask_for, &group, sizeof group);
    r->stage = RESET;
    for (unsigned i = 0; ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, buf) < 0; i++) {
        if (errno != EAGAIN || i == AGAIN_MAX)
            return errno;
        poll(NULL, 0, AGAIN_MS);
    }
    return 0;
}

/* All is closed again before it ends: closing resets what can be, which may take its time too. */
static int work(void *data)
{
    struct hot_reset *r = data;
    int container = -1, group = -1, device = -1;
    int err = open_device(r, &container, &group, &device);
    if (!err)
        err = ask(r, device);
    if (!err)
        err = hit(r, device, group);
    if (device >= 0)
        close(device);
    if (group >= 0)
        close(group);
    if (container >= 0)
        close(container);
    return err;
}

/* ---- the reset ---- */

static bool failed(const struct at_gpu_paths *paths, const struct hot_reset *r, int err,
                   GError **error)
{
    if (r->stage == OTHER_GROUP) {
        g_autofree char *address =
            g_strdup_printf("%04x:%02x:%02x.%x", r->other.segment, r->other.bus,
                            r->other.devfn >> 3u, r->other.devfn & 7u);
        g_autofree char *text = named(paths, address);
        return at_error(error, AT_ERROR_UNAVAILABLE,
                        "it would hit %s too, which does not go with it (move the card to another "
                        "slot)",
                        text);
    }
    if (r->stage == ASK && err == ENODEV)
        return at_error(error, AT_ERROR_UNAVAILABLE, "the kernel cannot reset its bus");
    if (r->stage == RESET && (err == EINVAL || err == EPERM))
        return at_error(error, AT_ERROR_UNAVAILABLE,
                        "the kernel refuses it (%s): something that it would hit is not with "
                        "vfio-pci, or of another IOMMU group",
                        g_strerror(err));
    static const char *const doing[] = {
        [CONTAINER] = "opening the VFIO container",
        [GROUP] = "opening its IOMMU group",
        [JOIN] = "putting its group into a container",
        [IOMMU] = "setting up the IOMMU",
        [DEVICE] = "opening it",
        [ASK] = "asking what it would hit",
        [RESET] = "the reset itself",
    };
    return at_error_errno(error, err, "%s (%s)", doing[r->stage],
                          r->stage == CONTAINER ? r->container : r->group);
}

static bool in_child(struct at_gpu_run *run, struct hot_reset *r, GError **error)
{
    int err = 0;
    g_autofree char *what = g_strdup_printf("the hot reset of %s", r->address);
    return at_sysfs_work(work, r, what, r->address, at_gpu_run_timeout(run), &err, error) &&
           (err == 0 || failed(&run->host->paths, r, err, error));
}

static bool all_bound(struct at_gpu_run *run, const char *address, GError **error)
{
    g_autofree char *unbound = those(&run->host->paths, address, is_unbound);
    return !unbound || at_error(error, AT_ERROR_CONFLICT,
                                "it needs all on the bus with vfio-pci, and there is %s", unbound);
}

static bool reset_bus(struct at_gpu_run *run, const char *address, GError **error)
{
    const struct at_gpu_paths *paths = &run->host->paths;
    g_autofree char *dir = at_pci_function_dir(paths, address);
    int id = at_pci_function_iommu_group(dir);
    g_autofree char *container = g_build_filename(paths->dev, "vfio/vfio", NULL);
    g_autofree char *group = g_strdup_printf("%s/vfio/%d", paths->dev, id);
    size_t size = sizeof(struct hot_reset) + sizeof(struct vfio_pci_hot_reset_info) +
                  AFFECTED_MAX * sizeof(struct vfio_pci_dependent_device);
    struct hot_reset *r =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r == MAP_FAILED)
        return at_error_errno(error, errno, "memory for it");
    *r = (struct hot_reset){.container = container,
                            .group = group,
                            .address = address,
                            .group_id = (unsigned)id,
                            .info = (struct vfio_pci_hot_reset_info *)(r + 1)};
    bool ok = in_child(run, r, error);
    munmap(r, size);
    return ok;
}

bool at_gpu_run_hot_reset(struct at_gpu_run *run, const char *address, GError **error)
{
    if (at_gpu_hot_reset_possible(run->host, address, error) && all_bound(run, address, error) &&
        reset_bus(run, address, error))
        return true;
    g_prefix_error(error, "resetting %s with all on its bus (VFIO's hot reset): ", address);
    return false;
}
