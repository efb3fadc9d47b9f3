/* SPDX-License-Identifier: Apache-2.0 */
/* A process that dies, or whose writes fail, at every fault point of the vault in turn: whatever it
 * had acknowledged is whole afterwards.  The process is this program again, with --child. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "disk.h"

#define SIZE (1u << 20)
#define DISKS 4

static const char *const points[] = {
    "vault.pack.create",  "vault.pack.write",   "vault.pack.sync",   "vault.packs.sync-dir",
    "vault.index.commit", "vault.root.publish", "vault.root.remove", "vault.pack.empty",
    "vault.pack.unlink",  "vault.index.swap",   "atomic-file.write", "vault.pack.read",
};

static uint8_t *make_disk(unsigned i)
{
    GRand *r = g_rand_new_with_seed(100 + i);
    uint8_t *disk = disk_random(r, SIZE);
    g_rand_free(r);
    return disk;
}

/* What is certain is a line in the file: "+N" root N is set, "-N" it may be gone. */
static void say(int fd, char sign, unsigned i)
{
    char line[8];
    int n = snprintf(line, sizeof line, "%c%u\n", sign, i);
    g_assert_cmpint(write(fd, line, (size_t)n), ==, n);
}

static bool put(struct at_vault *vault, unsigned i, const struct at_digest *base,
                struct at_digest *ret_root)
{
    g_autofree uint8_t *disk = make_disk(i);
    g_autofree char *name = g_strdup_printf("disk/%u", i);
    struct at_vault_session *session = at_vault_session_begin(vault, NULL);
    struct at_tree_writer *w = at_tree_writer_new(session, base, SIZE, NULL);
    bool ok = w && at_tree_writer_data(w, 0, disk, SIZE, NULL) &&
              at_tree_writer_finish(w, ret_root, NULL, NULL) &&
              at_vault_root_set(vault, name, AT_ROOT_TREE, ret_root, NULL);
    at_tree_writer_free(w);
    at_vault_session_end(session);
    return ok;
}

/* Everything a daemon does to a vault, a few times; goes on after errors. */
static void work(struct at_vault *vault, int acks)
{
    struct at_digest root[DISKS];
    for (unsigned i = 0; i < DISKS; i++) {
        if (put(vault, i, NULL, &root[i]))
            say(acks, '+', i);
        if (i % 2 == 1) {
            g_autofree char *name = g_strdup_printf("disk/%u", i - 1);
            say(acks, '-', i - 1);
            at_vault_root_remove(vault, name, NULL);
            at_vault_gc(vault, NULL, NULL, NULL, NULL, NULL);
            at_vault_reindex(vault, NULL, NULL, NULL, NULL);
        }
    }
}

static int child(const char *dir, const char *acks_path)
{
    g_autoptr(GError) error = NULL;
    at_autofd acks = open(acks_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    struct at_vault *vault =
        at_vault_open(dir, AT_VAULT_WRITE | AT_VAULT_CREATE, (gid_t)-1, &error);
    if (!vault)
        return 1;
    work(vault, acks);
    at_vault_close(vault);
    return 0;
}

/* Opens, verifies, and compares all that was acknowledged. */
static void check(struct fixture *f, const char *acks)
{
    g_autoptr(GError) error = NULL;
    bool set[DISKS] = {false};
    for (const char *p = acks; *p; p = strchr(p, '\n') + 1)
        set[p[1] - '0'] = p[0] == '+';
    fixture_reopen(f);
    struct at_verify_report *report;
    at_vault_verify(f->vault, 100, NULL, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(report->problems->len, ==, 0);
    at_verify_report_free(report);
    for (unsigned i = 0; i < DISKS; i++) {
        g_autofree char *name = g_strdup_printf("disk/%u", i);
        struct at_root *root;
        if (!at_vault_root_get(f->vault, name, &root, NULL)) {
            g_assert_false(set[i]);
            continue;
        }
        g_autofree uint8_t *disk = make_disk(i);
        check_disk(f->vault, &root->digest, disk, SIZE);
        at_root_free(root);
    }
    /* And it works on: gc leaves exactly what the roots need. */
    at_vault_gc(f->vault, NULL, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    at_vault_verify(f->vault, 100, NULL, NULL, NULL, &report, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(report->problems->len, ==, 0);
    at_verify_report_free(report);
}

/* One run of the child with a fault; returns whether the fault was met. */
static bool run(const char *point, const char *action, unsigned nth)
{
    g_autoptr(GError) error = NULL;
    struct fixture f;
    fixture_open(&f);
    at_vault_close(g_steal_pointer(&f.vault));
    g_autofree char *acks_path = g_build_filename(f.dir, "acks", NULL);
    g_autofree char *plan = g_strdup_printf("ATOLL_FAULT=%s:%s:%u", point, action, nth);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    char *argv[] = {self, (char *)"--child", f.vault_dir, acks_path, NULL};
    char *envp[] = {plan, NULL};
    int status;
    g_spawn_sync(NULL, argv, envp, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL, &status, &error);
    g_assert_no_error(error);
    g_autofree char *acks = NULL;
    if (!g_file_get_contents(acks_path, &acks, NULL, NULL))
        acks = g_strdup("");
    check(&f, acks);
    fixture_close(&f);
    if (strcmp(action, "kill") == 0)
        return WIFSIGNALED(status);
    return strstr(acks, "+0\n+1\n-0\n+2\n+3\n-2\n") == NULL;
}

static void killed(void)
{
    unsigned met = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(points); i++) {
        /* Reading changes nothing: a few places will do. */
        unsigned step = strcmp(points[i], "vault.pack.read") == 0 ? 23 : 1;
        for (unsigned nth = 1; run(points[i], "kill", nth) && nth < 400; nth += step)
            met++;
    }
    g_test_message("killed at %u places", met);
    g_assert_cmpuint(met, >, 30);
}

static void failing(void)
{
    static const char *const actions[] = {"ENOSPC", "EIO"};
    unsigned met = 0;
    for (unsigned a = 0; a < G_N_ELEMENTS(actions); a++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(points); i++) {
            if (a == 1 && strstr(points[i], "sync") == NULL && !g_test_slow())
                continue;
            for (unsigned nth = 1; nth <= (g_test_slow() ? 64 : 9); nth += g_test_slow() ? 1 : 2)
                met += run(points[i], actions[a], nth);
            if (!g_test_slow() && i > 6)
                break;
        }
    }
    g_test_message("failures that somebody was told of: %u", met);
    g_assert_cmpuint(met, >, 10);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--child") == 0)
        return child(argv[2], argv[3]);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/crash/killed-anywhere-what-was-acknowledged-is-whole", killed);
    g_test_add_func("/vault/crash/a-failing-write-anywhere-loses-nothing-acknowledged", failing);
    return g_test_run();
}
