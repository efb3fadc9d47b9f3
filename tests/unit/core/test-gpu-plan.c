/* SPDX-License-Identifier: Apache-2.0 */
/* The check before anything starts: what the VDC has itself is in nobody's way, what it runs on it
 * goes on with, and quotas count all that it has. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "gpu-site.h"

#define H100 "card " CARD " h100-pcie mig=1\n"
#define WANTS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Whether it would be let through; else the refusal. */
static char *refused(struct gpu_site *site, const char *policy, const char *const *wants,
                     const char *const *workstations)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(at_definition) def = gpu_site_def("team", policy, wants);
    bool ok = at_gpu_plan_check(&site->core, "team", def, workstations, &error);
    g_assert_true(ok == (error == NULL));
    return error ? g_strdup(error->message) : NULL;
}

static void assert_given(struct gpu_site *site, const char *policy, const char *const *wants)
{
    g_autofree char *refusal = refused(site, policy, wants, NULL);
    g_assert_cmpstr(refusal, ==, NULL);
}

static void assert_refused(struct gpu_site *site, const char *policy, const char *const *wants,
                           const char *says)
{
    g_autofree char *refusal = refused(site, policy, wants, NULL);
    g_assert_nonnull(refusal);
    if (!strstr(refusal, says))
        g_error("no '%s' in: %s", says, refusal);
}

static void own_instances(void)
{
    struct gpu_site *site = gpu_site_new(H100);
    for (unsigned i = 0; i < 4; i++) {
        g_autofree char *holder = g_strdup_printf("team/%c", 'a' + (int)i);
        gpu_site_hold(site, CARD,
                      &(struct held){holder, NULL, "H100-1-10C", .start = i, .instance = 7 + i});
    }
    gpu_site_scan(site);
    assert_given(site, NULL, WANTS("{\"profile\": \"H100-3-40C\", \"count\": 2}"));
    assert_given(site, NULL, WANTS("{\"profile\": \"passthrough\"}"));
    /* The card itself is as the scan found it. */
    g_assert_cmpuint(gpu_site_card(site, CARD)->instances->len, ==, 4);
    gpu_site_free(site);
}

static void others_instances(void)
{
    struct gpu_site *site = gpu_site_new(H100);
    gpu_site_hold(site, CARD,
                  &(struct held){"team/tune", NULL, "H100-1-10C", .start = 0, .instance = 7});
    gpu_site_hold(site, CARD,
                  &(struct held){"lab/x", "89abcdef", "H100-1-10C", .start = 1, .instance = 8});
    nvml_state_add(site->state, "gi %s 9 19 6", CARD); /* made by hand */
    gpu_site_scan(site);
    assert_refused(site, NULL, WANTS("{\"profile\": \"passthrough\"}"), "no workstation holds");
    assert_refused(site, NULL, WANTS("{\"profile\": \"H100-3-40C\"}"), "lab/x");
    assert_given(site, NULL, WANTS("{\"profile\": \"H100-2-20C\", \"count\": 2}"));
    gpu_site_free(site);
}

static void some_workstations(void)
{
    struct gpu_site *site = gpu_site_new(H100);
    gpu_site_hold(site, CARD,
                  &(struct held){"team/a", NULL, "H100-3-40C", .start = 0, .instance = 1});
    gpu_site_scan(site);
    const char *const *wants =
        WANTS("{\"profile\": \"H100-3-40C\"}", "{\"profile\": \"H100-3-40C\"}",
              "{\"profile\": \"passthrough\"}");
    g_autofree char *b = refused(site, NULL, wants, WANTS("b"));
    g_assert_cmpstr(b, ==, NULL);
    g_autofree char *c = refused(site, NULL, wants, WANTS("c"));
    g_assert_nonnull(strstr(c, "team/a holds"));
    g_autofree char *all = refused(site, NULL, wants, NULL);
    g_assert_nonnull(all);
    gpu_site_free(site);
}

static void goes_on(void)
{
    struct gpu_site *site = gpu_site_new(H100);
    gpu_site_hold(site, CARD, &(struct held){"team/tune", NULL, "passthrough"});
    gpu_site_quarantine(site, CARD);
    gpu_site_scan(site);
    assert_given(site, NULL, WANTS("{\"profile\": \"passthrough\"}"));
    assert_refused(site, NULL, WANTS("{\"profile\": \"H100-2-20C\"}"), "quarantine");
    assert_refused(site, NULL, WANTS("{\"profile\": \"passthrough\", \"count\": 2}"), "quarantine");
    assert_refused(site, "{\"quota\": {\"memory\": \"40 GiB\"}}",
                   WANTS("{\"profile\": \"passthrough\"}"), "quota");
    /* It is part of the plan where it is. */
    g_autoptr(GError) error = NULL;
    g_autoptr(at_definition) def =
        gpu_site_def("team", NULL, WANTS("{\"profile\": \"passthrough\"}"));
    g_autoptr(JsonNode) plan = at_gpu_plan_json(&site->core, def, &error);
    g_assert_no_error(error);
    /* A restore would stop it first. */
    g_autoptr(GError) refusal = NULL;
    g_assert_false(at_gpu_plan_check_anew(&site->core, "team", def, &refusal));
    g_assert_nonnull(strstr(refusal->message, "quarantine"));
    JsonArray *grants = at_json_arr(json_node_get_object(plan), "grants");
    g_assert_cmpuint(json_array_get_length(grants), ==, 1);
    g_assert_cmpstr(at_json_str(json_array_get_object_element(grants, 0), "address", NULL), ==,
                    CARD);
    g_autofree char *sysfs = g_strdup_printf("sys/bus/pci/devices/%s", CARD);
    gpu_tree_remove(site->tree, sysfs);
    gpu_site_scan(site);
    assert_given(site, NULL, WANTS("{\"profile\": \"passthrough\"}"));
    gpu_site_free(site);
}

/* One that is stopped has to have another card when it starts. */
static void kept_of_a_sick_card(void)
{
    struct gpu_site *site = gpu_site_new(H100);
    gpu_site_hold(site, CARD, &(struct held){"team/tune", NULL, "passthrough", .keep = true});
    gpu_site_quarantine(site, CARD);
    g_autoptr(at_gpu_rec) rec = gpu_site_rec(site, CARD);
    g_autoptr(GError) error = NULL;
    ((struct at_gpu_hold_rec *)rec->holds->pdata[0])->attached = false;
    g_assert_true(at_test_ok(at_gpu_rec_save(site->core.catalog, rec, &error), &error));
    assert_refused(site, NULL, WANTS("{\"profile\": \"passthrough\"}"), "quarantine");
    gpu_site_free(site);
}

/* Each for itself: what the VDC would have beyond it, held by other workstations of it or not. */
static const struct quota_case {
    const char *name, *enough, *too_little, *says;
} quotas[] = {
    {"gpus", "{\"quota\": {\"gpus\": 3}}", "{\"quota\": {\"gpus\": 2}}", "3 GPUs or parts"},
    {"slices", "{\"quota\": {\"slices\": 6}}", "{\"quota\": {\"slices\": 5}}", "6 MIG slices"},
    {"memory", "{\"quota\": {\"memory\": \"60 GiB\"}}", "{\"quota\": {\"memory\": \"59 GiB\"}}",
     "60 GiB of GPU memory"},
};

static void quota(gconstpointer data)
{
    const struct quota_case *c = data;
    struct gpu_site *site = gpu_site_new(H100);
    const char *const three = "{\"profile\": \"H100-2-20C\", \"count\": 3}";
    const char *const one = "{\"profile\": \"H100-2-20C\"}";
    assert_given(site, c->enough, WANTS(three));
    assert_refused(site, c->too_little, WANTS(three), c->says);
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *holder = g_strdup_printf("team/%c", 'b' + (int)i);
        gpu_site_hold(
            site, CARD,
            &(struct held){holder, NULL, "H100-2-20C", .start = 2 * i, .instance = 3 + i});
    }
    gpu_site_scan(site);
    const char *const *wants = WANTS(one, one, one);
    g_autofree char *given = refused(site, c->enough, wants, WANTS("a"));
    g_assert_cmpstr(given, ==, NULL);
    g_autofree char *more = refused(site, c->too_little, wants, WANTS("a"));
    g_assert_nonnull(more);
    g_assert_nonnull(strstr(more, c->says));
    gpu_site_free(site);
}

/* What it holds counts by the profile that was granted, wherever the card is now. */
static void quota_of_a_silent_card(void)
{
    struct gpu_site *site = gpu_site_new(H100 "card " OTHER " l40s\n");
    gpu_tree_add(site->tree, "l40s", OTHER, NULL);
    gpu_site_scan(site);
    gpu_site_hold(site, CARD, &(struct held){"team/b", NULL, "H100-2-20C"});
    const char *const *wants = WANTS("{\"profile\": \"passthrough\", \"model\": \"L40S*\"}",
                                     "{\"profile\": \"H100-2-20C\"}");
    const char *const policy = "{\"quota\": {\"gpus\": 1}}";
    nvml_state_add(site->state, "fail nvmlDeviceGetVgpuTypeSupported 999 0 0");
    nvml_state_add(site->state, "fail nvmlDeviceGetSupportedVgpus 999 0 0");
    gpu_site_scan(site);
    g_assert_null(at_gpu_card_profile(gpu_site_card(site, CARD), "H100-2-20C"));
    g_autofree char *silent = refused(site, policy, wants, WANTS("a"));
    g_assert_nonnull(strstr(silent, "quota"));
    g_autofree char *sysfs = g_strdup_printf("sys/bus/pci/devices/%s", CARD);
    gpu_tree_remove(site->tree, sysfs);
    gpu_site_scan(site);
    g_assert_null(gpu_site_card(site, CARD));
    g_autofree char *gone = refused(site, policy, wants, WANTS("a"));
    g_assert_nonnull(gone);
    g_assert_nonnull(strstr(gone, "quota"));
    gpu_site_free(site);
}

/* The driver cannot be asked while a guest has the card: what it could give is remembered. */
static void passed_through(void)
{
    struct gpu_site *site = gpu_site_new("card " CARD " h100-pcie\n");
    gpu_site_hold(site, CARD, &(struct held){"vision/train", "89abcdef", "passthrough"});
    gpu_tree_bind(site->tree, CARD, "vfio-pci");
    gpu_site_scan(site);
    g_assert_nonnull(gpu_site_card(site, CARD)->unknown);
    assert_refused(site, NULL, WANTS("{\"profile\": \"H100-4-40C\"}"), "vision/train holds");
    assert_refused(site, NULL, WANTS("{\"profile\": \"H100-20C\"}"), "vision/train holds");
    assert_refused(site, NULL, WANTS("{\"memory\": \"20 GiB\", \"isolation\": \"hardware\"}"),
                   "vision/train holds");
    assert_refused(site, NULL, WANTS("{\"profile\": \"H900-1C\"}"), "no GPU of");
    g_autoptr(at_gpu_rec) before = gpu_site_rec(site, CARD);
    g_assert_cmpuint(before->profiles->len, >, 10);
    gpu_site_scan(site);
    g_autoptr(at_gpu_rec) after = gpu_site_rec(site, CARD);
    g_assert_cmpuint(after->revision, ==, before->revision);
    gpu_site_free(site);
}

/* As docs/gpu.md shows it: on each card whoever would have to go, and what could be had instead. */
static void refusal_of_the_manual(void)
{
    struct gpu_site *site = gpu_site_new(H100 "card " OTHER " h100-pcie\n");
    gpu_tree_add(site->tree, "h100-pcie", OTHER,
                 &(struct gpu_tree_options){.vfs = 4, .vgpu = GPU_TREE_VENDOR});
    gpu_site_scan(site);
    gpu_site_hold(site, CARD, &(struct held){"rag-team/tune", "1", "H100-2-20C", .start = 0});
    gpu_site_hold(site, CARD, &(struct held){"rag-team/eval", "2", "H100-3-40C", .start = 4});
    gpu_site_hold(site, OTHER, &(struct held){"vision/train", "3", "passthrough"});
    gpu_tree_bind(site->tree, OTHER, "vfio-pci");
    gpu_site_scan(site);
    g_autofree char *refusal = refused(site, NULL, WANTS("{\"profile\": \"H100-4-40C\"}"), NULL);
    g_autofree char *expected = g_strdup_printf(
        "team/tune needs H100-4-40C: GPU " CARD " (H100 PCIe) on node %1$s has 20 GiB free: "
        "rag-team/tune holds slices 0-1 (H100-2-20C); GPU " OTHER " (H100 PCIe) on node %1$s is "
        "passed through: vision/train holds passthrough; free what is named of one of them, or "
        "take what fits now: H100-1-20C on GPU " CARD " (H100 PCIe) on node %1$s",
        g_get_host_name());
    g_assert_cmpstr(refusal, ==, expected);
    gpu_site_free(site);
}

/* What is known already is not written again with each scan. */
static void written_once(void)
{
    struct gpu_site *site = gpu_site_new("card " CARD " h100-pcie\n");
    g_autoptr(at_gpu_rec) before = gpu_site_rec(site, CARD);
    gpu_site_scan(site);
    g_autoptr(at_gpu_rec) after = gpu_site_rec(site, CARD);
    g_assert_cmpuint(after->profiles->len, ==, gpu_site_card(site, CARD)->profiles->len);
    g_assert_cmpuint(after->revision, ==, before->revision);
    gpu_site_free(site);
}

/* Nobody of the site has it: what is in the way is its driver. */
/* A card that is on record and not in its slot: also after a boot of the host. */
static void not_here_any_more(void)
{
    struct gpu_site *site = gpu_site_new(H100);
    gpu_tree_add(site->tree, "h100-pcie", OTHER, &(struct gpu_tree_options){.vfs = 4});
    gpu_site_scan(site);
    gpu_tree_remove(site->tree, "sys/bus/pci/devices/" OTHER);
    gpu_site_scan(site);
    const char *const *two = WANTS("{\"profile\": \"passthrough\", \"count\": 2}");
    assert_refused(site, NULL, two, "any more: " OTHER " (");
    assert_given(site, NULL, WANTS("{\"profile\": \"passthrough\"}"));
    g_autofree char *other =
        refused(site, NULL, WANTS("{\"profile\": \"passthrough\", \"model\": \"L4*\"}"), NULL);
    g_assert_null(strstr(other, OTHER));
    g_autofree char *large = refused(site, NULL, WANTS("{\"memory\": \"2000 GiB\"}"), NULL);
    g_assert_nonnull(strstr(large, OTHER)); /* how large it was is not known without the library */
    gpu_site_free(site);
}

static void bound_by_somebody(void)
{
    struct gpu_site *site = gpu_site_new("card " CARD " h100-pcie\n");
    gpu_tree_bind(site->tree, CARD, "vfio-pci");
    gpu_site_scan(site);
    g_assert_null(at_gpu_card_profile(gpu_site_card(site, CARD), "H100-4-40C"));
    gpu_site_free(site);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu-plan/own-instances-are-in-nobodys-way", own_instances);
    g_test_add_func("/gpu-plan/those-of-others-are", others_instances);
    g_test_add_func("/gpu-plan/only-the-workstations-that-are-meant-are-planned",
                    some_workstations);
    g_test_add_func("/gpu-plan/what-runs-on-a-sick-card-goes-on", goes_on);
    g_test_add_func("/gpu-plan/what-is-kept-of-a-sick-card-has-to-go-elsewhere",
                    kept_of_a_sick_card);
    for (size_t i = 0; i < G_N_ELEMENTS(quotas); i++) {
        g_autofree char *path = g_strconcat("/gpu-plan/quota-of-", quotas[i].name, NULL);
        g_test_add_data_func(path, &quotas[i], quota);
    }
    g_test_add_func("/gpu-plan/a-quota-counts-what-is-held-of-a-silent-card",
                    quota_of_a_silent_card);
    g_test_add_func("/gpu-plan/who-has-the-whole-card-is-named-for-its-parts", passed_through);
    g_test_add_func("/gpu-plan/a-refusal-reads-as-in-the-manual", refusal_of_the_manual);
    g_test_add_func("/gpu-plan/what-a-card-can-give-is-written-once", written_once);
    g_test_add_func("/gpu-plan/a-card-that-is-not-here-any-more-is-named", not_here_any_more);
    g_test_add_func("/gpu-plan/a-card-that-nobody-holds-says-what-it-is-now", bound_by_somebody);
    return g_test_run();
}
