/* SPDX-License-Identifier: Apache-2.0 */
/* What vault tests share: a vault in a temporary directory, and seeded random disks. */
#include "disk.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"

void fixture_reopen(struct fixture *f)
{
    g_autoptr(GError) error = NULL;
    at_vault_close(f->vault);
    f->vault = at_vault_open(f->vault_dir, AT_VAULT_WRITE | AT_VAULT_CREATE, (gid_t)-1, &error);
    g_assert_no_error(error);
    g_assert_nonnull(f->vault);
}

void fixture_open(struct fixture *f)
{
    g_autoptr(GError) error = NULL;
    memset(f, 0, sizeof *f);
    /* In memory where possible: these tests sync far more often than they write. */
    f->dir = g_strdup("/dev/shm/atoll-vault-XXXXXX");
    if (!g_mkdtemp(f->dir)) {
        g_free(f->dir);
        f->dir = g_dir_make_tmp("atoll-vault-XXXXXX", &error);
    }
    g_assert_no_error(error);
    f->vault_dir = g_build_filename(f->dir, "vault", NULL);
    fixture_reopen(f);
}

void fixture_close(struct fixture *f)
{
    g_autoptr(GError) error = NULL;
    at_vault_close(f->vault);
    at_remove_tree(f->dir, &error);
    g_assert_no_error(error);
    g_free(f->dir);
    g_free(f->vault_dir);
}

uint8_t *disk_random(GRand *r, size_t size)
{
    uint8_t *disk = g_malloc0(size + 1);
    for (size_t at = 0; at < size;) {
        size_t len = (size_t)g_rand_int_range(r, 1, 400) * 1024;
        if (g_rand_int_range(r, 0, 3))
            len = (len + 4095) / 4096 * 4096;
        len = MIN(len, size - at);
        switch (g_rand_int_range(r, 0, 5)) {
        case 0: /* a hole */
            break;
        case 1: /* something that was there before */
            if (at > 0) {
                size_t from = (size_t)g_rand_double_range(r, 0, (double)at) / 4096 * 4096;
                memmove(disk + at, disk + from, MIN(len, at - from));
                break;
            }
            /* fall through */
        case 2: /* compressible */
            for (size_t i = 0; i < len; i++)
                disk[at + i] = (uint8_t)("abcdefgh"[g_rand_int_range(r, 0, 8)]);
            break;
        default:
            for (size_t i = 0; i < len; i++)
                disk[at + i] = (uint8_t)g_rand_int(r);
        }
        at += len;
    }
    return disk;
}

void ingest(struct fixture *f, const uint8_t *disk, size_t size, struct at_digest *ret_root,
            struct at_tree_stats *ret_stats)
{
    g_autoptr(GError) error = NULL;
    at_autofd fd = memfd_create("disk", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    for (size_t at = 0; at < size; at += 4096) {
        static const uint8_t zero[4096];
        size_t n = MIN(size - at, (size_t)4096);
        if (memcmp(disk + at, zero, n) != 0)
            g_assert_cmpint(pwrite(fd, disk + at, n, (off_t)at), ==, (ssize_t)n);
    }
    struct at_vault_session *session = at_vault_session_begin(f->vault, &error);
    g_assert_no_error(error);
    at_tree_ingest_fd(session, fd, size, NULL, NULL, NULL, ret_root, ret_stats, &error);
    g_assert_no_error(error);
    at_vault_session_end(session);
}

void check_disk(struct at_vault *vault, const struct at_digest *root, const uint8_t *disk,
                size_t size)
{
    g_autoptr(GError) error = NULL;
    struct at_tree *tree = at_tree_open(vault, root, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(at_tree_size(tree), ==, size);
    g_autofree uint8_t *back = g_malloc(size + 1);
    at_tree_read(tree, back, 0, size, &error);
    g_assert_no_error(error);
    g_assert_true(memcmp(back, disk, size) == 0);
    at_tree_close(tree);
}

void set_tree_root(struct fixture *f, const char *name, const struct at_digest *digest)
{
    g_autoptr(GError) error = NULL;
    at_vault_root_set(f->vault, name, AT_ROOT_TREE, digest, &error);
    g_assert_no_error(error);
}

struct at_verify_report *verify_vault(struct fixture *f)
{
    g_autoptr(GError) error = NULL;
    struct at_verify_report *report;
    at_vault_verify(f->vault, 100, NULL, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    return report;
}

char *pack_path(struct fixture *f, unsigned id)
{
    return g_strdup_printf("%s/packs/%08x.pack", f->vault_dir, id);
}

void flip_bit(const char *path, uint64_t at)
{
    at_autofd fd = open(path, O_RDWR);
    uint8_t byte;
    g_assert_cmpint(pread(fd, &byte, 1, (off_t)at), ==, 1);
    byte ^= 0x40;
    g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)at), ==, 1);
}

uint64_t size_of_file(const char *path)
{
    struct stat st;
    g_assert_cmpint(stat(path, &st), ==, 0);
    return (uint64_t)st.st_size;
}
