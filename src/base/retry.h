/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that a signal can interrupt before they have done anything (open, fsync, ftruncate and the
 * like, on file systems that let them) are made again. */
#pragma once
#include <errno.h>

/* The value of @call, which is evaluated until it does not fail with EINTR. */
#define at_retry(call)                                                                             \
    ({                                                                                             \
        __typeof__(call) at_value_;                                                                \
        do                                                                                         \
            at_value_ = (call);                                                                    \
        while (at_value_ == -1 && errno == EINTR);                                                 \
        at_value_;                                                                                 \
    })
