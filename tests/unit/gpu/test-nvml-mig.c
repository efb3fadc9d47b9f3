/* SPDX-License-Identifier: Apache-2.0 */
/* MIG and the mixing of vGPU sizes, changed through NVML's double. */
#include "nvml-fixture.h"

enum { P_1G = 19, P_2G = 14, P_3G = 9, P_7G = 0 };

static void test_mode(void)
{
    struct fixture f = begin("card " CARD " h100-pcie\n");
    GError *error = NULL;
    bool pending = true;
    g_assert_true(at_test_ok(at_nvml_set_mig(f.nvml, CARD, true, &pending, &error), &error));
    g_assert_false(pending);
    fill(&f); /* handles of before the switch are invalid */
    g_assert_true(f.card->mig_on);
    g_assert_true(at_test_ok(at_nvml_set_mig(f.nvml, CARD, true, &pending, &error), &error));
    g_assert_true(at_test_ok(at_nvml_set_mig(f.nvml, CARD, false, &pending, &error), &error));
    fill(&f);
    g_assert_false(f.card->mig_on);
    end(&f);
    f = begin("card " CARD " l40s\n");
    g_assert_false(at_nvml_set_mig(f.nvml, CARD, true, &pending, &error));
    assert_failed(&error, AT_ERROR_INVALID, "no MIG");
    end(&f);
}

static void test_mode_pending(void)
{
    struct fixture f = begin("card " CARD " a100-80 guest=1\n");
    GError *error = NULL;
    bool pending = false;
    g_assert_true(at_test_ok(at_nvml_set_mig(f.nvml, CARD, true, &pending, &error), &error));
    g_assert_true(pending);
    fill(&f);
    g_assert_true(f.card->mig_pending);
    g_assert_false(f.card->mig_on);
    pending = false;
    g_assert_true(at_test_ok(at_nvml_set_mig(f.nvml, CARD, true, &pending, &error), &error));
    g_assert_true(pending);
    unsigned id;
    g_assert_false(at_nvml_instance_create(f.nvml, CARD, P_1G, 0, &id, &error));
    assert_failed(&error, AT_ERROR_INVALID, "until it is reset");
    g_assert_true(at_test_ok(at_nvml_set_mig(f.nvml, CARD, false, &pending, &error), &error));
    fill(&f);
    g_assert_false(f.card->mig_pending);
    end(&f);
}

static void test_mode_in_use(void)
{
    static const char *const boards[] = {"a100-80", "h100-pcie"};
    for (unsigned i = 0; i < G_N_ELEMENTS(boards); i++) {
        g_autofree char *text =
            g_strdup_printf("card " CARD " %s\nprocess " CARD " 4000001 1 -1 c\n", boards[i]);
        struct fixture f = begin(text);
        GError *error = NULL;
        bool pending;
        g_assert_false(at_nvml_set_mig(f.nvml, CARD, true, &pending, &error));
        assert_failed(&error, AT_ERROR_CONFLICT, "(4000001)");
        fill(&f); /* it does not change at the next reset either */
        g_assert_false(f.card->mig_on || f.card->mig_pending);
        end(&f);
    }
    struct fixture f = begin("card " CARD " h100-pcie mig=1\ngi " CARD " 1 9 4\n");
    GError *error = NULL;
    bool pending;
    g_assert_false(at_nvml_set_mig(f.nvml, CARD, false, &pending, &error));
    assert_failed(&error, AT_ERROR_CONFLICT, "has 1 GPU instances");
    end(&f);
}

static unsigned create(struct fixture *f, unsigned profile, unsigned start)
{
    GError *error = NULL;
    unsigned id = UINT_MAX;
    g_assert_true(
        at_test_ok(at_nvml_instance_create(f->nvml, CARD, profile, start, &id, &error), &error));
    return id;
}

static void test_instances(void)
{
    struct fixture f = begin("host 1\ncard " CARD " h100-pcie mig=1\n");
    for (unsigned i = 0; i < 4; i++)
        create(&f, P_1G, i);
    unsigned large = create(&f, P_3G, 4); /* which fits beside four small ones only there */
    fill(&f);
    g_assert_cmpuint(f.card->instances->len, ==, 5);
    const struct at_gpu_instance *last = f.card->instances->pdata[4];
    g_assert_cmpuint(last->id, ==, large);
    g_assert_cmpuint(last->gi_profile, ==, P_3G);
    g_assert_cmpuint(last->start, ==, 4);
    g_assert_cmpuint(last->slices, ==, 4);
    g_assert_cmpuint(last->compute_instances, ==, 1);
    g_assert_cmpuint(nvml_state_count(f.state, "ci " CARD " 1 0 2"), ==, 1); /* all 3 slices */
    end(&f);
}

static void test_neighbours(void)
{
    struct fixture f = begin("card " CARD " h100-pcie mig=1\n");
    GError *error = NULL;
    unsigned first = create(&f, P_1G, 0), second = create(&f, P_1G, 2);
    nvml_state_add(f.state, "process " CARD " 4000002 1 %u c", first);
    unsigned third = create(&f, P_3G, 4);
    g_assert_true(at_test_ok(at_nvml_instance_destroy(f.nvml, CARD, second, &error), &error));
    g_assert_true(at_test_ok(at_nvml_instance_destroy(f.nvml, CARD, third, &error), &error));
    g_autofree char *running = g_strdup_printf("ci " CARD " %u 0 0", first);
    g_assert_cmpuint(nvml_state_count(f.state, running), ==, 1);
    g_assert_cmpuint(nvml_state_count(f.state, "gi "), ==, 1);
    g_assert_false(at_nvml_instance_destroy(f.nvml, CARD, first, &error));
    assert_failed(&error, AT_ERROR_CONFLICT, "(4000002)");
    g_assert_cmpuint(nvml_state_count(f.state, running), ==, 1);
    g_assert_false(at_nvml_instance_destroy(f.nvml, CARD, second, &error));
    assert_failed(&error, AT_ERROR_NOT_FOUND, "no GPU instance");
    end(&f);
}

static void test_places(void)
{
    struct fixture f = begin("card " CARD " h100-pcie mig=1\n");
    GError *error = NULL;
    unsigned id = 77, taken = create(&f, P_3G, 4);
    g_autofree char *holder = g_strdup_printf("3g.40gb with id %u at 4", taken);
    g_assert_false(at_nvml_instance_create(f.nvml, CARD, P_2G, 4, &id, &error));
    assert_failed(&error, AT_ERROR_CONFLICT, holder);
    g_assert_false(at_nvml_instance_create(f.nvml, CARD, P_2G, 1, &id, &error));
    assert_failed(&error, AT_ERROR_INVALID, "0, 2, 4");
    g_assert_false(at_nvml_instance_create(f.nvml, CARD, P_2G, 400, &id, &error));
    assert_failed(&error, AT_ERROR_INVALID, "0, 2, 4");
    g_assert_false(at_nvml_instance_create(f.nvml, CARD, 1234, 0, &id, &error));
    assert_failed(&error, AT_ERROR_INVALID, "1234");
    create(&f, 20, 0); /* 1g+me, of which there can be one */
    g_assert_false(at_nvml_instance_create(f.nvml, CARD, 20, 1, &id, &error));
    assert_failed(&error, AT_ERROR_CONFLICT, "no more of this profile");
    g_assert_cmpuint(id, ==, 77);
    end(&f);
    f = begin("card " CARD " h100-pcie\n");
    g_assert_false(at_nvml_instance_create(f.nvml, CARD, P_2G, 0, &id, &error));
    assert_failed(&error, AT_ERROR_INVALID, "is off");
    g_assert_false(at_nvml_instance_destroy(f.nvml, CARD, 0, &error));
    assert_failed(&error, AT_ERROR_NOT_FOUND, "no GPU instance");
    end(&f);
}

static void test_undo(void)
{
    struct fixture f = begin("card " CARD " a30 mig=1\n"
                             "fail nvmlGpuInstanceCreateComputeInstance 23 0 1\n");
    GError *error = NULL;
    unsigned id = 77;
    g_assert_false(at_nvml_instance_create(f.nvml, CARD, 5, 2, &id, &error));
    assert_failed(&error, AT_ERROR_CONFLICT, "removed again");
    g_assert_cmpuint(nvml_state_count(f.state, "gi "), ==, 0);
    nvml_state_add(f.state, "fail nvmlGpuInstanceCreateComputeInstance 999 0 1");
    nvml_state_add(f.state, "fail nvmlGpuInstanceDestroy 19 0 1");
    g_assert_false(at_nvml_instance_create(f.nvml, CARD, 5, 2, &id, &error));
    assert_failed(&error, AT_ERROR_IO, "cannot be removed either");
    g_assert_cmpuint(id, ==, 77);
    g_assert_true(at_test_ok(at_nvml_instance_destroy(f.nvml, CARD, 2, &error), &error));
    g_assert_cmpuint(nvml_state_count(f.state, "gi "), ==, 0);
    end(&f);
}

/* Something holds the instance that NVML does not name: it keeps its compute. */
static void test_destroy_undo(void)
{
    struct fixture f = begin("card " CARD " a30 mig=1\n");
    GError *error = NULL;
    unsigned id = create(&f, 5, 0);
    nvml_state_add(f.state, "fail nvmlGpuInstanceDestroy 19 0 1");
    g_assert_false(at_nvml_instance_destroy(f.nvml, CARD, id, &error));
    assert_failed(&error, AT_ERROR_CONFLICT, "in use");
    g_assert_cmpuint(nvml_state_count(f.state, "ci "), ==, 1);
    end(&f);
}

static void test_sparse(void)
{
    struct fixture f = begin("card " CARD " a100-80 mig=1\ngi " CARD " 12 19 5\n"
                             "ci " CARD " 12 3 0\ngi " CARD " 5 14 0\nci " CARD " 5 2 0\n"
                             "ci " CARD " 5 6 0\n");
    GError *error = NULL;
    fill(&f);
    g_assert_cmpuint(f.card->instances->len, ==, 2);
    const struct at_gpu_instance *first = f.card->instances->pdata[0];
    g_assert_cmpuint(first->id, ==, 5);
    g_assert_cmpuint(first->compute_instances, ==, 2);
    g_assert_true(at_test_ok(at_nvml_instance_destroy(f.nvml, CARD, 5, &error), &error));
    g_assert_true(at_test_ok(at_nvml_instance_destroy(f.nvml, CARD, 12, &error), &error));
    g_assert_cmpuint(nvml_state_count(f.state, "ci "), ==, 0);
    end(&f);
}

static void test_mixed(void)
{
    struct fixture f = begin("host 1\ncard " CARD " l40s\nvgpu " CARD " 1147 -1\n");
    GError *error = NULL;
    g_assert_false(at_nvml_set_mixed_sizes(f.nvml, CARD, true, &error));
    assert_failed(&error, AT_ERROR_CONFLICT, "only while it has none");
    g_assert_true(at_test_ok(at_nvml_set_mixed_sizes(f.nvml, CARD, false, &error), &error));
    g_assert_cmpuint(nvml_state_remove(f.state, "vgpu "), ==, 1);
    g_assert_true(at_test_ok(at_nvml_set_mixed_sizes(f.nvml, CARD, true, &error), &error));
    g_assert_true(at_test_ok(at_nvml_set_mixed_sizes(f.nvml, CARD, true, &error), &error));
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(f.state, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "mixed=1"));
    end(&f);
    f = begin("host 1\ncard " CARD " t4\n");
    g_assert_false(at_nvml_set_mixed_sizes(f.nvml, CARD, true, &error));
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "cannot mix");
    end(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/nvml/mig/switches-the-mode", test_mode);
    g_test_add_func("/gpu/nvml/mig/says-that-the-mode-waits-for-a-reset", test_mode_pending);
    g_test_add_func("/gpu/nvml/mig/names-who-keeps-the-mode-from-changing", test_mode_in_use);
    g_test_add_func("/gpu/nvml/mig/makes-instances-where-it-is-told", test_instances);
    g_test_add_func("/gpu/nvml/mig/lets-neighbours-run-on", test_neighbours);
    g_test_add_func("/gpu/nvml/mig/names-the-holder-of-a-place", test_places);
    g_test_add_func("/gpu/nvml/mig/leaves-no-instance-without-compute", test_undo);
    g_test_add_func("/gpu/nvml/mig/gives-compute-back-to-an-instance-that-stays",
                    test_destroy_undo);
    g_test_add_func("/gpu/nvml/mig/finds-instances-with-sparse-ids", test_sparse);
    g_test_add_func("/gpu/nvml/vgpu/mixes-sizes-only-while-there-are-none", test_mixed);
    return g_test_run();
}
