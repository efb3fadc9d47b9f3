/* SPDX-License-Identifier: Apache-2.0 */
/* Where requests for GPUs go. A pure function of its input: no clock, no chance, no host; the same
 * input gives the same answer. It never gives more than there is. */
#pragma once
#include "gpu/gpu.h"

/* What somebody holds of a card. */
struct at_gpu_hold {
    const char *holder;  /* "rag-team/tune": named in refusals */
    const char *profile; /* name of a profile of the card */
    unsigned start;      /* MIG-backed: first memory slice of its instance */
};

struct at_gpu_place_card {
    const struct at_gpu_card *card;
    const char *reserved; /* why nothing of it may be given (reserved for the host, in quarantine,
                           * an operator's note), or NULL */
    const struct at_gpu_hold *holds;
    unsigned n_holds;
};
struct at_gpu_place_node {
    const char *name;
    const struct at_gpu_place_card *cards; /* in the order of their addresses */
    unsigned n_cards;
};

/* One entry of `gpus:` in a VDC's file. */
struct at_gpu_request {
    const char *holder;  /* "rag-team/tune"; requests of the same holder go to one node */
    const char *profile; /* a profile's name, or NULL: any that meets the rest */
    const char *model;   /* glob on the card's name without its vendor ("H100*"), or NULL; case does
                          * not   count */
    uint64_t memory;     /* at least; 0: any */
    enum at_gpu_isolation isolation; /* at least */
    unsigned count;                  /* >= 1 */
};

/* What a VDC or the site allows. */
struct at_gpu_policy {
    enum at_gpu_isolation weakest; /* AT_GPU_ANY: all are allowed */
    const char *who;               /* "the site", "VDC rag-team": named in refusals; may be NULL */
};

struct at_gpu_grant {
    unsigned request, node, card;         /* indexes into the input */
    const struct at_gpu_profile *profile; /* borrowed from the card */
    unsigned start;                       /* MIG-backed: memory slice */
};

struct at_gpu_plan {
    GArray *grants; /* struct at_gpu_grant, in the order of the requests */
};
void at_gpu_plan_free(struct at_gpu_plan *plan);

/* Places all requests or none. Of what suffices the least memory (in whole GiB), then the weakest
 * isolation, then the fewest slices is chosen, and of the places for it the one that cuts up least.
 * A memory that is up to 3 % less than was asked for suffices: drivers keep some for themselves.
 * MIG instances that a card has but nobody holds keep their slices (a vGPU of their GI profile can
 * go into them), so the cards should have been read after the last detach.
 * @home  node that the holders must be on (the index), or -1: any
 * NULL with CONFLICT when others hold what would be needed: the message names the holders that
 * stand in the way, and what would fit instead; NOT_FOUND when no card of the site could ever give
 * it (no such profile or model, or why each that could cannot: its obstacle), nor an empty site;
 * DENIED when a policy forbids it; INVALID for a request that means nothing (no holder, no count,
 * more than 64 parts for one holder). A message has at most 600 bytes. Takes some milliseconds on a
 * site of thousands of cards; the search is bounded, and where the bound is met a refusal is no
 * proof. */
struct at_gpu_plan *at_gpu_place(const struct at_gpu_place_node *nodes, unsigned n_nodes,
                                 const struct at_gpu_request *requests, unsigned n_requests,
                                 const struct at_gpu_policy *policies, unsigned n_policies,
                                 int home, GError **error);

/* Whether a card of which no more than name, memory and profiles is known (each may be missing)
 * could have met the request: for cards that are not in their host any more. */
bool at_gpu_might_meet(const struct at_gpu_card *card, const struct at_gpu_request *request);

/* Whether what is held of a card can exist on it at the same time: geometry, counts, memory. False
 * with CONFLICT and what is wrong. Used by at_gpu_place() itself, and to check the catalog. */
bool at_gpu_holds_check(const struct at_gpu_card *card, const struct at_gpu_hold *holds,
                        unsigned n_holds, GError **error);

/* Lets cards with the same profiles have one array of them: a large site needs less memory, and
 * at_gpu_place() sees at once that cards are alike. The arrays must not be changed afterwards. */
void at_gpu_cards_share(struct at_gpu_card *const *cards, unsigned n_cards);

/* How much of a card is left in the largest pieces: 1 - (largest part that can still be given) /
 * (all that is free), 0 (nothing is cut up) to 1; 0 when nothing is free. */
double at_gpu_fragmentation(const struct at_gpu_card *card, const struct at_gpu_hold *holds,
                            unsigned n_holds);
