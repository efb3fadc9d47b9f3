/* SPDX-License-Identifier: Apache-2.0 */
/* How long to wait before the next try of something that failed @failures times in a row. */
#pragma once

/* @first_ms doubled for every failure after the first, at most @max_ms. 0 failures: @first_ms. */
static inline unsigned at_backoff_ms(unsigned first_ms, unsigned max_ms, unsigned failures)
{
    unsigned ms = first_ms;
    for (unsigned i = 1; i < failures && ms < max_ms; i++)
        ms = ms > max_ms / 2 ? max_ms : ms * 2;
    return ms < max_ms ? ms : max_ms;
}
