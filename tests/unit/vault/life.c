/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a vault: the process that lives it, and what it puts there. */
#include "life.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/retry.h"
#include "lib/at-test.h"
#include "life-internal.h"
#include "vault/vault-internal.h"
#include "vault/walk.h"

#define RANDOM_BLOCKS 24u /* the rest compresses well, every other block is a hole */

const char *const life_names[] = {"disk/0", "disk/1",  "disk/3", "disk/4",
                                  "snap/a", "again/0", "again/5"};
const unsigned life_n_names = G_N_ELEMENTS(life_names);

/* ---- Contents ---- */

static uint8_t *make_content(unsigned k)
{
    GRand *r = g_rand_new_with_seed(1000 + (k == 1 ? 0 : k)); /* 1 is 0 with a few changes */
    uint8_t *disk = g_malloc0(LIFE_SIZE);
    for (size_t i = 0; i < RANDOM_BLOCKS * AT_BLOCK; i += 4) {
        guint32 word = g_rand_int(r);
        memcpy(disk + i, &word, sizeof word);
    }
    for (unsigned b = RANDOM_BLOCKS; b < LIFE_SIZE / AT_BLOCK; b += 2) {
        guint32 word = g_rand_int(r);
        for (size_t i = 0; i < AT_BLOCK; i += 4)
            memcpy(disk + (size_t)b * AT_BLOCK + i, &word, sizeof word);
    }
    if (k == 1) {
        memset(disk + 5 * AT_BLOCK, 'x', AT_BLOCK);
        memset(disk + 60 * AT_BLOCK, 'y', 3 * AT_BLOCK);
    }
    g_rand_free(r);
    return disk;
}

const uint8_t *life_content(unsigned k)
{
    static uint8_t *contents[LIFE_CONTENTS];
    if (!contents[k])
        contents[k] = make_content(k);
    return contents[k];
}

/* The number of the content that the disk @root has, or -1 with @error. */
static int content_of(struct at_vault *vault, const struct at_digest *root, GError **error)
{
    struct at_tree *tree = at_tree_open(vault, root, error);
    if (!tree)
        return -1;
    g_autofree uint8_t *back = g_malloc(LIFE_SIZE);
    int found = -1;
    if (at_tree_size(tree) != LIFE_SIZE) {
        at_error(error, AT_ERROR_CORRUPT, "a disk of another size");
    } else if (at_tree_read(tree, back, 0, LIFE_SIZE, error)) {
        for (unsigned k = 0; k < LIFE_CONTENTS && found < 0; k++)
            found = memcmp(back, life_content(k), LIFE_SIZE) == 0 ? (int)k : -1;
        if (found < 0)
            at_error(error, AT_ERROR_CORRUPT, "bytes that nobody has put");
    }
    at_tree_close(tree);
    return found;
}

char life_what(struct at_vault *vault, const struct at_root *root, GError **error)
{
    if (root->kind == AT_ROOT_TREE) {
        int k = content_of(vault, &root->digest, error);
        return k < 0 ? 0 : (char)('0' + k);
    }
    g_autoptr(GBytes) blob = at_vault_blob_get(vault, &root->digest, error);
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(struct at_digest));
    if (!blob || !at_manifest_disks(blob, disks, error))
        return 0;
    for (unsigned i = 0; i < 2; i++) {
        int k = disks->len == 2
                    ? content_of(vault, &g_array_index(disks, struct at_digest, i), error)
                    : -1;
        if (k != (int)i) {
            if (k >= 0 || disks->len != 2)
                at_error(error, AT_ERROR_CORRUPT, "another manifest");
            return 0;
        }
    }
    return LIFE_MANIFEST;
}

bool life_put(struct at_vault_session *session, unsigned k, const struct at_digest *base,
              unsigned base_k, struct at_digest *ret_root, GError **error)
{
    const uint8_t *now = life_content(k), *old = base ? life_content(base_k) : NULL;
    struct at_tree_writer *w = at_tree_writer_new(session, base, LIFE_SIZE, error);
    bool ok = w != NULL;
    for (size_t at = 0; ok && at < LIFE_SIZE; at += AT_BLOCK) {
        if (old && memcmp(now + at, old + at, AT_BLOCK) == 0)
            continue;
        ok = at_tree_writer_data(w, at, now + at, AT_BLOCK, error);
    }
    ok = ok && at_tree_writer_finish(w, ret_root, NULL, error);
    at_tree_writer_free(w);
    return ok;
}

GArray *life_packs(const char *vault_dir)
{
    g_autofree char *path = g_build_filename(vault_dir, "packs", NULL);
    struct at_packs *packs = at_packs_new(path);
    GArray *ids = at_packs_list(packs, NULL);
    at_packs_free(packs);
    return ids;
}

/* ---- The process ---- */

struct life {
    const char *dir;
    int marks;
    struct at_vault *vault;
    struct at_digest root[LIFE_CONTENTS];
    bool have[LIFE_CONTENTS];
};

static void G_GNUC_PRINTF(2, 3) mark(struct life *l, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_autofree char *line = g_strconcat(g_strdelimit(text, "\n", ' '), "\n", NULL);
    size_t len = strlen(line);
    if (write(l->marks, line, len) != (ssize_t)len)
        g_error("cannot write marks: %s", g_strerror(errno));
}

/* Notes a failure, if there was one. */
static bool told(struct life *l, bool ok, GError **error)
{
    if (!ok) {
        g_assert_true((*error)->domain == AT_ERROR);
        mark(l, "err %s %s", at_error_code_name((*error)->code), (*error)->message);
    }
    g_clear_error(error);
    return ok;
}

static bool set_root(struct life *l, const char *name, char what, enum at_root_kind kind,
                     const struct at_digest *digest)
{
    g_autoptr(GError) error = NULL;
    mark(l, "~%s %c", name, what);
    bool ok = told(l, at_vault_root_set(l->vault, name, kind, digest, &error), &error);
    if (ok)
        mark(l, "=%s", name);
    return ok;
}

/* Once more after a failure, as a job does it. */
static void remove_root(struct life *l, const char *name)
{
    g_autoptr(GError) error = NULL;
    mark(l, "~%s %c", name, LIFE_NONE);
    if (told(l, at_vault_root_remove(l->vault, name, &error), &error) ||
        told(l, at_vault_root_remove(l->vault, name, &error), &error))
        mark(l, "=%s", name);
}

static void put(struct life *l, const char *name, unsigned k, int base)
{
    g_autoptr(GError) error = NULL;
    struct at_vault_session *session = at_vault_session_begin(l->vault, &error);
    const struct at_digest *from = base >= 0 && l->have[base] ? &l->root[base] : NULL;
    l->have[k] =
        told(l, life_put(session, k, from, (unsigned)MAX(base, 0), &l->root[k], &error), &error);
    /* Without its root the next gc frees it. */
    l->have[k] = l->have[k] && set_root(l, name, (char)('0' + k), AT_ROOT_TREE, &l->root[k]);
    at_vault_session_end(session);
}

static void put_manifest(struct life *l, const char *name)
{
    if (!l->have[0] || !l->have[1])
        return;
    g_autoptr(GError) error = NULL;
    g_autofree char *a = at_digest_dup_hex(&l->root[0]), *b = at_digest_dup_hex(&l->root[1]);
    g_autofree char *text =
        g_strdup_printf("{\"disks\":[{\"root\":\"%s\"},{\"root\":\"%s\"}]}", a, b);
    struct at_digest digest;
    struct at_vault_session *session = at_vault_session_begin(l->vault, &error);
    if (told(l, at_vault_blob_put(session, text, strlen(text), &digest, &error), &error))
        set_root(l, name, LIFE_MANIFEST, AT_ROOT_MANIFEST, &digest);
    at_vault_session_end(session);
}

static void collect(struct life *l)
{
    g_autoptr(GError) error = NULL;
    if (!told(l, at_vault_gc(l->vault, NULL, NULL, NULL, NULL, &error), &error))
        return;
    g_autoptr(GArray) ids = life_packs(l->dir);
    g_autoptr(GString) list = g_string_new(NULL);
    if (!ids)
        return;
    for (unsigned i = 0; i < ids->len; i++)
        g_string_append_printf(list, "%s%u", i ? "," : "", g_array_index(ids, uint32_t, i));
    mark(l, "gc %s", list->str);
}

static void note(struct life *l, uint8_t first)
{
    g_autoptr(GError) error = NULL;
    struct at_digest digest = {{first}};
    g_autofree char *hex = at_digest_dup_hex(&digest);
    if (told(l, at_vault_note_damage(l->vault, &digest, 1, &error), &error))
        mark(l, "bad %s", hex);
}

static void verify(struct life *l)
{
    g_autoptr(GError) error = NULL;
    struct at_verify_report *report = NULL;
    /* It may take back notes of what is not there and not needed, as ours are. */
    mark(l, "verify");
    if (!told(l, at_vault_verify(l->vault, 100, NULL, NULL, NULL, &report, &error), &error))
        return;
    if (report->problems->len) {
        struct at_verify_problem *p = g_ptr_array_index(report->problems, 0);
        mark(l, "err corrupt %u problems: %s", report->problems->len, p->reason);
    }
    at_verify_report_free(report);
}

static bool open_vault(struct life *l)
{
    g_autoptr(GError) error = NULL;
    at_vault_close(g_steal_pointer(&l->vault));
    l->vault = at_vault_open(l->dir, AT_VAULT_WRITE | AT_VAULT_CREATE, (gid_t)-1, &error);
    return told(l, l->vault != NULL, &error);
}

/* An older Atoll has made the vault: what this one may put there it must not read, also not after
 * a crash. */
static void make_older(struct life *l)
{
    g_autofree char *path = g_build_filename(l->dir, "format", NULL);
    at_autofd fd = at_retry(open(path, O_WRONLY | O_CLOEXEC));
    at_vault_close(g_steal_pointer(&l->vault));
    if (fd >= 0 && at_retry(pwrite(fd, "1", 1, strlen("atoll-vault "))) == 1)
        (void)!at_retry(fsync(fd));
}

static void whole_life(struct life *l)
{
    g_autoptr(GError) error = NULL;
    mark(l, "phase create");
    if (!open_vault(l))
        return;
    mark(l, "phase put");
    note(l, 0xd9);
    put(l, "disk/0", 0, -1);
    put(l, "disk/1", 1, 0);
    mark(l, "phase manifest");
    put_manifest(l, "snap/a");
    mark(l, "phase replace");
    put(l, "disk/0", 2, -1);
    mark(l, "phase garbage");
    put(l, "disk/3", 3, -1);
    remove_root(l, "disk/3");
    mark(l, "phase gc");
    collect(l);
    mark(l, "phase remove");
    remove_root(l, "disk/1");
    mark(l, "phase reindex");
    note(l, 0xda);
    if (told(l, at_vault_reindex(l->vault, NULL, NULL, NULL, &error), &error))
        mark(l, "phase reindexed");
    verify(l);
    note(l, 0xdb);
    make_older(l);
    mark(l, "phase reopen");
    if (!open_vault(l))
        return;
    mark(l, "raised");
    mark(l, "phase append");
    put(l, "disk/4", 4, 2);
    mark(l, "phase drop");
    remove_root(l, "snap/a");
    mark(l, "phase compact");
    collect(l);
    verify(l);
    note(l, 0xdc);
    mark(l, "phase last");
    put(l, "disk/1", 1, -1);
}

/* What an opener sees it relies on. */
static void look(struct life *l, const char *name)
{
    g_autoptr(GError) error = NULL;
    struct at_root *root;
    char what = LIFE_NONE;
    if (at_vault_root_get(l->vault, name, &root, &error)) {
        what = life_what(l->vault, root, &error);
        at_root_free(root);
    } else if (error->code == AT_ERROR_NOT_FOUND) {
        g_clear_error(&error);
    } else {
        what = 0;
    }
    if (told(l, what != 0, &error)) {
        mark(l, "~%s %c", name, what);
        mark(l, "=%s", name);
    }
}

static void second_life(struct life *l)
{
    mark(l, "phase again");
    if (!open_vault(l))
        return;
    mark(l, "phase look");
    for (unsigned i = 0; i < life_n_names; i++)
        look(l, life_names[i]);
    mark(l, "phase put-again");
    put(l, "again/0", 0, -1);
    mark(l, "phase gc-again");
    collect(l);
    mark(l, "phase append-again");
    put(l, "again/5", 5, -1);
}

/* How many threads there are of pools, which end some time after their pool. */
static unsigned pool_threads(void)
{
    g_autoptr(GDir) tasks = g_dir_open("/proc/self/task", 0, NULL);
    unsigned n = 0;
    for (const char *task; tasks && (task = g_dir_read_name(tasks));) {
        g_autofree char *path = g_build_filename("/proc/self/task", task, "comm", NULL);
        g_autofree char *name = NULL;
        n += g_file_get_contents(path, &name, NULL, NULL) && g_str_has_prefix(name, "pool-") &&
             !g_str_has_prefix(name, "pool-spawner");
    }
    return n;
}

void life_run(const char *dir, const char *marks, bool again)
{
    struct life l = {.dir = dir};
    at_autofd fd = l.marks = open(marks, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (again)
        second_life(&l);
    else
        whole_life(&l);
    at_vault_close(l.vault);
    /* What a library keeps for a thread is free only when that has ended: no leak is to be seen. */
    g_assert_true(at_test_until(pool_threads() == 0, 10000));
    mark(&l, "end");
}
