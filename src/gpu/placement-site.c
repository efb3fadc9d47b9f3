/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the planner's picture of a site: boards shared by cards that are alike, what is held of
 * each card that matters, requests as shapes, units and parties. */
#include <string.h>

#include "gpu/placement-internal.h"

/* ---- boards and cards ---- */

static uint64_t board_key(const struct at_gpu_card *card)
{
    uint64_t key = (uint64_t)card->vendor << 48 | (uint64_t)card->device << 32 |
                   (uint64_t)card->subsystem_device << 16 | (card->profiles->len & 0xffff);
    return key ^ card->memory << 7 ^ (uint64_t)card->vfs_total << 20;
}

static struct at_gpu_board *find_board(struct at_gpu_site *site, GHashTable *by_key,
                                       const struct at_gpu_card *card, struct at_gpu_board *last)
{
    if (last && at_gpu_board_is(last, card))
        return last;
    uint64_t key = board_key(card);
    struct at_gpu_board *head = g_hash_table_lookup(by_key, &key);
    for (struct at_gpu_board *board = head; board; board = board->next) {
        if (at_gpu_board_is(board, card))
            return board;
    }
    struct at_gpu_board *board = at_gpu_board_new(card);
    board->number = site->boards->len;
    g_ptr_array_add(site->boards, board);
    if (head) {
        board->next = head->next;
        head->next = board;
    } else {
        g_hash_table_insert(by_key, g_memdup2(&key, sizeof key), board);
    }
    return board;
}

static bool sliceable(const struct at_gpu_board *board, unsigned obstacles)
{
    for (unsigned i = 0; i < board->n_parts; i++) {
        unsigned kind = board->parts[i].kind;
        if (kind != AT_GPU_PASSTHROUGH && board->parts[i].usable && !(obstacles >> kind & 1))
            return true;
    }
    return false;
}

static void add_card(struct at_gpu_site *site, unsigned node, unsigned at,
                     const struct at_gpu_place_card *in, struct at_gpu_board *board)
{
    struct at_gpu_site_card *card = &site->cards[at];
    card->in = in;
    card->node = node;
    card->slot.board = board;
    card->shut = in->reserved != NULL;
    for (unsigned kind = 0; kind < AT_GPU_N_KINDS; kind++)
        card->obstacles |= (uint8_t)((in->card->obstacle[kind] != NULL) << kind);
    card->sliceable = sliceable(board, card->obstacles);
    card->instances = in->card->instances->len > 0;
}

/* Thousands of cards lie all over the memory: waiting for them together takes most of the time of a
 * plan. */
static void fetch_cards(const struct at_gpu_place_node *node)
{
    for (unsigned i = 0; i < node->n_cards; i++) {
        const char *card = (const char *)node->cards[i].card;
        for (size_t at = 0; at < sizeof(struct at_gpu_card); at += 64)
            __builtin_prefetch(card + at);
    }
    for (unsigned i = 0; i < node->n_cards; i++) {
        __builtin_prefetch(node->cards[i].card->name);
        __builtin_prefetch(node->cards[i].card->profiles);
        __builtin_prefetch(node->cards[i].card->instances);
    }
}

static void fetch_holds(const struct at_gpu_place_card *in)
{
    for (unsigned i = 0; i < in->n_holds; i++)
        __builtin_prefetch(in->holds[i].profile);
}

static void add_cards(struct at_gpu_site *site)
{
    g_autoptr(GHashTable) by_key = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    struct at_gpu_board *last = NULL;
    unsigned n = 0;
    for (unsigned node = 0; node < site->n_nodes; node++) {
        site->first[node] = n;
        n += node >= site->from && node < site->to ? site->nodes[node].n_cards : 0;
    }
    site->first[site->n_nodes] = n;
    site->cards = g_new0(struct at_gpu_site_card, n + 1);
    for (unsigned node = site->from; node < site->to; node++) {
        fetch_cards(&site->nodes[node]);
        for (unsigned i = 0; i < site->nodes[node].n_cards; i++) {
            const struct at_gpu_place_card *in = &site->nodes[node].cards[i];
            last = find_board(site, by_key, in->card, last);
            add_card(site, node, site->first[node] + i, in, last);
        }
    }
}

/* ---- requests ---- */

static unsigned find_shape(struct at_gpu_site *site, GHashTable *known,
                           const struct at_gpu_request *request, enum at_gpu_isolation isolation)
{
    g_autofree char *key =
        g_strdup_printf("%d %" G_GUINT64_FORMAT " %s%s\n%s", (int)isolation, request->memory,
                        request->model ? "m" : "", request->profile ? request->profile : "",
                        request->model ? request->model : "");
    void *found = g_hash_table_lookup(known, key);
    if (found)
        return GPOINTER_TO_UINT(found) - 1;
    struct at_gpu_shape shape = {.request = request, .isolation = isolation};
    shape.choices = g_new0(struct at_gpu_choices, site->boards->len + 1);
    for (unsigned i = 0; i < site->boards->len; i++)
        at_gpu_shape_choose(&shape, site->boards->pdata[i]);
    shape.size = UINT64_MAX;
    for (unsigned i = 0; i < site->boards->len; i++) {
        const struct at_gpu_board *board = site->boards->pdata[i];
        for (unsigned k = 0; k < shape.choices[i].n; k++) {
            const struct at_gpu_part *part = &board->parts[shape.choices[i].parts[k]];
            uint64_t whole = part->kind == AT_GPU_PASSTHROUGH ? UINT64_C(1) << 62 : 0;
            shape.size = MIN(shape.size, whole | at_gpu_part_rank(part));
        }
    }
    g_array_append_val(site->shapes, shape);
    g_hash_table_insert(known, g_steal_pointer(&key), GUINT_TO_POINTER(site->shapes->len));
    return site->shapes->len - 1;
}

static unsigned find_party(struct at_gpu_site *site, GHashTable *known, const char *holder)
{
    void *found = g_hash_table_lookup(known, holder);
    if (found)
        return GPOINTER_TO_UINT(found) - 1;
    struct at_gpu_party party = {.holder = holder};
    g_array_append_val(site->parties, party);
    g_hash_table_insert(known, (void *)holder, GUINT_TO_POINTER(site->parties->len));
    return site->parties->len - 1;
}

/* Large ones first, those of one shape beside each other, else in the order of the requests. */
static int compare_units(const void *a, const void *b, void *user)
{
    const struct at_gpu_site *site = user;
    const struct at_gpu_unit *x = a, *y = b;
    uint64_t size_x = at_gpu_site_shape(site, x->shape)->size;
    uint64_t size_y = at_gpu_site_shape(site, y->shape)->size;
    if (size_x != size_y)
        return size_x > size_y ? -1 : 1;
    if (x->shape != y->shape)
        return x->shape < y->shape ? -1 : 1;
    return x->request < y->request ? -1 : x->request > y->request;
}

static void add_units(struct at_gpu_site *site, const struct at_gpu_request *requests,
                      const unsigned *shapes, const unsigned *parties, unsigned n_requests)
{
    for (unsigned i = 0; i < n_requests; i++)
        at_gpu_site_party(site, parties[i])->n += requests[i].count;
    unsigned n = 0;
    for (unsigned p = 0; p < site->parties->len; p++) {
        struct at_gpu_party *party = at_gpu_site_party(site, p);
        party->first = n;
        n += party->n;
        party->n = 0;
    }
    g_array_set_size(site->units, n);
    for (unsigned i = 0; i < n_requests; i++) {
        struct at_gpu_party *party = at_gpu_site_party(site, parties[i]);
        for (unsigned k = 0; k < requests[i].count; k++)
            *at_gpu_site_unit(site, party->first + party->n++) =
                (struct at_gpu_unit){.request = i, .shape = shapes[i]};
    }
    for (unsigned p = 0; p < site->parties->len; p++) {
        struct at_gpu_party *party = at_gpu_site_party(site, p);
        g_qsort_with_data(at_gpu_site_unit(site, party->first), (int)party->n,
                          sizeof(struct at_gpu_unit), compare_units, site);
        party->size = at_gpu_site_shape(site, at_gpu_site_unit(site, party->first)->shape)->size;
    }
}

static void add_requests(struct at_gpu_site *site, const struct at_gpu_request *requests,
                         unsigned n_requests, enum at_gpu_isolation weakest)
{
    g_autoptr(GHashTable) shapes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) parties = g_hash_table_new(g_str_hash, g_str_equal);
    g_autofree unsigned *shape = g_new(unsigned, n_requests + 1);
    g_autofree unsigned *party = g_new(unsigned, n_requests + 1);
    for (unsigned i = 0; i < n_requests; i++) {
        enum at_gpu_isolation isolation = MAX(requests[i].isolation, weakest);
        shape[i] = find_shape(site, shapes, &requests[i], isolation);
        party[i] = find_party(site, parties, requests[i].holder);
    }
    add_units(site, requests, shape, party, n_requests);
}

/* ---- what is held ---- */

static bool board_matters(const struct at_gpu_site *site, const struct at_gpu_board *board)
{
    for (unsigned i = 0; i < site->shapes->len; i++) {
        if (at_gpu_site_shape(site, i)->choices[board->number].n)
            return true;
    }
    return false;
}

/* Takes what is held. When it cannot be (the catalog and the card disagree), nothing more can be
 * given of the card. */
static void load_card(struct at_gpu_site_card *card, bool empty)
{
    const struct at_gpu_place_card *in = card->in;
    for (unsigned i = 0; i < in->n_holds && !empty && !card->shut; i++) {
        int part = at_gpu_board_part(card->slot.board, in->holds[i].profile);
        if (part < 0 ||
            at_gpu_slot_fit(&card->slot, (unsigned)part, in->holds[i].start) != AT_GPU_FITS)
            card->shut = true;
        else
            at_gpu_slot_take(&card->slot, (unsigned)part, in->holds[i].start);
    }
    if (!empty && card->instances)
        at_gpu_slot_see_instances(&card->slot, in->card);
    card->loaded = true;
}

static void load_cards(struct at_gpu_site *site, unsigned flags)
{
    unsigned n = site->first[site->n_nodes], counts = 0;
    g_autofree bool *matters = g_new0(bool, site->boards->len + 1);
    for (unsigned i = 0; i < site->boards->len; i++)
        matters[i] = flags & AT_GPU_SITE_ALL || board_matters(site, site->boards->pdata[i]);
    for (unsigned i = 0; i < n; i++)
        counts += at_gpu_slot_counts(site->cards[i].slot.board);
    site->counts = g_new0(uint16_t, counts + 1);
    counts = 0;
    for (unsigned i = 0; i < n; i++) {
        struct at_gpu_site_card *card = &site->cards[i];
        card->slot.count = site->counts + counts;
        counts += at_gpu_slot_counts(card->slot.board);
        if (i + 2 < n)
            __builtin_prefetch(site->cards[i + 2].in->holds);
        if (i + 1 < n)
            fetch_holds(site->cards[i + 1].in);
        if (matters[card->slot.board->number])
            load_card(card, flags & AT_GPU_SITE_EMPTY);
        else
            card->shut = true;
        site->untouched[card->node] += !card->shut && !at_gpu_slot_busy(&card->slot);
    }
}

struct at_gpu_site *at_gpu_site_new(const struct at_gpu_place_node *nodes, unsigned n_nodes,
                                    const struct at_gpu_request *requests, unsigned n_requests,
                                    const struct at_gpu_policy *policies, unsigned n_policies,
                                    int home, unsigned flags)
{
    struct at_gpu_site *site = g_new0(struct at_gpu_site, 1);
    enum at_gpu_isolation weakest = AT_GPU_ANY;
    for (unsigned i = 0; i < n_policies; i++)
        weakest = MAX(weakest, policies[i].weakest);
    site->nodes = nodes;
    site->n_nodes = n_nodes;
    site->from = home < 0 ? 0 : (unsigned)home;
    site->to = home < 0 ? n_nodes : (unsigned)home + 1;
    site->first = g_new0(unsigned, n_nodes + 1);
    site->untouched = g_new0(unsigned, n_nodes + 1);
    site->boards = g_ptr_array_new_with_free_func((GDestroyNotify)at_gpu_board_free);
    site->shapes = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_shape));
    site->units = g_array_new(FALSE, TRUE, sizeof(struct at_gpu_unit));
    site->parties = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_party));
    add_cards(site);
    add_requests(site, requests, n_requests, weakest);
    load_cards(site, flags);
    size_t n_best = (size_t)n_nodes * site->shapes->len;
    site->best = g_new(struct at_gpu_option, n_best + 1);
    site->best_known = g_new0(uint8_t, n_best + 1);
    return site;
}

void at_gpu_site_free(struct at_gpu_site *site)
{
    for (unsigned i = 0; i < site->shapes->len; i++) {
        struct at_gpu_shape *shape = at_gpu_site_shape(site, i);
        for (unsigned k = 0; k < site->boards->len; k++)
            g_free(shape->choices[k].parts);
        g_free(shape->choices);
    }
    g_free(site->cards);
    g_free(site->first);
    g_free(site->untouched);
    g_free(site->counts);
    g_ptr_array_unref(site->boards);
    g_array_unref(site->shapes);
    g_array_unref(site->units);
    g_array_unref(site->parties);
    g_free(site->best);
    g_free(site->best_known);
    g_free(site);
}
