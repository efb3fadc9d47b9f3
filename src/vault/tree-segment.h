/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a tree writer, for tree-write.c and tree-segment.c only: what is cut is handed to
 * the pool in segments, and enters the tree in order. */
#pragma once
#include "vault/tree-internal.h"

#define AT_SEGMENT (2u << 20)
#define AT_SEGMENT_ITEMS 1024u

/* What goes into the tree next: a chunk in the segment's buffer, or a range of the base. */
struct at_item {
    uint64_t offset, len;
    const uint8_t *data; /* NULL: a range of the base */
    struct at_digest digest;
    uint64_t stored;
};

/* A stretch of work for one pool thread; what it holds enters the tree in order. */
struct at_segment {
    struct at_work work;
    struct at_tree_writer *w;
    uint8_t *buf;
    size_t fill; /* bytes used in buf */
    size_t open; /* where the open chunk begins in buf */
    GArray *items;
    bool done;     /* guarded by w->lock */
    GError *error; /* of the pool thread */
};

struct at_tree_writer {
    struct at_vault_session *session;
    struct at_vault *vault;
    struct at_tree *base; /* or NULL */
    uint64_t size, end;   /* end: size rounded up to blocks */
    uint64_t base_end;    /* what of the base is visible, rounded up */
    uint64_t pos;         /* everything before is in segments or in the tree */
    uint64_t given;       /* the caller's ranges must begin at or behind this */
    struct at_builder *builder;
    struct at_cursor cursor;
    struct at_segment *seg; /* being filled */
    GQueue busy;            /* struct at_segment*, in order */
    GQueue idle;            /* buffers to use again */
    unsigned max_busy;
    GMutex lock; /* guards segment.done */
    GCond cond;
    uint8_t *stage; /* one block that is being put together from unaligned pieces */
    bool staging;
    uint64_t stage_at;
    bool failed;
    struct at_tree_stats stats;
};

/* An empty one. */
struct at_segment *at_segment_new(struct at_tree_writer *w, GError **error);
/* Hands the closed chunks of the current segment to the pool; an open one moves to the next. */
bool at_segment_dispatch(struct at_tree_writer *w, GError **error);
/* Puts finished segments into the tree, waiting until at most @max are unfinished. */
bool at_segments_drain(struct at_tree_writer *w, unsigned max, GError **error);
/* Waits for the pool and frees all of them. */
void at_segments_clear(struct at_tree_writer *w);
