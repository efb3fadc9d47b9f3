/* SPDX-License-Identifier: Apache-2.0 */
/* The slow round: every 15 s, in a thread of its own, each VDC's network is compared with what it
 * should be (a dead dnsmasq is started again by a vdc-start job), console logs are kept small, and
 * damage that the image server has met is noted in the vault, GPUs are looked at. A damaged index
 * of the vault is built again. */
#include "base/clock.h"
#include "base/error.h"
#include "core/backoff.h"
#include "core/gpu.h"
#include "core/restart.h"
#include "core/supervisor.h"
#include "core/vault-index.h"
#include "core/vdc.h"
#include "qemu/console-log.h"
#include "vault/maintenance.h"

enum {
    PERIOD_S = 15,
    CONSOLE_MAX = 8 << 20,
    REPAIR_FIRST_MS = PERIOD_S * 1000, /* between repairs of a network that does not mend */
    REPAIR_MAX_MS = 600 * 1000,
};

struct at_watchdog {
    struct at_core *core;
    unsigned timer;
    int busy; /* atomic: a round is under way */
    struct at_backoff index;
    GHashTable *broken; /* the round's: name of a VDC -> struct at_backoff of its network */
};

struct finding {
    struct at_core *core;
    char *vdc;
};

/* Names those that want to run: the job must not start what somebody has just stopped. */
static void start_wanted(struct at_core *core, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, name, NULL);
    g_autoptr(GPtrArray) machines = vdc ? at_vdc_machines(core, vdc->id, "active", NULL) : NULL;
    for (unsigned i = 0; machines && i < machines->len; i++) {
        at_mach *m = machines->pdata[i];
        if (m->want_running && at_vdc_workstation(vdc, m->workstation))
            g_ptr_array_add(names, m->workstation);
    }
    if (names->len == 0)
        return;
    g_ptr_array_add(names, NULL);
    g_autoptr(JsonNode) job =
        at_core_vdc_start(core, &at_actor_daemon, name, (const char *const *)names->pdata, &error);
    if (!job && at_error_classify(error) != AT_ERROR_CONFLICT)
        at_core_log("VDC %s: repair of its network: %s", name, error->message);
}

static gboolean repair(void *user)
{
    struct finding *f = user;
    /* A job works on the VDC: the next round looks again. */
    if (!f->core->closing && !at_job_scope_held(f->core, f->vdc, NULL)) {
        at_restart_settle(f->core);
        start_wanted(f->core, f->vdc);
    }
    g_free(f->vdc);
    g_free(f);
    return G_SOURCE_REMOVE;
}

static void keep_logs_small(struct at_core *core, const at_mach *mach)
{
    static const char *const names[] = {"console.log", "qemu.log"};
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(dir, names[i], NULL);
        at_console_log_trim(path, CONSOLE_MAX, NULL);
    }
}

static void check_network(struct at_watchdog *w, const char *name, const char *id)
{
    struct at_core *core = w->core;
    g_autoptr(GError) error = NULL;
    if (at_job_scope_held(core, name, NULL))
        return;
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, name, NULL);
    if (!vdc || !g_str_equal(vdc->id, id))
        return;
    if (at_vdc_network_check(core, vdc, &error)) {
        g_hash_table_remove(w->broken, name);
        return;
    }
    if (at_job_scope_held(core, name, NULL))
        return;
    struct at_backoff *backoff = g_hash_table_lookup(w->broken, name);
    if (!backoff) {
        backoff = g_new0(struct at_backoff, 1);
        g_hash_table_insert(w->broken, g_strdup(name), backoff);
    }
    if (!at_backoff_due(backoff, REPAIR_FIRST_MS, REPAIR_MAX_MS, at_clock_us()))
        return;
    at_core_log("VDC %s: network: %s; making it again", name, error->message);
    struct finding *f = g_new0(struct finding, 1);
    f->core = core;
    f->vdc = g_strdup(name);
    at_core_later(core, repair, f);
}

static void look_at(struct at_watchdog *w, const at_vdc *vdc)
{
    g_autoptr(GPtrArray) machines = at_vdc_machines(w->core, vdc->id, "active", NULL);
    bool wanted = false;
    for (unsigned i = 0; machines && i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        keep_logs_small(w->core, m);
        wanted |= m->want_running;
    }
    if (wanted)
        check_network(w, vdc->name, vdc->id);
    else
        g_hash_table_remove(w->broken, vdc->name);
}

static void take_damage(struct at_core *core)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(core->state_dir, "nbd", "damage", NULL);
    struct at_verify_report *report = NULL;
    if (!at_vault_take_damage(core->vault, path, &report, &error))
        at_core_log("damage found by the image server: %s", error->message);
    else if (report)
        at_verify_tell(core, report->problems);
    at_verify_report_free(report);
}

static void *walk(void *user)
{
    struct at_watchdog *w = user;
    take_damage(w->core);
    at_gpus_look(w->core);
    at_gpu_reconcile(w->core);
    g_autoptr(GPtrArray) vdcs = at_vdc_load_all(w->core->catalog, NULL);
    for (unsigned i = 0; vdcs && i < vdcs->len && !w->core->closing; i++)
        look_at(w, vdcs->pdata[i]);
    g_atomic_int_set(&w->busy, 0);
    return NULL;
}

static gboolean tick(void *user)
{
    struct at_watchdog *w = user;
    at_vault_index_mend(w->core, &w->index);
    if (g_atomic_int_compare_and_exchange(&w->busy, 0, 1))
        g_thread_unref(g_thread_new("watchdog", walk, w));
    return G_SOURCE_CONTINUE;
}

void at_watchdog_start(struct at_core *core)
{
    core->watchdog = g_new0(struct at_watchdog, 1);
    core->watchdog->core = core;
    core->watchdog->broken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    core->watchdog->timer = g_timeout_add_seconds(PERIOD_S, tick, core->watchdog);
    tick(core->watchdog);
}

/* A round that is under way is waited for: it uses the catalog. */
void at_watchdog_stop(struct at_core *core)
{
    struct at_watchdog *w = core->watchdog;
    if (!w)
        return;
    g_source_remove(w->timer);
    while (g_atomic_int_get(&w->busy))
        g_usleep(10000);
    g_hash_table_unref(w->broken);
    g_free(w);
    core->watchdog = NULL;
}
