/* SPDX-License-Identifier: Apache-2.0 */
/* Reading chunks through the cache, a few blocks at a time.
 *
 * The name of a chunk proves the names of its blocks, and these are kept (32 bytes for 4096) much
 * longer than the chunk itself can be.  As long as they are there, a chunk that is read again is
 * only decoded, and of its blocks those are hashed that somebody wants. */
#include <string.h>

#include "base/error.h"
#include "vault/hash.h"
#include "vault/vault-internal.h"

#define ALL UINT64_MAX

/* Whole and proved, with the names of its blocks noted. */
static struct at_buf *read_whole(struct at_vault *vault, const struct at_digest *digest,
                                 GError **error)
{
    struct at_buf *blocks = at_buf_new(sizeof(struct at_digest) * AT_CHUNK_MAX_BLOCKS);
    struct at_buf *buf = at_object_read_blocks(vault, digest, AT_KIND_CHUNK,
                                               (struct at_digest *)blocks->data, error);
    if (buf) {
        buf->proved = ALL;
        struct at_buf *fit = at_buf_new(buf->len / AT_BLOCK * sizeof(struct at_digest));
        memcpy(fit->data, blocks->data, fit->len);
        at_cache_add(vault->blocks, digest, fit);
        at_buf_unref(fit);
    }
    at_buf_unref(blocks);
    return buf;
}

static struct at_buf *load(struct at_vault *vault, const struct at_digest *digest, GError **error)
{
    struct at_buf *buf = at_cache_begin(vault->chunks, digest);
    if (buf)
        return buf;
    g_autoptr(at_buf_auto) blocks = at_cache_peek(vault->blocks, digest);
    /* What is wrong with it, if anything, the whole way finds out. */
    if (blocks)
        buf = at_object_decode(vault, digest);
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
    uint64_t proved = __atomic_load_n(&buf->proved, __ATOMIC_ACQUIRE), todo = want & ~proved;
    for (unsigned i = 0; todo >> i; i++) {
        struct at_digest actual;
        if (!(todo >> i & 1))
            continue;
        at_hash_block(buf->data + (size_t)i * AT_BLOCK, &actual);
        if (memcmp(&actual, blocks->data + i * sizeof actual, sizeof actual) != 0)
            return false;
        todo &= ~(UINT64_C(1) << i);
        if (todo == 0)
            break;
    }
    __atomic_fetch_or(&buf->proved, want, __ATOMIC_RELEASE);
    return true;
}

bool at_chunk_read(struct at_vault *vault, const struct at_digest *digest, size_t chunk_len,
                   size_t skip, void *out, size_t len, GError **error)
{
    g_autoptr(at_buf_auto) buf = load(vault, digest, error);
    if (!buf)
        return false;
    if (buf->len != chunk_len) {
        char hex[AT_DIGEST_HEX + 1];
        at_digest_to_hex(digest, hex);
        return at_error(error, AT_ERROR_CORRUPT, "chunk %s is not as long as its tree says", hex);
    }
    uint64_t want = bits_of(skip, len);
    if ((__atomic_load_n(&buf->proved, __ATOMIC_ACQUIRE) & want) != want) {
        g_autoptr(at_buf_auto) blocks = at_cache_peek(vault->blocks, digest);
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

void at_chunk_prepare(struct at_vault *vault, const struct at_digest *digest)
{
    /* A failure is told to the one who really reads it. */
    g_autoptr(at_buf_auto) buf = load(vault, digest, NULL);
    g_autoptr(at_buf_auto) blocks = buf ? at_cache_peek(vault->blocks, digest) : NULL;
    if (blocks)
        prove(buf, blocks, bits_of(0, buf->len));
}
