/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads at once: the same content put by all, gc against puts, readers against gc. */
#include <string.h>

#include "disk.h"
#include "vault/hash.h"
#include "vault/tree-internal.h"

#define SIZE (2u << 20)
#define THREADS 16
#define ROUNDS 6
#define RACERS 4
#define NAMES 6000

struct shared {
    struct fixture f;
    uint8_t *disks[4];
    int stop; /* atomic */
};

static void put(struct shared *s, unsigned which, struct at_digest *ret_root,
                struct at_tree_stats *ret_stats)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf("disk/%u", which);
    struct at_vault_session *session = at_vault_session_begin(s->f.vault, &error);
    struct at_tree_writer *w = at_tree_writer_new(session, NULL, SIZE, &error);
    g_assert_no_error(error);
    at_tree_writer_data(w, 0, s->disks[which], SIZE, &error);
    g_assert_no_error(error);
    at_tree_writer_finish(w, ret_root, ret_stats, &error);
    g_assert_no_error(error);
    at_tree_writer_free(w);
    at_vault_root_set(s->f.vault, name, AT_ROOT_TREE, ret_root, &error);
    g_assert_no_error(error);
    at_vault_session_end(session);
}

static gpointer put_same(gpointer user)
{
    struct at_tree_stats *stats = g_new0(struct at_tree_stats, 1);
    struct at_digest root;
    put(user, 0, &root, stats);
    return stats;
}

static gpointer put_and_drop(gpointer user)
{
    struct shared *s = user;
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned which = (unsigned)g_random_int_range(1, 4);
        struct at_digest root;
        put(s, which, &root, NULL);
        g_autofree char *name = g_strdup_printf("disk/%u", which);
        /* Another thread may rely on the name, but its content is the same. */
        if (i % 2)
            at_vault_root_remove(s->f.vault, name, NULL);
    }
    return NULL;
}

static gpointer read_kept(gpointer user)
{
    struct shared *s = user;
    g_autoptr(GError) error = NULL;
    struct at_root *root;
    g_assert_true(at_vault_root_get(s->f.vault, "disk/0", &root, &error));
    while (!g_atomic_int_get(&s->stop))
        check_disk(s->f.vault, &root->digest, s->disks[0], SIZE);
    at_root_free(root);
    return NULL;
}

static gpointer collect(gpointer user)
{
    struct shared *s = user;
    while (!g_atomic_int_get(&s->stop)) {
        g_autoptr(GError) error = NULL;
        at_vault_gc(s->f.vault, NULL, NULL, NULL, NULL, &error);
        g_assert_no_error(error);
    }
    return NULL;
}

static void storm(void)
{
    g_autoptr(GError) error = NULL;
    struct shared s = {0};
    fixture_open(&s.f);
    GRand *r = g_rand_new_with_seed(77);
    for (unsigned i = 0; i < G_N_ELEMENTS(s.disks); i++)
        s.disks[i] = disk_random(r, SIZE);
    g_rand_free(r);

    GThread *threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("same", put_same, &s);
    uint64_t new_bytes = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        g_autofree struct at_tree_stats *stats = g_thread_join(threads[i]);
        new_bytes += stats->new_bytes;
    }
    struct at_vault_stats stats;
    g_assert_true(at_vault_stats(s.f.vault, &stats, &error));
    g_assert_cmpuint(new_bytes, ==, stats.plain_bytes); /* each chunk was stored once */

    at_vault_set_cache(s.f.vault, 1 << 19);
    GThread *reader = g_thread_new("reader", read_kept, &s);
    GThread *gc = g_thread_new("gc", collect, &s);
    for (unsigned i = 0; i < 4; i++)
        threads[i] = g_thread_new("putter", put_and_drop, &s);
    for (unsigned i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    g_atomic_int_set(&s.stop, 1);
    g_thread_join(reader);
    g_thread_join(gc);

    struct at_verify_report *report;
    at_vault_verify(s.f.vault, 100, NULL, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(report->problems->len, ==, 0);
    at_verify_report_free(report);
    for (unsigned i = 0; i < G_N_ELEMENTS(s.disks); i++) {
        g_autofree char *name = g_strdup_printf("disk/%u", i);
        struct at_root *root;
        if (at_vault_root_get(s.f.vault, name, &root, NULL)) {
            check_disk(s.f.vault, &root->digest, s.disks[i], SIZE);
            at_root_free(root);
        }
        g_free(s.disks[i]);
    }
    fixture_close(&s.f);
}

struct race {
    struct at_vault *vault;
    int arrived[NAMES]; /* atomic */
    int stored;         /* atomic */
};

/* Each name together with the others, and committed at once. */
static gpointer put_names(gpointer user)
{
    struct race *race = user;
    g_autoptr(GError) error = NULL;
    struct at_vault_session *session = at_vault_session_begin(race->vault, &error);
    g_assert_no_error(error);
    for (unsigned i = 0; i < NAMES; i++) {
        uint8_t plain[AT_BLOCK] = {(uint8_t)i, (uint8_t)(i >> 8), 1};
        struct at_digest digest;
        uint64_t stored = 0;
        at_hash_chunk(plain, sizeof plain, &digest);
        g_atomic_int_inc(&race->arrived[i]);
        while (g_atomic_int_get(&race->arrived[i]) < RACERS)
            g_thread_yield();
        at_store_put(session, AT_KIND_CHUNK, &digest, plain, sizeof plain, &stored, &error);
        g_assert_no_error(error);
        g_atomic_int_add(&race->stored, stored > 0);
        at_store_flush(race->vault->store, session->failures, &error);
        g_assert_no_error(error);
    }
    at_vault_session_end(session);
    return NULL;
}

/* Also when one has put and committed it between another's look into the index and its own put. */
static void once(void)
{
    struct fixture f;
    fixture_open(&f);
    struct race race = {.vault = f.vault};
    GThread *threads[RACERS];
    for (unsigned i = 0; i < RACERS; i++)
        threads[i] = g_thread_new("racer", put_names, &race);
    for (unsigned i = 0; i < RACERS; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(race.stored, ==, NAMES);
    fixture_close(&f);
}

static gpointer prepare(gpointer user)
{
    struct shared *s = user;
    g_autoptr(GError) error = NULL;
    struct at_root *root;
    g_assert_true(at_vault_root_get(s->f.vault, "disk/0", &root, &error));
    struct at_tree *tree = at_tree_open(s->f.vault, &root->digest, &error);
    g_assert_no_error(error);
    struct at_entry first, second;
    at_node_entry(tree->node->data, 0, &first);
    at_node_entry(tree->node->data, 1, &second);
    g_assert_cmpuint(at_node_level(tree->node->data), ==, 0);
    /* Each thread in an order of its own, and each says one twice. */
    bool swap = g_atomic_int_add(&s->stop, 1) % 2;
    const struct at_digest a = swap ? second.digest : first.digest;
    const struct at_digest b = swap ? first.digest : second.digest;
    const struct at_digest group[] = {a, b, a, b};
    for (unsigned i = 0; i < 200; i++)
        at_chunks_prepare(s->f.vault, group, G_N_ELEMENTS(group));
    at_tree_close(tree);
    at_root_free(root);
    return NULL;
}

/* Disks repeat themselves, and several readers of one disk read the same ahead. */
static void groups(void)
{
    struct shared s = {0};
    struct at_digest root;
    fixture_open(&s.f);
    GRand *r = g_rand_new_with_seed(79);
    s.disks[0] = g_malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        s.disks[0][i] = (uint8_t)g_rand_int(r);
    memset(s.disks[0] + (1 << 18), 0, SIZE - (1 << 18)); /* few chunks: one node */
    g_rand_free(r);
    put(&s, 0, &root, NULL);
    at_vault_set_cache(s.f.vault, 0); /* every time anew */
    GThread *threads[4];
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("prepare", prepare, &s);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    check_disk(s.f.vault, &root, s.disks[0], SIZE);
    g_free(s.disks[0]);
    fixture_close(&s.f);
}

/* A reader of its own, as nbdkit has one, while its packs are moved and its index is replaced. */
static gpointer read_apart(gpointer user)
{
    struct shared *s = user;
    g_autoptr(GError) error = NULL;
    struct at_vault *vault = at_vault_open(s->f.vault_dir, AT_VAULT_READ, (gid_t)-1, &error);
    g_assert_no_error(error);
    at_vault_set_cache(vault, 1 << 18);
    struct at_root *root;
    g_assert_true(at_vault_root_get(vault, "disk/0", &root, &error));
    do
        check_disk(vault, &root->digest, s->disks[0], SIZE);
    while (!g_atomic_int_get(&s->stop));
    at_root_free(root);
    at_vault_close(vault);
    return NULL;
}

static gpointer verify_all(gpointer user)
{
    struct shared *s = user;
    do {
        g_autoptr(GError) error = NULL;
        struct at_verify_report *report;
        at_vault_verify(s->f.vault, 100, NULL, NULL, NULL, &report, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(report->problems->len, ==, 0);
        at_verify_report_free(report);
    } while (!g_atomic_int_get(&s->stop));
    return NULL;
}

static gpointer verify_slowly(gpointer user)
{
    struct shared *s = user;
    do {
        g_autoptr(GError) error = NULL;
        struct at_verify_place place = {0};
        for (bool end = false; !end;) {
            struct at_verify_report *report;
            at_vault_verify_next(s->f.vault, &place, 20, NULL, NULL, NULL, &report, &end, &error);
            g_assert_no_error(error);
            g_assert_cmpuint(report->problems->len, ==, 0);
            at_verify_report_free(report);
        }
    } while (!g_atomic_int_get(&s->stop));
    return NULL;
}

/* Somebody reports what is whole as damaged, again and again. */
static gpointer report_damage(gpointer user)
{
    struct shared *s = user;
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(s->f.dir, "damage", NULL);
    struct at_root *root;
    g_assert_true(at_vault_root_get(s->f.vault, "disk/0", &root, &error));
    do {
        struct at_verify_report *found = NULL;
        at_damage_report(path, &root->digest);
        at_vault_take_damage(s->f.vault, path, &found, &error);
        g_assert_no_error(error);
        g_assert_null(found);
    } while (!g_atomic_int_get(&s->stop));
    at_root_free(root);
    return NULL;
}

static gpointer index_again(gpointer user)
{
    struct shared *s = user;
    for (unsigned i = 0; i < 3; i++) {
        g_autoptr(GError) error = NULL;
        at_vault_reindex(s->f.vault, NULL, NULL, NULL, &error);
        g_assert_no_error(error);
    }
    return NULL;
}

static void upkeep(void)
{
    g_autoptr(GError) error = NULL;
    struct shared s = {0};
    struct at_digest root;
    fixture_open(&s.f);
    GRand *r = g_rand_new_with_seed(78);
    for (unsigned i = 0; i < G_N_ELEMENTS(s.disks); i++)
        s.disks[i] = disk_random(r, SIZE);
    g_rand_free(r);
    put(&s, 0, &root, NULL);
    static const GThreadFunc beside[] = {read_apart,    read_apart,    verify_all,
                                         verify_slowly, report_damage, collect};
    static const GThreadFunc work[] = {put_and_drop, put_and_drop, index_again};
    GThread *others[G_N_ELEMENTS(beside)], *threads[G_N_ELEMENTS(work)];
    for (unsigned i = 0; i < G_N_ELEMENTS(beside); i++)
        others[i] = g_thread_new("beside", beside[i], &s);
    for (unsigned i = 0; i < G_N_ELEMENTS(work); i++)
        threads[i] = g_thread_new("work", work[i], &s);
    for (unsigned i = 0; i < G_N_ELEMENTS(work); i++)
        g_thread_join(threads[i]);
    g_atomic_int_set(&s.stop, 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(beside); i++)
        g_thread_join(others[i]);
    check_disk(s.f.vault, &root, s.disks[0], SIZE);
    for (unsigned i = 0; i < G_N_ELEMENTS(s.disks); i++)
        g_free(s.disks[i]);
    fixture_close(&s.f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/threads/puts-of-the-same-gc-and-readers-do-not-disturb-each-other",
                    storm);
    g_test_add_func("/vault/threads/readers-apart-verify-reindex-and-gc-go-on-beside-each-other",
                    upkeep);
    g_test_add_func("/vault/threads/what-several-put-and-commit-at-once-is-stored-once", once);
    g_test_add_func("/vault/threads/groups-of-chunks-that-repeat-or-cross-wait-for-nobody", groups);
    return g_test_run();
}
