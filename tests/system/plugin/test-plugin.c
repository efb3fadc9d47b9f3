/* SPDX-License-Identifier: Apache-2.0 */
/* A real nbdkit with the atoll plugin in front of a vault, asked by libnbd, qemu-img and nbdcopy.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "lib/at-test.h"
#include "server.h"
#include "vault/format.h"
#include "vault/maintenance.h"

#define SIZE ((16u << 20) + 1000)

struct rig {
    const char *dir;
    const char *vault_dir;
    const char *raw; /* the disk as a file */
    uint8_t *disk;
    struct at_vault *vault;
    struct at_digest root;
    struct server server;
};

/* Data at both ends and between holes; half of it compresses. */
static uint8_t *make_disk(unsigned seed)
{
    uint8_t *disk = g_malloc0(SIZE);
    GRand *r = g_rand_new_with_seed(seed);
    for (size_t at = 0; at < SIZE; at++) {
        size_t part = at >> 19;
        if (part % 3 == 0)
            disk[at] = (uint8_t)g_rand_int(r);
        else if (part % 3 == 1)
            disk[at] = (uint8_t)('a' + at / 7 % 3 + g_rand_int_range(r, 0, 2));
    }
    g_rand_free(r);
    return disk;
}

static void put(struct rig *rig, const uint8_t *disk, struct at_digest *ret_root)
{
    g_autoptr(GError) error = NULL;
    struct at_vault_session *session = at_vault_session_begin(rig->vault, &error);
    at_autofd fd = open(at_test_file_bytes(rig->dir, "disk.raw", disk, SIZE), O_RDONLY);
    at_tree_ingest_fd(session, fd, SIZE, NULL, NULL, NULL, ret_root, NULL, &error);
    g_assert_no_error(error);
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(ret_root, hex);
    g_autofree char *name = g_strconcat("image/", hex, NULL);
    at_vault_root_set(rig->vault, name, AT_ROOT_TREE, ret_root, &error);
    g_assert_no_error(error);
    at_vault_session_end(session);
}

static char *uri(struct rig *rig, const struct at_digest *root)
{
    return server_uri(&rig->server, root);
}

static struct nbd_handle *connect_to(struct rig *rig, const char *to)
{
    return server_connect(&rig->server, to);
}

/* A vault with one disk and an nbdkit of another user (when we are root) in front of it. */
static void rig_start(struct rig *rig)
{
    g_autoptr(GError) error = NULL;
    memset(rig, 0, sizeof *rig);
    rig->dir = at_test_dir();
    rig->vault_dir = at_test_path(rig->dir, "vault");
    rig->raw = at_test_path(rig->dir, "disk.raw");
    rig->vault =
        at_vault_open(rig->vault_dir, AT_VAULT_WRITE | AT_VAULT_CREATE, server_group(), &error);
    g_assert_no_error(error);
    rig->disk = make_disk(1);
    put(rig, rig->disk, &rig->root);
    server_start(&rig->server, rig->dir, rig->vault_dir);
}

static void rig_stop(struct rig *rig)
{
    server_stop(&rig->server);
    at_vault_close(rig->vault);
    g_free(rig->disk);
}

static void serves(void)
{
    if (!at_test_needs_program("nbdkit") || !at_test_needs_program("qemu-img") ||
        !at_test_needs_program("nbdcopy"))
        return;
    struct rig rig;
    rig_start(&rig);
    g_autofree char *to = uri(&rig, &rig.root);
    const char *compare[] = {"qemu-img", "compare", "-f", "raw", "-F", "raw", rig.raw, to, NULL};
    g_autofree char *out = NULL;
    if (at_test_run(compare, 60000, &out) != 0)
        g_error("%s", out);

    const char *back = at_test_path(rig.dir, "back.raw");
    const char *nbdcopy[] = {"nbdcopy", to, back, NULL};
    g_assert_cmpint(at_test_run(nbdcopy, 60000, NULL), ==, 0);
    const char *cmp[] = {"cmp", rig.raw, back, NULL};
    g_assert_cmpint(at_test_run(cmp, 60000, NULL), ==, 0);

    /* A disk that is put while nbdkit runs. */
    g_autofree uint8_t *later = make_disk(2);
    struct at_digest root;
    put(&rig, later, &root);
    g_autofree char *to_later = uri(&rig, &root);
    compare[7] = to_later;
    g_assert_cmpint(at_test_run(compare, 60000, NULL), ==, 0);
    rig_stop(&rig);
}

static int note_extent(void *user, const char *context, uint64_t offset, uint32_t *entries,
                       size_t n, int *error)
{
    const uint8_t *disk = ((struct rig *)user)->disk;
    for (size_t i = 0; i + 1 < n; i += 2) {
        bool hole = entries[i + 1] & LIBNBD_STATE_HOLE;
        for (uint64_t at = offset; hole && at < offset + entries[i]; at++)
            g_assert_cmpuint(disk[at], ==, 0);
        offset += entries[i];
    }
    return 0;
}

static void tells(void)
{
    if (!at_test_needs_program("nbdkit"))
        return;
    struct rig rig;
    rig_start(&rig);
    g_autofree char *to = uri(&rig, &rig.root);
    struct nbd_handle *nbd = connect_to(&rig, to);
    g_assert_nonnull(nbd);
    g_assert_cmpint(nbd_get_size(nbd), ==, SIZE);
    g_assert_cmpint(nbd_is_read_only(nbd), ==, 1);
    g_assert_cmpint(nbd_can_multi_conn(nbd), ==, 1);
    g_assert_cmpint(nbd_get_block_size(nbd, LIBNBD_SIZE_PREFERRED), ==, 4096);
    nbd_extent_callback cb = {.callback = note_extent, .user_data = &rig};
    g_assert_cmpint(nbd_block_status(nbd, SIZE, 0, cb, 0), ==, 0);
    GRand *r = g_rand_new_with_seed(5);
    for (int i = 0; i < 300; i++) {
        uint8_t buf[70000];
        size_t len = (size_t)g_rand_int_range(r, 1, sizeof buf);
        uint64_t at = (uint64_t)g_rand_int_range(r, 0, (gint32)(SIZE - len));
        g_assert_cmpint(nbd_pread(nbd, buf, len, at, 0), ==, 0);
        g_assert_true(memcmp(buf, rig.disk + at, len) == 0);
    }
    g_rand_free(r);
    nbd_close(nbd);
    rig_stop(&rig);
}

static void refuses(void)
{
    if (!at_test_needs_program("nbdkit"))
        return;
    struct rig rig;
    rig_start(&rig);
    struct at_digest none = rig.root;
    none.bytes[0] ^= 1;
    g_autofree char *unknown = uri(&rig, &none);
    g_autofree char *nameless = g_strdup_printf("nbd+unix:///?socket=%s", rig.server.socket);
    g_assert_null(connect_to(&rig, unknown));
    g_assert_null(connect_to(&rig, nameless));
    struct at_digest manifest;
    g_autoptr(GError) error = NULL;
    struct at_vault_session *session = at_vault_session_begin(rig.vault, &error);
    g_assert_true(at_vault_blob_put(session, "{}", 2, &manifest, &error));
    at_vault_session_end(session);
    g_autofree char *not_a_disk = uri(&rig, &manifest);
    g_assert_null(connect_to(&rig, not_a_disk));
    g_autofree char *good = uri(&rig, &rig.root);
    struct nbd_handle *nbd = connect_to(&rig, good);
    g_assert_nonnull(nbd);
    nbd_close(nbd);
    rig_stop(&rig);
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

/* A byte in the middle of the pack, which is of a chunk: nodes come last. */
static void damage_chunk(struct rig *rig)
{
    g_autofree char *pack = g_strdup_printf("%s/packs/00000001.pack", rig->vault_dir);
    struct stat st;
    at_autofd fd = open(pack, O_RDWR);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    uint8_t byte;
    g_assert_cmpint(pread(fd, &byte, 1, st.st_size / 2), ==, 1);
    byte ^= 1;
    g_assert_cmpint(pwrite(fd, &byte, 1, st.st_size / 2), ==, 1);
}

/* Reads all blocks; each is right, or refused and counted. */
static unsigned read_all(struct rig *rig)
{
    g_autofree char *to = uri(rig, &rig->root);
    struct nbd_handle *nbd = connect_to(rig, to);
    g_assert_nonnull(nbd);
    unsigned refused = 0;
    for (uint64_t at = 0; at + 4096 <= SIZE; at += 4096) {
        uint8_t buf[4096];
        if (nbd_pread(nbd, buf, sizeof buf, at, 0) == 0) {
            g_assert_true(memcmp(buf, rig->disk + at, sizeof buf) == 0);
        } else {
            g_assert_cmpint(nbd_get_errno(), ==, EIO);
            refused++;
        }
    }
    nbd_close(nbd);
    return refused;
}

static void bad_chunk(void)
{
    if (!at_test_needs_program("nbdkit"))
        return;
    struct rig rig;
    rig_start(&rig);
    damage_chunk(&rig);
    for (int pass = 0; pass < 3; pass++)
        g_assert_cmpuint(read_all(&rig), >, 0);
    g_autoptr(GError) error = NULL;
    struct at_verify_report *report;
    g_assert_true(at_vault_verify(rig.vault, 100, NULL, NULL, NULL, &report, &error));
    g_assert_cmpuint(report->problems->len, ==, 1);
    struct at_verify_problem *problem = g_ptr_array_index(report->problems, 0);
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(&problem->chunk, hex);
    g_autofree char *log = NULL;
    g_assert_true(g_file_get_contents(rig.server.log, &log, NULL, NULL));
    g_assert_cmpuint(count(log, hex), ==, 1);
    at_verify_report_free(report);
    rig_stop(&rig);
}

/* What a guest's read meets reaches the writer, and putting the same content again heals it. */
static void reports(void)
{
    if (!at_test_needs_program("nbdkit"))
        return;
    g_autoptr(GError) error = NULL;
    struct rig rig;
    struct at_verify_report *report = NULL;
    struct at_vault_stats stats;
    rig_start(&rig);
    damage_chunk(&rig);
    g_assert_cmpuint(read_all(&rig), >, 0);
    g_assert_cmpuint(read_all(&rig), >, 0);
    struct stat st;
    g_assert_cmpint(stat(rig.server.damage, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, AT_DIGEST_HEX + 1);
    g_assert_true(at_vault_take_damage(rig.vault, rig.server.damage, &report, &error));
    g_assert_nonnull(report);
    g_assert_cmpuint(report->problems->len, ==, 1);
    at_verify_report_free(report);
    g_assert_true(at_vault_take_damage(rig.vault, rig.server.damage, &report, &error));
    g_assert_null(report);
    g_assert_true(at_vault_stats(rig.vault, &stats, &error));
    g_assert_cmpuint(stats.quarantined, ==, 1);
    put(&rig, rig.disk, &rig.root);
    g_assert_cmpuint(read_all(&rig), ==, 0);
    g_assert_true(at_vault_stats(rig.vault, &stats, &error));
    g_assert_cmpuint(stats.quarantined, ==, 0);
    rig_stop(&rig);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/plugin/another-user-serves-the-disk-bit-for-bit-also-one-put-later", serves);
    g_test_add_func("/plugin/tells-size-holes-and-that-it-is-read-only", tells);
    g_test_add_func("/plugin/refuses-unknown-exports-and-goes-on", refuses);
    g_test_add_func("/plugin/a-bad-chunk-is-an-EIO-and-one-log-line", bad_chunk);
    g_test_add_func("/plugin/damage-is-reported-and-healed-by-the-next-put", reports);
    return g_test_run();
}
