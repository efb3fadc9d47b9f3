/* SPDX-License-Identifier: Apache-2.0 */
/* Damaged, missing, old and foreign files: never wrong bytes, and a clear word. */
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "disk.h"
#include "vault/format.h"

#define SIZE (3u << 20)

/* Every block is right or refused; returns how many were refused. */
static unsigned read_blocks(struct at_vault *vault, const struct at_digest *root,
                            const uint8_t *disk)
{
    g_autoptr(GError) error = NULL;
    struct at_tree *tree = at_tree_open(vault, root, &error);
    unsigned refused = 0;
    if (!tree)
        return 1;
    for (uint64_t at = 0; at < SIZE; at += 65536) {
        uint8_t buf[65536];
        g_clear_error(&error);
        if (at_tree_read(tree, buf, at, sizeof buf, &error))
            g_assert_true(memcmp(buf, disk + at, sizeof buf) == 0);
        else
            refused++;
    }
    at_tree_close(tree);
    return refused;
}

static void flipped(void)
{
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(1);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root, again;
    ingest(&f, disk, SIZE, &root, NULL);
    set_tree_root(&f, "image/hit", &root);
    unsigned harmful = 0;
    g_autofree char *path = pack_path(&f, 1);
    for (int i = 0; i < 60; i++) {
        fixture_reopen(&f);
        uint64_t at = AT_PACK_HEADER + (uint64_t)g_rand_double_range(
                                           r, 0, (double)(size_of_file(path) - AT_PACK_HEADER));
        flip_bit(path, at);
        at_vault_set_cache(f.vault, 0);
        unsigned refused = read_blocks(f.vault, &root, disk);
        struct at_verify_report *report = verify_vault(&f);
        if (refused) {
            harmful++;
            g_assert_cmpuint(report->problems->len, ==, 1);
            struct at_verify_problem *p = g_ptr_array_index(report->problems, 0);
            g_assert_nonnull(p->reason);
            g_assert_cmpuint(g_strv_length(p->roots), ==, 1);
            g_assert_cmpstr(p->roots[0], ==, "image/hit");
            struct at_vault_stats stats;
            at_vault_stats(f.vault, &stats, NULL);
            g_assert_cmpuint(stats.quarantined, ==, 1);
            /* Putting the same content again heals it. */
            ingest(&f, disk, SIZE, &again, NULL);
            g_assert_cmpuint(read_blocks(f.vault, &root, disk), ==, 0);
            at_vault_stats(f.vault, &stats, NULL);
            g_assert_cmpuint(stats.quarantined, ==, 0);
        }
        at_verify_report_free(report);
        flip_bit(path, at);
    }
    g_assert_cmpuint(harmful, >, 20);
    g_rand_free(r);
    fixture_close(&f);
}

/* Without a verify: what a read of the writer finds is enough, also after a restart. */
static void read_heals(void)
{
    for (int restart = 0; restart < 2; restart++) {
        struct fixture f;
        fixture_open(&f);
        GRand *r = g_rand_new_with_seed(5);
        g_autofree uint8_t *disk = disk_random(r, SIZE);
        struct at_digest root;
        struct at_tree_stats stats;
        struct at_vault_stats vault;
        ingest(&f, disk, SIZE, &root, NULL);
        fixture_reopen(&f);
        g_autofree char *path = pack_path(&f, 1);
        flip_bit(path, AT_PACK_HEADER + AT_RECORD_HEADER + 100); /* in the first chunk */
        g_assert_cmpuint(read_blocks(f.vault, &root, disk), >, 0);
        at_vault_stats(f.vault, &vault, NULL);
        g_assert_cmpuint(vault.quarantined, ==, 1);
        if (restart)
            fixture_reopen(&f);
        ingest(&f, disk, SIZE, &root, &stats);
        g_assert_cmpuint(stats.new_bytes, >, 0);
        g_assert_cmpuint(read_blocks(f.vault, &root, disk), ==, 0);
        at_vault_stats(f.vault, &vault, NULL);
        g_assert_cmpuint(vault.quarantined, ==, 0);
        g_rand_free(r);
        fixture_close(&f);
    }
}

/* The file of reports is written by somebody who is not trusted. */
static void hostile_report(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(6);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root, none = {{1}};
    ingest(&f, disk, SIZE, &root, NULL);
    g_autofree char *path = g_build_filename(f.dir, "damage", NULL);
    struct at_verify_report *found = NULL;
    g_assert_true(at_vault_take_damage(f.vault, path, &found, &error));
    g_assert_null(found);
    at_damage_report(path, &root); /* which is whole */
    at_damage_report(path, &none);
    at_damage_report(path, &none);
    g_assert_cmpuint(size_of_file(path), ==, (uint64_t)2 * 65);
    at_autofd fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    g_assert_cmpint(write(fd, "\n\0rubbish\xff", 10), ==, 10);
    g_assert_true(at_vault_take_damage(f.vault, path, &found, &error));
    g_assert_null(found);
    g_assert_cmpuint(size_of_file(path), ==, 0);
    for (unsigned i = 0; i < 2000; i++) {
        memcpy(none.bytes, &i, sizeof i);
        at_damage_report(path, &none);
    }
    g_assert_cmpuint(size_of_file(path), <=, 65536);

    g_assert_cmpint(unlink(path), ==, 0);
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    g_assert_false(at_vault_take_damage(f.vault, path, &found, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_cmpint(unlink(path), ==, 0);
    g_autofree char *pack = pack_path(&f, 1);
    g_assert_cmpint(symlink(pack, path), ==, 0);
    g_assert_false(at_vault_take_damage(f.vault, path, &found, &error));
    g_clear_error(&error);
    g_assert_cmpint(unlink(path), ==, 0);
    g_assert_cmpint(link(pack, path), ==, 0);
    g_assert_false(at_vault_take_damage(f.vault, path, &found, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    at_vault_set_cache(f.vault, 0);
    check_disk(f.vault, &root, disk, SIZE);
    g_rand_free(r);
    fixture_close(&f);
}

static void lost_index(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(2);
    g_autofree uint8_t *a = disk_random(r, SIZE), *b = disk_random(r, SIZE);
    struct at_digest ra, rb;
    g_autofree char *index = g_build_filename(f.vault_dir, "index", NULL);
    g_autofree char *data = g_build_filename(index, "data.mdb", NULL);
    ingest(&f, a, SIZE, &ra, NULL);
    set_tree_root(&f, "image/a", &ra);
    at_vault_close(g_steal_pointer(&f.vault));

    /* An index from before b was put. */
    g_autofree char *old = NULL;
    gsize old_len;
    g_assert_true(g_file_get_contents(data, &old, &old_len, NULL));
    fixture_reopen(&f);
    ingest(&f, b, SIZE, &rb, NULL);
    set_tree_root(&f, "image/b", &rb);
    at_vault_close(g_steal_pointer(&f.vault));
    g_assert_true(g_file_set_contents(data, old, (gssize)old_len, NULL));
    fixture_reopen(&f);
    check_disk(f.vault, &ra, a, SIZE);
    check_disk(f.vault, &rb, b, SIZE);

    /* The same after gc has moved everything. */
    g_assert_true(at_vault_root_remove(f.vault, "image/a", NULL));
    struct at_gc_report report;
    g_assert_true(at_vault_gc(f.vault, NULL, NULL, NULL, &report, &error));
    g_assert_cmpuint(report.bytes_freed, >, 0);
    at_vault_close(g_steal_pointer(&f.vault));
    g_assert_true(g_file_set_contents(data, old, (gssize)old_len, NULL));
    fixture_reopen(&f);
    check_disk(f.vault, &rb, b, SIZE);

    /* No index at all, and rubbish in its place. */
    at_vault_close(g_steal_pointer(&f.vault));
    g_assert_true(at_remove_tree(index, NULL));
    fixture_reopen(&f);
    check_disk(f.vault, &rb, b, SIZE);
    at_vault_close(g_steal_pointer(&f.vault));
    g_autofree char *rubbish = g_strnfill(16384, 'x');
    g_assert_true(g_file_set_contents(data, rubbish, 16384, NULL));
    fixture_reopen(&f);
    check_disk(f.vault, &rb, b, SIZE);

    /* On demand. */
    g_assert_true(at_vault_reindex(f.vault, NULL, NULL, NULL, &error));
    at_vault_set_cache(f.vault, 0);
    check_disk(f.vault, &rb, b, SIZE);
    ingest(&f, a, SIZE, &ra, NULL);
    check_disk(f.vault, &ra, a, SIZE);
    g_rand_free(r);
    fixture_close(&f);
}

static void torn_tail(void)
{
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(3);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root, again;
    ingest(&f, disk, SIZE, &root, NULL);
    g_autofree char *path = pack_path(&f, 1);
    uint64_t whole = size_of_file(path);
    g_autofree char *bytes = NULL;
    g_assert_true(g_file_get_contents(path, &bytes, NULL, NULL));
    static const unsigned torn[] = {1, 8, 63, 64, 65, 1000};
    for (unsigned i = 0; i < G_N_ELEMENTS(torn); i++) {
        at_vault_close(g_steal_pointer(&f.vault));
        /* The beginning of a record, as a crash would leave it. */
        at_autofd fd = open(path, O_WRONLY);
        g_assert_cmpint(pwrite(fd, bytes + AT_PACK_HEADER, torn[i], (off_t)whole), ==, torn[i]);
        fixture_reopen(&f);
        g_assert_cmpuint(size_of_file(path), ==, whole);
        check_disk(f.vault, &root, disk, SIZE);
    }
    /* The index is ahead of the pack: what is left is found, and the rest can be put again. */
    at_vault_close(g_steal_pointer(&f.vault));
    g_assert_cmpint(truncate(path, (off_t)(whole / 2)), ==, 0);
    fixture_reopen(&f);
    g_assert_cmpuint(read_blocks(f.vault, &root, disk), >, 0);
    ingest(&f, disk, SIZE, &again, NULL);
    g_assert_true(at_digest_equal(&root, &again));
    check_disk(f.vault, &root, disk, SIZE);
    g_rand_free(r);
    fixture_close(&f);
}

static void refusals(void)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    struct at_digest root;
    ingest(&f, (const uint8_t *)"x", 1, &root, NULL);
    g_assert_null(at_vault_open(f.vault_dir, AT_VAULT_WRITE, (gid_t)-1, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_autofree char *me = g_strdup_printf("%d on %s", (int)getpid(), g_get_host_name());
    g_assert_nonnull(strstr(error->message, me));
    g_clear_error(&error);

    g_assert_null(at_vault_open(f.dir, AT_VAULT_READ, (gid_t)-1, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_clear_error(&error);
    at_vault_close(g_steal_pointer(&f.vault));

    g_autofree char *format = g_build_filename(f.vault_dir, "format", NULL);
    g_assert_true(g_file_set_contents(format, "atoll-vault 3\n", -1, NULL));
    g_assert_null(at_vault_open(f.vault_dir, AT_VAULT_WRITE, (gid_t)-1, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "newer"));
    g_clear_error(&error);
    /* An older one is read as it is; a writer makes it one of today's before it adds anything. */
    g_assert_true(g_file_set_contents(format, "atoll-vault 1\n", -1, NULL));
    at_vault_close(at_vault_open(f.vault_dir, AT_VAULT_READ, (gid_t)-1, &error));
    g_assert_no_error(error);
    g_autofree char *text = NULL;
    g_file_get_contents(format, &text, NULL, NULL);
    g_assert_cmpstr(text, ==, "atoll-vault 1\n");
    g_clear_pointer(&text, g_free);
    at_vault_close(at_vault_open(f.vault_dir, AT_VAULT_WRITE, (gid_t)-1, &error));
    g_assert_no_error(error);
    g_file_get_contents(format, &text, NULL, NULL);
    g_assert_cmpstr(text, ==, "atoll-vault 2\n");

    g_autofree char *path = pack_path(&f, 1);
    struct at_pack_header header = {.version = AT_VAULT_FORMAT + 1, .id = 1};
    uint8_t raw[AT_PACK_HEADER];
    at_pack_header_encode(&header, raw);
    at_autofd fd = open(path, O_WRONLY);
    g_assert_cmpint(pwrite(fd, raw, sizeof raw, 0), ==, sizeof raw);
    g_assert_null(at_vault_open(f.vault_dir, AT_VAULT_WRITE, (gid_t)-1, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "newer"));
    g_clear_error(&error);
    fixture_close(&f);
}

/* In a child with another uid and the vault's group: reads @root again and again until a byte
 * comes from @stop; exits 0 when every read was right. */
static int reader(const char *dir, gid_t gid, const struct at_digest *root, const uint8_t *disk,
                  int ready, int stop)
{
    g_autoptr(GError) error = NULL;
    if (getuid() == 0 && (setgroups(0, NULL) || setgid(gid) || setuid(65533)))
        return 3;
    struct at_vault *vault = at_vault_open(dir, AT_VAULT_READ, (gid_t)-1, &error);
    if (!vault) {
        g_printerr("# reader: %s\n", error->message);
        return 2;
    }
    at_vault_set_cache(vault, 1 << 20);
    bool told = false;
    for (;;) {
        struct at_tree *tree = at_tree_open(vault, root, &error);
        g_autofree uint8_t *back = g_malloc(SIZE);
        if (!tree || !at_tree_read(tree, back, 0, SIZE, &error)) {
            g_printerr("# reader: %s\n", error->message);
            return 1;
        }
        at_tree_close(tree);
        if (memcmp(back, disk, SIZE) != 0)
            return 4;
        if (!told && write(ready, "r", 1) != 1)
            return 5;
        told = true;
        char c;
        if (read(stop, &c, 1) == 1) {
            at_vault_close(vault);
            return 0;
        }
    }
}

/* The child is forked before this process has any thread of the vault. */
static void reader_beside_gc(void)
{
    g_autoptr(GError) error = NULL;
    mode_t mask = umask(077); /* must not matter */
    gid_t gid = getuid() == 0 ? 54321 : getgid();
    g_autofree char *dir = g_strdup("/dev/shm/atoll-vault-XXXXXX");
    g_assert_nonnull(g_mkdtemp(dir));
    g_assert_cmpint(chmod(dir, 0755), ==, 0);
    struct fixture f = {.dir = dir, .vault_dir = g_build_filename(dir, "vault", NULL)};
    GRand *r = g_rand_new_with_seed(4);
    g_autofree uint8_t *keep = disk_random(r, SIZE);
    int ready[2], stop[2], go[2];
    struct at_digest root;
    g_assert_cmpint(pipe(ready) | pipe2(stop, O_NONBLOCK) | pipe(go), ==, 0);
    pid_t child = fork();
    if (child == 0) {
        if (read(go[0], &root, sizeof root) != sizeof root)
            _exit(6);
        _exit(reader(f.vault_dir, gid, &root, keep, ready[1], stop[0]));
    }
    close(ready[1]);
    f.vault = at_vault_open(f.vault_dir, AT_VAULT_WRITE | AT_VAULT_CREATE, gid, &error);
    g_assert_no_error(error);
    ingest(&f, keep, SIZE, &root, NULL);
    set_tree_root(&f, "image/keep", &root);
    g_assert_cmpint(write(go[1], &root, sizeof root), ==, sizeof root);
    char c;
    g_assert_cmpint(read(ready[0], &c, 1), ==, 1); /* or the child has ended */
    for (int i = 0; i < 8; i++) {
        /* More garbage than content in the pack of what is read: gc moves it. */
        for (int k = 0; k < 2; k++) {
            struct at_digest garbage;
            g_autofree uint8_t *disk = disk_random(r, SIZE);
            ingest(&f, disk, SIZE, &garbage, NULL);
        }
        struct at_gc_report report;
        at_vault_gc(f.vault, NULL, NULL, NULL, &report, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(report.bytes_freed, >, 0);
        if (i % 3 == 2) {
            at_vault_reindex(f.vault, NULL, NULL, NULL, &error);
            g_assert_no_error(error);
        }
    }
    int status;
    g_assert_cmpint(write(stop[1], "s", 1), ==, 1);
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    umask(mask);
    close(ready[0]);
    close(stop[0]);
    close(stop[1]);
    close(go[0]);
    close(go[1]);
    g_rand_free(r);
    at_vault_close(f.vault);
    g_assert_true(at_remove_tree(dir, NULL));
    g_free(f.vault_dir);
}

/* What was proved once is known by the names of its blocks, and these still prove every byte. */
static void flipped_later(void)
{
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(8);
    g_autofree uint8_t *disk = disk_random(r, SIZE);
    struct at_digest root;
    ingest(&f, disk, SIZE, &root, NULL);
    set_tree_root(&f, "image/hit", &root);
    g_autofree char *path = pack_path(&f, 1);
    at_vault_set_cache(f.vault, 0);
    unsigned refused = 0;
    for (int i = 0; i < 60; i++) {
        g_assert_cmpuint(read_blocks(f.vault, &root, disk), ==, 0);
        uint64_t at = AT_PACK_HEADER + (uint64_t)g_rand_double_range(
                                           r, 0, (double)(size_of_file(path) - AT_PACK_HEADER));
        flip_bit(path, at);
        unsigned now = read_blocks(f.vault, &root, disk);
        g_assert_cmpuint(now, ==, read_blocks(f.vault, &root, disk));
        refused += now != 0;
        flip_bit(path, at);
    }
    g_assert_cmpuint(refused, >, 30);
    g_rand_free(r);
    fixture_close(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/readers/another-user-reads-on-while-gc-compacts-and-reindex-replaces",
                    reader_beside_gc);
    g_test_add_func("/vault/damage/what-was-proved-once-is-proved-again", flipped_later);
    g_test_add_func("/vault/damage/a-flipped-bit-is-never-read-and-the-roots-hit-are-named",
                    flipped);
    g_test_add_func("/vault/damage/what-a-read-finds-damaged-is-stored-anew-by-the-next-put",
                    read_heals);
    g_test_add_func("/vault/damage/reports-of-a-hostile-reader-are-checked-and-bounded",
                    hostile_report);
    g_test_add_func("/vault/recovery/an-index-that-is-lost-old-or-rubbish-is-rebuilt", lost_index);
    g_test_add_func("/vault/recovery/a-torn-tail-is-cut-back-to-the-last-whole-record", torn_tail);
    g_test_add_func("/vault/open/a-second-writer-and-newer-formats-are-refused-politely", refusals);
    return g_test_run();
}
