/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that a root reaches.  Shared parts are entered once per walk. */
#pragma once
#include "vault/tree-internal.h"

struct at_walk {
    struct at_vault *vault;
    GCancellable *cancellable;
    struct at_digest_set *nodes; /* entered before */
    /* Called for the disk, node or manifest itself, and for every chunk (as often as it is named).
     */
    bool (*visit)(const struct at_digest *digest, uint8_t kind, void *user, GError **error);
    /* An object that cannot be read, so that what is below it is not known.  NULL: the walk ends
     * with the error. */
    void (*damaged)(const struct at_digest *digest, const GError *error, void *user);
    void *user;
};
bool at_walk_root(struct at_walk *walk, enum at_root_kind kind, const struct at_digest *digest,
                  GError **error);

/* Roots of the disks that a manifest names, added to @disks (struct at_digest). */
bool at_manifest_disks(GBytes *manifest, GArray *disks, GError **error);
