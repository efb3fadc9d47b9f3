/* SPDX-License-Identifier: Apache-2.0 */
/* vGPUs as mediated devices: on the card itself (Turing and older) or, one each, on its VFs. The
 * caller's UUID names the device from before it exists. Errors of `create` are not documented, so
 * that what is there is looked at before and after. */
#include "base/error.h"
#include "gpu/device-internal.h"
#include "gpu/function.h"
#include "gpu/mdev-read.h"

/* It may be there already: then it must be what was asked for, on this card. */
static bool is_ours(struct at_gpu_run *run, const char *type, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    const struct at_gpu_paths *paths = &run->host->paths;
    g_autofree char *found = at_mdev_type(paths, att->uuid);
    g_autofree char *parent = at_mdev_parent(paths, att->uuid);
    g_autoptr(GPtrArray) vfs = at_pci_function_vfs(paths, att->address);
    g_ptr_array_add(vfs, g_strdup(att->address));
    bool here = parent && g_ptr_array_find_with_equal_func(vfs, parent, g_str_equal, NULL);
    if (!here || g_strcmp0(found, type) != 0)
        return at_error(error, AT_ERROR_CONFLICT,
                        "the mdev %s exists, but is of type %s on %s (wanted: %s on %s)", att->uuid,
                        found ? found : "unknown", parent ? parent : "an unknown parent", type,
                        att->address);
    return g_strcmp0(att->function, parent) == 0 || at_gpu_run_choose_function(run, parent, error);
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
    g_autoptr(GPtrArray) parents = at_pci_function_vfs(&run->host->paths, att->address);
    g_ptr_array_insert(parents, 0, g_strdup(att->address));
    for (unsigned i = 0; i < parents->len; i++) {
        if (!has_room(run, parents->pdata[i], type))
            continue;
        return at_gpu_run_choose_function(run, parents->pdata[i], error);
    }
    return at_error(error, AT_ERROR_CONFLICT,
                    "%s has no room for %s (%s) now, nor has a VF of it: its memory is given, its "
                    "vGPUs have another size, or MIG mode is not as the type needs it",
                    att->address, att->profile->name, type);
}

/* ---- giving and taking back ---- */

static bool remove_mdev(struct at_gpu_run *run, const char *uuid, GError **error)
{
    if (!at_mdev_exists(&run->host->paths, uuid))
        return true;
    g_autofree char *dir = at_mdev_dir(&run->host->paths, uuid);
    g_autofree char *path = g_build_filename(dir, "remove", NULL);
    if (!at_gpu_not_open(run, NULL, uuid, error) || !at_gpu_run_step(run, "gpu.release", error) ||
        !at_gpu_run_write(run, uuid, path, "1", error))
        return false;
    return !at_mdev_exists(&run->host->paths, uuid) ||
           at_error(error, AT_ERROR_IO, "the mdev %s is still there after it was removed", uuid);
}

static bool create(struct at_gpu_run *run, const char *type, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    g_autofree char *file = g_build_filename("mdev_supported_types", type, "create", NULL);
    g_autofree char *path = at_gpu_path(run->host, att->function, file);
    at_gpu_run_on_failure(run, remove_mdev, att->uuid);
    if (!at_gpu_run_write(run, att->uuid, path, att->uuid, error)) {
        g_prefix_error(error, "making the vGPU %s on %s: ", att->profile->name, att->function);
        return false;
    }
    if (!at_mdev_exists(&run->host->paths, att->uuid))
        return at_error(error, AT_ERROR_IO, "the kernel took the mdev %s, but it is not there",
                        att->uuid);
    return is_ours(run, type, error) && at_gpu_run_step(run, "gpu.mdev", error);
}

bool at_gpu_mdev_attach(struct at_gpu_run *run, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    if (!att->uuid || !at_mdev_uuid_valid(att->uuid))
        return at_error(error, AT_ERROR_INVALID, "a vGPU on %s needs a UUID in lower case",
                        att->address);
    g_autofree char *type = g_strdup_printf("nvidia-%u", att->profile->type_id);
    if (at_mdev_exists(&run->host->paths, att->uuid))
        return is_ours(run, type, error);
    return choose(run, type, error) && at_gpu_run_step(run, "gpu.mdev", error) &&
           create(run, type, error);
}

bool at_gpu_mdev_release(struct at_gpu_run *run, GError **error)
{
    return !run->att->uuid || remove_mdev(run, run->att->uuid, error);
}
