/* SPDX-License-Identifier: Apache-2.0 */
/* Reads disk files of any format through qemu-nbd and libnbd, as extents: what a frozen overlay
 * itself holds (seal), or the whole content of a foreign image (import). The file is never
 * written. qemu-nbd runs unprivileged, sandboxed by seccomp where it can be, and dies with us. */
#pragma once
#include <gio/gio.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* @data NULL: @len zero bytes. Ascending offsets; data pieces are at most 2 MiB. */
typedef bool (*at_extent_func)(uint64_t offset, uint64_t len, const void *data, void *user,
                               GError **error);

/* What the overlay at @path itself allocates (data, and explicit zeros), without its backing.
 * Safe while QEMU holds the file as a frozen backing layer. @ret_size: virtual size, may be NULL.
 */
bool at_disk_read_overlay(const char *path, at_extent_func func, void *user,
                          GCancellable *cancellable, uint64_t *ret_size, GError **error);

/* The whole content of @path in @format (raw, qcow2, vmdk, vhdx, ...; never probed here), holes as
 * zeros. @tmp_dir takes the socket. A backing file is refused. */
bool at_disk_read_image(const char *path, const char *format, at_extent_func func, void *user,
                        GCancellable *cancellable, uint64_t *ret_size, GError **error);
