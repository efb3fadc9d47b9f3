/* SPDX-License-Identifier: Apache-2.0 */
/* Placement against a second writing of its rules: on small random sites the plan never gives more
 * than there is, and never refuses what could be placed. Also what is held, and fragmentation. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "boards.h"
#include "checker.h"

/* A sanitizer makes everything several times slower. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS 1000
#else
#define ROUNDS 10000
#endif

/* ---- random sites and requests ---- */

static const struct at_gpu_profile *any_profile(GRand *rand, const struct at_gpu_card *card)
{
    return card->profiles->pdata[g_rand_int_range(rand, 0, (int)card->profiles->len)];
}

/* Adds what fits of @n random parts. */
static void fill(GRand *rand, struct test_site *site, unsigned node, unsigned card, int n)
{
    static const char *const holders[] = {"o/a", "o/b", "o/c", "o/d"};
    for (int i = 0; i < n; i++) {
        struct at_gpu_place_card *c = test_site_card(site, node, card);
        struct at_gpu_hold holds[64];
        unsigned count = c->n_holds;
        for (unsigned k = 0; k < count; k++)
            holds[k] = c->holds[k];
        holds[count].profile = any_profile(rand, c->card)->name;
        holds[count].start = (unsigned)g_rand_int_range(rand, 0, 10);
        if (check_card(c->card, holds, count + 1))
            test_site_hold(site, node, card, holders[g_rand_int_range(rand, 0, 4)],
                           holds[count].profile, holds[count].start);
    }
}

static const char *any_model(GRand *rand)
{
    return test_board_models[g_rand_int_range(rand, 0, 11)];
}

/* Two cards, on one node or on two. */
static struct test_site *random_site(GRand *rand)
{
    g_autofree char *text = g_strdup_printf(
        "a: %s#%d%s %s#%d", any_model(rand), g_rand_int_range(rand, 0, 2),
        g_rand_boolean(rand) ? "" : "; b:", any_model(rand), g_rand_int_range(rand, 0, 2));
    struct test_site *site = test_site_new(text);
    for (unsigned node = 0; node < site->nodes->len; node++) {
        unsigned n = g_array_index(site->nodes, struct at_gpu_place_node, node).n_cards;
        for (unsigned card = 0; card < n; card++)
            fill(rand, site, node, card, g_rand_int_range(rand, 0, 4));
    }
    return site;
}

static const char *random_profile(GRand *rand, const struct test_site *site)
{
    unsigned node = (unsigned)g_rand_int_range(rand, 0, (int)site->nodes->len);
    unsigned n = g_array_index(site->nodes, struct at_gpu_place_node, node).n_cards;
    unsigned card = (unsigned)g_rand_int_range(rand, 0, (int)n);
    return any_profile(rand, test_site_card(site, node, card)->card)->name;
}

/* One to four units of one to three holders; few of them leave the profile open, because trying
 * everything for those takes long. */
static struct test_asked *random_asked(GRand *rand, const struct test_site *site)
{
    GString *text = g_string_new(NULL);
    int n = g_rand_int_range(rand, 1, 4);
    for (int i = 0; i < n; i++) {
        g_string_append_printf(text, "t/%c ", 'x' + g_rand_int_range(rand, 0, 3));
        if (n == 1 && g_rand_boolean(rand))
            g_string_append_printf(text, "%dx ", g_rand_int_range(rand, 1, 4));
        else if (n == 2 && g_rand_boolean(rand))
            g_string_append(text, "2x ");
        if (g_rand_int_range(rand, 0, 4) || n > 2)
            g_string_append_printf(text, "%s; ", random_profile(rand, site));
        else
            g_string_append_printf(
                text, "* mem=%d iso=%s; ", g_rand_int_range(rand, 1, 90),
                at_gpu_isolation_name((enum at_gpu_isolation)g_rand_int_range(rand, 0, 4)));
    }
    if (!g_rand_int_range(rand, 0, 8))
        g_string_append(text, "policy=hardware:the_site; ");
    if (!g_rand_int_range(rand, 0, 8))
        g_string_append(text, "home=a; ");
    g_autofree char *line = g_string_free(text, FALSE);
    return test_asked_new(site, line);
}

/* ---- properties ---- */

static void assert_refused_rightly(const struct test_site *site, const struct test_asked *asked,
                                   const GError *error)
{
    g_assert_cmpuint(strlen(error->message), <=, 600);
    if (check_possible(site, asked, false))
        g_error("refused, but it is possible: %s", error->message);
    bool ever = check_possible(site, asked, true);
    if (ever != g_error_matches(error, AT_ERROR, AT_ERROR_CONFLICT))
        g_error("refused with code %d, but an empty site %s: %s", error->code,
                ever ? "could" : "could not", error->message);
}

static void test_against_checker(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20261);
    unsigned placed = 0, refused = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        g_autoptr(test_site) site = random_site(rand);
        g_autoptr(test_asked) asked = random_asked(rand, site);
        g_autoptr(GError) error = NULL;
        g_autoptr(at_gpu_plan) plan = test_place(site, asked, &error);
        if (!plan) {
            assert_refused_rightly(site, asked, error);
            refused++;
            continue;
        }
        placed++;
        g_assert_cmpstr(check_plan(site, asked, plan), ==, NULL);
    }
    g_test_message("%u placed, %u refused", placed, refused);
    g_assert_cmpuint(placed, >, ROUNDS / 10);
    g_assert_cmpuint(refused, >, ROUNDS / 10);
}

static void test_same_answer(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20262);
    for (unsigned round = 0; round < ROUNDS / 4; round++) {
        g_autoptr(test_site) site = random_site(rand);
        g_autoptr(test_asked) asked = random_asked(rand, site);
        g_autoptr(GError) error = NULL, again_error = NULL;
        g_autoptr(at_gpu_plan) plan = test_place(site, asked, &error);
        g_autoptr(at_gpu_plan) again = test_place(site, asked, &again_error);
        g_assert_cmpint(plan != NULL, ==, again != NULL);
        g_autofree char *text = plan ? test_plan_text(site, plan) : g_strdup(error->message);
        g_autofree char *other =
            again ? test_plan_text(site, again) : g_strdup(again_error->message);
        g_assert_cmpstr(text, ==, other);
    }
}

/* Fills the first two cards of @node by @seed and places one profile of each. */
static char *answer(const char *text, unsigned node, guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_autoptr(test_site) site = test_site_new(text);
    fill(rand, site, node, 0, 4);
    fill(rand, site, node, 1, 4);
    const char *x = any_profile(rand, test_site_card(site, node, 0)->card)->name;
    const char *y = any_profile(rand, test_site_card(site, node, 1)->card)->name;
    g_autofree char *asked_text = g_strdup_printf("t/x %s; t/y %s", x, y);
    g_autoptr(test_asked) asked = test_asked_new(site, asked_text);
    g_autoptr(at_gpu_plan) plan = test_place(site, asked, NULL);
    return plan ? test_plan_text(site, plan) : g_strdup("no");
}

static void test_full_nodes_elsewhere(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20263);
    static const char *const full = "z: GTX{o/z=passthrough} GTX{o/z=passthrough}";
    for (unsigned round = 0; round < ROUNDS / 4; round++) {
        g_autofree char *plain = g_strdup_printf("a: %s %s", any_model(rand), any_model(rand));
        g_autofree char *before = g_strdup_printf("%s; %s", full, plain);
        g_autofree char *behind = g_strdup_printf("%s; %s", plain, full);
        guint32 seed = g_rand_int(rand);
        g_autofree char *want = answer(plain, 0, seed);
        g_autofree char *one = answer(before, 1, seed), *other = answer(behind, 0, seed);
        g_assert_cmpstr(one, ==, want);
        g_assert_cmpstr(other, ==, want);
    }
}

/* What is placed, released and asked for again goes to the same place. */
static void test_again(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20264);
    for (unsigned round = 0; round < ROUNDS / 4; round++) {
        g_autoptr(test_site) site = random_site(rand);
        g_autoptr(test_asked) asked = random_asked(rand, site);
        g_autoptr(at_gpu_plan) plan = test_place(site, asked, NULL);
        unsigned held[8] = {0};
        if (!plan)
            continue;
        g_autofree char *text = test_plan_text(site, plan);
        for (unsigned i = 0; i < plan->grants->len; i++) {
            const struct at_gpu_grant *g = &g_array_index(plan->grants, struct at_gpu_grant, i);
            held[g->node * 4 + g->card] = test_site_card(site, g->node, g->card)->n_holds + 1;
        }
        test_site_commit(site, asked, plan);
        for (unsigned i = 0; i < 8; i++) {
            if (!held[i])
                continue;
            struct at_gpu_place_card *card = test_site_card(site, i / 4, i % 4);
            g_autoptr(GError) error = NULL;
            g_assert_true(at_gpu_holds_check(card->card, card->holds, card->n_holds, &error));
            g_assert_no_error(error);
            card->n_holds = held[i] - 1; /* holds are added at the end */
        }
        g_autoptr(at_gpu_plan) again = test_place(site, asked, NULL);
        g_autofree char *other = test_plan_text(site, again);
        g_assert_cmpstr(text, ==, other);
    }
}

/* Holders come and go for long; no card ever holds what it cannot. */
static void test_long_life(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20265);
    g_autoptr(test_site) site = test_site_new("a: H100 RTX6000 L40S; b: A100-40 A30 FLEX170");
    unsigned placed = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned node = (unsigned)g_rand_int_range(rand, 0, 2);
        struct at_gpu_place_card *card =
            test_site_card(site, node, (unsigned)g_rand_int_range(rand, 0, 3));
        if (card->n_holds && g_rand_boolean(rand)) {
            struct at_gpu_hold *holds = (struct at_gpu_hold *)card->holds;
            holds[g_rand_int_range(rand, 0, (int)card->n_holds)] = holds[card->n_holds - 1];
            card->n_holds--;
            continue;
        }
        g_autoptr(test_asked) asked = random_asked(rand, site);
        g_autoptr(at_gpu_plan) plan = test_place(site, asked, NULL);
        if (!plan)
            continue;
        g_assert_cmpstr(check_plan(site, asked, plan), ==, NULL);
        test_site_commit(site, asked, plan);
        placed++;
    }
    g_assert_cmpuint(placed, >, ROUNDS / 20);
}

static void test_holds(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20266);
    unsigned good = 0, n_rounds = ROUNDS * 10;
    for (unsigned m = 0; test_board_models[m]; m++) {
        struct at_gpu_card *card = test_board(test_board_models[m], "0000:41:00.0", 0);
        for (unsigned round = 0; round < n_rounds / 11; round++) {
            struct at_gpu_hold holds[8];
            unsigned n = (unsigned)g_rand_int_range(rand, 1, 8);
            const struct at_gpu_profile *first = any_profile(rand, card);
            for (unsigned i = 0; i < n; i++) {
                const struct at_gpu_profile *p = any_profile(rand, card);
                p = p->kind == first->kind ? p : first;
                holds[i] =
                    (struct at_gpu_hold){"o/o", p->name, (unsigned)g_rand_int_range(rand, 0, 10)};
            }
            g_autoptr(GError) error = NULL;
            bool can = check_card(card, holds, n);
            g_assert_cmpint(at_gpu_holds_check(card, holds, n, &error), ==, can);
            good += can;
            if (!can)
                g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
        }
        at_gpu_card_free(card);
    }
    g_assert_cmpuint(good, >, n_rounds / 50);
}

static void test_holds_words(void)
{
    struct at_gpu_card *card = test_board("H100", "0000:41:00.0", 0);
    const struct at_gpu_hold holds[] = {{"a/x", "H100-3-40C", 0}, {"a/y", "H100-4-40C", 0}};
    const struct at_gpu_hold unknown = {"a/z", "H100-5-50C", 0};
    g_autoptr(GError) error = NULL, other = NULL;
    g_assert_false(at_gpu_holds_check(card, holds, 2, &error));
    g_assert_cmpstr(error->message, ==,
                    "GPU 0000:41:00.0 (NVIDIA H100 PCIe): H100-4-40C at slice 0 of a/y cannot be "
                    "beside H100-3-40C (a/x): its memory slices are taken");
    g_assert_false(at_gpu_holds_check(card, &unknown, 1, &other));
    g_assert_cmpstr(
        other->message, ==,
        "GPU 0000:41:00.0 (NVIDIA H100 PCIe) has no profile H100-5-50C, which a/z holds");
    at_gpu_card_free(card);
}

static bool can_hold(const struct at_gpu_card *card, const char *one, unsigned start,
                     const char *other, unsigned other_start)
{
    const struct at_gpu_hold holds[] = {{"a/x", one, start}, {"a/y", other, other_start}};
    const struct at_gpu_hold turned[] = {holds[1], holds[0]};
    bool can = at_gpu_holds_check(card, holds, 2, NULL);
    g_assert_cmpint(at_gpu_holds_check(card, turned, 2, NULL), ==, can);
    return can;
}

static struct at_gpu_profile *profile_of(struct at_gpu_card *card, const char *name)
{
    return (struct at_gpu_profile *)at_gpu_card_profile(card, name);
}

/* On the cards there are today the slices alone say as much. */
static void test_other_limits(void)
{
    struct at_gpu_card *card = test_board("H100", "0000:41:00.0", 0);
    g_assert_true(can_hold(card, "H100-2-20C", 0, "H100-2-20C", 2));
    card->grid_compute = 3;
    g_assert_false(can_hold(card, "H100-2-20C", 0, "H100-2-20C", 2));
    card->grid_compute = 7;
    profile_of(card, "H100-2-20C")->gi_max = 1;
    g_assert_false(can_hold(card, "H100-2-20C", 0, "H100-2-20C", 2));
    at_gpu_card_free(card);

    card = test_board("L40S", "0000:41:00.0", 0);
    g_assert_true(can_hold(card, "L40S-8Q", 0, "L40S-12Q", 0));
    profile_of(card, "L40S-8Q")->max_mixed = 0;
    g_assert_false(can_hold(card, "L40S-8Q", 0, "L40S-12Q", 0));
    g_assert_true(can_hold(card, "L40S-8Q", 0, "L40S-8Q", 0));
    card->vfs_total = 1;
    g_assert_false(can_hold(card, "L40S-8Q", 0, "L40S-8Q", 0));
    at_gpu_card_free(card);
}

/* Cards that share their profiles give the same answers. */
static void test_share(void)
{
    g_autoptr(test_site) site = test_site_new("a: H100 T4 H100; b: H100");
    struct at_gpu_card *cards[4];
    for (unsigned i = 0; i < 4; i++)
        cards[i] = site->cards->pdata[i];
    profile_of(cards[3], "H100-2-20C")->memory += 1 << 20;
    at_gpu_cards_share(cards, 4);
    g_assert_true(cards[0]->profiles == cards[2]->profiles);
    g_assert_true(cards[0]->profiles != cards[1]->profiles);
    g_assert_true(cards[0]->profiles != cards[3]->profiles);
    g_autoptr(test_asked) asked = test_asked_new(site, "t/x 2x H100-7-80C; t/y H100-7-80C");
    g_autoptr(at_gpu_plan) plan = test_place(site, asked, NULL);
    g_autofree char *text = test_plan_text(site, plan);
    g_assert_cmpstr(text, ==, "a/0 H100-7-80C@0; a/2 H100-7-80C@0; b/0 H100-7-80C@0");
}

/* ---- fragmentation ---- */

static double fragmentation(const char *site_text)
{
    g_autoptr(test_site) site = test_site_new(site_text);
    const struct at_gpu_place_card *card = test_site_card(site, 0, 0);
    return at_gpu_fragmentation(card->card, card->holds, card->n_holds);
}

static void test_fragmentation(void)
{
    static const struct {
        const char *site;
        double want;
    } rows[] = {
        {"a: H100", 0},
        {"a: H100{o=passthrough}", 0},
        {"a: H100{o=H100-7-80C@0}", 0},
        {"a: H100{o=H100-3-40C@4}", 0},
        {"a: H100{o=H100-1-10C@6}", 1 - 4.0 / 7},
        {"a: H100{o=H100-1-10C@2 p=H100-1-10C@6}", 1 - 2.0 / 6},
        {"a: H100{o=H100-4-40C@0 p=H100-2-20C@4 q=H100-1-10C@6}", 0},
        {"a: RTX6000{o=DC-1-24Q@3 p=DC-1-24Q@6}", 0.5},
        {"a: L40S{o=L40S-12Q}", 1 - 24.0 / 36},
        {"a: T4{o=T4-4Q}", 1 - 1.0 / 3},
        {"a: FLEX170{o=vf}", 1 - 1.0 / 3},
        {"a: FLEX170{o=vf p=vf q=vf r=vf}", 0},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        double got = fragmentation(rows[i].site);
        if (fabs(got - rows[i].want) > 1e-9)
            g_error("%s: %f, not %f", rows[i].site, got, rows[i].want);
    }
}

/* ---- what drivers may say ---- */

/* Descriptions that contradict themselves make a profile unusable, never the planner. */
static void test_nonsense(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(20267);
    for (unsigned round = 0; round < ROUNDS; round++) {
        g_autoptr(test_site) site = random_site(rand);
        struct at_gpu_place_card *place = test_site_card(site, 0, 0);
        struct at_gpu_card *card = (struct at_gpu_card *)place->card;
        for (unsigned i = 0; i < card->profiles->len; i++) {
            struct at_gpu_profile *p = card->profiles->pdata[i];
            unsigned *const fields[] = {&p->max,    &p->max_mixed, &p->gi_profile,
                                        &p->slices, &p->compute,   &p->starts,
                                        &p->gi_max, &p->per_gi,    &p->media};
            unsigned *field = fields[g_rand_int_range(rand, 0, G_N_ELEMENTS(fields))];
            *field = g_rand_boolean(rand) ? g_rand_int(rand) : g_rand_int(rand) % 40;
            if (!g_rand_int_range(rand, 0, 8))
                p->memory = (uint64_t)g_rand_int(rand) << g_rand_int_range(rand, 0, 33);
        }
        card->grid_slices = g_rand_int(rand) % 40;
        card->grid_compute = g_rand_int(rand) % 10;
        g_autoptr(test_asked) asked = random_asked(rand, site);
        g_autoptr(GError) error = NULL;
        g_autoptr(at_gpu_plan) plan = test_place(site, asked, &error);
        g_assert_true((plan != NULL) == (error == NULL));
        g_assert_cmpfloat(at_gpu_fragmentation(card, place->holds, place->n_holds), <=, 1.0);
    }
}

static void test_long_words(void)
{
    g_autofree char *name = g_strnfill(1000, 'x');
    g_autoptr(test_site) site = test_site_new("a: T4 T4");
    test_site_hold(site, 0, 0, name, "passthrough", 0);
    test_site_hold(site, 0, 1, name, "passthrough", 0);
    const struct at_gpu_request request = {.holder = name, .profile = "passthrough", .count = 1};
    g_autoptr(GError) error = NULL;
    g_assert_null(at_gpu_place((void *)site->nodes->data, 1, &request, 1, NULL, 0, -1, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_assert_cmpuint(strlen(error->message), <=, 600);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/place/never-overcommits-and-never-refuses-what-is-possible",
                    test_against_checker);
    g_test_add_func("/gpu/place/gives-the-same-answer-to-the-same-question", test_same_answer);
    g_test_add_func("/gpu/place/is-not-disturbed-by-full-nodes-elsewhere",
                    test_full_nodes_elsewhere);
    g_test_add_func("/gpu/place/places-again-what-was-released", test_again);
    g_test_add_func("/gpu/place/holds-the-rules-while-holders-come-and-go", test_long_life);
    g_test_add_func("/gpu/place/bears-what-a-driver-says-in-contradiction", test_nonsense);
    g_test_add_func("/gpu/place/keeps-refusals-short", test_long_words);
    g_test_add_func("/gpu/holds/agree-with-the-rules-written-again", test_holds);
    g_test_add_func("/gpu/holds/say-what-cannot-be", test_holds_words);
    g_test_add_func("/gpu/holds/obey-limits-that-slices-do-not-show", test_other_limits);
    g_test_add_func("/gpu/place/shares-the-profiles-of-cards-that-are-alike", test_share);
    g_test_add_func("/gpu/fragmentation/is-what-the-largest-part-leaves", test_fragmentation);
    return g_test_run();
}
