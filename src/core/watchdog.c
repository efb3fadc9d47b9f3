/* SPDX-License-Identifier: Apache-2.0 */
/* The slow round: every 15 s, in a thread of its own, each VDC's network is compared with what it
 * should be (a dead dnsmasq is started again by a vdc-start job), console logs are kept small, and
 * damage that the image server has met is noted in the vault. */
#include "base/error.h"
#include "core/supervisor.h"
#include "core/vdc.h"
#include "qemu/console-log.h"
#include "vault/maintenance.h"

enum { PERIOD_S = 15, CONSOLE_MAX = 8 << 20 };

struct at_watchdog {
    struct at_core *core;
    unsigned timer;
    int busy; /* atomic: a round is under way */
};

struct finding {
    struct at_core *core;
    char *vdc;
};

static gboolean repair(void *user)
{
    struct finding *f = user;
    if (!f->core->closing) {
        /* CONFLICT: a job works on the VDC; the next round looks again. */
        g_autoptr(JsonNode) job = at_core_vdc_start(f->core, &at_actor_daemon, f->vdc, NULL, NULL);
    }
    g_free(f->vdc);
    g_free(f);
    return G_SOURCE_REMOVE;
}

/* True when all machines that want to run do: only then may a start job be sent, for it must not
 * start what somebody has just stopped. */
static bool settled(struct at_core *core, const GPtrArray *machines)
{
    for (unsigned i = 0; i < machines->len; i++) {
        const at_mach *m = machines->pdata[i];
        struct at_process process;
        if (!m->want_running || !at_machine_process(core, m->id, &process))
            return false;
    }
    return machines->len > 0;
}

static void look_at(struct at_core *core, const at_vdc *vdc)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) machines = at_vdc_machines(core, vdc->id, "active", NULL);
    for (unsigned i = 0; machines && i < machines->len; i++) {
        g_autofree char *dir = at_core_machine_dir(core, ((at_mach *)machines->pdata[i])->id);
        g_autofree char *path = g_build_filename(dir, "console.log", NULL);
        at_console_log_trim(path, CONSOLE_MAX, NULL);
        g_autofree char *log = g_build_filename(dir, "qemu.log", NULL);
        at_console_log_trim(log, CONSOLE_MAX, NULL);
    }
    if (!machines || at_job_scope_held(core, vdc->name, NULL) || !settled(core, machines) ||
        at_vdc_network_check(core, vdc, &error) || at_job_scope_held(core, vdc->name, NULL))
        return;
    at_core_log("VDC %s: network: %s; making it again", vdc->name, error->message);
    struct finding *f = g_new0(struct finding, 1);
    f->core = core;
    f->vdc = g_strdup(vdc->name);
    at_core_later(core, repair, f);
}

static void take_damage(struct at_core *core)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(core->state_dir, "nbd", "damage", NULL);
    unsigned found = 0;
    if (!at_vault_take_damage(core->vault, path, &found, &error))
        at_core_log("damage found by the image server: %s", error->message);
    else if (found)
        at_core_log("%u objects that machines have read are damaged; `atoll vault verify` names "
                    "the disks and snapshots they hit",
                    found);
}

static void *walk(void *user)
{
    struct at_watchdog *w = user;
    take_damage(w->core);
    g_autoptr(GPtrArray) vdcs = at_vdc_load_all(w->core->catalog, NULL);
    for (unsigned i = 0; vdcs && i < vdcs->len && !w->core->closing; i++)
        look_at(w->core, vdcs->pdata[i]);
    g_atomic_int_set(&w->busy, 0);
    return NULL;
}

static gboolean tick(void *user)
{
    struct at_watchdog *w = user;
    if (g_atomic_int_compare_and_exchange(&w->busy, 0, 1))
        g_thread_unref(g_thread_new("watchdog", walk, w));
    return G_SOURCE_CONTINUE;
}

void at_watchdog_start(struct at_core *core)
{
    core->watchdog = g_new0(struct at_watchdog, 1);
    core->watchdog->core = core;
    core->watchdog->timer = g_timeout_add_seconds(PERIOD_S, tick, core->watchdog);
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
    g_free(w);
    core->watchdog = NULL;
}
