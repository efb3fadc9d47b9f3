/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers with a count of holders: bytes of one object, shared between threads.  All of them are
 * verified, but for chunks, of which only those blocks are that `proved` has a bit for. */
#pragma once
#include <glib.h>
#include <stddef.h>
#include <stdint.h>

struct at_buf {
    gint refs;
    size_t len;
    guint64 proved; /* chunks: atomic; only ever gains bits */
    uint8_t data[];
};
static inline struct at_buf *at_buf_new(size_t len)
{
    struct at_buf *b = g_malloc(sizeof *b + len);
    b->refs = 1;
    b->len = len;
    b->proved = 0;
    return b;
}
static inline struct at_buf *at_buf_ref(struct at_buf *b)
{
    g_atomic_int_inc(&b->refs);
    return b;
}
static inline void at_buf_unref(struct at_buf *b)
{
    if (b && g_atomic_int_dec_and_test(&b->refs))
        g_free(b);
}
typedef struct at_buf at_buf_auto;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_buf_auto, at_buf_unref)
