/* SPDX-License-Identifier: Apache-2.0 */
/* Boards: the profiles of cards that are alike, made compact. What a driver says that contradicts
 * itself makes the profile unusable; what it leaves unlimited gets a limit. */
#include "gpu/geometry.h"

#include <string.h>

#define PARTS_MAX 255 /* what a card describes beyond is not used */

static unsigned clamp(unsigned n)
{
    return MIN(n, AT_GPU_MANY);
}

static unsigned grid_of(const struct at_gpu_card *card)
{
    return card->grid_slices ? card->grid_slices : AT_GPU_SLICES;
}

/* The starts at which the whole instance is on the grid. */
static uint32_t starts_within(const struct at_gpu_card *card, const struct at_gpu_profile *p)
{
    unsigned grid = grid_of(card);
    if (grid > AT_GPU_SLICES || p->slices == 0 || p->slices > grid)
        return 0;
    return p->starts & at_gpu_span(grid - p->slices + 1);
}

static uint32_t media_bit(const struct at_gpu_board *board, unsigned media, const unsigned *seen)
{
    for (unsigned i = 0; i < board->n_gis; i++) {
        if (seen[i] == media)
            return board->gis[i].media;
    }
    uint32_t used = 0;
    for (unsigned i = 0; i < board->n_gis; i++)
        used |= board->gis[i].media;
    return ~used & (used + 1); /* the lowest free one; 0 when there is none */
}

/* Finds or adds the GI profile; -1 when it contradicts what was said of it before. @media: the
 * groups of those there are. */
static int find_gi(struct at_gpu_board *board, const struct at_gpu_profile *p, unsigned *media)
{
    const struct at_gpu_gi made = {
        .id = p->gi_profile,
        .starts = starts_within(board->card, p),
        .span = at_gpu_span(p->slices),
        .slices = (uint8_t)MIN(p->slices, AT_GPU_SLICES),
        .compute = (uint8_t)MIN(p->compute, 255),
        .max = p->gi_max ? clamp(p->gi_max) : AT_GPU_MANY,
        .media = p->media ? media_bit(board, p->media, media) : 0,
    };
    if (!made.starts || (p->media && !made.media))
        return -1;
    bool twin = false;
    for (unsigned i = 0; i < board->n_gis; i++) {
        const struct at_gpu_gi *gi = &board->gis[i];
        bool same =
            gi->slices == made.slices && gi->compute == made.compute && gi->starts == made.starts;
        twin |= same;
        if (gi->id == made.id)
            return same && gi->max == made.max && media[i] == p->media ? (int)i : -1;
    }
    media[board->n_gis] = p->media;
    board->gis[board->n_gis] = made;
    board->gis[board->n_gis].twin = twin;
    return (int)board->n_gis++;
}

static uint8_t find_size(struct at_gpu_board *board, const struct at_gpu_profile *p, uint8_t gi)
{
    struct at_gpu_size *size = NULL;
    for (unsigned i = 0; i < board->n_sizes && !size; i++) {
        struct at_gpu_size *old = &board->sizes[i];
        if (old->kind == p->kind && old->gi == gi && old->memory == p->memory)
            size = old;
    }
    if (!size) {
        size = &board->sizes[board->n_sizes++];
        *size = (struct at_gpu_size){.memory = p->memory,
                                     .kind = (uint8_t)p->kind,
                                     .gi = gi,
                                     .max = AT_GPU_MANY,
                                     .max_mixed = AT_GPU_MANY,
                                     .per_gi = AT_GPU_MANY};
    }
    /* Series of one size (A, B, C, Q) may be beside each other; the strictest counts for all. */
    size->max = MIN(size->max, p->max ? clamp(p->max) : AT_GPU_MANY);
    size->max_mixed = MIN(size->max_mixed, p->memory ? clamp(p->max_mixed) : 0);
    size->per_gi = MIN(size->per_gi, MAX(1, clamp(p->per_gi)));
    return (uint8_t)(size - board->sizes);
}

static void add_part(struct at_gpu_board *board, const struct at_gpu_profile *p, unsigned *media)
{
    struct at_gpu_part *part = &board->parts[board->n_parts];
    board->names[board->n_parts++] = p;
    *part = (struct at_gpu_part){.memory = p->memory,
                                 .kind = (uint8_t)p->kind,
                                 .isolation = (uint8_t)p->isolation,
                                 .usable = true};
    if (p->kind == AT_GPU_PASSTHROUGH && !p->memory)
        part->memory = board->card->memory;
    if (p->kind == AT_GPU_MIG_VGPU) {
        int gi = find_gi(board, p, media);
        part->usable = gi >= 0;
        if (gi >= 0) {
            part->gi = (uint8_t)gi;
            part->starts = board->gis[gi].starts;
            part->slices = board->gis[gi].slices;
            part->compute = board->gis[gi].compute;
        }
    }
    if (part->usable)
        part->size = find_size(board, p, part->gi);
}

/* The memory that time-sliced types can have together: what the type says that fills the card best.
 * The total that NVML tells is no measure; it is less by what ECC and the driver take. */
static uint64_t capacity_of(const struct at_gpu_board *board, const struct at_gpu_card *card)
{
    uint64_t most = 0;
    for (unsigned i = 0; i < board->n_parts; i++) {
        const struct at_gpu_profile *p = card->profiles->pdata[i];
        uint64_t sum = 0;
        if (p->kind != AT_GPU_VGPU)
            continue;
        if (!g_uint64_checked_mul(&sum, p->memory, MAX(1, clamp(p->max))))
            sum = p->memory;
        most = MAX(most, sum);
    }
    return most;
}

/* A limit for everything that the driver gave no limit for. */
static void limit_sizes(struct at_gpu_board *board)
{
    for (unsigned i = 0; i < board->n_sizes; i++) {
        struct at_gpu_size *size = &board->sizes[i];
        if (size->kind == AT_GPU_VGPU && size->max == AT_GPU_MANY)
            size->max = size->memory
                            ? clamp((unsigned)MIN(board->capacity / size->memory, AT_GPU_MANY))
                            : 1;
        else if (size->kind == AT_GPU_VF && size->max == AT_GPU_MANY)
            size->max = board->vfs ? board->vfs : 1;
        else if (size->kind == AT_GPU_PASSTHROUGH)
            size->max = 1;
        size->max_mixed = MIN(size->max_mixed, size->max);
        size->share = size->max_mixed ? AT_GPU_ALL_SHARES / size->max_mixed : 0;
    }
}

/* Types of a card differ at the end of their names. */
static unsigned name_hash(const char *name)
{
    size_t len = strlen(name);
    unsigned hash = (unsigned)len;
    for (size_t i = len > 6 ? len - 6 : 0; i < len; i++)
        hash = hash * 33 + (unsigned char)name[i];
    return hash ^ hash >> 7;
}

static void index_names(struct at_gpu_board *board)
{
    unsigned n = 16;
    while (n < 2 * board->n_parts)
        n *= 2;
    board->index = g_new0(uint8_t, n);
    board->index_mask = n - 1;
    for (unsigned i = 0; i < board->n_parts; i++) {
        unsigned at = name_hash(board->names[i]->name) & board->index_mask;
        while (board->index[at])
            at = (at + 1) & board->index_mask;
        board->index[at] = (uint8_t)(i + 1);
    }
}

struct at_gpu_board *at_gpu_board_new(const struct at_gpu_card *card)
{
    struct at_gpu_board *board = g_new0(struct at_gpu_board, 1);
    unsigned n = MIN(card->profiles->len, PARTS_MAX);
    g_autofree unsigned *media = g_new0(unsigned, n + 1);
    board->card = card;
    board->parts = g_new0(struct at_gpu_part, n + 1);
    board->names = g_new0(const struct at_gpu_profile *, n + 1);
    board->sizes = g_new0(struct at_gpu_size, n + 1);
    board->gis = g_new0(struct at_gpu_gi, n + 1);
    board->memo = g_new0(struct at_gpu_worth, AT_GPU_MEMO);
    board->grid = MIN(grid_of(card), AT_GPU_SLICES);
    board->compute = card->grid_compute ? clamp(card->grid_compute) : AT_GPU_MANY;
    board->vfs = clamp(card->vfs_total);
    board->mixes = card->mixes_sizes;
    for (unsigned i = 0; i < n; i++)
        add_part(board, card->profiles->pdata[i], media);
    board->capacity = capacity_of(board, card);
    limit_sizes(board);
    index_names(board);
    return board;
}

void at_gpu_board_free(struct at_gpu_board *board)
{
    g_free(board->parts);
    g_free(board->names);
    g_free(board->sizes);
    g_free(board->gis);
    g_free(board->memo);
    g_free(board->index);
    g_free(board);
}

static bool same_profile(const struct at_gpu_profile *a, const struct at_gpu_profile *b)
{
    return a->memory == b->memory && a->kind == b->kind && a->isolation == b->isolation &&
           a->max == b->max && a->max_mixed == b->max_mixed && a->gi_profile == b->gi_profile &&
           a->slices == b->slices && a->compute == b->compute && a->starts == b->starts &&
           a->gi_max == b->gi_max && a->per_gi == b->per_gi && a->media == b->media &&
           strcmp(a->name, b->name) == 0;
}

static bool same_profiles(const GPtrArray *a, const GPtrArray *b)
{
    if (a == b)
        return true;
    for (unsigned i = 0; i < a->len && a->len == b->len; i++) {
        if (!same_profile(a->pdata[i], b->pdata[i]))
            return false;
    }
    return a->len == b->len;
}

bool at_gpu_board_is(const struct at_gpu_board *board, const struct at_gpu_card *card)
{
    const struct at_gpu_card *own = board->card;
    return own->vendor == card->vendor && own->device == card->device &&
           own->memory == card->memory && own->vfs_total == card->vfs_total &&
           own->mixes_sizes == card->mixes_sizes && own->grid_slices == card->grid_slices &&
           own->grid_compute == card->grid_compute && g_strcmp0(own->name, card->name) == 0 &&
           same_profiles(own->profiles, card->profiles);
}

static unsigned profiles_hash(const void *key)
{
    const GPtrArray *profiles = key;
    unsigned hash = profiles->len;
    for (unsigned i = 0; i < profiles->len; i++) {
        const struct at_gpu_profile *p = profiles->pdata[i];
        hash = hash * 33 + (unsigned)(p->memory >> 20) + p->max + g_str_hash(p->name);
    }
    return hash;
}

static gboolean profiles_equal(const void *a, const void *b)
{
    const GPtrArray *x = a, *y = b;
    for (unsigned i = 0; i < x->len && x->len == y->len; i++) {
        const struct at_gpu_profile *p = x->pdata[i], *q = y->pdata[i];
        if (p->type_id != q->type_id || g_strcmp0(p->gi_name, q->gi_name) != 0)
            return FALSE;
    }
    return same_profiles(x, y);
}

void at_gpu_cards_share(struct at_gpu_card *const *cards, unsigned n_cards)
{
    g_autoptr(GHashTable) known = g_hash_table_new(profiles_hash, profiles_equal);
    for (unsigned i = 0; i < n_cards; i++) {
        GPtrArray *found = g_hash_table_lookup(known, cards[i]->profiles);
        if (!found) {
            g_hash_table_add(known, cards[i]->profiles);
        } else if (found != cards[i]->profiles) {
            g_ptr_array_unref(cards[i]->profiles);
            cards[i]->profiles = g_ptr_array_ref(found);
        }
    }
}

int at_gpu_board_part(const struct at_gpu_board *board, const char *name)
{
    unsigned at = name_hash(name) & board->index_mask;
    for (; board->index[at]; at = (at + 1) & board->index_mask) {
        if (strcmp(board->names[board->index[at] - 1]->name, name) == 0)
            return board->index[at] - 1;
    }
    return -1;
}
