/* SPDX-License-Identifier: Apache-2.0 */
/* Properties of random disks, by seed: what was put is what a real nbdkit gives, and a disk with
 * changes has the root that an ingest of the same bytes has. ATOLL_CASES sets how many are tried.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "lib/at-test.h"
#include "server.h"
#include "vault/format.h"
#include "vault/tree.h"

enum { CASES = 100, SEED = 20261126 };

struct state {
    uint8_t *bytes;
    size_t size;
};

/* From nothing at all to some megabytes, seldom a multiple of anything. */
static size_t random_size(GRand *r)
{
    switch (g_rand_int_range(r, 0, 6)) {
    case 0:
        return (size_t)g_rand_int_range(r, 0, 3 * AT_BLOCK);
    case 1:
        return (size_t)g_rand_int_range(r, 1, 64) * AT_BLOCK;
    case 2:
        return (size_t)g_rand_int_range(r, 1 << 20, 4 << 20);
    default:
        return (size_t)g_rand_int_range(r, 1, 1 << 20);
    }
}

static void fill(GRand *r, uint8_t *p, size_t len)
{
    switch (g_rand_int_range(r, 0, 4)) {
    case 0: /* a run of one byte, which may be zero */
        memset(p, g_rand_int_range(r, 0, 3), len);
        break;
    case 1: /* text */
        for (size_t i = 0; i < len; i++)
            p[i] = (uint8_t)("0123456789abcdef\n"[g_rand_int_range(r, 0, 17)]);
        break;
    case 2: { /* what other disks have, too: one of a few streams */
        g_autoptr(GRand) same = g_rand_new_with_seed((guint32)g_rand_int_range(r, 0, 4));
        for (size_t i = 0; i + 4 <= len; i += 4) {
            guint32 x = g_rand_int(same);
            memcpy(p + i, &x, sizeof x);
        }
        break;
    }
    default:
        for (size_t i = 0; i + 4 <= len; i += 4) {
            guint32 x = g_rand_int(r);
            memcpy(p + i, &x, sizeof x);
        }
    }
}

static struct state random_disk(GRand *r)
{
    struct state s = {.size = random_size(r)};
    s.bytes = g_malloc0(s.size + 1);
    for (size_t at = 0; at < s.size;) {
        size_t len = (size_t)g_rand_int_range(r, 1, 300000);
        if (g_rand_boolean(r))
            len = (len + AT_BLOCK - 1) / AT_BLOCK * AT_BLOCK;
        len = MIN(len, s.size - at);
        if (g_rand_int_range(r, 0, 4))
            fill(r, s.bytes + at, len);
        at += len;
    }
    return s;
}

static void ingest(struct at_vault_session *session, const struct state *s,
                   struct at_digest *ret_root)
{
    g_autoptr(GError) error = NULL;
    at_autofd fd = memfd_create("disk", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(fd, (off_t)s->size), ==, 0);
    for (size_t at = 0; at < s->size; at += AT_BLOCK) {
        static const uint8_t zeros[AT_BLOCK];
        size_t n = MIN(s->size - at, (size_t)AT_BLOCK);
        if (memcmp(s->bytes + at, zeros, n) != 0)
            g_assert_cmpint(pwrite(fd, s->bytes + at, n, (off_t)at), ==, (ssize_t)n);
    }
    at_tree_ingest_fd(session, fd, s->size, NULL, NULL, NULL, ret_root, NULL, &error);
    g_assert_no_error(error);
}

/* What a guest's overlay would hold above @s: ranges of data and of discarded blocks, perhaps with
 * another size; @s becomes what the disk is then. */
static void overlay(GRand *r, struct at_vault_session *session, const struct at_digest *base,
                    struct state *s, struct at_digest *ret_root)
{
    g_autoptr(GError) error = NULL;
    size_t size = g_rand_int_range(r, 0, 3) ? s->size : random_size(r);
    s->bytes = g_realloc(s->bytes, size + 1);
    if (size > s->size)
        memset(s->bytes + s->size, 0, size - s->size);
    s->size = size;
    struct at_tree_writer *w = at_tree_writer_new(session, base, size, &error);
    g_assert_no_error(error);
    size_t unit = g_rand_boolean(r) ? AT_BLOCK : g_rand_boolean(r) ? 512 : 1;
    for (size_t at = 0; at < size;) {
        size_t skip = (size_t)g_rand_int_range(r, 0, 400000) / unit * unit;
        size_t len =
            ((size_t)g_rand_int_range(r, 0, g_rand_boolean(r) ? 9000 : 200000) / unit + 1) * unit;
        at += skip;
        if (at >= size)
            break;
        len = MIN(len, size - at);
        if (g_rand_int_range(r, 0, 4)) {
            fill(r, s->bytes + at, len);
            at_tree_writer_data(w, at, s->bytes + at, len, &error);
        } else {
            memset(s->bytes + at, 0, len);
            at_tree_writer_zero(w, at, len, &error);
        }
        g_assert_no_error(error);
        at += len;
    }
    at_tree_writer_finish(w, ret_root, NULL, &error);
    g_assert_no_error(error);
    at_tree_writer_free(w);
}

/* All of it in requests of any size and alignment, and pieces at random. */
static void read_back(GRand *r, const struct server *server, const struct at_digest *root,
                      const struct state *s)
{
    g_autofree char *uri = server_uri(server, root);
    struct nbd_handle *nbd = server_connect(server, uri);
    g_assert_nonnull(nbd);
    g_assert_cmpint(nbd_get_size(nbd), ==, (int64_t)s->size);
    g_autofree uint8_t *back = g_malloc(s->size + 1);
    for (size_t at = 0; at < s->size;) {
        size_t n = (size_t)g_rand_int_range(r, 1, 600000);
        n = MIN(n, s->size - at);
        g_assert_cmpint(nbd_pread(nbd, back + at, n, at, 0), ==, 0);
        at += n;
    }
    g_assert_true(memcmp(back, s->bytes, s->size) == 0);
    for (unsigned i = 0; i < 10 && s->size; i++) {
        size_t at = (size_t)g_rand_double_range(r, 0, (double)s->size);
        size_t n = (size_t)g_rand_int_range(r, 1, 9000);
        n = MIN(n, s->size - at);
        g_assert_cmpint(nbd_pread(nbd, back, n, at, 0), ==, 0);
        g_assert_true(memcmp(back, s->bytes + at, n) == 0);
    }
    nbd_close(nbd);
}

static void one_case(unsigned seed, struct at_vault *vault, const struct server *server)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GRand) r = g_rand_new_with_seed(seed);
    struct at_digest root, changed, again;
    g_test_message("seed %u", seed);
    struct state s = random_disk(r);
    struct at_vault_session *session = at_vault_session_begin(vault, &error);
    ingest(session, &s, &root);
    read_back(r, server, &root, &s);
    for (int n = g_rand_int_range(r, 1, 3); n > 0; n--) {
        overlay(r, session, &root, &s, &changed);
        ingest(session, &s, &again);
        if (!at_digest_equal(&changed, &again))
            g_error("seed %u: the changed disk has another root than its bytes", seed);
        root = changed;
    }
    read_back(r, server, &root, &s);
    at_vault_session_end(session);
    g_free(s.bytes);
}

static void properties(void)
{
    if (!at_test_needs_program("nbdkit"))
        return;
    g_autoptr(GError) error = NULL;
    const char *cases = g_getenv("ATOLL_CASES");
    struct server server;
    const char *dir = at_test_dir(), *vault_dir = at_test_path(dir, "vault");
    struct at_vault *vault =
        at_vault_open(vault_dir, AT_VAULT_WRITE | AT_VAULT_CREATE, server_group(), &error);
    g_assert_no_error(error);
    server_start(&server, dir, vault_dir);
    for (int i = 0; i < (cases ? atoi(cases) : CASES); i++)
        one_case(SEED + (unsigned)i, vault, &server);
    server_stop(&server);
    at_vault_close(vault);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/properties/random-disks-and-overlays-read-back-and-have-one-root",
                    properties);
    return g_test_run();
}
