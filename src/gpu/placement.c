/* SPDX-License-Identifier: Apache-2.0 */
/* Placing requests: checks what is asked, searches, hands out, or has the refusal written. */
#include "gpu/placement.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "gpu/placement-internal.h"

#define TEXT_MAX 256 /* of a profile's name or a glob */
#define REQUESTS_MAX 4096

void at_gpu_plan_free(struct at_gpu_plan *plan)
{
    if (!plan)
        return;
    g_array_unref(plan->grants);
    g_free(plan);
}

/* ---- what means nothing ---- */

static bool check_request(const struct at_gpu_request *r, GError **error)
{
    if (!r->holder || !*r->holder)
        return at_error(error, AT_ERROR_INVALID, "a request for a GPU names no holder");
    if (r->count == 0 || r->count > AT_GPU_UNITS_MAX)
        return at_error(error, AT_ERROR_INVALID,
                        "%s asks for %u GPUs in one entry; 1 to %d can be asked for", r->holder,
                        r->count, AT_GPU_UNITS_MAX);
    if (r->profile && (!*r->profile || strlen(r->profile) > TEXT_MAX))
        return at_error(error, AT_ERROR_INVALID, "%s: a profile's name has 1 to %d bytes",
                        r->holder, TEXT_MAX);
    if (r->model && (!*r->model || strlen(r->model) > TEXT_MAX))
        return at_error(error, AT_ERROR_INVALID, "%s: a model has 1 to %d bytes", r->holder,
                        TEXT_MAX);
    if ((unsigned)r->isolation > AT_GPU_EXCLUSIVE)
        return at_error(error, AT_ERROR_INVALID, "%s asks for an isolation that is unknown",
                        r->holder);
    return true;
}

static bool check_requests(const struct at_gpu_request *requests, unsigned n, unsigned n_nodes,
                           int home, GError **error)
{
    g_autoptr(GHashTable) counts = g_hash_table_new(g_str_hash, g_str_equal);
    if (home >= 0 && (unsigned)home >= n_nodes)
        return at_error(error, AT_ERROR_INVALID, "node %d is none of the %u nodes", home, n_nodes);
    if (n > REQUESTS_MAX)
        return at_error(error, AT_ERROR_INVALID, "%u requests for GPUs at once; %d are possible", n,
                        REQUESTS_MAX);
    for (unsigned i = 0; i < n; i++) {
        if (!check_request(&requests[i], error))
            return false;
        const char *holder = requests[i].holder;
        unsigned sum = GPOINTER_TO_UINT(g_hash_table_lookup(counts, holder)) + requests[i].count;
        if (sum > AT_GPU_UNITS_MAX)
            return at_error(error, AT_ERROR_INVALID,
                            "%s asks for more than %d GPUs and parts of GPUs", holder,
                            AT_GPU_UNITS_MAX);
        g_hash_table_insert(counts, (void *)holder, GUINT_TO_POINTER(sum));
    }
    return true;
}

/* ---- the result ---- */

static int compare_grants(const void *a, const void *b)
{
    const struct at_gpu_grant *x = a, *y = b;
    if (x->request != y->request)
        return x->request < y->request ? -1 : 1;
    if (x->card != y->card) /* the node is one */
        return x->card < y->card ? -1 : 1;
    return x->start < y->start ? -1 : x->start > y->start;
}

static struct at_gpu_plan *plan_of(const struct at_gpu_site *site)
{
    struct at_gpu_plan *plan = g_new0(struct at_gpu_plan, 1);
    plan->grants = g_array_sized_new(FALSE, FALSE, sizeof(struct at_gpu_grant), site->units->len);
    for (unsigned i = 0; i < site->units->len; i++) {
        const struct at_gpu_unit *unit = at_gpu_site_unit(site, i);
        const struct at_gpu_site_card *card = &site->cards[unit->pick.slot];
        const struct at_gpu_grant grant = {
            .request = unit->request,
            .node = card->node,
            .card = unit->pick.slot - site->first[card->node],
            .profile = card->in->card->profiles->pdata[unit->pick.part],
            .start = unit->pick.start,
        };
        g_array_append_val(plan->grants, grant);
    }
    if (plan->grants->len)
        qsort(plan->grants->data, plan->grants->len, sizeof(struct at_gpu_grant), compare_grants);
    return plan;
}

/* Whether each request could be met by some card; sets the error of the first that could not. */
static bool all_possible(const struct at_gpu_site *site, const struct at_gpu_refusal *in,
                         GError **error)
{
    g_autofree bool *possible = g_new0(bool, site->shapes->len + 1);
    for (unsigned shape = 0; shape < site->shapes->len; shape++) {
        const struct at_gpu_shape *s = at_gpu_site_shape(site, shape);
        for (unsigned i = 0; i < site->first[site->n_nodes] && !possible[shape]; i++) {
            const struct at_gpu_site_card *card = &site->cards[i];
            const struct at_gpu_choices *choices = &s->choices[card->slot.board->number];
            for (unsigned k = 0; k < choices->n && !card->in->reserved; k++) {
                unsigned kind = card->slot.board->parts[choices->parts[k]].kind;
                possible[shape] |= !(card->obstacles >> kind & 1);
            }
        }
    }
    for (unsigned i = 0; i < site->shapes->len; i++) {
        const struct at_gpu_request *request = at_gpu_site_shape(site, i)->request;
        if (!possible[i])
            return at_gpu_refuse_impossible(in, request, error);
    }
    return true;
}

struct at_gpu_plan *at_gpu_place(const struct at_gpu_place_node *nodes, unsigned n_nodes,
                                 const struct at_gpu_request *requests, unsigned n_requests,
                                 const struct at_gpu_policy *policies, unsigned n_policies,
                                 int home, GError **error)
{
    if (!check_requests(requests, n_requests, n_nodes, home, error))
        return NULL;
    g_autoptr(at_gpu_site) site =
        at_gpu_site_new(nodes, n_nodes, requests, n_requests, policies, n_policies, home, 0);
    const struct at_gpu_refusal in = {nodes,    n_nodes,    requests, n_requests,
                                      policies, n_policies, home};
    if (!all_possible(site, &in, error))
        return NULL;
    g_autofree unsigned *parties = g_new(unsigned, site->parties->len + 1);
    unsigned failed = 0;
    for (unsigned i = 0; i < site->parties->len; i++)
        parties[i] = i;
    if (at_gpu_site_place(site, parties, site->parties->len, &failed))
        return plan_of(site);
    at_gpu_refuse_full(&in, failed, error);
    return NULL;
}
