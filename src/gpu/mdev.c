/* SPDX-License-Identifier: Apache-2.0 */
/* vGPUs as mediated devices: on the card itself (Turing and older) or, one each, on its VFs. The
 * caller's UUID names the device from before it exists. Errors of `create` are not documented, so
 * that what is there is looked at before and after. */
#include <string.h>

#include "base/error.h"
#include "gpu/device-internal.h"
#include "gpu/sysfs-read.h"

static char *mdev_path(const struct at_gpu_host *host, const char *uuid, const char *file)
{
    return g_build_filename(host->paths.sys, "bus/mdev/devices", uuid, file, NULL);
}

bool at_gpu_mdev_exists(const struct at_gpu_host *host, const char *uuid)
{
    g_autofree char *path = mdev_path(host, uuid, NULL);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* Address of the function that it was made on. */
static char *parent_of(const struct at_gpu_host *host, const char *uuid)
{
    g_autofree char *path = mdev_path(host, uuid, NULL);
    g_autofree char *target = g_file_read_link(path, NULL);
    g_autofree char *dir = target ? g_path_get_dirname(target) : NULL;
    return dir ? g_path_get_basename(dir) : NULL;
}

/* It may be there already: then it must be what was asked for, on this card. */
static bool is_ours(struct at_gpu_run *run, const char *type, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    g_autofree char *link = mdev_path(run->host, att->uuid, "mdev_type");
    g_autofree char *found = at_sysfs_link_name(link);
    g_autofree char *parent = parent_of(run->host, att->uuid);
    g_autoptr(GPtrArray) vfs = at_gpu_vf_addresses(run->host, att->address);
    g_ptr_array_add(vfs, g_strdup(att->address));
    bool here = parent && g_ptr_array_find_with_equal_func(vfs, parent, g_str_equal, NULL);
    if (!here || g_strcmp0(found, type) != 0)
        return at_error(error, AT_ERROR_CONFLICT,
                        "the mdev %s exists, but is of type %s on %s (wanted: %s on %s)", att->uuid,
                        found ? found : "unknown", parent ? parent : "an unknown parent", type,
                        att->address);
    if (g_strcmp0(att->function, parent) == 0)
        return true;
    g_free(att->function);
    att->function = g_steal_pointer(&parent);
    return at_gpu_run_choose(run, error);
}

/* ---- choosing ---- */

static bool has_room(struct at_gpu_run *run, const char *parent, const char *type)
{
    uint64_t n = 0;
    g_autofree char *file =
        g_build_filename("mdev_supported_types", type, "available_instances", NULL);
    if (!at_gpu_number(run->host, parent, file, &n) || n == 0)
        return false;
    /* The card itself takes several; a VF takes one, which nobody else's record may name. */
    return g_str_equal(parent, run->att->address) ||
           !(run->att->others && g_strv_contains(run->att->others, parent));
}

static bool choose(struct at_gpu_run *run, const char *type, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    if (att->function && has_room(run, att->function, type))
        return true;
    g_autoptr(GPtrArray) parents = at_gpu_vf_addresses(run->host, att->address);
    g_ptr_array_insert(parents, 0, g_strdup(att->address));
    for (unsigned i = 0; i < parents->len; i++) {
        if (!has_room(run, parents->pdata[i], type))
            continue;
        g_free(att->function);
        att->function = g_strdup(parents->pdata[i]);
        return at_gpu_run_choose(run, error);
    }
    return at_error(error, AT_ERROR_CONFLICT,
                    "%s has no room for %s (%s) now, nor has a VF of it: its memory is given, its "
                    "vGPUs have another size, or MIG mode is not as the type needs it",
                    att->address, att->profile->name, type);
}

/* ---- giving and taking back ---- */

static bool remove_mdev(struct at_gpu_run *run, const char *uuid, GError **error)
{
    if (!at_gpu_mdev_exists(run->host, uuid))
        return true;
    if (!at_gpu_not_open(run, NULL, uuid, error) || !at_gpu_run_step(run, "gpu.release", error) ||
        !at_gpu_run_write(run, uuid, "1", error, "%s/bus/mdev/devices/%s/remove",
                          run->host->paths.sys, uuid))
        return false;
    return !at_gpu_mdev_exists(run->host, uuid) ||
           at_error(error, AT_ERROR_IO, "the mdev %s is still there after it was removed", uuid);
}

static bool create(struct at_gpu_run *run, const char *type, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    at_gpu_run_on_failure(run, remove_mdev, att->uuid);
    if (!at_gpu_run_write(run, att->uuid, att->uuid, error,
                          "%s/bus/pci/devices/%s/mdev_supported_types/%s/create",
                          run->host->paths.sys, att->function, type)) {
        g_prefix_error(error, "making the vGPU %s on %s: ", att->profile->name, att->function);
        return false;
    }
    if (!at_gpu_mdev_exists(run->host, att->uuid))
        return at_error(error, AT_ERROR_IO, "the kernel took the mdev %s, but it is not there",
                        att->uuid);
    return is_ours(run, type, error) && at_gpu_run_step(run, "gpu.mdev", error);
}

bool at_gpu_mdev_attach(struct at_gpu_run *run, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    if (!att->uuid || !at_gpu_uuid_valid(att->uuid))
        return at_error(error, AT_ERROR_INVALID, "a vGPU on %s needs a UUID in lower case",
                        att->address);
    g_autofree char *type = g_strdup_printf("nvidia-%u", att->profile->type_id);
    if (at_gpu_mdev_exists(run->host, att->uuid))
        return is_ours(run, type, error);
    return choose(run, type, error) && at_gpu_run_step(run, "gpu.mdev", error) &&
           create(run, type, error);
}

bool at_gpu_mdev_release(struct at_gpu_run *run, GError **error)
{
    return !run->att->uuid || remove_mdev(run, run->att->uuid, error);
}
