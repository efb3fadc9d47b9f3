/* SPDX-License-Identifier: Apache-2.0 */
/* A damaged index: it costs a process at most once, and content never. */
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "index-subject.h"
#include "vault/index-guard.h"
#include "vault/index-row.h"
#include "vault/node.h"
#include "vault/vault-internal.h"

/* Changes one row behind the vault's back: @to NULL deletes it. */
static void change_row(struct subject *s, const struct at_digest *from, const struct at_digest *to,
                       const uint8_t *row)
{
    g_autofree char *dir = g_path_get_dirname(s->data);
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val key = {AT_DIGEST_LEN, (void *)from}, value;
    uint8_t copy[AT_PLACE_LEN];
    g_assert_cmpint(mdb_env_create(&env), ==, 0);
    g_assert_cmpint(mdb_env_set_maxdbs(env, 4), ==, 0);
    g_assert_cmpint(mdb_env_open(env, dir, 0, 0600), ==, 0);
    g_assert_cmpint(mdb_txn_begin(env, NULL, 0, &txn), ==, 0);
    g_assert_cmpint(mdb_dbi_open(txn, "object", 0, &dbi), ==, 0);
    g_assert_cmpint(mdb_get(txn, dbi, &key, &value), ==, 0);
    g_assert_cmpuint(value.mv_size, ==, sizeof copy);
    memcpy(copy, row ? row : value.mv_data, sizeof copy);
    g_assert_cmpint(mdb_del(txn, dbi, &key, NULL), ==, 0);
    if (to) {
        MDB_val new_key = {AT_DIGEST_LEN, (void *)to}, new_value = {sizeof copy, copy};
        g_assert_cmpint(mdb_put(txn, dbi, &new_key, &new_value, 0), ==, 0);
    }
    g_assert_cmpint(mdb_txn_commit(txn), ==, 0);
    mdb_env_close(env);
}

/* One of the chunks of the disk that is kept. */
static void some_chunk(struct subject *s, struct at_digest *ret, struct at_place *ret_place)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(at_buf_auto) top = NULL;
    struct at_disk disk;
    struct at_entry entry;
    bool found;
    g_autoptr(at_buf_auto) buf = at_object_read(s->f.vault, &s->root, AT_KIND_DISK, &error);
    g_assert_no_error(error);
    g_assert_true(at_disk_decode(buf->data, buf->len, &disk, &error));
    g_assert_cmpuint(disk.height, ==, 1);
    top = at_object_read(s->f.vault, &disk.top, AT_KIND_NODE, &error);
    g_assert_no_error(error);
    at_node_entry(top->data, at_node_count(top->data) / 2, &entry);
    *ret = entry.digest;
    g_assert_true(at_index_lookup(s->f.vault->index, ret, ret_place, &found, &error));
    g_assert_true(found);
}

static void expect_whole(struct subject *s)
{
    struct at_verify_report *report = verify_vault(&s->f);
    g_assert_cmpuint(report->problems->len, ==, 0);
    at_verify_report_free(report);
    check_disk(s->f.vault, &s->root, s->disk, SIZE);
}

enum harm { LOST, RENAMED, MOVED, HARMS };

/* A row that has gone, got another key, or another place: what the pack holds must not be taken for
 * garbage when the pack is compacted. */
static void gc_of_damaged(void)
{
    for (enum harm harm = LOST; harm < HARMS; harm++) {
        g_autoptr(GError) error = NULL;
        struct subject s;
        struct at_digest chunk, other;
        struct at_place place;
        struct at_gc_report report;
        uint8_t row[AT_PLACE_LEN];
        subject_begin(&s, 11);
        some_chunk(&s, &chunk, &place);
        other = chunk;
        other.bytes[31] ^= 0x10;
        at_place_encode(&chunk, &place, row);
        row[17] ^= 0x40; /* of the offset */
        subject_close_vault(&s);
        change_row(&s, &chunk,
                   harm == LOST      ? NULL
                   : harm == RENAMED ? &other
                                     : &chunk,
                   harm == MOVED ? row : NULL);
        fixture_reopen(&s.f);
        at_vault_gc(s.f.vault, NULL, NULL, NULL, &report, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(report.bytes_freed, >, SIZE);
        g_assert_false(at_vault_index_suspect(s.f.vault));
        g_assert_cmpint(access(s.mark, F_OK), !=, 0);
        expect_whole(&s);
        subject_end(&s);
    }
}

/* One bit of a row or of its key. */
static void rows_have_checks(void)
{
    static const struct at_place place = {1, 3000, 4096, AT_KIND_CHUNK, 1, AT_PACK_HEADER + 640};
    struct at_digest key = {{7, 1, 9}};
    struct at_place back;
    uint8_t row[AT_PLACE_LEN];
    at_place_encode(&key, &place, row);
    for (unsigned bit = 0; bit < 8 * (AT_DIGEST_LEN + AT_PLACE_LEN); bit++) {
        uint8_t *byte =
            bit / 8 < AT_DIGEST_LEN ? &key.bytes[bit / 8] : &row[bit / 8 - AT_DIGEST_LEN];
        *byte ^= (uint8_t)(1 << bit % 8);
        g_assert_false(at_place_decode(&key, row, sizeof row, &back));
        *byte ^= (uint8_t)(1 << bit % 8);
        g_assert_true(at_place_decode(&key, row, sizeof row, &back));
    }
    memset(row + 14, 0, 2); /* as it was written before there were checks */
    g_assert_true(at_place_decode(&key, row, sizeof row, &back));
    g_assert_cmpuint(back.offset, ==, place.offset);
}

/* What the packs do not have either is lost; the rest can still be freed. */
static void gc_of_lost(void)
{
    g_autoptr(GError) error = NULL;
    struct subject s;
    struct at_digest chunk;
    struct at_place place;
    struct at_gc_report report;
    subject_begin(&s, 12);
    some_chunk(&s, &chunk, &place);
    subject_close_vault(&s);
    g_autofree char *pack = pack_path(&s.f, place.pack);
    flip_bit(pack, place.offset + AT_RECORD_HEADER);
    change_row(&s, &chunk, NULL, NULL);
    fixture_reopen(&s.f);
    at_vault_gc(s.f.vault, NULL, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(report.bytes_freed, >, SIZE);
    struct at_verify_report *problems = verify_vault(&s.f);
    g_assert_cmpuint(problems->problems->len, ==, 1);
    at_verify_report_free(problems);
    g_assert_false(at_vault_index_suspect(s.f.vault));
    subject_end(&s);
}

/* A verify that misses what a root needs has the index looked at. */
static void verify_tells(void)
{
    g_autoptr(GError) error = NULL;
    struct subject s;
    struct at_digest chunk;
    struct at_place place;
    subject_begin(&s, 13);
    some_chunk(&s, &chunk, &place);
    subject_close_vault(&s);
    change_row(&s, &chunk, NULL, NULL);
    fixture_reopen(&s.f);
    g_assert_null(at_vault_index_rebuilt(s.f.vault));
    struct at_verify_report *problems = verify_vault(&s.f);
    g_assert_cmpuint(problems->problems->len, ==, 1);
    at_verify_report_free(problems);
    g_assert_true(at_vault_index_suspect(s.f.vault));
    g_assert_cmpint(access(s.mark, F_OK), ==, 0);
    fixture_reopen(&s.f); /* nobody had the time to build it again: the next start does */
    g_assert_nonnull(at_vault_index_rebuilt(s.f.vault));
    g_assert_false(at_vault_index_suspect(s.f.vault));
    expect_whole(&s);
    fixture_reopen(&s.f);
    g_assert_null(at_vault_index_rebuilt(s.f.vault));
    subject_end(&s);
}

/* Turns one bit over, or makes rubbish of some bytes, anywhere in a page that is in use. */
static void harm_at(GRand *r, char *bytes, gsize len)
{
    gsize at = (gsize)g_rand_double_range(r, 0, (double)len);
    switch (g_rand_int_range(r, 0, 4)) {
    case 0:
        for (gsize i = at; i < MIN(at + 16, len); i++)
            bytes[i] = (char)g_rand_int(r);
        break;
    case 1: /* heads of pages say most */
        at = at / 4096 * 4096 + (gsize)g_rand_int_range(r, 0, 64);
        bytes[at] ^= (char)(1 << g_rand_int_range(r, 0, 8));
        break;
    default:
        bytes[at] ^= (char)(1 << g_rand_int_range(r, 0, 8));
    }
}

static void any_damage(void)
{
    struct subject s;
    unsigned rounds = g_getenv("ATOLL_LONG") ? 4000 : 100, deaths = 0, restarts = 0;
    g_autofree char *index = NULL, *pack = NULL, *packed = NULL;
    gsize len, packed_len;
    subject_begin(&s, 14);
    subject_tell(&s);
    subject_close_vault(&s);
    pack = pack_path(&s.f, 1);
    g_assert_true(g_file_get_contents(s.data, &index, &len, NULL));
    g_assert_true(g_file_get_contents(pack, &packed, &packed_len, NULL));
    g_autofree char *packs = g_path_get_dirname(pack);
    g_autofree char *roots = g_build_filename(s.f.vault_dir, "roots", NULL);
    g_autofree char *root = g_build_filename(roots, "image+kept", NULL), *kept = NULL;
    gsize kept_len;
    g_assert_true(g_file_get_contents(root, &kept, &kept_len, NULL));
    GRand *r = g_rand_new_with_seed(g_test_rand_int_range(0, G_MAXINT32));
    for (unsigned i = 0; i < rounds; i++) {
        g_autofree char *harmed = g_memdup2(index, len);
        g_assert_true(at_remove_tree(packs, NULL));
        g_assert_true(at_mkdirs(packs, 0750, NULL));
        subject_restore(pack, packed, packed_len);
        harm_at(r, harmed, len);
        g_assert_true(at_remove_tree(roots, NULL));
        g_assert_true(at_mkdirs(roots, 0750, NULL));
        subject_restore(root, kept, kept_len);
        subject_restore(s.data, harmed, len);
        int status = subject_run(&s, "live");
        if (WIFSIGNALED(status)) {
            deaths++;
            g_assert_cmpint(WTERMSIG(status), !=, SIGALRM);
            g_assert_cmpint(access(s.mark, F_OK), ==, 0);
        }
        if (WIFSIGNALED(status) || WEXITSTATUS(status) == NEEDS_RESTART) {
            restarts++;
            status = subject_run(&s, "live");
        }
        g_assert_true(WIFEXITED(status));
        g_assert_cmpint(WEXITSTATUS(status), ==, WHOLE);
        g_assert_cmpint(access(s.mark, F_OK), !=, 0);
    }
    g_test_message("%u damaged indexes: %u deaths, %u restarts, all healed", rounds, deaths,
                   restarts);
    g_rand_free(r);
    subject_end(&s);
}

/* ---- Readers ---- */

/* A process that dies of a signal as if LMDB had met a wild pointer. */
static void die(const char *mark, int sig, bool in_lmdb)
{
    fflush(NULL);
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        at_index_guard_install();
        at_index_guard_enter(mark);
        if (!in_lmdb)
            at_index_guard_leave();
        if (sig == SIGABRT)
            abort();
        raise(sig);
        _exit(0);
    }
    int status;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFSIGNALED(status));
    /* The handlers of a sanitizer, which ours hands on to, end in abort(). */
    g_assert_true(WTERMSIG(status) == sig || WTERMSIG(status) == SIGABRT);
}

static void deaths_are_told(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    g_autoptr(GError) error = NULL;
    struct subject s;
    struct at_verify_report *report;
    subject_begin(&s, 15);
    g_autofree char *path = g_build_filename(s.f.dir, "damage", NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
        die(path, signals[i], false);
        g_assert_cmpint(access(path, F_OK), !=, 0);
        die(path, signals[i], true);
        g_assert_true(at_vault_take_damage(s.f.vault, path, &report, &error));
        g_assert_null(report);
        g_assert_true(at_vault_index_suspect(s.f.vault));
        g_assert_true(at_vault_reindex(s.f.vault, NULL, NULL, NULL, &error));
        g_assert_false(at_vault_index_suspect(s.f.vault));
        g_assert_cmpint(unlink(path), ==, 0);
    }
    expect_whole(&s);
    subject_end(&s);
}

/* A reader of another process tells what it meets, and goes on with the new index. */
static void reader_tells(void)
{
    g_autoptr(GError) error = NULL;
    struct subject s;
    struct at_digest chunk;
    struct at_place place;
    struct at_verify_report *report;
    uint8_t row[AT_PLACE_LEN];
    subject_begin(&s, 16);
    subject_tell(&s);
    some_chunk(&s, &chunk, &place);
    g_autofree char *path = g_build_filename(s.f.dir, "damage", NULL);
    at_place_encode(&chunk, &place, row);
    row[17] ^= 0x40;
    subject_close_vault(&s);
    change_row(&s, &chunk, &chunk, row);
    int status = subject_run(&s, "look");
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, NOT_HEALED);
    fixture_reopen(&s.f);
    g_assert_false(at_vault_index_suspect(s.f.vault));
    g_assert_true(at_vault_take_damage(s.f.vault, path, &report, &error));
    g_assert_true(at_vault_index_suspect(s.f.vault));
    g_assert_true(at_vault_reindex(s.f.vault, NULL, NULL, NULL, &error));
    g_assert_false(at_vault_index_suspect(s.f.vault));
    expect_whole(&s);
    subject_end(&s);
}

int main(int argc, char **argv)
{
    subject_main(argc, argv);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/index/a-bit-of-a-row-that-changed-is-noticed", rows_have_checks);
    g_test_add_func("/vault/index/gc-takes-nothing-for-garbage-that-a-damaged-index-has-lost",
                    gc_of_damaged);
    g_test_add_func("/vault/index/gc-frees-the-rest-when-something-is-lost-for-good", gc_of_lost);
    g_test_add_func("/vault/index/a-verify-that-misses-something-has-it-built-again", verify_tells);
    g_test_add_func("/vault/index/any-damage-costs-a-process-at-most-once", any_damage);
    g_test_add_func("/vault/index/who-dies-in-it-leaves-a-mark", deaths_are_told);
    g_test_add_func("/vault/index/a-reader-tells-the-writer", reader_tells);
    return g_test_run();
}
