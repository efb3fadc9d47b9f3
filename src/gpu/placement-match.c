/* SPDX-License-Identifier: Apache-2.0 */
/* Which profiles of which cards meet a request, and in which order they are preferred. */
#include <string.h>

#include "gpu/placement-internal.h"

/* ---- models ---- */

static const char *const brands[] = {
    "NVIDIA ", "AMD ",      "Intel(R) ", "Intel ",  "GRID ",
    "Tesla ",  "Instinct ", "Radeon ",   "Quadro ", "Data Center GPU "};
#define N_VENDORS 4 /* of them */

static const char *without(const char *name, unsigned n_brands)
{
    for (unsigned i = 0; i < n_brands; i++) {
        size_t len = strlen(brands[i]);
        if (g_ascii_strncasecmp(name, brands[i], len) == 0)
            return name + len;
    }
    return NULL;
}

const char *at_gpu_card_model(const struct at_gpu_card *card)
{
    if (!card->name)
        return "?";
    const char *rest = without(card->name, N_VENDORS);
    return rest ? rest : card->name;
}

/* '*' and '?', ASCII case aside. Goes back only to the last '*', so its time is bounded by the
 * product of the lengths, whatever a user has written. */
static bool glob_matches(const char *glob, const char *text, size_t len)
{
    const char *star = NULL;
    size_t i = 0, again = 0;
    while (i < len) {
        if (*glob == '*') {
            star = glob++;
            again = i;
        } else if (*glob && (*glob == '?' || g_ascii_tolower(*glob) == g_ascii_tolower(text[i]))) {
            glob++;
            i++;
        } else if (star) {
            glob = star + 1;
            i = ++again;
        } else {
            return false;
        }
    }
    while (*glob == '*')
        glob++;
    return !*glob;
}

static bool matches_some_form(const char *glob, const char *name, size_t len)
{
    const char *end = name + len;
    while (name && name < end) {
        if (glob_matches(glob, name, (size_t)(end - name)))
            return true;
        name = without(name, G_N_ELEMENTS(brands));
    }
    return false;
}

bool at_gpu_model_matches(const char *glob, const struct at_gpu_card *card)
{
    const char *name = card->name;
    if (!glob)
        return true;
    if (!name)
        return false;
    if (matches_some_form(glob, name, strlen(name)))
        return true;
    /* pci.ids writes "GH100 [H100 PCIe]". */
    const char *open = strchr(name, '[');
    const char *close = open ? strrchr(open, ']') : NULL;
    return close && matches_some_form(glob, open + 1, (size_t)(close - open - 1));
}

/* ---- profiles ---- */

bool at_gpu_memory_suffices(uint64_t memory, uint64_t wanted)
{
    return memory >= wanted - wanted / 100 * 3;
}

bool at_gpu_might_meet(const struct at_gpu_card *card, const struct at_gpu_request *request)
{
    bool large = card->memory == 0 || at_gpu_memory_suffices(card->memory, request->memory);
    bool has = !request->profile || !card->profiles || card->profiles->len == 0 ||
               at_gpu_card_profile(card, request->profile);
    return large && has && at_gpu_model_matches(request->model, card);
}

uint64_t at_gpu_part_rank(const struct at_gpu_part *part)
{
    uint64_t gib = MIN(at_gpu_gib(part->memory), (1U << 24) - 1);
    uint64_t slices = part->slices * 16U + MIN(part->compute, 15U);
    return gib << 32 | (uint64_t)part->isolation << 24 | slices << 8;
}

static bool meets(const struct at_gpu_shape *shape, const struct at_gpu_part *part)
{
    return part->usable && (int)part->isolation >= (int)shape->isolation &&
           (!shape->request->memory ||
            at_gpu_memory_suffices(part->memory, shape->request->memory));
}

/* Among types of one size: those that run compute and graphics (C, Q) before those for desktops and
 * applications (A, B), and those without a card's only media engines before those with. */
static unsigned taste(const struct at_gpu_profile *p)
{
    const char *end = p->name + strlen(p->name);
    while (end > p->name && !g_ascii_isdigit(end[-1]))
        end--;
    unsigned series = *end == 'C' ? 0 : *end == 'Q' ? 1 : 2;
    return (p->media ? 4 : 0) + series;
}

static bool goes_before(const struct at_gpu_board *board, unsigned a, unsigned b)
{
    uint64_t rank_a = at_gpu_part_rank(&board->parts[a]);
    uint64_t rank_b = at_gpu_part_rank(&board->parts[b]);
    if (rank_a != rank_b)
        return rank_a < rank_b;
    unsigned taste_a = taste(board->names[a]), taste_b = taste(board->names[b]);
    return taste_a != taste_b ? taste_a < taste_b : a < b;
}

/* Sorts them in; what counts as the same size as a better one is left out. */
static void sort_in(struct at_gpu_choices *choices, const struct at_gpu_board *board, unsigned part)
{
    unsigned n = choices->n, at = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned other = choices->parts[i];
        if (board->parts[other].size != board->parts[part].size)
            continue;
        if (goes_before(board, part, other))
            choices->parts[i] = (uint8_t)part; /* of the same rank: the order holds */
        return;
    }
    while (at < n && goes_before(board, choices->parts[at], part))
        at++;
    memmove(choices->parts + at + 1, choices->parts + at, n - at);
    choices->parts[at] = (uint8_t)part;
    choices->n++;
}

void at_gpu_shape_choose(struct at_gpu_shape *shape, const struct at_gpu_board *board)
{
    struct at_gpu_choices *choices = &shape->choices[board->number];
    const struct at_gpu_request *request = shape->request;
    if (!at_gpu_model_matches(request->model, board->card))
        return;
    choices->parts = g_new0(uint8_t, board->n_parts + 1);
    if (request->profile) {
        int part = at_gpu_board_part(board, request->profile);
        if (part >= 0 && meets(shape, &board->parts[part]))
            choices->parts[choices->n++] = (uint8_t)part;
        return;
    }
    for (unsigned i = 0; i < board->n_parts; i++) {
        if (meets(shape, &board->parts[i]))
            sort_in(choices, board, i);
    }
}
