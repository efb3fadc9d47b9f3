/* SPDX-License-Identifier: Apache-2.0 */
/* Placement of GPUs: how long one plan takes on a large site, how well MIG parts are packed while
 * holders come and go, and whether that cuts the cards up more and more.
 *
 * A plan is a VDC of eight workstations on a site that is 70 to 80 % full. It is computed three
 * times, and the least CPU time counts, because the machine may have other things to do.
 *
 * Packing: three cards of one model; requests of random MIG profiles arrive and leave, each profile
 * with the same share of the slices that are asked for. Nothing that was placed is ever moved. What
 * is granted is held against the most memory slices that any part of what is wanted at that moment
 * could have if it were placed afresh on empty cards, found by trying all layouts; the figure is
 * the sum of the first over all such moments by the sum of the second.
 * - As Atoll works, who is refused goes away. Looked at after each arrival: wanted is what is held
 * and the newcomer. What is missing to 100 % was refused though moving others would have made room.
 * - "queue": who is refused waits and is tried again, the oldest first, whenever somebody leaves.
 *   Looked at after each event; wanted are those waiting, too. No planner reaches 100 %: the other
 *   side also chooses at every moment anew whom to leave waiting.
 * - "first fit": as the first, but the first card and slice that fit are taken.
 */
#include <stdlib.h>
#include <string.h>

#include "boards.h"
#include "gpu/geometry.h"
#include "lib/bench.h"

#define NODES 1000
#define PER_NODE 8
#define PLANS 200
#define WORKSTATIONS 8
#define FULL 0.7

/* ---- a large site ---- */

struct large {
    struct at_gpu_place_node nodes[NODES];
    struct at_gpu_place_card cards[NODES][PER_NODE];
    unsigned n_holds;
};

/* The share of the card that a part takes. */
static double share_of(const struct at_gpu_card *card, const struct at_gpu_profile *p)
{
    if (p->kind == AT_GPU_PASSTHROUGH)
        return 1;
    if (p->kind == AT_GPU_MIG_VGPU)
        return (double)p->slices / card->grid_slices / p->per_gi;
    return p->max ? 1.0 / p->max : 1;
}

static const struct at_gpu_profile *any(GRand *rand, const struct at_gpu_card *card)
{
    return card->profiles->pdata[g_rand_int_range(rand, 0, (int)card->profiles->len)];
}

/* Random parts until about FULL of the card is taken. */
static void fill_card(GRand *rand, struct at_gpu_place_card *place)
{
    const struct at_gpu_card *card = place->card;
    struct at_gpu_hold *holds = g_new0(struct at_gpu_hold, 64);
    double taken = 0;
    for (unsigned tries = 0; tries < 40 && taken < FULL && place->n_holds < 63; tries++) {
        const struct at_gpu_profile *p = any(rand, card);
        struct at_gpu_hold *hold = &holds[place->n_holds];
        if (taken + share_of(card, p) > 1 || g_rand_double(rand) > 2 * FULL - taken)
            continue;
        hold->holder =
            g_strdup_printf("vdc-%u/ws-%u", g_rand_int(rand) % 500, g_rand_int(rand) % 20);
        hold->profile = g_strdup(p->name);
        hold->start = (unsigned)g_rand_int_range(rand, 0, 10);
        if (at_gpu_holds_check(card, holds, place->n_holds + 1, NULL)) {
            place->n_holds++;
            taken += share_of(card, p);
        }
    }
    place->holds = holds;
}

static struct large *large_new(GRand *rand, double *ret_full)
{
    struct large *site = g_new0(struct large, 1);
    double taken = 0;
    for (unsigned n = 0; n < NODES; n++) {
        const char *model = test_board_models[g_rand_int_range(rand, 0, 10)];
        site->nodes[n] =
            (struct at_gpu_place_node){g_strdup_printf("node-%u", n), site->cards[n], PER_NODE};
        for (unsigned i = 0; i < PER_NODE; i++) {
            struct at_gpu_place_card *place = &site->cards[n][i];
            g_autofree char *address = g_strdup_printf("0000:%02x:00.0", 0x11 + 16 * i);
            place->card = test_board(model, address, (int)i / 4);
            fill_card(rand, place);
            site->n_holds += place->n_holds;
            for (unsigned k = 0; k < place->n_holds; k++)
                taken += share_of(place->card,
                                  at_gpu_card_profile(place->card, place->holds[k].profile));
        }
    }
    *ret_full = taken / (NODES * PER_NODE);
    return site;
}

static void share_profiles(struct large *site)
{
    g_autofree struct at_gpu_card **cards = g_new(struct at_gpu_card *, NODES * PER_NODE);
    for (unsigned i = 0; i < NODES * PER_NODE; i++)
        cards[i] = (struct at_gpu_card *)site->cards[i / PER_NODE][i % PER_NODE].card;
    at_gpu_cards_share(cards, NODES * PER_NODE);
}

/* A VDC of eight workstations with one or two entries each. */
static unsigned vdc(GRand *rand, const struct large *site, struct at_gpu_request *requests)
{
    static const char *const holders[WORKSTATIONS] = {"v/a", "v/b", "v/c", "v/d",
                                                      "v/e", "v/f", "v/g", "v/h"};
    unsigned n = 0;
    for (unsigned w = 0; w < WORKSTATIONS; w++) {
        const struct at_gpu_place_card *like =
            &site->cards[g_rand_int_range(rand, 0, NODES)][0]; /* entries fit one node */
        unsigned entries = (unsigned)g_rand_int_range(rand, 1, 3);
        for (unsigned i = 0; i < entries; i++) {
            const struct at_gpu_profile *p = any(rand, like->card);
            struct at_gpu_request r = {.holder = holders[w]};
            while (share_of(like->card, p) > 0.3 && g_rand_double(rand) < 0.9)
                p = any(rand, like->card); /* whole cards are few on a site that is so full */
            if (entries == 1 && g_rand_boolean(rand))
                r.memory = MIN(p->memory, UINT64_C(24) << 30);
            else
                r.profile = p->name;
            r.count = g_rand_int_range(rand, 0, 4) == 0 ? 2 : 1;
            requests[n++] = r;
        }
    }
    return n;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The least of three, because others may use the machine. */
static double time_of(const struct large *site, const struct at_gpu_request *requests, unsigned n,
                      bool *ret_placed)
{
    double least = 1e9;
    for (unsigned i = 0; i < 3; i++) {
        g_autoptr(GError) error = NULL; /* refusals are to be written */
        double start = at_bench_cpu_seconds();
        struct at_gpu_plan *plan =
            at_gpu_place(site->nodes, NODES, requests, n, NULL, 0, -1, &error);
        least = MIN(least, (at_bench_cpu_seconds() - start) * 1000);
        *ret_placed = plan != NULL;
        at_gpu_plan_free(plan);
    }
    return least;
}

static void measure_plans(struct at_bench *bench, const struct large *site, double full,
                          const char *how, bool goal)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(32);
    enum at_bench_goal kind = goal ? AT_BENCH_AT_MOST : AT_BENCH_ONLY;
    g_autofree char *what = g_strdup_printf("a plan of 8 workstations on 1,000 x 8 cards%s", how);
    double placed[PLANS] = {0}, refused[PLANS] = {0};
    unsigned n_placed = 0, n_refused = 0;
    for (unsigned i = 0; n_placed < PLANS && i < 4 * PLANS; i++) {
        struct at_gpu_request requests[2 * WORKSTATIONS];
        unsigned n = vdc(rand, site, requests);
        bool done = false;
        double ms = time_of(site, requests, n, &done);
        if (done)
            placed[n_placed++] = ms;
        else if (n_refused < PLANS)
            refused[n_refused++] = ms;
    }
    g_autofree char *note =
        g_strdup_printf("median; %u holds, %.0f %% of the site; %u placed, %u refused",
                        site->n_holds, full * 100, n_placed, n_refused);
    qsort(placed, n_placed, sizeof(double), compare_double);
    qsort(refused, n_refused, sizeof(double), compare_double);
    if (!n_placed) {
        at_bench_missing(bench, what, "ms", kind, 10, "none was placed");
        return;
    }
    at_bench_row(bench, what, placed[n_placed / 2], "ms", kind, 10, note);
    at_bench_row(bench, "... the slowest", placed[n_placed - 1], "ms", kind, 10, NULL);
    if (n_refused && goal) {
        at_bench_row(bench, "... a refusal that names who is in the way, median",
                     refused[n_refused / 2], "ms", AT_BENCH_ONLY, 0, NULL);
        at_bench_row(bench, "... the slowest refusal", refused[n_refused - 1], "ms", AT_BENCH_ONLY,
                     0, NULL);
    }
}

/* ---- packing ---- */

#define CARDS 3
#define TYPES_MAX 16
#define LAYOUTS_MAX 4096
#define WANTED_MAX 256
#define EVENTS 6000U

/* How many of each part can be on one card together. */
struct layout {
    uint8_t n[TYPES_MAX];
};

struct packing {
    struct at_gpu_card *card; /* all are like it */
    struct at_gpu_board *board;
    unsigned types[TYPES_MAX], n_types; /* parts of the board: MIG-backed, an instance each */
    struct layout layouts[LAYOUTS_MAX];
    unsigned n_layouts;
};

static bool covers(const struct layout *a, const struct layout *b)
{
    for (unsigned i = 0; i < TYPES_MAX; i++) {
        if (a->n[i] < b->n[i])
            return false;
    }
    return true;
}

/* Keeps only layouts that no other one covers. */
static void add_layout(struct packing *p, const struct layout *layout)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < p->n_layouts; i++) {
        if (covers(&p->layouts[i], layout))
            return;
    }
    for (unsigned i = 0; i < p->n_layouts; i++) {
        if (!covers(layout, &p->layouts[i]))
            p->layouts[kept++] = p->layouts[i];
    }
    g_assert_cmpuint(kept, <, LAYOUTS_MAX);
    p->layouts[kept++] = *layout;
    p->n_layouts = kept;
}

/* All that can still be added at slice @from or behind it. */
static void enumerate(struct packing *p, struct at_gpu_slot *slot, struct layout *layout,
                      unsigned from)
{
    bool more = false;
    for (unsigned start = from; start < p->board->grid; start++) {
        for (unsigned i = 0; i < p->n_types; i++) {
            if (at_gpu_slot_fit(slot, p->types[i], start) != AT_GPU_FITS)
                continue;
            more = true;
            at_gpu_slot_take(slot, p->types[i], start);
            layout->n[i]++;
            enumerate(p, slot, layout, start + 1);
            layout->n[i]--;
            at_gpu_slot_drop(slot, p->types[i], start);
        }
    }
    if (!more)
        add_layout(p, layout);
}

static void packing_init(struct packing *p, const char *model)
{
    *p = (struct packing){.card = test_board(model, "0000:41:00.0", -1)};
    p->board = at_gpu_board_new(p->card);
    for (unsigned i = 0; i < p->board->n_parts && p->n_types < TYPES_MAX; i++) {
        const struct at_gpu_part *part = &p->board->parts[i];
        if (part->kind == AT_GPU_MIG_VGPU && p->board->sizes[part->size].per_gi == 1)
            p->types[p->n_types++] = i;
    }
    struct at_gpu_slot slot = {.board = p->board};
    struct layout layout = {{0}};
    g_autofree uint16_t *count = g_new0(uint16_t, at_gpu_slot_counts(p->board) + 1);
    slot.count = count;
    enumerate(p, &slot, &layout, 0);
}

static void packing_clear(struct packing *p)
{
    at_gpu_board_free(p->board);
    at_gpu_card_free(p->card);
}

static unsigned slices_of(const struct packing *p, unsigned type)
{
    return p->board->parts[p->types[type]].slices;
}

/* The most slices that any of @wanted (numbers of each type) can have on @cards cards, beginning
 * with layout @from: layouts are tried in one order. */
static unsigned best_afresh(const struct packing *p, const unsigned *wanted, unsigned cards,
                            unsigned from)
{
    unsigned best = 0;
    for (unsigned i = from; cards && i < p->n_layouts; i++) {
        unsigned left[TYPES_MAX] = {0}, sum = 0;
        for (unsigned t = 0; t < p->n_types; t++) {
            unsigned used = MIN(wanted[t], p->layouts[i].n[t]);
            left[t] = wanted[t] - used;
            sum += used * slices_of(p, t);
        }
        best = MAX(best, sum + best_afresh(p, left, cards - 1, i));
    }
    return best;
}

struct wanted {
    unsigned type, card, start;
    bool granted;
};

enum way { AS_ATOLL, QUEUE, FIRST_FIT };

struct run {
    const struct packing *p;
    enum way way;
    struct wanted wanted[WANTED_MAX]; /* the oldest first */
    unsigned n;
    struct at_gpu_hold holds[CARDS][64];
    struct at_gpu_place_card cards[CARDS];
    double granted, possible; /* sums of slices over all events */
    double fragmentation[2];  /* sums over the first and the last quarter */
    unsigned n_fragmentation[2];
};

static void read_holds(struct run *r)
{
    for (unsigned c = 0; c < CARDS; c++)
        r->cards[c] = (struct at_gpu_place_card){.card = r->p->card, .holds = r->holds[c]};
    for (unsigned i = 0; i < r->n; i++) {
        const struct wanted *w = &r->wanted[i];
        if (w->granted)
            r->holds[w->card][r->cards[w->card].n_holds++] = (struct at_gpu_hold){
                "o/o", r->p->board->names[r->p->types[w->type]]->name, w->start};
    }
}

static void take_first_fit(struct run *r, struct wanted *w)
{
    const char *name = r->p->board->names[r->p->types[w->type]]->name;
    for (w->card = 0; w->card < CARDS; w->card++) {
        unsigned n = r->cards[w->card].n_holds;
        for (w->start = 0; w->start < r->p->board->grid; w->start++) {
            r->holds[w->card][n] = (struct at_gpu_hold){"t/x", name, w->start};
            w->granted = at_gpu_holds_check(r->p->card, r->holds[w->card], n + 1, NULL);
            if (w->granted) {
                read_holds(r);
                return;
            }
        }
    }
}

static void try_to_place(struct run *r, struct wanted *w)
{
    if (r->way == FIRST_FIT) {
        take_first_fit(r, w);
        return;
    }
    const struct at_gpu_place_node node = {"a", r->cards, CARDS};
    const struct at_gpu_request request = {
        .holder = "t/x", .count = 1, .profile = r->p->board->names[r->p->types[w->type]]->name};
    struct at_gpu_plan *plan = at_gpu_place(&node, 1, &request, 1, NULL, 0, -1, NULL);
    if (plan) {
        const struct at_gpu_grant *grant = &g_array_index(plan->grants, struct at_gpu_grant, 0);
        w->granted = true;
        w->card = grant->card;
        w->start = grant->start;
        read_holds(r);
    }
    at_gpu_plan_free(plan);
}

static void count_event(struct run *r, unsigned event, unsigned events)
{
    unsigned wanted[TYPES_MAX] = {0}, granted = 0;
    for (unsigned i = 0; i < r->n; i++) {
        wanted[r->wanted[i].type]++;
        granted += r->wanted[i].granted ? slices_of(r->p, r->wanted[i].type) : 0;
    }
    r->granted += granted;
    r->possible += best_afresh(r->p, wanted, CARDS, 0);
    int quarter = event < events / 4 ? 0 : event >= events - events / 4 ? 1 : -1;
    for (unsigned c = 0; c < CARDS && quarter >= 0; c++) {
        r->fragmentation[quarter] +=
            at_gpu_fragmentation(r->p->card, r->holds[c], r->cards[c].n_holds);
        r->n_fragmentation[quarter]++;
    }
}

/* A type so that each takes the same share of the slices that are asked for. */
static unsigned any_type(const struct packing *p, GRand *rand)
{
    for (;;) {
        unsigned type = (unsigned)g_rand_int_range(rand, 0, (int)p->n_types);
        if (!p->board->gis[p->board->parts[p->types[type]].gi].media &&
            g_rand_double(rand) < 1.0 / slices_of(p, type))
            return type;
    }
}

static unsigned load_of(const struct run *r)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < r->n; i++)
        sum += slices_of(r->p, r->wanted[i].type);
    return sum;
}

static void leave(struct run *r, unsigned gone)
{
    memmove(&r->wanted[gone], &r->wanted[gone + 1], (--r->n - gone) * sizeof(struct wanted));
    read_holds(r);
}

/* @load: slices that are wanted, on average, by slices that there are. */
static void live(struct run *r, GRand *rand, double load, unsigned events)
{
    bool waits = r->way == QUEUE;
    double goal = load * CARDS * r->p->board->grid;
    read_holds(r);
    for (unsigned event = 0; event < events; event++) {
        bool arrives = g_rand_double(rand) * 2 * goal > load_of(r);
        if (arrives && r->n < WANTED_MAX) {
            r->wanted[r->n] = (struct wanted){.type = any_type(r->p, rand)};
            try_to_place(r, &r->wanted[r->n++]);
            count_event(r, event, events);
            if (!waits && !r->wanted[r->n - 1].granted)
                leave(r, r->n - 1);
        } else if (r->n) {
            leave(r, (unsigned)g_rand_int_range(rand, 0, (int)r->n));
            for (unsigned i = 0; i < r->n; i++) {
                if (!r->wanted[i].granted)
                    try_to_place(r, &r->wanted[i]);
            }
            if (waits)
                count_event(r, event, events);
        }
    }
}

static void show_fragmentation(struct at_bench *bench, const struct run *r)
{
    double first = r->fragmentation[0] / r->n_fragmentation[0];
    double last = r->fragmentation[1] / r->n_fragmentation[1];
    g_autofree char *note =
        g_strdup_printf("of %u events; in the first quarter %.3f", EVENTS, first);
    at_bench_row(bench, "... mean fragmentation of a card in the last quarter", last, "",
                 AT_BENCH_ONLY, 0, note);
}

static void measure_packing(struct at_bench *bench, const char *model, double load, enum way way)
{
    static const char *const names[] = {"", ", queue", ", first fit"};
    g_autoptr(GRand) rand = g_rand_new_with_seed(31);
    struct packing *p = g_new(struct packing, 1);
    struct run *r = g_new0(struct run, 1);
    packing_init(p, model);
    r->p = p;
    r->way = way;
    live(r, rand, load, EVENTS);
    g_autofree char *what = g_strdup_printf("slices granted of those possible, 3 x %s, load %.1f%s",
                                            model, load, names[way]);
    at_bench_row(bench, what, 100 * r->granted / r->possible, "%",
                 way == AS_ATOLL ? AT_BENCH_AT_LEAST : AT_BENCH_ONLY, 95, NULL);
    if (way != QUEUE)
        show_fragmentation(bench, r);
    packing_clear(p);
    g_free(p);
    g_free(r);
}

int main(void)
{
    static const char *const models[] = {"H100", "A30", "RTX6000"};
    static const double loads[] = {0.7, 1.0, 1.5};
    struct at_bench *bench = at_bench_new("gpu");
    g_autoptr(GRand) rand = g_rand_new_with_seed(30);
    double full = 0;
    struct large *site = large_new(rand, &full);
    measure_plans(bench, site, full, ", profiles unshared", false);
    share_profiles(site);
    measure_plans(bench, site, full, "", true);
    for (unsigned i = 0; i < G_N_ELEMENTS(models) * G_N_ELEMENTS(loads); i++) {
        for (enum way way = AS_ATOLL; way <= FIRST_FIT; way++)
            measure_packing(bench, models[i / 3], loads[i % 3], way);
    }
    return at_bench_finish(bench);
}
