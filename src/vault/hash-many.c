/* SPDX-License-Identifier: Apache-2.0 */
/* Batches for the multi-buffer library; what makes no batch goes to OpenSSL. */
#include "vault/hash-many.h"

#include <string.h>

#include "vault/hash.h"

#ifdef HAVE_IPSEC_MB
#include <intel-ipsec-mb.h>

#define BATCH 16u /* messages that AVX-512 takes at once */
#define WORTH 8u  /* a batch takes as long as so many blocks by OpenSSL */

/* One per thread.  The library wants each message in one piece. */
struct side_by_side {
    IMB_MGR *mgr;
    uint8_t messages[BATCH][AT_BLOCK + 64]; /* 0x00 and the block */
};

static void side_by_side_free(gpointer p)
{
    struct side_by_side *s = p;
    if (s->mgr)
        free_mb_mgr(s->mgr);
    g_free(s);
}
static GPrivate key = G_PRIVATE_INIT(side_by_side_free);

/* False when it has not hashed all of them: then @ret_digests holds rubbish. */
static bool run_batch(struct side_by_side *s, const uint8_t *const *blocks, size_t n,
                      struct at_digest *ret_digests)
{
    size_t completed = 0;
    IMB_JOB *ended;
    for (size_t i = 0; i < n; i++) {
        s->messages[i][0] = 0;
        memcpy(s->messages[i] + 1, blocks[i], AT_BLOCK);
        IMB_JOB *job = IMB_GET_NEXT_JOB(s->mgr);
        memset(job, 0, sizeof *job);
        job->cipher_mode = IMB_CIPHER_NULL;
        job->cipher_direction = IMB_DIR_ENCRYPT;
        job->chain_order = IMB_ORDER_HASH_CIPHER;
        job->hash_alg = IMB_AUTH_SHA_256;
        job->src = s->messages[i];
        job->msg_len_to_hash_in_bytes = 1 + AT_BLOCK;
        job->auth_tag_output = ret_digests[i].bytes;
        job->auth_tag_output_len_in_bytes = AT_DIGEST_LEN;
        for (ended = IMB_SUBMIT_JOB(s->mgr); ended; ended = IMB_GET_COMPLETED_JOB(s->mgr))
            completed += ended->status == IMB_STATUS_COMPLETED;
    }
    while ((ended = IMB_FLUSH_JOB(s->mgr)))
        completed += ended->status == IMB_STATUS_COMPLETED;
    return completed == n;
}

/* The library is trusted with names only after it has given the right ones. */
static bool is_right(struct side_by_side *s)
{
    static const uint8_t zeros[AT_BLOCK];
    uint8_t ones[AT_BLOCK];
    const uint8_t *blocks[BATCH];
    struct at_digest got[BATCH], zero, one;
    memset(ones, 1, sizeof ones);
    memset(got, 0, sizeof got);
    at_hash_block(zeros, &zero);
    at_hash_block(ones, &one);
    for (unsigned i = 0; i < BATCH; i++)
        blocks[i] = i % 3 ? ones : zeros;
    if (!run_batch(s, blocks, BATCH, got))
        return false;
    for (unsigned i = 0; i < BATCH; i++) {
        if (!at_digest_equal(&got[i], i % 3 ? &one : &zero))
            return false;
    }
    return imb_get_errno(s->mgr) == 0;
}

/* NULL where the library is of no use. */
static struct side_by_side *peek(void)
{
    static gint useless;
    struct side_by_side *s = g_private_get(&key);
    if (s || g_atomic_int_get(&useless))
        return s;
    s = g_new0(struct side_by_side, 1);
    s->mgr = alloc_mb_mgr(0);
    if (s->mgr)
        init_mb_mgr_auto(s->mgr, NULL);
    if (!s->mgr || imb_get_errno(s->mgr) || !is_right(s)) {
        g_atomic_int_set(&useless, 1);
        side_by_side_free(s);
        return NULL;
    }
    g_private_set(&key, s);
    return s;
}

void at_hash_blocks(const uint8_t *const *blocks, size_t n, struct at_digest *ret_digests)
{
    struct side_by_side *s = n >= WORTH ? peek() : NULL;
    while (s && n >= WORTH) {
        size_t batch = MIN(n, BATCH);
        if (!run_batch(s, blocks, batch, ret_digests))
            break;
        blocks += batch;
        ret_digests += batch;
        n -= batch;
    }
    for (size_t i = 0; i < n; i++)
        at_hash_block(blocks[i], &ret_digests[i]);
}
#else
void at_hash_blocks(const uint8_t *const *blocks, size_t n, struct at_digest *ret_digests)
{
    for (size_t i = 0; i < n; i++)
        at_hash_block(blocks[i], &ret_digests[i]);
}
#endif
