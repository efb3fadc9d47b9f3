/* SPDX-License-Identifier: Apache-2.0 */
/* What every catalog promises, run against each implementation: records, revisions, history,
 * transactions, watches, writers in several threads. */
#include <string.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "catalog/catalog.h"

struct fixture {
    char *dir; /* NULL: in memory */
    struct at_catalog *catalog;
};

static void set_up(struct fixture *f, const void *backend)
{
    GError *error = NULL;
    if (strcmp(backend, "sqlite") == 0) {
        f->dir = g_dir_make_tmp("atoll-catalog-XXXXXX", &error);
        g_assert_no_error(error);
        g_autofree char *path = g_build_filename(f->dir, "catalog.db", NULL);
        f->catalog = at_catalog_open_sqlite(path, &error);
    } else {
        f->catalog = at_catalog_open_memory();
    }
    g_assert_no_error(error);
    g_assert_nonnull(f->catalog);
}

static void tear_down(struct fixture *f, const void *backend)
{
    at_catalog_close(f->catalog);
    if (f->dir)
        at_remove_tree(f->dir, NULL);
    g_free(f->dir);
}

/* ---- helpers ---- */

static JsonNode *value(int64_t n)
{
    JsonObject *obj = json_object_new();
    json_object_set_int_member(obj, "n", n);
    return at_json_take_obj(obj);
}

static int64_t number(const struct at_record *record)
{
    return at_json_int(json_node_get_object(record->value), "n", -1);
}

static uint64_t put(struct at_catalog *catalog, const char *key, int64_t n, uint64_t expected)
{
    GError *error = NULL;
    uint64_t revision = 0;
    g_autoptr(JsonNode) v = value(n);
    bool ok = at_catalog_put(catalog, key, v, expected, &revision, &error);
    g_assert_no_error(error);
    g_assert_true(ok);
    return revision;
}

static void assert_value(struct at_catalog *catalog, const char *key, int64_t n)
{
    GError *error = NULL;
    g_autoptr(at_record) record = at_catalog_get(catalog, key, &error);
    g_assert_no_error(error);
    g_assert_cmpint(number(record), ==, n);
}

static void assert_missing(struct at_catalog *catalog, const char *key)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(at_catalog_get(catalog, key, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, key));
}

/* ---- records ---- */

static void returns_what_was_put(struct fixture *f, const void *b)
{
    GError *error = NULL;
    g_autoptr(JsonNode) in = at_json_parse(
        "{\"text\":\"a \\u0001 \\\"quoted\\\" \xc3\xa9\",\"list\":[1,-2,true,null,{\"deep\":[]}],"
        "\"large\":9007199254740991,\"ratio\":0.5}",
        -1, &error);
    g_assert_no_error(error);
    g_assert_true(at_catalog_put(f->catalog, "vdc/a@B:c.d-e_f", in, AT_REVISION_NONE, NULL, NULL));
    g_autoptr(at_record) record = at_catalog_get(f->catalog, "vdc/a@B:c.d-e_f", &error);
    g_assert_no_error(error);
    g_assert_true(json_node_equal(in, record->value));
    g_assert_cmpstr(record->key, ==, "vdc/a@B:c.d-e_f");
    g_assert_true(g_str_has_suffix(record->time, "Z"));
}

static void hands_out_values_that_may_be_changed(struct fixture *f, const void *b)
{
    put(f->catalog, "a", 1, AT_REVISION_NONE);
    g_autoptr(at_record) record = at_catalog_get(f->catalog, "a", NULL);
    json_object_set_int_member(json_node_get_object(record->value), "n", 99);
    assert_value(f->catalog, "a", 1);
    g_assert_cmpint(number(record), ==, 99);
}

static void says_which_key_is_missing(struct fixture *f, const void *b)
{
    assert_missing(f->catalog, "vdc/none");
}

static void refuses_bad_keys_and_values(struct fixture *f, const void *b)
{
    g_autofree char *longest = g_strnfill(512, 'k');
    g_autofree char *too_long = g_strnfill(513, 'k');
    const char *const bad[] = {"", "a b", "a\nb", "a%", "\xc3\xa9", "a'b", too_long};
    g_autoptr(JsonNode) v = value(1);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(at_catalog_put(f->catalog, bad[i], v, AT_REVISION_ANY, NULL, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
        g_clear_error(&error);
        g_assert_null(at_catalog_get(f->catalog, bad[i], &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    }
    put(f->catalog, longest, 1, AT_REVISION_NONE);
    assert_value(f->catalog, longest, 1);

    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) list = at_json_take_arr(json_array_new());
    g_assert_false(at_catalog_put(f->catalog, "a", list, AT_REVISION_ANY, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_false(at_catalog_put(f->catalog, "a", NULL, AT_REVISION_ANY, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
}

static void lists_a_prefix_sorted(struct fixture *f, const void *b)
{
    const char *const keys[] = {"vdc/b", "vdc/a", "vdc0", "vdc", "vdc/a/x", "vdb/z", "vdc/Z"};
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        put(f->catalog, keys[i], (int64_t)i, AT_REVISION_NONE);
    g_assert_true(at_catalog_delete(f->catalog, "vdc/b", AT_REVISION_ANY, NULL));
    g_autoptr(GPtrArray) list = at_catalog_list(f->catalog, "vdc/", NULL);
    const char *const expected[] = {"vdc/Z", "vdc/a", "vdc/a/x"};
    g_assert_cmpuint(list->len, ==, G_N_ELEMENTS(expected));
    for (unsigned i = 0; i < list->len; i++)
        g_assert_cmpstr(((struct at_record *)list->pdata[i])->key, ==, expected[i]);
    g_autoptr(GPtrArray) all = at_catalog_list(f->catalog, "", NULL);
    g_assert_cmpuint(all->len, ==, 6);
    g_autoptr(GPtrArray) none = at_catalog_list(f->catalog, "nothing/", NULL);
    g_assert_cmpuint(none->len, ==, 0);
    g_autoptr(GError) error = NULL;
    g_assert_null(at_catalog_list(f->catalog, "a%", &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
}

/* ---- revisions and history ---- */

static void counts_revisions_up_site_wide(struct fixture *f, const void *b)
{
    uint64_t start = at_catalog_revision(f->catalog);
    g_assert_cmpuint(put(f->catalog, "a", 1, AT_REVISION_NONE), ==, start + 1);
    g_assert_cmpuint(put(f->catalog, "b", 1, AT_REVISION_NONE), ==, start + 2);
    g_assert_cmpuint(put(f->catalog, "a", 2, AT_REVISION_ANY), ==, start + 3);
    g_assert_cmpuint(at_catalog_revision(f->catalog), ==, start + 3);
    g_autoptr(at_record) record = at_catalog_get(f->catalog, "a", NULL);
    g_assert_cmpuint(record->revision, ==, start + 3);
    g_assert_cmpuint(record->created, ==, start + 1);
}

static void keeps_history_and_answers_for_old_revisions(struct fixture *f, const void *b)
{
    uint64_t first = put(f->catalog, "a", 1, AT_REVISION_NONE);
    uint64_t second = put(f->catalog, "a", 2, AT_REVISION_ANY);
    g_assert_true(at_catalog_delete(f->catalog, "a", second, NULL));
    uint64_t other = put(f->catalog, "b", 7, AT_REVISION_NONE);
    uint64_t third = put(f->catalog, "a", 3, AT_REVISION_NONE);

    g_autoptr(GPtrArray) history = at_catalog_history(f->catalog, "a", 0, NULL);
    g_assert_cmpuint(history->len, ==, 4);
    const struct at_record *const *r = (const struct at_record *const *)history->pdata;
    g_assert_cmpuint(r[0]->revision, ==, third);
    g_assert_cmpuint(r[0]->created, ==, third);
    g_assert_null(r[1]->value);
    g_assert_cmpint(number(r[2]), ==, 2);
    g_assert_cmpuint(r[2]->created, ==, first);
    g_assert_cmpint(number(r[3]), ==, 1);
    g_autoptr(GPtrArray) newest = at_catalog_history(f->catalog, "a", 2, NULL);
    g_assert_cmpuint(newest->len, ==, 2);

    g_autoptr(at_record) then = at_catalog_get_at(f->catalog, "a", second, NULL);
    g_assert_cmpint(number(then), ==, 2);
    g_autoptr(GError) error = NULL;
    g_assert_null(at_catalog_get_at(f->catalog, "a", other, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_null(at_catalog_get_at(f->catalog, "b", second, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
}

static void trims_history_but_never_a_live_value(struct fixture *f, const void *b)
{
    for (int i = 0; i < 10; i++) {
        put(f->catalog, "job/1", i, AT_REVISION_ANY);
        put(f->catalog, "job/2", i, AT_REVISION_ANY);
        put(f->catalog, "vdc/1", i, AT_REVISION_ANY);
    }
    g_assert_true(at_catalog_delete(f->catalog, "job/2", AT_REVISION_ANY, NULL));
    uint64_t before = at_catalog_revision(f->catalog);
    g_assert_true(at_catalog_trim(f->catalog, "job/", 3, NULL));
    g_autoptr(GPtrArray) one = at_catalog_history(f->catalog, "job/1", 0, NULL);
    g_assert_cmpuint(one->len, ==, 3);
    g_assert_cmpint(number(one->pdata[2]), ==, 7);
    g_assert_true(at_catalog_trim(f->catalog, "job/", 0, NULL));
    g_autoptr(GPtrArray) last = at_catalog_history(f->catalog, "job/1", 0, NULL);
    g_assert_cmpuint(last->len, ==, 1);
    g_autoptr(GPtrArray) gone = at_catalog_history(f->catalog, "job/2", 0, NULL);
    g_assert_cmpuint(gone->len, ==, 0);
    assert_value(f->catalog, "job/1", 9);
    assert_missing(f->catalog, "job/2");
    g_autoptr(GPtrArray) other = at_catalog_history(f->catalog, "vdc/1", 0, NULL);
    g_assert_cmpuint(other->len, ==, 10);
    g_assert_cmpuint(at_catalog_revision(f->catalog), ==, before);
}

/* ---- transactions ---- */

static void refuses_a_stale_revision_and_names_both(struct fixture *f, const void *b)
{
    uint64_t first = put(f->catalog, "vdc/a", 1, AT_REVISION_NONE);
    uint64_t second = put(f->catalog, "vdc/a", 2, first);
    g_autoptr(JsonNode) v = value(3);
    g_autoptr(GError) error = NULL;
    g_assert_false(at_catalog_put(f->catalog, "vdc/a", v, first, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_autofree char *a = g_strdup_printf("revision %" G_GUINT64_FORMAT, first);
    g_autofree char *c = g_strdup_printf("revision %" G_GUINT64_FORMAT, second);
    g_assert_nonnull(strstr(error->message, "vdc/a"));
    g_assert_nonnull(strstr(error->message, a));
    g_assert_nonnull(strstr(error->message, c));
    g_clear_error(&error);
    g_assert_false(at_catalog_put(f->catalog, "vdc/a", v, AT_REVISION_NONE, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_clear_error(&error);
    g_assert_false(at_catalog_delete(f->catalog, "vdc/a", first, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_clear_error(&error);
    g_assert_false(at_catalog_put(f->catalog, "vdc/none", v, second, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    assert_value(f->catalog, "vdc/a", 2);
}

static void changes_all_or_nothing(struct fixture *f, const void *b)
{
    uint64_t a = put(f->catalog, "a", 1, AT_REVISION_NONE);
    put(f->catalog, "b", 1, AT_REVISION_NONE);
    uint64_t before = at_catalog_revision(f->catalog);
    g_autoptr(JsonNode) v = value(2);
    g_autoptr(GError) error = NULL;

    struct at_txn *txn = at_txn_new(f->catalog);
    at_txn_put(txn, "a", v, a);
    at_txn_delete(txn, "b", AT_REVISION_ANY);
    at_txn_put(txn, "c", v, AT_REVISION_NONE);
    at_txn_require(txn, "d", a); /* there is none */
    g_assert_false(at_txn_commit(txn, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    assert_value(f->catalog, "a", 1);
    assert_value(f->catalog, "b", 1);
    assert_missing(f->catalog, "c");
    g_assert_cmpuint(at_catalog_revision(f->catalog), ==, before);

    uint64_t revision = 0;
    txn = at_txn_new(f->catalog);
    at_txn_put(txn, "a", v, a);
    at_txn_delete(txn, "b", AT_REVISION_ANY);
    at_txn_put(txn, "c", v, AT_REVISION_NONE);
    at_txn_require(txn, "d", AT_REVISION_NONE);
    g_assert_true(at_txn_commit(txn, &revision, NULL));
    g_assert_cmpuint(revision, ==, before + 1);
    g_autoptr(at_record) ra = at_catalog_get(f->catalog, "a", NULL);
    g_autoptr(at_record) rc = at_catalog_get(f->catalog, "c", NULL);
    g_assert_cmpuint(ra->revision, ==, revision);
    g_assert_cmpuint(rc->revision, ==, revision);
    assert_missing(f->catalog, "b");
}

static void lets_the_last_change_of_a_key_count(struct fixture *f, const void *b)
{
    g_autoptr(JsonNode) one = value(1);
    g_autoptr(JsonNode) two = value(2);
    struct at_txn *txn = at_txn_new(f->catalog);
    at_txn_put(txn, "a", one, AT_REVISION_NONE);
    at_txn_put(txn, "a", two, AT_REVISION_NONE);
    at_txn_put(txn, "b", one, AT_REVISION_NONE);
    at_txn_delete(txn, "b", AT_REVISION_ANY);
    g_assert_true(at_txn_commit(txn, NULL, NULL));
    assert_value(f->catalog, "a", 2);
    assert_missing(f->catalog, "b");
    g_autoptr(GPtrArray) history = at_catalog_history(f->catalog, "b", 0, NULL);
    g_assert_cmpuint(history->len, ==, 0);
}

static void makes_no_revision_when_nothing_changes(struct fixture *f, const void *b)
{
    uint64_t a = put(f->catalog, "a", 1, AT_REVISION_NONE);
    uint64_t revision = 0;
    struct at_txn *txn = at_txn_new(f->catalog);
    at_txn_require(txn, "a", a);
    at_txn_delete(txn, "none", AT_REVISION_ANY);
    g_assert_true(at_txn_commit(txn, &revision, NULL));
    g_assert_cmpuint(revision, ==, a);
    g_assert_cmpuint(at_catalog_revision(f->catalog), ==, a);
    at_txn_free(at_txn_new(f->catalog));
}

static void is_as_before_after_a_failed_commit(struct fixture *f, const void *b)
{
    uint64_t before = put(f->catalog, "a", 1, AT_REVISION_NONE);
    g_autoptr(JsonNode) v = value(2);
    g_autoptr(GError) error = NULL;
    at_fault_plan("catalog.commit:ENOSPC");
    g_assert_false(at_catalog_put(f->catalog, "a", v, before, NULL, &error));
    at_fault_plan(NULL);
    g_assert_error(error, AT_ERROR, AT_ERROR_NO_SPACE);
    assert_value(f->catalog, "a", 1);
    g_assert_cmpuint(put(f->catalog, "a", 3, before), ==, before + 1);
}

/* ---- watches ---- */

struct seen {
    struct at_catalog *catalog;
    GString *text;       /* "key=n " or "key=- " */
    unsigned id;         /* to unwatch from inside */
    unsigned stop_after; /* 0: never */
    unsigned count;
    GThread *thread;
};

static void on_change(const struct at_record *record, void *user)
{
    struct seen *seen = user;
    g_assert_true(seen->thread == g_thread_self());
    /* Would deadlock if it were called under the lock. */
    at_catalog_revision(seen->catalog);
    if (record->value)
        g_string_append_printf(seen->text, "%s=%d ", record->key, (int)number(record));
    else
        g_string_append_printf(seen->text, "%s=- ", record->key);
    if (++seen->count == seen->stop_after)
        at_catalog_unwatch(seen->catalog, seen->id);
}

static struct seen *seen_new(struct at_catalog *catalog)
{
    struct seen *seen = g_new0(struct seen, 1);
    seen->catalog = catalog;
    seen->text = g_string_new(NULL);
    seen->thread = g_thread_self();
    return seen;
}

static void seen_free(struct seen *seen)
{
    g_string_free(seen->text, TRUE);
    g_free(seen);
}

static void run_pending(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        ;
}

static void tells_watches_in_order_after_the_commit(struct fixture *f, const void *b)
{
    struct seen *seen = seen_new(f->catalog);
    put(f->catalog, "vdc/old", 1, AT_REVISION_NONE);
    unsigned id = at_catalog_watch(f->catalog, "vdc/", 0, on_change, seen);
    g_autoptr(JsonNode) v = value(1);
    put(f->catalog, "vdc/a", 1, AT_REVISION_NONE);
    put(f->catalog, "job/a", 1, AT_REVISION_NONE);
    struct at_txn *txn = at_txn_new(f->catalog);
    at_txn_put(txn, "vdc/c", v, AT_REVISION_NONE);
    at_txn_delete(txn, "vdc/a", AT_REVISION_ANY);
    at_txn_put(txn, "vdc/b", v, AT_REVISION_NONE);
    g_assert_true(at_txn_commit(txn, NULL, NULL));
    /* A refused transaction is not told. */
    g_assert_false(at_catalog_put(f->catalog, "vdc/b", v, AT_REVISION_NONE, NULL, NULL));
    g_assert_cmpstr(seen->text->str, ==, ""); /* never from inside a commit */
    run_pending();
    g_assert_cmpstr(seen->text->str, ==, "vdc/a=1 vdc/a=- vdc/b=1 vdc/c=1 ");
    at_catalog_unwatch(f->catalog, id);
    put(f->catalog, "vdc/a", 5, AT_REVISION_NONE);
    run_pending();
    g_assert_cmpuint(seen->count, ==, 4);
    seen_free(seen);
}

static void replays_history_to_a_watch_that_comes_late(struct fixture *f, const void *b)
{
    struct seen *seen = seen_new(f->catalog);
    uint64_t first = put(f->catalog, "a", 1, AT_REVISION_NONE);
    put(f->catalog, "b", 2, AT_REVISION_NONE);
    put(f->catalog, "a", 3, AT_REVISION_ANY);
    g_assert_true(at_catalog_delete(f->catalog, "b", AT_REVISION_ANY, NULL));
    unsigned id = at_catalog_watch(f->catalog, "", first, on_change, seen);
    put(f->catalog, "c", 4, AT_REVISION_NONE);
    run_pending();
    g_assert_cmpstr(seen->text->str, ==, "b=2 a=3 b=- c=4 ");
    at_catalog_unwatch(f->catalog, id);
    seen_free(seen);
}

static void stops_at_once_when_unwatched_from_inside(struct fixture *f, const void *b)
{
    struct seen *seen = seen_new(f->catalog);
    seen->stop_after = 2;
    seen->id = at_catalog_watch(f->catalog, "", 0, on_change, seen);
    for (int i = 0; i < 5; i++)
        put(f->catalog, "a", i, AT_REVISION_ANY);
    run_pending();
    g_assert_cmpstr(seen->text->str, ==, "a=0 a=1 ");
    seen_free(seen);
}

static void forgets_what_was_pending_when_closed(struct fixture *f, const void *b)
{
    struct seen *seen = seen_new(f->catalog);
    at_catalog_watch(f->catalog, "", 0, on_change, seen);
    put(f->catalog, "a", 1, AT_REVISION_ANY);
    tear_down(f, b);
    run_pending();
    g_assert_cmpuint(seen->count, ==, 0);
    seen_free(seen);
    set_up(f, b);
}

/* ---- threads ---- */

enum { WRITERS = 4, ROUNDS = 50 };

/* Adds one to a shared counter, again whenever somebody else was first, and notes each success
 * under a key of its own in the same transaction. */
static gpointer count_up(gpointer data)
{
    struct at_catalog *catalog = data;
    for (int done = 0; done < ROUNDS;) {
        GError *error = NULL;
        g_autoptr(at_record) now = at_catalog_get(catalog, "counter", &error);
        g_assert_no_error(error);
        g_autoptr(JsonNode) next = value(number(now) + 1);
        g_autofree char *note = g_strdup_printf("note/%d", (int)number(now));
        struct at_txn *txn = at_txn_new(catalog);
        at_txn_put(txn, "counter", next, now->revision);
        at_txn_put(txn, note, next, AT_REVISION_NONE);
        if (at_txn_commit(txn, NULL, &error))
            done++;
        else
            g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
        g_clear_error(&error);
    }
    return NULL;
}

struct order {
    uint64_t last;
    int64_t expected;
};

static void on_count(const struct at_record *record, void *user)
{
    struct order *order = user;
    g_assert_cmpuint(record->revision, >, order->last);
    g_assert_cmpint(number(record), ==, order->expected);
    order->last = record->revision;
    order->expected++;
}

static void loses_no_update_of_concurrent_writers(struct fixture *f, const void *b)
{
    put(f->catalog, "counter", 0, AT_REVISION_NONE);
    struct order order = {.expected = 1};
    unsigned id = at_catalog_watch(f->catalog, "counter", 0, on_count, &order);
    GThread *threads[WRITERS];
    for (int i = 0; i < WRITERS; i++)
        threads[i] = g_thread_new("writer", count_up, f->catalog);
    for (int i = 0; i < WRITERS; i++)
        g_thread_join(threads[i]);
    assert_value(f->catalog, "counter", WRITERS * ROUNDS);
    g_autoptr(GPtrArray) notes = at_catalog_list(f->catalog, "note/", NULL);
    g_assert_cmpuint(notes->len, ==, WRITERS * ROUNDS);
    run_pending();
    g_assert_cmpint(order.expected, ==, WRITERS * ROUNDS + 1);
    at_catalog_unwatch(f->catalog, id);
}

static gpointer watch_elsewhere(gpointer data)
{
    struct at_catalog *catalog = data;
    g_autoptr(GMainContext) context = g_main_context_new();
    g_main_context_push_thread_default(context);
    struct seen *seen = seen_new(catalog);
    unsigned id = at_catalog_watch(catalog, "", 0, on_change, seen);
    put(catalog, "ready", 1, AT_REVISION_NONE);
    while (!strstr(seen->text->str, "end="))
        g_main_context_iteration(context, TRUE);
    at_catalog_unwatch(catalog, id);
    char *text = g_strdup(seen->text->str);
    seen_free(seen);
    g_main_context_pop_thread_default(context);
    return text;
}

static void on_ready(const struct at_record *record, void *user)
{
    *(bool *)user = true;
}

static void delivers_in_the_context_of_the_watcher(struct fixture *f, const void *b)
{
    bool ready = false;
    unsigned id = at_catalog_watch(f->catalog, "ready", 0, on_ready, &ready);
    GThread *thread = g_thread_new("watcher", watch_elsewhere, f->catalog);
    while (!ready)
        g_main_context_iteration(NULL, TRUE);
    put(f->catalog, "a", 1, AT_REVISION_NONE);
    put(f->catalog, "end", 2, AT_REVISION_NONE);
    g_autofree char *text = g_thread_join(thread);
    g_assert_cmpstr(text, ==, "ready=1 a=1 end=2 ");
    at_catalog_unwatch(f->catalog, id);
}

typedef void (*test_func)(struct fixture *, const void *);

static const struct {
    const char *name;
    test_func func;
} tests[] = {
    {"returns-what-was-put", returns_what_was_put},
    {"hands-out-values-that-may-be-changed", hands_out_values_that_may_be_changed},
    {"says-which-key-is-missing", says_which_key_is_missing},
    {"refuses-bad-keys-and-values", refuses_bad_keys_and_values},
    {"lists-a-prefix-sorted", lists_a_prefix_sorted},
    {"counts-revisions-up-site-wide", counts_revisions_up_site_wide},
    {"keeps-history-and-answers-for-old-revisions", keeps_history_and_answers_for_old_revisions},
    {"trims-history-but-never-a-live-value", trims_history_but_never_a_live_value},
    {"refuses-a-stale-revision-and-names-both", refuses_a_stale_revision_and_names_both},
    {"changes-all-or-nothing", changes_all_or_nothing},
    {"lets-the-last-change-of-a-key-count", lets_the_last_change_of_a_key_count},
    {"makes-no-revision-when-nothing-changes", makes_no_revision_when_nothing_changes},
    {"is-as-before-after-a-failed-commit", is_as_before_after_a_failed_commit},
    {"tells-watches-in-order-after-the-commit", tells_watches_in_order_after_the_commit},
    {"replays-history-to-a-watch-that-comes-late", replays_history_to_a_watch_that_comes_late},
    {"stops-at-once-when-unwatched-from-inside", stops_at_once_when_unwatched_from_inside},
    {"forgets-what-was-pending-when-closed", forgets_what_was_pending_when_closed},
    {"loses-no-update-of-concurrent-writers", loses_no_update_of_concurrent_writers},
    {"delivers-in-the-context-of-the-watcher", delivers_in_the_context_of_the_watcher},
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const char *const backends[] = {"memory", "sqlite"};
    for (size_t b = 0; b < G_N_ELEMENTS(backends); b++) {
        for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
            g_autofree char *path = g_strdup_printf("/catalog/%s/%s", backends[b], tests[i].name);
            g_test_add(path, struct fixture, backends[b], set_up, tests[i].func, tear_down);
        }
    }
    return g_test_run();
}
