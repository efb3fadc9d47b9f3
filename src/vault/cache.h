/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded cache of verified objects.  Of several threads that want an absent one, the first
 * loads it and the others wait for the result.  Any thread. */
#pragma once
#include "vault/buf.h"
#include "vault/format.h"

struct at_cache;
struct at_cache *at_cache_new(size_t bytes);
void at_cache_free(struct at_cache *cache);
void at_cache_set_bytes(struct at_cache *cache, size_t bytes);

/* A reference to the object, or NULL.  With NULL the caller must load it and call
 * at_cache_fill(), with NULL on failure (waiting threads then try for themselves). */
struct at_buf *at_cache_begin(struct at_cache *cache, const struct at_digest *digest);
void at_cache_fill(struct at_cache *cache, const struct at_digest *digest, struct at_buf *buf);

/* Like at_cache_begin() for who does not want the object itself: true when it is neither there nor
 * being loaded, and then at_cache_fill() must be called.  Never waits, so that many may be held. */
bool at_cache_claim(struct at_cache *cache, const struct at_digest *digest);

/* Like at_cache_begin() and at_cache_fill() for those who need not have it: NULL when it is not
 * there, and nothing is to be done then; an object that is there already stays. */
struct at_buf *at_cache_peek(struct at_cache *cache, const struct at_digest *digest);
void at_cache_add(struct at_cache *cache, const struct at_digest *digest, struct at_buf *buf);
/* Takes @buf out, if that is what is there; who holds it keeps it. */
void at_cache_drop(struct at_cache *cache, const struct at_digest *digest, struct at_buf *buf);

/* Whether it is there or being loaded; for read-ahead. */
bool at_cache_has(struct at_cache *cache, const struct at_digest *digest);
