/* SPDX-License-Identifier: Apache-2.0 */
/* Reading chunks through the cache, a few blocks at a time.
 *
 * The name of a chunk proves the names of its blocks, and these are kept (32 bytes for 4096) much
 * longer than the chunk itself can be.  As long as they are there, a chunk that is read again is
 * only decoded, and of its blocks those are hashed that somebody wants. */
#include <string.h>

#include "base/error.h"
#include "vault/hash-many.h"
#include "vault/hash.h"
#include "vault/vault-internal.h"

#define ALL UINT64_MAX

static void note_blocks(struct at_vault *vault, const struct at_digest *digest,
                        const struct at_digest *names, size_t n)
{
    struct at_buf *buf = at_buf_new(n * sizeof *names);
    memcpy(buf->data, names, buf->len);
    at_cache_add(vault->blocks, digest, buf);
    at_buf_unref(buf);
}

/* Whole and proved, with the names of its blocks noted. */
static struct at_buf *read_whole(struct at_vault *vault, const struct at_digest *digest,
                                 GError **error)
{
    struct at_digest blocks[AT_CHUNK_MAX_BLOCKS];
    struct at_buf *buf = at_object_read_blocks(vault, digest, AT_KIND_CHUNK, blocks, error);
    if (buf) {
        buf->proved = ALL;
        note_blocks(vault, digest, blocks, buf->len / AT_BLOCK);
    }
    return buf;
}

/* *ret_blocks: the names of its blocks, when they had to be looked up; else untouched. */
static struct at_buf *load(struct at_vault *vault, const struct at_digest *digest,
                           struct at_buf **ret_blocks, GError **error)
{
    struct at_buf *buf = at_cache_begin(vault->chunks, digest);
    if (buf)
        return buf;
    struct at_buf *blocks = *ret_blocks = at_cache_peek(vault->blocks, digest);
    /* What is wrong with it, if anything, the whole way finds out. */
    if (blocks)
        buf = at_object_decode(vault, digest, AT_KIND_CHUNK);
    if (buf && buf->len / AT_BLOCK * sizeof(struct at_digest) != blocks->len)
        g_clear_pointer(&buf, at_buf_unref);
    if (!buf)
        buf = read_whole(vault, digest, error);
    at_cache_fill(vault->chunks, digest, buf);
    return buf;
}

/* The blocks that [skip, skip + len) touches, as bits. */
static uint64_t bits_of(size_t skip, size_t len)
{
    unsigned first = (unsigned)(skip / AT_BLOCK), last = (unsigned)((skip + len - 1) / AT_BLOCK);
    return (ALL >> (63 - (last - first))) << first;
}

static bool prove(struct at_buf *buf, const struct at_buf *blocks, uint64_t want)
{
    uint64_t left = want & ~__atomic_load_n(&buf->proved, __ATOMIC_ACQUIRE);
    for (; left; left &= left - 1) {
        size_t i = (size_t)__builtin_ctzll(left);
        struct at_digest actual;
        at_hash_block(buf->data + i * AT_BLOCK, &actual);
        if (memcmp(&actual, blocks->data + i * sizeof actual, sizeof actual) != 0)
            return false;
    }
    __atomic_fetch_or(&buf->proved, want, __ATOMIC_RELEASE);
    return true;
}

bool at_chunk_read(struct at_vault *vault, const struct at_digest *digest, size_t chunk_len,
                   size_t skip, void *out, size_t len, GError **error)
{
    g_autoptr(at_buf_auto) blocks = NULL;
    g_autoptr(at_buf_auto) buf = load(vault, digest, &blocks, error);
    if (!buf)
        return false;
    if (buf->len != chunk_len) {
        char hex[AT_DIGEST_HEX + 1];
        at_digest_to_hex(digest, hex);
        return at_error(error, AT_ERROR_CORRUPT, "chunk %s is not as long as its tree says", hex);
    }
    uint64_t want = bits_of(skip, len);
    if ((__atomic_load_n(&buf->proved, __ATOMIC_ACQUIRE) & want) != want) {
        if (!blocks)
            blocks = at_cache_peek(vault->blocks, digest);
        if (!blocks || !prove(buf, blocks, want)) {
            /* Either nobody knows the names any more or the bytes are not what they should be. */
            at_cache_drop(vault->chunks, digest, buf);
            struct at_buf *whole = read_whole(vault, digest, error);
            if (!whole)
                return false;
            at_cache_add(vault->chunks, digest, whole);
            at_buf_unref(buf);
            buf = whole;
        }
    }
    memcpy(out, buf->data + skip, len);
    return true;
}

/* Names of the blocks of several chunks are found together, which is cheaper than for each. */
void at_chunks_prove(const struct at_plain *plains, const struct at_digest *digests, size_t n,
                     bool *ret_right, struct at_digest *ret_names)
{
    const uint8_t *blocks[AT_CHUNKS_BLOCKS];
    size_t count = 0;
    blocks[0] = NULL;
    for (size_t i = 0; i < n; i++) {
        for (size_t at = 0; at < plains[i].len; at += AT_BLOCK) {
            g_assert(count < AT_CHUNKS_BLOCKS);
            blocks[count++] = plains[i].data + at;
        }
    }
    at_hash_blocks(blocks, count, ret_names);
    for (size_t i = 0; i < n; i++) {
        struct at_digest actual;
        size_t k = plains[i].len / AT_BLOCK;
        ret_right[i] = false;
        if (k == 0)
            continue;
        at_hash_root(ret_names, k, &actual);
        ret_right[i] = at_digest_equal(&actual, &digests[i]);
        ret_names += k;
    }
}

void at_chunks_prepare(struct at_vault *vault, const struct at_digest *digests, size_t n)
{
    struct at_buf *bufs[AT_CHUNKS_GROUP] = {0};
    struct at_plain plains[AT_CHUNKS_GROUP] = {0};
    struct at_digest mine[AT_CHUNKS_GROUP] = {0}, names[AT_CHUNKS_BLOCKS];
    bool right[AT_CHUNKS_GROUP];
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        /* Waiting here for one that is being loaded could be waiting for ourselves, when a disk
         * says the same twice, or for a group that waits for one of ours. */
        if (!at_cache_claim(vault->chunks, &digests[i]))
            continue;
        mine[m] = digests[i];
        bufs[m] = at_object_decode(vault, &digests[i], AT_KIND_CHUNK);
        if (bufs[m])
            plains[m] = (struct at_plain){bufs[m]->data, bufs[m]->len};
        m++;
    }
    at_chunks_prove(plains, mine, m, right, names);
    const struct at_digest *next = names;
    for (size_t i = 0; i < m; i++) {
        size_t count = plains[i].len / AT_BLOCK;
        if (right[i]) {
            bufs[i]->proved = ALL;
            note_blocks(vault, &mine[i], next, count);
        } else {
            /* A failure is told to the one who really reads it. */
            at_buf_unref(bufs[i]);
            bufs[i] = read_whole(vault, &mine[i], NULL);
        }
        next += count;
        at_cache_fill(vault->chunks, &mine[i], bufs[i]);
        at_buf_unref(bufs[i]);
    }
}
