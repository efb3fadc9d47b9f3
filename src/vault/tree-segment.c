/* SPDX-License-Identifier: Apache-2.0 */
/* Segments of a disk that is written: hashed and stored by the pool, absorbed by the tree. */
#include "vault/tree-segment.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"
#include "vault/hash-many.h"
#include "vault/hash.h"

static void segment_free(void *p)
{
    struct at_segment *s = p;
    if (!s)
        return;
    munmap(s->buf, AT_SEGMENT);
    g_array_unref(s->items);
    g_clear_error(&s->error);
    g_free(s);
}

struct at_segment *at_segment_new(struct at_tree_writer *w, GError **error)
{
    struct at_segment *s = g_queue_pop_head(&w->idle);
    if (s) {
        s->fill = s->open = 0;
        s->done = false;
        g_array_set_size(s->items, 0);
        return s;
    }
    /* Not from the heap: glibc would keep what a large import needed once. */
    void *buf = mmap(NULL, AT_SEGMENT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buf == MAP_FAILED) {
        at_error_errno(error, errno, "memory for a segment");
        return NULL;
    }
    s = g_new0(struct at_segment, 1);
    s->w = w;
    s->buf = buf;
    s->items = g_array_new(FALSE, TRUE, sizeof(struct at_item));
    return s;
}

/* All blocks of the segment in one go: the longer the row, the less each costs. */
static void name_chunks(struct at_segment *s)
{
    const uint8_t *blocks[AT_SEGMENT / AT_BLOCK];
    struct at_digest names[AT_SEGMENT / AT_BLOCK];
    size_t n = 0;
    for (unsigned i = 0; i < s->items->len; i++) {
        struct at_item *item = &g_array_index(s->items, struct at_item, i);
        for (uint64_t at = 0; item->data && at < item->len; at += AT_BLOCK)
            blocks[n++] = item->data + at;
    }
    at_hash_blocks(blocks, n, names);
    n = 0;
    for (unsigned i = 0; i < s->items->len; i++) {
        struct at_item *item = &g_array_index(s->items, struct at_item, i);
        if (!item->data)
            continue;
        at_hash_root(names + n, (size_t)item->len / AT_BLOCK, &item->digest);
        n += (size_t)item->len / AT_BLOCK;
    }
}

/* Pool thread: names and stores the chunks of a segment. */
static void run_segment(struct at_work *work)
{
    struct at_segment *s = (struct at_segment *)work;
    struct at_tree_writer *w = s->w;
    name_chunks(s);
    for (unsigned i = 0; i < s->items->len && !s->error; i++) {
        struct at_item *item = &g_array_index(s->items, struct at_item, i);
        if (!item->data)
            continue;
        at_store_put(w->session, AT_KIND_CHUNK, &item->digest, item->data, (size_t)item->len,
                     &item->stored, &s->error);
    }
    g_mutex_lock(&w->lock);
    s->done = true;
    g_cond_signal(&w->cond);
    g_mutex_unlock(&w->lock);
}

/* Takes [from, to) of the base over; both are places that no chunk of the base crosses. */
static bool take_base(struct at_tree_writer *w, uint64_t from, uint64_t to, GError **error)
{
    struct at_cursor *c = &w->cursor;
    while (!at_cursor_at_end(c) && c->item.offset < to) {
        uint64_t end = at_entry_end(&c->item);
        if (end <= from) {
            at_cursor_skip(c);
        } else if (c->item.offset >= from && end <= to &&
                   (c->level == 0 || (!c->last && at_builder_fresh(w->builder, c->level - 1)))) {
            /* The last node of a level may have ended only because the disk did. */
            if (!at_builder_add(w->builder, c->level, &c->item, error))
                return false;
            at_cursor_skip(c);
        } else if (c->level == 0) {
            return at_error(error, AT_ERROR_CORRUPT, "the base has chunks where none can be");
        } else if (!at_cursor_descend(c, error)) {
            return false;
        }
    }
    return true;
}

static bool absorb(struct at_tree_writer *w, struct at_segment *s, GError **error)
{
    if (s->error) {
        g_propagate_error(error, g_steal_pointer(&s->error));
        return false;
    }
    for (unsigned i = 0; i < s->items->len; i++) {
        struct at_item *item = &g_array_index(s->items, struct at_item, i);
        if (!item->data) {
            if (!take_base(w, item->offset, item->len, error))
                return false;
            continue;
        }
        struct at_entry e = {item->offset, item->len, item->digest};
        if (!at_builder_add(w->builder, 0, &e, error))
            return false;
        if (item->stored) {
            w->stats.new_bytes += item->len;
            w->stats.stored_bytes += item->stored;
        }
    }
    return true;
}

bool at_segments_drain(struct at_tree_writer *w, unsigned max, GError **error)
{
    while (!g_queue_is_empty(&w->busy)) {
        struct at_segment *s = g_queue_peek_head(&w->busy);
        g_mutex_lock(&w->lock);
        while (!s->done && g_queue_get_length(&w->busy) > max)
            g_cond_wait(&w->cond, &w->lock);
        bool done = s->done;
        g_mutex_unlock(&w->lock);
        if (!done)
            break;
        g_queue_pop_head(&w->busy);
        bool ok = absorb(w, s, error);
        g_queue_push_tail(&w->idle, s);
        if (!ok)
            return false;
    }
    return true;
}

bool at_segment_dispatch(struct at_tree_writer *w, GError **error)
{
    struct at_segment *s = w->seg;
    if (!at_store_check(w->vault->store, w->session->failures, error) ||
        !at_segments_drain(w, w->max_busy, error))
        return false;
    struct at_segment *next = at_segment_new(w, error);
    if (!next)
        return false;
    next->fill = s->fill - s->open;
    memcpy(next->buf, s->buf + s->open, next->fill);
    w->seg = next;
    g_queue_push_tail(&w->busy, s);
    s->work.run = run_segment;
    at_vault_submit(w->vault, &s->work);
    return true;
}

void at_segments_clear(struct at_tree_writer *w)
{
    g_mutex_lock(&w->lock);
    for (GList *l = w->busy.head; l; l = l->next) {
        while (!((struct at_segment *)l->data)->done)
            g_cond_wait(&w->cond, &w->lock);
    }
    g_mutex_unlock(&w->lock);
    g_queue_clear_full(&w->busy, segment_free);
    g_queue_clear_full(&w->idle, segment_free);
    segment_free(w->seg);
}
