/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of placement written a second time, as plainly as they can be, without the planner's
 * code: to hold the planner against. Slow; for small sites. */
#pragma once
#include "site-text.h"

/* Whether all this can be on the card at once. */
bool check_card(const struct at_gpu_card *card, const struct at_gpu_hold *holds, unsigned n);
/* Whether the plan gives each request what it asks for, and no card more than it has. NULL, or what
 * is wrong with it. */
const char *check_plan(const struct test_site *site, const struct test_asked *asked,
                       const struct at_gpu_plan *plan);
/* Whether all requests can be placed in any way, found by trying everything. @empty: as if nothing
 * were held. */
bool check_possible(const struct test_site *site, const struct test_asked *asked, bool empty);
