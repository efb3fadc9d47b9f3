/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the command line that is about GPUs: each on a PCIe root port of its own, behind
 * those of cards and disks, and a window of 64-bit addresses that is large enough for their BARs.
 * By iommufd QEMU gets a GPU as descriptors; by groups, /dev/vfio/N belongs to QEMU's user. */
#include <string.h>

#include "base/error.h"
#include "qemu/machine-internal.h"

enum {
    GPU_SLOT = 8, /* of the root bus: two slots of eight ports */
    GPU_CHASSIS = 96,
    MAX_FUNCTIONS = 8,
};
#define GIB (UINT64_C(1) << 30)
#define WINDOW_DEFAULT (32 * GIB) /* of QEMU's q35 */
#define WINDOW_MAX (UINT64_C(1) << 46)

/* "0000:41:00.0" */
static bool is_address(const char *text)
{
    static const char shape[] = "xxxx:xx:xx.x";
    if (strlen(text) != strlen(shape))
        return false;
    for (unsigned i = 0; shape[i]; i++) {
        if (shape[i] == 'x' ? !g_ascii_isxdigit(text[i]) : text[i] != shape[i])
            return false;
    }
    return true;
}

static bool check_gpu(const struct at_machine_gpu *gpu, unsigned index, GError **error)
{
    unsigned n = 0;
    for (const char *const *host = gpu->hosts; host && *host; host++, n++) {
        if (!is_address(*host))
            return at_error(error, AT_ERROR_INVALID, "GPU %u: \"%s\" is not a PCI address", index,
                            *host);
    }
    if (n > MAX_FUNCTIONS || (n > 0) == (gpu->sysfsdev != NULL))
        return at_error(error, AT_ERROR_INVALID,
                        "GPU %u needs either 1 to %d functions or a mediated device", index,
                        MAX_FUNCTIONS);
    if (gpu->sysfsdev && (gpu->sysfsdev[0] != '/' || strchr(gpu->sysfsdev, ',')))
        return at_error(error, AT_ERROR_INVALID, "GPU %u: \"%s\" is not a device's directory",
                        index, gpu->sysfsdev);
    if (gpu->window > WINDOW_MAX)
        return at_error(error, AT_ERROR_INVALID, "GPU %u: its BARs are too large", index);
    return true;
}

static bool has_cdevs(const struct at_machine_config *config)
{
    const struct at_machine_gpu *gpu = config->gpus;
    unsigned n = 0;
    if (config->n_gpus != 1 || !gpu->hosts || !gpu->cdevs)
        return false;
    while (n < MAX_FUNCTIONS && gpu->hosts[n] && gpu->cdevs[n])
        n++;
    return n > 0 && !gpu->hosts[n] && !gpu->cdevs[n];
}

bool at_machine_check_gpus(const struct at_machine_config *config, GError **error)
{
    if (config->n_gpus > AT_MACHINE_MAX_GPUS)
        return at_error(error, AT_ERROR_INVALID, "more than %d GPUs", AT_MACHINE_MAX_GPUS);
    if (config->iommufd && !has_cdevs(config))
        return at_error(error, AT_ERROR_INVALID,
                        "iommufd needs one GPU with the node of each of "
                        "its functions");
    for (unsigned i = 0; i < config->n_gpus; i++) {
        if (!check_gpu(&config->gpus[i], i, error))
            return false;
    }
    return true;
}

static void add_gpu(GPtrArray *argv, const struct at_machine_gpu *gpu, unsigned index,
                    const struct at_iommufd *iommufd)
{
    g_autofree char *port = g_strdup_printf("pg%u", index);
    at_machine_add_port(argv, port, GPU_SLOT, index, GPU_CHASSIS);
    if (gpu->sysfsdev) {
        at_machine_add_option(argv, "-device", "vfio-pci,id=gpu%u,sysfsdev=%s,bus=%s", index,
                              gpu->sysfsdev, port);
        return;
    }
    bool several = gpu->hosts[1] != NULL;
    for (unsigned f = 0; gpu->hosts[f]; f++) {
        g_autofree char *id =
            f ? g_strdup_printf("gpu%u-%u", index, f) : g_strdup_printf("gpu%u", index);
        g_autofree char *which =
            iommufd->iommu >= 0 ? g_strdup_printf("iommufd=iommufd0,fd=%d", iommufd->devices[f])
                                : g_strdup_printf("host=%s", gpu->hosts[f]);
        at_machine_add_option(argv, "-device", "vfio-pci,id=%s,%s,bus=%s,addr=0x0.0x%x%s", id,
                              which, port, f, several && f == 0 ? ",multifunction=on" : "");
    }
}

/* Twice the next power of two: each BAR lies at a multiple of its own size. */
static uint64_t window_of(const struct at_machine_config *c)
{
    uint64_t sum = 0, window = GIB;
    for (unsigned i = 0; i < c->n_gpus; i++)
        sum += c->gpus[i].window;
    while (window < sum)
        window *= 2;
    return 2 * window;
}

void at_machine_add_gpus(GPtrArray *argv, const struct at_machine_config *config,
                         const struct at_iommufd *iommufd)
{
    uint64_t window = window_of(config);
    if (iommufd->iommu >= 0)
        at_machine_add_option(argv, "-object", "iommufd,id=iommufd0,fd=%d", iommufd->iommu);
    for (unsigned i = 0; i < config->n_gpus; i++)
        add_gpu(argv, &config->gpus[i], i, iommufd);
    if (config->n_gpus == 0 || window <= WINDOW_DEFAULT)
        return;
    at_machine_add_option(argv, "-global", "q35-pcihost.pci-hole64-size=%" G_GUINT64_FORMAT "G",
                          window / GIB);
    /* For UEFI firmware (OVMF), in MiB; others do not look at it. */
    at_machine_add_option(argv, "-fw_cfg", "name=opt/ovmf/X-PciMmio64Mb,string=%" G_GUINT64_FORMAT,
                          window / (UINT64_C(1) << 20));
}

uint64_t at_machine_memlock(const struct at_machine_config *config)
{
    return config->n_gpus > 0 ? config->memory + GIB : 0;
}
