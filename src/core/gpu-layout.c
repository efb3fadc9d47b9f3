/* SPDX-License-Identifier: Apache-2.0 */
/* The site's cards and records as placement wants them. */
#include "core/gpu.h"

/* Whose holds are left out: those of a VDC, or of some of its workstations. */
struct without {
    const char *vdc;
    const char *const *workstations;
};

void at_gpu_layout_free(struct at_gpu_layout *site)
{
    if (!site)
        return;
    for (unsigned i = 0; site->place && i < site->node.n_cards; i++)
        g_free((void *)site->place[i].holds);
    g_free(site->place);
    g_ptr_array_unref(site->cards);
    g_ptr_array_unref(site->held);
    g_ptr_array_unref(site->recs);
    g_ptr_array_unref(site->gone);
    g_ptr_array_unref(site->copies);
    g_ptr_array_unref(site->texts);
    g_free(site);
}

static const char *keep_text(struct at_gpu_layout *site, char *text)
{
    g_ptr_array_add(site->texts, text);
    return text;
}

static bool left_out(const struct at_gpu_hold_rec *h, const struct without *without)
{
    if (g_str_equal(h->machine, AT_GPU_NOBODY))
        return false; /* in everybody's way until it can be given back */
    return without->vdc && g_str_equal(h->vdc, without->vdc) &&
           (!without->workstations || g_strv_contains(without->workstations, h->workstation));
}

/* ---- instances ---- */

/* One that is shared stays: whoever else is in it holds it. */
static bool goes(const struct at_gpu_instance *instance, const at_gpu_rec *rec,
                 const struct without *without)
{
    for (unsigned i = 0; i < rec->holds->len; i++) {
        const struct at_gpu_hold_rec *h = rec->holds->pdata[i];
        if (h->profile->kind == AT_GPU_MIG_VGPU && h->profile->gi_profile == instance->gi_profile &&
            h->start == instance->start && left_out(h, without))
            return true;
    }
    return false;
}

static void copy_free(void *copy)
{
    g_ptr_array_unref(((struct at_gpu_card *)copy)->instances);
    g_free(copy);
}

/* The card without the MIG instances that were made for holds that are left out: they would go with
 * them. The card itself is shared and stays as it is; the copy borrows the rest of it. */
static const struct at_gpu_card *without_instances(struct at_gpu_layout *site,
                                                   const struct at_gpu_card *card,
                                                   const at_gpu_rec *rec,
                                                   const struct without *without)
{
    g_autoptr(GPtrArray) stay = g_ptr_array_new();
    for (unsigned i = 0; i < card->instances->len; i++) {
        if (!goes(card->instances->pdata[i], rec, without))
            g_ptr_array_add(stay, card->instances->pdata[i]);
    }
    if (stay->len == card->instances->len)
        return card;
    struct at_gpu_card *copy = g_new(struct at_gpu_card, 1);
    *copy = *card;
    copy->instances = g_steal_pointer(&stay);
    g_ptr_array_add(site->copies, copy);
    return copy;
}

/* ---- cards ---- */

static void place_card(struct at_gpu_layout *site, unsigned index, const struct without *without)
{
    struct at_gpu_place_card *place = &site->place[index];
    const at_gpu_rec *rec = site->recs->pdata[index];
    place->card = site->cards->pdata[index];
    if (!rec)
        return;
    place->card = without_instances(site, place->card, rec, without);
    if (rec->quarantined)
        place->reserved = keep_text(site, g_strdup_printf("in quarantine: %s", rec->quarantined));
    else if (rec->reserved)
        place->reserved =
            keep_text(site, g_strdup_printf("reserved for the host: %s", rec->reserved));
    struct at_gpu_hold *holds = g_new0(struct at_gpu_hold, rec->holds->len + 1);
    place->holds = holds;
    for (unsigned i = 0; i < rec->holds->len; i++) {
        const struct at_gpu_hold_rec *h = rec->holds->pdata[i];
        if (left_out(h, without))
            continue;
        holds[place->n_holds++] = (struct at_gpu_hold){
            .holder = keep_text(site, g_strdup_printf("%s/%s", h->vdc, h->workstation)),
            .profile = h->profile->name,
            .start = h->start};
    }
}

static at_gpu_rec *take_rec(GPtrArray *recs, const char *id)
{
    for (unsigned i = 0; i < recs->len; i++) {
        at_gpu_rec *rec = recs->pdata[i];
        if (g_str_equal(rec->id, id))
            return g_ptr_array_steal_index(recs, i);
    }
    return NULL;
}

static void rec_free(void *rec)
{
    at_gpu_rec_free(rec);
}

/* What counts for quotas, of cards that are here and of those that are not. */
static void note_held(struct at_gpu_layout *site, const GPtrArray *recs,
                      const struct without *without)
{
    for (unsigned i = 0; i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        for (unsigned k = 0; rec && k < rec->holds->len; k++) {
            if (!left_out(rec->holds->pdata[k], without))
                g_ptr_array_add(site->held, rec->holds->pdata[k]);
        }
    }
}

struct at_gpu_layout *at_gpu_layout_new(struct at_core *core, const char *without_vdc,
                                        const char *const *workstations, GError **error)
{
    const struct without without = {without_vdc, workstations};
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, error);
    if (!recs)
        return NULL;
    struct at_gpu_layout *site = g_new0(struct at_gpu_layout, 1);
    site->cards = at_gpus_cards(core);
    site->weakest = at_gpus_weakest(core);
    site->recs = g_ptr_array_new_with_free_func(rec_free);
    site->held = g_ptr_array_new();
    site->copies = g_ptr_array_new_with_free_func(copy_free);
    site->texts = g_ptr_array_new_with_free_func(g_free);
    site->place = g_new0(struct at_gpu_place_card, site->cards->len + 1);
    for (unsigned i = 0; i < site->cards->len; i++) {
        g_ptr_array_add(site->recs,
                        take_rec(recs, ((struct at_gpu_card *)site->cards->pdata[i])->id));
        place_card(site, i, &without);
    }
    site->gone = g_steal_pointer(&recs);
    note_held(site, site->recs, &without);
    note_held(site, site->gone, &without);
    site->node = (struct at_gpu_place_node){
        .name = at_gpus_node(core), .cards = site->place, .n_cards = site->cards->len};
    return site;
}
