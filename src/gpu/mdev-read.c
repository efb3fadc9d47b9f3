/* SPDX-License-Identifier: Apache-2.0 */
/* The mediated devices of a host as sysfs shows them. */
#include "gpu/mdev-read.h"

#include <string.h>

#include "gpu/attribute.h"

enum { MDEVS_MAX = 4096 }; /* of a host */

static bool is_uuid(const char *name)
{
    return g_uuid_string_is_valid(name);
}

bool at_mdev_uuid_valid(const char *uuid)
{
    return is_uuid(uuid) && !strpbrk(uuid, "ABCDEF");
}

char *at_mdev_dir(const struct at_gpu_paths *paths, const char *uuid)
{
    return g_build_filename(paths->sys, "bus/mdev/devices", uuid, NULL);
}

bool at_mdev_exists(const struct at_gpu_paths *paths, const char *uuid)
{
    g_autofree char *dir = at_mdev_dir(paths, uuid);
    return at_gpu_attr_exists(dir, NULL);
}

char *at_mdev_parent(const struct at_gpu_paths *paths, const char *uuid)
{
    g_autofree char *dir = at_mdev_dir(paths, uuid);
    return at_gpu_attr_link_parent(dir, NULL);
}

char *at_mdev_type(const struct at_gpu_paths *paths, const char *uuid)
{
    g_autofree char *dir = at_mdev_dir(paths, uuid);
    return at_gpu_attr_link(dir, "mdev_type");
}

GPtrArray *at_mdev_list(const struct at_gpu_paths *paths, const char *parent)
{
    GPtrArray *uuids = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *dir = at_mdev_dir(paths, NULL);
    g_autoptr(GPtrArray) all = at_gpu_attr_list(dir, MDEVS_MAX, is_uuid);
    for (unsigned i = 0; all && i < all->len; i++) {
        g_autofree char *on = parent ? at_mdev_parent(paths, all->pdata[i]) : NULL;
        if (g_strcmp0(on, parent) == 0)
            g_ptr_array_add(uuids, g_strdup(all->pdata[i]));
    }
    return uuids;
}
