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
    GPtrArray *log; /* struct cut_op* */
    GHashTable *seen; /* states that were checked, with what was promised then */
    unsigned checked;
};

/* One process, or with @death another one after its death. */
static void story_open(struct story *s, const struct disturbance *first, bool again)
{
    memset(s, 0, sizeof *s);
    world_open(&s->w);
    struct disturbance d = *first;
    d.record = true;
    int status = disturb(&s->w, &d);
    g_assert_cmpint(status, ==, again ? 137 : 0);
    if (again)
        g_assert_cmpint(disturb(&s->w, &(struct disturbance){.record = true, .again = true}), ==,
                        0);
    s->log = cut_log_read(s->w.log);
    s->seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
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
 * that does nothing.  NULL: nothing is wrong, or it was looked at before. */
static char *cut(struct story *s, unsigned end, unsigned lost, enum cut_choice choice, guint32 seed)
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
    GRand *rand = g_rand_new_with_seed(seed);
    g_autofree char *dir = g_build_filename(s->w.dir, "found", NULL);
    g_autofree char *vault = g_build_filename(dir, "state", "vault", NULL);
    guint64 state = cut_disk_write(disk, choice, rand, dir) + marks;
    char *wrong = NULL;
    if (g_hash_table_add(s->seen, g_memdup2(&state, sizeof state))) {
        wrong = life_check(vault, promise);
        s->checked++;
    }
    at_remove_tree(dir, &error);
    g_assert_no_error(error);
    g_rand_free(rand);
    life_promise_free(promise);
    cut_disk_free(disk);
    return wrong;
}

/* Cuts before @end in each way, @random times by chance. */
static char *cut_each_way(struct story *s, unsigned end, unsigned lost, unsigned random)
{
    char *wrong = NULL;
    for (unsigned choice = 0; choice < CUT_RANDOM && !wrong; choice++)
        wrong = cut(s, end, lost, choice, 0);
    for (unsigned i = 0; i < random && !wrong; i++)
        wrong = cut(s, end, lost, CUT_RANDOM, end * 1000 + i);
    return wrong;
}

/* ---- Nothing is lost ---- */

static void cut_anywhere(struct story *s, unsigned step, unsigned random)
{
    unsigned by = disturb_step(step), tries = by == 1 ? random * 8 : random;
    for (unsigned end = 1 + by / 2; end <= s->log->len; end += by) {
        g_autofree char *wrong = cut_each_way(s, end, NO_OP, tries);
        if (wrong) {
            g_test_message("cut before operation %u: %s", end, wrong);
            g_test_fail();
        }
    }
    g_test_message("%u states of %u operations", s->checked, s->log->len);
    g_assert_cmpuint(s->checked, >, s->log->len / by);
}

static void whole_life(void)
{
    struct story s;
    story_open(&s, &(struct disturbance){0}, false);
    cut_anywhere(&s, 5, 1);
    story_close(&s);
}

int main(int argc, char **argv)
{
    if (disturb_child(argc, argv))
        return 0;
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/power-cut/anywhere-what-was-acknowledged-is-whole", whole_life);
    return g_test_run();
}
