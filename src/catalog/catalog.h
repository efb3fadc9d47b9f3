/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog: revisioned JSON records under keys, with history and watches.
 * Keys are 1-512 bytes of [A-Za-z0-9._/@:-]. Thread-safe: one lock inside guards the store.
 * A record's revision is the number of the transaction that wrote it: it grows, site-wide. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

struct at_catalog;

struct at_record {
    char *key;
    uint64_t revision; /* of this version */
    uint64_t created;  /* revision that created the key */
    char *time;        /* RFC 3339 of the transaction */
    JsonNode *value;   /* object, the holder's own; NULL in history and watches when deleted */
};
void at_record_free(struct at_record *record);
typedef struct at_record at_record;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_record, at_record_free)

/* SQLite in @path (made when missing, mode 0600; WAL, synchronous=FULL), or in memory for tests.
 * One process at a time. A newer schema or a foreign database is refused with INVALID, a damaged
 * file with CORRUPT; the file is left as it is.
 * Any function below may fail with CORRUPT, NO_SPACE, UNAVAILABLE (another process writes) or IO;
 * then nothing has changed, and it may be tried again. */
struct at_catalog *at_catalog_open_sqlite(const char *path, GError **error);
struct at_catalog *at_catalog_open_memory(void);
void at_catalog_close(struct at_catalog *catalog);

/* NOT_FOUND when there is none (or, at an old @revision, when that version was trimmed).
 * @revision 0: now. Any thread; may wait for a commit of another thread. */
struct at_record *at_catalog_get(struct at_catalog *catalog, const char *key, GError **error);
struct at_record *at_catalog_get_at(struct at_catalog *catalog, const char *key, uint64_t revision,
                                    GError **error);
/* struct at_record*, sorted by key; free func set. @prefix "": everything. */
GPtrArray *at_catalog_list(struct at_catalog *catalog, const char *prefix, GError **error);
/* All versions of @key, newest first, at most @limit (0: all). */
GPtrArray *at_catalog_history(struct at_catalog *catalog, const char *key, unsigned limit,
                              GError **error);
uint64_t at_catalog_revision(struct at_catalog *catalog);

/* A transaction: collected without touching the catalog, then committed all or nothing.
 * Expectations speak of the state before the transaction; of several changes of one key the last
 * counts. Deleting what is not there changes nothing. */
#define AT_REVISION_ANY UINT64_MAX /* whatever is there, or nothing */
#define AT_REVISION_NONE 0         /* the key must not exist */
struct at_txn;
struct at_txn *at_txn_new(struct at_catalog *catalog);
void at_txn_put(struct at_txn *txn, const char *key, JsonNode *value /* borrowed */,
                uint64_t expected);
void at_txn_delete(struct at_txn *txn, const char *key, uint64_t expected);
/* An expectation without a change. */
void at_txn_require(struct at_txn *txn, const char *key, uint64_t expected);
/* Durable on return; frees @txn in every case. CONFLICT names the key and both revisions; INVALID
 * a bad key or a value that is not an object. Any thread; blocks on disk.
 * @ret_revision may be NULL; the current revision when nothing changed. */
bool at_txn_commit(struct at_txn *txn, uint64_t *ret_revision, GError **error);
/* Gives up a transaction that is not to be committed. */
void at_txn_free(struct at_txn *txn);
typedef struct at_txn at_txn;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_txn, at_txn_free)

/* One put or delete. */
bool at_catalog_put(struct at_catalog *catalog, const char *key, JsonNode *value, uint64_t expected,
                    uint64_t *ret_revision, GError **error);
bool at_catalog_delete(struct at_catalog *catalog, const char *key, uint64_t expected,
                       GError **error);

/* Watch: @func is called in the thread-default main context of the caller, in order, once per
 * changed key (within a transaction by key), after the commit and without any lock, so it may use
 * the catalog. @since: 0 only what comes, else replays first what is kept of the history after it.
 * Unwatching in the thread of that context: @func is not called again. */
typedef void (*at_watch_func)(const struct at_record *record, void *user);
unsigned at_catalog_watch(struct at_catalog *catalog, const char *prefix, uint64_t since,
                          at_watch_func func, void *user);
void at_catalog_unwatch(struct at_catalog *catalog, unsigned id);

/* Drops history versions older than the newest @keep per key under @prefix (job progress etc.).
 * A key that exists always keeps its value; with @keep 0 deleted keys are forgotten whole. */
bool at_catalog_trim(struct at_catalog *catalog, const char *prefix, unsigned keep, GError **error);
