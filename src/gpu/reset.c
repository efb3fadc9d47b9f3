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

static bool answers(const struct at_gpu_host *host, const char *address)
{
    unsigned char id[2];
    g_autofree char *path = at_gpu_path(host, address, "config");
    return at_gpu_attr_bytes(path, NULL, id, sizeof id) == sizeof id &&
           !(id[0] == 0xff && id[1] == 0xff);
}

bool at_gpu_config_alive(const struct at_gpu_host *host, const char *address, GError **error)
{
    return answers(host, address) ||
           at_error(error, AT_ERROR_IO,
                    "%s does not answer: its configuration space reads as ones (it fell off the "
                    "bus; its slot or the host must be switched off and on)",
                    address);
}

bool at_gpu_run_reset(struct at_gpu_run *run, const char *address, GError **error)
{
    if (!at_gpu_reset_possible(run->host, address, error))
        return false;
    if (!at_gpu_run_set(run, address, "reset", "1", error)) {
        g_prefix_error(error, "resetting %s: ", address);
        return false;
    }
    /* A card may need a moment to answer again. */
    at_gpu_run_wait(run, answers, address, at_gpu_run_timeout(run));
    if (!at_gpu_config_alive(run->host, address, error))
        return false;
    if (run->att)
        run->att->cleared = "reset";
    return true;
}

bool at_gpu_reset(const struct at_gpu_host *host, const char *address, GError **error)
{
    struct at_gpu_run run = {.host = host};
    if (!at_pci_address_valid(address))
        return at_error(error, AT_ERROR_INVALID, "\"%s\" is not the address of a PCI function",
                        address);
    if (!at_gpu_exists(host, address, NULL))
        return at_error(error, AT_ERROR_NOT_FOUND, "there is no PCI function %s", address);
    return at_gpu_run_reset(&run, address, error);
}
