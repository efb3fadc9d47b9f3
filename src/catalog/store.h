/* SPDX-License-Identifier: Apache-2.0 */
/* The seam below the catalog: where versions of records are kept. A store is used by one thread
 * at a time (the catalog's lock), keeps text as it is, and checks no expectations. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* One version of one key. */
struct at_version {
    char *key;
    uint64_t revision; /* of the transaction that wrote it */
    uint64_t created;  /* revision since which the key exists without a gap */
    char *time;        /* RFC 3339 */
    char *text;        /* compact JSON; NULL: the key was deleted here */
};
typedef struct at_version at_version;
struct at_version *at_version_new(const char *key, uint64_t revision, uint64_t created,
                                  const char *time, const char *text);
void at_version_free(struct at_version *version);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_version, at_version_free)

struct at_store {
    const struct at_store_ops *ops;
};

/* Errors: CORRUPT (the store is damaged), NO_SPACE, UNAVAILABLE (another process is writing),
 * DENIED, IO. @out collects owned struct at_version*. */
struct at_store_ops {
    void (*close)(struct at_store *store);
    /* Number of the last committed transaction. */
    bool (*revision)(struct at_store *store, uint64_t *ret_revision, GError **error);
    /* Newest version of @key that is not newer than @at, deletions included; NULL when none. */
    bool (*find)(struct at_store *store, const char *key, uint64_t at,
                 struct at_version **ret_version, GError **error);
    /* Newest versions of keys that exist, sorted by key. */
    bool (*list)(struct at_store *store, const char *prefix, GPtrArray *out, GError **error);
    /* Newest first, at most @limit (0: all). */
    bool (*history)(struct at_store *store, const char *key, unsigned limit, GPtrArray *out,
                    GError **error);
    /* Everything written after @revision, by revision, then key. */
    bool (*since)(struct at_store *store, const char *prefix, uint64_t revision, GPtrArray *out,
                  GError **error);

    /* A transaction: nothing of it is visible after rollback or a crash, all of it is durable once
     * commit returned true. A commit that failed has rolled back. */
    bool (*begin)(struct at_store *store, GError **error);
    bool (*append)(struct at_store *store, const struct at_version *version, GError **error);
    bool (*commit)(struct at_store *store, uint64_t revision, GError **error);
    void (*rollback)(struct at_store *store);

    /* Keeps the newest @keep versions of each key, and always that of a key which exists. */
    bool (*trim)(struct at_store *store, const char *prefix, unsigned keep, GError **error);
};

struct at_store *at_store_sqlite_open(const char *path, GError **error);
struct at_store *at_store_memory_new(void);
