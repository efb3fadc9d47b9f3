/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 by OpenSSL's EVP with one context per thread, so that a call costs hashing and nothing
 * else; Merkle roots as in RFC 6962 (leaves 0x00, inner nodes 0x01). */
#include "vault/hash.h"

#include <openssl/evp.h>
#include <string.h>
#include <xxhash.h>

#include "vault/hash-many.h"

static EVP_MD *sha256; /* fetched once */

static void free_context(gpointer ctx)
{
    EVP_MD_CTX_free(ctx);
}
static GPrivate context = G_PRIVATE_INIT(free_context);

static EVP_MD_CTX *peek_context(void)
{
    EVP_MD_CTX *ctx = g_private_get(&context);
    if (G_LIKELY(ctx))
        return ctx;
    static gsize once;
    if (g_once_init_enter(&once)) {
        at_digest_prepare();
        sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
        g_once_init_leave(&once, 1);
    }
    ctx = EVP_MD_CTX_new();
    g_assert(sha256 && ctx);
    g_private_set(&context, ctx);
    return ctx;
}

/* Hashes @prefix (if >= 0) and @data.  OpenSSL fails here only when out of memory. */
static void digest_with(EVP_MD_CTX *ctx, int prefix, const void *data, size_t len, uint8_t *out)
{
    uint8_t byte = (uint8_t)prefix;
    int ok = EVP_DigestInit_ex2(ctx, sha256, NULL);
    if (prefix >= 0)
        ok &= EVP_DigestUpdate(ctx, &byte, 1);
    ok &= EVP_DigestUpdate(ctx, data, len) & EVP_DigestFinal_ex(ctx, out, NULL);
    g_assert(ok == 1);
}

void at_hash(const void *data, size_t len, struct at_digest *ret_digest)
{
    digest_with(peek_context(), -1, data, len, ret_digest->bytes);
}

void at_hash_block(const uint8_t *block, struct at_digest *ret_digest)
{
    digest_with(peek_context(), 0, block, AT_BLOCK, ret_digest->bytes);
}

void at_hash_chunk(const uint8_t *data, size_t len, struct at_digest *ret_digest)
{
    struct at_digest blocks[AT_CHUNK_MAX_BLOCKS];
    at_hash_chunk_blocks(data, len, ret_digest, blocks);
}

void at_hash_chunk_blocks(const uint8_t *data, size_t len, struct at_digest *ret_digest,
                          struct at_digest *ret_blocks)
{
    const uint8_t *blocks[AT_CHUNK_MAX_BLOCKS];
    size_t n = len / AT_BLOCK;
    g_assert(n >= 1 && n <= AT_CHUNK_MAX_BLOCKS);
    for (size_t i = 0; i < n; i++)
        blocks[i] = data + i * AT_BLOCK;
    at_hash_blocks(blocks, n, ret_blocks);
    at_hash_root(ret_blocks, n, ret_digest);
}

void at_hash_root(const struct at_digest *blocks, size_t n, struct at_digest *ret_digest)
{
    EVP_MD_CTX *ctx = peek_context();
    uint8_t nodes[AT_CHUNK_MAX_BLOCKS][AT_DIGEST_LEN];
    g_assert(n >= 1 && n <= AT_CHUNK_MAX_BLOCKS);
    memcpy(nodes, blocks, n * AT_DIGEST_LEN);
    /* Pairing level by level with an odd last one carried up is RFC 6962's split at the largest
     * power of two. */
    while (n > 1) {
        size_t half = n / 2;
        for (size_t i = 0; i < half; i++)
            digest_with(ctx, 1, nodes[2 * i], 2 * AT_DIGEST_LEN, nodes[i]);
        if (n % 2)
            memmove(nodes[half], nodes[n - 1], AT_DIGEST_LEN);
        n = half + n % 2;
    }
    memcpy(ret_digest->bytes, nodes[0], AT_DIGEST_LEN);
}

void at_hash_object(uint8_t kind, const uint8_t *data, size_t len, struct at_digest *ret_digest)
{
    if (kind == AT_KIND_CHUNK)
        at_hash_chunk(data, len, ret_digest);
    else
        at_hash(data, len, ret_digest);
}

bool at_block_is_zero(const uint8_t *block)
{
    uint64_t head;
    memcpy(&head, block, sizeof head);
    return head == 0 && memcmp(block, block + 8, AT_BLOCK - 8) == 0;
}

bool at_block_ends(const uint8_t *block)
{
    return XXH3_64bits(block, AT_BLOCK) % AT_CHUNK_ODDS == 0;
}
