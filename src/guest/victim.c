/* SPDX-License-Identifier: Apache-2.0 */
/* Measures what the card gives to this guest, and whether it keeps what this guest has written. */
#include <stdlib.h>

#include "guest/gpu-load.h"
#include "guest/pattern.h"

#define WINDOW 0.1        /* seconds */
#define WINDOWS_MAX 4096u /* the first ones count */
#define MEMORY_MAX ((uint64_t)1 << 30)
#define COPY_MAX ((uint64_t)64 << 20) /* at once: short against a window, long against a call */

/* Blocks of the pattern from @first on. */
static bool write_pattern(struct at_cuda *cuda, uint64_t token, cu_pointer at, uint64_t len,
                          uint64_t first)
{
    static uint8_t block[AT_PATTERN_BLOCK];
    for (uint64_t n = 0; n < len / AT_PATTERN_BLOCK; n++) {
        at_pattern_fill(block, token, first + n);
        if (!at_cuda_ok(cuda, cuda->to_card(at + n * AT_PATTERN_BLOCK, block, sizeof block),
                        "write to the card"))
            return false;
    }
    return true;
}

static bool check_pattern(struct at_cuda *cuda, uint64_t token, cu_pointer at, uint64_t len,
                          uint64_t first, uint64_t *damaged)
{
    static uint8_t block[AT_PATTERN_BLOCK];
    for (uint64_t n = 0; n < len / AT_PATTERN_BLOCK; n++) {
        if (!at_cuda_ok(cuda, cuda->from_card(block, at + n * AT_PATTERN_BLOCK, sizeof block),
                        "read from the card"))
            return false;
        *damaged += at_pattern_damaged(block, token, first + n);
    }
    return true;
}

static bool copy_all(struct at_cuda *cuda, cu_pointer to, cu_pointer from, uint64_t len)
{
    for (uint64_t at = 0; at < len; at += COPY_MAX) {
        uint64_t n = len - at < COPY_MAX ? len - at : COPY_MAX;
        if (!at_cuda_ok(cuda, cuda->on_card(to + at, from + at, n), "copy on the card"))
            return false;
    }
    return at_cuda_ok(cuda, cuda->synchronize(), "copy on the card");
}

static int by_rate(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Copies between the first two parts, and counts what each window took. */
static bool measure(struct at_cuda *cuda, const struct at_load_options *o, cu_pointer at,
                    uint64_t part, struct at_load_victim_result *ret)
{
    static double rates[WINDOWS_MAX];
    double begin = at_load_clock(), window = begin;
    uint64_t bytes = 0;
    for (bool back = false;; back = !back) {
        if (!copy_all(cuda, back ? at : at + part, back ? at + part : at, part))
            return false;
        bytes += part;
        double now = at_load_clock();
        if (now - window >= WINDOW) {
            if (ret->windows < WINDOWS_MAX)
                rates[ret->windows++] = (double)bytes / (now - window);
            window = now;
            bytes = 0;
        }
        if (now - begin >= o->seconds && ret->windows > 0)
            break;
    }
    qsort(rates, ret->windows, sizeof *rates, by_rate);
    ret->rate = rates[(ret->windows - 1) / 2]; /* of two the lower: nothing is made better */
    ret->slowest = rates[0];
    return true;
}

bool at_load_victim(struct at_cuda *cuda, const struct at_load_options *o,
                    struct at_load_victim_result *ret)
{
    size_t free_bytes, total;
    cu_pointer at;
    *ret = (struct at_load_victim_result){0};
    if (!at_cuda_ok(cuda, cuda->memory_info(&free_bytes, &total), "memory of the card"))
        return false;
    uint64_t want = free_bytes / 4 < MEMORY_MAX ? free_bytes / 4 : MEMORY_MAX;
    if (o->memory && want > o->memory)
        want = o->memory;
    /* Two parts that are copied to and fro, and two that lie still: there nothing that a neighbour
     * has changed is written over. */
    uint64_t part = want / 4 / AT_PATTERN_BLOCK * AT_PATTERN_BLOCK, still = 2 * part;
    if (part == 0)
        part = AT_PATTERN_BLOCK, still = 0; /* which may fail with the driver's own words */
    ret->total = total;
    ret->used = 2 * part + still;
    uint64_t blocks = part / AT_PATTERN_BLOCK;
    return at_cuda_ok(cuda, cuda->alloc(&at, ret->used), "memory of the card") &&
           write_pattern(cuda, o->token, at, part, 0) &&
           write_pattern(cuda, o->token, at + 2 * part, still, blocks) &&
           measure(cuda, o, at, part, ret) &&
           check_pattern(cuda, o->token, at, part, 0, &ret->damaged) &&
           check_pattern(cuda, o->token, at + part, part, 0, &ret->damaged) &&
           check_pattern(cuda, o->token, at + 2 * part, still, blocks, &ret->damaged);
}
