/* SPDX-License-Identifier: Apache-2.0 */
/* The inventory of GPUs: scans of the host, and the records that they are compared with. */
#include "core/gpu.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/job.h"
#include "gpu/discover.h"
#include "gpu/placement.h"

enum { SCAN = 1, SETTLE = 2 };

struct at_gpus {
    struct at_core *core;
    char *node, *sys, *dev, *proc;
    struct at_gpu_watch *watch; /* main thread */
    GMutex plan_lock;           /* see gpu.h */
    GMutex host_lock;           /* one scan or change of the host at a time; guards: */
    struct at_gpu_host host;
    struct at_nvml_faults *faults;
    char *nvml_why; /* why there is no NVML */
    GMutex lock;    /* guards all below; the innermost */
    GCond idle;
    GPtrArray *cards;
    unsigned todo; /* SCAN, SETTLE: for the thread that does them */
    bool busy;     /* there is one */
    bool closing;
};

const char *at_gpus_node(struct at_core *core)
{
    return core->gpus->node;
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

/* ---- comparing with the records ---- */

static void tell(struct at_core *core, const char *type, const at_gpu_rec *rec, const char *detail)
{
    JsonObject *data = json_object_new();
    json_object_set_string_member(data, "address", rec->address);
    at_json_set_str(data, "name", rec->name);
    at_json_set_str(data, "detail", detail);
    at_event_emit(core, type, rec->id, at_actor_daemon.user, data);
}

/* A card's own name counts; one that only its address names is the one that was there before. */
static at_gpu_rec *known_as(const GPtrArray *recs, const struct at_gpu_card *card, const char *node)
{
    for (unsigned i = 0; i < recs->len; i++) {
        at_gpu_rec *rec = recs->pdata[i];
        if (g_str_equal(rec->id, card->id))
            return rec;
    }
    for (unsigned i = 0; i < recs->len; i++) {
        at_gpu_rec *rec = recs->pdata[i];
        bool other_name = card->unknown || !g_str_has_prefix(rec->id, "GPU-");
        if (other_name && g_str_equal(rec->address, card->address) &&
            g_str_equal(rec->node, node) && rec->vendor == card->vendor &&
            rec->device == card->device)
            return rec;
    }
    return NULL;
}

static void replace(char **text, const char *with, bool *changed)
{
    if (g_strcmp0(*text, with) == 0)
        return;
    g_free(*text);
    *text = g_strdup(with);
    *changed = true;
}

static void remember_memory(struct at_gpu_card *card)
{
    for (unsigned i = 0; i < card->profiles->len; i++) {
        struct at_gpu_profile *p = card->profiles->pdata[i];
        if (p->kind == AT_GPU_PASSTHROUGH && p->memory == 0)
            p->memory = card->memory;
    }
}

/* What the card says of itself now is remembered; what it cannot say now is taken from memory. */
static bool merge(struct at_core *core, at_gpu_rec *rec, struct at_gpu_card *card)
{
    bool changed = false;
    if (!g_str_equal(rec->address, card->address)) {
        g_autofree char *detail = g_strdup_printf("moved from %s", rec->address);
        replace(&rec->address, card->address, &changed);
        tell(core, "gpu.moved", rec, detail);
    }
    if (!rec->present) {
        rec->present = changed = true;
        tell(core, "gpu.returned", rec, NULL);
    }
    if (card->unknown && rec->name) {
        g_free(card->name);
        card->name = g_strdup(rec->name);
        card->memory = card->memory ? card->memory : rec->memory;
        card->serial = card->serial ? card->serial : g_strdup(rec->serial);
        remember_memory(card);
        return changed;
    }
    replace(&rec->name, card->name, &changed);
    replace(&rec->vendor_name, card->vendor_name, &changed);
    if (card->serial)
        replace(&rec->serial, card->serial, &changed);
    if (card->memory && card->memory != rec->memory) {
        rec->memory = card->memory;
        changed = true;
    }
    return changed;
}

static at_gpu_rec *rec_for(struct at_core *core, const struct at_gpu_card *card)
{
    at_gpu_rec *rec = at_gpu_rec_new(card->id);
    rec->node = g_strdup(core->gpus->node);
    rec->address = g_strdup(card->address);
    rec->vendor = card->vendor;
    rec->device = card->device;
    rec->name = g_strdup(card->name);
    rec->vendor_name = g_strdup(card->vendor_name);
    rec->serial = g_strdup(card->serial);
    rec->memory = card->memory;
    rec->present = true;
    rec->first_seen = at_clock_rfc3339();
    return rec;
}

/* The card told its own name for the first time: its record moves there with all that is held. */
static void rename_rec(struct at_txn *txn, at_gpu_rec *rec, const char *id)
{
    at_gpu_rec_delete(txn, rec);
    g_free(rec->id);
    rec->id = g_strdup(id);
    rec->revision = AT_REVISION_NONE;
}

/* What is held is in nobody's way but through its holder, whom a refusal names. */
static void forget_obstacles(struct at_gpu_card *card)
{
    for (unsigned i = 0; !card->health.lost && i < card->profiles->len; i++) {
        const struct at_gpu_profile *p = card->profiles->pdata[i];
        g_clear_pointer(&card->obstacle[p->kind], g_free);
    }
}

/* Sizes can be mixed on a card only if that is switched on before its first vGPU, when nobody knows
 * yet what will be asked for: cards are used with vGPUs of one size. */
static void forget_mixing(struct at_gpu_card *card)
{
    card->mixes_sizes = false;
    for (unsigned i = 0; i < card->profiles->len; i++)
        ((struct at_gpu_profile *)card->profiles->pdata[i])->max_mixed = 0;
}

static void compare_card(struct at_core *core, struct at_txn *txn, struct at_gpu_card *card,
                         const GPtrArray *recs, GHashTable *seen)
{
    if (!at_gpu_id_valid(card->id)) {
        g_free(card->id);
        card->id = g_strdup_printf("PCI-%04x-%04x-%s", card->vendor, card->device, card->address);
    }
    forget_mixing(card);
    at_gpu_rec *rec = known_as(recs, card, core->gpus->node);
    if (!rec || !g_hash_table_add(seen, rec)) {
        g_autoptr(at_gpu_rec) fresh = rec_for(core, card);
        at_gpu_rec_put(txn, fresh);
        tell(core, "gpu.added", fresh, NULL);
        return;
    }
    bool renamed = false;
    if (rec->holds->len)
        forget_obstacles(card);
    if (!g_str_equal(rec->id, card->id) && g_str_has_prefix(rec->id, "PCI-") && !card->unknown) {
        rename_rec(txn, rec, card->id);
        renamed = true;
    } else if (!g_str_equal(rec->id, card->id)) {
        g_free(card->id);
        card->id = g_strdup(rec->id);
    }
    if (merge(core, rec, card) || renamed)
        at_gpu_rec_put(txn, rec);
}

static bool compare(struct at_core *core, GPtrArray *cards, GError **error)
{
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, error);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    if (!recs)
        return false;
    struct at_txn *txn = at_txn_new(core->catalog);
    for (unsigned i = 0; i < cards->len; i++)
        compare_card(core, txn, cards->pdata[i], recs, seen);
    for (unsigned i = 0; i < recs->len; i++) {
        at_gpu_rec *rec = recs->pdata[i];
        if (!rec->present || !g_str_equal(rec->node, core->gpus->node) ||
            g_hash_table_contains(seen, rec))
            continue;
        rec->present = false;
        at_gpu_rec_put(txn, rec);
        tell(core, "gpu.lost", rec, "it is not in this host any more");
    }
    return at_txn_commit(txn, NULL, error);
}

/* ---- scanning ---- */

static void fault_met(const char *address, unsigned xid, bool lost, void *user);

/* With the lock of the host held. A library that was not there is asked for again: its driver may
 * have been loaded meanwhile. */
static void open_nvml(struct at_gpus *g)
{
    g_autoptr(GError) error = NULL;
    if (g->host.nvml)
        return;
    g->host.nvml = at_nvml_open(g_getenv("ATOLL_NVML"), &error);
    g_free(g->nvml_why);
    g->nvml_why = g->host.nvml ? NULL : g_strdup(error->message);
    if (g->host.nvml)
        g->faults = at_nvml_faults_new(g->host.nvml, fault_met, g->core, NULL);
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

bool at_gpus_scan(struct at_core *core, GError **error)
{
    struct at_gpus *g = core->gpus;
    enum { TRIES = 5 };
    bool ok = false;
    g_mutex_lock(&g->host_lock);
    open_nvml(g);
    for (unsigned tries = 1;; tries++) {
        g_autoptr(GError) local = NULL;
        g_autoptr(GPtrArray) cards =
            at_gpu_discover(&g->host.paths, g->host.nvml, g->nvml_why, &local);
        ok = cards && compare(core, cards, &local);
        if (ok) {
            at_gpu_cards_share((struct at_gpu_card *const *)cards->pdata, cards->len);
            g_mutex_lock(&g->lock);
            GPtrArray *before = g->cards;
            g->cards = g_ptr_array_ref(cards);
            g_mutex_unlock(&g->lock);
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
    return ok;
}

static void *later_thread(void *user)
{
    struct at_core *core = user;
    struct at_gpus *g = core->gpus;
    for (;;) {
        g_autoptr(GError) error = NULL;
        g_mutex_lock(&g->lock);
        unsigned todo = g->closing ? 0 : g->todo;
        g->todo = 0;
        if (!todo) {
            g->busy = false;
            g_cond_broadcast(&g->idle);
        }
        g_mutex_unlock(&g->lock);
        if (!todo)
            return NULL;
        if (todo & SETTLE)
            at_gpu_reconcile(core);
        if (todo & SCAN && !at_gpus_scan(core, &error))
            at_core_log("%s", error->message);
    }
}

static void later(struct at_core *core, unsigned what)
{
    struct at_gpus *g = core->gpus;
    g_mutex_lock(&g->lock);
    bool begin = !g->busy && !g->closing;
    g->todo |= what;
    g->busy |= begin;
    g_mutex_unlock(&g->lock);
    if (begin)
        g_thread_unref(g_thread_new("gpus", later_thread, core));
}

void at_gpus_scan_later(struct at_core *core)
{
    later(core, SCAN);
}

void at_gpu_reconcile_later(struct at_core *core)
{
    later(core, SETTLE);
}

static void host_changed(void *user)
{
    at_gpus_scan_later(user);
}

/* ---- faults ---- */

struct fault {
    struct at_core *core;
    char *address, *reason;
    unsigned xid;
    bool fatal;
};

static gboolean handle_fault(void *user)
{
    struct fault *f = user;
    g_autoptr(GPtrArray) cards = f->core->closing ? NULL : at_gpus_cards(f->core);
    for (unsigned i = 0; cards && i < cards->len; i++) {
        const struct at_gpu_card *card = cards->pdata[i];
        if (!g_str_equal(card->address, f->address))
            continue;
        if (f->fatal) {
            at_gpu_quarantine(f->core, card->id, f->reason);
        } else {
            JsonObject *data = json_object_new();
            json_object_set_string_member(data, "reason", f->reason);
            json_object_set_int_member(data, "xid", f->xid);
            at_event_emit(f->core, "gpu.error", card->id, at_actor_daemon.user, data);
        }
    }
    g_free(f->address);
    g_free(f->reason);
    g_free(f);
    return G_SOURCE_REMOVE;
}

static void fault_met(const char *address, unsigned xid, bool lost, void *user)
{
    struct fault *f = g_new0(struct fault, 1);
    const char *text = at_nvml_xid_text(xid, &f->fatal);
    f->core = user;
    f->address = g_strdup(address);
    f->xid = xid;
    f->fatal = f->fatal || lost;
    f->reason = lost ? g_strdup("it fell off the bus")
                     : g_strdup_printf("XID %u: %s", xid, text ? text : "unknown");
    at_core_later(f->core, handle_fault, f);
}

/* ---- opening and closing ---- */

static char *root_of(const char *name)
{
    const char *root = g_getenv("ATOLL_GPU_ROOT"); /* for tests: a tree in place of the host's */
    return root ? g_build_filename(root, name, NULL) : g_strconcat("/", name, NULL);
}

bool at_gpus_open(struct at_core *core, GError **error)
{
    struct at_gpus *g = g_new0(struct at_gpus, 1);
    g_autoptr(GError) local = NULL;
    core->gpus = g;
    g->core = core;
    g->node = g_strdup(g_get_host_name());
    g->sys = root_of("sys");
    g->dev = root_of("dev");
    g->proc = root_of("proc");
    g->host.paths = (struct at_gpu_paths){g->sys, g->dev, g->proc};
    g->host.sriov_manage = g_getenv("ATOLL_SRIOV_MANAGE");
    g->cards = g_ptr_array_new();
    if (!at_gpus_scan(core, error))
        return false;
    if (!(g->watch = at_gpu_watch_new(host_changed, core, &local)))
        at_core_log("changes of GPUs are seen on `atoll gpu rescan` only: %s", local->message);
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
    while (g->busy)
        g_cond_wait(&g->idle, &g->lock);
    g_mutex_unlock(&g->lock);
    g_mutex_lock(&g->host_lock);
    close_nvml(g);
    g_mutex_unlock(&g->host_lock);
    /* The object stays: a thread that is still ending may look at it. */
}

/* ---- the slow round ---- */

static bool is_ill(const struct at_gpu_card *card, const char **ret_reason)
{
    *ret_reason = card->health.lost ? "it fell off the bus"
                  : card->health.known & AT_GPU_KNOWS_ROWS && card->health.rows_failed
                      ? "its memory has rows that could not be replaced"
                      : NULL;
    return *ret_reason != NULL;
}

struct illness {
    struct at_core *core;
    char *id, *reason;
};

static gboolean handle_illness(void *user)
{
    struct illness *i = user;
    if (!i->core->closing)
        at_gpu_quarantine(i->core, i->id, i->reason);
    g_free(i->id);
    g_free(i->reason);
    g_free(i);
    return G_SOURCE_REMOVE;
}

static void tell_illness(struct at_core *core, const char *id, const char *reason)
{
    struct illness *ill = g_new(struct illness, 1);
    *ill = (struct illness){core, g_strdup(id), g_strdup(reason)};
    at_core_later(core, handle_illness, ill);
}

void at_gpus_look(struct at_core *core)
{
    g_autoptr(GPtrArray) before = at_gpus_cards(core);
    g_autoptr(GError) error = NULL;
    if (before->len == 0)
        return;
    /* A scan reads health as well. */
    if (!at_gpus_scan(core, &error)) {
        at_core_log("%s", error->message);
        return;
    }
    g_autoptr(GPtrArray) cards = at_gpus_cards(core);
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, NULL);
    for (unsigned i = 0; i < cards->len; i++) {
        const struct at_gpu_card *card = cards->pdata[i];
        const char *reason;
        if (is_ill(card, &reason))
            tell_illness(core, card->id, reason);
    }
    /* Whoever is still on a card that was taken out of use, for a job was at work. */
    for (unsigned i = 0; recs && i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        if (rec->quarantined && rec->holds->len)
            tell_illness(core, rec->id, rec->quarantined);
    }
}
