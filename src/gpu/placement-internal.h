/* SPDX-License-Identifier: Apache-2.0 */
/* The planner's picture of a site for one call of at_gpu_place(): cards with what is taken of them,
 * requests taken apart into units, and what each unit could have where. One thread. */
#pragma once
#include "gpu/geometry.h"

#define AT_GPU_UNITS_MAX 64 /* parts that one holder may ask for */

/* What somebody asks for, without who: requests that are alike share a shape. */
struct at_gpu_shape {
    const struct at_gpu_request *request; /* the first of them */
    enum at_gpu_isolation isolation;      /* at least, policies included */
    uint64_t size;                        /* for the order: large ones are placed first */
    struct at_gpu_choices {
        uint8_t *parts; /* of the board, the best first */
        unsigned n;
    } * choices; /* per board */
};

/* The better cost is the smaller one, high first. Costs of one node add up.
 * high  GiB of memory (24 bits) | isolation (8) | slices and compute (16) | NUMA nodes beyond one
 * (8) low   opened cards (8) | loss of places on the card (28) | what is left beside it (28) */
struct at_gpu_cost {
    uint64_t high, low;
};

struct at_gpu_option {
    struct at_gpu_cost cost;
    unsigned slot;
    uint8_t part, start;
};

struct at_gpu_unit {
    unsigned request, shape;
    struct at_gpu_option pick;
};

/* Who asks: all of its units go to one node. */
struct at_gpu_party {
    const char *holder;
    unsigned first, n; /* units */
    uint64_t size;
};

struct at_gpu_site_card {
    struct at_gpu_slot slot;
    const struct at_gpu_place_card *in;
    unsigned node;
    uint8_t obstacles; /* bit per kind */
    bool shut;         /* nothing of it can be given */
    bool loaded;       /* what is held of it was read */
    bool sliceable;    /* parts of it could be given */
    bool instances;    /* MIG instances exist on it */
};

typedef struct at_gpu_site at_gpu_site;
struct at_gpu_site {
    const struct at_gpu_place_node *nodes;
    unsigned n_nodes, from, to; /* only nodes in [from, to) have cards here */
    struct at_gpu_site_card *cards;
    unsigned *first; /* card of each node; [n_nodes] is the number of cards */
    unsigned *untouched;
    uint16_t *counts;
    GPtrArray *boards;
    GArray *shapes;  /* struct at_gpu_shape */
    GArray *units;   /* struct at_gpu_unit, a party's beside each other, large ones first */
    GArray *parties; /* struct at_gpu_party, in the order of the requests */
    struct at_gpu_option *best; /* [node][shape] */
    uint8_t *best_known;        /* 0: look; 1: none; 2: in best */
    unsigned steps;             /* that the search may still take */
};

enum at_gpu_site_flags {
    AT_GPU_SITE_ALL = 1 << 0,   /* read all cards, also those that no request could use */
    AT_GPU_SITE_EMPTY = 1 << 1, /* as if nothing were held */
};
struct at_gpu_site *at_gpu_site_new(const struct at_gpu_place_node *nodes, unsigned n_nodes,
                                    const struct at_gpu_request *requests, unsigned n_requests,
                                    const struct at_gpu_policy *policies, unsigned n_policies,
                                    int home, unsigned flags);
void at_gpu_site_free(struct at_gpu_site *site);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_gpu_site, at_gpu_site_free)

static inline struct at_gpu_shape *at_gpu_site_shape(const struct at_gpu_site *site, unsigned i)
{
    return &g_array_index(site->shapes, struct at_gpu_shape, i);
}
static inline struct at_gpu_unit *at_gpu_site_unit(const struct at_gpu_site *site, unsigned i)
{
    return &g_array_index(site->units, struct at_gpu_unit, i);
}
static inline struct at_gpu_party *at_gpu_site_party(const struct at_gpu_site *site, unsigned i)
{
    return &g_array_index(site->parties, struct at_gpu_party, i);
}

/* ---- placement-match.c: what meets a request ---- */
/* The glob against the card's name, and against it without vendor and brand. */
bool at_gpu_model_matches(const char *glob, const struct at_gpu_card *card);
/* 3 % less than was asked for is enough: what the driver keeps for itself. */
bool at_gpu_memory_suffices(uint64_t memory, uint64_t wanted);
void at_gpu_shape_choose(struct at_gpu_shape *shape, const struct at_gpu_board *board);
/* "H100 PCIe": the name without the vendor. Borrowed from the card. */
const char *at_gpu_card_model(const struct at_gpu_card *card);
/* GiB for ranks and messages: rounded. */
static inline uint64_t at_gpu_gib(uint64_t memory)
{
    return (memory >> 30) + (memory >> 29 & 1);
}
/* Waste of a part, as the high half of a cost. */
uint64_t at_gpu_part_rank(const struct at_gpu_part *part);

/* ---- placement-rank.c: what a unit could have ---- */
static inline bool at_gpu_cost_less(const struct at_gpu_cost *a, const struct at_gpu_cost *b)
{
    return a->high != b->high ? a->high < b->high : a->low < b->low;
}
/* The best option of a card; false when there is none. */
bool at_gpu_site_card_best(const struct at_gpu_site *site, unsigned shape, unsigned card,
                           struct at_gpu_option *ret);
/* The best of a node, remembered until something of the node changes. NULL: none. */
const struct at_gpu_option *at_gpu_site_node_best(struct at_gpu_site *site, unsigned shape,
                                                  unsigned node);
/* Appends all options of the node, but of untouched cards that are alike only those of the first.
 */
void at_gpu_site_node_options(struct at_gpu_site *site, unsigned shape, unsigned node,
                              GArray *options);
void at_gpu_site_take(struct at_gpu_site *site, const struct at_gpu_option *option);
void at_gpu_site_drop(struct at_gpu_site *site, const struct at_gpu_option *option);

/* ---- placement-search.c ---- */
/* Places a party on one node; its units' picks are filled and taken. Greedy: false is no proof. */
bool at_gpu_site_put(struct at_gpu_site *site, unsigned party);
/* Only on that node. */
bool at_gpu_site_put_on(struct at_gpu_site *site, unsigned party, unsigned node);
void at_gpu_site_unput(struct at_gpu_site *site, unsigned party);
/* Places all parties in [0, n): greedy first, then by trying everything within a bound of steps.
 * False: nothing is taken, and *ret_failed is who found no place first. */
bool at_gpu_site_place(struct at_gpu_site *site, const unsigned *parties, unsigned n,
                       unsigned *ret_failed);

/* ---- refusals ---- */
struct at_gpu_refusal {
    const struct at_gpu_place_node *nodes;
    unsigned n_nodes;
    const struct at_gpu_request *requests;
    unsigned n_requests;
    const struct at_gpu_policy *policies;
    unsigned n_policies;
    int home;
};

/* placement-text.c: the words. All are newly allocated. */
#define AT_GPU_MESSAGE_MAX 600                                   /* bytes of a refusal */
#define AT_GPU_NAMED_MAX 3                                       /* cards that one names */
char *at_gpu_text_request(const struct at_gpu_request *request); /* "2 x passthrough of H100*" */
char *at_gpu_text_card(const struct at_gpu_card *card, const char *node);
/* "a, b and 3 more"; @names are strings. */
char *at_gpu_text_list(const GPtrArray *names, unsigned most);
/* Cut to @most bytes, "..." at the end. */
char *at_gpu_text_clip(const char *text, size_t most);

/* placement-refuse.c: for a request that no card could ever meet, sets NOT_FOUND or DENIED;
 * CONFLICT when all that could are reserved. Always false. */
bool at_gpu_refuse_impossible(const struct at_gpu_refusal *in, const struct at_gpu_request *request,
                              GError **error);

/* placement-conflict.c: when the search has found nothing: says who is in the way. @failed: the
 * party that found no place. Always sets an error. */
void at_gpu_refuse_full(const struct at_gpu_refusal *in, unsigned failed, GError **error);

/* placement-blockers.c: who would have to go. */
struct at_gpu_blocked {
    unsigned node, from, to; /* cards of the site */
    unsigned n;              /* holders that would have to go; few is better */
    GPtrArray *holders;      /* their names, borrowed */
};
/* For each card (for a party of several units: each node) on which the party could be placed if
 * some went: the smallest set of holders that was found. The smallest sets come first. */
GPtrArray *at_gpu_blockers(struct at_gpu_site *site, unsigned party);
