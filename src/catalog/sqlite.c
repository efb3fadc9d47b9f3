/* SPDX-License-Identifier: Apache-2.0 */
/* Records in SQLite: WAL, synchronous=FULL, one connection. `version` has every version of every
 * key, `head` the keys that exist now, `meta` the last revision. Schema number: user_version. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "catalog/store.h"

enum {
    SCHEMA = 1,
    APPLICATION_ID = 0x41746f6c, /* "Atol" */
    BUSY_MS = 5000,
};

static const char schema_sql[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO meta VALUES ('revision', 0);"
    "CREATE TABLE version (key TEXT NOT NULL, revision INTEGER NOT NULL, created INTEGER NOT NULL,"
    " time TEXT NOT NULL, value TEXT, PRIMARY KEY (key, revision)) WITHOUT ROWID;"
    "CREATE INDEX version_by_revision ON version (revision, key);"
    "CREATE TABLE head (key TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;"
    "PRAGMA application_id = 1098149740;"
    "PRAGMA user_version = 1;"
    "COMMIT;";

enum statement {
    REVISION,
    FIND,
    LIST,
    HISTORY,
    SINCE,
    APPEND,
    HEAD_SET,
    HEAD_DROP,
    REVISION_SET,
    TRIM,
    N_STATEMENTS
};

#define COLUMNS "version.key, version.revision, version.created, version.time, version.value"
#define UNDER(column) column " >= ?1 AND " column " < ?2"

static const char *const statement_sql[N_STATEMENTS] = {
    [REVISION] = "SELECT number FROM meta WHERE name = 'revision'",
    [FIND] = "SELECT " COLUMNS " FROM version WHERE key = ?1 AND revision <= ?2"
             " ORDER BY revision DESC LIMIT 1",
    [LIST] = "SELECT " COLUMNS " FROM head JOIN version USING (key, revision)"
             " WHERE " UNDER("head.key") " ORDER BY head.key",
    [HISTORY] = "SELECT " COLUMNS " FROM version WHERE key = ?1 ORDER BY revision DESC LIMIT ?2",
    [SINCE] = "SELECT " COLUMNS
              " FROM version WHERE revision > ?3 AND " UNDER("key") " ORDER BY revision, key",
    [APPEND] = "INSERT INTO version (key, revision, created, time, value)"
               " VALUES (?1, ?2, ?3, ?4, ?5)",
    [HEAD_SET] = "INSERT INTO head (key, revision) VALUES (?1, ?2)"
                 " ON CONFLICT (key) DO UPDATE SET revision = excluded.revision",
    [HEAD_DROP] = "DELETE FROM head WHERE key = ?1",
    [REVISION_SET] = "UPDATE meta SET number = ?1 WHERE name = 'revision'",
    /* Ranks the versions of each key from the newest; a key that exists keeps at least one. */
    [TRIM] = "DELETE FROM version WHERE (key, revision) IN (SELECT key, revision FROM ("
             " SELECT key, revision, row_number() OVER (PARTITION BY key ORDER BY revision DESC)"
             " AS age FROM version WHERE " UNDER(
                 "key") ")"
                        " WHERE age > ?3 AND (age > 1 OR key NOT IN (SELECT key FROM head)))",
};

struct sqlite {
    struct at_store base;
    char *path;
    sqlite3 *db;
    sqlite3_stmt *statements[N_STATEMENTS];
};

/* What an error of SQLite means to an operator. */
static bool fail(struct sqlite *s, int rc, const char *what, GError **error)
{
    int sys = sqlite3_system_errno(s->db);
    const char *text = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_FULL:
    case SQLITE_NOMEM:
        return at_error(error, AT_ERROR_NO_SPACE, "catalog %s: %s: no space left: %s", s->path,
                        what, text);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return at_error(error, AT_ERROR_CORRUPT,
                        "catalog %s: %s: the file is damaged (%s); put back a copy of it", s->path,
                        what, text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return at_error(error, AT_ERROR_UNAVAILABLE,
                        "catalog %s: %s: another process is writing to it", s->path, what);
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
        return at_error(error, AT_ERROR_DENIED, "catalog %s: %s: %s", s->path, what, text);
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
        if (sys != 0)
            return at_error_errno(error, sys, "catalog %s: %s", s->path, what);
        return at_error(error, AT_ERROR_IO, "catalog %s: %s: %s", s->path, what, text);
    default:
        return at_error(error, AT_ERROR_IO, "catalog %s: %s: %s", s->path, what, text);
    }
}

static bool exec(struct sqlite *s, const char *sql, const char *what, GError **error)
{
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK || fail(s, rc, what, error);
}

/* Results of sqlite3_bind_* are not looked at: a bind that failed leaves NULL, which no column
 * but `value` takes. Text lives until the statement is reset. */
static void bind_text(sqlite3_stmt *st, int i, const char *text)
{
    sqlite3_bind_text(st, i, text, -1, SQLITE_STATIC);
}

static void bind_number(sqlite3_stmt *st, int i, uint64_t number)
{
    sqlite3_bind_int64(st, i, (sqlite3_int64)MIN(number, (uint64_t)INT64_MAX));
}

/* Keys are ASCII: no key sorts after one that starts with 0x7f. Caller frees. */
static char *bind_under(sqlite3_stmt *st, const char *prefix)
{
    char *end = g_strconcat(prefix, "\x7f", NULL);
    bind_text(st, 1, prefix);
    bind_text(st, 2, end);
    return end;
}

static void reset(sqlite3_stmt *st)
{
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
}

/* Runs a statement that answers nothing. */
static bool run(struct sqlite *s, enum statement which, const char *what, GError **error)
{
    sqlite3_stmt *st = s->statements[which];
    int rc = sqlite3_step(st);
    bool ok = rc == SQLITE_DONE || fail(s, rc, what, error);
    reset(st);
    return ok;
}

/* Runs a statement that answers versions. */
static bool collect(struct sqlite *s, enum statement which, GPtrArray *out, GError **error)
{
    sqlite3_stmt *st = s->statements[which];
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW)
        g_ptr_array_add(out, at_version_new((const char *)sqlite3_column_text(st, 0),
                                            (uint64_t)sqlite3_column_int64(st, 1),
                                            (uint64_t)sqlite3_column_int64(st, 2),
                                            (const char *)sqlite3_column_text(st, 3),
                                            (const char *)sqlite3_column_text(st, 4)));
    bool ok = rc == SQLITE_DONE || fail(s, rc, "read", error);
    reset(st);
    return ok;
}

static void sqlite_close(struct at_store *store)
{
    struct sqlite *s = (struct sqlite *)store;
    for (int i = 0; i < N_STATEMENTS; i++)
        sqlite3_finalize(s->statements[i]);
    sqlite3_close(s->db);
    g_free(s->path);
    g_free(s);
}

static bool sqlite_revision(struct at_store *store, uint64_t *ret_revision, GError **error)
{
    struct sqlite *s = (struct sqlite *)store;
    sqlite3_stmt *st = s->statements[REVISION];
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret_revision = (uint64_t)sqlite3_column_int64(st, 0);
    else if (rc == SQLITE_DONE)
        rc = SQLITE_CORRUPT;
    bool ok = rc == SQLITE_ROW || fail(s, rc, "read the revision", error);
    reset(st);
    return ok;
}

static bool sqlite_find(struct at_store *store, const char *key, uint64_t at,
                        struct at_version **ret_version, GError **error)
{
    struct sqlite *s = (struct sqlite *)store;
    g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func((GDestroyNotify)at_version_free);
    bind_text(s->statements[FIND], 1, key);
    bind_number(s->statements[FIND], 2, at);
    if (!collect(s, FIND, out, error))
        return false;
    *ret_version = out->len > 0 ? g_ptr_array_steal_index(out, 0) : NULL;
    return true;
}

static bool sqlite_list(struct at_store *store, const char *prefix, GPtrArray *out, GError **error)
{
    struct sqlite *s = (struct sqlite *)store;
    g_autofree char *end = bind_under(s->statements[LIST], prefix);
    return collect(s, LIST, out, error);
}

static bool sqlite_history(struct at_store *store, const char *key, unsigned limit, GPtrArray *out,
                           GError **error)
{
    struct sqlite *s = (struct sqlite *)store;
    bind_text(s->statements[HISTORY], 1, key);
    sqlite3_bind_int64(s->statements[HISTORY], 2, limit == 0 ? -1 : (sqlite3_int64)limit);
    return collect(s, HISTORY, out, error);
}

static bool sqlite_since(struct at_store *store, const char *prefix, uint64_t revision,
                         GPtrArray *out, GError **error)
{
    struct sqlite *s = (struct sqlite *)store;
    g_autofree char *end = bind_under(s->statements[SINCE], prefix);
    bind_number(s->statements[SINCE], 3, revision);
    return collect(s, SINCE, out, error);
}

static bool sqlite_begin(struct at_store *store, GError **error)
{
    return exec((struct sqlite *)store, "BEGIN IMMEDIATE", "begin", error);
}

static bool sqlite_append(struct at_store *store, const struct at_version *v, GError **error)
{
    struct sqlite *s = (struct sqlite *)store;
    sqlite3_stmt *st = s->statements[APPEND];
    bind_text(st, 1, v->key);
    bind_number(st, 2, v->revision);
    bind_number(st, 3, v->created);
    bind_text(st, 4, v->time);
    bind_text(st, 5, v->text);
    if (!run(s, APPEND, "write", error))
        return false;
    enum statement head = v->text ? HEAD_SET : HEAD_DROP;
    bind_text(s->statements[head], 1, v->key);
    if (v->text)
        bind_number(s->statements[head], 2, v->revision);
    return run(s, head, "write", error);
}

static void sqlite_rollback(struct at_store *store)
{
    struct sqlite *s = (struct sqlite *)store;
    /* After some errors SQLite has rolled back by itself. */
    if (!sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

static bool sqlite_commit(struct at_store *store, uint64_t revision, GError **error)
{
    struct sqlite *s = (struct sqlite *)store;
    bind_number(s->statements[REVISION_SET], 1, revision);
    if (run(s, REVISION_SET, "write the revision", error) && exec(s, "COMMIT", "commit", error))
        return true;
    sqlite_rollback(store);
    return false;
}

static bool sqlite_trim(struct at_store *store, const char *prefix, unsigned keep, GError **error)
{
    struct sqlite *s = (struct sqlite *)store;
    g_autofree char *end = bind_under(s->statements[TRIM], prefix);
    bind_number(s->statements[TRIM], 3, keep);
    return run(s, TRIM, "trim the history", error);
}

static const struct at_store_ops sqlite_ops = {
    .close = sqlite_close,
    .revision = sqlite_revision,
    .find = sqlite_find,
    .list = sqlite_list,
    .history = sqlite_history,
    .since = sqlite_since,
    .begin = sqlite_begin,
    .append = sqlite_append,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .trim = sqlite_trim,
};

static bool pragma_number(struct sqlite *s, const char *sql, int64_t *ret_number, GError **error)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret_number = sqlite3_column_int64(st, 0);
    bool ok = rc == SQLITE_ROW || fail(s, rc, "open", error);
    sqlite3_finalize(st);
    return ok;
}

/* The first complaint of SQLite's own check of the file is an error. */
static bool check_integrity(struct sqlite *s, GError **error)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    bool ok;
    if (rc != SQLITE_ROW) {
        ok = fail(s, rc, "check", error);
    } else {
        const char *verdict = (const char *)sqlite3_column_text(st, 0);
        ok = strcmp(verdict, "ok") == 0 ||
             at_error(error, AT_ERROR_CORRUPT,
                      "catalog %s: the file is damaged (%s); put back a copy of it", s->path,
                      verdict);
    }
    sqlite3_finalize(st);
    return ok;
}

static bool set_up(struct sqlite *s, GError **error)
{
    int64_t schema = 0, id = 0, tables = 0;
    if (!pragma_number(s, "PRAGMA user_version", &schema, error) ||
        !pragma_number(s, "PRAGMA application_id", &id, error) ||
        !pragma_number(s, "SELECT count(*) FROM sqlite_schema", &tables, error))
        return false;
    if (tables > 0 && id != APPLICATION_ID)
        return at_error(error, AT_ERROR_INVALID,
                        "catalog %s: this database is not an Atoll catalog", s->path);
    if (schema > SCHEMA)
        return at_error(error, AT_ERROR_INVALID,
                        "catalog %s: written by a newer Atoll (schema %d, this one reads up to %d);"
                        " install that version",
                        s->path, (int)schema, SCHEMA);
    if (!check_integrity(s, error))
        return false;
    if (!exec(s, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;", "set the journal mode",
              error) ||
        !exec(s, "PRAGMA journal_size_limit = 4194304", "set the journal limit", error))
        return false;
    return tables > 0 || exec(s, schema_sql, "create tables", error);
}

/* SQLite makes files by umask; the catalog is for root only, and its journals take its mode. */
static bool make_file(const char *path, bool *ret_made, GError **error)
{
    at_autofd fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno != EEXIST)
        return at_error_errno(error, errno, "create catalog %s", path);
    *ret_made = fd >= 0;
    return true;
}

struct at_store *at_store_sqlite_open(const char *path, GError **error)
{
    bool made = false;
    if (!make_file(path, &made, error))
        return NULL;
    struct sqlite *s = g_new0(struct sqlite, 1);
    s->base.ops = &sqlite_ops;
    s->path = g_strdup(path);
    int rc = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        fail(s, rc, "open", error);
        goto failed;
    }
    sqlite3_busy_timeout(s->db, BUSY_MS);
    if (!set_up(s, error))
        goto failed;
    for (int i = 0; i < N_STATEMENTS; i++) {
        rc = sqlite3_prepare_v3(s->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                                &s->statements[i], NULL);
        if (rc != SQLITE_OK) {
            fail(s, rc, "open", error);
            goto failed;
        }
    }
    if (made) {
        g_autofree char *dir = g_path_get_dirname(path);
        if (!at_fsync_dir(dir, error))
            goto failed;
    }
    return &s->base;

failed:
    sqlite_close(&s->base);
    return NULL;
}
