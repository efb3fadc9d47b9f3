/* SPDX-License-Identifier: Apache-2.0 */
/* Slots: what of a card can be at the same time, what is taken, and what that leaves. */
#include "gpu/geometry.h"

#define UNKNOWN_GI 255

const char *at_gpu_fit_text(enum at_gpu_fit fit)
{
    static const char *const texts[] = {
        [AT_GPU_FITS] = "nothing is in the way",
        [AT_GPU_MISFIT_UNUSABLE] = "the driver describes the profile in a way that makes no sense",
        [AT_GPU_MISFIT_KIND] = "passthrough, MIG, time slices and VFs exclude each other",
        [AT_GPU_MISFIT_COUNT] = "that is more of this size than the card can have",
        [AT_GPU_MISFIT_VFS] = "no virtual function is left",
        [AT_GPU_MISFIT_MEMORY] = "that is more memory than the card has",
        [AT_GPU_MISFIT_SIZES] = "the card cannot mix these sizes",
        [AT_GPU_MISFIT_START] = "the profile cannot begin at that slice",
        [AT_GPU_MISFIT_TAKEN] = "its memory slices are taken",
        [AT_GPU_MISFIT_COMPUTE] = "that is more compute slices than the card has",
        [AT_GPU_MISFIT_GI] = "the card can have no more instances of that profile",
        [AT_GPU_MISFIT_MEDIA] = "another instance has the media engines",
        [AT_GPU_MISFIT_INSTANCE] = "the instance there is full or shared by vGPUs of another size",
    };
    return texts[fit];
}

/* Whether all sizes on the card bear others beside them. */
static bool all_mix(const struct at_gpu_slot *slot)
{
    const struct at_gpu_board *board = slot->board;
    for (unsigned i = 0; i < board->n_sizes; i++) {
        if (slot->count[i] > board->sizes[i].max_mixed)
            return false;
    }
    return true;
}

static enum at_gpu_fit fit_time_sliced(const struct at_gpu_slot *slot,
                                       const struct at_gpu_part *part)
{
    const struct at_gpu_board *board = slot->board;
    const struct at_gpu_size *size = &board->sizes[part->size];
    unsigned same = slot->count[part->size];
    bool enough = slot->memory <= board->capacity && size->memory <= board->capacity - slot->memory;
    if (same == slot->n) {
        if (same >= size->max)
            return AT_GPU_MISFIT_COUNT;
        return enough ? AT_GPU_FITS : AT_GPU_MISFIT_MEMORY;
    }
    if (!board->mixes || !size->max_mixed || !all_mix(slot))
        return AT_GPU_MISFIT_SIZES;
    if (same >= size->max_mixed)
        return AT_GPU_MISFIT_COUNT;
    return enough && slot->share + size->share <= AT_GPU_ALL_SHARES ? AT_GPU_FITS
                                                                    : AT_GPU_MISFIT_MEMORY;
}

static enum at_gpu_fit fit_mig(const struct at_gpu_slot *slot, const struct at_gpu_part *part,
                               unsigned start)
{
    const struct at_gpu_board *board = slot->board;
    const struct at_gpu_size *size = &board->sizes[part->size];
    const struct at_gpu_gi *gi = &board->gis[part->gi];
    if (start >= AT_GPU_SLICES || !(part->starts >> start & 1))
        return AT_GPU_MISFIT_START;
    if (slot->count[part->size] >= size->max)
        return AT_GPU_MISFIT_COUNT;
    const struct at_gpu_slot_instance *at = &slot->at[start];
    if (at->gi == part->gi + 1) {
        bool alike = !at->n || at->size == part->size;
        return alike && at->n < size->per_gi ? AT_GPU_FITS : AT_GPU_MISFIT_INSTANCE;
    }
    if (slot->taken & gi->span << start)
        return AT_GPU_MISFIT_TAKEN;
    if (slot->compute + gi->compute > board->compute)
        return AT_GPU_MISFIT_COMPUTE;
    if (slot->count[board->n_sizes + part->gi] >= gi->max)
        return AT_GPU_MISFIT_GI;
    return slot->media & gi->media ? AT_GPU_MISFIT_MEDIA : AT_GPU_FITS;
}

enum at_gpu_fit at_gpu_slot_fit(const struct at_gpu_slot *slot, unsigned part, unsigned start)
{
    const struct at_gpu_board *board = slot->board;
    const struct at_gpu_part *p = &board->parts[part];
    if (!p->usable)
        return AT_GPU_MISFIT_UNUSABLE;
    if (at_gpu_slot_busy(slot) && (p->kind == AT_GPU_PASSTHROUGH || slot->kind != p->kind))
        return AT_GPU_MISFIT_KIND;
    if (p->kind == AT_GPU_PASSTHROUGH)
        return AT_GPU_FITS;
    if (board->vfs && slot->n >= board->vfs)
        return AT_GPU_MISFIT_VFS;
    if (p->kind == AT_GPU_VGPU)
        return fit_time_sliced(slot, p);
    if (p->kind == AT_GPU_MIG_VGPU)
        return fit_mig(slot, p, start);
    return slot->n >= board->sizes[p->size].max ? AT_GPU_MISFIT_COUNT : AT_GPU_FITS;
}

static void instance_enter(struct at_gpu_slot *slot, unsigned gi_index, unsigned start)
{
    const struct at_gpu_gi *gi = &slot->board->gis[gi_index];
    slot->at[start].gi = (uint8_t)(gi_index + 1);
    slot->taken |= gi->span << start;
    slot->compute = (uint16_t)(slot->compute + gi->compute);
    slot->count[slot->board->n_sizes + gi_index]++;
    slot->media |= gi->media;
}

static void instance_leave(struct at_gpu_slot *slot, unsigned gi_index, unsigned start)
{
    const struct at_gpu_gi *gi = &slot->board->gis[gi_index];
    slot->at[start].gi = 0;
    slot->taken &= ~(gi->span << start);
    slot->compute = (uint16_t)(slot->compute - gi->compute);
    slot->count[slot->board->n_sizes + gi_index]--;
    slot->media &= ~gi->media;
}

void at_gpu_slot_take(struct at_gpu_slot *slot, unsigned part, unsigned start)
{
    const struct at_gpu_part *p = &slot->board->parts[part];
    slot->n++;
    slot->kind = p->kind;
    slot->count[p->size]++;
    if (p->kind == AT_GPU_VGPU) {
        slot->memory += p->memory;
        slot->share += slot->board->sizes[p->size].share;
    }
    if (p->kind == AT_GPU_MIG_VGPU) {
        struct at_gpu_slot_instance *at = &slot->at[start];
        if (!at->gi)
            instance_enter(slot, p->gi, start);
        at->size = p->size;
        at->n++;
    }
}

void at_gpu_slot_drop(struct at_gpu_slot *slot, unsigned part, unsigned start)
{
    const struct at_gpu_part *p = &slot->board->parts[part];
    slot->n--;
    slot->count[p->size]--;
    if (p->kind == AT_GPU_VGPU) {
        slot->memory -= p->memory;
        slot->share -= slot->board->sizes[p->size].share;
    }
    if (p->kind == AT_GPU_MIG_VGPU) {
        struct at_gpu_slot_instance *at = &slot->at[start];
        at->n--;
        if (!at->n && !at->foreign)
            instance_leave(slot, p->gi, start);
    }
}

static void see_instance(struct at_gpu_slot *slot, const struct at_gpu_instance *instance)
{
    const struct at_gpu_board *board = slot->board;
    unsigned gi = 0;
    if (instance->start >= AT_GPU_SLICES)
        return;
    struct at_gpu_slot_instance *at = &slot->at[instance->start];
    while (gi < board->n_gis && board->gis[gi].id != instance->gi_profile)
        gi++;
    if (gi < board->n_gis && at->gi == gi + 1)
        return; /* of what is taken */
    if (!slot->n || slot->kind == AT_GPU_MIG_VGPU)
        slot->kind = AT_GPU_MIG_VGPU;
    slot->foreign++;
    uint32_t span = at_gpu_span(instance->slices) << instance->start;
    bool known = gi < board->n_gis && (board->gis[gi].starts >> instance->start & 1) &&
                 !(slot->taken & span) && !at->gi;
    if (known) {
        at->foreign = true;
        instance_enter(slot, gi, instance->start);
        return;
    }
    slot->taken |= span;
    slot->compute =
        (uint16_t)MIN(slot->compute + MIN(instance->slices, AT_GPU_SLICES), AT_GPU_MANY);
    if (!at->gi)
        at->gi = UNKNOWN_GI;
}

void at_gpu_slot_see_instances(struct at_gpu_slot *slot, const struct at_gpu_card *card)
{
    for (unsigned i = 0; i < card->instances->len && i < AT_GPU_SLICES; i++)
        see_instance(slot, card->instances->pdata[i]);
}

/* ---- worth ---- */

static uint32_t count_worth(const struct at_gpu_board *board, uint32_t taken, unsigned compute)
{
    unsigned largest = 0, places = 0;
    for (unsigned i = 0; i < board->n_gis; i++) {
        const struct at_gpu_gi *gi = &board->gis[i];
        if (gi->twin || compute + gi->compute > board->compute)
            continue;
        for (uint32_t starts = gi->starts; starts; starts &= starts - 1) {
            if (taken & gi->span << __builtin_ctz(starts))
                continue;
            largest = MAX(largest, gi->slices);
            places += gi->slices;
        }
    }
    return largest << AT_GPU_LARGEST_SHIFT | places;
}

static uint32_t worth_of(struct at_gpu_board *board, uint32_t taken, unsigned compute)
{
    uint32_t hash = (taken ^ taken >> 10 ^ taken >> 20 ^ compute << 5) & (AT_GPU_MEMO - 1);
    struct at_gpu_worth *memo = &board->memo[hash];
    if (memo->taken != taken || memo->compute != compute + 1)
        *memo = (struct at_gpu_worth){taken, count_worth(board, taken, compute),
                                      (uint16_t)(compute + 1)};
    return memo->worth;
}

uint32_t at_gpu_slot_worth(const struct at_gpu_slot *slot)
{
    return worth_of(slot->board, slot->taken, slot->compute);
}

uint32_t at_gpu_slot_worth_with(const struct at_gpu_slot *slot, const struct at_gpu_part *part,
                                unsigned start)
{
    if (slot->at[start].gi == part->gi + 1)
        return at_gpu_slot_worth(slot);
    return worth_of(slot->board, slot->taken | slot->board->gis[part->gi].span << start,
                    slot->compute + part->compute);
}
