/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of placement, plainly. */
#include "checker.h"

#include <string.h>

#define PER_CARD 128

/* ---- one card ---- */

struct thing {
    const struct at_gpu_profile *p;
    unsigned start;
};

static bool check_time_sliced(const struct at_gpu_card *card, const struct thing *t, unsigned n)
{
    uint64_t room = 0, sum = 0;
    bool mixed = false;
    double parts = 0;
    for (unsigned i = 0; i < card->profiles->len; i++) {
        const struct at_gpu_profile *p = card->profiles->pdata[i];
        if (p->kind == AT_GPU_VGPU)
            room = MAX(room, p->memory * p->max);
    }
    for (unsigned i = 0; i < n; i++) {
        mixed |= t[i].p->memory != t[0].p->memory;
        sum += t[i].p->memory;
    }
    for (unsigned i = 0; i < n; i++) {
        unsigned same = 0;
        for (unsigned k = 0; k < n; k++)
            same += t[k].p->memory == t[i].p->memory;
        if (same > (mixed ? t[i].p->max_mixed : t[i].p->max))
            return false;
        parts += mixed ? 1.0 / t[i].p->max_mixed : 0;
    }
    return sum <= room && (!mixed || card->mixes_sizes) && parts < 1.0001;
}

/* Whether the instance of @t[i] was counted with one before it. */
static bool seen_before(const struct thing *t, unsigned i)
{
    for (unsigned k = 0; k < i; k++) {
        if (t[k].start == t[i].start)
            return true;
    }
    return false;
}

static bool check_sharing(const struct thing *t, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned together = 0;
        for (unsigned k = 0; k < n; k++) {
            if (t[k].start != t[i].start)
                continue;
            together++;
            if (t[k].p->gi_profile != t[i].p->gi_profile || t[k].p->memory != t[i].p->memory)
                return false;
        }
        if (together > t[i].p->per_gi || !(t[i].p->starts & UINT32_C(1) << t[i].start))
            return false;
    }
    return true;
}

static bool check_mig(const struct at_gpu_card *card, const struct thing *t, unsigned n)
{
    bool taken[32] = {false};
    unsigned compute = 0, media = 0, of_gi[64] = {0};
    for (unsigned i = 0; i < n; i++) {
        const struct at_gpu_profile *p = t[i].p;
        if (seen_before(t, i))
            continue;
        for (unsigned slice = t[i].start; slice < t[i].start + p->slices; slice++) {
            if (slice >= card->grid_slices || taken[slice])
                return false;
            taken[slice] = true;
        }
        compute += p->compute;
        media += p->media != 0;
        if (++of_gi[p->gi_profile] > p->gi_max)
            return false;
    }
    return check_sharing(t, n) && compute <= card->grid_compute && media <= 1;
}

bool check_card(const struct at_gpu_card *card, const struct at_gpu_hold *holds, unsigned n)
{
    struct thing t[PER_CARD];
    g_assert_cmpuint(n, <=, PER_CARD);
    for (unsigned i = 0; i < n; i++) {
        t[i] = (struct thing){at_gpu_card_profile(card, holds[i].profile), holds[i].start};
        if (!t[i].p || t[i].p->kind != t[0].p->kind)
            return false;
    }
    if (n == 0)
        return true;
    if (t[0].p->kind == AT_GPU_PASSTHROUGH)
        return n == 1;
    if (card->vfs_total && n > card->vfs_total)
        return false;
    if (t[0].p->kind == AT_GPU_VGPU)
        return check_time_sliced(card, t, n);
    return t[0].p->kind == AT_GPU_VF ? n <= t[0].p->max : check_mig(card, t, n);
}

/* ---- requests ---- */

static bool meets(const struct at_gpu_request *r, const struct test_asked *asked,
                  const struct at_gpu_place_card *card, const struct at_gpu_profile *p)
{
    if (card->reserved || card->card->obstacle[p->kind] ||
        (r->profile && strcmp(r->profile, p->name) != 0))
        return false;
    if (r->model && !strstr(card->card->name, r->model))
        return false;
    for (unsigned i = 0; i < asked->policies->len; i++) {
        if (p->isolation < g_array_index(asked->policies, struct at_gpu_policy, i).weakest)
            return false;
    }
    return p->isolation >= r->isolation && (double)p->memory >= 0.97 * (double)r->memory - 1024;
}

static const struct at_gpu_request *request_of(const struct test_asked *asked, unsigned i)
{
    return &g_array_index(asked->requests, struct at_gpu_request, i);
}

/* All that would be on the card: what is held, and of the plan. */
static bool check_with_plan(const struct test_site *site, const struct at_gpu_plan *plan,
                            unsigned node, unsigned card)
{
    const struct at_gpu_place_card *c = test_site_card(site, node, card);
    struct at_gpu_hold all[PER_CARD];
    unsigned n = 0;
    for (unsigned i = 0; i < c->n_holds; i++)
        all[n++] = c->holds[i];
    for (unsigned i = 0; i < plan->grants->len; i++) {
        const struct at_gpu_grant *g = &g_array_index(plan->grants, struct at_gpu_grant, i);
        if (g->node == node && g->card == card)
            all[n++] = (struct at_gpu_hold){"new", g->profile->name, g->start};
    }
    return check_card(c->card, all, n);
}

const char *check_plan(const struct test_site *site, const struct test_asked *asked,
                       const struct at_gpu_plan *plan)
{
    unsigned at = 0;
    for (unsigned i = 0; i < asked->requests->len; i++) {
        const struct at_gpu_request *r = request_of(asked, i);
        for (unsigned k = 0; k < r->count; k++, at++) {
            if (at >= plan->grants->len)
                return "too few grants";
            const struct at_gpu_grant *g = &g_array_index(plan->grants, struct at_gpu_grant, at);
            const struct at_gpu_place_card *card = test_site_card(site, g->node, g->card);
            if (g->request != i)
                return "grants are not in the order of the requests";
            if (at_gpu_card_profile(card->card, g->profile->name) != g->profile)
                return "the profile is not one of the card";
            if (!meets(r, asked, card, g->profile))
                return "a grant does not meet its request";
            if (asked->home >= 0 && g->node != (unsigned)asked->home)
                return "a grant is not at home";
            if (!check_with_plan(site, plan, g->node, g->card))
                return "a card is given more than it has";
            for (unsigned o = 0; o < at; o++) {
                const struct at_gpu_grant *other =
                    &g_array_index(plan->grants, struct at_gpu_grant, o);
                if (other->node != g->node &&
                    strcmp(request_of(asked, other->request)->holder, r->holder) == 0)
                    return "a holder is on two nodes";
            }
        }
    }
    return at == plan->grants->len ? NULL : "too many grants";
}

/* ---- trying everything ---- */

struct trial {
    const struct test_site *site;
    const struct test_asked *asked;
    GArray *units;  /* unsigned: request */
    GArray *chosen; /* unsigned: node */
    struct {
        struct at_gpu_hold holds[PER_CARD];
        unsigned n;
    } cards[8];
};

static unsigned unit(const struct trial *t, unsigned i)
{
    return g_array_index(t->units, unsigned, i);
}

/* Whether @node is where the holder of unit @at already is, if it is anywhere. */
static bool is_together(const struct trial *t, unsigned at, unsigned node)
{
    for (unsigned i = 0; i < at; i++) {
        if (strcmp(request_of(t->asked, unit(t, i))->holder,
                   request_of(t->asked, unit(t, at))->holder) == 0)
            return g_array_index(t->chosen, unsigned, i) == node;
    }
    return t->asked->home < 0 || (unsigned)t->asked->home == node;
}

static bool try_from(struct trial *t, unsigned at);

static bool try_card(struct trial *t, unsigned at, unsigned node, unsigned card, unsigned number)
{
    const struct at_gpu_request *r = request_of(t->asked, unit(t, at));
    const struct at_gpu_place_card *c = test_site_card(t->site, node, card);
    for (unsigned i = 0; i < c->card->profiles->len; i++) {
        const struct at_gpu_profile *p = c->card->profiles->pdata[i];
        if (!meets(r, t->asked, c, p))
            continue;
        for (unsigned start = 0; start < (p->kind == AT_GPU_MIG_VGPU ? 12 : 1); start++) {
            t->cards[number].holds[t->cards[number].n++] =
                (struct at_gpu_hold){"new", p->name, start};
            bool found = check_card(c->card, t->cards[number].holds, t->cards[number].n) &&
                         try_from(t, at + 1);
            t->cards[number].n--;
            if (found)
                return true;
        }
    }
    return false;
}

static bool try_from(struct trial *t, unsigned at)
{
    unsigned number = 0;
    if (at == t->units->len)
        return true;
    for (unsigned node = 0; node < t->site->nodes->len; node++) {
        unsigned n = g_array_index(t->site->nodes, struct at_gpu_place_node, node).n_cards;
        g_array_index(t->chosen, unsigned, at) = node;
        for (unsigned card = 0; card < n; card++) {
            if (is_together(t, at, node) && try_card(t, at, node, card, number + card))
                return true;
        }
        number += n;
    }
    return false;
}

bool check_possible(const struct test_site *site, const struct test_asked *asked, bool empty)
{
    struct trial *t = g_new0(struct trial, 1);
    unsigned number = 0;
    t->site = site;
    t->asked = asked;
    t->units = g_array_new(FALSE, TRUE, sizeof(unsigned));
    t->chosen = g_array_new(FALSE, TRUE, sizeof(unsigned));
    for (unsigned i = 0; i < asked->requests->len; i++) {
        for (unsigned k = 0; k < request_of(asked, i)->count; k++)
            g_array_append_val(t->units, i);
    }
    g_array_set_size(t->chosen, t->units->len);
    for (unsigned node = 0; node < site->nodes->len; node++) {
        unsigned n = g_array_index(site->nodes, struct at_gpu_place_node, node).n_cards;
        for (unsigned card = 0; card < n; card++, number++) {
            const struct at_gpu_place_card *c = test_site_card(site, node, card);
            g_assert_cmpuint(number, <, G_N_ELEMENTS(t->cards));
            for (unsigned i = 0; i < c->n_holds && !empty; i++)
                t->cards[number].holds[t->cards[number].n++] = c->holds[i];
        }
    }
    bool found = try_from(t, 0);
    g_array_unref(t->units);
    g_array_unref(t->chosen);
    g_free(t);
    return found;
}
