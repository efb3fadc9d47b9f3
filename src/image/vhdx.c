/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMU does not check of a VHDX file: that every block its table names lies inside of the
 * file, and that it needs no parent. Offsets and GUIDs: [MS-VHDX] sections 2.2.3, 2.5 and 2.6. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "image/image-internal.h"

enum {
    REGION_TABLE = 192 << 10,
    TABLE_LEN = 64 << 10,
    ENTRY_LEN = 32,
    ENTRIES_MAX = 2047,
    BAT_MAX = 256 << 20, /* a table for the 64 TiB that the format allows at the least block size */
    BAT_PIECE = 1 << 20,
};

static const uint8_t bat_region[16] = {0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
                                       0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08};
static const uint8_t metadata_region[16] = {0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
                                            0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e};
static const uint8_t file_parameters[16] = {0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
                                            0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b};

static uint64_t le(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

static bool read_all(int fd, void *buf, size_t len, uint64_t offset, const char *name,
                     GError **error)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return at_error_errno(error, errno, "read %s", name);
        if (n == 0)
            return at_error(error, AT_ERROR_INVALID, "%s is a truncated VHDX image", name);
        done += (size_t)n;
    }
    return true;
}

/* Finds the entry of @guid in a table whose entries begin at @first. */
static const uint8_t *find(const uint8_t *table, unsigned first, uint64_t count,
                           const uint8_t *guid)
{
    for (uint64_t i = 0; i < MIN(count, ENTRIES_MAX); i++) {
        const uint8_t *entry = table + first + i * ENTRY_LEN;
        if (entry + ENTRY_LEN <= table + TABLE_LEN && memcmp(entry, guid, 16) == 0)
            return entry;
    }
    return NULL;
}

static bool read_parameters(int fd, const char *name, uint64_t metadata, uint64_t *ret_block,
                            GError **error)
{
    g_autofree uint8_t *table = g_malloc(TABLE_LEN);
    uint8_t item[8];
    if (!read_all(fd, table, TABLE_LEN, metadata, name, error))
        return false;
    const uint8_t *entry = find(table, 32, le(table + 10, 2), file_parameters);
    if (!entry)
        return at_error(error, AT_ERROR_INVALID, "%s is a VHDX image without parameters", name);
    if (!read_all(fd, item, sizeof item, metadata + le(entry + 16, 4), name, error))
        return false;
    if (le(item + 4, 4) & 2)
        return at_error(error, AT_ERROR_INVALID,
                        "%s is a VHDX image that needs its parent; flatten it first", name);
    *ret_block = le(item, 4);
    return true;
}

bool at_vhdx_check(int fd, const char *name, uint64_t file_size, GError **error)
{
    g_autofree uint8_t *table = g_malloc(TABLE_LEN);
    if (!read_all(fd, table, TABLE_LEN, REGION_TABLE, name, error))
        return false;
    const uint8_t *bat = find(table, 16, le(table + 8, 4), bat_region);
    const uint8_t *metadata = find(table, 16, le(table + 8, 4), metadata_region);
    if (memcmp(table, "regi", 4) != 0 || !bat || !metadata)
        return at_error(error, AT_ERROR_INVALID, "%s is a damaged VHDX image (no region table)",
                        name);
    uint64_t block = 0;
    if (!read_parameters(fd, name, le(metadata + 16, 8), &block, error))
        return false;
    uint64_t offset = le(bat + 16, 8);
    uint64_t len = le(bat + 24, 4);
    if (len > BAT_MAX || offset > file_size || len > file_size - offset)
        return at_error(error, AT_ERROR_INVALID, "%s is a truncated VHDX image (block table)",
                        name);
    g_autofree uint8_t *piece = g_malloc(BAT_PIECE);
    for (uint64_t at = 0; at < len; at += BAT_PIECE) {
        size_t n = (size_t)MIN(len - at, BAT_PIECE);
        if (!read_all(fd, piece, n, offset + at, name, error))
            return false;
        for (size_t i = 0; i + 8 <= n; i += 8) {
            uint64_t entry = le(piece + i, 8);
            bool present = (entry & 7) >= 6;
            uint64_t end = (entry >> 20 << 20) + block;
            if (present && end > file_size)
                return at_error(error, AT_ERROR_INVALID,
                                "%s is truncated: a block ends at byte %" G_GUINT64_FORMAT
                                ", the file has %" G_GUINT64_FORMAT,
                                name, end, file_size);
        }
    }
    return true;
}
