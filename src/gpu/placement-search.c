/* SPDX-License-Identifier: Apache-2.0 */
/* The search. First greedily, the largest holder first, each where it costs least; who finds no
 * place that way is moved to the front. When that fails too everything is tried, depth first, until
 * a bound of steps is used up: a small site is searched to its end. */
#include <stdlib.h>
#include <string.h>

#include "gpu/placement-internal.h"

#define NODES_WEIGHED 64  /* for one holder of several parts, after a place was found */
#define NUMA_NODES_MAX 16 /* of one host */
#define STEPS 1000000     /* of the exhaustive search: about 50 ms */
#define STEPS_PER_NODE 8  /* of going through nodes */

struct ranked {
    struct at_gpu_cost cost;
    unsigned node;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (at_gpu_cost_less(&x->cost, &y->cost))
        return -1;
    if (at_gpu_cost_less(&y->cost, &x->cost))
        return 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

static void add_cost(struct at_gpu_cost *sum, const struct at_gpu_cost *cost)
{
    sum->high += cost->high;
    sum->low += cost->low;
}

/* ---- one party ---- */

static struct at_gpu_unit *unit_of(const struct at_gpu_site *site, const struct at_gpu_party *party,
                                   unsigned i)
{
    return at_gpu_site_unit(site, party->first + i);
}

/* No cost of the party on @node is below: each unit as if it were alone. */
static bool bound_on(struct at_gpu_site *site, const struct at_gpu_party *party, unsigned node,
                     struct at_gpu_cost *ret)
{
    *ret = (struct at_gpu_cost){0};
    for (unsigned i = 0; i < party->n; i++) {
        const struct at_gpu_option *best =
            at_gpu_site_node_best(site, unit_of(site, party, i)->shape, node);
        if (!best)
            return false;
        add_cost(ret, &best->cost);
    }
    return true;
}

/* All nodes that are not ruled out, the most promising first. */
static void rank_nodes(struct at_gpu_site *site, const struct at_gpu_party *party, GArray *ranked)
{
    g_array_set_size(ranked, 0);
    for (unsigned node = site->from; node < site->to; node++) {
        struct ranked r = {.node = node};
        if (bound_on(site, party, node, &r.cost))
            g_array_append_val(ranked, r);
    }
    if (ranked->len)
        qsort(ranked->data, ranked->len, sizeof(struct ranked), compare_ranked);
}

static int numa_of(const struct at_gpu_site *site, unsigned card)
{
    return site->cards[card].in->card->numa_node;
}

static bool unit_best(struct at_gpu_site *site, unsigned shape, unsigned node, int numa,
                      struct at_gpu_option *ret)
{
    if (numa < 0) {
        const struct at_gpu_option *best = at_gpu_site_node_best(site, shape, node);
        if (best)
            *ret = *best;
        return best != NULL;
    }
    bool found = false;
    for (unsigned card = site->first[node]; card < site->first[node + 1]; card++) {
        struct at_gpu_option option;
        if (numa_of(site, card) == numa && at_gpu_site_card_best(site, shape, card, &option) &&
            (!found || at_gpu_cost_less(&option.cost, &ret->cost))) {
            *ret = option;
            found = true;
        }
    }
    return found;
}

static void drop_units(struct at_gpu_site *site, const struct at_gpu_party *party, unsigned n)
{
    while (n--)
        at_gpu_site_drop(site, &unit_of(site, party, n)->pick);
}

/* How many NUMA nodes more than one the picks are spread over. */
static unsigned numa_spread(const struct at_gpu_site *site, const struct at_gpu_party *party)
{
    int seen[AT_GPU_UNITS_MAX];
    unsigned n = 0;
    for (unsigned i = 0; i < party->n; i++) {
        int numa = numa_of(site, unit_of(site, party, i)->pick.slot);
        unsigned k = 0;
        while (k < n && seen[k] != numa)
            k++;
        if (k == n)
            seen[n++] = numa;
    }
    return n - 1;
}

/* Takes the best of each unit in turn; @numa: only cards there, or -1. */
static bool take_greedily(struct at_gpu_site *site, const struct at_gpu_party *party, unsigned node,
                          int numa, struct at_gpu_cost *ret)
{
    struct at_gpu_cost sum = {0};
    for (unsigned i = 0; i < party->n; i++) {
        struct at_gpu_unit *unit = unit_of(site, party, i);
        if (!unit_best(site, unit->shape, node, numa, &unit->pick)) {
            drop_units(site, party, i);
            return false;
        }
        at_gpu_site_take(site, &unit->pick);
        add_cost(&sum, &unit->pick.cost);
    }
    sum.high += MIN(numa_spread(site, party), 255U);
    *ret = sum;
    return true;
}

static unsigned numa_nodes(const struct at_gpu_site *site, unsigned node, int *ret)
{
    unsigned n = 0;
    for (unsigned card = site->first[node]; card < site->first[node + 1]; card++) {
        unsigned k = 0;
        while (k < n && ret[k] != numa_of(site, card))
            k++;
        if (k == n && n < NUMA_NODES_MAX && numa_of(site, card) >= 0)
            ret[n++] = numa_of(site, card);
    }
    return n;
}

/* The best of: wherever, or all on one NUMA node. *best is what to beat; true when it was beaten,
 * then the picks are in @picks. Nothing stays taken. */
static bool weigh_node(struct at_gpu_site *site, const struct at_gpu_party *party, unsigned node,
                       bool have, struct at_gpu_cost *best, struct at_gpu_option *picks)
{
    int numa[NUMA_NODES_MAX + 1] = {-1};
    unsigned n = 1;
    bool beaten = false;
    if (party->n > 1) {
        n += numa_nodes(site, node, numa + 1);
        n = n == 2 ? 1 : n; /* there is only one */
    }
    for (unsigned i = 0; i < n; i++) {
        struct at_gpu_cost cost;
        if (!take_greedily(site, party, node, numa[i], &cost))
            continue;
        if ((!have && !beaten) || at_gpu_cost_less(&cost, best)) {
            *best = cost;
            beaten = true;
            for (unsigned k = 0; k < party->n; k++)
                picks[k] = unit_of(site, party, k)->pick;
        }
        drop_units(site, party, party->n);
    }
    return beaten;
}

static void take_picks(struct at_gpu_site *site, const struct at_gpu_party *party,
                       const struct at_gpu_option *picks)
{
    for (unsigned i = 0; i < party->n; i++) {
        unit_of(site, party, i)->pick = picks[i];
        at_gpu_site_take(site, &picks[i]);
    }
}

/* A single part needs no ranking: the best of each node is exact. */
static bool put_single(struct at_gpu_site *site, const struct at_gpu_party *party)
{
    struct at_gpu_unit *unit = unit_of(site, party, 0);
    bool found = false;
    for (unsigned node = site->from; node < site->to; node++) {
        const struct at_gpu_option *best = at_gpu_site_node_best(site, unit->shape, node);
        if (best && (!found || at_gpu_cost_less(&best->cost, &unit->pick.cost))) {
            unit->pick = *best;
            found = true;
        }
    }
    if (found)
        at_gpu_site_take(site, &unit->pick);
    return found;
}

bool at_gpu_site_put(struct at_gpu_site *site, unsigned number)
{
    const struct at_gpu_party *party = at_gpu_site_party(site, number);
    if (party->n == 1)
        return put_single(site, party);
    g_autoptr(GArray) ranked = g_array_new(FALSE, FALSE, sizeof(struct ranked));
    struct at_gpu_option picks[AT_GPU_UNITS_MAX];
    struct at_gpu_cost best;
    bool have = false;
    rank_nodes(site, party, ranked);
    for (unsigned i = 0; i < ranked->len && !(have && i >= NODES_WEIGHED); i++) {
        const struct ranked *r = &g_array_index(ranked, struct ranked, i);
        if (have && !at_gpu_cost_less(&r->cost, &best))
            break;
        have |= weigh_node(site, party, r->node, have, &best, picks);
    }
    if (have)
        take_picks(site, party, picks);
    return have;
}

bool at_gpu_site_put_on(struct at_gpu_site *site, unsigned number, unsigned node)
{
    const struct at_gpu_party *party = at_gpu_site_party(site, number);
    struct at_gpu_option picks[AT_GPU_UNITS_MAX];
    struct at_gpu_cost best;
    if (!weigh_node(site, party, node, false, &best, picks))
        return false;
    take_picks(site, party, picks);
    return true;
}

void at_gpu_site_unput(struct at_gpu_site *site, unsigned number)
{
    const struct at_gpu_party *party = at_gpu_site_party(site, number);
    drop_units(site, party, party->n);
}

/* ---- everything ---- */

struct search {
    struct at_gpu_site *site;
    const unsigned *parties;
    unsigned n;
};

static int compare_options(const void *a, const void *b)
{
    const struct at_gpu_option *x = a, *y = b;
    if (at_gpu_cost_less(&x->cost, &y->cost))
        return -1;
    if (at_gpu_cost_less(&y->cost, &x->cost))
        return 1;
    uint64_t at_x = (uint64_t)x->slot << 16 | (uint64_t)x->part << 8 | x->start;
    uint64_t at_y = (uint64_t)y->slot << 16 | (uint64_t)y->part << 8 | y->start;
    return at_x < at_y ? -1 : at_x > at_y;
}

/* Units of one shape are the same to each other: only one order of them is tried. */
static bool in_order(const struct at_gpu_unit *before, const struct at_gpu_unit *unit,
                     const struct at_gpu_option *option)
{
    if (!before || before->shape != unit->shape)
        return true;
    const struct at_gpu_option *o = &before->pick;
    if (o->slot != option->slot)
        return o->slot < option->slot;
    return o->part != option->part ? o->part < option->part : o->start <= option->start;
}

static bool try_party(struct search *s, unsigned at);

static bool try_unit(struct search *s, unsigned at, unsigned i, unsigned node)
{
    struct at_gpu_site *site = s->site;
    const struct at_gpu_party *party = at_gpu_site_party(site, s->parties[at]);
    if (i == party->n)
        return try_party(s, at + 1);
    struct at_gpu_unit *unit = unit_of(site, party, i);
    const struct at_gpu_unit *before = i ? unit_of(site, party, i - 1) : NULL;
    g_autoptr(GArray) options = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_option));
    at_gpu_site_node_options(site, unit->shape, node, options);
    if (options->len)
        qsort(options->data, options->len, sizeof(struct at_gpu_option), compare_options);
    for (unsigned k = 0; k < options->len && site->steps; k++) {
        const struct at_gpu_option *option = &g_array_index(options, struct at_gpu_option, k);
        if (!in_order(before, unit, option))
            continue;
        unit->pick = *option;
        at_gpu_site_take(site, option);
        if (try_unit(s, at, i + 1, node))
            return true;
        at_gpu_site_drop(site, option);
    }
    return false;
}

/* Whether each of the parties from @at on still has a node that is not ruled out. */
static bool all_hope(struct search *s, unsigned at)
{
    for (; at < s->n; at++) {
        const struct at_gpu_party *party = at_gpu_site_party(s->site, s->parties[at]);
        struct at_gpu_cost cost;
        unsigned node = s->site->from;
        while (node < s->site->to && !bound_on(s->site, party, node, &cost))
            node++;
        if (node == s->site->to)
            return false;
    }
    return true;
}

static bool try_party(struct search *s, unsigned at)
{
    struct at_gpu_site *site = s->site;
    if (at == s->n)
        return true;
    unsigned price = 1 + (site->to - site->from) / STEPS_PER_NODE;
    site->steps -= MIN(site->steps, price);
    if (!site->steps || !all_hope(s, at))
        return false;
    g_autoptr(GArray) ranked = g_array_new(FALSE, FALSE, sizeof(struct ranked));
    rank_nodes(site, at_gpu_site_party(site, s->parties[at]), ranked);
    for (unsigned i = 0; i < ranked->len && site->steps; i++) {
        if (try_unit(s, at, 0, g_array_index(ranked, struct ranked, i).node))
            return true;
    }
    return false;
}

/* ---- all parties ---- */

static bool put_all(struct at_gpu_site *site, const unsigned *order, unsigned n,
                    unsigned *ret_failed)
{
    for (unsigned i = 0; i < n; i++) {
        if (at_gpu_site_put(site, order[i]))
            continue;
        *ret_failed = i;
        while (i--)
            at_gpu_site_unput(site, order[i]);
        return false;
    }
    return true;
}

static int compare_parties(const void *a, const void *b, void *user)
{
    const struct at_gpu_site *site = user;
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    uint64_t size_x = at_gpu_site_party(site, x)->size, size_y = at_gpu_site_party(site, y)->size;
    if (size_x != size_y)
        return size_x > size_y ? -1 : 1;
    return x < y ? -1 : x > y;
}

bool at_gpu_site_place(struct at_gpu_site *site, const unsigned *parties, unsigned n,
                       unsigned *ret_failed)
{
    g_autofree unsigned *order = g_memdup2(parties, n * sizeof *parties);
    unsigned failed = 0;
    g_qsort_with_data(order, (int)n, sizeof *order, compare_parties, site);
    for (unsigned round = 0; round < n; round++) {
        if (put_all(site, order, n, &failed))
            return true;
        unsigned party = order[failed];
        if (!round)
            *ret_failed = party;
        if (!failed)
            break; /* not even alone */
        memmove(order + 1, order, failed * sizeof *order);
        order[0] = party;
    }
    struct search search = {site, order, n};
    site->steps = STEPS;
    return try_party(&search, 0);
}
