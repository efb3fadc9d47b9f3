/* SPDX-License-Identifier: Apache-2.0 */
/* GPUs in Prometheus' text format. All that is told of a card has the same labels, so that figures
 * can be joined with who holds it. */
#include <inttypes.h>

#include "core/gpu.h"
#include "core/metrics-internal.h"

void at_metrics_family(GString *out, const char *name, const char *type, const char *help)
{
    g_string_append_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Inside of quotes: backslash, quote and newline are escaped. */
static char *label(const char *text)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (const char *p = text ? text : ""; *p; p++) {
        if (*p == '\n')
            g_string_append(out, "\\n");
        else if (*p == '\\' || *p == '"')
            g_string_append_printf(out, "\\%c", *p);
        else
            g_string_append_c(out, *p);
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static char *gpu_labels(const at_gpu_rec *rec)
{
    g_autofree char *node = label(rec->node), *name = label(rec->name);
    return g_strdup_printf("node=\"%s\",gpu=\"%s\",address=\"%s\",name=\"%s\"", node, rec->id,
                           rec->address, name);
}

/* Of the first card that can say it: all of a host have the same driver. */
static void driver_info(GString *out, const GPtrArray *recs, const GPtrArray *cards)
{
    at_metrics_family(out, "atoll_gpu_driver_info", "gauge",
                      "NVIDIA's driver on the node, and why it is not known; always 1.");
    for (unsigned i = 0; i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        const struct at_gpu_card *card = at_gpus_find(cards, rec->id);
        if (!card || card->vendor != AT_GPU_VENDOR_NVIDIA)
            continue;
        g_autofree char *node = label(rec->node), *why = label(card->version_unknown);
        g_autofree char *driver = label(card->driver_version ? card->driver_version : "unknown");
        g_autofree char *cuda = label(card->cuda_version ? card->cuda_version : "unknown");
        g_string_append_printf(out,
                               "atoll_gpu_driver_info{node=\"%s\",driver_version=\"%s\","
                               "cuda_version=\"%s\",unknown=\"%s\"} 1\n",
                               node, driver, cuda, why);
        return;
    }
}

static void gpu_info(GString *out, const GPtrArray *recs, const GPtrArray *cards)
{
    at_metrics_family(out, "atoll_gpu_info", "gauge",
                      "A card of the inventory and its state; always 1.");
    for (unsigned i = 0; i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        const struct at_gpu_card *card = at_gpus_find(cards, rec->id);
        g_autofree char *labels = gpu_labels(rec);
        g_string_append_printf(out, "atoll_gpu_info{%s,state=\"%s\",driver=\"%s\"} 1\n", labels,
                               at_gpu_state(card, rec), card && card->driver ? card->driver : "");
    }
    at_metrics_family(out, "atoll_gpu_memory_bytes", "gauge", "Memory of the card.");
    for (unsigned i = 0; i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        g_autofree char *labels = gpu_labels(rec);
        if (rec->memory)
            g_string_append_printf(out, "atoll_gpu_memory_bytes{%s} %" PRIu64 "\n", labels,
                                   rec->memory);
    }
}

static void gpu_grants(GString *out, const GPtrArray *recs)
{
    at_metrics_family(
        out, "atoll_gpu_grant", "gauge",
        "A part of a card that a workstation holds; the value is its memory in bytes, 0 when it "
        "is not known.");
    for (unsigned i = 0; i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        g_autofree char *labels = gpu_labels(rec);
        for (unsigned k = 0; k < rec->holds->len; k++) {
            const struct at_gpu_hold_rec *h = rec->holds->pdata[k];
            g_autofree char *profile = label(h->profile->name);
            g_string_append_printf(
                out,
                "atoll_gpu_grant{%s,vdc=\"%s\",workstation=\"%s\",request=\"%u\",nth=\"%u\","
                "profile=\"%s\",isolation=\"%s\",attached=\"%s\"} %" PRIu64 "\n",
                labels, h->vdc, h->workstation, h->request, h->nth, profile,
                at_gpu_isolation_name(h->profile->isolation), h->attached ? "true" : "false",
                h->profile->memory);
        }
    }
}

struct value {
    const char *name, *type, *help;
    unsigned bit;
    double (*get)(const struct at_gpu_health *h);
};

static double temperature(const struct at_gpu_health *h)
{
    return h->temperature_c;
}
static double power(const struct at_gpu_health *h)
{
    return h->power_mw / 1000.0;
}
static double utilization(const struct at_gpu_health *h)
{
    return h->utilization_gpu / 100.0;
}
static double memory_used(const struct at_gpu_health *h)
{
    return (double)h->memory_used;
}
static double ecc_uncorrected(const struct at_gpu_health *h)
{
    return (double)h->ecc_uncorrected;
}
static double ecc_corrected(const struct at_gpu_health *h)
{
    return (double)h->ecc_corrected;
}
static double rows(const struct at_gpu_health *h)
{
    return h->rows_corrected + h->rows_uncorrected;
}

static double rows_pending(const struct at_gpu_health *h)
{
    return h->rows_pending;
}
static double rows_failed(const struct at_gpu_health *h)
{
    return h->rows_failed;
}

static const struct value values[] = {
    {"atoll_gpu_temperature_celsius", "gauge", "Temperature of the card.", AT_GPU_KNOWS_TEMPERATURE,
     temperature},
    {"atoll_gpu_power_watts", "gauge", "Power that the card draws.", AT_GPU_KNOWS_POWER, power},
    {"atoll_gpu_utilization_ratio", "gauge", "Part of the time in which something ran on it.",
     AT_GPU_KNOWS_UTILIZATION, utilization},
    {"atoll_gpu_memory_used_bytes", "gauge", "Memory of the card in use.", AT_GPU_KNOWS_MEMORY_USED,
     memory_used},
    {"atoll_gpu_ecc_corrected_total", "counter", "Memory errors that were corrected.",
     AT_GPU_KNOWS_ECC, ecc_corrected},
    {"atoll_gpu_ecc_uncorrected_total", "counter", "Memory errors that could not be corrected.",
     AT_GPU_KNOWS_ECC, ecc_uncorrected},
    {"atoll_gpu_remapped_rows", "gauge", "Rows of memory that were replaced.", AT_GPU_KNOWS_ROWS,
     rows},
    {"atoll_gpu_remapped_rows_pending", "gauge", "1 when rows are replaced at the next reset.",
     AT_GPU_KNOWS_ROWS, rows_pending},
    {"atoll_gpu_remapped_rows_failed", "gauge", "1 when rows could not be replaced.",
     AT_GPU_KNOWS_ROWS, rows_failed},
};

static void gpu_values(GString *out, const GPtrArray *recs, const GPtrArray *cards)
{
    for (unsigned v = 0; v < G_N_ELEMENTS(values); v++) {
        at_metrics_family(out, values[v].name, values[v].type, values[v].help);
        for (unsigned i = 0; i < recs->len; i++) {
            const at_gpu_rec *rec = recs->pdata[i];
            const struct at_gpu_card *card = at_gpus_find(cards, rec->id);
            char number[G_ASCII_DTOSTR_BUF_SIZE];
            g_autofree char *labels = gpu_labels(rec);
            if (!card || !(card->health.known & values[v].bit))
                continue;
            g_ascii_formatd(number, sizeof number, "%.15g", values[v].get(&card->health));
            g_string_append_printf(out, "%s{%s} %s\n", values[v].name, labels, number);
        }
    }
}

static bool can_report(const struct at_gpu_card *card, const char *kind)
{
    bool counts =
        !g_str_equal(kind, AT_GPU_FAULT_MEMORY) || (card && card->health.known & AT_GPU_KNOWS_ECC);
    return card && !card->unknown && counts;
}

/* Of cards that can report, also while there is nothing: a counter that begins at 1 hides its first
 * step from rate(). The kinds are a fixed set. */
static void gpu_faults(GString *out, const GPtrArray *recs, const GPtrArray *cards,
                       GHashTable *faults)
{
    at_metrics_family(out, "atoll_gpu_faults_total", "counter",
                      "Errors (XIDs, losses, errors of memory) that were heard of the card.");
    for (unsigned i = 0; i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        const struct at_gpu_card *card = at_gpus_find(cards, rec->id);
        g_auto(GStrv) kinds = at_gpu_fault_kinds(rec->vendor);
        g_autofree char *labels = gpu_labels(rec);
        for (unsigned k = 0; kinds[k]; k++) {
            uint64_t n = at_gpu_faults_heard(faults, rec->id, kinds[k]);
            if (n || can_report(card, kinds[k]))
                g_string_append_printf(out, "atoll_gpu_faults_total{%s,kind=\"%s\"} %" PRIu64 "\n",
                                       labels, kinds[k], n);
        }
    }
}

void at_metrics_gpus(GString *out, const GPtrArray *recs, const GPtrArray *cards,
                     GHashTable *faults)
{
    driver_info(out, recs, cards);
    gpu_info(out, recs, cards);
    gpu_grants(out, recs);
    gpu_values(out, recs, cards);
    gpu_faults(out, recs, cards, faults);
}
