/* SPDX-License-Identifier: Apache-2.0 */
/* What applying a definition over another would change: parts are paired by name. */
#include "wire/plan.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"

struct plan {
    GPtrArray *changes;
    const struct at_definition *before, *after;
    char **ret_pointer;
    GError **error;
};

static void change_free(void *data)
{
    struct at_change *change = data;
    g_free(change->what);
    g_free(change->detail);
    g_free(change->workstation);
    g_free(change);
}

G_GNUC_PRINTF(5, 6)
static struct at_change *add(struct plan *p, const char *action, const char *what, const char *name,
                             const char *fmt, ...)
{
    struct at_change *change = g_new0(struct at_change, 1);
    va_list ap;
    va_start(ap, fmt);
    change->detail = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    change->action = action;
    change->what = g_strdup_printf("%s %s", what, name);
    if (strcmp(what, "workstation") == 0)
        change->workstation = g_strdup(name);
    g_ptr_array_add(p->changes, change);
    return change;
}

G_GNUC_PRINTF(3, 4)
static bool refuse(struct plan *p, char *pointer, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (p->ret_pointer)
        *p->ret_pointer = pointer;
    else
        g_free(pointer);
    return at_error(p->error, AT_ERROR_CONFLICT, "%s", text);
}

/* Every named struct begins with its name. */
static void *by_name(const GPtrArray *items, const char *name)
{
    for (unsigned i = 0; i < items->len; i++) {
        if (strcmp(*(char **)items->pdata[i], name) == 0)
            return items->pdata[i];
    }
    return NULL;
}

static char *size_text(uint64_t size)
{
    return size ? at_size_format(size) : g_strdup("the size of its image");
}

static const char *image_text(const char *image)
{
    return image ? image : "none";
}

/* ---- networks ---- */

static bool uses_network(const struct at_def_workstation *ws, const char *network)
{
    for (unsigned i = 0; i < ws->nics->len; i++) {
        if (strcmp(((struct at_def_nic *)ws->nics->pdata[i])->network, network) == 0)
            return true;
    }
    return false;
}

static void plan_networks(struct plan *p)
{
    const GPtrArray *old = p->before->networks, *new = p->after->networks;
    for (unsigned i = 0; i < new->len; i++) {
        const struct at_def_network *net = new->pdata[i], *was = by_name(old, net->name);
        if (!was) {
            add(p, "create", "network", net->name, "%s%s", net->subnet, net->nat ? ", NAT" : "");
            continue;
        }
        if (strcmp(net->subnet, was->subnet) != 0) {
            add(p, "change", "network", net->name, "subnet %s -> %s", was->subnet, net->subnet);
            for (unsigned w = 0; w < p->before->workstations->len; w++) {
                const struct at_def_workstation *ws = p->before->workstations->pdata[w];
                if (by_name(p->after->workstations, ws->name) && uses_network(ws, net->name))
                    add(p, "change", "workstation", ws->name, "network %s has another subnet",
                        net->name)
                        ->needs_restart = true;
            }
        }
        if (net->nat != was->nat)
            add(p, "change", "network", net->name, "NAT %s", net->nat ? "on" : "off");
    }
    for (unsigned i = 0; i < old->len; i++) {
        const struct at_def_network *was = old->pdata[i];
        if (!by_name(new, was->name))
            add(p, "delete", "network", was->name, "%s", was->subnet);
    }
}

/* ---- volumes ---- */

static void touch_users(struct plan *p, const char *volume, const char *why)
{
    for (unsigned i = 0; i < p->after->workstations->len; i++) {
        const struct at_def_workstation *ws = p->after->workstations->pdata[i];
        const struct at_def_workstation *was = by_name(p->before->workstations, ws->name);
        if (was && g_strv_contains((const char *const *)was->volumes, volume) &&
            g_strv_contains((const char *const *)ws->volumes, volume))
            add(p, "change", "workstation", ws->name, "volume %s %s", volume, why)->needs_restart =
                true;
    }
}

static bool plan_volume(struct plan *p, unsigned index, const struct at_def_volume *vol,
                        const struct at_def_volume *was)
{
    if (vol->readonly && !was->readonly)
        return refuse(p, g_strdup_printf("/volumes/%u/readonly", index),
                      "volume %s has been written to; it cannot become read-only in place. Import "
                      "it as an image and use that, or give the volume another name",
                      vol->name);
    bool other_image = g_strcmp0(vol->image, was->image) != 0;
    if (other_image && !was->readonly)
        return refuse(p, g_strdup_printf("/volumes/%u/image", index),
                      "volume %s has content of its own; its image cannot change from %s to %s. "
                      "Give the volume another name to begin anew",
                      vol->name, image_text(was->image), image_text(vol->image));
    if (vol->size && was->size && vol->size < was->size && !other_image) {
        g_autofree char *from = at_size_format(was->size), *to = at_size_format(vol->size);
        return refuse(p, g_strdup_printf("/volumes/%u/size", index),
                      "volume %s has %s and cannot shrink to %s", vol->name, from, to);
    }
    if (other_image) {
        add(p, "change", "volume", vol->name, "image %s -> %s", image_text(was->image),
            image_text(vol->image));
        touch_users(p, vol->name, "has another image");
    }
    if (!vol->readonly && was->readonly) {
        add(p, "change", "volume", vol->name, "read-only -> writable");
        touch_users(p, vol->name, "becomes writable");
    }
    if (vol->size && vol->size != was->size) {
        g_autofree char *from = size_text(was->size), *to = at_size_format(vol->size);
        add(p, "change", "volume", vol->name, "size %s -> %s", from, to);
        touch_users(p, vol->name, "has another size");
    }
    return true;
}

static bool plan_volumes(struct plan *p)
{
    const GPtrArray *old = p->before->volumes, *new = p->after->volumes;
    for (unsigned i = 0; i < new->len; i++) {
        const struct at_def_volume *vol = new->pdata[i], *was = by_name(old, vol->name);
        g_autofree char *size = size_text(vol->size);
        if (!was)
            add(p, "create", "volume", vol->name, "%s, %s%s%s", size,
                vol->readonly ? "read-only" : "writable", vol->image ? ", from image " : ", empty",
                vol->image ? vol->image : "");
        else if (!plan_volume(p, i, vol, was))
            return false;
    }
    for (unsigned i = 0; i < old->len; i++) {
        const struct at_def_volume *was = old->pdata[i];
        if (by_name(new, was->name))
            continue;
        struct at_change *change =
            add(p, "delete", "volume", was->name, "%s",
                was->readonly ? "its image stays" : "what was written to it is deleted");
        change->deletes_data = !was->readonly;
    }
    return true;
}

/* ---- workstations ---- */

static bool plan_disks(struct plan *p, unsigned index, const struct at_def_workstation *ws,
                       const struct at_def_workstation *was)
{
    bool moved = false;
    for (unsigned i = 0; i < ws->disks->len; i++) {
        const struct at_def_disk *disk = ws->disks->pdata[i],
                                 *old = by_name(was->disks, disk->name);
        g_autofree char *size = size_text(disk->size);
        if (!old) {
            add(p, "create", "workstation", ws->name, "disk %s: %s, %s%s", disk->name, size,
                disk->image ? "from image " : "empty", disk->image ? disk->image : "")
                ->needs_restart = true;
            continue;
        }
        if (g_strcmp0(disk->image, old->image) != 0)
            return refuse(p, g_strdup_printf("/workstations/%u/disks/%u/image", index, i),
                          "workstation %s: disk %s has content of its own; its image cannot change "
                          "from %s to %s. Give the disk another name to begin anew (its data is "
                          "then deleted)",
                          ws->name, disk->name, image_text(old->image), image_text(disk->image));
        if (disk->size && old->size && disk->size < old->size) {
            g_autofree char *from = at_size_format(old->size);
            return refuse(p, g_strdup_printf("/workstations/%u/disks/%u/size", index, i),
                          "workstation %s: disk %s has %s and cannot shrink to %s", ws->name,
                          disk->name, from, size);
        }
        if (disk->size && disk->size != old->size) {
            g_autofree char *from = size_text(old->size);
            add(p, "change", "workstation", ws->name, "disk %s: %s -> %s", disk->name, from, size)
                ->needs_restart = true;
        }
        moved = moved || i >= was->disks->len || was->disks->pdata[i] != old;
    }
    for (unsigned i = 0; i < was->disks->len; i++) {
        const struct at_def_disk *old = was->disks->pdata[i];
        if (by_name(ws->disks, old->name))
            continue;
        struct at_change *change =
            add(p, "delete", "workstation", ws->name, "disk %s and all data on it", old->name);
        change->needs_restart = change->deletes_data = true;
        moved = false;
    }
    if (moved)
        add(p, "change", "workstation", ws->name, "order of the disks")->needs_restart = true;
    return true;
}

static void plan_nics(struct plan *p, const struct at_def_workstation *ws,
                      const struct at_def_workstation *was)
{
    unsigned n = MAX(ws->nics->len, was->nics->len);
    for (unsigned i = 0; i < n; i++) {
        const struct at_def_nic *nic = i < ws->nics->len ? ws->nics->pdata[i] : NULL;
        const struct at_def_nic *old = i < was->nics->len ? was->nics->pdata[i] : NULL;
        if (!old)
            add(p, "create", "workstation", ws->name, "nic %u: network %s, %s", i, nic->network,
                nic->address)
                ->needs_restart = true;
        else if (!nic)
            add(p, "delete", "workstation", ws->name, "nic %u: network %s, %s", i, old->network,
                old->address)
                ->needs_restart = true;
        else if (strcmp(nic->network, old->network) || strcmp(nic->address, old->address))
            add(p, "change", "workstation", ws->name, "nic %u: %s %s -> %s %s", i, old->network,
                old->address, nic->network, nic->address)
                ->needs_restart = true;
        else if (strcmp(nic->mac, old->mac) != 0)
            add(p, "change", "workstation", ws->name, "nic %u: MAC %s -> %s", i, old->mac, nic->mac)
                ->needs_restart = true;
    }
}

static bool attached(const struct at_definition *def, const char *volume)
{
    for (unsigned i = 0; i < def->workstations->len; i++) {
        const struct at_def_workstation *ws = def->workstations->pdata[i];
        if (g_strv_contains((const char *const *)ws->volumes, volume))
            return true;
    }
    return false;
}

static void plan_attached(struct plan *p, const struct at_def_workstation *ws,
                          const struct at_def_workstation *was)
{
    if (g_strv_equal((const char *const *)ws->volumes, (const char *const *)was->volumes))
        return;
    g_autofree char *from = g_strjoinv(", ", was->volumes), *to = g_strjoinv(", ", ws->volumes);
    add(p, "change", "workstation", ws->name, "volumes %s -> %s", *from ? from : "none",
        *to ? to : "none")
        ->needs_restart = true;
    /* What was written to a volume goes with it to another workstation, and nowhere else. */
    for (char **name = was->volumes; *name; name++) {
        const struct at_def_volume *volume = by_name(p->before->volumes, *name);
        if (!volume || volume->readonly || attached(p->after, *name))
            continue;
        struct at_change *change =
            add(p, "delete", "workstation", ws->name, "volume %s and all data on it", *name);
        change->needs_restart = change->deletes_data = true;
    }
}

static void plan_ports(struct plan *p, const struct at_def_workstation *ws,
                       const struct at_def_workstation *was)
{
    for (int pass = 0; pass < 2; pass++) {
        const GPtrArray *mine = pass ? was->publish : ws->publish;
        const GPtrArray *theirs = pass ? ws->publish : was->publish;
        for (unsigned i = 0; i < mine->len; i++) {
            const struct at_def_port *port = mine->pdata[i];
            bool found = false;
            for (unsigned k = 0; k < theirs->len && !found; k++) {
                const struct at_def_port *other = theirs->pdata[k];
                found = port->host == other->host && port->guest == other->guest &&
                        strcmp(port->protocol, other->protocol) == 0;
            }
            if (!found)
                add(p, pass ? "delete" : "create", "workstation", ws->name,
                    "published port %u -> %u/%s", port->host, port->guest, port->protocol);
        }
    }
}

static bool same_health(const GPtrArray *a, const GPtrArray *b)
{
    if (a->len != b->len)
        return false;
    for (unsigned i = 0; i < a->len; i++) {
        const struct at_def_health *x = a->pdata[i], *y = b->pdata[i];
        if (strcmp(x->kind, y->kind) || g_strcmp0(x->target, y->target) ||
            x->every_s != y->every_s || x->timeout_s != y->timeout_s)
            return false;
    }
    return true;
}

static void plan_gpus(struct plan *p, const struct at_def_workstation *ws,
                      const struct at_def_workstation *was)
{
    g_autofree char *from = at_gpus_text(was), *to = at_gpus_text(ws);
    if (strcmp(from, to) != 0)
        add(p, "change", "workstation", ws->name, "GPUs: %s -> %s", from, to)->needs_restart = true;
}

static void plan_gpu_policy(struct plan *p)
{
    g_autofree char *from = at_gpu_policy_text(&p->before->gpu_policy);
    g_autofree char *to = at_gpu_policy_text(&p->after->gpu_policy);
    if (strcmp(from, to) != 0)
        add(p, "change", "VDC", p->after->vdc, "GPU policy: %s -> %s", from, to);
}

static bool plan_workstation(struct plan *p, unsigned index, const struct at_def_workstation *ws,
                             const struct at_def_workstation *was)
{
    if (ws->cpus != was->cpus)
        add(p, "change", "workstation", ws->name, "cpus %u -> %u", was->cpus, ws->cpus)
            ->needs_restart = true;
    if (ws->memory != was->memory) {
        g_autofree char *from = at_size_format(was->memory), *to = at_size_format(ws->memory);
        add(p, "change", "workstation", ws->name, "memory %s -> %s", from, to)->needs_restart =
            true;
    }
    if (strcmp(ws->accel, was->accel) != 0)
        add(p, "change", "workstation", ws->name, "accel %s -> %s", was->accel, ws->accel)
            ->needs_restart = true;
    if (strcmp(ws->firmware, was->firmware) != 0)
        add(p, "change", "workstation", ws->name, "firmware %s -> %s", was->firmware, ws->firmware)
            ->needs_restart = true;
    if (strcmp(ws->restart, was->restart) != 0)
        add(p, "change", "workstation", ws->name, "restart %s -> %s", was->restart, ws->restart);
    if (!plan_disks(p, index, ws, was))
        return false;
    plan_nics(p, ws, was);
    plan_gpus(p, ws, was);
    plan_attached(p, ws, was);
    if (strcmp(ws->hostname, was->hostname) || g_strcmp0(ws->user_data, was->user_data) ||
        !g_strv_equal((const char *const *)ws->ssh_keys, (const char *const *)was->ssh_keys))
        add(p, "change", "workstation", ws->name,
            "cloud-init data (the guest sees it when it "
            "starts next)");
    if (!same_health(ws->health, was->health))
        add(p, "change", "workstation", ws->name, "health checks");
    plan_ports(p, ws, was);
    return true;
}

static void plan_new_workstation(struct plan *p, const struct at_def_workstation *ws)
{
    g_autofree char *memory = at_size_format(ws->memory);
    g_autoptr(GString) disks = g_string_new(NULL);
    for (unsigned i = 0; i < ws->disks->len; i++) {
        const struct at_def_disk *disk = ws->disks->pdata[i];
        g_autofree char *size = disk->size ? at_size_format(disk->size) : g_strdup("");
        g_string_append_printf(disks, "%s%s %s%s%s", i ? ", " : "", disk->name,
                               disk->image ? disk->image : "", disk->image && *size ? " " : "",
                               size);
    }
    g_autofree char *gpus = at_gpus_text(ws);
    add(p, "create", "workstation", ws->name, "%u cpu%s, %s, disks: %s%s%s", ws->cpus,
        ws->cpus == 1 ? "" : "s", memory, disks->str, ws->gpus->len ? ", GPUs: " : "",
        ws->gpus->len ? gpus : "");
}

static bool plan_workstations(struct plan *p)
{
    const GPtrArray *old = p->before->workstations, *new = p->after->workstations;
    for (unsigned i = 0; i < new->len; i++) {
        const struct at_def_workstation *ws = new->pdata[i], *was = by_name(old, ws->name);
        if (!was)
            plan_new_workstation(p, ws);
        else if (!plan_workstation(p, i, ws, was))
            return false;
    }
    for (unsigned i = 0; i < old->len; i++) {
        const struct at_def_workstation *was = old->pdata[i];
        if (!by_name(new, was->name))
            add(p, "delete", "workstation", was->name, "%u disk%s and all data on %s",
                was->disks->len, was->disks->len == 1 ? "" : "s",
                was->disks->len == 1 ? "it" : "them")
                ->deletes_data = true;
    }
    return true;
}

static void plan_restarts(struct plan *p)
{
    g_autoptr(GHashTable) told = g_hash_table_new(g_str_hash, g_str_equal);
    unsigned n = p->changes->len;
    for (unsigned i = 0; i < n; i++) {
        const struct at_change *change = p->changes->pdata[i];
        if (change->needs_restart && g_hash_table_add(told, change->workstation))
            add(p, "restart", "workstation", change->workstation, "if it runs")->needs_restart =
                true;
    }
}

GPtrArray *at_plan_changes(const struct at_definition *before, const struct at_definition *after,
                           char **ret_pointer, GError **error)
{
    g_autoptr(GPtrArray) changes = g_ptr_array_new_with_free_func(change_free);
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    struct at_definition nothing = {
        .isolated = after->isolated, .networks = none, .volumes = none, .workstations = none};
    struct plan p = {changes, before ? before : &nothing, after, ret_pointer, error};
    if (!before)
        add(&p, "create", "VDC", after->vdc, "%u workstation%s%s", after->workstations->len,
            after->workstations->len == 1 ? "" : "s", after->isolated ? ", isolated" : "");
    else if (after->isolated != before->isolated)
        add(&p, "change", "VDC", after->vdc,
            after->isolated ? "isolated: its uplink is cut" : "no longer isolated");
    if (before)
        plan_gpu_policy(&p);
    plan_networks(&p);
    if (!plan_volumes(&p) || !plan_workstations(&p))
        return NULL;
    plan_restarts(&p);
    return g_steal_pointer(&changes);
}

JsonNode *at_plan_to_json(const GPtrArray *changes, const char *vdc)
{
    JsonArray *arr = json_array_new();
    for (unsigned i = 0; i < MAX(changes->len, 1); i++) {
        const struct at_change *change = i < changes->len ? changes->pdata[i] : NULL;
        g_autofree char *whole = g_strdup_printf("VDC %s", vdc);
        JsonObject *obj = json_object_new();
        json_object_set_string_member(obj, "action", change ? change->action : "none");
        json_object_set_string_member(obj, "what", change ? change->what : whole);
        json_object_set_string_member(obj, "detail",
                                      change ? change->detail : "is already as written");
        json_object_set_boolean_member(obj, "needs_restart", change && change->needs_restart);
        json_object_set_boolean_member(obj, "deletes_data", change && change->deletes_data);
        json_array_add_object_element(arr, obj);
    }
    JsonObject *obj = json_object_new();
    json_object_set_array_member(obj, "changes", arr);
    return at_json_take_obj(obj);
}
