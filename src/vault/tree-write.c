/* SPDX-License-Identifier: Apache-2.0 */
/* Writing disks: changes are cut into chunks where a full ingest would cut them, hashed and stored
 * by the pool, and everything between them is taken over from the base, in whole subtrees where
 * possible.
 *
 * The cutting has no memory beyond the open chunk: once no chunk is open at a place where the base
 * has no chunk across it either, both go on the same.  docs/vault-format.md has the argument. */
#include <string.h>

#include "base/error.h"
#include "vault/hash.h"
#include "vault/tree-segment.h"

/* ---- Cutting ---- */

static void close_chunk(struct at_tree_writer *w)
{
    struct at_segment *s = w->seg;
    if (s->open == s->fill)
        return;
    struct at_item item = {.len = s->fill - s->open, .data = s->buf + s->open};
    item.offset = w->pos - item.len;
    g_array_append_val(s->items, item);
    s->open = s->fill;
}

static bool chunk_is_open(const struct at_tree_writer *w)
{
    return w->seg->open != w->seg->fill;
}

uint8_t *at_tree_writer_space(struct at_tree_writer *w, size_t *ret_cap, GError **error)
{
    if ((AT_SEGMENT - w->seg->fill < AT_CHUNK_MAX || w->seg->items->len >= AT_SEGMENT_ITEMS) &&
        !at_segment_dispatch(w, error))
        return NULL;
    *ret_cap = AT_SEGMENT - w->seg->fill;
    return w->seg->buf + w->seg->fill;
}

/* Cuts @len bytes (whole blocks) that were written at at_tree_writer_space(), for w->pos. */
static void cut(struct at_tree_writer *w, size_t len)
{
    struct at_segment *s = w->seg;
    for (size_t to = s->fill + len; s->fill < to;) {
        const uint8_t *block = s->buf + s->fill;
        if (at_block_is_zero(block)) {
            close_chunk(w);
            s->fill += AT_BLOCK;
            s->open = s->fill;
            w->pos += AT_BLOCK;
            continue;
        }
        s->fill += AT_BLOCK;
        w->pos += AT_BLOCK;
        size_t blocks = (s->fill - s->open) / AT_BLOCK;
        if (blocks == AT_CHUNK_MAX_BLOCKS ||
            (blocks >= AT_CHUNK_MIN_BLOCKS && at_block_ends(block)))
            close_chunk(w);
    }
}

/* Feeds the base's bytes up to @to. */
static bool feed_base(struct at_tree_writer *w, uint64_t to, GError **error)
{
    while (w->pos < to) {
        size_t cap;
        uint8_t *p = at_tree_writer_space(w, &cap, error);
        if (!p)
            return false;
        size_t n = (size_t)MIN((uint64_t)cap, to - w->pos);
        size_t have = n;
        if (w->pos + n > w->base->disk.size) {
            have = (size_t)(w->base->disk.size - w->pos);
            memset(p + have, 0, n - have);
        }
        if (!at_tree_read(w->base, p, w->pos, have, error))
            return false;
        cut(w, n);
    }
    return true;
}

static void skip_hole(struct at_tree_writer *w, uint64_t to)
{
    close_chunk(w);
    w->pos = MAX(w->pos, to);
}

/* The chunk of the base that covers @at or, when none does, the first one behind; one that begins
 * at or behind @limit does not count. */
static bool base_chunk(struct at_tree_writer *w, uint64_t at, uint64_t limit,
                       struct at_entry *ret_chunk, bool *ret_found, GError **error)
{
    *ret_found = false;
    if (!w->base || at >= limit)
        return true;
    struct at_leaf leaf = {0};
    if (!at_leaf_seek(w->base, at, &leaf, error))
        return false;
    if (leaf.node && leaf.chunk.offset < limit) {
        *ret_chunk = leaf.chunk;
        *ret_found = true;
    }
    at_leaf_clear(&leaf);
    return true;
}

/* Where feeding must begin so that the chunk around a change at @at comes out as in a full ingest.
 * With @joins, new data at @at may lengthen a chunk that ended there because of a hole. */
static bool restart_point(struct at_tree_writer *w, uint64_t at, bool joins, uint64_t *ret_from,
                          GError **error)
{
    struct at_entry e;
    bool found;
    *ret_from = at;
    if (!base_chunk(w, at, UINT64_MAX, &e, &found, error))
        return false;
    if (found && e.offset < at) {
        *ret_from = e.offset;
        return true;
    }
    if (!w->base || !joins || (found && e.offset == at))
        return true;
    if (!at_tree_before(w->base, at, &e, &found, error))
        return false;
    if (found && at_entry_end(&e) == at && e.len < AT_CHUNK_MAX)
        *ret_from = e.offset;
    return true;
}

/* Brings w->pos to @to with the base's content. */
static bool advance(struct at_tree_writer *w, uint64_t to, bool joins, GError **error)
{
    while (w->pos < to) {
        struct at_entry e;
        bool found;
        if (!base_chunk(w, w->pos, w->base_end, &e, &found, error))
            return false;
        if (!found) {
            skip_hole(w, to);
            break;
        }
        if (e.offset > w->pos && chunk_is_open(w)) {
            skip_hole(w, MIN(e.offset, to));
            continue;
        }
        if (!chunk_is_open(w) && e.offset >= w->pos) {
            uint64_t from;
            if (!restart_point(w, to, joins, &from, error))
                return false;
            if (from > w->pos) {
                struct at_item item = {.offset = w->pos, .len = from};
                g_array_append_val(w->seg->items, item);
                w->pos = from;
            }
            if (w->pos < to && !feed_base(w, to, error))
                return false;
            continue;
        }
        if (!feed_base(w, MIN(at_entry_end(&e), to), error))
            return false;
    }
    return true;
}

/* ---- The caller's side ---- */

struct at_tree_writer *at_tree_writer_new(struct at_vault_session *session,
                                          const struct at_digest *base, uint64_t size,
                                          GError **error)
{
    if (size > AT_DISK_MAX) {
        at_error(error, AT_ERROR_INVALID, "a disk of %" G_GUINT64_FORMAT " bytes is too large",
                 size);
        return NULL;
    }
    struct at_tree *tree = NULL;
    if (base) {
        if (at_session_pin(session, base, error))
            tree = at_tree_open(session->vault, base, error);
        if (!tree) {
            g_prefix_error(error, "base: ");
            return NULL;
        }
    }
    struct at_tree_writer *w = g_new0(struct at_tree_writer, 1);
    w->session = session;
    w->vault = session->vault;
    w->base = tree;
    w->size = size;
    w->end = (size + AT_BLOCK - 1) / AT_BLOCK * AT_BLOCK;
    uint64_t base_size = tree ? tree->disk.size : 0;
    w->base_end = MIN((base_size + AT_BLOCK - 1) / AT_BLOCK * AT_BLOCK, w->end);
    w->builder = at_builder_new(session);
    w->max_busy = w->vault->cores + 2;
    w->stage = g_malloc(AT_BLOCK);
    g_mutex_init(&w->lock);
    g_cond_init(&w->cond);
    at_cursor_init(&w->cursor, tree);
    w->seg = at_segment_new(w, error);
    if (!w->seg) {
        at_tree_writer_free(w);
        return NULL;
    }
    return w;
}

void at_tree_writer_free(struct at_tree_writer *w)
{
    if (!w)
        return;
    at_segments_clear(w);
    at_cursor_clear(&w->cursor);
    at_builder_free(w->builder);
    at_tree_close(w->base);
    g_free(w->stage);
    g_mutex_clear(&w->lock);
    g_cond_clear(&w->cond);
    g_free(w);
}

bool at_tree_writer_feed(struct at_tree_writer *w, uint64_t offset, size_t len, GError **error)
{
    g_assert(!w->base && offset >= w->pos && offset % AT_BLOCK == 0);
    if (offset > w->pos) {
        /* The new bytes lie behind an open chunk that the hole ends. */
        close_chunk(w);
        w->pos = offset;
    }
    w->stats.changed_bytes += len;
    cut(w, len);
    return true;
}

static bool write_blocks(struct at_tree_writer *w, uint64_t offset, const uint8_t *p, size_t len,
                         GError **error)
{
    if (!advance(w, offset, true, error))
        return false;
    while (len > 0) {
        size_t cap;
        uint8_t *space = at_tree_writer_space(w, &cap, error);
        if (!space)
            return false;
        size_t n = MIN(cap, len);
        memcpy(space, p, n);
        cut(w, n);
        p += n;
        len -= n;
    }
    return true;
}

static bool zero_blocks(struct at_tree_writer *w, uint64_t offset, uint64_t len, GError **error)
{
    if (!advance(w, offset, false, error))
        return false;
    skip_hole(w, offset + len);
    return true;
}

static bool end_stage(struct at_tree_writer *w, GError **error)
{
    if (!w->staging)
        return true;
    w->staging = false;
    return write_blocks(w, w->stage_at, w->stage, AT_BLOCK, error);
}

/* Part of one block: gathered until the caller goes on to another block. */
static bool write_part(struct at_tree_writer *w, uint64_t offset, const uint8_t *p, size_t len,
                       GError **error)
{
    uint64_t at = offset / AT_BLOCK * AT_BLOCK;
    if (!w->staging || w->stage_at != at) {
        if (!end_stage(w, error))
            return false;
        memset(w->stage, 0, AT_BLOCK);
        if (w->base && at < w->base->disk.size &&
            !at_tree_read(w->base, w->stage, at,
                          (size_t)MIN((uint64_t)AT_BLOCK, w->base->disk.size - at), error))
            return false;
        w->staging = true;
        w->stage_at = at;
    }
    if (p)
        memcpy(w->stage + (offset - at), p, len);
    else
        memset(w->stage + (offset - at), 0, len);
    return true;
}

static bool write_range(struct at_tree_writer *w, uint64_t offset, const uint8_t *p, uint64_t len,
                        GError **error)
{
    if (offset < w->given || offset > w->size || len > w->size - offset)
        return at_error(error, AT_ERROR_INVALID,
                        "range %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT
                        " is out of order or outside of the disk",
                        offset, len);
    w->given = offset + len;
    w->stats.changed_bytes += len;
    while (len > 0) {
        uint64_t n = AT_BLOCK - offset % AT_BLOCK;
        bool ok;
        if (n != AT_BLOCK || len < AT_BLOCK) {
            n = MIN(n, len);
            ok = write_part(w, offset, p, (size_t)n, error);
        } else {
            n = len / AT_BLOCK * AT_BLOCK;
            ok = end_stage(w, error) && (p ? write_blocks(w, offset, p, (size_t)n, error)
                                           : zero_blocks(w, offset, n, error));
        }
        if (!ok)
            return false;
        offset += n;
        len -= n;
        p = p ? p + n : NULL;
    }
    return true;
}

bool at_tree_writer_data(struct at_tree_writer *w, uint64_t offset, const void *buf, size_t len,
                         GError **error)
{
    if (w->failed)
        return at_error(error, AT_ERROR_INVALID, "the writer has failed before");
    w->failed = !write_range(w, offset, buf, len, error);
    return !w->failed;
}

bool at_tree_writer_zero(struct at_tree_writer *w, uint64_t offset, uint64_t len, GError **error)
{
    if (w->failed)
        return at_error(error, AT_ERROR_INVALID, "the writer has failed before");
    w->failed = !write_range(w, offset, NULL, len, error);
    return !w->failed;
}

/* A disk that is cut inside a block ends with zeros in that block. */
static bool cut_last_block(struct at_tree_writer *w, GError **error)
{
    uint64_t at = w->size / AT_BLOCK * AT_BLOCK;
    if (!w->base || w->base->disk.size <= w->size || at == w->size || w->pos > at)
        return true;
    if (w->staging && w->stage_at == at) {
        memset(w->stage + (w->size - at), 0, AT_BLOCK - (size_t)(w->size - at));
        return true;
    }
    if (!end_stage(w, error))
        return false;
    uint8_t block[AT_BLOCK] = {0};
    return at_tree_read(w->base, block, at, (size_t)(w->size - at), error) &&
           write_blocks(w, at, block, AT_BLOCK, error);
}

bool at_tree_writer_finish(struct at_tree_writer *w, struct at_digest *ret_root,
                           struct at_tree_stats *ret_stats, GError **error)
{
    if (w->failed)
        return at_error(error, AT_ERROR_INVALID, "the writer has failed before");
    w->failed = true; /* used up, whatever happens now */
    if (!cut_last_block(w, error) || !end_stage(w, error) || !advance(w, w->end, false, error))
        return false;
    close_chunk(w);
    struct at_digest root;
    uint64_t stored;
    if (!at_segment_dispatch(w, error) || !at_segments_drain(w, 0, error) ||
        !at_builder_finish(w->builder, w->size, &root, &stored, error) ||
        !at_store_flush(w->vault->store, w->session->failures, error))
        return false;
    w->stats.stored_bytes += stored;
    *ret_root = root;
    if (ret_stats)
        *ret_stats = w->stats;
    return true;
}
