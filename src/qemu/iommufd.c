/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a GPU for QEMU, where kernel and QEMU can take it as descriptors. */
#include "qemu/iommufd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "qemu/machine-internal.h"

enum { QEMU_MAJOR = 9 };

const char *at_machine_iommu_node = "/dev/iommu";

static unsigned count(const char *const *list)
{
    unsigned n = 0;
    while (list && list[n])
        n++;
    return n;
}

bool at_machine_can_iommufd(const struct at_machine_config *config, const char *qemu_version)
{
    const struct at_machine_gpu *gpu = config->gpus;
    return config->n_gpus == 1 && !gpu->sysfsdev && count(gpu->cdevs) > 0 &&
           count(gpu->cdevs) == count(gpu->hosts) &&
           access(at_machine_iommu_node, R_OK | W_OK) == 0 && qemu_version &&
           atoi(qemu_version) >= QEMU_MAJOR;
}

static bool open_node(const char *path, int *ret_fd, GError **error)
{
    *ret_fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return *ret_fd >= 0 || at_error_errno(error, errno, "open %s", path);
}

bool at_iommufd_open(const struct at_machine_config *config, struct at_iommufd *ret, GError **error)
{
    struct at_iommufd fds = AT_IOMMUFD_NONE;
    *ret = fds;
    if (!config->iommufd)
        return true;
    if (!open_node(at_machine_iommu_node, &fds.iommu, error))
        return false;
    for (; config->gpus->cdevs[fds.n]; fds.n++) {
        if (!open_node(config->gpus->cdevs[fds.n], &fds.devices[fds.n], error)) {
            at_iommufd_close(&fds);
            return false;
        }
    }
    *ret = fds;
    return true;
}

void at_iommufd_close(struct at_iommufd *fds)
{
    if (fds->iommu >= 0)
        close(fds->iommu);
    for (unsigned i = 0; i < fds->n; i++)
        close(fds->devices[i]);
    *fds = AT_IOMMUFD_NONE;
}
