/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of the host that a run is at work on, by their address. */
#include "gpu/attribute.h"
#include "gpu/device-internal.h"
#include "gpu/function.h"
#include "gpu/resource.h"

char *at_gpu_path(const struct at_gpu_host *host, const char *address, const char *file)
{
    g_autofree char *dir = at_pci_function_dir(&host->paths, address);
    return g_build_filename(dir, file, NULL);
}

bool at_gpu_exists(const struct at_gpu_host *host, const char *address, const char *file)
{
    g_autofree char *path = at_gpu_path(host, address, file);
    return at_gpu_attr_exists(path, NULL);
}

char *at_gpu_text(const struct at_gpu_host *host, const char *address, const char *file)
{
    g_autofree char *path = at_gpu_path(host, address, file);
    return at_gpu_attr_text(path, NULL);
}

bool at_gpu_number(const struct at_gpu_host *host, const char *address, const char *file,
                   uint64_t *ret)
{
    g_autofree char *path = at_gpu_path(host, address, file);
    return at_gpu_attr_number(path, NULL, 10, UINT64_MAX, ret);
}

char *at_gpu_driver(const struct at_gpu_host *host, const char *address)
{
    g_autofree char *dir = at_pci_function_dir(&host->paths, address);
    return at_pci_function_driver(dir);
}

bool at_gpu_has_driver(const struct at_gpu_host *host, const char *address, const char *driver)
{
    g_autofree char *now = at_gpu_driver(host, address);
    return g_strcmp0(now, driver) == 0;
}

bool at_gpu_driver_loaded(const struct at_gpu_host *host, const char *driver)
{
    g_autofree char *dir = g_build_filename(host->paths.sys, "bus/pci/drivers", driver, NULL);
    return at_gpu_attr_exists(dir, NULL);
}

bool at_gpu_is_nvidia(const struct at_gpu_host *host, const char *address)
{
    g_autofree char *dir = at_pci_function_dir(&host->paths, address);
    return at_pci_function_id(dir, "vendor") == AT_GPU_VENDOR_NVIDIA;
}

char *at_gpu_nvidia_path(const struct at_gpu_paths *paths, const char *address, const char *file)
{
    return g_build_filename(paths->proc, "driver/nvidia/gpus", address, file, NULL);
}

uint64_t at_gpu_bar_window(const struct at_gpu_host *host, const char *address)
{
    g_autofree char *text = at_gpu_text(host, address, "resource");
    g_autoptr(GArray) bars = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_bar));
    at_pci_resource_parse(text ? text : "", bars);
    return at_gpu_bars_window(bars);
}
