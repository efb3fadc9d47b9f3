/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of trees, for the files of this room only. */
#pragma once
#include "vault/node.h"
#include "vault/tree.h"
#include "vault/vault-internal.h"

struct at_tree {
    struct at_vault *vault;
    struct at_digest root;
    struct at_disk disk;
    struct at_entry top; /* range unknown: only its digest */
    struct at_buf *node; /* the top node; NULL for a disk without chunks */
    GMutex lock;         /* guards all below */
    GCond planned;       /* plans has fallen */
    unsigned plans;      /* read-ahead that is being planned */
    bool closing;
    struct {
        uint64_t next;   /* a read here goes on with this stream */
        uint64_t ahead;  /* read ahead up to here */
        uint64_t window; /* bytes to keep in preparation */
        uint64_t used;
    } streams[8];
    uint64_t tick;
};

/* A place among the chunks of a disk, in order. */
struct at_leaf {
    struct at_buf *node; /* NULL: behind the last chunk */
    unsigned i;
    struct at_entry chunk;
};
void at_leaf_clear(struct at_leaf *leaf);
/* The first chunk that ends after @offset; @leaf must be zero or a place of this tree. */
bool at_leaf_seek(struct at_tree *tree, uint64_t offset, struct at_leaf *leaf, GError **error);
bool at_leaf_next(struct at_tree *tree, struct at_leaf *leaf, GError **error);

/* The last chunk that begins before @offset; *ret_found false when there is none. */
bool at_tree_before(struct at_tree *tree, uint64_t offset, struct at_entry *ret_chunk,
                    bool *ret_found, GError **error);

/* Walks a tree from the left, a subtree at a time: the current item is a chunk (item level 0) or
 * a whole node (item level n: a node of level n-1). */
struct at_cursor {
    struct at_tree *tree;
    unsigned depth; /* nodes on the stack; 0: at the end */
    struct {
        struct at_buf *node;
        unsigned i;
    } stack[AT_NODE_LEVELS];
    struct at_entry item;
    unsigned level;
    bool last; /* the item is the last of its level */
};
void at_cursor_init(struct at_cursor *cursor, struct at_tree *tree);
void at_cursor_clear(struct at_cursor *cursor);
bool at_cursor_at_end(const struct at_cursor *cursor);
void at_cursor_skip(struct at_cursor *cursor);                    /* past the item */
bool at_cursor_descend(struct at_cursor *cursor, GError **error); /* item level > 0 */

/* Builds the nodes of a disk from its chunks in order, see docs/vault-format.md. */
struct at_builder;
struct at_builder *at_builder_new(struct at_vault_session *session);
void at_builder_free(struct at_builder *builder);
/* Adds an entry to the nodes of @level: a chunk (0) or a whole node of @level - 1, which is only
 * right when at_builder_fresh(@level - 1). */
bool at_builder_add(struct at_builder *builder, unsigned level, const struct at_entry *entry,
                    GError **error);
/* No unfinished node at @level or below. */
bool at_builder_fresh(const struct at_builder *builder, unsigned level);
/* Closes all nodes and puts the disk object. */
bool at_builder_finish(struct at_builder *builder, uint64_t size, struct at_digest *ret_root,
                       uint64_t *ret_stored, GError **error);

/* Direct feeding of a writer: space for at least AT_CHUNK_MAX bytes, then how many of them (whole
 * blocks) are the content of the disk from @offset on, ascending. */
uint8_t *at_tree_writer_space(struct at_tree_writer *w, size_t *ret_cap, GError **error);
bool at_tree_writer_feed(struct at_tree_writer *w, uint64_t offset, size_t len, GError **error);
