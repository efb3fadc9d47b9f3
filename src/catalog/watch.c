/* SPDX-License-Identifier: Apache-2.0 */
/* Watches: each has a queue, filled under the catalog's lock in the order of the transactions, and
 * emptied by an idle source in the main context of its owner, without the lock. */
#include <string.h>

#include "catalog/catalog-internal.h"

struct watch {
    int refs; /* atomic: the catalog's, and the pending source's */
    struct at_catalog *catalog;
    unsigned id;
    char *prefix;
    at_watch_func func;
    void *user;
    GMainContext *context;

    GMutex lock;    /* guards what follows; taken after the catalog's lock, never before it */
    GQueue pending; /* struct at_version* */
    bool scheduled, ended;
};

static void watch_unref(void *p)
{
    struct watch *w = p;
    if (!g_atomic_int_dec_and_test(&w->refs))
        return;
    g_queue_clear_full(&w->pending, (GDestroyNotify)at_version_free);
    g_mutex_clear(&w->lock);
    g_main_context_unref(w->context);
    g_free(w->prefix);
    g_free(w);
}

static struct at_version *next_pending(struct watch *w)
{
    g_mutex_lock(&w->lock);
    struct at_version *v = w->ended ? NULL : g_queue_pop_head(&w->pending);
    if (!v)
        w->scheduled = false;
    g_mutex_unlock(&w->lock);
    return v;
}

static gboolean deliver(gpointer data)
{
    struct watch *w = data;
    struct at_version *v;
    while ((v = next_pending(w))) {
        g_autoptr(at_version) version = v;
        g_autoptr(GError) error = NULL;
        g_autoptr(at_record) record = at_record_from_version(version, &error);
        if (record)
            w->func(record, w->user);
        else
            g_warning("catalog: %s", error->message);
    }
    return G_SOURCE_REMOVE;
}

/* Takes @version. */
static void enqueue(struct watch *w, struct at_version *version)
{
    g_mutex_lock(&w->lock);
    g_queue_push_tail(&w->pending, version);
    bool schedule = !w->scheduled;
    w->scheduled = true;
    g_mutex_unlock(&w->lock);
    if (!schedule)
        return;
    g_autoptr(GSource) source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_static_name(source, "atoll catalog watch");
    g_atomic_int_inc(&w->refs);
    g_source_set_callback(source, deliver, w, watch_unref);
    g_source_attach(source, w->context);
}

void at_watches_offer(struct at_catalog *catalog, const struct at_version *v)
{
    for (unsigned i = 0; i < catalog->watches->len; i++) {
        struct watch *w = g_ptr_array_index(catalog->watches, i);
        if (g_str_has_prefix(v->key, w->prefix))
            enqueue(w, at_version_new(v->key, v->revision, v->created, v->time, v->text));
    }
}

static void end(struct watch *w)
{
    g_mutex_lock(&w->lock);
    w->ended = true;
    g_mutex_unlock(&w->lock);
    watch_unref(w);
}

void at_watches_end(struct at_catalog *catalog)
{
    for (unsigned i = 0; i < catalog->watches->len; i++)
        end(g_ptr_array_index(catalog->watches, i));
    g_ptr_array_set_size(catalog->watches, 0);
}

unsigned at_catalog_watch(struct at_catalog *catalog, const char *prefix, uint64_t since,
                          at_watch_func func, void *user)
{
    g_autoptr(GError) error = NULL;
    if (!at_catalog_check_prefix(prefix, &error)) {
        g_critical("catalog: %s", error->message);
        return 0;
    }
    struct watch *w = g_new0(struct watch, 1);
    w->refs = 1;
    w->catalog = catalog;
    w->prefix = g_strdup(prefix);
    w->func = func;
    w->user = user;
    w->context = g_main_context_ref_thread_default();
    g_mutex_init(&w->lock);

    g_mutex_lock(&catalog->lock);
    w->id = ++catalog->last_watch;
    unsigned id = w->id;
    if (since > 0) {
        g_autoptr(GPtrArray) past = g_ptr_array_new();
        if (!catalog->store->ops->since(catalog->store, prefix, since, past, &error))
            g_warning("catalog: replay for a watch: %s", error->message);
        for (unsigned i = 0; i < past->len; i++)
            enqueue(w, g_ptr_array_index(past, i));
    }
    g_ptr_array_add(catalog->watches, w);
    g_mutex_unlock(&catalog->lock);
    return id;
}

void at_catalog_unwatch(struct at_catalog *catalog, unsigned id)
{
    g_mutex_lock(&catalog->lock);
    for (unsigned i = 0; i < catalog->watches->len; i++) {
        struct watch *w = g_ptr_array_index(catalog->watches, i);
        if (w->id != id)
            continue;
        g_ptr_array_remove_index(catalog->watches, i);
        end(w);
        break;
    }
    g_mutex_unlock(&catalog->lock);
}
