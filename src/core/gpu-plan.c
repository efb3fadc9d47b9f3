/* SPDX-License-Identifier: Apache-2.0 */
/* Planning: a VDC's requests and the site's records as placement wants them, quotas, refusals. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "core/gpu.h"

void at_gpu_layout_free(struct at_gpu_layout *site)
{
    if (!site)
        return;
    for (unsigned i = 0; site->place && i < site->node.n_cards; i++)
        g_free((void *)site->place[i].holds);
    g_free(site->place);
    g_ptr_array_unref(site->cards);
    g_ptr_array_unref(site->recs);
    g_ptr_array_unref(site->texts);
    g_free(site);
}

static const char *keep_text(struct at_gpu_layout *site, char *text)
{
    g_ptr_array_add(site->texts, text);
    return text;
}

static bool left_out(const struct at_gpu_hold_rec *h, const char *vdc, const char *machine)
{
    if (g_str_equal(h->machine, AT_GPU_NOBODY))
        return false; /* in everybody's way until it can be given back */
    return (vdc && g_str_equal(h->vdc, vdc)) || (machine && g_str_equal(h->machine, machine));
}

static void place_card(struct at_gpu_layout *site, unsigned index, const char *vdc,
                       const char *machine)
{
    struct at_gpu_place_card *place = &site->place[index];
    const at_gpu_rec *rec = site->recs->pdata[index];
    place->card = site->cards->pdata[index];
    if (!rec)
        return;
    if (rec->quarantined)
        place->reserved = keep_text(site, g_strdup_printf("in quarantine: %s", rec->quarantined));
    else if (rec->reserved)
        place->reserved =
            keep_text(site, g_strdup_printf("reserved for the host: %s", rec->reserved));
    struct at_gpu_hold *holds = g_new0(struct at_gpu_hold, rec->holds->len + 1);
    place->holds = holds;
    for (unsigned i = 0; i < rec->holds->len; i++) {
        const struct at_gpu_hold_rec *h = rec->holds->pdata[i];
        if (left_out(h, vdc, machine))
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

struct at_gpu_layout *at_gpu_layout_new(struct at_core *core, const char *without_vdc,
                                        const char *without_machine, GError **error)
{
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, error);
    if (!recs)
        return NULL;
    struct at_gpu_layout *site = g_new0(struct at_gpu_layout, 1);
    site->cards = at_gpus_cards(core);
    site->weakest = at_gpus_weakest(core);
    site->recs = g_ptr_array_new_with_free_func(rec_free);
    site->texts = g_ptr_array_new_with_free_func(g_free);
    site->place = g_new0(struct at_gpu_place_card, site->cards->len + 1);
    for (unsigned i = 0; i < site->cards->len; i++) {
        g_ptr_array_add(site->recs,
                        take_rec(recs, ((struct at_gpu_card *)site->cards->pdata[i])->id));
        place_card(site, i, without_vdc, without_machine);
    }
    site->node = (struct at_gpu_place_node){
        .name = at_gpus_node(core), .cards = site->place, .n_cards = site->cards->len};
    return site;
}

/* ---- requests ---- */

struct requests {
    GArray *items;    /* struct at_gpu_request */
    GPtrArray *texts; /* their holders */
};

static void requests_clear(struct requests *r)
{
    g_array_unref(r->items);
    g_ptr_array_unref(r->texts);
}

static void add_requests(struct requests *r, const char *vdc, const struct at_def_workstation *ws)
{
    char *holder = g_strdup_printf("%s/%s", vdc, ws->name);
    g_ptr_array_add(r->texts, holder);
    for (unsigned i = 0; i < ws->gpus->len; i++) {
        const struct at_def_gpu *gpu = ws->gpus->pdata[i];
        struct at_gpu_request request = {.holder = holder,
                                         .profile = gpu->profile,
                                         .model = gpu->model,
                                         .memory = gpu->memory,
                                         .count = gpu->count};
        at_gpu_isolation_parse(gpu->isolation, &request.isolation);
        g_array_append_val(r->items, request);
    }
}

static struct requests requests_of(const char *vdc, const struct at_definition *def,
                                   const char *workstation)
{
    struct requests r = {g_array_new(FALSE, FALSE, sizeof(struct at_gpu_request)),
                         g_ptr_array_new_with_free_func(g_free)};
    for (unsigned i = 0; i < def->workstations->len; i++) {
        const struct at_def_workstation *ws = def->workstations->pdata[i];
        if (!workstation || g_str_equal(ws->name, workstation))
            add_requests(&r, vdc, ws);
    }
    return r;
}

/* ---- quotas ---- */

struct usage {
    unsigned gpus, slices;
    uint64_t memory;
};

static void count(struct usage *u, const struct at_gpu_profile *p)
{
    u->gpus++;
    u->slices += p->slices;
    u->memory += p->memory;
}

static void count_held(struct usage *u, const struct at_gpu_layout *site, const char *vdc)
{
    for (unsigned i = 0; i < site->node.n_cards; i++) {
        const struct at_gpu_place_card *card = &site->place[i];
        for (unsigned k = 0; k < card->n_holds; k++) {
            const struct at_gpu_hold *hold = &card->holds[k];
            const char *slash = strchr(hold->holder, '/');
            const struct at_gpu_profile *p = at_gpu_card_profile(card->card, hold->profile);
            if (slash && (size_t)(slash - hold->holder) == strlen(vdc) && p &&
                strncmp(hold->holder, vdc, strlen(vdc)) == 0)
                count(u, p);
        }
    }
}

static bool within_quota(const struct at_gpu_layout *site, const char *vdc,
                         const struct at_definition *def, const struct at_gpu_plan *plan,
                         GError **error)
{
    const struct at_def_gpu_policy *policy = &def->gpu_policy;
    struct usage u = {0};
    count_held(&u, site, vdc);
    for (unsigned i = 0; i < plan->grants->len; i++)
        count(&u, g_array_index(plan->grants, struct at_gpu_grant, i).profile);
    if (policy->gpus && u.gpus > policy->gpus)
        return at_error(error, AT_ERROR_DENIED,
                        "VDC %s would have %u GPUs or parts of them; its quota (gpu_policy) is %u",
                        vdc, u.gpus, policy->gpus);
    if (policy->slices && u.slices > policy->slices)
        return at_error(error, AT_ERROR_DENIED,
                        "VDC %s would have %u MIG slices; its quota (gpu_policy) is %u", vdc,
                        u.slices, policy->slices);
    if (policy->memory && u.memory > policy->memory) {
        g_autofree char *used = at_size_format(u.memory), *may = at_size_format(policy->memory);
        return at_error(error, AT_ERROR_DENIED,
                        "VDC %s would have %s of GPU memory; its quota (gpu_policy) is %s", vdc,
                        used, may);
    }
    return true;
}

/* ---- plans ---- */

struct at_gpu_plan *at_gpu_plan_for(const struct at_gpu_layout *site, const char *vdc,
                                    const struct at_definition *def, const char *workstation,
                                    GError **error)
{
    struct requests r = requests_of(vdc, def, workstation);
    g_autofree char *who = g_strdup_printf("VDC %s", vdc);
    struct at_gpu_policy policies[] = {{.weakest = site->weakest, .who = "this site"},
                                       {.who = who}};
    at_gpu_isolation_parse(def->gpu_policy.isolation, &policies[1].weakest);
    struct at_gpu_plan *plan =
        at_gpu_place(&site->node, 1, (const struct at_gpu_request *)(void *)r.items->data,
                     r.items->len, policies, G_N_ELEMENTS(policies), 0, error);
    if (plan && !within_quota(site, vdc, def, plan, error))
        g_clear_pointer(&plan, at_gpu_plan_free);
    requests_clear(&r);
    return plan;
}

static bool asks(const struct at_definition *def)
{
    for (unsigned i = 0; i < def->workstations->len; i++) {
        if (((struct at_def_workstation *)def->workstations->pdata[i])->gpus->len)
            return true;
    }
    return false;
}

bool at_gpu_plan_check(struct at_core *core, const char *vdc, const struct at_definition *def,
                       GError **error)
{
    if (!asks(def))
        return true;
    g_autoptr(at_gpu_layout) site = at_gpu_layout_new(core, vdc, NULL, error);
    struct at_gpu_plan *plan = site ? at_gpu_plan_for(site, vdc, def, NULL, error) : NULL;
    bool ok = plan != NULL;
    g_clear_pointer(&plan, at_gpu_plan_free);
    return ok;
}

static JsonObject *grant_json(const struct at_gpu_layout *site, const struct requests *r,
                              const struct at_gpu_grant *grant)
{
    const struct at_gpu_card *card = site->cards->pdata[grant->card];
    const struct at_gpu_request *request =
        &g_array_index(r->items, struct at_gpu_request, grant->request);
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "holder", request->holder);
    json_object_set_string_member(o, "node", site->node.name);
    json_object_set_string_member(o, "gpu", card->id);
    json_object_set_string_member(o, "address", card->address);
    at_json_set_str(o, "name", card->name);
    json_object_set_string_member(o, "profile", grant->profile->name);
    json_object_set_string_member(o, "isolation", at_gpu_isolation_name(grant->profile->isolation));
    json_object_set_int_member(o, "memory", (int64_t)grant->profile->memory);
    json_object_set_int_member(o, "start", grant->start);
    json_object_set_int_member(o, "slices", grant->profile->slices);
    return o;
}

JsonNode *at_gpu_plan_json(struct at_core *core, const struct at_definition *def, GError **error)
{
    g_autoptr(GError) refusal = NULL;
    g_autoptr(at_gpu_layout) site = at_gpu_layout_new(core, def->vdc, NULL, error);
    if (!site)
        return NULL;
    struct at_gpu_plan *plan = at_gpu_plan_for(site, def->vdc, def, NULL, &refusal);
    struct requests r = requests_of(def->vdc, def, NULL);
    JsonObject *o = json_object_new();
    JsonArray *grants = json_array_new();
    for (unsigned i = 0; plan && i < plan->grants->len; i++)
        json_array_add_object_element(
            grants, grant_json(site, &r, &g_array_index(plan->grants, struct at_gpu_grant, i)));
    json_object_set_string_member(o, "vdc", def->vdc);
    json_object_set_array_member(o, "grants", grants);
    at_json_set_str(o, "refused", refusal ? refusal->message : NULL);
    g_clear_pointer(&plan, at_gpu_plan_free);
    requests_clear(&r);
    return at_json_take_obj(o);
}
