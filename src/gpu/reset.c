/* SPDX-License-Identifier: Apache-2.0 */
/* Resetting a function between two users, and whether it answers at all. */
#include <string.h>

#include "base/error.h"
#include "gpu/attribute.h"
#include "gpu/device-internal.h"
#include "gpu/function.h"
#include "gpu/reset.h"

bool at_gpu_reset_clears(const char *const *methods)
{
    for (; methods && *methods; methods++) {
        if (**methods && strcmp(*methods, "pm") != 0)
            return true;
    }
    return false;
}

bool at_gpu_reset_by_bus(const char *const *methods)
{
    static const char *const other[] = {"pm", "bus", "cxl_bus", "", NULL};
    if (!at_gpu_reset_clears(methods))
        return false;
    for (; *methods; methods++) {
        if (!g_strv_contains(other, *methods))
            return false;
    }
    return true;
}

static GStrv methods_of(const struct at_gpu_host *host, const char *address)
{
    g_autofree char *text = at_gpu_text(host, address, "reset_method");
    return g_strsplit(text ? text : "", " ", -1);
}

/* The kernel takes the first of the methods that works: where that is power management, it would
 * not come to one that clears. */
static bool begins_with_pm(const struct at_gpu_host *host, const char *address)
{
    g_auto(GStrv) methods = methods_of(host, address);
    return g_strcmp0(methods[0], "pm") == 0;
}

bool at_gpu_reset_takes_all(const struct at_gpu_host *host, const char *address)
{
    g_auto(GStrv) methods = methods_of(host, address);
    return at_gpu_reset_by_bus((const char *const *)methods) &&
           (begins_with_pm(host, address) || at_gpu_bus_shared(&host->paths, address));
}

bool at_gpu_reset_reaches(const struct at_gpu_host *host, const char *address, GError **error)
{
    return !at_gpu_reset_takes_all(host, address) ||
           at_gpu_hot_reset_possible(host, address, error);
}

bool at_gpu_reset_possible(const struct at_gpu_host *host, const char *address, GError **error)
{
    /* Older kernels have no reset_method; an empty one was switched off. */
    g_autofree char *methods = at_gpu_text(host, address, "reset_method");
    g_auto(GStrv) words = g_strsplit(methods ? methods : "", " ", -1);
    bool some = at_gpu_exists(host, address, "reset") && (!methods || *methods);
    if (some && (!methods || at_gpu_reset_clears((const char *const *)words)))
        return true;
    if (some)
        return at_error(
            error, AT_ERROR_UNAVAILABLE,
            "%s can be reset by power management only, which may leave in it what one user "
            "had, so it is not given",
            address);
    return at_error(error, AT_ERROR_UNAVAILABLE,
                    "%s has no way to be reset (no FLR, power management or bus reset): what one "
                    "user leaves in it the next would find, so it is not given",
                    address);
}

/* Vendor and device of a VF always read as ones (PCI Express 5.0, 9.3.4.1.1): what follows them,
 * command, status and class, tells a VF that answers from a function that is gone. */
static bool answers(const struct at_gpu_host *host, const char *address)
{
    unsigned char header[12];
    g_autofree char *path = at_gpu_path(host, address, "config");
    size_t len = at_gpu_attr_bytes(path, NULL, header, sizeof header);
    for (size_t i = 0; i < len; i++) {
        if (header[i] != 0xff)
            return true;
    }
    return false;
}

bool at_gpu_config_alive(const struct at_gpu_host *host, const char *address, GError **error)
{
    return answers(host, address) ||
           at_error(error, AT_ERROR_IO,
                    "%s does not answer: its configuration space reads as ones (it fell off the "
                    "bus; its slot or the host must be switched off and on)",
                    address);
}

static bool reset_either_way(struct at_gpu_run *run, const char *address, bool *ret_bus,
                             GError **error)
{
    g_autoptr(GError) local = NULL;
    bool pm = begins_with_pm(run->host, address);
    *ret_bus = false;
    if (!pm && at_gpu_run_set(run, address, "reset", "1", &local))
        return true;
    if (pm || g_error_matches(local, AT_ERROR, AT_ERROR_UNAVAILABLE)) {
        *ret_bus = true;
        if (at_gpu_run_hot_reset(run, address, error))
            return true;
        if (local)
            at_gpu_error_add(error, "; alone: %s", local->message);
        return false;
    }
    g_propagate_prefixed_error(error, g_steal_pointer(&local), "resetting %s: ", address);
    return false;
}

static bool reset(struct at_gpu_run *run, const char *address, bool *ret_bus, GError **error)
{
    if (!at_gpu_reset_possible(run->host, address, error) ||
        !reset_either_way(run, address, ret_bus, error))
        return false;
    /* A card may need a moment to answer again. */
    at_gpu_run_wait(run, answers, address, at_gpu_run_timeout(run));
    return at_gpu_config_alive(run->host, address, error);
}

bool at_gpu_run_reset(struct at_gpu_run *run, const char *address, GError **error)
{
    bool bus;
    if (!reset(run, address, &bus, error))
        return false;
    if (run->att)
        run->att->cleared = bus ? "bus reset, no scrub" : "reset, no scrub";
    return true;
}

bool at_gpu_reset(const struct at_gpu_host *host, const char *address, bool *ret_bus,
                  GError **error)
{
    struct at_gpu_run run = {.host = host};
    if (!at_pci_address_valid(address))
        return at_error(error, AT_ERROR_INVALID, "\"%s\" is not the address of a PCI function",
                        address);
    if (!at_gpu_exists(host, address, NULL))
        return at_error(error, AT_ERROR_NOT_FOUND, "there is no PCI function %s", address);
    return reset(&run, address, ret_bus, error);
}
