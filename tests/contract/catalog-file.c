/* SPDX-License-Identifier: Apache-2.0 */
/* What the durable catalog promises beyond the common contract: it survives SIGKILL at any point,
 * refuses files it does not understand, and gets over a full disk. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "catalog/catalog.h"

struct fixture {
    char *dir, *path;
};

static void set_up(struct fixture *f, const void *unused)
{
    GError *error = NULL;
    f->dir = g_dir_make_tmp("atoll-catalog-XXXXXX", &error);
    g_assert_no_error(error);
    f->path = g_build_filename(f->dir, "catalog.db", NULL);
}

static void tear_down(struct fixture *f, const void *unused)
{
    at_remove_tree(f->dir, NULL);
    g_free(f->dir);
    g_free(f->path);
}

static struct at_catalog *open_catalog(struct fixture *f)
{
    GError *error = NULL;
    struct at_catalog *catalog = at_catalog_open_sqlite(f->path, &error);
    g_assert_no_error(error);
    return catalog;
}

static JsonNode *value(int64_t n)
{
    JsonObject *obj = json_object_new();
    json_object_set_int_member(obj, "n", n);
    return at_json_take_obj(obj);
}

static int64_t read_number(struct at_catalog *catalog, const char *key)
{
    g_autoptr(at_record) record = at_catalog_get(catalog, key, NULL);
    return record ? at_json_int(json_node_get_object(record->value), "n", -1) : -1;
}

static void exec_sql(struct fixture *f, const char *sql)
{
    sqlite3 *db = NULL;
    g_assert_cmpint(sqlite3_open(f->path, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
}

static void assert_refused(struct fixture *f, int code, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(at_catalog_open_sqlite(f->path, &error));
    g_assert_error(error, AT_ERROR, code);
    g_assert_nonnull(strstr(error->message, words));
    g_assert_nonnull(strstr(error->message, f->path));
}

/* ---- across restarts ---- */

static void comes_back_after_a_restart(struct fixture *f, const void *u)
{
    struct at_catalog *catalog = open_catalog(f);
    g_autoptr(JsonNode) v = value(1);
    g_assert_true(at_catalog_put(catalog, "a", v, AT_REVISION_NONE, NULL, NULL));
    g_assert_true(at_catalog_put(catalog, "b", v, AT_REVISION_NONE, NULL, NULL));
    g_assert_true(at_catalog_delete(catalog, "b", AT_REVISION_ANY, NULL));
    uint64_t revision = at_catalog_revision(catalog);
    at_catalog_close(catalog);
    struct stat st;
    g_assert_cmpint(stat(f->path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);

    catalog = open_catalog(f);
    g_assert_cmpuint(at_catalog_revision(catalog), ==, revision);
    g_assert_cmpint(read_number(catalog, "a"), ==, 1);
    g_autoptr(GPtrArray) history = at_catalog_history(catalog, "b", 0, NULL);
    g_assert_cmpuint(history->len, ==, 2);
    at_catalog_close(catalog);
}

static void never_reuses_a_revision_after_trimming(struct fixture *f, const void *u)
{
    struct at_catalog *catalog = open_catalog(f);
    g_autoptr(JsonNode) v = value(1);
    at_catalog_put(catalog, "a", v, AT_REVISION_NONE, NULL, NULL);
    at_catalog_delete(catalog, "a", AT_REVISION_ANY, NULL);
    uint64_t revision = at_catalog_revision(catalog);
    g_assert_true(at_catalog_trim(catalog, "", 0, NULL));
    at_catalog_close(catalog);
    catalog = open_catalog(f);
    g_assert_cmpuint(at_catalog_revision(catalog), ==, revision);
    at_catalog_close(catalog);
}

/* ---- death ---- */

enum { KEYS = 5, KILLS = 12 };

/* Writes the same number under KEYS keys, one transaction each, and says so once acknowledged. */
static void write_for_ever(const char *path, int64_t start, int fd)
{
    struct at_catalog *catalog = at_catalog_open_sqlite(path, NULL);
    for (int64_t n = start; catalog; n++) {
        g_autoptr(JsonNode) v = value(n);
        struct at_txn *txn = at_txn_new(catalog);
        for (int k = 0; k < KEYS; k++) {
            g_autofree char *key = g_strdup_printf("k/%d", k);
            at_txn_put(txn, key, v, AT_REVISION_ANY);
        }
        if (!at_txn_commit(txn, NULL, NULL))
            break;
        if (write(fd, &n, sizeof n) != sizeof n)
            break;
    }
    _exit(1);
}

/* Lets a child write until it has acknowledged @rounds numbers after @start (-1: until it dies by
 * itself), kills it, and gives the last number acknowledged. */
static int64_t kill_a_writer(struct fixture *f, int64_t start, int rounds, const char *fault)
{
    int fds[2];
    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        close(fds[0]);
        at_fault_plan(fault);
        write_for_ever(f->path, start, fds[1]);
    }
    close(fds[1]);
    int64_t last = start - 1, n;
    for (int i = 0; rounds < 0 || i < rounds; i++) {
        if (read(fds[0], &n, sizeof n) != sizeof n)
            break;
        last = n;
    }
    if (rounds >= 0) {
        g_usleep((gulong)g_test_rand_int_range(0, 3000)); /* some point of the next one */
        kill(pid, SIGKILL);
        while (read(fds[0], &n, sizeof n) == sizeof n)
            last = n;
    }
    close(fds[0]);
    int status;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return last;
}

static int64_t assert_whole(struct fixture *f, int64_t acknowledged)
{
    struct at_catalog *catalog = open_catalog(f);
    int64_t n = read_number(catalog, "k/0");
    g_assert_cmpint(n, >=, acknowledged);     /* acknowledged = there */
    g_assert_cmpint(n, <=, acknowledged + 1); /* at most the one that was under way */
    g_autoptr(GPtrArray) list = at_catalog_list(catalog, "k/", NULL);
    for (unsigned i = 0; i < list->len; i++) {
        const struct at_record *r = list->pdata[i];
        g_assert_cmpuint(r->revision, ==, ((struct at_record *)list->pdata[0])->revision);
        g_assert_cmpint(read_number(catalog, r->key), ==, n); /* all or nothing */
    }
    g_assert_cmpuint(list->len, ==, n < 0 ? 0 : KEYS);
    at_catalog_close(catalog);
    return n;
}

static void survives_sigkill_in_the_middle_of_transactions(struct fixture *f, const void *u)
{
    int64_t next = 0;
    for (int i = 0; i < KILLS; i++) {
        int64_t acknowledged = kill_a_writer(f, next, g_test_rand_int_range(1, 12), NULL);
        next = assert_whole(f, acknowledged) + 1;
    }
}

static void shows_nothing_of_a_transaction_killed_before_its_commit(struct fixture *f,
                                                                    const void *u)
{
    int64_t acknowledged = kill_a_writer(f, 0, -1, "catalog.commit:kill:4");
    g_assert_cmpint(acknowledged, ==, 2);
    g_assert_cmpint(assert_whole(f, acknowledged), ==, 2);
}

/* ---- files that are not right ---- */

static void refuses_a_newer_schema_politely(struct fixture *f, const void *u)
{
    at_catalog_close(open_catalog(f));
    exec_sql(f, "PRAGMA user_version = 7");
    assert_refused(f, AT_ERROR_INVALID, "newer Atoll");
    exec_sql(f, "PRAGMA user_version = 1");
    at_catalog_close(open_catalog(f));
}

static void refuses_a_foreign_database(struct fixture *f, const void *u)
{
    exec_sql(f, "CREATE TABLE music (title TEXT)");
    assert_refused(f, AT_ERROR_INVALID, "not an Atoll catalog");
}

static void refuses_a_file_that_is_no_database(struct fixture *f, const void *u)
{
    g_autofree char *rubbish = g_strnfill(8192, 'x');
    g_assert_true(g_file_set_contents(f->path, rubbish, 8192, NULL));
    assert_refused(f, AT_ERROR_CORRUPT, "damaged");
}

static void refuses_a_damaged_file(struct fixture *f, const void *u)
{
    struct at_catalog *catalog = open_catalog(f);
    for (int i = 0; i < 200; i++) {
        g_autofree char *key = g_strdup_printf("vdc/a-rather-long-key-%d", i);
        g_autoptr(JsonNode) v = value(i);
        g_assert_true(at_catalog_put(catalog, key, v, AT_REVISION_NONE, NULL, NULL));
    }
    at_catalog_close(catalog);
    struct stat st;
    g_assert_cmpint(stat(f->path, &st), ==, 0);
    at_autofd fd = open(f->path, O_WRONLY | O_CLOEXEC);
    g_autofree char *rubbish = g_strnfill(4096, 'z');
    for (off_t at = 4096; at < st.st_size; at += 4096)
        g_assert_cmpint(pwrite(fd, rubbish, 4096, at), ==, 4096);
    assert_refused(f, AT_ERROR_CORRUPT, "damaged");
}

static void says_why_a_catalog_cannot_be_made(struct fixture *f, const void *u)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(f->dir, "none", "catalog.db", NULL);
    g_assert_null(at_catalog_open_sqlite(path, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, path));
}

/* ---- a full disk ---- */

/* Runs in a child with a small file system of its own; gives 0, 77 (cannot), or the line that was
 * not as expected. */
#define EXPECT(what)                                                                               \
    do {                                                                                           \
        if (!(what))                                                                               \
            return __LINE__;                                                                       \
    } while (0)

static int fill_the_disk(struct fixture *f)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", f->dir, "tmpfs", 0, "size=512k") != 0)
        return 77;
    g_autoptr(GError) error = NULL;
    struct at_catalog *catalog = at_catalog_open_sqlite(f->path, &error);
    EXPECT(catalog);
    g_autofree char *filler = g_build_filename(f->dir, "filler", NULL);
    g_autofree char *zeros = g_malloc0(256 * 1024);
    EXPECT(g_file_set_contents(filler, zeros, 256 * 1024, NULL));
    g_autofree char *text = g_strnfill(8192, 'v');
    JsonObject *obj = json_object_new();
    json_object_set_string_member(obj, "text", text);
    g_autoptr(JsonNode) v = at_json_take_obj(obj);
    int written = 0;
    for (; written < 200 && !error; written++) {
        g_autofree char *key = g_strdup_printf("k/%d", written);
        at_catalog_put(catalog, key, v, AT_REVISION_NONE, NULL, &error);
    }
    EXPECT(error);
    EXPECT(g_error_matches(error, AT_ERROR, AT_ERROR_NO_SPACE));
    g_clear_error(&error);
    /* What is there is still there, and once there is room it goes on. */
    g_autoptr(GPtrArray) list = at_catalog_list(catalog, "k/", &error);
    EXPECT(list && list->len == (unsigned)written - 1);
    EXPECT(unlink(filler) == 0);
    EXPECT(at_catalog_put(catalog, "k/after", v, AT_REVISION_NONE, NULL, &error));
    at_catalog_close(catalog);
    catalog = at_catalog_open_sqlite(f->path, &error);
    EXPECT(catalog);
    g_autoptr(GPtrArray) again = at_catalog_list(catalog, "k/", &error);
    EXPECT(again && again->len == (unsigned)written);
    at_catalog_close(catalog);
    return 0;
}

static void gets_over_a_full_disk(struct fixture *f, const void *u)
{
    int fds[2], verdict = -1;
    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        int result = fill_the_disk(f);
        _exit(write(fds[1], &result, sizeof result) == sizeof result ? 0 : 1);
    }
    close(fds[1]);
    g_assert_cmpint(read(fds[0], &verdict, sizeof verdict), ==, sizeof verdict);
    close(fds[0]);
    waitpid(pid, NULL, 0);
    if (verdict == 77)
        g_test_skip("needs root, to mount a small file system");
    else
        g_assert_cmpint(verdict, ==, 0); /* otherwise: the line in fill_the_disk */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func)                                                                            \
    g_test_add("/catalog/file/" name, struct fixture, NULL, set_up, func, tear_down)
    ADD("comes-back-after-a-restart", comes_back_after_a_restart);
    ADD("never-reuses-a-revision-after-trimming", never_reuses_a_revision_after_trimming);
    ADD("survives-sigkill-in-the-middle-of-transactions",
        survives_sigkill_in_the_middle_of_transactions);
    ADD("shows-nothing-of-a-transaction-killed-before-its-commit",
        shows_nothing_of_a_transaction_killed_before_its_commit);
    ADD("refuses-a-newer-schema-politely", refuses_a_newer_schema_politely);
    ADD("refuses-a-foreign-database", refuses_a_foreign_database);
    ADD("refuses-a-file-that-is-no-database", refuses_a_file_that_is_no_database);
    ADD("refuses-a-damaged-file", refuses_a_damaged_file);
    ADD("says-why-a-catalog-cannot-be-made", says_why_a_catalog_cannot_be_made);
    ADD("gets-over-a-full-disk", gets_over_a_full_disk);
    return g_test_run();
}
