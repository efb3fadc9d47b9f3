/* SPDX-License-Identifier: Apache-2.0 */
/* Who would have to go for a party to find a place: the fewest holders of one card, or of one node
 * when several parts are wanted. One holder and pairs are tried exactly; else all go, and who does
 * not disturb comes back. */
#include <string.h>

#include "gpu/placement-internal.h"

#define POOLS_MAX 4096 /* cards or nodes that are looked at */
#define HOLDERS_MAX 64 /* of one of them */
#define PAIRS_MAX 16   /* with more holders no pairs are tried */

/* The cards among which the place must be, and what is held of them. */
struct pool {
    struct at_gpu_site *site;
    unsigned party, node, from, to;
    unsigned n_holders;
    const char *holders[HOLDERS_MAX];
    GArray *held; /* struct held */
};

struct held {
    struct at_gpu_option option;
    unsigned holder;
};

static void blocked_free(void *p)
{
    struct at_gpu_blocked *blocked = p;
    g_ptr_array_unref(blocked->holders);
    g_free(blocked);
}

static bool find_holder(struct pool *pool, const char *name, unsigned *ret)
{
    unsigned i = 0;
    while (i < pool->n_holders && strcmp(pool->holders[i], name) != 0)
        i++;
    if (i == HOLDERS_MAX)
        return false;
    if (i == pool->n_holders)
        pool->holders[pool->n_holders++] = name;
    *ret = i;
    return true;
}

/* False when there are too many holders to look at. */
static bool fill_pool(struct pool *pool)
{
    g_array_set_size(pool->held, 0);
    pool->n_holders = 0;
    for (unsigned i = pool->from; i < pool->to; i++) {
        const struct at_gpu_site_card *card = &pool->site->cards[i];
        for (unsigned k = 0; k < card->in->n_holds && !card->shut; k++) {
            const struct at_gpu_hold *hold = &card->in->holds[k];
            struct held held = {.option = {.slot = i, .start = (uint8_t)hold->start}};
            held.option.part = (uint8_t)at_gpu_board_part(card->slot.board, hold->profile);
            if (!find_holder(pool, hold->holder, &held.holder))
                return false;
            g_array_append_val(pool->held, held);
        }
    }
    return true;
}

static void move(struct pool *pool, unsigned holder, bool away)
{
    for (unsigned i = 0; i < pool->held->len; i++) {
        const struct held *held = &g_array_index(pool->held, struct held, i);
        if (held->holder != holder)
            continue;
        if (away)
            at_gpu_site_drop(pool->site, &held->option);
        else
            at_gpu_site_take(pool->site, &held->option);
    }
}

static bool possible(struct pool *pool)
{
    const struct at_gpu_party *party = at_gpu_site_party(pool->site, pool->party);
    if (party->n == 1) {
        struct at_gpu_option option;
        unsigned shape = at_gpu_site_unit(pool->site, party->first)->shape;
        return at_gpu_site_card_best(pool->site, shape, pool->from, &option);
    }
    if (!at_gpu_site_put_on(pool->site, pool->party, pool->node))
        return false;
    at_gpu_site_unput(pool->site, pool->party);
    return true;
}

/* Memory that is held: of sets of the same number the smaller one goes. */
static uint64_t weight(const struct pool *pool, unsigned holder)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < pool->held->len; i++) {
        const struct held *held = &g_array_index(pool->held, struct held, i);
        const struct at_gpu_slot *slot = &pool->site->cards[held->option.slot].slot;
        if (held->holder == holder)
            sum += slot->board->parts[held->option.part].memory >> 20;
    }
    return sum;
}

static bool one_suffices(struct pool *pool, uint64_t *ret)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < pool->n_holders; i++) {
        if (weight(pool, i) >= least)
            continue;
        move(pool, i, true);
        bool enough = possible(pool);
        move(pool, i, false);
        if (enough) {
            least = weight(pool, i);
            *ret = UINT64_C(1) << i;
        }
    }
    return least != UINT64_MAX;
}

static bool two_suffice(struct pool *pool, uint64_t *ret)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < pool->n_holders && pool->n_holders <= PAIRS_MAX; i++) {
        move(pool, i, true);
        for (unsigned k = i + 1; k < pool->n_holders; k++) {
            uint64_t both = weight(pool, i) + weight(pool, k);
            move(pool, k, true);
            if (both < least && possible(pool)) {
                least = both;
                *ret = UINT64_C(1) << i | UINT64_C(1) << k;
            }
            move(pool, k, false);
        }
        move(pool, i, false);
    }
    return least != UINT64_MAX;
}

static bool enough_suffice(struct pool *pool, uint64_t *ret)
{
    uint64_t away = 0;
    for (unsigned i = 0; i < pool->n_holders; i++) {
        move(pool, i, true);
        away |= UINT64_C(1) << i;
    }
    bool enough = possible(pool);
    *ret = away;
    for (unsigned i = 0; i < pool->n_holders; i++) {
        move(pool, i, false);
        if (enough && possible(pool))
            *ret &= ~(UINT64_C(1) << i);
        else if (enough)
            move(pool, i, true);
    }
    for (unsigned i = 0; i < pool->n_holders && enough; i++) {
        if (*ret >> i & 1)
            move(pool, i, false);
    }
    return enough;
}

static void look_at(struct pool *pool, GPtrArray *found)
{
    uint64_t set = 0;
    if (!fill_pool(pool) || !pool->n_holders)
        return;
    if (!one_suffices(pool, &set) && !two_suffice(pool, &set) && !enough_suffice(pool, &set))
        return;
    struct at_gpu_blocked *blocked = g_new0(struct at_gpu_blocked, 1);
    blocked->node = pool->node;
    blocked->from = pool->from;
    blocked->to = pool->to;
    blocked->holders = g_ptr_array_new();
    for (unsigned i = 0; i < pool->n_holders; i++) {
        if (set >> i & 1)
            g_ptr_array_add(blocked->holders, (void *)pool->holders[i]);
    }
    blocked->n = blocked->holders->len;
    g_ptr_array_add(found, blocked);
}

static int compare_blocked(const void *a, const void *b)
{
    const struct at_gpu_blocked *x = *(struct at_gpu_blocked *const *)a;
    const struct at_gpu_blocked *y = *(struct at_gpu_blocked *const *)b;
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return x->from < y->from ? -1 : x->from > y->from;
}

GPtrArray *at_gpu_blockers(struct at_gpu_site *site, unsigned party)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(blocked_free);
    g_autoptr(GArray) held = g_array_new(FALSE, FALSE, sizeof(struct held));
    struct pool pool = {.site = site, .party = party, .held = held};
    bool by_card = at_gpu_site_party(site, party)->n == 1;
    unsigned pools = 0;
    for (unsigned node = site->from; node < site->to && pools < POOLS_MAX; node++) {
        pool.node = node;
        pool.from = site->first[node];
        pool.to = site->first[node + 1];
        if (!by_card) {
            pools++;
            look_at(&pool, found);
            continue;
        }
        for (unsigned card = site->first[node]; card < site->first[node + 1]; card++, pools++) {
            pool.from = card;
            pool.to = card + 1;
            if (!site->cards[card].shut)
                look_at(&pool, found);
        }
    }
    g_ptr_array_sort(found, compare_blocked);
    return found;
}
