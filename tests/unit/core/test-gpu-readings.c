/* SPDX-License-Identifier: Apache-2.0 */
/* Cards of which only the kernel's driver tells: their memory is planned with, also while vfio-pci
 * has them, and their errors are told. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "core/metrics-internal.h"
#include "gpu-site.h"

#define H100 "card " CARD " h100-pcie\n"
#define LARGE "{\"memory\": \"100 GiB\"}" /* more than the H100 has */

/* The site's H100, and a card at OTHER that is as amdgpu shows it. */
static struct gpu_site *site_of_amd(void)
{
    struct gpu_site *site = gpu_site_new(H100);
    gpu_tree_add(site->tree, "mi300x", OTHER, &(struct gpu_tree_options){.driver = "amdgpu"});
    gpu_site_scan(site);
    return site;
}

static bool fits(struct gpu_site *site, const char *wants, const char *says)
{
    g_autoptr(GError) error = NULL;
    const char *const list[] = {wants, NULL};
    g_autoptr(at_definition) def = gpu_site_def("team", NULL, list);
    bool ok = at_gpu_plan_check(&site->core, "team", def, NULL, &error);
    if (!ok && says && !strstr(error->message, says))
        g_error("no '%s' in: %s", says, error->message);
    return ok;
}

static void planned_with(void)
{
    struct gpu_site *site = site_of_amd();
    g_assert_true(fits(site, LARGE, NULL));
    g_assert_false(fits(site, "{\"memory\": \"200 GiB\"}", "192 GiB"));
    gpu_tree_unset(site->tree, OTHER, "mem_info_vram_total"); /* for the moment */
    gpu_site_scan(site);
    g_assert_true(fits(site, LARGE, NULL));
    gpu_site_free(site);
}

/* What vfio-pci does not show the record knows, and the next daemon, too. */
static void remembered(void)
{
    struct gpu_site *site = site_of_amd();
    g_autoptr(at_gpu_rec) before = gpu_site_rec(site, OTHER);
    g_assert_cmpuint(before->memory, ==, UINT64_C(206141652992));
    gpu_tree_bind(site->tree, OTHER, "vfio-pci");
    gpu_site_scan(site);
    const struct at_gpu_card *card = gpu_site_card(site, OTHER);
    g_assert_nonnull(strstr(card->unknown, "bound to vfio-pci"));
    g_assert_cmpuint(card->memory, ==, before->memory);
    g_assert_true(fits(site, LARGE, NULL));
    g_autoptr(at_gpu_rec) after = gpu_site_rec(site, OTHER);
    g_assert_cmpuint(after->revision, ==, before->revision);
    gpu_site_free(site);
}

/* A card that never told has no memory that could be asked for. */
static void never_told(void)
{
    struct gpu_site *site = gpu_site_new(H100);
    gpu_tree_add(site->tree, "mi300x", OTHER, &(struct gpu_tree_options){.driver = "vfio-pci"});
    gpu_site_scan(site);
    g_assert_false(fits(site, LARGE, NULL));
    g_assert_cmpuint(gpu_site_card(site, OTHER)->memory, ==, 0);
    gpu_site_free(site);
}

static void shown(void)
{
    struct gpu_site *site = site_of_amd();
    g_autoptr(GError) error = NULL;
    gpu_tree_set(site->tree, OTHER, "gpu_busy_percent", "rubbish\n");
    gpu_site_scan(site);
    g_autoptr(JsonNode) node = at_core_gpu_view(&site->core, OTHER, &error);
    g_assert_no_error(error);
    JsonObject *health = at_json_obj(json_node_get_object(node), "health");
    g_assert_cmpint(at_json_int(health, "memory_used", 0), ==, 297103360);
    g_assert_cmpint(at_json_int(health, "temperature_c", 0), ==, 41);
    g_assert_cmpint(at_json_int(health, "ecc_corrected", 0), ==, 2);
    g_assert_true(json_object_get_null_member(health, "utilization_percent"));
    g_assert_nonnull(strstr(at_json_str(health, "unknown", ""), "gpu_busy_percent"));
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(site->core.catalog, &error);
    g_autoptr(GPtrArray) cards = at_gpus_cards(&site->core);
    g_autoptr(GString) text = g_string_new(NULL);
    at_metrics_gpus(text, recs, cards, NULL);
    static const char *const lines[] = {
        "atoll_gpu_memory_bytes{%s} 206141652992\n", "atoll_gpu_memory_used_bytes{%s} 297103360\n",
        "atoll_gpu_temperature_celsius{%s} 41\n", "atoll_gpu_power_watts{%s} 139\n",
        "atoll_gpu_ecc_corrected_total{%s} 2\n"};
    for (unsigned i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_auto(GStrv) around = g_strsplit(lines[i], "%s", 2);
        g_autofree char *pattern = g_strdup_printf(
            "\\Q%s\\E[^\n]*address=\"" OTHER "\"[^\n]*\\Q%s\\E", around[0], around[1]);
        if (!g_regex_match_simple(pattern, text->str, 0, 0))
            g_error("no %s in:\n%s", lines[i], text->str);
    }
    gpu_site_free(site);
}

static void note_event(uint64_t id, JsonNode *event, void *user)
{
    JsonObject *o = json_node_get_object(event);
    JsonObject *data = at_json_obj(o, "data");
    g_string_append_printf(user, "%s %s\n", at_json_str(o, "type", ""),
                           at_json_str(data, "reason", ""));
}

static void run_main(struct gpu_site *site)
{
    while (g_main_context_iteration(site->core.main, FALSE))
        ;
}

/* Once per scan that finds more; a driver that was loaded anew counts from nothing. */
static void errors(void)
{
    struct gpu_site *site = site_of_amd();
    g_autoptr(GString) told = g_string_new(NULL);
    run_main(site);
    unsigned watch = at_core_events_watch(&site->core, 0, note_event, told);
    const char *const counts[] = {"ue: 2\nce: 9\n", "ue: 2\nce: 10\n", "rubbish\n",
                                  "ue: 0\nce: 0\n", "ue: 1\nce: 0\n"};
    for (unsigned i = 0; i < G_N_ELEMENTS(counts); i++) {
        gpu_tree_set(site->tree, OTHER, "ras/umc_err_count", counts[i]);
        gpu_site_scan(site);
        run_main(site);
    }
    g_assert_cmpstr(told->str, ==,
                    "gpu.error its memory had 2 more errors that could not be corrected\n"
                    "gpu.error its memory had 1 more error that could not be corrected\n");
    const char *id = gpu_site_card(site, OTHER)->id;
    g_assert_cmpuint(at_gpu_faults_heard(site->core.gpu_faults, id, NULL), ==, 2);
    g_assert_cmpuint(at_gpu_faults_heard(site->core.gpu_faults, id, AT_GPU_FAULT_MEMORY), ==, 2);
    g_autoptr(at_gpu_rec) rec = gpu_site_rec(site, OTHER);
    g_assert_null(rec->quarantined);
    at_core_events_unwatch(&site->core, watch);
    gpu_site_free(site);
}

/* Once, however often it is looked at. */
static void lost(void)
{
    struct gpu_site *site = site_of_amd();
    g_autofree char *ones = g_strnfill(4096, '\xff');
    gpu_tree_write_bytes(site->tree, "sys/bus/pci/devices/" OTHER "/config", ones, 4096);
    for (unsigned i = 0; i < 3; i++) {
        at_gpus_look(&site->core);
        run_main(site);
    }
    g_autoptr(at_gpu_rec) rec = gpu_site_rec(site, OTHER);
    g_assert_cmpstr(rec->quarantined, ==, "it fell off the bus");
    g_assert_cmpuint(at_gpu_faults_heard(site->core.gpu_faults, rec->id, AT_GPU_FAULT_LOST), ==, 1);
    gpu_site_free(site);
}

static void bad_pages(void)
{
    struct gpu_site *site = site_of_amd();
    gpu_tree_set(site->tree, OTHER, "ras/gpu_vram_bad_pages", "0x00000001 : 0x00001000 : R\n");
    at_gpus_look(&site->core);
    run_main(site);
    g_autoptr(at_gpu_rec) retired = gpu_site_rec(site, OTHER);
    g_assert_null(retired->quarantined);
    gpu_tree_set(site->tree, OTHER, "ras/gpu_vram_bad_pages",
                 "0x00000001 : 0x00001000 : R\n0x00000002 : 0x00001000 : F\n");
    at_gpus_look(&site->core);
    run_main(site);
    g_autoptr(at_gpu_rec) failed = gpu_site_rec(site, OTHER);
    g_assert_nonnull(failed->quarantined);
    g_assert_nonnull(strstr(failed->quarantined, "bad pages"));
    gpu_site_free(site);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu-readings/memory-of-the-drivers-is-planned-with", planned_with);
    g_test_add_func("/gpu-readings/memory-stays-known-with-vfio-pci", remembered);
    g_test_add_func("/gpu-readings/memory-that-was-never-told-is-not-assumed", never_told);
    g_test_add_func("/gpu-readings/values-are-shown-like-those-of-the-library", shown);
    g_test_add_func("/gpu-readings/an-error-that-was-not-corrected-is-told", errors);
    g_test_add_func("/gpu-readings/a-card-that-is-lost-is-counted-once", lost);
    g_test_add_func("/gpu-readings/a-page-that-cannot-be-retired-ends-the-cards-use", bad_pages);
    return g_test_run();
}
