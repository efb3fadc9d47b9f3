/* SPDX-License-Identifier: Apache-2.0 */
/* The mediated devices of a host as sysfs shows them: each a directory below the function that it
 * was made on, with a link to it on the bus mdev. Any thread. */
#pragma once
#include "gpu/gpu.h"

/* A UUID as the kernel writes it, in lower case. */
bool at_mdev_uuid_valid(const char *uuid);

/* <sys>/bus/mdev/devices/<uuid>; NULL: the directory of all. Newly allocated. */
char *at_mdev_dir(const struct at_gpu_paths *paths, const char *uuid);
bool at_mdev_exists(const struct at_gpu_paths *paths, const char *uuid);
/* Address of the function that it was made on, and its type ("nvidia-222"); NULL: unknown. Newly
 * allocated. */
char *at_mdev_parent(const struct at_gpu_paths *paths, const char *uuid);
char *at_mdev_type(const struct at_gpu_paths *paths, const char *uuid);

/* UUIDs of those made on @parent (NULL: of all), sorted; char* with free func. Of a host, at most
 * 4096 are looked at. */
GPtrArray *at_mdev_list(const struct at_gpu_paths *paths, const char *parent);
