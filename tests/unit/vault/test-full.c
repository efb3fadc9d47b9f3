/* SPDX-License-Identifier: Apache-2.0 */
/* A vault on a file system that is full to the last byte. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "disk.h"

#define SIZE (4u << 20)

struct full {
    struct fixture f;
    uint8_t *kept, *lost;
    struct at_digest root;
};

/* Writes until nothing more can be written. */
static void fill(struct full *full)
{
    g_autofree char *path = g_build_filename(full->f.dir, "filler", NULL);
    g_autofree char *zeros = g_malloc0(1 << 20);
    at_autofd fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    for (size_t len = 1 << 20; len >= 512; len /= 2) {
        while (write(fd, zeros, len) > 0)
            continue;
        g_assert_cmpint(errno, ==, ENOSPC);
    }
}

/* A vault with one disk under a root, and one whose rows were never committed. */
static bool full_open(struct full *full)
{
    g_autoptr(GError) error = NULL;
    memset(full, 0, sizeof *full);
    full->f.dir = g_dir_make_tmp("atoll-full-XXXXXX", &error);
    g_assert_no_error(error);
    full->f.vault_dir = g_build_filename(full->f.dir, "vault", NULL);
    if (mount("tmpfs", full->f.dir, "tmpfs", 0, "size=40m") != 0) {
        g_autofree char *why = g_strdup_printf("cannot mount a tmpfs: %s", g_strerror(errno));
        g_test_skip(why);
        rmdir(full->f.dir);
        return false;
    }
    fixture_reopen(&full->f);
    GRand *r = g_rand_new_with_seed(1);
    full->kept = disk_random(r, SIZE);
    full->lost = disk_random(r, SIZE);
    g_rand_free(r);
    ingest(&full->f, full->kept, SIZE, &full->root, NULL);
    at_vault_root_set(full->f.vault, "image/kept", AT_ROOT_TREE, &full->root, &error);
    g_assert_no_error(error);
    struct at_digest lost;
    struct at_vault_session *session = at_vault_session_begin(full->f.vault, &error);
    struct at_tree_writer *w = at_tree_writer_new(session, NULL, SIZE, &error);
    g_assert_true(at_tree_writer_data(w, 0, full->lost, SIZE, &error));
    at_fault_plan("vault.index.commit:ENOSPC");
    g_assert_false(at_tree_writer_finish(w, &lost, NULL, &error));
    at_fault_plan(NULL);
    g_assert_error(error, AT_ERROR, AT_ERROR_NO_SPACE);
    at_tree_writer_free(w);
    at_vault_session_end(session);
    at_vault_close(g_steal_pointer(&full->f.vault));
    return true;
}

static void full_close(struct full *full)
{
    at_vault_close(full->f.vault);
    g_assert_cmpint(umount(full->f.dir), ==, 0);
    rmdir(full->f.dir);
    g_free(full->f.dir);
    g_free(full->f.vault_dir);
    g_free(full->kept);
    g_free(full->lost);
}

static uint64_t size_of_pack(struct full *full)
{
    g_autofree char *path = g_build_filename(full->f.vault_dir, "packs", "00000001.pack", NULL);
    struct stat st;
    g_assert_cmpint(stat(path, &st), ==, 0);
    return (uint64_t)st.st_size;
}

static void with_reserve(void)
{
    struct full full;
    if (!full_open(&full))
        return;
    uint64_t size = size_of_pack(&full);
    fill(&full);
    fixture_reopen(&full.f);
    g_assert_cmpuint(size_of_pack(&full), ==, size); /* there was space to index it */
    check_disk(full.f.vault, &full.root, full.kept, SIZE);
    full_close(&full);
}

static void without_reserve(void)
{
    g_autoptr(GError) error = NULL;
    struct full full;
    if (!full_open(&full))
        return;
    uint64_t size = size_of_pack(&full);
    g_autofree char *reserve = g_build_filename(full.f.vault_dir, "reserve", NULL);
    g_assert_cmpint(truncate(reserve, 0), ==, 0);
    fill(&full);
    fixture_reopen(&full.f);
    g_assert_cmpuint(size_of_pack(&full), <, size);
    check_disk(full.f.vault, &full.root, full.kept, SIZE);

    /* With space again everything goes on. */
    g_autofree char *filler = g_build_filename(full.f.dir, "filler", NULL);
    g_assert_cmpint(unlink(filler), ==, 0);
    struct at_digest root;
    ingest(&full.f, full.lost, SIZE, &root, NULL);
    check_disk(full.f.vault, &root, full.lost, SIZE);
    at_vault_gc(full.f.vault, NULL, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    check_disk(full.f.vault, &full.root, full.kept, SIZE);
    full_close(&full);
}

/* An index that is older than the roots has missed what they name: that is never cut off. */
static void old_index(void)
{
    g_autoptr(GError) error = NULL;
    struct full full;
    if (!full_open(&full))
        return;
    g_autofree char *data = g_build_filename(full.f.vault_dir, "index", "data.mdb", NULL);
    g_autofree char *old = NULL;
    gsize len;
    g_assert_true(g_file_get_contents(data, &old, &len, NULL));
    fixture_reopen(&full.f);
    struct at_digest root;
    ingest(&full.f, full.lost, SIZE, &root, NULL);
    at_vault_root_set(full.f.vault, "image/later", AT_ROOT_TREE, &root, &error);
    g_assert_no_error(error);
    at_vault_close(g_steal_pointer(&full.f.vault));
    at_autofd fd = open(data, O_WRONLY | O_TRUNC | O_CLOEXEC);
    g_assert_cmpint(write(fd, old, len), ==, (gssize)len);
    at_close_fd(&fd);
    at_fault_plan("vault.index.commit:ENOSPC");
    g_assert_null(at_vault_open(full.f.vault_dir, AT_VAULT_WRITE, (gid_t)-1, &error));
    at_fault_plan(NULL);
    g_assert_error(error, AT_ERROR, AT_ERROR_NO_SPACE);
    fixture_reopen(&full.f);
    check_disk(full.f.vault, &root, full.lost, SIZE);
    full_close(&full);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/full/recovery-uses-the-space-that-is-kept-back", with_reserve);
    g_test_add_func("/vault/full/opens-without-any-space-and-cuts-what-was-never-committed",
                    without_reserve);
    g_test_add_func("/vault/full/what-a-root-names-is-never-cut-also-with-an-old-index", old_index);
    return g_test_run();
}
