/* SPDX-License-Identifier: Apache-2.0 */
/* The inventory of GPUs: scans of the host, and the records that they are compared with. */
#include "core/gpu-internal.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/job.h"
#include "gpu/discover.h"
#include "gpu/placement.h"

enum { SCAN = 1, SETTLE = 2 };
enum { FIRST_SCAN_MS = 20000, FIRST_SETTLE_MS = 30000, CLOSE_MS = 15000 };

struct at_gpus {
    struct at_core *core;
    char *node, *sys, *dev, *proc;
    enum at_gpu_isolation weakest;
    struct at_gpu_watch *watch; /* main thread */
    GMutex plan_lock;           /* see gpu.h */
    GMutex host_lock;           /* one scan or change of the host at a time; guards: */
    struct at_gpu_host host;
    struct at_nvml_faults *faults;
    char *nvml_why; /* why there is no NVML */
    char *deaf_why; /* why errors of cards are not heard, or NULL */
    GMutex lock;    /* guards all below; the innermost */
    GCond idle;
    GPtrArray *cards;
    bool detached;   /* something was taken back since the last scan */
    unsigned wanted; /* SCAN, SETTLE: for the thread that does them */
    bool busy;       /* there is one */
    bool closing;
};

const char *at_gpus_node(struct at_core *core)
{
    return core->gpus->node;
}

enum at_gpu_isolation at_gpus_weakest(struct at_core *core)
{
    return core->gpus->weakest;
}

void at_gpus_plan_lock(struct at_core *core)
{
    g_mutex_lock(&core->gpus->plan_lock);
}

void at_gpus_plan_unlock(struct at_core *core)
{
    g_mutex_unlock(&core->gpus->plan_lock);
}

GPtrArray *at_gpus_cards(struct at_core *core)
{
    g_mutex_lock(&core->gpus->lock);
    GPtrArray *cards = g_ptr_array_ref(core->gpus->cards);
    g_mutex_unlock(&core->gpus->lock);
    return cards;
}

const struct at_gpu_card *at_gpus_find(const GPtrArray *cards, const char *id)
{
    for (unsigned i = 0; i < cards->len; i++) {
        const struct at_gpu_card *card = cards->pdata[i];
        if (g_str_equal(card->id, id))
            return card;
    }
    return NULL;
}

/* ---- scanning ---- */

/* Asked again when it did not work: cards that report errors may come back from guests. */
static void hear_faults(struct at_gpus *g)
{
    g_autoptr(GError) error = NULL;
    g->faults = at_nvml_faults_new(g->host.nvml, at_gpu_fault_met, g->core, &error);
    if (g_strcmp0(g->deaf_why, error ? error->message : NULL) == 0)
        return;
    g_free(g->deaf_why);
    g->deaf_why = error ? g_strdup(error->message) : NULL;
    if (error)
        at_core_log("errors that GPUs report are not heard: %s", error->message);
}

/* With the lock of the host held. A library that was not there is asked for again: its driver may
 * have been loaded meanwhile. */
static void open_nvml(struct at_gpus *g)
{
    g_autoptr(GError) error = NULL;
    if (!g->host.nvml) {
        g->host.nvml = at_nvml_open(g_getenv("ATOLL_NVML"), &error);
        g_free(g->nvml_why);
        g->nvml_why = g->host.nvml ? NULL : g_strdup(error->message);
    }
    if (g->host.nvml && !g->faults)
        hear_faults(g);
}

static void close_nvml(struct at_gpus *g)
{
    g_clear_pointer(&g->faults, at_nvml_faults_free);
    g_clear_pointer(&g->host.nvml, at_nvml_close);
}

const struct at_gpu_host *at_gpus_change_begin(struct at_core *core)
{
    struct at_gpus *g = core->gpus;
    g_mutex_lock(&g->host_lock);
    open_nvml(g);
    return &g->host;
}

void at_gpus_change_end(struct at_core *core)
{
    g_mutex_unlock(&core->gpus->host_lock);
}

void at_gpus_note_detached(struct at_core *core)
{
    g_mutex_lock(&core->gpus->lock);
    core->gpus->detached = true;
    g_mutex_unlock(&core->gpus->lock);
}

bool at_gpus_scan_is_due(struct at_core *core)
{
    g_mutex_lock(&core->gpus->lock);
    bool due = core->gpus->detached;
    g_mutex_unlock(&core->gpus->lock);
    return due;
}

static bool scan(struct at_core *core, bool if_due, GError **error)
{
    struct at_gpus *g = core->gpus;
    enum { TRIES = 5 };
    bool ok = false;
    g_mutex_lock(&g->host_lock);
    bool done = if_due && !at_gpus_scan_is_due(core);
    if (!done)
        open_nvml(g);
    for (unsigned tries = 1; !done; tries++) {
        g_autoptr(GError) local = NULL;
        g_autoptr(GPtrArray) cards =
            at_gpu_discover(&g->host.paths, g->host.nvml, g->nvml_why, &local);
        ok = cards && at_gpus_compare(core, cards, &local);
        if (ok) {
            at_gpu_cards_share((struct at_gpu_card *const *)cards->pdata, cards->len);
            g_mutex_lock(&g->lock);
            GPtrArray *before = g->cards;
            g->cards = g_ptr_array_ref(cards);
            g->detached = false;
            g_mutex_unlock(&g->lock);
            at_gpu_note_scan(core, before, cards);
            g_ptr_array_unref(before);
            break;
        }
        /* A grant came in between. */
        if (!g_error_matches(local, AT_ERROR, AT_ERROR_CONFLICT) || tries == TRIES) {
            g_propagate_prefixed_error(error, g_steal_pointer(&local), "GPUs: ");
            break;
        }
    }
    g_mutex_unlock(&g->host_lock);
    return ok || done;
}

bool at_gpus_scan(struct at_core *core, GError **error)
{
    return scan(core, false, error);
}

bool at_gpus_scan_if_due(struct at_core *core, GError **error)
{
    return scan(core, true, error);
}

static void *later_thread(void *user)
{
    struct at_core *core = user;
    struct at_gpus *g = core->gpus;
    for (;;) {
        g_autoptr(GError) error = NULL;
        g_mutex_lock(&g->lock);
        unsigned wanted = g->closing ? 0 : g->wanted;
        g->wanted = 0;
        if (!wanted) {
            g->busy = false;
            g_cond_broadcast(&g->idle);
        }
        g_mutex_unlock(&g->lock);
        if (!wanted)
            return NULL;
        if (wanted & SETTLE)
            at_gpu_reconcile(core);
        if (wanted & SCAN && !at_gpus_scan(core, &error))
            at_core_log("%s", error->message);
    }
}

static void later(struct at_core *core, unsigned what)
{
    struct at_gpus *g = core->gpus;
    g_mutex_lock(&g->lock);
    bool begin = !g->busy && !g->closing;
    g->wanted |= what;
    g->busy |= begin;
    g_mutex_unlock(&g->lock);
    if (begin)
        g_thread_unref(g_thread_new("gpus", later_thread, core));
}

static bool wait_idle(struct at_gpus *g, int timeout_ms)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    g_mutex_lock(&g->lock);
    while (g->busy && g_cond_wait_until(&g->idle, &g->lock, deadline))
        ;
    bool idle = !g->busy;
    g_mutex_unlock(&g->lock);
    return idle;
}

void at_gpus_scan_later(struct at_core *core)
{
    later(core, SCAN);
}

void at_gpu_reconcile_later(struct at_core *core)
{
    later(core, SETTLE);
}

void at_gpu_reconcile_first(struct at_core *core)
{
    later(core, SETTLE);
    if (!wait_idle(core->gpus, FIRST_SETTLE_MS))
        at_core_log(
            "GPUs that nobody uses any more are not given back within %d s; it goes on beside",
            FIRST_SETTLE_MS / 1000);
}

static void host_changed(void *user)
{
    at_gpus_scan_later(user);
}

/* ---- opening and closing ---- */

static char *root_of(const char *name)
{
    const char *root = g_getenv("ATOLL_GPU_ROOT"); /* for tests: a tree in place of the host's */
    return root ? g_build_filename(root, name, NULL) : g_strconcat("/", name, NULL);
}

bool at_gpus_open(struct at_core *core, const char *weakest, GError **error)
{
    struct at_gpus *g = g_new0(struct at_gpus, 1);
    g_autoptr(GError) local = NULL;
    core->gpus = g;
    if (weakest && !at_gpu_isolation_parse(weakest, &g->weakest))
        return at_error(error, AT_ERROR_INVALID, "\"%s\" is no isolation of GPUs", weakest);
    g->core = core;
    g->node = g_strdup(g_get_host_name());
    g->sys = root_of("sys");
    g->dev = root_of("dev");
    g->proc = root_of("proc");
    g->host.paths = (struct at_gpu_paths){g->sys, g->dev, g->proc};
    g->host.sriov_manage = g_getenv("ATOLL_SRIOV_MANAGE");
    g->cards = g_ptr_array_new();
    /* Before the first scan: what comes while that is at work would be missed otherwise. */
    if (!(g->watch = at_gpu_watch_new(host_changed, core, &local)))
        at_core_log("changes of GPUs are seen on `atoll gpu rescan` only: %s", local->message);
    /* A driver that is stuck does not keep the site from opening. */
    at_gpus_scan_later(core);
    if (!wait_idle(g, FIRST_SCAN_MS))
        at_core_log("the GPUs of this host do not answer within %d s; they are listed when they do",
                    FIRST_SCAN_MS / 1000);
    return true;
}

void at_gpus_close(struct at_core *core)
{
    struct at_gpus *g = core->gpus;
    if (!g)
        return;
    g_clear_pointer(&g->watch, at_gpu_watch_free);
    g_mutex_lock(&g->lock);
    g->closing = true;
    g_mutex_unlock(&g->lock);
    if (!wait_idle(g, CLOSE_MS))
        return; /* it is left to the end of the process */
    g_mutex_lock(&g->host_lock);
    close_nvml(g);
    g_mutex_unlock(&g->host_lock);
    /* The object stays: a thread that is still ending may look at it. */
}
