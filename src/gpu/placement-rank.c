/* SPDX-License-Identifier: Apache-2.0 */
/* What a unit could have of a card or a node, and which of it is best: the least memory, the
 * weakest isolation, the fewest slices that suffice; then a card that is used the same way already,
 * the place that leaves most, the card that is fullest, the node with the fewest untouched cards.
 */
#include <string.h>

#include "gpu/placement-internal.h"

/* In the order of preference. */
enum { OPEN_SAME = 0, OPEN_UNTOUCHED = 1, OPEN_CHANGE_MODE = 2, OPEN_MIX = 3 };

/* How the card is used before: in the same way, not at all, or in another way that allows it. */
static uint64_t opening(const struct at_gpu_site_card *card, const struct at_gpu_part *part)
{
    const struct at_gpu_slot *slot = &card->slot;
    if (!at_gpu_slot_busy(slot)) {
        bool mig = part->kind == AT_GPU_MIG_VGPU;
        bool other = part->kind != AT_GPU_PASSTHROUGH && card->in->card->mig_on != mig;
        return other ? OPEN_CHANGE_MODE : OPEN_UNTOUCHED;
    }
    /* Mixing comes last: the driver switches to it only while the card is empty. */
    bool mix = part->kind == AT_GPU_VGPU && slot->count[part->size] != slot->n;
    return mix ? OPEN_MIX : OPEN_SAME;
}

static uint64_t low_cost(const struct at_gpu_site *site, const struct at_gpu_site_card *card,
                         const struct at_gpu_part *part, unsigned start)
{
    const struct at_gpu_slot *slot = &card->slot;
    uint64_t open = opening(card, part), loss = 0, left = 0;
    if (part->kind == AT_GPU_MIG_VGPU) {
        loss = at_gpu_slot_worth(slot) - at_gpu_slot_worth_with(slot, part, start);
        left = slot->board->grid - (unsigned)__builtin_popcount(slot->taken);
    } else if (part->kind == AT_GPU_VGPU) {
        left = (slot->board->capacity - slot->memory) >> 26;
    } else if (part->kind == AT_GPU_VF) {
        left = slot->board->sizes[part->size].max - slot->n;
    } else {
        loss = (card->sliceable ? 1U : 0U) + (card->in->card->mig_on ? 2U : 0U);
    }
    if (!at_gpu_slot_busy(slot))
        left = site->untouched[card->node];
    /* Sums of AT_GPU_UNITS_MAX of them stay within their fields. */
    return open << 56 | MIN(loss, (1U << 22) - 1) << 28 | MIN(left, (1U << 22) - 1);
}

static void offer(const struct at_gpu_site *site, unsigned card, unsigned part, unsigned start,
                  struct at_gpu_option *option)
{
    const struct at_gpu_site_card *c = &site->cards[card];
    const struct at_gpu_part *p = &c->slot.board->parts[part];
    option->cost.high = at_gpu_part_rank(p);
    option->cost.low = low_cost(site, c, p, start);
    option->slot = card;
    option->part = (uint8_t)part;
    option->start = (uint8_t)start;
}

/* The best of the places that the part can have; MIG-backed ones may have several. */
static bool part_best(const struct at_gpu_site *site, unsigned card, unsigned part,
                      struct at_gpu_option *ret)
{
    const struct at_gpu_site_card *c = &site->cards[card];
    const struct at_gpu_part *p = &c->slot.board->parts[part];
    bool found = false;
    uint32_t starts = p->kind == AT_GPU_MIG_VGPU ? p->starts : 1;
    for (; starts; starts &= starts - 1) {
        struct at_gpu_option option;
        unsigned start = (unsigned)__builtin_ctz(starts);
        if (at_gpu_slot_fit(&c->slot, part, start) != AT_GPU_FITS)
            continue;
        offer(site, card, part, start, &option);
        if (!found || at_gpu_cost_less(&option.cost, &ret->cost))
            *ret = option;
        found = true;
    }
    return found;
}

bool at_gpu_site_card_best(const struct at_gpu_site *site, unsigned shape, unsigned card,
                           struct at_gpu_option *ret)
{
    const struct at_gpu_site_card *c = &site->cards[card];
    if (c->shut)
        return false;
    const struct at_gpu_choices *choices =
        &at_gpu_site_shape(site, shape)->choices[c->slot.board->number];
    bool found = false;
    for (unsigned i = 0; i < choices->n; i++) {
        unsigned part = choices->parts[i];
        const struct at_gpu_part *p = &c->slot.board->parts[part];
        struct at_gpu_option option;
        if (c->obstacles >> p->kind & 1)
            continue;
        if (found && at_gpu_part_rank(p) > ret->cost.high)
            break;
        if (!part_best(site, card, part, &option))
            continue;
        if (!found || at_gpu_cost_less(&option.cost, &ret->cost))
            *ret = option;
        found = true;
    }
    return found;
}

const struct at_gpu_option *at_gpu_site_node_best(struct at_gpu_site *site, unsigned shape,
                                                  unsigned node)
{
    size_t at = (size_t)node * site->shapes->len + shape;
    struct at_gpu_option *best = &site->best[at];
    if (!site->best_known[at]) {
        bool found = false;
        for (unsigned card = site->first[node]; card < site->first[node + 1]; card++) {
            struct at_gpu_option option;
            if (at_gpu_site_card_best(site, shape, card, &option) &&
                (!found || at_gpu_cost_less(&option.cost, &best->cost))) {
                *best = option;
                found = true;
            }
        }
        site->best_known[at] = found ? 2 : 1;
    }
    return site->best_known[at] == 2 ? best : NULL;
}

/* Whether an earlier card of the node is as good for everything. */
static bool is_twin(const struct at_gpu_site *site, unsigned card)
{
    const struct at_gpu_site_card *c = &site->cards[card];
    if (at_gpu_slot_busy(&c->slot))
        return false;
    for (unsigned i = site->first[c->node]; i < card; i++) {
        const struct at_gpu_site_card *o = &site->cards[i];
        if (!o->shut && o->slot.board == c->slot.board && o->obstacles == c->obstacles &&
            !at_gpu_slot_busy(&o->slot))
            return true;
    }
    return false;
}

static void card_options(struct at_gpu_site *site, unsigned shape, unsigned card, GArray *options)
{
    const struct at_gpu_site_card *c = &site->cards[card];
    const struct at_gpu_choices *choices =
        &at_gpu_site_shape(site, shape)->choices[c->slot.board->number];
    for (unsigned i = 0; i < choices->n; i++) {
        unsigned part = choices->parts[i];
        const struct at_gpu_part *p = &c->slot.board->parts[part];
        uint32_t starts = p->kind == AT_GPU_MIG_VGPU ? p->starts : 1;
        if (c->obstacles >> p->kind & 1)
            continue;
        for (; starts; starts &= starts - 1) {
            struct at_gpu_option option;
            unsigned start = (unsigned)__builtin_ctz(starts);
            site->steps -= MIN(site->steps, 1);
            if (at_gpu_slot_fit(&c->slot, part, start) != AT_GPU_FITS)
                continue;
            offer(site, card, part, start, &option);
            g_array_append_val(options, option);
        }
    }
}

void at_gpu_site_node_options(struct at_gpu_site *site, unsigned shape, unsigned node,
                              GArray *options)
{
    for (unsigned card = site->first[node]; card < site->first[node + 1]; card++) {
        if (!site->cards[card].shut && !is_twin(site, card))
            card_options(site, shape, card, options);
    }
}

static void forget(struct at_gpu_site *site, unsigned node)
{
    memset(site->best_known + (size_t)node * site->shapes->len, 0, site->shapes->len);
}

void at_gpu_site_take(struct at_gpu_site *site, const struct at_gpu_option *option)
{
    struct at_gpu_site_card *card = &site->cards[option->slot];
    site->untouched[card->node] -= !at_gpu_slot_busy(&card->slot);
    at_gpu_slot_take(&card->slot, option->part, option->start);
    forget(site, card->node);
}

void at_gpu_site_drop(struct at_gpu_site *site, const struct at_gpu_option *option)
{
    struct at_gpu_site_card *card = &site->cards[option->slot];
    at_gpu_slot_drop(&card->slot, option->part, option->start);
    site->untouched[card->node] += !at_gpu_slot_busy(&card->slot);
    forget(site, card->node);
}
