/* SPDX-License-Identifier: Apache-2.0 */
/* Tree nodes and disk objects: encoding, and validation before anything is believed. */
#include "vault/node.h"

#include <string.h>

#include "base/error.h"

bool at_node_ends(const struct at_digest *digest)
{
    return at_get_le32(digest->bytes) % AT_NODE_ODDS == 0;
}

size_t at_node_encode(uint8_t *out, unsigned level, const struct at_entry *entries, unsigned n)
{
    memset(out, 0, AT_NODE_HEADER);
    out[0] = 0x02;
    out[1] = 1;
    out[2] = (uint8_t)level;
    at_put_le32(out + 4, n);
    uint8_t *p = out + AT_NODE_HEADER;
    for (unsigned i = 0; i < n; i++, p += AT_NODE_ENTRY) {
        at_put_le64(p, entries[i].offset);
        at_put_le64(p + 8, entries[i].len);
        memcpy(p + 16, entries[i].digest.bytes, AT_DIGEST_LEN);
    }
    return (size_t)(p - out);
}

unsigned at_node_count(const uint8_t *data)
{
    return at_get_le32(data + 4);
}

unsigned at_node_level(const uint8_t *data)
{
    return data[2];
}

void at_node_entry(const uint8_t *data, unsigned i, struct at_entry *ret_entry)
{
    const uint8_t *p = data + AT_NODE_HEADER + (size_t)i * AT_NODE_ENTRY;
    ret_entry->offset = at_get_le64(p);
    ret_entry->len = at_get_le64(p + 8);
    memcpy(ret_entry->digest.bytes, p + 16, AT_DIGEST_LEN);
}

unsigned at_node_find(const uint8_t *data, uint64_t offset)
{
    unsigned low = 0, high = at_node_count(data);
    while (low < high) {
        unsigned mid = (low + high) / 2;
        const uint8_t *p = data + AT_NODE_HEADER + (size_t)mid * AT_NODE_ENTRY;
        if (at_get_le64(p) + at_get_le64(p + 8) <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool at_node_valid(const uint8_t *data, size_t len, unsigned level, const struct at_entry *parent,
                   GError **error)
{
    if (len < AT_NODE_HEADER + AT_NODE_ENTRY || data[0] != 0x02)
        return at_error(error, AT_ERROR_CORRUPT, "not a tree node");
    if (data[1] != 1)
        return at_error(error, AT_ERROR_INVALID, "tree node version %u is newer than this Atoll",
                        data[1]);
    unsigned n = at_node_count(data);
    if (data[2] != level || data[3] != 0 || n == 0 || n > AT_NODE_MAX_ENTRIES ||
        len != AT_NODE_HEADER + (size_t)n * AT_NODE_ENTRY)
        return at_error(error, AT_ERROR_CORRUPT, "malformed tree node");
    uint64_t at = 0;
    struct at_entry first, e;
    at_node_entry(data, 0, &first);
    for (unsigned i = 0; i < n; i++) {
        at_node_entry(data, i, &e);
        uint64_t max = level == 0 ? AT_CHUNK_MAX : AT_DISK_MAX;
        if (e.offset % AT_BLOCK || e.len % AT_BLOCK || e.len == 0 || e.len > max || e.offset < at ||
            e.offset > AT_DISK_MAX)
            return at_error(error, AT_ERROR_CORRUPT, "malformed entry %u of a tree node", i);
        at = at_entry_end(&e);
    }
    if (parent && (first.offset != parent->offset || at != at_entry_end(parent)))
        return at_error(error, AT_ERROR_CORRUPT,
                        "a tree node covers another range than its parent "
                        "says");
    return true;
}

void at_disk_encode(const struct at_disk *disk, uint8_t out[static AT_DISK_LEN])
{
    memset(out, 0, AT_DISK_LEN);
    out[0] = 0x03;
    out[1] = 1;
    out[2] = (uint8_t)disk->height;
    at_put_le64(out + 8, disk->size);
    if (disk->height)
        memcpy(out + 16, disk->top.bytes, AT_DIGEST_LEN);
}

bool at_disk_decode(const uint8_t *data, size_t len, struct at_disk *ret_disk, GError **error)
{
    if (len < 2 || data[0] != 0x03)
        return at_error(error, AT_ERROR_CORRUPT, "not a disk");
    if (data[1] != 1)
        return at_error(error, AT_ERROR_INVALID, "disk version %u is newer than this Atoll",
                        data[1]);
    if (len != AT_DISK_LEN || data[2] > AT_NODE_LEVELS || at_get_le64(data + 8) > AT_DISK_MAX)
        return at_error(error, AT_ERROR_CORRUPT, "malformed disk object");
    struct at_disk disk = {.height = data[2], .size = at_get_le64(data + 8)};
    memcpy(disk.top.bytes, data + 16, AT_DIGEST_LEN);
    /* One disk has one name: bytes that mean nothing are zero. */
    uint8_t canonical[AT_DISK_LEN];
    at_disk_encode(&disk, canonical);
    if (memcmp(data, canonical, AT_DISK_LEN) != 0)
        return at_error(error, AT_ERROR_CORRUPT, "malformed disk object");
    *ret_disk = disk;
    return true;
}
