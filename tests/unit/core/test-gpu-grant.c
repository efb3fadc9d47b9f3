/* SPDX-License-Identifier: Apache-2.0 */
/* Grants: they are planned with what the cards can give now, a start that fails keeps nothing that
 * it was given, and one that has succeeded keeps what it wants to keep. */
#include <string.h>

#include "base/error.h"
#include "gpu-site.h"

#define H100 "card " CARD " h100-pcie mig=1\n"

struct team {
    at_vdc vdc;
    at_mach mach;
};

static struct team team_of(const char *wants)
{
    const char *const list[] = {wants, NULL};
    struct team team = {
        .vdc = {.name = (char *)"team", .id = (char *)"t", .def = gpu_site_def("team", NULL, list)},
        .mach = {.id = (char *)"89abcdef",
                 .vdc = (char *)"team",
                 .vdc_id = (char *)"t",
                 .workstation = (char *)"tune"},
    };
    return team;
}

static bool acquire(struct gpu_site *site, struct team *team, GError **error)
{
    g_autoptr(GArray) devices = NULL;
    return at_gpu_acquire(&site->core, &team->vdc, &team->mach, NULL, &devices, error);
}

/* In which instances the driver says that the vGPUs of the first two VFs are: files do not act. */
static void set_instances(struct gpu_site *site, const char *first, const char *second)
{
    gpu_tree_set(site->tree, gpu_tree_vf(site->tree, CARD, 0), "nvidia/gpu_instance_id", first);
    gpu_tree_set(site->tree, gpu_tree_vf(site->tree, CARD, 1), "nvidia/gpu_instance_id", second);
}

static unsigned n_held(struct gpu_site *site)
{
    g_autoptr(at_gpu_rec) rec = gpu_site_rec(site, CARD);
    return rec->holds->len;
}

/* "lab/x" has slices 0-3 and is stopped, "lab/y" goes on with the others. */
static struct gpu_site *two_of_lab(void)
{
    struct gpu_site *site = gpu_site_new(H100);
    gpu_site_hold(site, CARD,
                  &(struct held){"lab/x", "00000001", "H100-3-40C", .start = 0, .instance = 1});
    gpu_site_hold(site, CARD,
                  &(struct held){"lab/y", "00000002", "H100-3-40C", .start = 4, .instance = 2});
    gpu_site_scan(site);
    return site;
}

static void after_a_stop(void)
{
    struct gpu_site *site = two_of_lab();
    at_gpu_release(&site->core, "00000001", AT_GPU_RETURN);
    g_assert_cmpuint(n_held(site), ==, 1);
    g_assert_false(at_gpus_scan_is_due(&site->core));
    g_assert_cmpuint(gpu_site_card(site, CARD)->instances->len, ==, 1);
    gpu_site_free(site);
}

/* What it had is taken back, and what it asks for now goes to the same place. */
static void another_request(void)
{
    g_autoptr(GError) error = NULL;
    struct gpu_site *site = gpu_site_new(H100);
    struct team team = team_of("{\"profile\": \"H100-2-20C\", \"count\": 2}");
    gpu_site_hold(site, CARD,
                  &(struct held){"team/tune", "89abcdef", "H100-3-40C", .start = 0, .instance = 1,
                                 .keep = true});
    gpu_site_hold(site, CARD,
                  &(struct held){"lab/y", "00000002", "H100-3-40C", .start = 4, .instance = 2});
    gpu_site_scan(site);
    acquire(site, &team, &error); /* in which instance the vGPU is, files cannot say */
    g_assert_nonnull(error);
    if (!strstr(error->message, "in which MIG instance"))
        g_error("%s", error->message);
    g_assert_cmpuint(n_held(site), ==, 1);
    at_definition_free(team.vdc.def);
    gpu_site_free(site);
}

static void failed_start(void)
{
    g_autoptr(GError) error = NULL;
    struct gpu_site *site = gpu_site_new("card " CARD " h100-pcie\n");
    struct team team = team_of("{\"profile\": \"passthrough\", \"hold\": true}");
    g_assert_false(acquire(site, &team, &error)); /* files are bound to no driver */
    g_assert_nonnull(error);
    g_assert_cmpuint(n_held(site), ==, 0);
    at_definition_free(team.vdc.def);
    gpu_site_free(site);
}

static void failed_start_of_what_is_kept(void)
{
    g_autoptr(GError) error = NULL;
    struct gpu_site *site = gpu_site_new("card " CARD " h100-pcie\n");
    struct team team = team_of("{\"profile\": \"passthrough\", \"hold\": true}");
    gpu_site_hold(site, CARD,
                  &(struct held){"team/tune", team.mach.id, "passthrough",
                                 "passthrough, held when stopped", .keep = true});
    g_assert_false(acquire(site, &team, &error));
    g_assert_cmpuint(n_held(site), ==, 1);
    at_definition_free(team.vdc.def);
    gpu_site_free(site);
}

static void started(void)
{
    g_autoptr(GError) error = NULL;
    struct gpu_site *site = gpu_site_new(H100);
    struct team team = team_of("{\"profile\": \"H100-2-20C\", \"hold\": true}, "
                               "{\"profile\": \"H100-2-20C\"}");
    set_instances(site, "5", "3");
    g_assert_true(at_test_ok(acquire(site, &team, &error), &error));
    at_gpu_release(&site->core, team.mach.id, AT_GPU_RETURN); /* QEMU did not start */
    g_assert_cmpuint(n_held(site), ==, 0);

    g_assert_true(at_test_ok(acquire(site, &team, &error), &error));
    at_gpu_note_started(&site->core, &team.vdc, &team.mach);
    at_gpu_release(&site->core, team.mach.id, AT_GPU_RETURN);
    g_assert_cmpuint(n_held(site), ==, 1);
    g_autoptr(at_gpu_rec) rec = gpu_site_rec(site, CARD);
    const struct at_gpu_hold_rec *h = rec->holds->pdata[0];
    g_assert_true(h->keep && !h->attached && h->request == 0);
    at_definition_free(team.vdc.def);
    gpu_site_free(site);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu-grant/what-was-given-back-can-be-planned-with-at-once", after_a_stop);
    g_test_add_func("/gpu-grant/what-was-taken-back-for-another-request-is-there-again",
                    another_request);
    g_test_add_func("/gpu-grant/a-first-start-that-fails-keeps-nothing", failed_start);
    g_test_add_func("/gpu-grant/a-later-one-that-fails-keeps-what-was-kept",
                    failed_start_of_what_is_kept);
    g_test_add_func("/gpu-grant/what-has-started-keeps-what-it-wants-to-keep", started);
    return g_test_run();
}
