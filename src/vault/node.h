/* SPDX-License-Identifier: Apache-2.0 */
/* Tree nodes and disk objects as bytes.  A node is an 8-byte header and entries of (offset,
 * length, digest); entries of level 0 are chunks, those above are nodes of the level below. */
#pragma once
#include "vault/buf.h"
#include "vault/format.h"

#define AT_NODE_HEADER 8u
#define AT_NODE_ENTRY 48u
#define AT_NODE_MIN_ENTRIES 16u  /* a node ends by content only from here on */
#define AT_NODE_MAX_ENTRIES 256u /* and always here */
#define AT_NODE_ODDS 64u         /* one entry in so many ends a node */
#define AT_NODE_MAX (AT_NODE_HEADER + AT_NODE_MAX_ENTRIES * AT_NODE_ENTRY)
#define AT_NODE_LEVELS 12u
#define AT_DISK_LEN 48u

struct at_entry {
    uint64_t offset; /* bytes from the beginning of the disk */
    uint64_t len;    /* up to the end of the last chunk below it */
    struct at_digest digest;
};
static inline uint64_t at_entry_end(const struct at_entry *e)
{
    return e->offset + e->len;
}

/* True when an entry named @digest ends its node (given that it has the least entries). */
bool at_node_ends(const struct at_digest *digest);

/* Writes a node; returns its length, at most AT_NODE_MAX. */
size_t at_node_encode(uint8_t *out, unsigned level, const struct at_entry *entries, unsigned n);

/* Whether @data is a well-formed node of @level that covers exactly @parent's range (NULL: any).
 * Everything else here may only be called on nodes that passed. */
bool at_node_valid(const uint8_t *data, size_t len, unsigned level, const struct at_entry *parent,
                   GError **error);
unsigned at_node_count(const uint8_t *data);
unsigned at_node_level(const uint8_t *data);
void at_node_entry(const uint8_t *data, unsigned i, struct at_entry *ret_entry);
/* First entry that ends after @offset; at_node_count() when there is none. */
unsigned at_node_find(const uint8_t *data, uint64_t offset);

struct at_disk {
    uint64_t size;
    unsigned height; /* 0: no chunk at all; else the top node has level height - 1 */
    struct at_digest top;
};
void at_disk_encode(const struct at_disk *disk, uint8_t out[static AT_DISK_LEN]);
bool at_disk_decode(const uint8_t *data, size_t len, struct at_disk *ret_disk, GError **error);
