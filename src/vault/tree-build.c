/* SPDX-License-Identifier: Apache-2.0 */
/* Building the nodes above the chunks.  Where a node ends depends only on the digests of its
 * entries, so the same disk always gives the same tree, however it came about. */
#include <string.h>

#include "base/error.h"
#include "vault/hash.h"
#include "vault/tree-internal.h"

struct level {
    struct at_entry entries[AT_NODE_MAX_ENTRIES];
    unsigned n;
    uint64_t closed; /* nodes of this level that went up */
    struct at_entry only;
};

struct at_builder {
    struct at_vault_session *session;
    struct level *levels[AT_NODE_LEVELS];
    uint64_t stored;
};

struct at_builder *at_builder_new(struct at_vault_session *session)
{
    struct at_builder *b = g_new0(struct at_builder, 1);
    b->session = session;
    return b;
}

void at_builder_free(struct at_builder *b)
{
    if (!b)
        return;
    for (unsigned i = 0; i < AT_NODE_LEVELS; i++)
        g_free(b->levels[i]);
    g_free(b);
}

bool at_builder_fresh(const struct at_builder *b, unsigned level)
{
    for (unsigned i = 0; i <= level && i < AT_NODE_LEVELS; i++) {
        if (b->levels[i] && b->levels[i]->n)
            return false;
    }
    return true;
}

/* Puts the node that has gathered at @level and hands its entry to the level above. */
static bool close_node(struct at_builder *b, unsigned level, GError **error)
{
    struct level *l = b->levels[level];
    uint8_t bytes[AT_NODE_MAX];
    size_t len = at_node_encode(bytes, level, l->entries, l->n);
    const struct at_entry *last = &l->entries[l->n - 1];
    struct at_entry up = {.offset = l->entries[0].offset};
    up.len = at_entry_end(last) - up.offset;
    at_hash(bytes, len, &up.digest);
    uint64_t stored;
    if (!at_store_put(b->session, AT_KIND_NODE, &up.digest, bytes, len, &stored, error))
        return false;
    b->stored += stored;
    l->n = 0;
    return at_builder_add(b, level + 1, &up, error);
}

bool at_builder_add(struct at_builder *b, unsigned level, const struct at_entry *entry,
                    GError **error)
{
    if (level >= AT_NODE_LEVELS)
        return at_error(error, AT_ERROR_INVALID, "the disk needs too many tree levels");
    struct level *l = b->levels[level];
    if (!l)
        l = b->levels[level] = g_new0(struct level, 1);
    /* A node that comes whole from another tree has at least two nodes on each level below its
     * own; which of the lower levels has just one node decides where the top is. */
    for (unsigned below = 0; below < level; below++) {
        if (!b->levels[below])
            b->levels[below] = g_new0(struct level, 1);
        b->levels[below]->closed += below + 1 == level ? 1 : 2;
    }
    if (level > 0)
        b->levels[level - 1]->only = *entry;
    l->entries[l->n++] = *entry;
    if ((l->n >= AT_NODE_MIN_ENTRIES && at_node_ends(&entry->digest)) ||
        l->n == AT_NODE_MAX_ENTRIES)
        return close_node(b, level, error);
    return true;
}

bool at_builder_finish(struct at_builder *b, uint64_t size, struct at_digest *ret_root,
                       uint64_t *ret_stored, GError **error)
{
    struct at_disk disk = {.size = size};
    for (unsigned level = 0; level < AT_NODE_LEVELS; level++) {
        struct level *l = b->levels[level];
        if (!l)
            break;
        if (l->n && !close_node(b, level, error))
            return false;
        /* The first level with a single node is the top. */
        if (l->closed == 1) {
            disk.height = level + 1;
            disk.top = l->only.digest;
            break;
        }
    }
    uint8_t bytes[AT_DISK_LEN];
    struct at_digest root;
    uint64_t stored;
    at_disk_encode(&disk, bytes);
    at_hash(bytes, sizeof bytes, &root);
    if (!at_store_put(b->session, AT_KIND_DISK, &root, bytes, sizeof bytes, &stored, error))
        return false;
    *ret_root = root;
    *ret_stored = b->stored + stored;
    return true;
}
