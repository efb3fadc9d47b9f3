/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the site in Prometheus' text format (version 0.0.4). What is not known is left out.
 */
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "core/gpu.h"
#include "core/supervisor.h"
#include "core/vdc.h"

static void family(GString *out, const char *name, const char *type, const char *help)
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

/* ---- GPUs ---- */

static void gpu_info(GString *out, const GPtrArray *recs, const GPtrArray *cards)
{
    family(out, "atoll_gpu_info", "gauge", "A card of the inventory and its state; always 1.");
    for (unsigned i = 0; i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        const struct at_gpu_card *card = at_gpus_find(cards, rec->id);
        g_autofree char *labels = gpu_labels(rec);
        g_string_append_printf(out, "atoll_gpu_info{%s,state=\"%s\",driver=\"%s\"} 1\n", labels,
                               at_gpu_state(card, rec), card && card->driver ? card->driver : "");
    }
    family(out, "atoll_gpu_memory_bytes", "gauge", "Memory of the card.");
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
    family(out, "atoll_gpu_grant", "gauge",
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
};

static void gpu_values(GString *out, const GPtrArray *recs, const GPtrArray *cards)
{
    for (unsigned v = 0; v < G_N_ELEMENTS(values); v++) {
        family(out, values[v].name, values[v].type, values[v].help);
        for (unsigned i = 0; i < recs->len; i++) {
            const at_gpu_rec *rec = recs->pdata[i];
            const struct at_gpu_card *card = at_gpus_find(cards, rec->id);
            char number[G_ASCII_DTOSTR_BUF_SIZE];
            g_autofree char *labels = gpu_labels(rec);
            if (!card || !(card->health.known & values[v].bit))
                continue;
            g_ascii_dtostr(number, sizeof number, values[v].get(&card->health));
            g_string_append_printf(out, "%s{%s} %s\n", values[v].name, labels, number);
        }
    }
}

/* ---- workstations and the vault ---- */

static bool workstations(GString *out, struct at_core *core, GError **error)
{
    g_autoptr(GPtrArray) machines = at_mach_load_all(core->catalog, NULL, error);
    if (!machines)
        return false;
    family(out, "atoll_workstation_up", "gauge", "1 while the workstation runs.");
    for (unsigned i = 0; i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        struct at_machine_status status;
        if (!g_str_equal(m->state, "active"))
            continue;
        at_machine_status(core, m->id, &status);
        g_string_append_printf(
            out, "atoll_workstation_up{vdc=\"%s\",workstation=\"%s\",wanted=\"%s\"} %d\n", m->vdc,
            m->workstation, m->want_running ? "true" : "false",
            g_str_equal(status.state, "running"));
    }
    return true;
}

static bool vault(GString *out, struct at_core *core, GError **error)
{
    struct at_vault_stats stats;
    if (!at_vault_stats(core->vault, &stats, error))
        return false;
    family(out, "atoll_vault_stored_bytes", "gauge", "Bytes of the vault's packs.");
    g_string_append_printf(out, "atoll_vault_stored_bytes %" PRIu64 "\n", stats.stored_bytes);
    family(out, "atoll_vault_plain_bytes", "gauge", "Bytes of what is stored, once each.");
    g_string_append_printf(out, "atoll_vault_plain_bytes %" PRIu64 "\n", stats.plain_bytes);
    family(out, "atoll_vault_quarantined_chunks", "gauge", "Chunks that are damaged.");
    g_string_append_printf(out, "atoll_vault_quarantined_chunks %" PRIu64 "\n", stats.quarantined);
    return true;
}

char *at_core_metrics(struct at_core *core, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, error);
    if (!recs)
        return NULL;
    g_autoptr(GPtrArray) cards = at_gpus_cards(core);
    gpu_info(out, recs, cards);
    gpu_grants(out, recs);
    gpu_values(out, recs, cards);
    return workstations(out, core, error) && vault(out, core, error)
               ? g_string_free(g_steal_pointer(&out), FALSE)
               : NULL;
}
