/* SPDX-License-Identifier: Apache-2.0 */
/* Reading disks: finding chunks in a tree, reads with read-ahead, extents. */
#include <string.h>

#include "base/error.h"
#include "vault/tree-internal.h"

#define AHEAD_FIRST (256u << 10) /* doubled as long as the reader goes on */

struct at_tree *at_tree_open(struct at_vault *vault, const struct at_digest *root, GError **error)
{
    g_autoptr(at_buf_auto) buf = at_object_read(vault, root, AT_KIND_DISK, error);
    struct at_disk disk;
    if (!buf || !at_disk_decode(buf->data, buf->len, &disk, error))
        return NULL;
    struct at_buf *node = NULL;
    if (disk.height) {
        node = at_node_get(vault, &disk.top, disk.height - 1, NULL, error);
        if (!node)
            return NULL;
    }
    struct at_tree *tree = g_new0(struct at_tree, 1);
    tree->vault = vault;
    tree->root = *root;
    tree->disk = disk;
    tree->node = node;
    g_mutex_init(&tree->lock);
    g_cond_init(&tree->planned);
    return tree;
}

/* Plans are waited for: when all trees are closed, nothing is handed to the pool any more. */
void at_tree_close(struct at_tree *tree)
{
    if (!tree)
        return;
    g_mutex_lock(&tree->lock);
    tree->closing = true;
    while (tree->plans)
        g_cond_wait(&tree->planned, &tree->lock);
    g_mutex_unlock(&tree->lock);
    at_buf_unref(tree->node);
    g_mutex_clear(&tree->lock);
    g_cond_clear(&tree->planned);
    g_free(tree);
}

uint64_t at_tree_size(const struct at_tree *tree)
{
    return tree->disk.size;
}

/* ---- Places among the chunks ---- */

void at_leaf_clear(struct at_leaf *leaf)
{
    g_clear_pointer(&leaf->node, at_buf_unref);
}
typedef struct at_leaf at_leaf_auto;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(at_leaf_auto, at_leaf_clear)

bool at_leaf_seek(struct at_tree *tree, uint64_t offset, struct at_leaf *leaf, GError **error)
{
    at_leaf_clear(leaf);
    if (!tree->node)
        return true;
    g_autoptr(at_buf_auto) node = at_buf_ref(tree->node);
    for (unsigned level = tree->disk.height - 1;; level--) {
        unsigned i = at_node_find(node->data, offset);
        if (i == at_node_count(node->data))
            return true;
        struct at_entry e;
        at_node_entry(node->data, i, &e);
        if (level == 0) {
            leaf->node = g_steal_pointer(&node);
            leaf->i = i;
            leaf->chunk = e;
            return true;
        }
        struct at_buf *child = at_node_get(tree->vault, &e.digest, level - 1, &e, error);
        if (!child)
            return false;
        at_buf_unref(node);
        node = child;
    }
}

bool at_leaf_next(struct at_tree *tree, struct at_leaf *leaf, GError **error)
{
    if (++leaf->i < at_node_count(leaf->node->data)) {
        at_node_entry(leaf->node->data, leaf->i, &leaf->chunk);
        return true;
    }
    return at_leaf_seek(tree, at_entry_end(&leaf->chunk), leaf, error);
}

bool at_tree_before(struct at_tree *tree, uint64_t offset, struct at_entry *ret_chunk,
                    bool *ret_found, GError **error)
{
    *ret_found = false;
    if (!tree->node || offset == 0)
        return true;
    g_autoptr(at_buf_auto) node = at_buf_ref(tree->node);
    for (unsigned level = tree->disk.height - 1;; level--) {
        /* The last entry that begins before @offset. */
        unsigned i = at_node_find(node->data, offset - 1);
        struct at_entry e = {0};
        if (i < at_node_count(node->data))
            at_node_entry(node->data, i, &e);
        if (i == at_node_count(node->data) || e.offset >= offset) {
            if (i == 0)
                return true;
            at_node_entry(node->data, --i, &e);
        }
        if (level == 0) {
            *ret_chunk = e;
            *ret_found = true;
            return true;
        }
        struct at_buf *child = at_node_get(tree->vault, &e.digest, level - 1, &e, error);
        if (!child)
            return false;
        at_buf_unref(node);
        node = child;
    }
}

/* ---- Cursor ---- */

static void cursor_load(struct at_cursor *c)
{
    while (c->depth &&
           c->stack[c->depth - 1].i == at_node_count(c->stack[c->depth - 1].node->data)) {
        at_buf_unref(c->stack[--c->depth].node);
        if (c->depth)
            c->stack[c->depth - 1].i++;
    }
    if (!c->depth)
        return;
    const uint8_t *node = c->stack[c->depth - 1].node->data;
    c->level = at_node_level(node);
    at_node_entry(node, c->stack[c->depth - 1].i, &c->item);
    c->last = true;
    for (unsigned d = 0; d < c->depth && c->last; d++)
        c->last = c->stack[d].i + 1 == at_node_count(c->stack[d].node->data);
}

void at_cursor_init(struct at_cursor *cursor, struct at_tree *tree)
{
    memset(cursor, 0, sizeof *cursor);
    cursor->tree = tree;
    if (tree && tree->node) {
        cursor->stack[0].node = at_buf_ref(tree->node);
        cursor->depth = 1;
        cursor_load(cursor);
    }
}

void at_cursor_clear(struct at_cursor *cursor)
{
    while (cursor->depth)
        at_buf_unref(cursor->stack[--cursor->depth].node);
}

bool at_cursor_at_end(const struct at_cursor *cursor)
{
    return cursor->depth == 0;
}

void at_cursor_skip(struct at_cursor *cursor)
{
    cursor->stack[cursor->depth - 1].i++;
    cursor_load(cursor);
}

bool at_cursor_descend(struct at_cursor *cursor, GError **error)
{
    struct at_buf *node = at_node_get(cursor->tree->vault, &cursor->item.digest, cursor->level - 1,
                                      &cursor->item, error);
    if (!node)
        return false;
    cursor->stack[cursor->depth].node = node;
    cursor->stack[cursor->depth++].i = 0;
    cursor_load(cursor);
    return true;
}

/* ---- Read-ahead ---- */

#define AHEAD_BYTES (256u << 10) /* for one thread: more would let the first reader wait */

struct ahead {
    struct at_work work;
    struct at_vault *vault;
    unsigned n;
    struct at_digest digests[AT_CHUNKS_GROUP];
};

/* Finds what is to be read ahead, away from the thread that answers a read. */
struct plan {
    struct at_work work;
    struct at_tree *tree;
    uint64_t from, to;
};

static void run_ahead(struct at_work *work)
{
    struct ahead *a = (struct ahead *)work;
    at_chunks_prepare(a->vault, a->digests, a->n);
    g_free(a);
}

/* Notes a read; *ret_from..*ret_to is what is to be read ahead now. */
static void note_read(struct at_tree *tree, uint64_t offset, uint64_t end, uint64_t *ret_from,
                      uint64_t *ret_to)
{
    unsigned slot = 0;
    *ret_from = *ret_to = 0;
    g_mutex_lock(&tree->lock);
    for (unsigned i = 0; i < G_N_ELEMENTS(tree->streams); i++) {
        if (tree->streams[i].next == offset && tree->streams[i].used) {
            slot = i;
            uint64_t ahead = MAX(tree->streams[i].ahead, end);
            uint64_t window = MIN(tree->streams[i].window, tree->vault->ahead_max);
            if (ahead < end + window / 2) {
                *ret_from = ahead;
                *ret_to = end + window;
                tree->streams[i].ahead = *ret_to;
                tree->streams[i].window = window * 2;
            }
            break;
        }
        if (tree->streams[i].used < tree->streams[slot].used)
            slot = i;
    }
    if (tree->streams[slot].next != offset || !tree->streams[slot].used) {
        tree->streams[slot].ahead = 0;
        tree->streams[slot].window = AHEAD_FIRST;
    }
    tree->streams[slot].next = end;
    tree->streams[slot].used = ++tree->tick;
    g_mutex_unlock(&tree->lock);
}

static void run_plan(struct at_work *work)
{
    struct plan *plan = (struct plan *)work;
    struct at_tree *tree = plan->tree;
    g_auto(at_leaf_auto) leaf = {0};
    g_mutex_lock(&tree->lock);
    bool ok = !tree->closing;
    g_mutex_unlock(&tree->lock);
    ok = ok && at_leaf_seek(tree, plan->from, &leaf, NULL);
    struct ahead *a = NULL;
    for (uint64_t bytes = 0; ok && leaf.node && leaf.chunk.offset < plan->to;) {
        if (!at_cache_has(tree->vault->chunks, &leaf.chunk.digest)) {
            if (!a) {
                a = g_new0(struct ahead, 1);
                a->work.run = run_ahead;
                a->vault = tree->vault;
                bytes = 0;
            }
            a->digests[a->n++] = leaf.chunk.digest;
            bytes += leaf.chunk.len;
            if (a->n == AT_CHUNKS_GROUP || bytes >= AHEAD_BYTES)
                at_vault_submit(tree->vault, &g_steal_pointer(&a)->work);
        }
        ok = at_leaf_next(tree, &leaf, NULL);
    }
    if (a)
        at_vault_submit(tree->vault, &a->work);
    at_leaf_clear(&leaf);
    g_mutex_lock(&tree->lock);
    tree->plans--;
    g_cond_signal(&tree->planned);
    g_mutex_unlock(&tree->lock);
    g_free(plan);
}

static void read_ahead(struct at_tree *tree, uint64_t from, uint64_t to)
{
    struct plan *plan = g_new0(struct plan, 1);
    plan->work.run = run_plan;
    plan->tree = tree;
    plan->from = from;
    plan->to = to;
    g_mutex_lock(&tree->lock);
    tree->plans++;
    g_mutex_unlock(&tree->lock);
    at_vault_submit(tree->vault, &plan->work);
}

/* ---- Reading ---- */

static bool check_range(struct at_tree *tree, uint64_t offset, uint64_t len, GError **error)
{
    if (offset > tree->disk.size || len > tree->disk.size - offset)
        return at_error(error, AT_ERROR_INVALID,
                        "%" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT
                        " is outside of a disk of %" G_GUINT64_FORMAT " bytes",
                        offset, len, tree->disk.size);
    return true;
}

bool at_tree_read(struct at_tree *tree, void *buf, uint64_t offset, size_t len, GError **error)
{
    if (!check_range(tree, offset, len, error))
        return false;
    uint8_t *p = buf;
    uint64_t end = offset + len, from, to;
    note_read(tree, offset, end, &from, &to);
    if (to)
        read_ahead(tree, from, MIN(to, tree->disk.size));
    g_auto(at_leaf_auto) leaf = {0};
    if (!at_leaf_seek(tree, offset, &leaf, error))
        return false;
    while (offset < end) {
        if (!leaf.node || leaf.chunk.offset >= end) {
            memset(p, 0, (size_t)(end - offset));
            return true;
        }
        if (leaf.chunk.offset > offset) {
            size_t gap = (size_t)(leaf.chunk.offset - offset);
            memset(p, 0, gap);
            p += gap;
            offset += gap;
        }
        size_t skip = (size_t)(offset - leaf.chunk.offset);
        size_t n = (size_t)MIN(leaf.chunk.len - skip, end - offset);
        if (!at_chunk_read(tree->vault, &leaf.chunk.digest, (size_t)leaf.chunk.len, skip, p, n,
                           error))
            return false;
        p += n;
        offset += n;
        if (offset < end && !at_leaf_next(tree, &leaf, error))
            return false;
    }
    return true;
}

bool at_tree_extents(struct at_tree *tree, uint64_t offset, uint64_t len, at_tree_extent_func func,
                     void *user, GError **error)
{
    if (!check_range(tree, offset, len, error))
        return false;
    uint64_t end = offset + len;
    g_auto(at_leaf_auto) leaf = {0};
    if (!at_leaf_seek(tree, offset, &leaf, error))
        return false;
    while (offset < end) {
        if (!leaf.node || leaf.chunk.offset >= end)
            return func(offset, end - offset, true, user, error);
        if (leaf.chunk.offset > offset) {
            if (!func(offset, leaf.chunk.offset - offset, true, user, error))
                return false;
            offset = leaf.chunk.offset;
        }
        /* Neighbouring chunks are one range. */
        uint64_t to = at_entry_end(&leaf.chunk);
        while (to < end) {
            if (!at_leaf_next(tree, &leaf, error))
                return false;
            if (!leaf.node || leaf.chunk.offset != to)
                break;
            to = at_entry_end(&leaf.chunk);
        }
        to = MIN(to, end);
        if (!func(offset, to - offset, false, user, error))
            return false;
        offset = to;
    }
    return true;
}
