/* SPDX-License-Identifier: Apache-2.0 */
/* The power is cut anywhere in the life of a vault: whatever the disk has kept of what was not
 * synced, the vault opens, all that was acknowledged is there, and it works on.  And each sync is
 * needed for that: without it there is a state in which something is lost.
 * Here a sample of the states is looked at, many more with ATOLL_LONG=1. */
#include <string.h>

#include "base/atomic-file.h"
#include "disturb.h"
#include "power-cut.h"

#define NO_OP G_MAXUINT

/* A life that was written down. */
struct story {
    struct world w;
    GPtrArray *log;   /* struct cut_op* */
    GHashTable *seen; /* a state, with how much was promised then: what is wrong, or "" */
    unsigned checked;
};

/* One process, and with @again another one after it was killed, as it must be then. */
static void story_open(struct story *s, const struct disturbance *first, bool again)
{
    memset(s, 0, sizeof *s);
    world_open(&s->w);
    struct disturbance d = *first;
    d.record = true;
    g_assert_cmpint(disturb(&s->w, &d), ==, again ? 137 : 0);
    d = (struct disturbance){.record = true, .again = true};
    if (again)
        g_assert_cmpint(disturb(&s->w, &d), ==, 0);
    s->log = cut_log_read(s->w.log);
    s->seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
}

static void story_close(struct story *s)
{
    g_ptr_array_unref(s->log);
    g_hash_table_unref(s->seen);
    world_close(&s->w);
}

static const struct cut_op *op_at(const struct story *s, unsigned i)
{
    return g_ptr_array_index(s->log, i);
}

static void take_mark(struct life_promise *promise, const struct cut_op *op)
{
    g_autofree char *line = g_strndup((const char *)op->data, op->len);
    life_promise_mark(promise, g_strchomp(line));
}

/* What is wrong when the power is cut before operation @end and the disk chooses so; @lost: a sync
 * that does nothing.  NULL: nothing is wrong. */
static char *cut(struct story *s, unsigned end, unsigned lost, enum cut_choice choice,
                 unsigned number)
{
    g_autoptr(GError) error = NULL;
    struct cut_disk *disk = cut_disk_new();
    struct life_promise *promise = life_promise_new();
    guint64 marks = 0;
    for (unsigned i = 0; i < end; i++) {
        cut_disk_apply(disk, op_at(s, i), i == lost);
        if (op_at(s, i)->op == IO_MARK) {
            take_mark(promise, op_at(s, i));
            marks++;
        }
    }
    g_autofree char *dir = g_build_filename(s->w.dir, "found", NULL);
    g_autofree char *vault = g_build_filename(dir, "state", "vault", NULL);
    guint64 state = cut_disk_write(disk, choice, number, dir) + marks;
    const char *known = g_hash_table_lookup(s->seen, &state);
    char *wrong = known ? g_strdup(known) : life_check(vault, promise);
    if (!known) {
        g_hash_table_insert(s->seen, g_memdup2(&state, sizeof state), g_strdup(wrong ? wrong : ""));
        s->checked++;
    }
    at_remove_tree(dir, &error);
    g_assert_no_error(error);
    life_promise_free(promise);
    cut_disk_free(disk);
    if (wrong && !*wrong)
        g_clear_pointer(&wrong, g_free);
    return wrong;
}

static unsigned open_dirs(const struct story *s, unsigned end, unsigned lost)
{
    struct cut_disk *disk = cut_disk_new();
    for (unsigned i = 0; i < end; i++)
        cut_disk_apply(disk, op_at(s, i), i == lost);
    unsigned n = cut_disk_open_dirs(disk);
    cut_disk_free(disk);
    return n;
}

/* Cuts before @end in each way, @random times by chance. */
static char *cut_each_way(struct story *s, unsigned end, unsigned lost, unsigned random)
{
    char *wrong = NULL;
    for (unsigned choice = 0; choice < CUT_DIR && !wrong; choice++)
        wrong = cut(s, end, lost, choice, 0);
    unsigned dirs = open_dirs(s, end, lost);
    for (unsigned i = 0; dirs > 1 && i < dirs && !wrong; i++)
        wrong = cut(s, end, lost, CUT_DIR, i);
    for (unsigned i = 0; i < random && !wrong; i++)
        wrong = cut(s, end, lost, CUT_RANDOM, end * 1000 + i);
    return wrong;
}

/* ---- Nothing is lost ---- */

/* @packs: whether a pack is synced or not is always looked at. */
static unsigned cut_anywhere(struct story *s, unsigned by, unsigned random, bool packs)
{
    unsigned n = 0;
    for (unsigned end = 1; end <= s->log->len; end++) {
        /* Most can be lost in front of a sync, and most is promised behind a mark. */
        bool telling =
            end == s->log->len || op_at(s, end)->op == IO_SYNC || op_at(s, end - 1)->op == IO_MARK;
        bool pack = packs && end < s->log->len && telling && strstr(op_at(s, end)->path, ".pack");
        if (by > 1 && !pack && (!telling || n++ % by != by / 2))
            continue;
        g_autofree char *wrong = cut_each_way(s, end, NO_OP, random);
        if (wrong) {
            g_test_message("cut before operation %u: %s", end, wrong);
            g_test_fail();
        }
    }
    g_test_message("%u states of %u operations", s->checked, s->log->len);
    g_assert_cmpuint(s->checked, >=, s->log->len / by / 4);
    return s->checked;
}

static void whole_life(void)
{
    struct story s;
    story_open(&s, &(struct disturbance){0}, false);
    unsigned by = disturb_step(3);
    cut_anywhere(&s, by, by == 1 ? 12 : 1, true);
    story_close(&s);
}

/* ---- Each sync is needed ---- */

/* What sync @i is of, and in which phase. */
static char *name_of(const struct story *s, unsigned i, const char *phase)
{
    const struct cut_op *op = op_at(s, i);
    const char *kind = "parent's parent";
    static const struct {
        const char *begin, *kind;
    } kinds[] = {
        {"/state/vault/packs/", "pack"},
        {"/state/vault/packs", "packs"},
        {"/state/vault/roots/", "root"},
        {"/state/vault/roots", "roots"},
        {"/state/vault/index.new/", "new index"},
        {"/state/vault/index.new", "directory of the new index"},
        {"/state/vault/index/", "index"},
        {"/state/vault/index", "directory of the index"},
        {"/state/vault/.format", "format"},
        {"/state/vault/format", "format"},
        {"/state/vault", "vault"},
        {"/state", "parent"},
    };
    for (unsigned k = G_N_ELEMENTS(kinds); k-- > 0;) {
        if (g_str_has_prefix(op->path, kinds[k].begin))
            kind = kinds[k].kind;
    }
    return g_strdup_printf("%s: %s%s%s", phase, kind, op->offset == IO_SYNC_LAST ? ", head" : "",
                           i > 0 && op_at(s, i - 1)->op == IO_UNLINK ? " after a removal" : "");
}

/* What is lost in some state if sync @lost does nothing; NULL when nothing was found.  The next
 * sync of the same makes good for it, so only what is before that matters. */
static char *without(struct story *s, unsigned lost)
{
    g_autoptr(GArray) ends = g_array_new(FALSE, FALSE, sizeof(unsigned));
    const struct cut_op *sync = op_at(s, lost);
    bool made_good = false, all = disturb_step(4) == 1;
    for (unsigned end = lost + 1; end <= s->log->len && !made_good; end++) {
        const struct cut_op *before = op_at(s, end - 1);
        made_good = end == s->log->len ||
                    (op_at(s, end)->op == IO_SYNC && op_at(s, end)->offset != IO_SYNC_LAST &&
                     op_at(s, end)->ino == sync->ino);
        if (made_good || before->op == IO_MARK || before->op == IO_SYNC)
            g_array_append_val(ends, end);
    }
    /* The last ones of the next few, where the first promises are made, then some of the others. */
    char *wrong = NULL;
    unsigned near = MIN(ends->len, 10u), step = all ? 1 : 3;
    for (unsigned i = near; i > 0 && !wrong; i -= MIN(i, step))
        wrong = cut_each_way(s, g_array_index(ends, unsigned, i - 1), lost, all ? 6 : 1);
    step = all ? 1 : ends->len / 5 + 1;
    for (unsigned i = near; i < ends->len && !wrong; i += step)
        wrong = cut_each_way(s, g_array_index(ends, unsigned, i), lost, all ? 4 : 0);
    return wrong;
}

/* Leaves out each sync in turn; for all @needs ("PHASE: WHAT") something must be lost by one of
 * them. */
static void leave_out(struct story *s, const char *const *needs)
{
    g_autoptr(GHashTable) lost = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    struct life_promise *promise = life_promise_new();
    bool all = disturb_step(2) == 1;
    for (unsigned i = 0; i < s->log->len; i++) {
        if (op_at(s, i)->op == IO_MARK)
            take_mark(promise, op_at(s, i));
        if (op_at(s, i)->op != IO_SYNC)
            continue;
        g_autofree char *name = name_of(s, i, life_promise_phase(promise));
        if (!all && (!g_strv_contains(needs, name) || g_hash_table_contains(lost, name)))
            continue;
        g_autofree char *wrong = without(s, i);
        g_test_message("%u: without the sync of %s: %s", i, name, wrong ? wrong : "-");
        if (wrong)
            g_hash_table_add(lost, g_steal_pointer(&name));
    }
    life_promise_free(promise);
    for (const char *const *need = needs; *need; need++) {
        if (!g_hash_table_contains(lost, *need)) {
            g_test_message("nothing is lost without the sync of %s", *need);
            g_test_fail();
        }
    }
}

/* The one in front of the directory of roots in @phase: its number among the calls that sync. */
static unsigned sync_of_roots(const struct story *s, const char *phase)
{
    struct life_promise *promise = life_promise_new();
    unsigned n = 0;
    bool found = false;
    for (unsigned i = 0; i < s->log->len && !found; i++) {
        const struct cut_op *op = op_at(s, i);
        if (op->op == IO_MARK)
            take_mark(promise, op);
        n += op->op == IO_SYNC && op->offset != IO_SYNC_LAST;
        found = op->op == IO_SYNC && strcmp(op->path, "/state/vault/roots") == 0 &&
                strcmp(life_promise_phase(promise), phase) == 0;
    }
    g_assert_true(found);
    life_promise_free(promise);
    return n;
}

static void story_of(const struct disturbance *first, bool again, const char *const *needs)
{
    struct story s;
    story_open(&s, first, again);
    leave_out(&s, needs);
    story_close(&s);
}

/* What is not here is needed by nothing that is acknowledged.  Two are: of the names in the vault's
 * directory after index.new was removed, and in that of the packs after one without a header was:
 * what comes back is removed at the next opening.  The syncs of the index are LMDB's; what the last
 * of them loses comes back from the packs, but for notes of damage. */
static void every_sync(void)
{
    static const char *const whole[] = {"create: parent's parent",
                                        "create: format",
                                        "create: directory of the index",
                                        "put: pack",
                                        "put: packs",
                                        "put: root",
                                        "put: roots",
                                        "remove: roots after a removal",
                                        "reindex: directory of the new index",
                                        "reindex: vault",
                                        "reopen: format",
                                        "reindexed: index",
                                        "reindexed: index, head",
                                        "compact: pack",
                                        "compact: packs",
                                        "compact: packs after a removal",
                                        NULL};
    struct story s;
    story_open(&s, &(struct disturbance){0}, false);
    leave_out(&s, whole);
    unsigned remove = sync_of_roots(&s, "remove"), drop = sync_of_roots(&s, "drop");
    story_close(&s);

    /* Killed in front of a sync; the next process relies on what it finds. */
    static const char *const half[] = {"again: parent's parent", NULL};
    static const char *const made[] = {"again: vault", NULL};
    static const char *const packs[] = {"again: pack", "again: packs", NULL};
    static const char *const roots[] = {"again: roots", NULL};
    g_autofree char *at_remove = g_strdup_printf("kill:%u", remove);
    story_of(&(struct disturbance){.fault = "kill:1", .kinds = "sync"}, true, half);
    story_of(&(struct disturbance){.plan = "atomic-file.sync-directory:kill"}, true, made);
    story_of(&(struct disturbance){.plan = "vault.pack.sync:kill"}, true, packs);
    story_of(&(struct disturbance){.fault = at_remove, .kinds = "sync"}, true, roots);

    /* A root that is gone, but not for certain: removing it once more says so, and gc waits. */
    static const char *const once_more[] = {"drop: roots", NULL};
    static const char *const collect[] = {"compact: roots", NULL};
    g_autofree char *at_drop = g_strdup_printf("EIO:%u", drop);
    g_autofree char *both = g_strdup_printf("EIO:%u:2", drop);
    story_of(&(struct disturbance){.fault = at_drop, .kinds = "sync"}, false, once_more);
    story_of(&(struct disturbance){.fault = both, .kinds = "sync"}, false, collect);
}

/* ---- A kill first, then the power ---- */

static void kill_first(void)
{
    struct story s;
    story_open(&s, &(struct disturbance){0}, false);
    unsigned calls = 0, by = disturb_step(47), step = by == 1 ? 3 : disturb_step(19), checked = 0;
    for (unsigned i = 0; i < s.log->len; i++)
        calls += op_at(&s, i)->op != IO_MARK && op_at(&s, i)->offset != IO_SYNC_LAST;
    story_close(&s);
    for (unsigned nth = 1 + by / 2; nth <= calls; nth += by) {
        g_autofree char *fault = g_strdup_printf("kill:%u", nth);
        story_open(&s, &(struct disturbance){.fault = fault}, true);
        checked += cut_anywhere(&s, step, 1, false);
        story_close(&s);
    }
    g_assert_cmpuint(checked, >, 2);
}

int main(int argc, char **argv)
{
    if (disturb_child(argc, argv))
        return 0;
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/power-cut/anywhere-what-was-acknowledged-is-whole", whole_life);
    g_test_add_func("/vault/power-cut/after-a-kill-what-was-acknowledged-is-whole", kill_first);
    /* Which has nothing to do with memory: not under a sanitizer, which makes it take minutes. */
    if (disturb_step(1) == 1)
        g_test_add_func("/vault/power-cut/without-any-one-of-its-syncs-something-is-lost",
                        every_sync);
    return g_test_run();
}
