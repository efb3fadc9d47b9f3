/* SPDX-License-Identifier: Apache-2.0 */
/* The front of the catalog: keys, expectations, transactions and the lock, over any store. */
#include "catalog/catalog.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "catalog/catalog-internal.h"

enum { KEY_MAX = 512 };

/* ---- versions and records ---- */

struct at_version *at_version_new(const char *key, uint64_t revision, uint64_t created,
                                  const char *time, const char *text)
{
    struct at_version *v = g_new0(struct at_version, 1);
    v->key = g_strdup(key);
    v->revision = revision;
    v->created = created;
    v->time = g_strdup(time);
    v->text = g_strdup(text);
    return v;
}

void at_version_free(struct at_version *v)
{
    if (!v)
        return;
    g_free(v->key);
    g_free(v->time);
    g_free(v->text);
    g_free(v);
}

void at_record_free(struct at_record *record)
{
    if (!record)
        return;
    g_clear_pointer(&record->value, json_node_unref);
    g_free(record->key);
    g_free(record->time);
    g_free(record);
}

/* Not by at_json_parse: its nodes are immutable, and callers like to change what they read. */
static JsonNode *parse_value(const struct at_version *v, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) local = NULL;
    JsonNode *node = NULL;
    if (json_parser_load_from_data(parser, v->text, -1, &local))
        node = json_parser_steal_root(parser);
    if (node && JSON_NODE_HOLDS_OBJECT(node))
        return node;
    g_clear_pointer(&node, json_node_unref);
    at_error(error, AT_ERROR_CORRUPT, "catalog: record %s, revision %" PRIu64 " is damaged: %s",
             v->key, v->revision, local ? local->message : "not a JSON object");
    return NULL;
}

struct at_record *at_record_from_version(const struct at_version *v, GError **error)
{
    g_autoptr(JsonNode) value = NULL;
    if (v->text) {
        value = parse_value(v, error);
        if (!value)
            return NULL;
    }
    struct at_record *record = g_new0(struct at_record, 1);
    record->key = g_strdup(v->key);
    record->revision = v->revision;
    record->created = v->created;
    record->time = g_strdup(v->time);
    record->value = g_steal_pointer(&value);
    return record;
}

static GPtrArray *records_from_versions(GPtrArray *versions, GError **error)
{
    g_autoptr(GPtrArray) records =
        g_ptr_array_new_full(versions->len, (GDestroyNotify)at_record_free);
    for (unsigned i = 0; i < versions->len; i++) {
        struct at_record *record = at_record_from_version(g_ptr_array_index(versions, i), error);
        if (!record)
            return NULL;
        g_ptr_array_add(records, record);
    }
    return g_steal_pointer(&records);
}

static GPtrArray *versions_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)at_version_free);
}

/* ---- keys ---- */

static bool only_key_characters(const char *text)
{
    for (; *text; text++) {
        if (!g_ascii_isalnum(*text) && !strchr("._/@:-", *text))
            return false;
    }
    return true;
}

bool at_catalog_check_prefix(const char *prefix, GError **error)
{
    if (prefix && strlen(prefix) <= KEY_MAX && only_key_characters(prefix))
        return true;
    return at_error(error, AT_ERROR_INVALID,
                    "a catalog key has 1 to %d characters of A-Z a-z 0-9 . _ / @ : -, found \"%s\"",
                    KEY_MAX, prefix ? prefix : "(none)");
}

static bool check_key(const char *key, GError **error)
{
    return at_catalog_check_prefix(key && *key ? key : NULL, error);
}

/* ---- opening ---- */

static struct at_catalog *catalog_new(struct at_store *store)
{
    if (!store)
        return NULL;
    struct at_catalog *catalog = g_new0(struct at_catalog, 1);
    g_mutex_init(&catalog->lock);
    catalog->store = store;
    catalog->watches = g_ptr_array_new();
    return catalog;
}

struct at_catalog *at_catalog_open_sqlite(const char *path, GError **error)
{
    return catalog_new(at_store_sqlite_open(path, error));
}

struct at_catalog *at_catalog_open_memory(void)
{
    return catalog_new(at_store_memory_new());
}

void at_catalog_close(struct at_catalog *catalog)
{
    if (!catalog)
        return;
    g_mutex_lock(&catalog->lock);
    at_watches_end(catalog);
    catalog->store->ops->close(catalog->store);
    g_mutex_unlock(&catalog->lock);
    g_ptr_array_unref(catalog->watches);
    g_mutex_clear(&catalog->lock);
    g_free(catalog);
}

/* ---- reading ---- */

struct at_record *at_catalog_get_at(struct at_catalog *catalog, const char *key, uint64_t revision,
                                    GError **error)
{
    if (!check_key(key, error))
        return NULL;
    g_autoptr(at_version) v = NULL;
    g_mutex_lock(&catalog->lock);
    bool ok =
        catalog->store->ops->find(catalog->store, key, revision ? revision : UINT64_MAX, &v, error);
    g_mutex_unlock(&catalog->lock);
    if (!ok)
        return NULL;
    if (v && v->text)
        return at_record_from_version(v, error);
    if (revision)
        at_error(error, AT_ERROR_NOT_FOUND, "%s was not in the catalog at revision %" PRIu64, key,
                 revision);
    else
        at_error(error, AT_ERROR_NOT_FOUND, "%s is not in the catalog", key);
    return NULL;
}

struct at_record *at_catalog_get(struct at_catalog *catalog, const char *key, GError **error)
{
    return at_catalog_get_at(catalog, key, 0, error);
}

GPtrArray *at_catalog_list(struct at_catalog *catalog, const char *prefix, GError **error)
{
    if (!at_catalog_check_prefix(prefix, error))
        return NULL;
    g_autoptr(GPtrArray) versions = versions_new();
    g_mutex_lock(&catalog->lock);
    bool ok = catalog->store->ops->list(catalog->store, prefix, versions, error);
    g_mutex_unlock(&catalog->lock);
    return ok ? records_from_versions(versions, error) : NULL;
}

GPtrArray *at_catalog_history(struct at_catalog *catalog, const char *key, unsigned limit,
                              GError **error)
{
    if (!check_key(key, error))
        return NULL;
    g_autoptr(GPtrArray) versions = versions_new();
    g_mutex_lock(&catalog->lock);
    bool ok = catalog->store->ops->history(catalog->store, key, limit, versions, error);
    g_mutex_unlock(&catalog->lock);
    return ok ? records_from_versions(versions, error) : NULL;
}

uint64_t at_catalog_revision(struct at_catalog *catalog)
{
    g_autoptr(GError) error = NULL;
    uint64_t revision = 0;
    g_mutex_lock(&catalog->lock);
    if (!catalog->store->ops->revision(catalog->store, &revision, &error))
        g_warning("%s", error->message);
    g_mutex_unlock(&catalog->lock);
    return revision;
}

/* ---- transactions ---- */

struct op {
    char *key;
    uint64_t expected;
    bool changes;
    char *text; /* with changes: the new value, or NULL for a delete */
};

struct at_txn {
    struct at_catalog *catalog;
    GPtrArray *ops;  /* struct op* */
    GError *invalid; /* the first bad key or value; commit reports it */
};

static void op_free(void *p)
{
    struct op *op = p;
    g_free(op->key);
    g_free(op->text);
    g_free(op);
}

struct at_txn *at_txn_new(struct at_catalog *catalog)
{
    struct at_txn *txn = g_new0(struct at_txn, 1);
    txn->catalog = catalog;
    txn->ops = g_ptr_array_new_with_free_func(op_free);
    return txn;
}

void at_txn_free(struct at_txn *txn)
{
    if (!txn)
        return;
    g_ptr_array_unref(txn->ops);
    g_clear_error(&txn->invalid);
    g_free(txn);
}

static struct op *add_op(struct at_txn *txn, const char *key, uint64_t expected)
{
    if (!check_key(key, txn->invalid ? NULL : &txn->invalid))
        return NULL;
    struct op *op = g_new0(struct op, 1);
    op->key = g_strdup(key);
    op->expected = expected;
    g_ptr_array_add(txn->ops, op);
    return op;
}

void at_txn_put(struct at_txn *txn, const char *key, JsonNode *value, uint64_t expected)
{
    if (!value || !JSON_NODE_HOLDS_OBJECT(value)) {
        if (!txn->invalid)
            at_error(&txn->invalid, AT_ERROR_INVALID, "%s: a record is a JSON object", key);
        return;
    }
    struct op *op = add_op(txn, key, expected);
    if (op) {
        op->changes = true;
        op->text = at_json_text(value);
    }
}

void at_txn_delete(struct at_txn *txn, const char *key, uint64_t expected)
{
    struct op *op = add_op(txn, key, expected);
    if (op)
        op->changes = true;
}

void at_txn_require(struct at_txn *txn, const char *key, uint64_t expected)
{
    add_op(txn, key, expected);
}

static bool check_expected(const struct op *op, const struct at_version *now, GError **error)
{
    bool exists = now && now->text;
    if (op->expected == AT_REVISION_ANY)
        return true;
    if (op->expected == AT_REVISION_NONE) {
        if (!exists)
            return true;
        return at_error(error, AT_ERROR_CONFLICT, "%s exists already (revision %" PRIu64 ")",
                        op->key, now->revision);
    }
    if (!exists)
        return at_error(error, AT_ERROR_CONFLICT, "%s is gone, revision %" PRIu64 " was expected",
                        op->key, op->expected);
    if (now->revision != op->expected)
        return at_error(error, AT_ERROR_CONFLICT,
                        "%s was changed by somebody else: it has revision %" PRIu64
                        ", revision %" PRIu64 " was expected",
                        op->key, now->revision, op->expected);
    return true;
}

/* Checks one operation against what is there, and notes the version that it makes, if any, in
 * @changes (key -> struct at_version*); a later change of a key replaces an earlier one. */
static bool plan_op(struct at_store *store, const struct op *op, uint64_t revision,
                    const char *time, GTree *changes, GError **error)
{
    g_autoptr(at_version) now = NULL;
    if (!store->ops->find(store, op->key, UINT64_MAX, &now, error) ||
        !check_expected(op, now, error))
        return false;
    if (!op->changes)
        return true;
    bool exists = now && now->text;
    if (!op->text && !exists)
        g_tree_remove(changes, op->key);
    else
        g_tree_replace(
            changes, g_strdup(op->key),
            at_version_new(op->key, revision, exists ? now->created : revision, time, op->text));
    return true;
}

static gboolean collect_change(gpointer key, gpointer value, gpointer out)
{
    g_ptr_array_add(out, value);
    return FALSE;
}

static int compare_keys(gconstpointer a, gconstpointer b, gpointer unused)
{
    return strcmp(a, b);
}

/* Between begin and commit. @ret_changed: struct at_version* sorted by key. */
static bool write_ops(struct at_txn *txn, uint64_t revision, GPtrArray *ret_changed, GError **error)
{
    struct at_store *store = txn->catalog->store;
    g_autofree char *time = at_clock_rfc3339();
    g_autoptr(GTree) changes =
        g_tree_new_full(compare_keys, NULL, g_free, (GDestroyNotify)at_version_free);
    for (unsigned i = 0; i < txn->ops->len; i++) {
        if (!plan_op(store, g_ptr_array_index(txn->ops, i), revision, time, changes, error))
            return false;
    }
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    g_tree_foreach(changes, collect_change, list);
    for (unsigned i = 0; i < list->len; i++) {
        struct at_version *v = g_ptr_array_index(list, i);
        if (!store->ops->append(store, v, error))
            return false;
        g_ptr_array_add(ret_changed,
                        at_version_new(v->key, v->revision, v->created, v->time, v->text));
    }
    return true;
}

/* Under the lock. */
static bool commit_locked(struct at_txn *txn, uint64_t *ret_revision, GError **error)
{
    struct at_catalog *catalog = txn->catalog;
    struct at_store *store = catalog->store;
    g_autoptr(GPtrArray) changed = versions_new();
    uint64_t last = 0;
    if (!store->ops->begin(store, error))
        return false;
    if (!store->ops->revision(store, &last, error) || !write_ops(txn, last + 1, changed, error)) {
        store->ops->rollback(store);
        return false;
    }
    if (changed->len == 0) {
        store->ops->rollback(store);
        *ret_revision = last;
        return true;
    }
    if (!at_fault_point("catalog.commit", error)) {
        store->ops->rollback(store);
        return false;
    }
    if (!store->ops->commit(store, last + 1, error))
        return false;
    for (unsigned i = 0; i < changed->len; i++)
        at_watches_offer(catalog, g_ptr_array_index(changed, i));
    *ret_revision = last + 1;
    return true;
}

bool at_txn_commit(struct at_txn *txn, uint64_t *ret_revision, GError **error)
{
    g_autoptr(at_txn) owned = txn;
    if (txn->invalid) {
        g_propagate_error(error, g_steal_pointer(&owned->invalid));
        return false;
    }
    uint64_t revision = 0;
    g_mutex_lock(&txn->catalog->lock);
    bool ok = commit_locked(txn, &revision, error);
    g_mutex_unlock(&txn->catalog->lock);
    if (ok && ret_revision)
        *ret_revision = revision;
    return ok;
}

bool at_catalog_put(struct at_catalog *catalog, const char *key, JsonNode *value, uint64_t expected,
                    uint64_t *ret_revision, GError **error)
{
    struct at_txn *txn = at_txn_new(catalog);
    at_txn_put(txn, key, value, expected);
    return at_txn_commit(txn, ret_revision, error);
}

bool at_catalog_delete(struct at_catalog *catalog, const char *key, uint64_t expected,
                       GError **error)
{
    struct at_txn *txn = at_txn_new(catalog);
    at_txn_delete(txn, key, expected);
    return at_txn_commit(txn, NULL, error);
}

bool at_catalog_trim(struct at_catalog *catalog, const char *prefix, unsigned keep, GError **error)
{
    if (!at_catalog_check_prefix(prefix, error))
        return false;
    g_mutex_lock(&catalog->lock);
    bool ok = catalog->store->ops->trim(catalog->store, prefix, keep, error);
    g_mutex_unlock(&catalog->lock);
    return ok;
}
