/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at a disk image from outside before it is read: it must not refer to other files. */
#pragma once
#include <glib.h>
#include <stdbool.h>

/* Asks a confined qemu-img what the open image refers to.
 * @name  pseudo file name "json:..." of the disk on AT_CONFINED_FILE, with its driver
 * @path  for messages
 * INVALID when there is a backing file, an external data file or extent, or encryption; TIMEOUT; IO
 * with qemu-img's words when it is no such image. Blocks. */
bool at_foreign_image_check(int file_fd, const char *name, const char *path, GError **error);
