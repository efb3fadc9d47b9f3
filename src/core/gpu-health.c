/* SPDX-License-Identifier: Apache-2.0 */
/* Cards that fail: errors that they report, and what a look at them shows. */
#include "base/error.h"
#include "base/json.h"
#include "core/gpu-internal.h"
#include "core/job.h"

/* ---- what they report ---- */

struct fault {
    struct at_core *core;
    char *address, *reason, *kind;
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
        if (!f->core->gpu_faults)
            f->core->gpu_faults = at_gpu_faults_new();
        at_gpu_faults_count(f->core->gpu_faults, card->id, f->kind);
        if (f->fatal) {
            at_gpu_quarantine(f->core, card->id, f->reason);
        } else {
            JsonObject *data = json_object_new();
            json_object_set_string_member(data, "reason", f->reason);
            json_object_set_string_member(data, "kind", f->kind);
            if (f->xid)
                json_object_set_int_member(data, "xid", f->xid);
            at_event_emit(f->core, "gpu.error", card->id, at_actor_daemon.user, data);
        }
    }
    g_free(f->address);
    g_free(f->reason);
    g_free(f->kind);
    g_free(f);
    return G_SOURCE_REMOVE;
}

void at_gpu_fault_met(const char *address, unsigned xid, bool lost, void *user)
{
    struct fault *f = g_new0(struct fault, 1);
    const char *text = at_nvml_xid_text(xid, &f->fatal);
    f->core = user;
    f->address = g_strdup(address);
    f->xid = xid;
    f->fatal = f->fatal || lost;
    f->kind = xid ? at_gpu_fault_kind_of_xid(xid) : g_strdup(AT_GPU_FAULT_LOST);
    f->reason = lost ? g_strdup("it fell off the bus")
                     : g_strdup_printf("XID %u: %s", xid, text ? text : "unknown");
    at_core_later(f->core, handle_fault, f);
}

/* ---- what is seen ---- */

static bool is_ill(const struct at_gpu_card *card, const char **ret_reason)
{
    bool rows = card->health.known & AT_GPU_KNOWS_ROWS && card->health.rows_failed;
    *ret_reason = card->health.lost ? "it fell off the bus"
                  : !rows           ? NULL
                  : card->vendor == AT_GPU_VENDOR_NVIDIA
                      ? "its memory has rows that could not be replaced"
                      : "its memory has bad pages that could not be retired";
    return *ret_reason != NULL;
}

static void tell_fault(struct at_core *core, const struct at_gpu_card *card, const char *kind,
                       char *reason)
{
    struct fault *f = g_new0(struct fault, 1);
    f->core = core;
    f->address = g_strdup(card->address);
    f->kind = g_strdup(kind);
    f->fatal = g_str_equal(kind, AT_GPU_FAULT_LOST);
    f->reason = reason;
    at_core_later(core, handle_fault, f);
}

/* Nobody calls when a card of another maker than NVIDIA has an error: it is lost since the last
 * scan, or the count of errors that were not corrected has grown. Who met one of these was told by
 * the driver, which resets the card when it must and retires the page; so the card stays in use, as
 * after an XID that is no fatal one. A count that has become smaller began anew with the driver. */
static void tell_new_errors(struct at_core *core, const struct at_gpu_card *before,
                            const struct at_gpu_card *card)
{
    const struct at_gpu_health *now = &card->health;
    if (card->vendor == AT_GPU_VENDOR_NVIDIA || !before)
        return;
    if (now->lost && !before->health.lost)
        tell_fault(core, card, AT_GPU_FAULT_LOST, g_strdup("it fell off the bus"));
    if (!(now->known & before->health.known & AT_GPU_KNOWS_ECC) ||
        now->ecc_uncorrected <= before->health.ecc_uncorrected)
        return;
    uint64_t more = now->ecc_uncorrected - before->health.ecc_uncorrected;
    tell_fault(core, card, AT_GPU_FAULT_MEMORY,
               g_strdup_printf("its memory had %" G_GUINT64_FORMAT
                               " more error%s that could not be corrected",
                               more, more == 1 ? "" : "s"));
}

void at_gpu_note_scan(struct at_core *core, const GPtrArray *before, const GPtrArray *cards)
{
    for (unsigned i = 0; i < cards->len; i++) {
        const struct at_gpu_card *card = cards->pdata[i];
        tell_new_errors(core, at_gpus_find(before, card->id), card);
    }
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
