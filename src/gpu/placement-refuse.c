/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals of what no card could ever give: no such model or profile, too little memory, too weak
 * an isolation, forbidden by a policy, or an obstacle on each card that could. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "gpu/placement-internal.h"

#define NAMES_MAX 5 /* of what exists instead */

/* How far a card comes; what comes further is nearer to what was asked for. */
enum stage {
    STAGE_NO_CARD,
    STAGE_MODEL,
    STAGE_PROFILE,
    STAGE_MEMORY,
    STAGE_ISOLATION,
    STAGE_POLICY,
    STAGE_OBSTACLE,
    STAGE_RESERVED,
    STAGE_POSSIBLE,
};

struct survey {
    const struct at_gpu_refusal *in;
    const struct at_gpu_request *request;
    const struct at_gpu_policy *policy; /* the one that forbids most, or NULL */
    unsigned from, to;
    /* Found: */
    enum stage stage;
    const struct at_gpu_profile *profile; /* the largest that came so far */
    unsigned node;
};

static uint64_t memory_of(const struct at_gpu_card *card, const struct at_gpu_profile *profile)
{
    if (profile->kind == AT_GPU_PASSTHROUGH && !profile->memory)
        return card->memory;
    return profile->memory;
}

static enum stage profile_stage(const struct survey *s, const struct at_gpu_place_card *in,
                                const struct at_gpu_profile *profile)
{
    const struct at_gpu_request *r = s->request;
    if (r->profile && strcmp(r->profile, profile->name) != 0)
        return STAGE_PROFILE;
    if (r->memory && !at_gpu_memory_suffices(memory_of(in->card, profile), r->memory))
        return STAGE_MEMORY;
    if ((int)profile->isolation < (int)r->isolation)
        return STAGE_ISOLATION;
    if (s->policy && profile->isolation < s->policy->weakest)
        return STAGE_POLICY;
    if (in->card->obstacle[profile->kind])
        return STAGE_OBSTACLE;
    return in->reserved ? STAGE_RESERVED : STAGE_POSSIBLE;
}

/* How far the card comes, and with which profile: among those that come as far the largest. */
static enum stage card_stage(const struct survey *s, const struct at_gpu_place_card *in,
                             const struct at_gpu_profile **ret_profile)
{
    enum stage best = STAGE_MODEL;
    if (!at_gpu_model_matches(s->request->model, in->card))
        return STAGE_MODEL;
    for (unsigned i = 0; i < in->card->profiles->len; i++) {
        const struct at_gpu_profile *profile = in->card->profiles->pdata[i];
        enum stage stage = profile_stage(s, in, profile);
        if (stage < best ||
            (stage == best && *ret_profile && profile->memory <= (*ret_profile)->memory))
            continue;
        best = stage;
        *ret_profile = profile;
    }
    return MAX(best, STAGE_PROFILE);
}

static void look(struct survey *s)
{
    for (unsigned node = s->from; node < s->to; node++) {
        for (unsigned i = 0; i < s->in->nodes[node].n_cards; i++) {
            const struct at_gpu_profile *profile = NULL;
            enum stage stage = card_stage(s, &s->in->nodes[node].cards[i], &profile);
            bool larger =
                stage == s->stage && profile && s->profile && profile->memory > s->profile->memory;
            if (stage > s->stage || larger) {
                s->stage = stage;
                s->profile = profile;
                s->node = node;
            }
        }
    }
}

/* ---- words ---- */

static void add_name(GPtrArray *names, GHashTable *seen, const char *name)
{
    if (g_hash_table_add(seen, (void *)name))
        g_ptr_array_add(names, (void *)name);
}

static unsigned common_prefix(const char *a, const char *b)
{
    unsigned n = 0;
    while (a[n] && g_ascii_tolower(a[n]) == g_ascii_tolower(b[n]))
        n++;
    return n;
}

/* Those that begin like what was asked for come first; the order of the site decides the rest. */
static void nearest_first(GPtrArray *names, const char *wanted)
{
    for (unsigned i = 0; i < names->len && i < NAMES_MAX; i++) {
        unsigned best = i;
        for (unsigned k = i; k < names->len; k++) {
            if (common_prefix(names->pdata[k], wanted) > common_prefix(names->pdata[best], wanted))
                best = k;
        }
        void *name = names->pdata[best];
        memmove(names->pdata + i + 1, names->pdata + i, (best - i) * sizeof(void *));
        names->pdata[i] = name;
    }
}

/* The models there are, or the profiles of those that match. */
static char *what_exists(const struct survey *s)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned node = s->from; node < s->to; node++) {
        for (unsigned i = 0; i < s->in->nodes[node].n_cards; i++) {
            const struct at_gpu_card *card = s->in->nodes[node].cards[i].card;
            if (s->stage == STAGE_MODEL) {
                add_name(names, seen, at_gpu_card_model(card));
                continue;
            }
            if (!at_gpu_model_matches(s->request->model, card))
                continue;
            for (unsigned k = 0; k < card->profiles->len; k++)
                add_name(names, seen, ((struct at_gpu_profile *)card->profiles->pdata[k])->name);
        }
    }
    if (!names->len)
        return g_strdup("none");
    if (s->stage == STAGE_PROFILE && s->request->profile)
        nearest_first(names, s->request->profile);
    return at_gpu_text_list(names, NAMES_MAX);
}

/* The cards that came so far, with what keeps each from it. */
static char *obstacles(const struct survey *s)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    unsigned more = 0;
    for (unsigned node = s->from; node < s->to; node++) {
        for (unsigned i = 0; i < s->in->nodes[node].n_cards; i++) {
            const struct at_gpu_place_card *in = &s->in->nodes[node].cards[i];
            const struct at_gpu_profile *profile = NULL;
            enum stage stage = card_stage(s, in, &profile);
            if (stage < STAGE_OBSTACLE)
                continue;
            if (lines->len == AT_GPU_NAMED_MAX) {
                more++;
                continue;
            }
            const char *why = stage == STAGE_RESERVED   ? in->reserved
                              : stage == STAGE_OBSTACLE ? in->card->obstacle[profile->kind]
                                                        : "its driver describes it in a way that "
                                                          "makes no sense";
            g_autofree char *where = at_gpu_text_card(in->card, s->in->nodes[node].name);
            g_autofree char *clipped = at_gpu_text_clip(why, 90);
            g_ptr_array_add(lines, g_strdup_printf("%s: %s", where, clipped));
        }
    }
    if (more)
        g_ptr_array_add(lines, g_strdup_printf("and %u more", more));
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("; ", (char **)lines->pdata);
}

/* Why, after "X asks for Y, but ". */
static char *reason(const struct survey *s, const char *where)
{
    const struct at_gpu_profile *p = s->profile;
    g_autofree char *list = NULL;
    switch (s->stage) {
    case STAGE_NO_CARD:
        return g_strdup_printf("%s has no GPU", where);
    case STAGE_MODEL:
        list = what_exists(s);
        return g_strdup_printf("%s has no such model; there are: %s", where, list);
    case STAGE_PROFILE:
        list = what_exists(s);
        return g_strdup_printf("no GPU of %s%s has such a profile; there are: %s", where,
                               s->request->model ? " of that model" : "", list);
    case STAGE_MEMORY:
        return g_strdup_printf("%s%s %s %" G_GUINT64_FORMAT " GiB",
                               s->request->profile ? "" : "the largest part is ", p->name,
                               s->request->profile ? "has" : "with", at_gpu_gib(p->memory));
    case STAGE_ISOLATION:
        return g_strdup_printf("the isolation of %s is only %s", p->name,
                               at_gpu_isolation_name(p->isolation));
    case STAGE_POLICY:
        return g_strdup_printf("%s allows nothing weaker than %s, and %s is %s",
                               s->policy->who ? s->policy->who : "a policy",
                               at_gpu_isolation_name(s->policy->weakest), p->name,
                               at_gpu_isolation_name(p->isolation));
    default:
        list = obstacles(s);
        return g_strdup_printf("none that could can: %s", list);
    }
}

static const struct at_gpu_policy *strictest(const struct at_gpu_refusal *in)
{
    const struct at_gpu_policy *found = NULL;
    for (unsigned i = 0; i < in->n_policies; i++) {
        if (!found || in->policies[i].weakest > found->weakest)
            found = &in->policies[i];
    }
    return found;
}

bool at_gpu_refuse_impossible(const struct at_gpu_refusal *in, const struct at_gpu_request *request,
                              GError **error)
{
    struct survey s = {.in = in, .request = request, .policy = strictest(in), .to = in->n_nodes};
    struct survey all = s;
    g_autofree char *elsewhere = NULL;
    g_autofree char *where = g_strdup("the site");
    if (in->home >= 0) {
        s.from = (unsigned)in->home;
        s.to = s.from + 1;
        g_free(where);
        where = g_strdup_printf("node %s, where it has to be,", in->nodes[in->home].name);
        look(&all);
        if (all.stage == STAGE_POSSIBLE)
            elsewhere = g_strdup_printf("; node %s could give it", in->nodes[all.node].name);
    }
    look(&s);
    g_autofree char *what = at_gpu_text_request(request);
    g_autofree char *why = reason(&s, where);
    g_autofree char *holder = at_gpu_text_clip(request->holder, 130);
    g_autofree char *text =
        g_strdup_printf("%s asks for %s, but %s%s", holder, what, why, elsewhere ? elsewhere : "");
    g_autofree char *message = at_gpu_text_clip(text, AT_GPU_MESSAGE_MAX);
    enum at_error_code code = s.stage == STAGE_POLICY     ? AT_ERROR_DENIED
                              : s.stage == STAGE_RESERVED ? AT_ERROR_CONFLICT
                                                          : AT_ERROR_NOT_FOUND;
    return at_error(error, code, "%s", message);
}
