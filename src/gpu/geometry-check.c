/* SPDX-License-Identifier: Apache-2.0 */
/* Whether what is held of a card can be held, and how cut up that leaves the card. */
#include "base/error.h"
#include "gpu/geometry.h"
#include "gpu/text-list.h"

/* A slot of its own for one card. */
typedef struct {
    struct at_gpu_board *board;
    struct at_gpu_slot slot;
} desk;

static void desk_init(desk *d, const struct at_gpu_card *card)
{
    *d = (desk){.board = at_gpu_board_new(card)};
    d->slot.board = d->board;
    d->slot.count = g_new0(uint16_t, at_gpu_slot_counts(d->board) + 1);
}

static void desk_clear(desk *d)
{
    g_free(d->slot.count);
    at_gpu_board_free(d->board);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(desk, desk_clear)

static char *others(const struct at_gpu_hold *holds, unsigned n)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < n && i < 3; i++)
        at_gpu_list_add(text, "%s (%s)", holds[i].profile, holds[i].holder);
    at_gpu_list_more(text, n > 3 ? n - 3 : 0);
    return g_string_free(text, FALSE);
}

static bool take(desk *d, const struct at_gpu_card *card, const struct at_gpu_hold *holds,
                 unsigned i, GError **error)
{
    const struct at_gpu_hold *hold = &holds[i];
    int part = at_gpu_board_part(d->board, hold->profile);
    if (part < 0)
        return at_error(error, AT_ERROR_CONFLICT, "GPU %s (%s) has no profile %s, which %s holds",
                        card->address, card->name, hold->profile, hold->holder);
    enum at_gpu_fit fit = at_gpu_slot_fit(&d->slot, (unsigned)part, hold->start);
    if (fit == AT_GPU_FITS) {
        at_gpu_slot_take(&d->slot, (unsigned)part, hold->start);
        return true;
    }
    g_autofree char *rest = others(holds, i);
    g_autofree char *where = d->board->parts[part].kind == AT_GPU_MIG_VGPU
                                 ? g_strdup_printf(" at slice %u", hold->start)
                                 : g_strdup("");
    return at_error(error, AT_ERROR_CONFLICT, "GPU %s (%s): %s%s of %s cannot be%s%s: %s",
                    card->address, card->name, hold->profile, where, hold->holder,
                    i ? " beside " : "", rest, at_gpu_fit_text(fit));
}

bool at_gpu_holds_check(const struct at_gpu_card *card, const struct at_gpu_hold *holds,
                        unsigned n_holds, GError **error)
{
    g_auto(desk) own = {0};
    desk_init(&own, card);
    for (unsigned i = 0; i < n_holds; i++) {
        if (!take(&own, card, holds, i, error))
            return false;
    }
    return true;
}

/* ---- fragmentation ---- */

/* Memory of the largest time-sliced part that fits. */
static uint64_t largest_memory(const struct at_gpu_slot *slot)
{
    uint64_t most = 0;
    for (unsigned i = 0; i < slot->board->n_parts; i++) {
        const struct at_gpu_part *p = &slot->board->parts[i];
        if (p->kind == AT_GPU_VGPU && at_gpu_slot_fit(slot, i, 0) == AT_GPU_FITS)
            most = MAX(most, p->memory);
    }
    return most;
}

static double share(uint64_t largest_part, uint64_t free)
{
    return largest_part && largest_part < free ? 1.0 - (double)largest_part / (double)free : 0;
}

double at_gpu_fragmentation(const struct at_gpu_card *card, const struct at_gpu_hold *holds,
                            unsigned n_holds)
{
    g_auto(desk) own = {0};
    desk_init(&own, card);
    struct at_gpu_slot *slot = &own.slot;
    int part = -1;
    for (unsigned i = 0; i < n_holds; i++) {
        part = at_gpu_board_part(own.board, holds[i].profile);
        if (part < 0 || at_gpu_slot_fit(slot, (unsigned)part, holds[i].start) != AT_GPU_FITS)
            return 0; /* nothing can be given of it */
        at_gpu_slot_take(slot, (unsigned)part, holds[i].start);
    }
    at_gpu_slot_see_instances(slot, card);
    if (!at_gpu_slot_busy(slot))
        return 0;
    if (slot->kind == AT_GPU_MIG_VGPU) {
        unsigned slices = own.board->grid - (unsigned)__builtin_popcount(slot->taken);
        return share(at_gpu_slot_worth(slot) >> AT_GPU_LARGEST_SHIFT, slices);
    }
    if (slot->kind == AT_GPU_VGPU)
        return share(largest_memory(slot), own.board->capacity - slot->memory);
    if (slot->kind == AT_GPU_VF)
        return share(1, own.board->sizes[own.board->parts[part].size].max - slot->n);
    return 0;
}
