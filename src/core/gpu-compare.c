/* SPDX-License-Identifier: Apache-2.0 */
/* What a scan has found against the records: cards that are new, moved, gone or back, and what is
 * remembered of those that cannot say it now. */
#include "base/clock.h"
#include "base/json.h"
#include "core/gpu-identity.h"
#include "core/gpu-internal.h"
#include "core/job.h"

/* What is to be told when the records have it: a scan that a grant has overtaken is made anew. */
struct news {
    const char *type;
    char *id;
    JsonObject *data;
};

static void news_free(void *p)
{
    struct news *n = p;
    g_free(n->id);
    json_object_unref(n->data);
    g_free(n);
}

static void tell(GPtrArray *news, const char *type, const at_gpu_rec *rec, const char *detail)
{
    struct news *n = g_new(struct news, 1);
    *n = (struct news){type, g_strdup(rec->id), json_object_new()};
    json_object_set_string_member(n->data, "address", rec->address);
    at_json_set_str(n->data, "name", rec->name);
    at_json_set_str(n->data, "detail", detail);
    g_ptr_array_add(news, n);
}

static void replace(char **text, const char *with, bool *changed)
{
    if (g_strcmp0(*text, with) == 0)
        return;
    g_free(*text);
    *text = g_strdup(with);
    *changed = true;
}

/* Memory is remembered by itself: a driver may tell of a card and not of that, and one that is
 * bound to vfio-pci has what it had. */
static bool merge_memory(at_gpu_rec *rec, struct at_gpu_card *card)
{
    bool changed = card->memory && card->memory != rec->memory;
    if (changed)
        rec->memory = card->memory;
    card->memory = rec->memory;
    for (unsigned i = 0; i < card->profiles->len; i++) {
        struct at_gpu_profile *p = card->profiles->pdata[i];
        if (p->kind == AT_GPU_PASSTHROUGH && p->memory == 0)
            p->memory = card->memory;
    }
    return changed;
}

static bool is_passed_through(const at_gpu_rec *rec)
{
    for (unsigned i = 0; i < rec->holds->len; i++) {
        const struct at_gpu_hold_rec *h = rec->holds->pdata[i];
        if (h->profile->kind == AT_GPU_PASSTHROUGH)
            return true;
    }
    return false;
}

/* A guest has the whole card, and its driver cannot be asked: what else could be given of it is
 * there all the same, and its holder is what is in the way. */
static void recall_profiles(const at_gpu_rec *rec, struct at_gpu_card *card)
{
    if (!is_passed_through(rec) || card->health.lost)
        return;
    for (unsigned i = 0; i < rec->profiles->len; i++) {
        const struct at_gpu_profile *p = rec->profiles->pdata[i];
        if (at_gpu_card_profile(card, p->name))
            continue;
        g_ptr_array_add(card->profiles, at_gpu_profile_copy(p));
        g_clear_pointer(&card->obstacle[p->kind], g_free);
    }
    card->grid_slices = card->grid_slices ? card->grid_slices : rec->grid_slices;
    card->grid_compute = card->grid_compute ? card->grid_compute : rec->grid_compute;
}

/* A card changes its slot without power, which nothing survives that was made on it; and the
 * address of its VF may be another card's now. */
static void forget_functions(at_gpu_rec *rec)
{
    for (unsigned i = 0; i < rec->holds->len; i++) {
        struct at_gpu_hold_rec *h = rec->holds->pdata[i];
        g_clear_pointer(&h->function, g_free);
    }
}

/* What the card says of itself now is remembered; what it cannot say now is taken from memory. */
static bool merge(GPtrArray *news, at_gpu_rec *rec, struct at_gpu_card *card)
{
    bool changed = false;
    if (!g_str_equal(rec->address, card->address)) {
        g_autofree char *detail = g_strdup_printf("moved from %s", rec->address);
        replace(&rec->address, card->address, &changed);
        forget_functions(rec);
        tell(news, "gpu.moved", rec, detail);
    }
    if (!rec->present) {
        rec->present = changed = true;
        tell(news, "gpu.returned", rec, NULL);
    }
    changed = merge_memory(rec, card) || changed;
    changed = at_gpu_learn_identity(rec, card) || changed;
    if (card->unknown && rec->name) {
        g_free(card->name);
        card->name = g_strdup(rec->name);
        card->serial = card->serial ? card->serial : g_strdup(rec->serial);
        recall_profiles(rec, card);
        return changed;
    }
    replace(&rec->name, card->name, &changed);
    replace(&rec->vendor_name, card->vendor_name, &changed);
    if (card->serial)
        replace(&rec->serial, card->serial, &changed);
    return at_gpu_rec_remember(rec, card) || changed;
}

static at_gpu_rec *rec_for(struct at_core *core, const struct at_gpu_card *card)
{
    at_gpu_rec *rec = at_gpu_rec_new(card->id);
    rec->node = g_strdup(at_gpus_node(core));
    rec->address = g_strdup(card->address);
    rec->vendor = card->vendor;
    rec->device = card->device;
    rec->name = g_strdup(card->name);
    rec->vendor_name = g_strdup(card->vendor_name);
    rec->serial = g_strdup(card->serial);
    rec->memory = card->memory;
    at_gpu_learn_identity(rec, card);
    rec->present = true;
    rec->first_seen = at_clock_rfc3339();
    if (!card->unknown)
        at_gpu_rec_remember(rec, card);
    return rec;
}

/* The card told a name of its own for the first time: its record moves there with all that is held.
 */
static void rename_rec(struct at_txn *txn, at_gpu_rec *rec, const char *id)
{
    at_gpu_rec_delete(txn, rec);
    g_free(rec->id);
    rec->id = g_strdup(id);
    rec->revision = AT_REVISION_NONE;
}

/* What is held is in nobody's way but through its holder, whom a refusal names. */
static void forget_obstacles(struct at_gpu_card *card)
{
    for (unsigned i = 0; !card->health.lost && i < card->profiles->len; i++) {
        const struct at_gpu_profile *p = card->profiles->pdata[i];
        g_clear_pointer(&card->obstacle[p->kind], g_free);
    }
}

/* Sizes can be mixed on a card only if that is switched on before its first vGPU, when nobody knows
 * yet what will be asked for, and less of one size fits then: where nobody wants it, cards are used
 * with vGPUs of one size. That it could is still known. */
static void forget_mixing(struct at_gpu_card *card)
{
    for (unsigned i = 0; i < card->profiles->len; i++)
        ((struct at_gpu_profile *)card->profiles->pdata[i])->max_mixed = 0;
}

/* A scan at work: what it compares with, and what it has found to be told. */
struct comparison {
    struct at_core *core;
    struct at_txn *txn;
    GHashTable *used; /* ids that records have or had: char* */
    GPtrArray *news;
};

static void take_id(struct at_gpu_card *card, char *id)
{
    g_free(card->id);
    card->id = id;
}

static void add_card(struct comparison *c, struct at_gpu_card *card)
{
    take_id(card, at_gpu_id_choose(card, c->used));
    g_autoptr(at_gpu_rec) fresh = rec_for(c->core, card);
    g_hash_table_add(c->used, g_strdup(fresh->id));
    at_gpu_rec_put(c->txn, fresh);
    tell(c->news, "gpu.added", fresh, NULL);
}

static void compare_card(struct comparison *c, at_gpu_rec *rec, struct at_gpu_card *card)
{
    if (!rec || !rec->mixed)
        forget_mixing(card);
    if (!rec) {
        add_card(c, card);
        return;
    }
    if (rec->holds->len)
        forget_obstacles(card);
    bool renamed = at_gpu_id_valid(card->id) && at_gpu_id_is_better(card->id, rec->id) &&
                   !g_hash_table_contains(c->used, card->id);
    if (renamed) {
        rename_rec(c->txn, rec, card->id);
        g_hash_table_add(c->used, g_strdup(rec->id));
    } else {
        take_id(card, g_strdup(rec->id));
    }
    if (merge(c->news, rec, card) || renamed)
        at_gpu_rec_put(c->txn, rec);
}

static void compare_all(struct comparison *c, const GPtrArray *recs, const GPtrArray *cards)
{
    const char *node = at_gpus_node(c->core);
    g_autoptr(GHashTable) found = at_gpu_identify(recs, cards, node);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    for (unsigned i = 0; i < recs->len; i++)
        g_hash_table_add(c->used, g_strdup(((at_gpu_rec *)recs->pdata[i])->id));
    for (unsigned i = 0; i < cards->len; i++) {
        at_gpu_rec *rec = g_hash_table_lookup(found, cards->pdata[i]);
        g_hash_table_add(seen, rec);
        compare_card(c, rec, cards->pdata[i]);
    }
    for (unsigned i = 0; i < recs->len; i++) {
        at_gpu_rec *rec = recs->pdata[i];
        if (!rec->present || !g_str_equal(rec->node, node) || g_hash_table_contains(seen, rec))
            continue;
        rec->present = false;
        at_gpu_rec_put(c->txn, rec);
        tell(c->news, "gpu.lost", rec, "it is not in this host any more");
    }
}

bool at_gpus_compare(struct at_core *core, GPtrArray *cards, GError **error)
{
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, error);
    if (!recs)
        return false;
    g_autoptr(GPtrArray) news = g_ptr_array_new_with_free_func(news_free);
    g_autoptr(GHashTable) used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    struct comparison comparison = {core, at_txn_new(core->catalog), used, news};
    compare_all(&comparison, recs, cards);
    if (!at_txn_commit(comparison.txn, NULL, error))
        return false;
    for (unsigned i = 0; i < news->len; i++) {
        struct news *n = news->pdata[i];
        at_event_emit(core, n->type, n->id, at_actor_daemon.user, json_object_ref(n->data));
    }
    return true;
}
