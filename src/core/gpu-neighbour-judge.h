/* SPDX-License-Identifier: Apache-2.0 */
/* What the two guests' loads said, and what follows from it. Guests may lie: what the host saw
 * bounds what they say, and what they leave out is not taken for good. */
#pragma once
#include <json-glib/json-glib.h>

#include "core/gpu-neighbour.h"

enum { AT_NEIGHBOUR_KEPT_PERCENT = 90 };

/* One run of the load in a guest. Times are at_clock_us() of this host. */
struct at_neighbour_run {
    int64_t sent_us, told_us; /* start asked for, start known */
    int64_t running_us;       /* last seen running; 0: never */
    int64_t ended_us;         /* seen to have ended; 0: not */
    JsonNode *answer;         /* an object, or NULL */
    char *failure;            /* what the load said when it could not, as plain text, or NULL */
    bool hung;                /* it did not end in time */
};
void at_neighbour_run_clear(struct at_neighbour_run *run);
struct at_neighbour_run *at_neighbour_run_new(void);
void at_neighbour_run_free(struct at_neighbour_run *run);

/* A number of the answer that is not negative and makes sense; 0 when there is none. */
double at_neighbour_number(const struct at_neighbour_run *run, const char *name);

struct at_neighbour_story {
    const struct at_neighbour_plan *plan;
    GPtrArray *before, *beside, *after; /* of struct at_neighbour_run: the victim's */
    struct at_neighbour_run load;       /* the neighbour's */
    char *trouble;                      /* plain text: what kept this host from going on, or NULL */
};
void at_neighbour_story_init(struct at_neighbour_story *s, const struct at_neighbour_plan *plan);
void at_neighbour_story_clear(struct at_neighbour_story *s);

/* Pages that changed in these runs. */
double at_neighbour_damaged(const GPtrArray *runs);
/* The victim could not measure beside the neighbour, or got less memory. */
bool at_neighbour_hampered(const struct at_neighbour_story *s);

/* Failed: memory of the victim was changed, was seen by the neighbour, or was taken away; or the
 * victim's class is hardware, and it kept less than AT_NEIGHBOUR_KEPT_PERCENT of its bandwidth.
 * Not tested: the test did not come to its end, an answer lacks something, the neighbour did not
 * load as it was told, or the card was not quiet. docs/gpu.md has all rules. @ret_detail: one
 * line, newly allocated. */
enum at_gpu_verdict at_neighbour_judge(const struct at_neighbour_story *s, char **ret_detail);
