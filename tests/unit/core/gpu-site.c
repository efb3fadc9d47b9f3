/* SPDX-License-Identifier: Apache-2.0 */
/* A site with GPUs for tests: core's objects around a catalog in memory, and records of holds. */
#include "gpu-site.h"

#include <string.h>

#include "base/json.h"

struct gpu_site *gpu_site_new(const char *cards)
{
    g_autoptr(GError) error = NULL;
    struct gpu_site *site = g_new0(struct gpu_site, 1);
    g_autofree char *state = g_strdup_printf("driver 580.65.06\nnvml 13.580.65.06\ncuda 13000\n"
                                             "host 1\n%s",
                                             cards);
    site->tree = gpu_tree_new();
    gpu_tree_add(site->tree, "h100-pcie", CARD,
                 &(struct gpu_tree_options){.vfs = 4, .vgpu = GPU_TREE_VENDOR});
    site->state = nvml_state_new(at_test_dir(), state);
    g_setenv("ATOLL_GPU_ROOT", gpu_tree_root(site->tree), TRUE);
    g_setenv("ATOLL_NVML", AT_NVML_DOUBLE, TRUE);
    site->core.catalog = at_catalog_open_memory();
    site->core.main = g_main_context_default();
    site->core.main_thread = g_thread_self();
    site->core.events = at_events_new(&site->core);
    g_assert_true(at_test_ok(at_gpus_open(&site->core, NULL, &error), &error));
    return site;
}

void gpu_site_free(struct gpu_site *site)
{
    site->core.closing = true;
    at_gpus_close(&site->core);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    at_events_free(site->core.events);
    at_catalog_close(site->core.catalog);
    /* As at_gpus_close() says: a thread that is still ending may look at it. */
    static GSList *ended;
    ended = g_slist_prepend(ended, site);
}

void gpu_site_scan(struct gpu_site *site)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_gpus_scan(&site->core, &error), &error));
}

/* The list stays until the next scan. */
const struct at_gpu_card *gpu_site_card(struct gpu_site *site, const char *address)
{
    g_autoptr(GPtrArray) cards = at_gpus_cards(&site->core);
    for (unsigned i = 0; i < cards->len; i++) {
        const struct at_gpu_card *card = cards->pdata[i];
        if (g_str_equal(card->address, address))
            return card;
    }
    return NULL;
}

at_gpu_rec *gpu_site_rec(struct gpu_site *site, const char *address)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(site->core.catalog, &error);
    g_assert_no_error(error);
    for (unsigned i = 0; i < recs->len; i++) {
        if (g_str_equal(((at_gpu_rec *)recs->pdata[i])->address, address))
            return g_ptr_array_steal_index(recs, i);
    }
    g_error("no record of %s", address);
}

static void save(struct gpu_site *site, at_gpu_rec *rec)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_gpu_rec_save(site->core.catalog, rec, &error), &error));
}

void gpu_site_hold(struct gpu_site *site, const char *address, const struct held *held)
{
    g_autoptr(at_gpu_rec) rec = gpu_site_rec(site, address);
    g_auto(GStrv) who = g_strsplit(held->holder, "/", 2);
    struct at_gpu_hold_rec *h = at_gpu_hold_rec_new();
    h->machine = g_strdup(held->machine ? held->machine : MACHINE);
    h->vdc = g_strdup(who[0]);
    h->workstation = g_strdup(who[1]);
    h->profile =
        at_gpu_profile_copy(at_gpu_card_profile(gpu_site_card(site, address), held->profile));
    h->start = held->start;
    h->keep = held->keep;
    h->attached = true;
    h->asked = g_strdup(held->asked ? held->asked : held->profile);
    if (held->instance) {
        h->instance = held->instance + 1;
        nvml_state_add(site->state, "gi %s %u %u %u", address, held->instance,
                       h->profile->gi_profile, held->start);
    }
    g_ptr_array_add(rec->holds, h);
    save(site, rec);
}

void gpu_site_quarantine(struct gpu_site *site, const char *address)
{
    g_autoptr(at_gpu_rec) rec = gpu_site_rec(site, address);
    rec->quarantined = g_strdup("XID 79");
    save(site, rec);
}

struct at_definition *gpu_site_def(const char *vdc, const char *policy, const char *const *wants)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) text = g_string_new(NULL);
    g_string_printf(text, "{\"vdc\": \"%s\", \"gpu_policy\": %s, \"workstations\": [", vdc,
                    policy ? policy : "{}");
    for (unsigned i = 0; wants[i]; i++) {
        g_autofree char *name = wants[1] ? g_strdup_printf("%c", 'a' + (int)i) : g_strdup("tune");
        g_string_append_printf(
            text, "%s{\"name\": \"%s\", \"disks\": [{\"size\": \"16 MiB\"}], \"gpus\": [%s]}",
            i ? ", " : "", name, wants[i]);
    }
    g_string_append(text, "]}");
    g_autoptr(JsonNode) node = at_json_parse(text->str, -1, &error);
    g_assert_no_error(error);
    struct at_definition *def = at_definition_parse(node, NULL, &error);
    g_assert_no_error(error);
    return def;
}
