/* SPDX-License-Identifier: Apache-2.0 */
/* The vault: an immutable content-addressed store. One writer process, many readers.
 * On disk: docs/vault-format.md. Knows nothing of VDCs. Order: pack data, index, root.
 * All functions may be called from any thread and block on disk, unless a docstring says less. */
#pragma once
#include <gio/gio.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"

struct at_vault;

enum at_vault_flags {
    AT_VAULT_READ = 0,        /* a reader beside the writer (nbdkit) */
    AT_VAULT_WRITE = 1 << 0,  /* the writer; a second one gets CONFLICT naming pid and host */
    AT_VAULT_CREATE = 1 << 1, /* with WRITE: make it when the directory is missing or empty, or
                                 has what a crash has left of making it */
};

/* Opens the vault in @dir. A writer cuts torn pack tails back and rebuilds a missing index before
 * it returns; on a full disk it also cuts off what was put but never committed.
 * @gid  or (gid_t)-1: group that may read its files; a writer gives a vault of another group to it
 * Errors: NOT_FOUND, CONFLICT (another writer), INVALID (newer format), CORRUPT, IO, NO_SPACE. */
struct at_vault *at_vault_open(const char *dir, unsigned flags, gid_t gid, GError **error);
void at_vault_close(struct at_vault *vault);

/* Bounds the cache of decompressed chunks (default 32 MiB, filled as it is used). */
void at_vault_set_cache(struct at_vault *vault, size_t bytes);

/* For a reader: @func is called with the name of an object whose stored bytes are not what they
 * should be, each time one is read, from the thread that reads it. To be set before the first read.
 * A writer notes such objects by itself. */
typedef void (*at_damage_func)(const struct at_digest *digest, void *user);
void at_vault_on_damage(struct at_vault *vault, at_damage_func func, void *user);

struct at_vault_stats {
    uint64_t chunks;       /* in the index */
    uint64_t plain_bytes;  /* of those chunks */
    uint64_t stored_bytes; /* bytes of all pack files */
    uint64_t packs;
    uint64_t quarantined; /* chunks known to be damaged */
};
bool at_vault_stats(struct at_vault *vault, struct at_vault_stats *ret_stats, GError **error);

/* ---- Roots: names that keep content alive. A name is 1-255 bytes of [a-z0-9._/@-]. ---- */
enum at_root_kind {
    AT_ROOT_TREE,     /* a disk */
    AT_ROOT_MANIFEST, /* a blob that lists "disks":[{"root":HEX},...], which are kept with it */
};
struct at_root {
    char *name;
    enum at_root_kind kind;
    struct at_digest digest;
};
void at_root_free(struct at_root *root);

/* Durable on return. Replaces a root of the same name. NOT_FOUND when the content is not there, of
 * a manifest also when one of its disks is not. */
bool at_vault_root_set(struct at_vault *vault, const char *name, enum at_root_kind kind,
                       const struct at_digest *digest, GError **error);
/* Durable on return; a missing name is success. Space comes back by at_vault_gc. */
bool at_vault_root_remove(struct at_vault *vault, const char *name, GError **error);
bool at_vault_root_get(struct at_vault *vault, const char *name, struct at_root **ret_root,
                       GError **error);
/* struct at_root*, sorted by name, those that begin with @prefix; free func set. */
GPtrArray *at_vault_root_list(struct at_vault *vault, const char *prefix, GError **error);

/* ---- Sessions: what is put in one is safe from gc until the session ends. ---- */
struct at_vault_session;
struct at_vault_session *at_vault_session_begin(struct at_vault *vault, GError **error);
void at_vault_session_end(struct at_vault_session *session); /* after the root was set */

/* A blob (manifest), named by SHA-256 of its bytes as docs/vault-format.md says; <= 64 MiB.
 * Durable on return. */
bool at_vault_blob_put(struct at_vault_session *session, const void *data, size_t len,
                       struct at_digest *ret_digest, GError **error);
/* Verified bytes. NOT_FOUND, CORRUPT, IO. */
GBytes *at_vault_blob_get(struct at_vault *vault, const struct at_digest *digest, GError **error);
