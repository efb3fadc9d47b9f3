/* SPDX-License-Identifier: Apache-2.0 */
/* The block graph of a machine: overlays on top, frozen ones away. Names of nodes and files are
 * made in qemu/blockdev.h. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "qemu/qmp.h"

/* The same as at_blockdev_overlay_path(). */
char *at_block_overlay_path(const char *dir, unsigned disk, unsigned gen);

/* An empty overlay file (qemu-img create, extended_l2, 128k clusters, no backing name), owned by
 * uid:gid with mode 0600, synced with its directory. An existing file of that name is replaced:
 * only for generations that were never used. */
bool at_block_overlay_create(const char *dir, unsigned disk, unsigned gen, uint64_t size, uid_t uid,
                             gid_t gid, GError **error);
bool at_block_overlay_remove(const char *dir, unsigned disk, unsigned gen, GError **error);

/* Adds file and qcow2 node of a prepared overlay ("backing": null) to a running machine.
 * Unused nodes of these names are replaced. */
bool at_block_overlay_add(struct at_qmp *qmp, const char *dir, unsigned disk, unsigned gen,
                          int timeout_ms, GError **error);
/* Takes an unused one out again (missing nodes are fine). CONFLICT when the machine uses it. */
bool at_block_overlay_del(struct at_qmp *qmp, unsigned disk, unsigned gen, GError **error);

/* The generation that device disk<i> writes to now, from query-block. NOT_FOUND when there is no
 * such device, INVALID when no overlay of ours is on top. */
bool at_block_live_gen(struct at_qmp *qmp, unsigned disk, unsigned *ret_gen, GError **error);

/* Replaces everything below generation @above by the sealed base @new_root: adds the nbd node,
 * reopens d<i>-<above> with all options, deletes the nodes of @old_gens (in any order) and the old
 * base node @old_root (may be NULL, or the same as @new_root). The caller has proved that new_root
 * has the same content, that the NBD server answers (with a dead one QEMU hangs in here), and
 * removes the files afterwards. Idempotent: may be called again after a failure or a crash at any
 * point. Blocks up to a minute per step. Errors: PEER with QEMU's text, TIMEOUT. */
bool at_block_rebase(struct at_qmp *qmp, const char *dir, const char *nbd_socket, unsigned disk,
                     unsigned above, const char *new_root, const unsigned *old_gens,
                     unsigned n_old_gens, const char *old_root, GError **error);
