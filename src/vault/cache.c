/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded cache in shards, each with its own lock and its own least-recently-used list. */
#include "vault/cache.h"

#define SHARDS 16

struct item {
    struct at_digest digest; /* first: the key */
    struct at_buf *buf;      /* NULL while it is being loaded */
    struct item *prev, *next;
};

struct shard {
    GMutex lock; /* guards all below */
    GCond loaded;
    GHashTable *items;
    struct item *newest, *oldest; /* loaded ones only */
    size_t bytes;
};

struct at_cache {
    gsize max; /* bytes per shard */
    struct shard shards[SHARDS];
};

static void item_free(gpointer p)
{
    struct item *item = p;
    at_buf_unref(item->buf);
    g_free(item);
}

struct at_cache *at_cache_new(size_t bytes)
{
    struct at_cache *cache = g_new0(struct at_cache, 1);
    cache->max = bytes / SHARDS;
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &cache->shards[i];
        g_mutex_init(&s->lock);
        g_cond_init(&s->loaded);
        s->items = g_hash_table_new_full(at_digest_key_hash, at_digest_key_equal, NULL, item_free);
    }
    return cache;
}

void at_cache_free(struct at_cache *cache)
{
    if (!cache)
        return;
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &cache->shards[i];
        g_hash_table_unref(s->items);
        g_cond_clear(&s->loaded);
        g_mutex_clear(&s->lock);
    }
    g_free(cache);
}

static void unlink_item(struct shard *s, struct item *item)
{
    *(item->prev ? &item->prev->next : &s->newest) = item->next;
    *(item->next ? &item->next->prev : &s->oldest) = item->prev;
    item->prev = item->next = NULL;
}

static void link_newest(struct shard *s, struct item *item)
{
    item->prev = NULL;
    item->next = s->newest;
    *(s->newest ? &s->newest->prev : &s->oldest) = item;
    s->newest = item;
}

static void shrink(struct shard *s, size_t max)
{
    while (s->bytes > max && s->oldest) {
        struct item *item = s->oldest;
        unlink_item(s, item);
        s->bytes -= item->buf->len;
        g_hash_table_remove(s->items, item);
    }
}

static struct shard *shard_of(struct at_cache *cache, const struct at_digest *digest)
{
    return &cache->shards[digest->bytes[AT_DIGEST_LEN - 1] % SHARDS];
}

void at_cache_set_bytes(struct at_cache *cache, size_t bytes)
{
    g_atomic_pointer_set(&cache->max, bytes / SHARDS);
    for (unsigned i = 0; i < SHARDS; i++) {
        g_mutex_lock(&cache->shards[i].lock);
        shrink(&cache->shards[i], bytes / SHARDS);
        g_mutex_unlock(&cache->shards[i].lock);
    }
}

/* With the lock held: a reference to what is loaded, which becomes the newest. */
static struct at_buf *take(struct shard *s, struct item *item)
{
    if (item != s->newest) {
        unlink_item(s, item);
        link_newest(s, item);
    }
    return at_buf_ref(item->buf);
}

/* With the lock held. */
static void load(struct shard *s, struct item *item, struct at_buf *buf, size_t max)
{
    item->buf = at_buf_ref(buf);
    link_newest(s, item);
    s->bytes += buf->len;
    shrink(s, max);
}

static struct item *add_item(struct shard *s, const struct at_digest *digest)
{
    struct item *item = g_new0(struct item, 1);
    item->digest = *digest;
    g_hash_table_insert(s->items, item, item);
    return item;
}

struct at_buf *at_cache_begin(struct at_cache *cache, const struct at_digest *digest)
{
    struct shard *s = shard_of(cache, digest);
    struct at_buf *buf = NULL;
    g_mutex_lock(&s->lock);
    for (;;) {
        struct item *item = g_hash_table_lookup(s->items, digest);
        if (!item) {
            add_item(s, digest);
            break;
        }
        if (item->buf) {
            buf = take(s, item);
            break;
        }
        g_cond_wait(&s->loaded, &s->lock);
    }
    g_mutex_unlock(&s->lock);
    return buf;
}

bool at_cache_claim(struct at_cache *cache, const struct at_digest *digest)
{
    struct shard *s = shard_of(cache, digest);
    g_mutex_lock(&s->lock);
    bool absent = !g_hash_table_contains(s->items, digest);
    if (absent)
        add_item(s, digest);
    g_mutex_unlock(&s->lock);
    return absent;
}

void at_cache_fill(struct at_cache *cache, const struct at_digest *digest, struct at_buf *buf)
{
    struct shard *s = shard_of(cache, digest);
    size_t max = (size_t)g_atomic_pointer_get(&cache->max);
    g_mutex_lock(&s->lock);
    struct item *item = g_hash_table_lookup(s->items, digest);
    if (buf && item && !item->buf) {
        load(s, item, buf, max);
    } else if (item && !item->buf) {
        g_hash_table_remove(s->items, digest);
    }
    g_cond_broadcast(&s->loaded);
    g_mutex_unlock(&s->lock);
}

struct at_buf *at_cache_peek(struct at_cache *cache, const struct at_digest *digest)
{
    struct shard *s = shard_of(cache, digest);
    g_mutex_lock(&s->lock);
    struct item *item = g_hash_table_lookup(s->items, digest);
    struct at_buf *buf = item && item->buf ? take(s, item) : NULL;
    g_mutex_unlock(&s->lock);
    return buf;
}

void at_cache_add(struct at_cache *cache, const struct at_digest *digest, struct at_buf *buf)
{
    struct shard *s = shard_of(cache, digest);
    size_t max = (size_t)g_atomic_pointer_get(&cache->max);
    g_mutex_lock(&s->lock);
    if (!g_hash_table_contains(s->items, digest))
        load(s, add_item(s, digest), buf, max);
    g_mutex_unlock(&s->lock);
}

void at_cache_drop(struct at_cache *cache, const struct at_digest *digest, struct at_buf *buf)
{
    struct shard *s = shard_of(cache, digest);
    g_mutex_lock(&s->lock);
    struct item *item = g_hash_table_lookup(s->items, digest);
    if (item && item->buf == buf) {
        unlink_item(s, item);
        s->bytes -= buf->len;
        g_hash_table_remove(s->items, digest);
    }
    g_mutex_unlock(&s->lock);
}

bool at_cache_has(struct at_cache *cache, const struct at_digest *digest)
{
    struct shard *s = shard_of(cache, digest);
    g_mutex_lock(&s->lock);
    bool has = g_hash_table_contains(s->items, digest);
    g_mutex_unlock(&s->lock);
    return has;
}
