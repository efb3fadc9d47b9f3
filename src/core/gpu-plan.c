/* SPDX-License-Identifier: Apache-2.0 */
/* Planning: a VDC's requests as placement wants them, quotas, refusals. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "core/gpu.h"

/* ---- requests ---- */

struct requests {
    GArray *items;    /* struct at_gpu_request */
    GPtrArray *texts; /* their holders */
    GArray *stays;    /* struct stay: what is not asked for, because it is had already */
};

/* A hold of a card of which nothing new is given: borrowed from the layout. */
struct stay {
    const at_gpu_rec *rec;
    const struct at_gpu_hold_rec *hold;
};

static void requests_clear(struct requests *r)
{
    g_array_unref(r->items);
    g_ptr_array_unref(r->texts);
    g_array_unref(r->stays);
}

/* A workstation that runs goes on with what it has, also when its card was taken out of use or is
 * gone, until it is stopped: that what it has could not be had anew is in nobody's way. */
static bool stays(struct requests *r, const struct at_gpu_layout *site, const char *vdc,
                  const char *workstation, unsigned request, unsigned nth, const char *asked)
{
    const GPtrArray *const lists[] = {site->recs, site->gone};
    for (unsigned i = 0; i < site->recs->len + site->gone->len; i++) {
        bool gone = i >= site->recs->len;
        const at_gpu_rec *rec = lists[gone]->pdata[gone ? i - site->recs->len : i];
        const struct at_gpu_hold_rec *h =
            rec ? at_gpu_rec_hold_of(rec, vdc, workstation, request, nth) : NULL;
        if (!h || !h->attached || g_strcmp0(h->asked, asked) != 0 || !(gone || rec->quarantined))
            continue;
        const struct stay stay = {rec, h};
        g_array_append_val(r->stays, stay);
        return true;
    }
    return false;
}

static void add_requests(struct requests *r, const struct at_gpu_layout *running, const char *vdc,
                         const struct at_def_workstation *ws)
{
    char *holder = g_strdup_printf("%s/%s", vdc, ws->name);
    g_ptr_array_add(r->texts, holder);
    for (unsigned i = 0; i < ws->gpus->len; i++) {
        const struct at_def_gpu *gpu = ws->gpus->pdata[i];
        g_autofree char *asked = at_gpu_request_text(gpu);
        struct at_gpu_request request = {
            .holder = holder, .profile = gpu->profile, .model = gpu->model, .memory = gpu->memory};
        for (unsigned nth = 0; nth < gpu->count; nth++)
            request.count += !running || !stays(r, running, vdc, ws->name, i, nth, asked);
        at_gpu_isolation_parse(gpu->isolation, &request.isolation);
        if (request.count)
            g_array_append_val(r->items, request);
    }
}

static bool is_meant(const char *const *workstations, const char *name)
{
    return !workstations || g_strv_contains(workstations, name);
}

/* @running: where to look for what stays; NULL: nothing does. */
static struct requests requests_of(const struct at_gpu_layout *running, const char *vdc,
                                   const struct at_definition *def, const char *const *workstations)
{
    struct requests r = {g_array_new(FALSE, FALSE, sizeof(struct at_gpu_request)),
                         g_ptr_array_new_with_free_func(g_free),
                         g_array_new(FALSE, FALSE, sizeof(struct stay))};
    for (unsigned i = 0; i < def->workstations->len; i++) {
        const struct at_def_workstation *ws = def->workstations->pdata[i];
        if (is_meant(workstations, ws->name))
            add_requests(&r, running, vdc, ws);
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

/* By the profiles that were granted: a card may be gone, or not be able to say now what it has. */
static struct usage usage_of(const struct at_gpu_layout *site, const struct requests *r,
                             const char *vdc, const struct at_gpu_plan *plan)
{
    struct usage u = {0};
    for (unsigned i = 0; i < site->held->len; i++) {
        const struct at_gpu_hold_rec *h = site->held->pdata[i];
        if (g_str_equal(h->vdc, vdc))
            count(&u, h->profile);
    }
    for (unsigned i = 0; i < r->stays->len; i++)
        count(&u, g_array_index(r->stays, struct stay, i).hold->profile);
    for (unsigned i = 0; i < plan->grants->len; i++)
        count(&u, g_array_index(plan->grants, struct at_gpu_grant, i).profile);
    return u;
}

static bool within_quota(const struct usage *used, const char *vdc, const struct at_definition *def,
                         GError **error)
{
    const struct at_def_gpu_policy *policy = &def->gpu_policy;
    const struct usage u = *used;
    if (policy->gpus && u.gpus > policy->gpus)
        return at_error(error, AT_ERROR_DENIED,
                        "VDC %s would have %u GPUs or parts of them; its quota (gpu_policy) is %u",
                        vdc, u.gpus, policy->gpus);
    if (policy->slices && u.slices > policy->slices)
        return at_error(error, AT_ERROR_DENIED,
                        "VDC %s would have %u MIG slices; its quota (gpu_policy) is %u", vdc,
                        u.slices, policy->slices);
    if (policy->memory && u.memory > policy->memory) {
        g_autofree char *has = at_size_format(u.memory), *may = at_size_format(policy->memory);
        return at_error(error, AT_ERROR_DENIED,
                        "VDC %s would have %s of GPU memory; its quota (gpu_policy) is %s", vdc,
                        has, may);
    }
    return true;
}

/* ---- cards that are not here any more ---- */

static bool might_have_met(const at_gpu_rec *rec, const struct requests *r)
{
    const struct at_gpu_card card = {
        .name = rec->name, .memory = rec->memory, .profiles = rec->profiles};
    for (unsigned i = 0; i < r->items->len; i++) {
        if (at_gpu_might_meet(&card, &g_array_index(r->items, struct at_gpu_request, i)))
            return true;
    }
    return false;
}

/* A request may be in vain only because a card is not in its slot since yesterday: who reads the
 * refusal is told of it there. */
static void name_absent(const struct at_gpu_layout *site, const struct requests *r, GError *error)
{
    enum { NAMES_MAX = 3 };
    g_autoptr(GString) text = g_string_new(NULL);
    unsigned n = 0;
    for (unsigned i = 0; i < site->gone->len; i++) {
        const at_gpu_rec *rec = site->gone->pdata[i];
        if (!g_str_equal(rec->node, site->node.name) || !might_have_met(rec, r))
            continue;
        if (++n <= NAMES_MAX)
            g_string_append_printf(text, "%s%s (%s)", n > 1 ? ", " : "", rec->address,
                                   rec->name ? rec->name : "unknown");
    }
    if (n == 0)
        return;
    g_autofree char *message = g_strdup_printf(
        "%s; not in node %s any more: %s%s (look at seat and power, and what dmesg says of it)",
        error->message, site->node.name, text->str, n > NAMES_MAX ? " and more" : "");
    g_free(error->message);
    error->message = g_steal_pointer(&message);
}

/* ---- plans ---- */

static struct at_gpu_plan *plan_requests(const struct at_gpu_layout *site, const struct requests *r,
                                         const char *vdc, const struct at_definition *def,
                                         GError **error)
{
    g_autofree char *who = g_strdup_printf("VDC %s", vdc);
    struct at_gpu_policy policies[] = {{.weakest = site->weakest, .who = "this site"},
                                       {.who = who}};
    at_gpu_isolation_parse(def->gpu_policy.isolation, &policies[1].weakest);
    g_autoptr(GError) refusal = NULL;
    struct at_gpu_plan *plan =
        at_gpu_place(&site->node, 1, (const struct at_gpu_request *)(void *)r->items->data,
                     r->items->len, policies, G_N_ELEMENTS(policies), 0, &refusal);
    if (!plan) {
        if (!g_error_matches(refusal, AT_ERROR, AT_ERROR_DENIED))
            name_absent(site, r, refusal);
        g_propagate_error(error, g_steal_pointer(&refusal));
        return NULL;
    }
    const struct usage u = usage_of(site, r, vdc, plan);
    if (!within_quota(&u, vdc, def, error))
        g_clear_pointer(&plan, at_gpu_plan_free);
    return plan;
}

struct at_gpu_plan *at_gpu_plan_for(const struct at_gpu_layout *site, const char *vdc,
                                    const struct at_definition *def, const char *workstation,
                                    GError **error)
{
    const char *const only[] = {workstation, NULL};
    struct requests r = requests_of(NULL, vdc, def, only);
    struct at_gpu_plan *plan = plan_requests(site, &r, vdc, def, error);
    requests_clear(&r);
    return plan;
}

static bool asks(const struct at_definition *def, const char *const *workstations)
{
    for (unsigned i = 0; i < def->workstations->len; i++) {
        const struct at_def_workstation *ws = def->workstations->pdata[i];
        if (ws->gpus->len && is_meant(workstations, ws->name))
            return true;
    }
    return false;
}

static bool check(struct at_core *core, const char *vdc, const struct at_definition *def,
                  const char *const *workstations, bool anew, GError **error)
{
    if (!asks(def, workstations))
        return true;
    g_autoptr(at_gpu_layout) site = at_gpu_layout_new(core, vdc, workstations, error);
    if (!site)
        return false;
    struct requests r = requests_of(anew ? NULL : site, vdc, def, workstations);
    struct at_gpu_plan *plan = plan_requests(site, &r, vdc, def, error);
    bool ok = plan != NULL;
    g_clear_pointer(&plan, at_gpu_plan_free);
    requests_clear(&r);
    return ok;
}

bool at_gpu_plan_check(struct at_core *core, const char *vdc, const struct at_definition *def,
                       const char *const *workstations, GError **error)
{
    return check(core, vdc, def, workstations, false, error);
}

bool at_gpu_plan_check_anew(struct at_core *core, const char *vdc, const struct at_definition *def,
                            GError **error)
{
    return check(core, vdc, def, NULL, true, error);
}

/* What the node gives to @holder. */
static JsonObject *part_json(const struct at_gpu_layout *site, const char *holder,
                             const struct at_gpu_profile *profile, unsigned start)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "holder", holder);
    json_object_set_string_member(o, "node", site->node.name);
    json_object_set_string_member(o, "profile", profile->name);
    json_object_set_string_member(o, "isolation", at_gpu_isolation_name(profile->isolation));
    json_object_set_int_member(o, "memory", (int64_t)profile->memory);
    json_object_set_int_member(o, "start", start);
    json_object_set_int_member(o, "slices", profile->slices);
    return o;
}

static JsonObject *grant_json(const struct at_gpu_layout *site, const struct requests *r,
                              const struct at_gpu_grant *grant)
{
    const struct at_gpu_card *card = site->cards->pdata[grant->card];
    JsonObject *o =
        part_json(site, g_array_index(r->items, struct at_gpu_request, grant->request).holder,
                  grant->profile, grant->start);
    json_object_set_string_member(o, "gpu", card->id);
    json_object_set_string_member(o, "address", card->address);
    at_json_set_str(o, "name", card->name);
    return o;
}

static JsonObject *stay_json(const struct at_gpu_layout *site, const struct stay *stay)
{
    g_autofree char *holder = g_strdup_printf("%s/%s", stay->hold->vdc, stay->hold->workstation);
    JsonObject *o = part_json(site, holder, stay->hold->profile, stay->hold->start);
    json_object_set_string_member(o, "gpu", stay->rec->id);
    json_object_set_string_member(o, "address", stay->rec->address);
    at_json_set_str(o, "name", stay->rec->name);
    return o;
}

JsonNode *at_gpu_plan_json(struct at_core *core, const struct at_definition *def, GError **error)
{
    g_autoptr(GError) refusal = NULL;
    g_autoptr(at_gpu_layout) site = at_gpu_layout_new(core, def->vdc, NULL, error);
    if (!site)
        return NULL;
    struct requests r = requests_of(site, def->vdc, def, NULL);
    struct at_gpu_plan *plan = plan_requests(site, &r, def->vdc, def, &refusal);
    JsonObject *o = json_object_new();
    JsonArray *grants = json_array_new();
    for (unsigned i = 0; plan && i < r.stays->len; i++)
        json_array_add_object_element(grants,
                                      stay_json(site, &g_array_index(r.stays, struct stay, i)));
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
