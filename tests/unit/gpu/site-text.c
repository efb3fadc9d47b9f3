/* SPDX-License-Identifier: Apache-2.0 */
/* Reads sites and requests of a line; writes plans. A line that cannot be read ends the test. */
#include "site-text.h"

#include <stdlib.h>
#include <string.h>

#include "boards.h"

static char *keep(GPtrArray *texts, const char *text, size_t len)
{
    char *copy = g_strndup(text, len);
    g_strdelimit(copy, "_", ' ');
    g_ptr_array_add(texts, copy);
    return copy;
}

/* The text until one of @ends, kept; *at goes behind it. */
static char *word(GPtrArray *texts, const char **at, const char *ends)
{
    size_t len = strcspn(*at, ends);
    char *copy = keep(texts, *at, len);
    *at += len;
    return copy;
}

static const char *skip(const char *at, const char *set)
{
    return at + strspn(at, set);
}

static unsigned number(const char **at)
{
    char *end = NULL;
    unsigned n = (unsigned)strtoul(*at, &end, 10);
    g_assert_true(end != *at);
    *at = end;
    return n;
}

/* ---- sites ---- */

static void add_hold(struct at_gpu_place_card *card, GPtrArray *arrays, struct at_gpu_hold hold)
{
    struct at_gpu_hold *holds = g_new0(struct at_gpu_hold, card->n_holds + 1);
    for (unsigned i = 0; i < card->n_holds; i++)
        holds[i] = card->holds[i];
    holds[card->n_holds++] = hold;
    if (card->holds)
        g_ptr_array_remove_fast(arrays, (void *)card->holds);
    card->holds = holds;
    g_ptr_array_add(arrays, holds);
}

static const char *read_holds(struct test_site *site, struct at_gpu_place_card *card,
                              const char *at)
{
    for (at = skip(at, " "); *at && *at != '}'; at = skip(at, " ")) {
        struct at_gpu_hold hold = {.holder = word(site->texts, &at, "=")};
        at++;
        hold.profile = word(site->texts, &at, "@ }");
        if (*at == '@') {
            at++;
            hold.start = number(&at);
        }
        add_hold(card, site->arrays, hold);
    }
    return skip(at, "}");
}

static const char *read_instance(struct at_gpu_card *card, const char *at)
{
    struct at_gpu_instance *instance = g_new0(struct at_gpu_instance, 1);
    instance->gi_profile = number(&at);
    at = skip(at, "@");
    instance->start = number(&at);
    instance->slices = 1;
    for (unsigned i = 0; i < card->profiles->len; i++) {
        const struct at_gpu_profile *p = card->profiles->pdata[i];
        if (p->kind == AT_GPU_MIG_VGPU && p->gi_profile == instance->gi_profile)
            instance->slices = p->slices;
    }
    g_ptr_array_add(card->instances, instance);
    return at;
}

static const char *read_obstacle(struct test_site *site, struct at_gpu_card *card, const char *at)
{
    const char *kind = word(site->texts, &at, "=");
    at = skip(at, "=");
    for (unsigned i = 0; i < AT_GPU_N_KINDS; i++) {
        if (strcmp(at_gpu_kind_name((enum at_gpu_kind)i), kind) == 0)
            card->obstacle[i] = g_strdup(word(site->texts, &at, " ;{~"));
    }
    return at;
}

static const char *read_card(struct test_site *site, GArray *cards, const char *at)
{
    const char *model = word(site->texts, &at, " #+!~{;");
    g_autofree char *address = g_strdup_printf("0000:%02x:00.0", 0x41 + cards->len);
    struct at_gpu_card *card = test_board(model, address, -1);
    struct at_gpu_place_card place = {.card = card};
    g_assert_nonnull(card);
    g_ptr_array_add(site->cards, card);
    if (*at == '#') {
        at++;
        card->numa_node = (int)number(&at);
    }
    while (*at == '+')
        at = read_instance(card, at + 1);
    if (*at == '!') {
        at++;
        place.reserved = word(site->texts, &at, " ;{~");
    }
    while (*at == '~')
        at = read_obstacle(site, card, at + 1);
    if (*at == '{')
        at = read_holds(site, &place, at + 1);
    g_array_append_val(cards, place);
    return at;
}

struct test_site *test_site_new(const char *text)
{
    struct test_site *site = g_new0(struct test_site, 1);
    site->nodes = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_place_node));
    site->texts = g_ptr_array_new_with_free_func(g_free);
    site->arrays = g_ptr_array_new_with_free_func(g_free);
    site->cards = g_ptr_array_new_with_free_func((GDestroyNotify)at_gpu_card_free);
    for (const char *at = skip(text, " ;"); *at; at = skip(at, " ;")) {
        struct at_gpu_place_node node = {.name = word(site->texts, &at, ":")};
        GArray *cards = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_place_card));
        at = skip(at, ": ");
        for (; *at && *at != ';'; at = skip(at, " "))
            at = read_card(site, cards, at);
        node.n_cards = cards->len;
        node.cards = (struct at_gpu_place_card *)(void *)g_array_free(cards, FALSE);
        g_ptr_array_add(site->arrays, (void *)node.cards);
        g_array_append_val(site->nodes, node);
    }
    return site;
}

void test_site_free(struct test_site *site)
{
    g_array_unref(site->nodes);
    g_ptr_array_unref(site->texts);
    g_ptr_array_unref(site->arrays);
    g_ptr_array_unref(site->cards);
    g_free(site);
}

struct at_gpu_place_card *test_site_card(const struct test_site *site, unsigned node, unsigned card)
{
    const struct at_gpu_place_node *n = &g_array_index(site->nodes, struct at_gpu_place_node, node);
    g_assert_cmpuint(card, <, n->n_cards);
    return (struct at_gpu_place_card *)&n->cards[card];
}

void test_site_hold(struct test_site *site, unsigned node, unsigned card, const char *holder,
                    const char *profile, unsigned start)
{
    add_hold(test_site_card(site, node, card), site->arrays,
             (struct at_gpu_hold){.holder = keep(site->texts, holder, strlen(holder)),
                                  .profile = keep(site->texts, profile, strlen(profile)),
                                  .start = start});
}

void test_site_commit(struct test_site *site, const struct test_asked *asked,
                      const struct at_gpu_plan *plan)
{
    for (unsigned i = 0; i < plan->grants->len; i++) {
        const struct at_gpu_grant *g = &g_array_index(plan->grants, struct at_gpu_grant, i);
        test_site_hold(site, g->node, g->card,
                       g_array_index(asked->requests, struct at_gpu_request, g->request).holder,
                       g->profile->name, g->start);
    }
}

/* ---- requests ---- */

static void read_word(struct test_asked *asked, struct at_gpu_request *r, const char *text)
{
    char *end = NULL;
    unsigned long n = strtoul(text, &end, 10);
    if (end != text && strcmp(end, "x") == 0)
        r->count = (unsigned)n;
    else if (g_str_has_prefix(text, "model="))
        r->model = text + strlen("model=");
    else if (g_str_has_prefix(text, "mem="))
        r->memory = (uint64_t)(g_ascii_strtod(text + strlen("mem="), NULL) * (1 << 30));
    else if (g_str_has_prefix(text, "iso="))
        g_assert_true(at_gpu_isolation_parse(text + strlen("iso="), &r->isolation));
    else if (strcmp(text, "*") != 0)
        r->profile = text;
}

static void read_policy(struct test_asked *asked, const char *text)
{
    struct at_gpu_policy policy = {.who = strchr(text, ':') + 1};
    g_autofree char *name = g_strndup(text, (size_t)(policy.who - text - 1));
    g_assert_true(at_gpu_isolation_parse(name, &policy.weakest));
    g_array_append_val(asked->policies, policy);
}

static void read_home(struct test_asked *asked, const struct test_site *site, const char *name)
{
    for (unsigned i = 0; i < site->nodes->len; i++) {
        if (strcmp(g_array_index(site->nodes, struct at_gpu_place_node, i).name, name) == 0)
            asked->home = (int)i;
    }
    g_assert_cmpint(asked->home, >=, 0);
}

struct test_asked *test_asked_new(const struct test_site *site, const char *text)
{
    struct test_asked *asked = g_new0(struct test_asked, 1);
    asked->requests = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_request));
    asked->policies = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_policy));
    asked->texts = g_ptr_array_new_with_free_func(g_free);
    asked->home = -1;
    for (const char *at = skip(text, " ;"); *at; at = skip(at, " ;")) {
        const char *first = word(asked->texts, &at, " ;");
        if (g_str_has_prefix(first, "policy=")) {
            read_policy(asked, first + strlen("policy="));
            continue;
        }
        if (g_str_has_prefix(first, "home=")) {
            read_home(asked, site, first + strlen("home="));
            continue;
        }
        struct at_gpu_request r = {.holder = first, .count = 1};
        for (at = skip(at, " "); *at && *at != ';'; at = skip(at, " "))
            read_word(asked, &r, word(asked->texts, &at, " ;"));
        g_array_append_val(asked->requests, r);
    }
    return asked;
}

void test_asked_free(struct test_asked *asked)
{
    g_array_unref(asked->requests);
    g_array_unref(asked->policies);
    g_ptr_array_unref(asked->texts);
    g_free(asked);
}

/* ---- plans ---- */

struct at_gpu_plan *test_place(const struct test_site *site, const struct test_asked *asked,
                               GError **error)
{
    return at_gpu_place((void *)site->nodes->data, site->nodes->len, (void *)asked->requests->data,
                        asked->requests->len, (void *)asked->policies->data, asked->policies->len,
                        asked->home, error);
}

char *test_plan_text(const struct test_site *site, const struct at_gpu_plan *plan)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < plan->grants->len; i++) {
        const struct at_gpu_grant *g = &g_array_index(plan->grants, struct at_gpu_grant, i);
        g_string_append_printf(text, "%s%s/%u %s", i ? "; " : "",
                               g_array_index(site->nodes, struct at_gpu_place_node, g->node).name,
                               g->card, g->profile->name);
        if (g->profile->kind == AT_GPU_MIG_VGPU)
            g_string_append_printf(text, "@%u", g->start);
    }
    return g_string_free(text, FALSE);
}
