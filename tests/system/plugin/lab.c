/* SPDX-License-Identifier: Apache-2.0 */
/* Making, harming, reading and healing the vault of the damage tests. */
#include "lab.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "lib/at-test.h"
#include "vault/index-row.h"
#include "vault/pack.h"

enum { ISLANDS = 60, RANDOM = 40, TEXT = 40, BLOCKS = 2 * ISLANDS + RANDOM + TEXT };

/* Chunks of one block between holes, so that there are several nodes; bytes that are stored as they
 * are, and text. */
static uint8_t *make_disk(unsigned seed)
{
    uint8_t *disk = g_malloc0(BLOCKS * AT_BLOCK);
    GRand *r = g_rand_new_with_seed(seed);
    for (unsigned i = 0; i < BLOCKS; i++) {
        bool text = i >= BLOCKS - TEXT, hole = i < 2 * ISLANDS && i % 2;
        for (unsigned k = 0; k < AT_BLOCK && !hole; k++)
            disk[i * AT_BLOCK + k] =
                text ? (uint8_t)('a' + g_rand_int_range(r, 0, 4)) : (uint8_t)g_rand_int(r);
    }
    g_rand_free(r);
    return disk;
}

static struct at_vault *open_writer(const struct lab *lab)
{
    g_autoptr(GError) error = NULL;
    struct at_vault *vault =
        at_vault_open(lab->vault_dir, AT_VAULT_WRITE | AT_VAULT_CREATE, server_group(), &error);
    g_assert_no_error(error);
    return vault;
}

static void put_disks(struct lab *lab, struct at_vault *vault)
{
    for (unsigned i = 0; i < LAB_DISKS; i++) {
        g_autoptr(GError) error = NULL;
        struct at_vault_session *session = at_vault_session_begin(vault, &error);
        const char *path = at_test_file_bytes(lab->dir, "disk.raw", lab->disks[i], lab->size);
        at_autofd fd = open(path, O_RDONLY | O_CLOEXEC);
        at_tree_ingest_fd(session, fd, lab->size, NULL, NULL, NULL, &lab->roots[i], NULL, &error);
        g_assert_no_error(error);
        at_vault_root_set(vault, i == LAB_HIT ? "image/hit" : "image/whole", AT_ROOT_TREE,
                          &lab->roots[i], &error);
        g_assert_no_error(error);
        at_vault_session_end(session);
    }
}

static bool note_record(const struct at_record *record, uint64_t offset, const uint8_t *payload,
                        void *user, GError **error)
{
    struct lab *lab = user;
    const struct lab_record r = {offset, *record};
    g_array_append_val(lab->records, r);
    if (record->kind == AT_KIND_DISK && !lab->of_whole)
        lab->of_whole = lab->records->len;
    return true;
}

static void copy_tree(const char *from, const char *to)
{
    g_autoptr(GError) error = NULL;
    at_remove_tree(to, &error);
    g_assert_no_error(error);
    const char *argv[] = {"cp", "-a", from, to, NULL};
    g_assert_cmpint(at_test_run(argv, 20000, NULL), ==, 0);
}

void lab_open(struct lab *lab)
{
    g_autoptr(GError) error = NULL;
    memset(lab, 0, sizeof *lab);
    lab->dir = at_test_dir();
    lab->vault_dir = at_test_path(lab->dir, "vault");
    lab->pristine = at_test_path(lab->dir, "pristine");
    lab->pack = at_test_path(lab->vault_dir, "packs/00000001.pack");
    lab->index = at_test_path(lab->vault_dir, "index");
    lab->size = BLOCKS * AT_BLOCK;
    for (unsigned i = 0; i < LAB_DISKS; i++)
        lab->disks[i] = make_disk(100 + i);
    struct at_vault *vault = open_writer(lab);
    put_disks(lab, vault);
    at_vault_close(vault);
    /* Eight megabytes of nothing need not be copied each time. */
    g_assert_cmpint(unlink(at_test_path(lab->vault_dir, "reserve")), ==, 0);
    copy_tree(lab->vault_dir, lab->pristine);

    lab->records = g_array_new(FALSE, FALSE, sizeof(struct lab_record));
    at_autofd fd = open(lab->pack, O_RDONLY | O_CLOEXEC);
    uint64_t end, size = (uint64_t)lseek(fd, 0, SEEK_END);
    at_pack_scan(fd, AT_PACK_HEADER, size, note_record, lab, &end, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(end, ==, size);
}

void lab_close(struct lab *lab)
{
    for (unsigned i = 0; i < LAB_DISKS; i++)
        g_free(lab->disks[i]);
    g_array_unref(lab->records);
}

const struct lab_record *lab_record(const struct lab *lab, uint8_t kind, unsigned nth)
{
    for (unsigned i = 0; i < lab->of_whole; i++) {
        const struct lab_record *r = &g_array_index(lab->records, struct lab_record, i);
        if (r->record.kind == kind && nth-- == 0)
            return r;
    }
    g_error("the disk has not so many records of kind %u", kind);
}

void lab_renew(struct lab *lab)
{
    copy_tree(lab->pristine, lab->vault_dir);
}

/* ---- Harm ---- */

void lab_write(struct lab *lab, uint64_t offset, const void *bytes, size_t len)
{
    at_autofd fd = open(lab->pack, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, bytes, len, (off_t)offset), ==, (ssize_t)len);
}

void lab_flip(struct lab *lab, uint64_t offset)
{
    at_autofd fd = open(lab->pack, O_RDONLY | O_CLOEXEC);
    uint8_t byte;
    g_assert_cmpint(pread(fd, &byte, 1, (off_t)offset), ==, 1);
    byte ^= 0x10;
    lab_write(lab, offset, &byte, 1);
}

void lab_cut(struct lab *lab, uint64_t size)
{
    g_assert_cmpint(truncate(lab->pack, (off_t)size), ==, 0);
}

void lab_row(struct lab *lab, const char *table, const void *key, size_t key_len, const void *value,
             size_t len)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val k = {key_len, (void *)key}, v = {len, (void *)value};
    g_assert_cmpint(mdb_env_create(&env), ==, 0);
    g_assert_cmpint(mdb_env_set_maxdbs(env, 4), ==, 0);
    g_assert_cmpint(mdb_env_open(env, lab->index, 0, 0640), ==, 0);
    g_assert_cmpint(mdb_txn_begin(env, NULL, 0, &txn), ==, 0);
    g_assert_cmpint(mdb_dbi_open(txn, table, 0, &dbi), ==, 0);
    g_assert_cmpint(value ? mdb_put(txn, dbi, &k, &v, 0) : mdb_del(txn, dbi, &k, NULL), ==, 0);
    g_assert_cmpint(mdb_txn_commit(txn), ==, 0);
    mdb_env_close(env);
}

void lab_place(struct lab *lab, const struct at_digest *digest, const struct at_place *place)
{
    uint8_t row[AT_PLACE_LEN];
    at_place_encode(digest, place, row);
    lab_row(lab, "object", digest, AT_DIGEST_LEN, row, sizeof row);
}

/* ---- Reading ---- */

static unsigned read_disk(const struct lab *lab, const struct server *server, unsigned which)
{
    g_autofree char *uri = server_uri(server, &lab->roots[which]);
    struct nbd_handle *nbd = server_connect(server, uri);
    if (!nbd)
        return BLOCKS;
    unsigned refused = 0;
    for (size_t at = 0; at < lab->size; at += AT_BLOCK) {
        uint8_t buf[AT_BLOCK];
        if (nbd_pread(nbd, buf, sizeof buf, at, 0) == 0) {
            g_assert_cmpmem(buf, sizeof buf, lab->disks[which] + at, AT_BLOCK);
        } else {
            g_assert_cmpint(nbd_get_errno(), ==, EIO);
            refused++;
        }
    }
    nbd_close(nbd);
    return refused;
}

void lab_read(struct lab *lab, struct lab_reading *ret_reading)
{
    struct server server;
    server_start(&server, lab->dir, lab->vault_dir);
    for (unsigned i = 0; i < LAB_DISKS; i++) {
        ret_reading->refused[i] = read_disk(lab, &server, i);
        g_assert_cmpuint(read_disk(lab, &server, i), ==, ret_reading->refused[i]);
    }
    server_stop(&server);
    g_assert_true(g_file_get_contents(server.log, &ret_reading->log, NULL, NULL));
}

unsigned lab_lines(const char *log, const char *what)
{
    unsigned n = 0;
    g_auto(GStrv) lines = g_strsplit(log, "\n", -1);
    for (char **line = lines; *line; line++)
        n += strstr(*line, what) != NULL;
    return n;
}

unsigned lab_lines_on(const char *log, const struct at_digest *digest)
{
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(digest, hex);
    return lab_lines(log, hex);
}

/* ---- Healing ---- */

static unsigned count_problems(struct at_vault *vault)
{
    g_autoptr(GError) error = NULL;
    struct at_verify_report *report;
    struct at_vault_stats stats;
    at_vault_verify(vault, 100, NULL, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    unsigned n = report->problems->len;
    for (unsigned i = 0; i < n; i++) {
        const struct at_verify_problem *p = report->problems->pdata[i];
        g_assert_nonnull(p->reason);
    }
    at_verify_report_free(report);
    g_assert_true(at_test_ok(at_vault_stats(vault, &stats, &error), &error));
    g_assert_cmpuint(stats.quarantined, ==, n);
    return n;
}

unsigned lab_heal(struct lab *lab)
{
    struct at_vault *vault = open_writer(lab);
    unsigned n = count_problems(vault);
    put_disks(lab, vault);
    g_assert_cmpuint(count_problems(vault), ==, 0);
    at_vault_close(vault);
    struct lab_reading reading;
    lab_read(lab, &reading);
    g_assert_cmpuint(reading.refused[LAB_HIT] + reading.refused[LAB_WHOLE], ==, 0);
    g_free(reading.log);
    return n;
}
