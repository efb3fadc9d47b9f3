/* SPDX-License-Identifier: Apache-2.0 */
/* How long to wait before the next try of something that failed @failures times in a row. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* @first_ms doubled for every failure after the first, at most @max_ms. 0 failures: @first_ms. */
static inline unsigned at_backoff_ms(unsigned first_ms, unsigned max_ms, unsigned failures)
{
    unsigned ms = first_ms;
    for (unsigned i = 1; i < failures && ms < max_ms; i++)
        ms = ms > max_ms / 2 ? max_ms : ms * 2;
    return ms < max_ms ? ms : max_ms;
}

/* Something that is looked at again and again, and tried only now and then. All zero: not failed.
 */
struct at_backoff {
    unsigned tries;
    int64_t next_us;
};

/* True when it may be tried at @now_us; that try counts as failed until the struct is cleared. */
static inline bool at_backoff_due(struct at_backoff *b, unsigned first_ms, unsigned max_ms,
                                  int64_t now_us)
{
    if (b->tries > 0 && now_us < b->next_us)
        return false;
    b->next_us = now_us + (int64_t)at_backoff_ms(first_ms, max_ms, ++b->tries) * 1000;
    return true;
}
