/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals of what others hold: who is in the way on which card, and what could be had now. */
#include <string.h>

#include "base/error.h"
#include "gpu/placement-internal.h"

#define HOLDERS_NAMED_MAX 4 /* of one card */

struct conflict {
    const struct at_gpu_refusal *in;
    struct at_gpu_site *site;
    unsigned party;
};

static struct at_gpu_site *site_of(const struct at_gpu_refusal *in, unsigned flags)
{
    return at_gpu_site_new(in->nodes, in->n_nodes, in->requests, in->n_requests, in->policies,
                           in->n_policies, in->home, flags);
}

static const struct at_gpu_party *party_of(const struct conflict *c)
{
    return at_gpu_site_party(c->site, c->party);
}

static const char *node_name(const struct conflict *c, unsigned node)
{
    return c->in->nodes[node].name;
}

/* ---- what is asked for ---- */

/* "2 x H100-1-10C and passthrough". */
static char *what_is_asked(const struct conflict *c)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; i < c->in->n_requests; i++) {
        if (strcmp(c->in->requests[i].holder, party_of(c)->holder) == 0)
            g_ptr_array_add(names, at_gpu_text_request(&c->in->requests[i]));
    }
    return at_gpu_text_list(names, 2);
}

/* Memory of the smallest part that would do for the first (largest) unit. */
static uint64_t memory_wanted(const struct conflict *c)
{
    const struct at_gpu_shape *shape =
        at_gpu_site_shape(c->site, at_gpu_site_unit(c->site, party_of(c)->first)->shape);
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < c->site->boards->len; i++) {
        const struct at_gpu_board *board = c->site->boards->pdata[i];
        if (shape->choices[i].n)
            least = MIN(least, board->parts[shape->choices[i].parts[0]].memory);
    }
    return least;
}

/* ---- who is in the way ---- */

static uint64_t free_memory(const struct at_gpu_site_card *card)
{
    const struct at_gpu_slot *slot = &card->slot;
    const struct at_gpu_board *board = slot->board;
    if (slot->kind == AT_GPU_MIG_VGPU) {
        unsigned left =
            board->grid - (unsigned)__builtin_popcount(slot->taken & at_gpu_span(board->grid));
        return board->card->memory / board->grid * left;
    }
    return slot->kind == AT_GPU_VGPU ? board->capacity - slot->memory : 0;
}

/* What is in the way of the part that would be chosen, at the place where it is nearest to fitting:
 * the reasons are in that order. */
static enum at_gpu_fit nearest_misfit(const struct conflict *c, const struct at_gpu_slot *slot)
{
    const struct at_gpu_choices *choices =
        &at_gpu_site_shape(c->site, at_gpu_site_unit(c->site, party_of(c)->first)->shape)
             ->choices[slot->board->number];
    enum at_gpu_fit nearest = AT_GPU_FITS;
    for (unsigned start = 0; start < AT_GPU_SLICES && choices->n; start++)
        nearest = MAX(nearest, at_gpu_slot_fit(slot, choices->parts[0], start));
    return nearest;
}

static char *state_of(const struct conflict *c, unsigned card)
{
    static const char *const used[AT_GPU_N_KINDS] = {
        [AT_GPU_PASSTHROUGH] = "is passed through",
        [AT_GPU_VGPU] = "is shared by time",
        [AT_GPU_MIG_VGPU] = "is cut into MIG instances",
        [AT_GPU_VF] = "has VFs in use",
    };
    const struct at_gpu_slot *slot = &c->site->cards[card].slot;
    uint64_t free = free_memory(&c->site->cards[card]);
    enum at_gpu_fit misfit = nearest_misfit(c, slot);
    if (misfit == AT_GPU_MISFIT_KIND)
        return g_strdup(used[slot->kind]);
    if (misfit == AT_GPU_MISFIT_MEDIA)
        return g_strdup("has given its media engines away");
    if (!at_gpu_gib(free))
        return g_strdup("is full");
    if (slot->kind == AT_GPU_MIG_VGPU && slot->compute >= slot->board->compute)
        return g_strdup("has no compute slice left");
    bool enough = at_gpu_memory_suffices(free, memory_wanted(c));
    const char *but = misfit == AT_GPU_MISFIT_SIZES ? " but cannot mix these sizes"
                      : enough                      ? " but cut up"
                                                    : "";
    return g_strdup_printf("has %" G_GUINT64_FORMAT " GiB free%s", at_gpu_gib(free), but);
}

/* "rag-team/embed holds slices 2-3 (H100-2-20C)". */
static char *hold_text(const struct conflict *c, unsigned from, unsigned to, const char *holder)
{
    GString *text = g_string_new(NULL);
    unsigned n = 0;
    g_autofree char *name = at_gpu_text_clip(holder, 130);
    for (unsigned i = from; i < to; i++) {
        const struct at_gpu_site_card *card = &c->site->cards[i];
        for (unsigned k = 0; k < card->in->n_holds && !card->shut; k++) {
            const struct at_gpu_hold *hold = &card->in->holds[k];
            if (strcmp(hold->holder, holder) != 0 || n++)
                continue;
            const struct at_gpu_board *board = card->slot.board;
            const struct at_gpu_part *part = &board->parts[at_gpu_board_part(board, hold->profile)];
            g_string_append_printf(text, "%s holds ", name);
            if (part->kind != AT_GPU_MIG_VGPU)
                g_string_append(text, hold->profile);
            else if (part->slices == 1)
                g_string_append_printf(text, "slice %u (%s)", hold->start, hold->profile);
            else
                g_string_append_printf(text, "slices %u-%u (%s)", hold->start,
                                       hold->start + part->slices - 1, hold->profile);
        }
    }
    if (n > 1)
        g_string_append_printf(text, " and %u more", n - 1);
    return g_string_free(text, FALSE);
}

static char *blocked_text(const struct conflict *c, const struct at_gpu_blocked *blocked)
{
    GString *text = g_string_new(NULL);
    if (blocked->to - blocked->from == 1) {
        g_autofree char *card =
            at_gpu_text_card(c->site->cards[blocked->from].in->card, node_name(c, blocked->node));
        g_autofree char *state = state_of(c, blocked->from);
        g_string_append_printf(text, "%s %s: ", card, state);
    } else {
        g_string_append_printf(text, "on node %s ", node_name(c, blocked->node));
    }
    for (unsigned i = 0; i < blocked->n && i < HOLDERS_NAMED_MAX; i++) {
        g_autofree char *hold =
            hold_text(c, blocked->from, blocked->to, blocked->holders->pdata[i]);
        g_string_append_printf(text, "%s%s", i ? ", " : "", hold);
    }
    if (blocked->n > HOLDERS_NAMED_MAX)
        g_string_append_printf(text, " and %u more", blocked->n - HOLDERS_NAMED_MAX);
    return g_string_free(text, FALSE);
}

/* Why nothing of a card can be given that could have what is wanted; NULL when that is not so. */
static char *shut_text(const struct conflict *c, unsigned card)
{
    const struct at_gpu_site_card *site_card = &c->site->cards[card];
    const struct at_gpu_choices *choices =
        &at_gpu_site_shape(c->site, at_gpu_site_unit(c->site, party_of(c)->first)->shape)
             ->choices[site_card->slot.board->number];
    const char *why = site_card->in->reserved;
    g_autoptr(GError) error = NULL;
    if (!choices->n)
        return NULL;
    if (!why)
        why = site_card->in->card->obstacle[site_card->slot.board->parts[choices->parts[0]].kind];
    if (!why && site_card->shut &&
        !at_gpu_holds_check(site_card->in->card, site_card->in->holds, site_card->in->n_holds,
                            &error))
        return at_gpu_text_clip(error->message, 220);
    if (!why && site_card->slot.foreign)
        why = "it has MIG instances that no workstation holds";
    if (!why)
        return NULL;
    g_autofree char *where = at_gpu_text_card(site_card->in->card, node_name(c, site_card->node));
    g_autofree char *clipped = at_gpu_text_clip(why, 80);
    return g_strdup_printf("%s: %s", where, clipped);
}

static void add_piece(GPtrArray *pieces, unsigned *more, char *piece)
{
    size_t len = strlen(piece);
    for (unsigned i = 0; i < pieces->len; i++)
        len += strlen(pieces->pdata[i]) + 2;
    if (pieces->len < AT_GPU_NAMED_MAX && (!pieces->len || len < AT_GPU_MESSAGE_MAX * 6 / 10)) {
        g_ptr_array_add(pieces, piece);
        return;
    }
    (*more)++;
    g_free(piece);
}

/* "GPU ... is full: ...; GPU ...: in quarantine; and 5 more", or "" when no card is in the way. */
static char *who_is_in_the_way(const struct conflict *c, unsigned *ret_places)
{
    g_autoptr(GPtrArray) pieces = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) found = at_gpu_blockers(c->site, c->party);
    unsigned more = 0;
    *ret_places = found->len;
    for (unsigned i = 0; i < found->len; i++) {
        if (pieces->len < AT_GPU_NAMED_MAX)
            add_piece(pieces, &more, blocked_text(c, found->pdata[i]));
        else
            more++;
    }
    for (unsigned card = 0; card < c->site->first[c->site->n_nodes]; card++) {
        char *text = shut_text(c, card);
        if (text)
            add_piece(pieces, &more, text);
    }
    if (more)
        g_ptr_array_add(pieces, g_strdup_printf("and %u more", more));
    g_ptr_array_add(pieces, NULL);
    return g_strjoinv("; ", (char **)pieces->pdata);
}

/* ---- what could be had ---- */

/* How many of a party's units fit on the node that has room for most of them. */
static unsigned room_for_some(const struct conflict *c, unsigned *ret_node)
{
    unsigned most = 0;
    for (unsigned node = c->site->from; node < c->site->to; node++) {
        unsigned n = 0;
        struct at_gpu_option taken[AT_GPU_UNITS_MAX];
        for (unsigned i = 0; i < party_of(c)->n; i++) {
            const struct at_gpu_option *best = at_gpu_site_node_best(
                c->site, at_gpu_site_unit(c->site, party_of(c)->first + i)->shape, node);
            if (!best)
                continue;
            taken[n++] = *best;
            at_gpu_site_take(c->site, &taken[n - 1]);
        }
        for (unsigned i = n; i-- > 0;)
            at_gpu_site_drop(c->site, &taken[i]);
        if (n > most) {
            most = n;
            *ret_node = node;
        }
    }
    return most;
}

struct instead {
    uint64_t memory;
    unsigned card, part;
    bool found;
};

/* Whether a part of @memory is a better answer than what was found: the largest that is not larger
 * than what was wanted, else the smallest. */
static bool is_better(const struct instead *best, uint64_t memory, uint64_t wanted)
{
    if (!best->found)
        return true;
    bool fits = at_gpu_gib(memory) <= at_gpu_gib(wanted);
    bool best_fits = at_gpu_gib(best->memory) <= at_gpu_gib(wanted);
    if (fits != best_fits)
        return fits;
    return fits ? memory > best->memory : memory < best->memory;
}

static bool has_place(const struct at_gpu_slot *slot, unsigned part)
{
    const struct at_gpu_part *p = &slot->board->parts[part];
    uint32_t starts = p->kind == AT_GPU_MIG_VGPU ? p->starts : 1;
    for (; starts; starts &= starts - 1) {
        if (at_gpu_slot_fit(slot, part, (unsigned)__builtin_ctz(starts)) == AT_GPU_FITS)
            return true;
    }
    return false;
}

static struct instead largest_instead(const struct conflict *c)
{
    const struct at_gpu_shape *shape =
        at_gpu_site_shape(c->site, at_gpu_site_unit(c->site, party_of(c)->first)->shape);
    uint64_t wanted = memory_wanted(c);
    struct instead best = {0};
    for (unsigned i = 0; i < c->site->first[c->site->n_nodes]; i++) {
        const struct at_gpu_site_card *card = &c->site->cards[i];
        const struct at_gpu_board *board = card->slot.board;
        if (card->shut || !at_gpu_model_matches(shape->request->model, board->card))
            continue;
        for (unsigned k = 0; k < board->n_parts; k++) {
            const struct at_gpu_part *p = &board->parts[k];
            if ((int)p->isolation >= (int)shape->isolation && !(card->obstacles >> p->kind & 1) &&
                is_better(&best, p->memory, wanted) && has_place(&card->slot, k))
                best = (struct instead){p->memory, i, k, true};
        }
    }
    return best;
}

static char *what_fits(const struct conflict *c)
{
    unsigned node = 0, some = party_of(c)->n > 1 ? room_for_some(c, &node) : 0;
    if (some)
        return g_strdup_printf("; node %s has room for %u of the %u now", node_name(c, node), some,
                               party_of(c)->n);
    struct instead instead = largest_instead(c);
    if (!instead.found)
        return g_strdup("; nothing else fits now");
    const struct at_gpu_site_card *card = &c->site->cards[instead.card];
    g_autofree char *where = at_gpu_text_card(card->in->card, node_name(c, card->node));
    return g_strdup_printf(", or take what fits now: %s on %s",
                           card->slot.board->names[instead.part]->name, where);
}

/* ---- which party, and why ---- */

static bool fits_alone(struct at_gpu_site *site, unsigned party)
{
    unsigned failed;
    if (!at_gpu_site_place(site, &party, 1, &failed))
        return false;
    at_gpu_site_unput(site, party);
    return true;
}

/* The first party that would not even find a place if it were alone; else *party as it was. */
static bool find_party(struct at_gpu_site *site, unsigned *party)
{
    for (unsigned i = 0; i < site->parties->len; i++) {
        if (!fits_alone(site, i)) {
            *party = i;
            return true;
        }
    }
    return false;
}

static char *where_text(const struct conflict *c, const char *anywhere)
{
    return c->in->home < 0 ? g_strdup(anywhere)
                           : g_strdup_printf("node %s", node_name(c, (unsigned)c->in->home));
}

/* When even an empty site is too small for a party, or for all together. */
static bool too_small(struct conflict *c, GError **error)
{
    g_autoptr(at_gpu_site) empty = site_of(c->in, AT_GPU_SITE_EMPTY);
    bool one = find_party(empty, &c->party);
    g_autofree unsigned *all = g_new(unsigned, empty->parties->len + 1);
    unsigned failed;
    for (unsigned i = 0; i < empty->parties->len; i++)
        all[i] = i;
    if (!one && at_gpu_site_place(empty, all, empty->parties->len, &failed))
        return false;
    if (!empty->steps)
        return false; /* not searched to the end */
    g_autofree char *what = what_is_asked(c);
    g_autofree char *holder = at_gpu_text_clip(party_of(c)->holder, 130);
    g_autofree char *where = where_text(c, one ? "any node" : "the site");
    const char *how = one ? "at once" : "beside what is asked for with it";
    return !at_error(error, AT_ERROR_NOT_FOUND,
                     "%s asks for %s, which is more than %s could give %s even if nobody held "
                     "anything",
                     holder, what, where, how);
}

static void refuse(const struct conflict *c, bool alone, const char *what, GError **error)
{
    unsigned places = 0;
    g_autofree char *in_the_way = who_is_in_the_way(c, &places);
    g_autofree char *fits = what_fits(c);
    g_autofree char *holder = at_gpu_text_clip(party_of(c)->holder, 130);
    const char *advice = places > 1    ? "; free what is named of one of them"
                         : places == 1 ? "; free that"
                                       : "; ask for less";
    size_t tail = strlen(advice) + strlen(fits);
    g_autofree char *text = g_strdup_printf(
        "%s needs %s%s%s%s", holder, what, alone ? "" : ", beside what is asked for with it",
        *in_the_way ? ": " : ", and no way was found to place it", in_the_way);
    g_autofree char *clipped = at_gpu_text_clip(text, AT_GPU_MESSAGE_MAX - MIN(tail, 300));
    at_error(error, AT_ERROR_CONFLICT, "%s%s%s", clipped, advice, fits);
}

void at_gpu_refuse_full(const struct at_gpu_refusal *in, unsigned failed, GError **error)
{
    g_autoptr(at_gpu_site) site = site_of(in, AT_GPU_SITE_ALL);
    struct conflict c = {in, site, failed};
    if (too_small(&c, error))
        return;
    bool alone = find_party(site, &c.party);
    g_autofree char *what = what_is_asked(&c);
    for (unsigned i = 0; i < site->parties->len && !alone; i++) {
        if (i != c.party)
            at_gpu_site_put(site, i); /* who finds no place is not in the way */
    }
    refuse(&c, alone, what, error);
}
