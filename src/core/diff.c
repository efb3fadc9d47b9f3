/* SPDX-License-Identifier: Apache-2.0 */
/* The difference of two snapshots, disk by disk, by descending their trees. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "core/vdc.h"
#include "vault/tree.h"

struct pair {
    struct at_core *core;
    at_snap *a, *b;
};

static void pair_free(void *user)
{
    struct pair *p = user;
    at_snap_free(p->a);
    at_snap_free(p->b);
    g_free(p);
}

static const struct at_snap_disk *find(const at_snap *snap, const struct at_snap_disk *like)
{
    for (unsigned i = 0; i < snap->disks->len; i++) {
        const struct at_snap_disk *d = snap->disks->pdata[i];
        if (g_str_equal(d->workstation, like->workstation) && g_str_equal(d->name, like->name))
            return d;
    }
    return NULL;
}

static bool add_length(uint64_t offset, uint64_t len, void *user, GError **error)
{
    (void)offset;
    (void)error;
    *(uint64_t *)user += len;
    return true;
}

static bool compare(struct at_core *core, const struct at_snap_disk *a,
                    const struct at_snap_disk *b, uint64_t *ret_changed, GError **error)
{
    struct at_digest x, y;
    *ret_changed = 0;
    return at_digest_from_hex(a->root, &x, error) && at_digest_from_hex(b->root, &y, error) &&
           at_tree_diff(core->vault, &x, &y, add_length, ret_changed, error);
}

static void add_row(JsonArray *rows, const struct at_snap_disk *d, uint64_t changed,
                    const char *note)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "workstation", d->workstation);
    json_object_set_string_member(o, "name", d->name);
    json_object_set_int_member(o, "size", (int64_t)d->size);
    json_object_set_int_member(o, "changed_bytes", (int64_t)changed);
    at_json_set_str(o, "only_in", note);
    json_array_add_object_element(rows, o);
}

static void diff_thread(GTask *task, void *source, void *data, GCancellable *cancellable)
{
    struct pair *p = data;
    GError *error = NULL;
    g_autoptr(JsonArray) rows = json_array_new();
    (void)source;
    (void)cancellable;
    for (unsigned i = 0; i < p->a->disks->len; i++) {
        const struct at_snap_disk *d = p->a->disks->pdata[i];
        const struct at_snap_disk *other = find(p->b, d);
        uint64_t changed = d->size;
        if (other && !compare(p->core, d, other, &changed, &error)) {
            g_task_return_error(task, error);
            return;
        }
        add_row(rows, d, changed, other ? NULL : "a");
    }
    for (unsigned i = 0; i < p->b->disks->len; i++) {
        const struct at_snap_disk *d = p->b->disks->pdata[i];
        if (!find(p->a, d))
            add_row(rows, d, d->size, "b");
    }
    JsonObject *o = json_object_new();
    json_object_set_array_member(o, "disks", g_steal_pointer(&rows));
    g_task_return_pointer(task, at_json_take_obj(o), (GDestroyNotify)json_node_unref);
}

void at_core_diff_async(struct at_core *core, const char *vdc_a, const char *snap_a,
                        const char *vdc_b, const char *snap_b, GAsyncReadyCallback callback,
                        void *user)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, user);
    GError *error = NULL;
    struct pair *p = g_new0(struct pair, 1);
    p->core = core;
    p->a = at_core_find_snapshot(core, vdc_a, snap_a, NULL, &error);
    p->b = p->a ? at_core_find_snapshot(core, vdc_b, snap_b, NULL, &error) : NULL;
    g_task_set_task_data(task, p, pair_free);
    if (p->b && (!p->a->digest || !p->b->digest))
        at_error(&error, AT_ERROR_CONFLICT, "snapshot %s is not sealed yet",
                 p->a->digest ? p->b->name : p->a->name);
    if (error)
        g_task_return_error(task, error);
    else
        g_task_run_in_thread(task, diff_thread);
}

JsonNode *at_core_diff_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
