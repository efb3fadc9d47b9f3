/* SPDX-License-Identifier: Apache-2.0 */
/* Records in memory, for tests: a sorted tree from key to its versions, oldest first. */
#include <string.h>

#include "catalog/store.h"

struct memory {
    struct at_store base;
    GTree *keys; /* char* -> GPtrArray of struct at_version* */
    uint64_t revision;
    GPtrArray *pending; /* struct at_version*, borrowed: appended by the open transaction */
};

static int compare_keys(gconstpointer a, gconstpointer b, gpointer unused)
{
    return strcmp(a, b);
}

static struct at_version *copy(const struct at_version *v)
{
    return at_version_new(v->key, v->revision, v->created, v->time, v->text);
}

static struct at_version *newest(GPtrArray *versions)
{
    return g_ptr_array_index(versions, versions->len - 1);
}

static void memory_close(struct at_store *store)
{
    struct memory *m = (struct memory *)store;
    g_tree_unref(m->keys);
    g_ptr_array_unref(m->pending);
    g_free(m);
}

static bool memory_revision(struct at_store *store, uint64_t *ret_revision, GError **error)
{
    *ret_revision = ((struct memory *)store)->revision;
    return true;
}

static bool memory_find(struct at_store *store, const char *key, uint64_t at,
                        struct at_version **ret_version, GError **error)
{
    struct memory *m = (struct memory *)store;
    GPtrArray *versions = g_tree_lookup(m->keys, key);
    struct at_version *found = NULL;
    for (unsigned i = versions ? versions->len : 0; i > 0 && !found; i--) {
        struct at_version *v = g_ptr_array_index(versions, i - 1);
        if (v->revision <= at)
            found = copy(v);
    }
    *ret_version = found;
    return true;
}

/* Calls for the keys under @prefix in order; GTree has no range walk, but starts at a bound. */
static GTreeNode *first_under(struct memory *m, const char *prefix)
{
    return g_tree_lower_bound(m->keys, prefix);
}

static bool is_under(GTreeNode *node, const char *prefix)
{
    return node && g_str_has_prefix(g_tree_node_key(node), prefix);
}

static bool memory_list(struct at_store *store, const char *prefix, GPtrArray *out, GError **error)
{
    struct memory *m = (struct memory *)store;
    for (GTreeNode *n = first_under(m, prefix); is_under(n, prefix); n = g_tree_node_next(n)) {
        struct at_version *v = newest(g_tree_node_value(n));
        if (v->text)
            g_ptr_array_add(out, copy(v));
    }
    return true;
}

static bool memory_history(struct at_store *store, const char *key, unsigned limit, GPtrArray *out,
                           GError **error)
{
    struct memory *m = (struct memory *)store;
    GPtrArray *versions = g_tree_lookup(m->keys, key);
    for (unsigned i = versions ? versions->len : 0; i > 0 && (limit == 0 || out->len < limit); i--)
        g_ptr_array_add(out, copy(g_ptr_array_index(versions, i - 1)));
    return true;
}

static int by_revision_and_key(const void *a, const void *b)
{
    const struct at_version *x = *(struct at_version *const *)a;
    const struct at_version *y = *(struct at_version *const *)b;
    if (x->revision != y->revision)
        return x->revision < y->revision ? -1 : 1;
    return strcmp(x->key, y->key);
}

static bool memory_since(struct at_store *store, const char *prefix, uint64_t revision,
                         GPtrArray *out, GError **error)
{
    struct memory *m = (struct memory *)store;
    for (GTreeNode *n = first_under(m, prefix); is_under(n, prefix); n = g_tree_node_next(n)) {
        GPtrArray *versions = g_tree_node_value(n);
        for (unsigned i = 0; i < versions->len; i++) {
            struct at_version *v = g_ptr_array_index(versions, i);
            if (v->revision > revision)
                g_ptr_array_add(out, copy(v));
        }
    }
    g_ptr_array_sort(out, by_revision_and_key);
    return true;
}

static bool memory_begin(struct at_store *store, GError **error)
{
    return true;
}

static bool memory_append(struct at_store *store, const struct at_version *version, GError **error)
{
    struct memory *m = (struct memory *)store;
    GPtrArray *versions = g_tree_lookup(m->keys, version->key);
    if (!versions) {
        versions = g_ptr_array_new_with_free_func((GDestroyNotify)at_version_free);
        g_tree_insert(m->keys, g_strdup(version->key), versions);
    }
    struct at_version *v = copy(version);
    g_ptr_array_add(versions, v);
    g_ptr_array_add(m->pending, v);
    return true;
}

static bool memory_commit(struct at_store *store, uint64_t revision, GError **error)
{
    struct memory *m = (struct memory *)store;
    g_ptr_array_set_size(m->pending, 0);
    m->revision = revision;
    return true;
}

static void memory_rollback(struct at_store *store)
{
    struct memory *m = (struct memory *)store;
    for (unsigned i = m->pending->len; i > 0; i--) {
        struct at_version *v = g_ptr_array_index(m->pending, i - 1);
        GPtrArray *versions = g_tree_lookup(m->keys, v->key);
        if (versions->len == 1)
            g_tree_remove(m->keys, v->key);
        else
            g_ptr_array_remove_index(versions, versions->len - 1);
    }
    g_ptr_array_set_size(m->pending, 0);
}

static bool memory_trim(struct at_store *store, const char *prefix, unsigned keep, GError **error)
{
    struct memory *m = (struct memory *)store;
    g_autoptr(GPtrArray) empty = g_ptr_array_new_with_free_func(g_free);
    for (GTreeNode *n = first_under(m, prefix); is_under(n, prefix); n = g_tree_node_next(n)) {
        GPtrArray *versions = g_tree_node_value(n);
        unsigned least = newest(versions)->text ? MAX(keep, 1) : keep;
        if (least == 0)
            g_ptr_array_add(empty, g_strdup(g_tree_node_key(n)));
        else if (versions->len > least)
            g_ptr_array_remove_range(versions, 0, versions->len - least);
    }
    for (unsigned i = 0; i < empty->len; i++)
        g_tree_remove(m->keys, empty->pdata[i]);
    return true;
}

static const struct at_store_ops memory_ops = {
    .close = memory_close,
    .revision = memory_revision,
    .find = memory_find,
    .list = memory_list,
    .history = memory_history,
    .since = memory_since,
    .begin = memory_begin,
    .append = memory_append,
    .commit = memory_commit,
    .rollback = memory_rollback,
    .trim = memory_trim,
};

struct at_store *at_store_memory_new(void)
{
    struct memory *m = g_new0(struct memory, 1);
    m->base.ops = &memory_ops;
    m->keys = g_tree_new_full(compare_keys, NULL, g_free, (GDestroyNotify)g_ptr_array_unref);
    m->pending = g_ptr_array_new();
    return &m->base;
}
