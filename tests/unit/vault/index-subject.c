/* SPDX-License-Identifier: Apache-2.0 */
/* A vault whose index is damaged, and those who live with it. */
#include "index-subject.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "vault/index.h"

/* A disk with a root; of garbage there is more in the pack than of it. */
void subject_begin(struct subject *s, unsigned seed)
{
    GRand *r = g_rand_new_with_seed(seed);
    struct at_digest gone;
    *s = (struct subject){0};
    fixture_open(&s->f);
    s->disk = disk_random(r, SIZE);
    s->extra = disk_random(r, EXTRA);
    g_autofree uint8_t *garbage = disk_random(r, 3 * SIZE);
    ingest(&s->f, s->disk, SIZE, &s->root, NULL);
    set_tree_root(&s->f, "image/kept", &s->root);
    ingest(&s->f, garbage, 3 * SIZE, &gone, NULL);
    s->data = g_build_filename(s->f.vault_dir, "index", "data.mdb", NULL);
    s->mark = g_build_filename(s->f.vault_dir, AT_INDEX_SUSPECT, NULL);
    g_rand_free(r);
}

void subject_end(struct subject *s)
{
    fixture_close(&s->f);
    g_free(s->disk);
    g_free(s->extra);
    g_free(s->data);
    g_free(s->mark);
}

void subject_close_vault(struct subject *s)
{
    at_vault_close(g_steal_pointer(&s->f.vault));
}

void subject_restore(const char *path, const char *bytes, gsize len)
{
    g_autoptr(GError) error = NULL;
    at_atomic_write(path, bytes, len, 0640, &error);
    g_assert_no_error(error);
}

/* Shown when the test fails. */
G_GNUC_PRINTF(1, 2) static void remark(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_printerr("# %d: %s\n", getpid(), text);
}

/* Whether all of a disk can be read; never wrong bytes. */
static bool reads_disk(struct at_vault *vault, const struct at_digest *root, const uint8_t *disk,
                       uint64_t size)
{
    g_autoptr(GError) local = NULL;
    struct at_tree *tree = at_tree_open(vault, root, &local);
    if (!tree)
        remark("open: %s", local->message);
    bool whole = tree != NULL;
    for (uint64_t at = 0; tree && at < size; at += 65536) {
        uint8_t buf[65536];
        g_autoptr(GError) error = NULL;
        if (!at_tree_read(tree, buf, at, sizeof buf, &error)) {
            remark("read: %s", error->message);
            whole = false;
        }
        if (!error && memcmp(buf, disk + at, sizeof buf) != 0)
            _exit(WRONG_BYTES);
    }
    at_tree_close(tree);
    return whole;
}

/* Also what was put by an earlier life and got its root. */
static bool reads(struct at_vault *vault, const struct subject *s)
{
    struct at_root *extra = NULL;
    bool whole = reads_disk(vault, &s->root, s->disk, SIZE);
    if (at_vault_root_get(vault, "image/extra", &extra, NULL)) {
        whole = whole && reads_disk(vault, &extra->digest, s->extra, EXTRA);
        at_root_free(extra);
    }
    return whole;
}

static void put_extra(struct at_vault *vault, const struct subject *s)
{
    at_autofd fd = memfd_create("extra", MFD_CLOEXEC);
    struct at_digest root;
    if (pwrite(fd, s->extra, EXTRA, 0) != EXTRA)
        _exit(NOT_OPENED);
    struct at_vault_session *session = at_vault_session_begin(vault, NULL);
    if (!session)
        return;
    if (at_tree_ingest_fd(session, fd, EXTRA, NULL, NULL, NULL, &root, NULL, NULL))
        at_vault_root_set(vault, "image/extra", AT_ROOT_TREE, &root, NULL);
    at_vault_session_end(session);
}

static bool verifies(struct at_vault *vault)
{
    struct at_verify_report *report = NULL;
    bool ok = at_vault_verify(vault, 100, NULL, NULL, NULL, &report, NULL);
    for (unsigned i = 0; ok && i < report->problems->len; i++)
        remark("verify: %s", ((struct at_verify_problem *)report->problems->pdata[i])->reason);
    ok = ok && report->problems->len == 0;
    at_verify_report_free(report);
    return ok;
}

/* What a process needs to know: the disk is in files, its name is the root's. */
void subject_tell(const struct subject *s)
{
    g_autofree char *disk = g_build_filename(s->f.dir, "disk", NULL);
    g_autofree char *extra = g_build_filename(s->f.dir, "extra", NULL);
    subject_restore(disk, (const char *)s->disk, SIZE);
    subject_restore(extra, (const char *)s->extra, EXTRA);
}

static void be_told(struct subject *s, char *dir)
{
    g_autofree char *disk = g_build_filename(dir, "disk", NULL);
    g_autofree char *extra = g_build_filename(dir, "extra", NULL);
    *s = (struct subject){.f = {.dir = dir, .vault_dir = g_build_filename(dir, "vault", NULL)}};
    if (!g_file_get_contents(disk, (char **)&s->disk, NULL, NULL) ||
        !g_file_get_contents(extra, (char **)&s->extra, NULL, NULL))
        _exit(NOT_TOLD);
}

static void find_root(struct at_vault *vault, struct subject *s)
{
    struct at_root *root;
    if (!at_vault_root_get(vault, "image/kept", &root, NULL))
        _exit(NOT_TOLD);
    s->root = root->digest;
    at_root_free(root);
}

/* The life of a daemon: it reads, writes, looks after the vault. */
static enum fate live(char *dir)
{
    struct subject s;
    be_told(&s, dir);
    g_autoptr(GError) error = NULL;
    struct at_vault *vault = at_vault_open(s.f.vault_dir, AT_VAULT_WRITE, (gid_t)-1, &error);
    if (!vault) {
        remark("open: %s", error->message);
        return NOT_OPENED;
    }
    find_root(vault, &s);
    reads(vault, &s);
    put_extra(vault, &s);
    verifies(vault);
    if (at_vault_index_suspect(vault) && !at_vault_reindex(vault, NULL, NULL, NULL, NULL))
        return NEEDS_RESTART;
    remark("looked after");
    if (!reads(vault, &s) || !verifies(vault))
        return NOT_HEALED;
    if (!at_vault_gc(vault, NULL, NULL, NULL, NULL, &error)) {
        remark("gc: %s", error->message);
        return NOT_HEALED;
    }
    remark("collected");
    /* Where LMDB took pages for free that are not, its index may have lost rows. */
    if ((!reads(vault, &s) || !verifies(vault)) &&
        (!at_vault_index_suspect(vault) || !at_vault_reindex(vault, NULL, NULL, NULL, NULL) ||
         !reads(vault, &s) || !verifies(vault)))
        return NOT_HEALED;
    if (at_vault_index_suspect(vault) && !at_vault_reindex(vault, NULL, NULL, NULL, NULL))
        return NEEDS_RESTART;
    bool whole = reads(vault, &s);
    at_vault_close(vault);
    return whole ? WHOLE : NOT_HEALED;
}

/* An image server: what cannot be right is refused, and told. */
static enum fate look(char *dir)
{
    struct subject s;
    be_told(&s, dir);
    g_autofree char *path = g_build_filename(dir, "damage", NULL);
    at_vault_report_index_to(path);
    struct at_vault *vault = at_vault_open(s.f.vault_dir, AT_VAULT_READ, (gid_t)-1, NULL);
    if (!vault)
        return NOT_OPENED;
    find_root(vault, &s);
    return reads(vault, &s) ? WHOLE : NOT_HEALED;
}

/* Its wait status. */
int subject_run(const struct subject *s, const char *what)
{
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        alarm(100);
        execl("/proc/self/exe", "subject", what, s->f.dir, NULL);
        _exit(NOT_TOLD);
    }
    int status;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    return status;
}

void subject_main(int argc, char **argv)
{
    if (argc != 3)
        return;
    if (g_str_equal(argv[1], "live"))
        _exit((int)live(argv[2]));
    if (g_str_equal(argv[1], "look"))
        _exit((int)look(argv[2]));
}
