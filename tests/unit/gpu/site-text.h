/* SPDX-License-Identifier: Apache-2.0 */
/* Sites and requests written in a line, so that tables of cases can be read.
 *
 * A site: "a: H100{x=H100-2-20C@2 y=H100-1-10C} L40S#1 T4!in_quarantine; b:
 * A30~mig-vgpu=no_driver": nodes, and their cards by the model of boards.h, at 0000:41:00.0,
 * 0000:42:00.0 and so on. After a model, in this order: #NUMA node, +GI@START an instance that
 * exists, !reserved, ~kind=obstacle, {holder=profile@start ...}.
 *
 * Requests: "t/x H100-3-40C; t/y 2x * model=H100* mem=20 iso=hardware; policy=hardware:the_site;
 * home=a". '_' stands for a blank. */
#pragma once
#include "gpu/placement.h"

struct test_site {
    GArray *nodes; /* struct at_gpu_place_node */
    GPtrArray *texts, *arrays, *cards;
};
struct test_site *test_site_new(const char *text);
void test_site_free(struct test_site *site);
struct at_gpu_place_card *test_site_card(const struct test_site *site, unsigned node,
                                         unsigned card);
/* Adds a hold; @holder and @profile are copied. */
void test_site_hold(struct test_site *site, unsigned node, unsigned card, const char *holder,
                    const char *profile, unsigned start);

struct test_asked {
    GArray *requests, *policies;
    GPtrArray *texts;
    int home;
};
struct test_asked *test_asked_new(const struct test_site *site, const char *text);
void test_asked_free(struct test_asked *asked);

struct at_gpu_plan *test_place(const struct test_site *site, const struct test_asked *asked,
                               GError **error);
/* "a/0 H100-3-40C@4; a/1 L40S-12Q": '@' for MIG-backed ones. */
char *test_plan_text(const struct test_site *site, const struct at_gpu_plan *plan);
/* Commits the grants as holds. */
void test_site_commit(struct test_site *site, const struct test_asked *asked,
                      const struct at_gpu_plan *plan);

typedef struct test_site test_site;
typedef struct test_asked test_asked;
typedef struct at_gpu_plan at_gpu_plan;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(test_site, test_site_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(test_asked, test_asked_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_gpu_plan, at_gpu_plan_free)
