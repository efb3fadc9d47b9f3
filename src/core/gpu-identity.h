/* SPDX-License-Identifier: Apache-2.0 */
/* Which record is a card's, and what a record is called. Pure: nothing is read or written. */
#pragma once
#include "core/record-gpu.h"

/* struct at_gpu_card* of @cards -> at_gpu_rec* of @recs, each at most once; what is in it not is a
 * card that is not known yet. Both are borrowed. */
GHashTable *at_gpu_identify(const GPtrArray *recs, const GPtrArray *cards, const char *node);

/* Remembers what is lasting of the card. True when that is something new. A number that two cards
 * had at once is never believed again. */
bool at_gpu_learn_identity(at_gpu_rec *rec, const struct at_gpu_card *card);

/* NVML's UUID is better than a number of the card's own, and that is better than an address. */
bool at_gpu_id_is_better(const char *id, const char *than);
/* The card's id, or another one when a record is called so already (@used, a set). Newly allocated.
 */
char *at_gpu_id_choose(const struct at_gpu_card *card, GHashTable *used);
