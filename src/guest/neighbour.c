/* SPDX-License-Identifier: Apache-2.0 */
/* Takes what it can get of the card: all memory, and then all bandwidth. */
#include "guest/gpu-load.h"
#include "guest/pattern.h"

#define PART_MAX ((uint64_t)256 << 20)
#define PARTS_MAX 65536u

struct part {
    cu_pointer at;
    uint64_t len;
};

/* One page of each MiB: what the victim has written lies together. */
static bool look(struct at_cuda *cuda, const struct at_load_options *o, const struct part *part,
                 struct at_load_neighbour_result *ret)
{
    static uint8_t page[AT_PATTERN_PAGE];
    for (uint64_t at = 0; at < part->len; at += AT_PATTERN_BLOCK) {
        if (!at_cuda_ok(cuda, cuda->from_card(page, part->at + at, sizeof page),
                        "read from the card"))
            return false;
        ret->looked++;
        ret->found += at_pattern_found(page, sizeof page, o->token) != 0;
    }
    return true;
}

static bool fill(struct at_cuda *cuda, const struct at_load_options *o, struct part *parts,
                 unsigned *ret_n, struct at_load_neighbour_result *ret)
{
    uint64_t len = PART_MAX, limit = o->memory ? o->memory : UINT64_MAX;
    while (len >= AT_PATTERN_BLOCK && *ret_n < PARTS_MAX) {
        struct part part = {.len = len};
        int result =
            limit - ret->used < len ? CUDA_ERROR_OUT_OF_MEMORY : cuda->alloc(&part.at, part.len);
        if (result == CUDA_ERROR_OUT_OF_MEMORY) {
            len /= 2;
            continue;
        }
        if (!at_cuda_ok(cuda, result, "memory of the card") || !look(cuda, o, &part, ret) ||
            !at_cuda_ok(cuda, cuda->set_words(part.at, 0xa5a5a5a5, part.len / 4), "fill the card"))
            return false;
        parts[(*ret_n)++] = part;
        ret->used += part.len;
    }
    if (*ret_n == 0)
        return at_cuda_ok(cuda, CUDA_ERROR_OUT_OF_MEMORY, "memory of the card");
    return at_cuda_ok(cuda, cuda->synchronize(), "fill the card");
}

bool at_load_neighbour(struct at_cuda *cuda, const struct at_load_options *o,
                       struct at_load_neighbour_result *ret)
{
    static struct part parts[PARTS_MAX];
    size_t free_bytes, total;
    unsigned n = 0;
    *ret = (struct at_load_neighbour_result){0};
    if (!at_cuda_ok(cuda, cuda->memory_info(&free_bytes, &total), "memory of the card"))
        return false;
    ret->total = total;
    if (!fill(cuda, o, parts, &n, ret))
        return false;
    double begin = at_load_clock(), now = begin;
    ret->fill_seconds = begin - o->began;
    uint64_t bytes = 0;
    for (unsigned i = 0; now - begin < o->seconds; i = (i + 1) % n) {
        const struct part *p = &parts[i];
        if (!at_cuda_ok(cuda, cuda->on_card(p->at, p->at + p->len / 2, p->len / 2),
                        "copy on the card") ||
            !at_cuda_ok(cuda, cuda->synchronize(), "copy on the card"))
            return false;
        bytes += p->len / 2;
        now = at_load_clock();
    }
    ret->load_seconds = now - begin;
    ret->rate = ret->load_seconds > 0 ? (double)bytes / ret->load_seconds : 0;
    return true;
}
