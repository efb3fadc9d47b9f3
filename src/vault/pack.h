/* SPDX-License-Identifier: Apache-2.0 */
/* Pack files for reading: a bounded set of open descriptors, records, and scanning.  Any thread. */
#pragma once
#include "vault/format.h"

#define AT_PACK_NAME_LEN 16 /* "0000002a.pack" and NUL */

struct at_packs;
struct at_packs *at_packs_new(const char *dir); /* .../packs */
void at_packs_free(struct at_packs *packs);
const char *at_packs_dir(const struct at_packs *packs);
char *at_packs_path(const struct at_packs *packs, uint32_t id);

/* Forgets the open descriptor of a pack that was removed. */
void at_packs_forget(struct at_packs *packs, uint32_t id);

enum at_pack_read {
    AT_PACK_READ_OK,
    AT_PACK_READ_MOVED, /* no such file, or no such record there: gc may have moved it */
    AT_PACK_READ_BAD,   /* the disk cannot give these bytes (EIO); @error is set */
    AT_PACK_READ_ERROR, /* @error is set */
};

/* Reads the record at @offset, which must be for @digest with @stored bytes, into @buf
 * (AT_RECORD_HEADER + @stored bytes; the payload begins behind the header).  Only the header is
 * checked here. */
enum at_pack_read at_packs_read(struct at_packs *packs, uint32_t id, uint64_t offset,
                                const struct at_digest *digest, uint32_t stored, uint8_t *buf,
                                struct at_record *ret_record, GError **error);

/* Ids of the pack files in the directory, ascending (uint32_t). */
GArray *at_packs_list(struct at_packs *packs, GError **error);

/* Size of the file and its header; CORRUPT when it has none. */
bool at_pack_open(struct at_packs *packs, uint32_t id, bool writable, int *ret_fd,
                  struct at_pack_header *ret_header, uint64_t *ret_size, GError **error);

/* Calls @func for every whole record from @from (at least AT_PACK_HEADER) to @to whose stored
 * bytes pass their check; damaged stretches, also what the disk cannot give (EIO), are stepped
 * over, and what is found behind one must hash to its name: it may be what a guest has written.
 * *ret_end is where the last whole record ends, or @to when the disk cannot give what is behind it;
 * *ret_damaged the bytes stepped over before it. */
typedef bool (*at_pack_func)(const struct at_record *record, uint64_t offset,
                             const uint8_t *payload, void *user, GError **error);
bool at_pack_scan(int fd, uint64_t from, uint64_t to, at_pack_func func, void *user,
                  uint64_t *ret_end, uint64_t *ret_damaged, GError **error);

/* pread of exactly @len bytes; *ret_short when the file ends before. */
bool at_pread_full(int fd, void *buf, size_t len, uint64_t offset, bool *ret_short, GError **error);
