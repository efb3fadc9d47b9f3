/* SPDX-License-Identifier: Apache-2.0 */
/* What Prometheus reads of GPUs, line by line. */
#include <string.h>

#include "core/gpu.h"
#include "core/metrics-internal.h"

#define GIB(n) ((uint64_t)(n) << 30)
#define LABELS "node=\"lab\",gpu=\"GPU-1\",address=\"0000:41:00.0\",name=\"H100 \\\"PCIe\\\"\""

struct fixture {
    at_gpu_rec *rec;
    struct at_gpu_card *card;
    GPtrArray *recs, *cards;
    GHashTable *faults;
};

static void set_up(struct fixture *f, const void *user)
{
    f->rec = at_gpu_rec_new("GPU-1");
    f->rec->node = g_strdup("lab");
    f->rec->address = g_strdup("0000:41:00.0");
    f->rec->name = g_strdup("H100 \"PCIe\"");
    f->rec->memory = GIB(80);
    f->card = at_gpu_card_new("0000:41:00.0");
    f->card->id = g_strdup("GPU-1");
    f->card->vendor = AT_GPU_VENDOR_NVIDIA;
    f->card->driver = g_strdup("nvidia");
    f->recs = g_ptr_array_new();
    f->cards = g_ptr_array_new();
    f->rec->vendor = AT_GPU_VENDOR_NVIDIA;
    f->faults = at_gpu_faults_new();
    g_ptr_array_add(f->recs, f->rec);
    g_ptr_array_add(f->cards, f->card);
}

static void tear_down(struct fixture *f, const void *user)
{
    g_ptr_array_unref(f->recs);
    g_ptr_array_unref(f->cards);
    g_hash_table_unref(f->faults);
    at_gpu_rec_free(f->rec);
    at_gpu_card_free(f->card);
}

static void hold(struct fixture *f, const char *workstation, const char *profile, bool attached)
{
    struct at_gpu_hold_rec *h = at_gpu_hold_rec_new();
    h->machine = g_strdup("01234567");
    h->vdc = g_strdup("team");
    h->workstation = g_strdup(workstation);
    h->nth = f->rec->holds->len;
    h->profile = at_gpu_profile_new(profile, AT_GPU_MIG_VGPU);
    h->profile->isolation = AT_GPU_HARDWARE;
    h->profile->memory = GIB(20);
    h->attached = attached;
    g_ptr_array_add(f->rec->holds, h);
}

static char *text_of(struct fixture *f)
{
    GString *out = g_string_new(NULL);
    at_metrics_gpus(out, f->recs, f->cards, f->faults);
    return g_string_free(out, FALSE);
}

static void assert_line(const char *text, const char *line)
{
    g_autofree char *whole = g_strdup_printf("\n%s\n", line);
    if (!strstr(text, whole))
        g_error("no line %s in:\n%s", line, text);
}

/* A sample of the family; there is always its help. */
static bool has_sample(const char *text, const char *family)
{
    g_autofree char *begin = g_strdup_printf("\n%s{", family);
    return strstr(text, begin) != NULL;
}

static void grants(struct fixture *f, const void *user)
{
    hold(f, "tune", "H100-2-20C", true);
    hold(f, "eval", "H100-2-20C", false);
    g_autofree char *text = text_of(f);
    assert_line(text, "atoll_gpu_grant{" LABELS ",vdc=\"team\",workstation=\"tune\",request=\"0\","
                      "nth=\"0\",profile=\"H100-2-20C\",isolation=\"hardware\",attached=\"true\"} "
                      "21474836480");
    assert_line(text, "atoll_gpu_grant{" LABELS ",vdc=\"team\",workstation=\"eval\",request=\"0\","
                      "nth=\"1\",profile=\"H100-2-20C\",isolation=\"hardware\",attached=\"false\"} "
                      "21474836480");
    assert_line(text, "atoll_gpu_info{" LABELS ",state=\"used\",driver=\"nvidia\"} 1");
    assert_line(text, "atoll_gpu_memory_bytes{" LABELS "} 85899345920");
}

static void health(struct fixture *f, const void *user)
{
    f->card->health = (struct at_gpu_health){
        .known = AT_GPU_KNOWS_TEMPERATURE | AT_GPU_KNOWS_POWER | AT_GPU_KNOWS_UTILIZATION |
                 AT_GPU_KNOWS_MEMORY_USED | AT_GPU_KNOWS_ECC | AT_GPU_KNOWS_ROWS,
        .temperature_c = 45,
        .power_mw = 120500,
        .utilization_gpu = 97,
        .memory_used = GIB(30),
        .ecc_corrected = 7,
        .ecc_uncorrected = 2,
        .rows_corrected = 3,
        .rows_uncorrected = 1,
        .rows_pending = true,
    };
    g_autofree char *text = text_of(f);
    assert_line(text, "atoll_gpu_temperature_celsius{" LABELS "} 45");
    assert_line(text, "atoll_gpu_power_watts{" LABELS "} 120.5");
    assert_line(text, "atoll_gpu_utilization_ratio{" LABELS "} 0.97");
    assert_line(text, "atoll_gpu_memory_used_bytes{" LABELS "} 32212254720");
    assert_line(text, "atoll_gpu_ecc_corrected_total{" LABELS "} 7");
    assert_line(text, "atoll_gpu_ecc_uncorrected_total{" LABELS "} 2");
    assert_line(text, "atoll_gpu_remapped_rows{" LABELS "} 4");
    assert_line(text, "atoll_gpu_remapped_rows_pending{" LABELS "} 1");
    assert_line(text, "atoll_gpu_remapped_rows_failed{" LABELS "} 0");
}

static void unknown(struct fixture *f, const void *user)
{
    static const char *const families[] = {
        "atoll_gpu_temperature_celsius",   "atoll_gpu_power_watts",
        "atoll_gpu_utilization_ratio",     "atoll_gpu_memory_used_bytes",
        "atoll_gpu_ecc_uncorrected_total", "atoll_gpu_remapped_rows",
        "atoll_gpu_remapped_rows_pending", "atoll_gpu_remapped_rows_failed",
        "atoll_gpu_faults_total"};
    f->card->unknown = g_strdup("bound to vfio-pci");
    g_autofree char *text = text_of(f);
    for (unsigned i = 0; i < G_N_ELEMENTS(families); i++)
        g_assert_false(has_sample(text, families[i]));
    g_ptr_array_set_size(f->cards, 0);
    g_autofree char *absent = text_of(f);
    assert_line(absent, "atoll_gpu_info{" LABELS ",state=\"absent\",driver=\"\"} 1");
    g_assert_false(has_sample(absent, "atoll_gpu_driver_info"));
}

/* How many samples there are of faults. */
static unsigned n_faults(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "\natoll_gpu_faults_total{", -1);
    return g_strv_length(parts) - 1;
}

static void hear(struct fixture *f, unsigned xid)
{
    g_autofree char *kind = at_gpu_fault_kind_of_xid(xid);
    at_gpu_faults_count(f->faults, "GPU-1", kind);
}

static void faults(struct fixture *f, const void *user)
{
    g_autofree char *before = text_of(f);
    assert_line(before, "atoll_gpu_faults_total{" LABELS ",kind=\"xid-79\"} 0");
    assert_line(before, "atoll_gpu_faults_total{" LABELS ",kind=\"lost\"} 0");
    for (unsigned i = 0; i < 3; i++)
        hear(f, 79);
    hear(f, 31);
    at_gpu_faults_count(f->faults, "GPU-1", AT_GPU_FAULT_LOST);
    g_autofree char *after = text_of(f);
    assert_line(after, "atoll_gpu_faults_total{" LABELS ",kind=\"xid-79\"} 3");
    assert_line(after, "atoll_gpu_faults_total{" LABELS ",kind=\"xid-31\"} 1");
    assert_line(after, "atoll_gpu_faults_total{" LABELS ",kind=\"lost\"} 1");
    assert_line(after, "atoll_gpu_faults_total{" LABELS ",kind=\"xid-other\"} 0");
    g_assert_cmpuint(at_gpu_faults_heard(f->faults, "GPU-1", NULL), ==, 5);
    g_ptr_array_set_size(f->cards, 0); /* what was heard stays heard */
    g_autofree char *gone = text_of(f);
    assert_line(gone, "atoll_gpu_faults_total{" LABELS ",kind=\"xid-79\"} 3");
    g_assert_cmpuint(n_faults(gone), ==, 3);
}

/* A driver that makes up numbers makes no more series. */
static void kinds(struct fixture *f, const void *user)
{
    g_autofree char *before = text_of(f);
    for (unsigned xid = 1; xid < 1000; xid++)
        hear(f, xid);
    g_autofree char *after = text_of(f);
    g_assert_cmpuint(n_faults(after), ==, n_faults(before));
    g_assert_cmpuint(n_faults(after), <, 50);
    g_assert_cmpuint(at_gpu_faults_heard(f->faults, "GPU-1", NULL), ==, 999);
    g_assert_cmpuint(at_gpu_faults_heard(f->faults, "GPU-1", "xid-other"), >, 900);
}

static void faults_of_amd(struct fixture *f, const void *user)
{
    f->rec->vendor = f->card->vendor = AT_GPU_VENDOR_AMD;
    g_autofree char *blind = text_of(f);
    g_assert_cmpuint(n_faults(blind), ==, 1); /* it does not count, but can be lost */
    f->card->health.known = AT_GPU_KNOWS_ECC;
    g_autofree char *text = text_of(f);
    assert_line(text, "atoll_gpu_faults_total{" LABELS ",kind=\"memory\"} 0");
    g_assert_cmpuint(n_faults(text), ==, 2);
}

static void driver(struct fixture *f, const void *user)
{
    f->card->version_unknown = g_strdup("the \"library\" is old");
    g_autofree char *without = text_of(f);
    assert_line(without, "atoll_gpu_driver_info{node=\"lab\",driver_version=\"unknown\","
                         "cuda_version=\"unknown\",unknown=\"the \\\"library\\\" is old\"} 1");
    g_clear_pointer(&f->card->version_unknown, g_free);
    f->card->driver_version = g_strdup("580.65.06");
    f->card->cuda_version = g_strdup("13.0");
    g_autofree char *with = text_of(f);
    assert_line(with, "atoll_gpu_driver_info{node=\"lab\",driver_version=\"580.65.06\","
                      "cuda_version=\"13.0\",unknown=\"\"} 1");
    f->card->vendor = AT_GPU_VENDOR_AMD;
    g_autofree char *other = text_of(f);
    g_assert_false(has_sample(other, "atoll_gpu_driver_info"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func)                                                                            \
    g_test_add("/core/metrics-gpu/" name, struct fixture, NULL, set_up, func, tear_down)
    ADD("grants-have-the-labels-of-their-card", grants);
    ADD("what-a-card-says-of-itself-is-told", health);
    ADD("what-is-not-known-is-left-out", unknown);
    ADD("faults-are-counted-by-kind-from-nothing-on", faults);
    ADD("kinds-of-faults-are-a-fixed-set", kinds);
    ADD("faults-of-other-makers-are-those-that-are-seen", faults_of_amd);
    ADD("the-driver-is-told-or-why-it-is-unknown", driver);
    return g_test_run();
}
