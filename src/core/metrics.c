/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the site in Prometheus' text format (version 0.0.4). What is not known is left out.
 */
#include <inttypes.h>

#include "core/gpu.h"
#include "core/metrics-internal.h"
#include "core/supervisor.h"
#include "core/vdc.h"

/* ---- workstations and the vault ---- */

static bool workstations(GString *out, struct at_core *core, GError **error)
{
    g_autoptr(GPtrArray) machines = at_mach_load_all(core->catalog, NULL, error);
    if (!machines)
        return false;
    at_metrics_family(out, "atoll_workstation_up", "gauge", "1 while the workstation runs.");
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
    at_metrics_family(out, "atoll_vault_stored_bytes", "gauge", "Bytes of the vault's packs.");
    g_string_append_printf(out, "atoll_vault_stored_bytes %" PRIu64 "\n", stats.stored_bytes);
    at_metrics_family(out, "atoll_vault_plain_bytes", "gauge",
                      "Bytes of what is stored, once each.");
    g_string_append_printf(out, "atoll_vault_plain_bytes %" PRIu64 "\n", stats.plain_bytes);
    at_metrics_family(out, "atoll_vault_quarantined_chunks", "gauge", "Chunks that are damaged.");
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
    at_metrics_gpus(out, recs, cards, core->gpu_faults);
    return workstations(out, core, error) && vault(out, core, error)
               ? g_string_free(g_steal_pointer(&out), FALSE)
               : NULL;
}
