/* SPDX-License-Identifier: Apache-2.0 */
/* Block nodes of a machine: their names and their options, built in one place, because QEMU wants
 * every option again when a node is reopened. The command line (machine.c) and the monitor
 * (block.c) both use these. A disk's chain is base <- frozen overlays <- live overlay. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

enum at_aio { AT_AIO_THREADS, AT_AIO_NATIVE, AT_AIO_IO_URING };

/* How overlay files in directory @dir can be opened: io_uring with O_DIRECT where the kernel and
 * the file system allow it, else less. @ret_direct (may be NULL): O_DIRECT works there. Decided
 * anew on each call (microseconds), the same for the same directory. */
enum at_aio at_blockdev_probe_aio(const char *dir, bool *ret_direct);
const char *at_aio_name(enum at_aio aio);

/* Names, newly allocated: file d<i>-<g>.qcow2 in @dir, nodes d<i>-<g> and d<i>-<g>f, and the base
 * d<i>-b<first 16 hex of root>. (QEMU allows 31 bytes.) */
char *at_blockdev_overlay_path(const char *dir, unsigned disk, unsigned gen);
char *at_blockdev_overlay_node(unsigned disk, unsigned gen);
char *at_blockdev_file_node(unsigned disk, unsigned gen);
char *at_blockdev_base_node(unsigned disk, const char *root);

/* "d<disk>-<gen>" (no f at the end) as its numbers. */
bool at_blockdev_parse_overlay_node(const char *node, unsigned *ret_disk, unsigned *ret_gen);

/* Options for -blockdev, blockdev-add and blockdev-reopen; the caller owns the object.
 * The file node and, on it, the qcow2 node. @backing: name of the node below, NULL for none
 * ("backing": null, which blockdev-snapshot insists on and which makes unallocated clusters read
 * as zeros). A frozen overlay is opened read-only: add "read-only" to both. */
JsonObject *at_blockdev_file_options(const char *dir, unsigned disk, unsigned gen);
JsonObject *at_blockdev_overlay_options(unsigned disk, unsigned gen, const char *backing);

/* The immutable base: export @root (64 hex) of nbdkit on @nbd_socket. A request to a dead server
 * fails after 5 s; the device then stops the machine (rerror=stop) and keeps the request. */
JsonObject *at_blockdev_base_options(const char *nbd_socket, unsigned disk, const char *root);

/* All nodes of a disk in the order in which they must be added: base (when @root is not NULL),
 * then file and qcow2 node of each generation, oldest first; all but the last read-only. Without
 * generations: the base alone, or nothing. The name of the node for the device's drive= is that of
 * the last one. */
JsonArray *at_blockdev_chain(const char *dir, const char *nbd_socket, unsigned disk,
                             const char *root, const unsigned *gens, unsigned n_gens);
