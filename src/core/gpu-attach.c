/* SPDX-License-Identifier: Apache-2.0 */
/* One hold of a card: changing its record, attaching and detaching it on this host. */
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "core/gpu-internal.h"
#include "core/job.h"

void at_gpu_which_clear(void *p)
{
    struct at_gpu_which *w = p;
    g_free(w->gpu);
    g_free(w->machine);
}

GArray *at_gpu_which_list(void)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_which));
    g_array_set_clear_func(list, at_gpu_which_clear);
    return list;
}

static void tell(struct at_core *core, const char *type, const at_gpu_rec *rec,
                 const struct at_gpu_hold_rec *hold, const char *reason)
{
    g_autofree char *holder = g_strdup_printf("%s/%s", hold->vdc, hold->workstation);
    JsonObject *data = json_object_new();
    json_object_set_string_member(data, "holder", holder);
    json_object_set_string_member(data, "profile", hold->profile->name);
    json_object_set_string_member(data, "isolation",
                                  at_gpu_isolation_name(hold->profile->isolation));
    json_object_set_string_member(data, "address", rec->address);
    if (reason)
        json_object_set_string_member(data, "reason", reason);
    at_event_emit(core, type, rec->id, at_actor_daemon.user, data);
}

/* ---- changing the record of a hold ---- */

struct hold_change {
    const struct at_gpu_which *which;
    at_gpu_hold_change change;
    const void *user;
    bool found;
};

static bool change_hold(at_gpu_rec *rec, void *user)
{
    struct hold_change *c = user;
    struct at_gpu_hold_rec *hold =
        at_gpu_rec_hold(rec, c->which->machine, c->which->request, c->which->nth);
    c->found = hold != NULL;
    if (hold)
        c->change(rec, hold, c->user);
    return hold != NULL;
}

bool at_gpu_hold_update(struct at_core *core, const struct at_gpu_which *which,
                        at_gpu_hold_change change, const void *user, GError **error)
{
    struct hold_change c = {which, change, user, false};
    if (!at_gpu_rec_update(core->catalog, which->gpu, change_hold, &c, error))
        return false;
    return c.found ||
           at_error(error, AT_ERROR_NOT_FOUND, "GPU %s is not held any more", which->gpu);
}

static void replace(char **text, const char *with)
{
    char *fresh = g_strdup(with);
    g_free(*text);
    *text = fresh;
}

static void set_attaching(at_gpu_rec *rec, struct at_gpu_hold_rec *hold, const void *user)
{
    hold->attached = true;
    if (!hold->uuid)
        hold->uuid = at_new_uuid();
}

static void set_chosen(at_gpu_rec *rec, struct at_gpu_hold_rec *hold, const void *user)
{
    const struct at_gpu_attachment *att = user;
    replace(&hold->function, att->function);
    replace(&hold->former_driver, att->former_driver);
    hold->instance = att->instance;
}

static void set_detached(at_gpu_rec *rec, struct at_gpu_hold_rec *hold, const void *user)
{
    at_gpu_rec_add_past(rec, hold, user);
    hold->attached = false;
    hold->instance = 0;
    g_clear_pointer(&hold->uuid, g_free);
    g_clear_pointer(&hold->function, g_free);
    g_clear_pointer(&hold->former_driver, g_free);
}

void at_gpu_hold_remove(at_gpu_rec *rec, struct at_gpu_hold_rec *hold, const void *user)
{
    g_ptr_array_remove(rec->holds, hold);
}

void at_gpu_hold_take(struct at_gpu_hold_rec *hold, const char *machine)
{
    replace(&hold->machine, machine);
}

void at_gpu_hold_give_up(at_gpu_rec *rec, struct at_gpu_hold_rec *hold, const void *user)
{
    at_gpu_hold_take(hold, AT_GPU_NOBODY);
}

/* ---- the host ---- */

static struct at_gpu_attachment attachment_of(const at_gpu_rec *rec,
                                              const struct at_gpu_hold_rec *hold)
{
    return (struct at_gpu_attachment){.address = rec->address,
                                      .profile = hold->profile,
                                      .start = hold->start,
                                      .uuid = hold->uuid,
                                      .function = g_strdup(hold->function),
                                      .instance = hold->instance,
                                      .mixed_sizes = rec->mixed,
                                      .former_driver = g_strdup(hold->former_driver)};
}

/* The VFs that other holds name, also those of whom nothing is attached yet; borrowed from @recs.
 */
static GPtrArray *named_by_others(const GPtrArray *recs, const struct at_gpu_which *which)
{
    GPtrArray *names = g_ptr_array_new();
    for (unsigned i = 0; i < recs->len; i++) {
        const at_gpu_rec *rec = recs->pdata[i];
        for (unsigned k = 0; k < rec->holds->len; k++) {
            const struct at_gpu_hold_rec *h = rec->holds->pdata[k];
            bool own = g_str_equal(h->machine, which->machine) && h->request == which->request &&
                       h->nth == which->nth;
            if (h->function && !own)
                g_ptr_array_add(names, h->function);
        }
    }
    g_ptr_array_add(names, NULL);
    return names;
}

struct chosen {
    struct at_core *core;
    const struct at_gpu_which *which;
};

static bool record_chosen(const struct at_gpu_attachment *att, void *user, GError **error)
{
    struct chosen *c = user;
    return at_gpu_hold_update(c->core, c->which, set_chosen, att, error);
}

bool at_gpu_attach_hold(struct at_core *core, const struct at_gpu_which *which,
                        GCancellable *cancellable, struct at_gpu_device *ret_device, GError **error)
{
    if (!at_gpu_hold_update(core, which, set_attaching, NULL, error))
        return false;
    g_autoptr(at_gpu_rec) rec = at_gpu_rec_load(core->catalog, which->gpu, error);
    struct at_gpu_hold_rec *hold =
        rec ? at_gpu_rec_hold(rec, which->machine, which->request, which->nth) : NULL;
    if (!hold)
        return rec != NULL && at_error(error, AT_ERROR_NOT_FOUND, "its grant is gone");
    struct chosen chosen = {core, which};
    struct at_gpu_attachment att = attachment_of(rec, hold);
    const struct at_gpu_host *host = at_gpus_change_begin(core);
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, error);
    g_autoptr(GPtrArray) others = recs ? named_by_others(recs, which) : NULL;
    att.others = others ? (const char *const *)others->pdata : NULL;
    bool ok = recs && at_fault_point("gpu.attach", error) &&
              at_gpu_attach(host, &att, record_chosen, &chosen, cancellable, ret_device, error);
    at_gpus_change_end(core);
    at_gpu_attachment_clear(&att);
    if (ok)
        tell(core, "gpu.attached", rec, hold, NULL);
    else
        g_prefix_error(error, "GPU %s (%s): ", rec->address, rec->name ? rec->name : "unknown");
    return ok;
}

/* The card is not in this host any more, and another one is where it was: what is there is not to
 * be touched for it, and of what was made on the card nothing is left. */
static bool is_replaced(const GPtrArray *recs, const at_gpu_rec *rec)
{
    for (unsigned i = 0; !rec->present && i < recs->len; i++) {
        const at_gpu_rec *other = recs->pdata[i];
        if (other->present && g_str_equal(other->node, rec->node) &&
            g_str_equal(other->address, rec->address))
            return true;
    }
    return false;
}

bool at_gpu_detach_hold(struct at_core *core, const struct at_gpu_which *which, GError **error)
{
    g_autoptr(at_gpu_rec) rec = at_gpu_rec_load(core->catalog, which->gpu, error);
    struct at_gpu_hold_rec *hold =
        rec ? at_gpu_rec_hold(rec, which->machine, which->request, which->nth) : NULL;
    if (!rec || !hold || !hold->attached)
        return rec != NULL;
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(core->catalog, error);
    if (!recs)
        return false;
    struct at_gpu_attachment att = attachment_of(rec, hold);
    const struct at_gpu_host *host = at_gpus_change_begin(core);
    bool ok = at_fault_point("gpu.detach", error) &&
              (is_replaced(recs, rec) || at_gpu_detach(host, &att, true, NULL, error));
    at_gpus_note_detached(core);
    at_gpus_change_end(core);
    at_gpu_attachment_clear(&att);
    if (!ok)
        return false;
    tell(core, "gpu.detached", rec, hold, att.cleared ? att.cleared : "the card is gone");
    return at_gpu_hold_update(core, which, set_detached, att.cleared, error);
}
