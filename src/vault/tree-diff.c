/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing two disks: both trees are walked together, and what has the same name is not entered.
 */
#include "base/error.h"
#include "vault/tree-internal.h"

struct diff {
    at_tree_diff_func func;
    void *user;
    uint64_t from, to; /* a range that is not told yet, so that neighbours become one */
};

static bool tell(struct diff *d, uint64_t from, uint64_t to, GError **error)
{
    if (from >= to)
        return true;
    if (d->from < d->to && from <= d->to) {
        d->to = MAX(d->to, to);
        return true;
    }
    bool ok = d->from >= d->to || d->func(d->from, d->to - d->from, d->user, error);
    d->from = from;
    d->to = to;
    return ok;
}

/* Steps both cursors until both are at their end; items that are equal are skipped whole. */
static bool compare(struct at_cursor *a, struct at_cursor *b, struct diff *d, GError **error)
{
    while (!at_cursor_at_end(a) || !at_cursor_at_end(b)) {
        bool have_a = !at_cursor_at_end(a), have_b = !at_cursor_at_end(b);
        if (have_a && have_b && a->level == b->level && a->item.offset == b->item.offset &&
            at_digest_equal(&a->item.digest, &b->item.digest)) {
            at_cursor_skip(a);
            at_cursor_skip(b);
            continue;
        }
        /* Enter the higher one first: its parts may be equal to what the other has. */
        struct at_cursor *enter = NULL;
        if (have_a && a->level > 0 && (!have_b || a->level >= b->level))
            enter = a;
        if (have_b && b->level > 0 &&
            (!have_a || b->level > a->level ||
             (b->level == a->level && b->item.offset < a->item.offset)))
            enter = b;
        if (enter) {
            if (!at_cursor_descend(enter, error))
                return false;
            continue;
        }
        /* Two different chunks, or one where the other has a hole: tell the earlier one. */
        bool first_a = have_a && (!have_b || a->item.offset <= b->item.offset);
        struct at_cursor *c = first_a ? a : b;
        if (!tell(d, c->item.offset, at_entry_end(&c->item), error))
            return false;
        at_cursor_skip(c);
    }
    return true;
}

bool at_tree_diff(struct at_vault *vault, const struct at_digest *a, const struct at_digest *b,
                  at_tree_diff_func func, void *user, GError **error)
{
    if (at_digest_equal(a, b))
        return true;
    struct at_tree *ta = at_tree_open(vault, a, error);
    struct at_tree *tb = ta ? at_tree_open(vault, b, error) : NULL;
    bool ok = false;
    if (tb) {
        struct diff d = {.func = func, .user = user};
        struct at_cursor ca, cb;
        at_cursor_init(&ca, ta);
        at_cursor_init(&cb, tb);
        uint64_t small = MIN(ta->disk.size, tb->disk.size);
        uint64_t large = MAX(ta->disk.size, tb->disk.size);
        ok = compare(&ca, &cb, &d, error) && tell(&d, small, large, error) &&
             (d.from >= d.to || func(d.from, MIN(d.to, large) - d.from, user, error));
        at_cursor_clear(&ca);
        at_cursor_clear(&cb);
    }
    at_tree_close(ta);
    at_tree_close(tb);
    return ok;
}
