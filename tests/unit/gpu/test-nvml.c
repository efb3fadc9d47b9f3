/* SPDX-License-Identifier: Apache-2.0 */
/* What NVML tells of cards, through its double; and all that it may fail to tell. */
#include <unistd.h>

#include "gpu/nvml-abi.h"
#include "nvml-fixture.h"

static const char *const health_keys =
    "temperature=63 power=301500 limit=350000 gpu=97 memory=41 used=40000 corrected=7 "
    "uncorrected=2 rows-corrected=3 rows-uncorrected=1 rows-pending=1 rows-failed=0";

static void test_fields(void)
{
    g_autofree char *text = g_strdup_printf(
        "host 0\ncard " CARD " h100-pcie uuid=GPU-6d0a2a5e serial=1652922001234 %s\n", health_keys);
    struct fixture f = begin(text);
    g_assert_cmpstr(at_nvml_driver_version(f.nvml), ==, "580.65.06");
    g_assert_cmpstr(at_nvml_cuda_version(f.nvml), ==, "13.0");
    f.card->unknown = g_strdup("not asked");
    g_ptr_array_add(f.card->profiles, at_gpu_profile_new("passthrough", AT_GPU_PASSTHROUGH));
    fill(&f);
    const struct at_gpu_card *c = f.card;
    g_assert_cmpstr(c->id, ==, "GPU-6d0a2a5e");
    g_assert_cmpstr(c->serial, ==, "1652922001234");
    g_assert_cmpstr(c->name, ==, "NVIDIA H100 PCIe");
    g_assert_cmpstr(c->architecture, ==, "Hopper");
    g_assert_cmpuint(c->memory, ==, MIB(81559));
    g_assert_null(c->unknown);
    g_assert_true(c->mig_capable);
    g_assert_false(c->mig_on || c->mig_pending);
    g_assert_cmpuint(c->grid_slices, ==, 8);
    g_assert_cmpuint(c->grid_compute, ==, 7);
    g_assert_cmpuint(c->profiles->len, ==, 1); /* without the host driver there are no vGPUs */

    const struct at_gpu_health *h = &c->health;
    g_assert_cmpuint(h->known, ==, 0x3f);
    g_assert_cmpint(h->temperature_c, ==, 63);
    g_assert_cmpuint(h->power_mw, ==, 301500);
    g_assert_cmpuint(h->power_limit_mw, ==, 350000);
    g_assert_cmpuint(h->utilization_gpu, ==, 97);
    g_assert_cmpuint(h->utilization_memory, ==, 41);
    g_assert_cmpuint(h->memory_used, ==, MIB(40000));
    g_assert_cmpuint(h->ecc_corrected, ==, 7);
    g_assert_cmpuint(h->ecc_uncorrected, ==, 2);
    g_assert_cmpuint(h->rows_corrected, ==, 3);
    g_assert_cmpuint(h->rows_uncorrected, ==, 1);
    g_assert_true(h->rows_pending);
    g_assert_false(h->rows_failed || h->lost);
    end(&f);
}

static void test_health_only(void)
{
    struct fixture f = begin("card " CARD " h100-pcie temperature=50\n");
    GError *error = NULL;
    g_assert_true(at_test_ok(at_nvml_read_health(f.nvml, f.card, &error), &error));
    g_assert_cmpint(f.card->health.temperature_c, ==, 50);
    g_assert_null(f.card->id);
    nvml_state_set(f.state, CARD, "temperature", "77");
    g_assert_true(at_test_ok(at_nvml_read_health(f.nvml, f.card, &error), &error));
    g_assert_cmpint(f.card->health.temperature_c, ==, 77);
    end(&f);
}

static void test_processes(void)
{
    struct fixture f = begin("card " CARD " h100-pcie\n");
    for (unsigned i = 0; i < 50; i++) /* more than a first guess has room for */
        nvml_state_add(f.state, "process " CARD " %u 1048576 -1 c", 4000000 + i);
    nvml_state_add(f.state, "process " CARD " %d 2097152 -1 c", getpid());
    nvml_state_add(f.state, "process " CARD " %d 18446744073709551615 -1 g", getpid());
    fill(&f);
    g_assert_cmpuint(f.card->processes->len, ==, 51);
    const struct at_gpu_process *mine = f.card->processes->pdata[50];
    g_assert_cmpuint(mine->pid, ==, getpid());
    g_assert_cmpuint(mine->memory, ==, 2097152);
    g_autofree char *comm = NULL;
    g_assert_true(g_file_get_contents("/proc/self/comm", &comm, NULL, NULL));
    g_assert_cmpstr(mine->name, ==, g_strstrip(comm));
    const struct at_gpu_process *gone = f.card->processes->pdata[0];
    g_assert_null(gone->name);
    end(&f);
}

static void test_vgpus(void)
{
    struct fixture f = begin("host 1\ncard " CARD " h100-pcie\n");
    g_ptr_array_add(f.card->profiles, at_gpu_profile_new("passthrough", AT_GPU_PASSTHROUGH));
    fill(&f);
    fill(&f); /* replaces, does not pile up */
    g_assert_cmpuint(f.card->profiles->len, ==, 15);
    g_assert_true(f.card->mixes_sizes);

    const struct at_gpu_profile *p = at_gpu_card_profile(f.card, "H100-3-40C");
    g_assert_nonnull(p);
    g_assert_cmpint(p->kind, ==, AT_GPU_MIG_VGPU);
    g_assert_cmpint(p->isolation, ==, AT_GPU_HARDWARE);
    g_assert_cmpuint(p->memory, ==, GIB(40));
    g_assert_cmpuint(p->type_id, ==, 1133);
    g_assert_cmpuint(p->max, ==, 2);
    g_assert_cmpuint(p->gi_profile, ==, 9);
    g_assert_cmpstr(p->gi_name, ==, "3g.40gb");
    g_assert_cmpuint(p->slices, ==, 4);
    g_assert_cmpuint(p->compute, ==, 3);
    g_assert_cmpuint(p->starts, ==, 0x11);
    g_assert_cmpuint(p->gi_max, ==, 2);
    g_assert_cmpuint(p->per_gi, ==, 1);
    g_assert_cmpuint(p->media, ==, 0);
    g_assert_cmpuint(at_gpu_card_profile(f.card, "H100-1-10CME")->media, !=, 0);
    g_assert_cmpuint(at_gpu_card_profile(f.card, "H100-1-20C")->starts, ==, 0x55);

    p = at_gpu_card_profile(f.card, "H100-16C");
    g_assert_cmpint(p->kind, ==, AT_GPU_VGPU);
    g_assert_cmpint(p->isolation, ==, AT_GPU_SHARED);
    g_assert_cmpuint(p->max, ==, 5);
    g_assert_cmpuint(p->max_mixed, ==, 4);
    g_assert_cmpuint(p->slices, ==, 0);
    end(&f);
}

static void test_shared_instances(void)
{
    struct fixture f = begin("host 1\ncard " CARD " rtx6000\n");
    fill(&f);
    g_assert_cmpuint(f.card->grid_slices, ==, 12);
    g_assert_cmpuint(f.card->grid_compute, ==, 4);
    const struct at_gpu_profile *p = at_gpu_card_profile(f.card, "RTX Pro 6000 Blackwell DC-1-8Q");
    g_assert_nonnull(p);
    g_assert_cmpstr(p->gi_name, ==, "1g.24gb+gfx");
    g_assert_cmpuint(p->per_gi, ==, 3);
    g_assert_cmpint(p->isolation, ==, AT_GPU_SHARED);
    g_assert_cmpuint(p->starts, ==, 0x249);
    p = at_gpu_card_profile(f.card, "RTX Pro 6000 Blackwell DC-2-48Q");
    g_assert_cmpint(p->isolation, ==, AT_GPU_HARDWARE);
    g_assert_cmpuint(p->slices, ==, 6);
    for (unsigned i = 0; i < f.card->profiles->len; i++) {
        p = f.card->profiles->pdata[i];
        g_assert_true(p->kind == AT_GPU_VGPU || g_str_has_suffix(p->gi_name, "+gfx"));
    }
    end(&f);
}

static const struct {
    const char *board;
    unsigned slices, compute;
    const char *architecture, *type, *gi_name;
} grids[] = {
    {"a100-40", 8, 7, "Ampere", "A100-1-5CME", "1g.5gb+me"},
    {"a100-80", 8, 7, "Ampere", "A100D-7-80C", "7g.80gb"},
    {"h200-sxm", 8, 7, "Hopper", "H200X-1-35C", "1g.35gb"},
    {"a30", 4, 4, "Ampere", "A30-2-12CME", "2g.12gb+me"},
    {"l40s", 0, 0, "Ada Lovelace", "L40S-48Q", NULL},
    {"t4", 0, 0, "Turing", "T4-16Q", NULL},
};

static void test_boards(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(grids); i++) {
        g_autofree char *text = g_strdup_printf("host 1\ncard " CARD " %s\n", grids[i].board);
        struct fixture f = begin(text);
        fill(&f);
        g_assert_cmpuint(f.card->grid_slices, ==, grids[i].slices);
        g_assert_cmpuint(f.card->grid_compute, ==, grids[i].compute);
        g_assert_cmpstr(f.card->architecture, ==, grids[i].architecture);
        g_assert_cmpint(f.card->mig_capable, ==, grids[i].slices > 0);
        const struct at_gpu_profile *p = at_gpu_card_profile(f.card, grids[i].type);
        g_assert_nonnull(p);
        g_assert_cmpstr(p->gi_name, ==, grids[i].gi_name);
        end(&f);
    }
}

/* Old drivers do not name GPU instance profiles; the names are made as NVIDIA's tools make them. */
static void test_names_instances(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(grids); i++) {
        if (!grids[i].gi_name)
            continue;
        g_autofree char *text = g_strdup_printf(
            "host 1\ncard " CARD " %s\nfail nvmlDeviceGetGpuInstanceProfileInfoV 13 0 0\n",
            grids[i].board);
        struct fixture f = begin(text);
        fill(&f);
        const struct at_gpu_profile *p = at_gpu_card_profile(f.card, grids[i].type);
        g_assert_nonnull(p);
        g_assert_cmpstr(p->gi_name, ==, grids[i].gi_name);
        end(&f);
    }
}

static void test_unknown(void)
{
    struct fixture f = begin("card " CARD " t4\n");
    fill(&f);
    g_assert_cmpuint(f.card->health.known & AT_GPU_KNOWS_ROWS, ==, 0); /* Turing remaps none */
    g_assert_cmpuint(f.card->health.known & AT_GPU_KNOWS_UTILIZATION, !=, 0);
    end(&f);
    f = begin("card " CARD " h100-pcie mig=1\n");
    fill(&f);
    g_assert_true(f.card->mig_on);
    g_assert_cmpuint(f.card->health.known & AT_GPU_KNOWS_UTILIZATION, ==, 0);
    end(&f);
    f = begin("card " CARD " h100-pcie temperature=4000 gpu=255 used=999999\n");
    fill(&f);
    g_assert_cmpuint(f.card->health.known, ==,
                     AT_GPU_KNOWS_POWER | AT_GPU_KNOWS_ECC | AT_GPU_KNOWS_ROWS);
    end(&f);
}

static void test_absent(void)
{
    GError *error = NULL;
    g_assert_null(at_nvml_open("libnvidia-ml-absent.so.1", &error));
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "libnvidia-ml-absent.so.1");
    g_assert_null(at_nvml_open("libz.so.1", &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE); /* loads, or is not installed */
    g_clear_error(&error);
}

static void test_not_started(void)
{
    static const struct {
        int result, code;
        const char *part;
    } cases[] = {{9, AT_ERROR_UNAVAILABLE, "kernel driver is not loaded"},
                 {4, AT_ERROR_DENIED, "root"},
                 {12, AT_ERROR_UNAVAILABLE, "library that NVML needs"},
                 {999, AT_ERROR_IO, "999"}};
    GError *error = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *path = nvml_state_new(at_test_dir(), "card " CARD " t4\n");
        nvml_state_add(path, "fail nvmlInit_v2 %d 0 0", cases[i].result);
        g_assert_null(at_nvml_open(AT_NVML_DOUBLE, &error));
        assert_failed(&error, cases[i].code, cases[i].part);
    }
    g_assert_null(at_nvml_open(AT_NVML_MISMATCH, &error));
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "13.590.44.01");
}

static void test_old(void)
{
    GError *error = NULL;
    struct at_nvml *nvml = at_nvml_open(AT_NVML_OLD, &error);
    g_assert_no_error(error);
    g_assert_true(at_test_ok(at_nvml_answers(nvml, &error), &error));
    g_assert_null(at_nvml_driver_version(nvml));
    g_assert_null(at_nvml_cuda_version(nvml));
    struct at_gpu_card *card = at_gpu_card_new(CARD);
    card->id = g_strdup("PCI-10de-102d-" CARD);
    g_assert_true(at_test_ok(at_nvml_fill(nvml, card, &error), &error));
    g_assert_cmpstr(card->id, ==, "PCI-10de-102d-" CARD); /* it cannot tell another */
    g_assert_true(g_utf8_validate(card->name, -1, NULL));
    g_assert_null(strchr(card->name, '\x1b'));
    g_assert_cmpuint(card->memory, ==, GIB(12));
    g_assert_null(card->architecture);
    g_assert_false(card->mig_capable);
    g_assert_cmpuint(card->health.known, ==, AT_GPU_KNOWS_TEMPERATURE | AT_GPU_KNOWS_MEMORY_USED);
    bool pending;
    unsigned id;
    g_assert_false(at_nvml_set_mig(nvml, CARD, true, &pending, &error));
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "MIG");
    g_assert_false(at_nvml_instance_create(nvml, CARD, 9, 4, &id, &error));
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "MIG");
    g_assert_false(at_nvml_instance_destroy(nvml, CARD, 1, &error));
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "MIG");
    g_assert_false(at_nvml_set_mixed_sizes(nvml, CARD, true, &error));
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "vGPU");
    g_assert_null(at_nvml_faults_new(nvml, NULL, NULL, &error));
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "errors of cards");
    at_gpu_card_free(card);
    at_nvml_close(nvml);
}

static void test_not_seen(void)
{
    struct fixture f = begin("card 0000:42:00.0 t4\n");
    GError *error = NULL;
    f.card->id = g_strdup("PCI-1");
    f.card->health.known = AT_GPU_KNOWS_POWER;
    g_assert_false(at_nvml_fill(f.nvml, f.card, &error));
    assert_failed(&error, AT_ERROR_NOT_FOUND, CARD);
    g_assert_false(at_nvml_read_health(f.nvml, f.card, &error));
    assert_failed(&error, AT_ERROR_NOT_FOUND, CARD);
    g_assert_cmpstr(f.card->id, ==, "PCI-1");
    g_assert_cmpuint(f.card->health.known, ==, AT_GPU_KNOWS_POWER);
    static const char *const wrong[] = {"",
                                        "41",
                                        "0000:41:00",
                                        "0x00:41:00.0",
                                        "0000:41:00.9",
                                        "0000:41:00.0 ",
                                        "+000:41:00.0",
                                        "0000:141:00.0"};
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_free(f.card->address);
        f.card->address = g_strdup(wrong[i]);
        g_assert_false(at_nvml_fill(f.nvml, f.card, &error));
        assert_failed(&error, AT_ERROR_INVALID, "no address");
    }
    end(&f);
}

static void test_lost(void)
{
    struct fixture f = begin("host 1\ncard " CARD " h100-pcie\nprocess " CARD " 4000000 1 -1 c\n");
    fill(&f);
    g_autofree char *id = g_strdup(f.card->id);
    nvml_state_set(f.state, CARD, "lost", "1");
    fill(&f);
    g_assert_true(f.card->health.lost);
    g_assert_cmpuint(f.card->health.known, ==, 0);
    g_assert_cmpuint(f.card->processes->len, ==, 0);
    g_assert_cmpstr(f.card->id, ==, id);
    g_assert_cmpuint(f.card->profiles->len, ==, 14);
    nvml_state_set(f.state, CARD, "lost", "0");
    fill(&f);
    g_assert_false(f.card->health.lost);
    end(&f);
}

static void test_pause(void)
{
    struct fixture f = begin("card " CARD " h100-pcie\n");
    GError *error = NULL;
    g_assert_true(at_test_ok(at_nvml_answers(f.nvml, &error), &error));
    g_assert_true(at_test_ok(at_nvml_pause(f.nvml, &error), &error));
    g_assert_true(at_test_ok(at_nvml_pause(f.nvml, &error), &error));
    g_assert_false(at_nvml_answers(f.nvml, &error));
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "changes its driver");
    g_assert_false(at_nvml_fill(f.nvml, f.card, &error));
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "let go");
    at_nvml_resume(f.nvml);
    g_assert_false(at_nvml_read_health(f.nvml, f.card, &error));
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "let go");
    at_nvml_resume(f.nvml);
    nvml_state_add(f.state, "fail nvmlInit_v2 9 0 1");
    g_assert_false(at_nvml_fill(f.nvml, f.card, &error)); /* the driver went meanwhile */
    assert_failed(&error, AT_ERROR_UNAVAILABLE, "not loaded");
    fill(&f);
    g_assert_nonnull(f.card->id);
    end(&f);
}

#define FUNCTION_NAME(member, needed, name, older, arguments) name,
static const char *const functions[] = {NVML_FUNCTIONS(FUNCTION_NAME)};

/* What may be known although @function failed. */
static unsigned known_without(const char *function)
{
    unsigned known = 0x3f;
    if (g_str_equal(function, "nvmlDeviceGetPowerUsage"))
        known &= ~(unsigned)AT_GPU_KNOWS_POWER;
    if (g_str_equal(function, "nvmlDeviceGetUtilizationRates"))
        known &= ~(unsigned)AT_GPU_KNOWS_UTILIZATION;
    if (g_str_equal(function, "nvmlDeviceGetTotalEccErrors"))
        known &= ~(unsigned)AT_GPU_KNOWS_ECC;
    if (g_str_equal(function, "nvmlDeviceGetRemappedRows_v2"))
        known &= ~(unsigned)AT_GPU_KNOWS_ROWS; /* the older one fails with MIG instances */
    return known;                              /* the others have an older function beside them */
}

static void try_all(const char *function, int result)
{
    const char *path =
        nvml_state_new(at_test_dir(), "host 1\ncard " CARD " h100-pcie mig=1\ngi " CARD
                                      " 1 9 4\nci " CARD " 1 0 2\n");
    nvml_state_add(path, "fail %s %d 0 0", function, result);
    GError *error = NULL;
    struct at_nvml *nvml = at_nvml_open(AT_NVML_DOUBLE, &error);
    if (!nvml) {
        g_assert_cmpstr(function, ==, "nvmlInit_v2");
        g_clear_error(&error);
        return;
    }
    struct at_gpu_card *card = at_gpu_card_new(CARD);
    if (at_nvml_fill(nvml, card, &error)) {
        unsigned known = known_without(function) & ~(unsigned)AT_GPU_KNOWS_UTILIZATION;
        if (!card->health.lost)
            g_assert_cmpuint(card->health.known, ==, known);
        for (unsigned i = 0; i < card->profiles->len; i++) {
            const struct at_gpu_profile *p = card->profiles->pdata[i];
            g_assert_true(p->kind == AT_GPU_VGPU || (p->slices && p->starts && p->gi_name));
        }
    } else {
        g_assert_cmpstr(function, ==, "nvmlDeviceGetHandleByPciBusId_v2");
        g_assert_null(card->id);
        g_clear_error(&error);
    }
    unsigned id = 0;
    if (!at_nvml_instance_create(nvml, CARD, 19, 0, &id, &error))
        g_assert_nonnull(error);
    g_clear_error(&error);
    g_assert_cmpuint(nvml_state_count(path, "gi "), ==, nvml_state_count(path, "ci "));
    if (!at_nvml_instance_destroy(nvml, CARD, 1, &error))
        g_assert_nonnull(error);
    g_clear_error(&error);
    bool pending;
    if (!at_nvml_set_mig(nvml, CARD, false, &pending, &error))
        g_assert_nonnull(error);
    g_clear_error(&error);
    if (!at_nvml_set_mixed_sizes(nvml, CARD, true, &error))
        g_assert_nonnull(error);
    g_clear_error(&error);
    at_gpu_card_free(card);
    at_nvml_close(nvml);
}

static void test_failing(void)
{
    static const int results[] = {1, 2, 3, 7, 15, 19, 25, 999};
    for (unsigned i = 0; i < G_N_ELEMENTS(functions); i++) {
        for (unsigned k = 0; k < G_N_ELEMENTS(results); k++)
            try_all(functions[i], results[k]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/nvml/reads-every-field-of-a-card", test_fields);
    g_test_add_func("/gpu/nvml/reads-the-health-alone", test_health_only);
    g_test_add_func("/gpu/nvml/lists-each-process-once", test_processes);
    g_test_add_func("/gpu/nvml/ties-vgpu-types-to-the-places-of-their-instances", test_vgpus);
    g_test_add_func("/gpu/nvml/calls-vgpus-of-one-instance-shared", test_shared_instances);
    g_test_add_func("/gpu/nvml/knows-the-grid-of-each-board", test_boards);
    g_test_add_func("/gpu/nvml/names-instances-that-an-old-driver-does-not", test_names_instances);
    g_test_add_func("/gpu/nvml/leaves-unknown-what-it-is-not-told", test_unknown);
    g_test_add_func("/gpu/nvml/says-that-the-library-is-absent", test_absent);
    g_test_add_func("/gpu/nvml/says-why-it-does-not-start", test_not_started);
    g_test_add_func("/gpu/nvml/makes-do-with-an-old-library", test_old);
    g_test_add_func("/gpu/nvml/keeps-a-card-that-it-does-not-see-as-it-was", test_not_seen);
    g_test_add_func("/gpu/nvml/tells-that-a-card-is-lost", test_lost);
    g_test_add_func("/gpu/nvml/lets-go-of-the-cards-while-it-is-paused", test_pause);
    g_test_add_func("/gpu/nvml/survives-the-failure-of-every-function", test_failing);
    return g_test_run();
}
