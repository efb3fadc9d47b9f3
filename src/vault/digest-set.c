/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of digest prefixes: open addressing, at most 3/4 full; digests are random already. */
#include "vault/digest-set.h"

#include <glib.h>
#include <string.h>

struct at_digest_set {
    unsigned words; /* per key: 1 or 2 */
    size_t count, slots;
    uint64_t *table; /* an all-zero key is an empty slot */
};

struct at_digest_set *at_digest_set_new(unsigned prefix_bytes)
{
    struct at_digest_set *set = g_new0(struct at_digest_set, 1);
    set->words = prefix_bytes <= 8 ? 1 : 2;
    set->slots = 256;
    set->table = g_new0(uint64_t, set->slots * set->words);
    return set;
}

void at_digest_set_free(struct at_digest_set *set)
{
    if (!set)
        return;
    g_free(set->table);
    g_free(set);
}

static void key_of(const struct at_digest *digest, uint64_t key[static 2])
{
    memcpy(key, digest->bytes, 16);
    if (key[0] == 0)
        key[0] = 1;
}

/* The slot that holds @key, or the empty one where it belongs. */
static uint64_t *find(const struct at_digest_set *set, const uint64_t *key)
{
    for (size_t i = key[0] & (set->slots - 1);; i = (i + 1) & (set->slots - 1)) {
        uint64_t *slot = set->table + i * set->words;
        if (slot[0] == 0 || (slot[0] == key[0] && (set->words == 1 || slot[1] == key[1])))
            return slot;
    }
}

bool at_digest_set_has(const struct at_digest_set *set, const struct at_digest *digest)
{
    uint64_t key[2];
    key_of(digest, key);
    return find(set, key)[0] != 0;
}

size_t at_digest_set_count(const struct at_digest_set *set)
{
    return set->count;
}

static void grow(struct at_digest_set *set)
{
    uint64_t *old = set->table;
    size_t slots = set->slots;
    set->slots *= 2;
    set->table = g_new0(uint64_t, set->slots * set->words);
    for (size_t i = 0; i < slots; i++) {
        const uint64_t *key = old + i * set->words;
        if (key[0])
            memcpy(find(set, key), key, set->words * sizeof *key);
    }
    g_free(old);
}

bool at_digest_set_add(struct at_digest_set *set, const struct at_digest *digest)
{
    uint64_t key[2];
    key_of(digest, key);
    uint64_t *slot = find(set, key);
    if (slot[0])
        return false;
    memcpy(slot, key, set->words * sizeof *key);
    if (++set->count * 4 > set->slots * 3)
        grow(set);
    return true;
}
