/* SPDX-License-Identifier: Apache-2.0 */
/* Making machines: records from a definition and disk contents, pins in the vault, files. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "core/gpu.h"
#include "core/supervisor.h"
#include "core/vdc.h"
#include "image/image.h"
#include "qemu/block.h"

const struct at_def_workstation *at_vdc_workstation(const at_vdc *vdc, const char *name)
{
    for (unsigned i = 0; i < vdc->def->workstations->len; i++) {
        const struct at_def_workstation *ws = vdc->def->workstations->pdata[i];
        if (g_str_equal(ws->name, name))
            return ws;
    }
    return NULL;
}

const struct at_def_volume *at_vdc_volume(const at_vdc *vdc, const char *name)
{
    for (unsigned i = 0; i < vdc->def->volumes->len; i++) {
        const struct at_def_volume *v = vdc->def->volumes->pdata[i];
        if (g_str_equal(v->name, name))
            return v;
    }
    return NULL;
}

GPtrArray *at_vdc_machines(struct at_core *core, const char *vdc_id, const char *state,
                           GError **error)
{
    GPtrArray *all = at_mach_load_all(core->catalog, vdc_id, error);
    for (unsigned i = all ? all->len : 0; i-- > 0;) {
        at_mach *m = all->pdata[i];
        if (!g_str_equal(m->state, state))
            g_ptr_array_remove_index(all, i);
    }
    return all;
}

at_mach *at_machines_find(const GPtrArray *machines, const char *workstation)
{
    for (unsigned i = 0; i < machines->len; i++) {
        at_mach *m = machines->pdata[i];
        if (g_str_equal(m->workstation, workstation))
            return m;
    }
    return NULL;
}

bool at_origin_image(const char *workstation, const char *disk, const char *image,
                     uint64_t want_size, char **ret_root, uint64_t *ret_size, void *user,
                     GError **error)
{
    struct at_core *core = user;
    if (!image) {
        *ret_root = NULL;
        *ret_size = want_size;
        return true;
    }
    g_autofree char *key = g_strconcat("image/", image, NULL);
    g_autoptr(at_record) record = at_catalog_get(core->catalog, key, NULL);
    if (!record)
        return at_error(error, AT_ERROR_NOT_FOUND,
                        "workstation %s: disk %s: image %s does not exist; see: atoll image list",
                        workstation, disk, image);
    JsonObject *o = json_node_get_object(record->value);
    uint64_t size = (uint64_t)at_json_int(o, "size", 0);
    const char *root = at_json_str(o, "root", NULL);
    if (!root)
        return at_error(error, AT_ERROR_CONFLICT, "image %s is not ready yet", image);
    if (want_size && want_size < size)
        return at_error(error, AT_ERROR_INVALID,
                        "workstation %s: disk %s: %" G_GUINT64_FORMAT
                        " bytes are less than its image %s has (%" G_GUINT64_FORMAT ")",
                        workstation, disk, want_size, image, size);
    *ret_root = g_strdup(root);
    *ret_size = want_size ? want_size : size;
    return true;
}

bool at_origin_snapshot(const char *workstation, const char *disk, const char *image,
                        uint64_t want_size, char **ret_root, uint64_t *ret_size, void *user,
                        GError **error)
{
    const at_snap *snap = user;
    (void)image;
    (void)want_size;
    for (unsigned i = 0; i < snap->disks->len; i++) {
        const struct at_snap_disk *d = snap->disks->pdata[i];
        if (!g_str_equal(d->workstation, workstation) || !g_str_equal(d->name, disk))
            continue;
        if (!d->root)
            return at_error(error, AT_ERROR_CONFLICT, "snapshot %s is not sealed yet", snap->name);
        *ret_root = g_strdup(d->root);
        *ret_size = d->size;
        return true;
    }
    return at_error(error, AT_ERROR_CORRUPT, "snapshot %s has no disk %s of workstation %s",
                    snap->name, disk, workstation);
}

struct at_disk *at_instantiate_disk(const at_vdc *vdc, const char *workstation, unsigned index,
                                    const char *name, const char *image, uint64_t size,
                                    bool readonly, at_disk_origin origin, void *user,
                                    GError **error)
{
    g_autofree char *root = NULL;
    uint64_t real = 0;
    (void)vdc;
    if (!origin(workstation, name, image, size, &root, &real, user, error))
        return NULL;
    struct at_disk *d = at_disk_new(index, name, real, root, readonly);
    if (!readonly) {
        unsigned first = d->next++;
        g_array_append_val(d->gens, first);
    }
    return d;
}

static bool add_disks(at_mach *m, const at_vdc *vdc, const struct at_def_workstation *ws,
                      at_disk_origin origin, void *user, GError **error)
{
    for (unsigned i = 0; i < ws->disks->len; i++) {
        const struct at_def_disk *def = ws->disks->pdata[i];
        struct at_disk *d = at_instantiate_disk(vdc, ws->name, m->disks->len, def->name, def->image,
                                                def->size, false, origin, user, error);
        if (!d)
            return false;
        g_ptr_array_add(m->disks, d);
    }
    for (char **name = ws->volumes; name && *name; name++) {
        const struct at_def_volume *v = at_vdc_volume(vdc, *name);
        if (!v)
            return at_error(error, AT_ERROR_INVALID, "volume %s is not defined", *name);
        struct at_disk *d = at_instantiate_disk(vdc, ws->name, m->disks->len, v->name, v->image,
                                                v->size, v->readonly, origin, user, error);
        if (!d)
            return false;
        g_ptr_array_add(m->disks, d);
    }
    return true;
}

JsonObject *at_instantiate_ids(const at_vdc *vdc)
{
    JsonObject *ids = json_object_new();
    for (unsigned i = 0; i < vdc->def->workstations->len; i++) {
        const struct at_def_workstation *ws = vdc->def->workstations->pdata[i];
        g_autofree char *id = at_new_id();
        json_object_set_string_member(ids, ws->name, id);
    }
    return ids;
}

static bool wanted(const GPtrArray *only, const char *name)
{
    for (unsigned i = 0; only && i < only->len; i++) {
        if (g_str_equal(only->pdata[i], name))
            return true;
    }
    return !only;
}

GPtrArray *at_instantiate(struct at_core *core, const at_vdc *vdc, const GPtrArray *only,
                          JsonObject *ids, const char *state, const struct at_identity *identity,
                          at_disk_origin origin, void *user, GError **error)
{
    g_autoptr(GPtrArray) machines = g_ptr_array_new_with_free_func((GDestroyNotify)at_mach_free);
    (void)core;
    for (unsigned i = 0; i < vdc->def->workstations->len; i++) {
        const struct at_def_workstation *ws = vdc->def->workstations->pdata[i];
        if (!wanted(only, ws->name))
            continue;
        JsonObject *old = identity->snap && !identity->fresh
                              ? at_json_obj(identity->snap->identity, ws->name)
                              : NULL;
        at_mach *m = g_new0(at_mach, 1);
        g_ptr_array_add(machines, m);
        m->id = g_strdup(at_json_str(ids, ws->name, NULL));
        m->vdc = g_strdup(vdc->name);
        m->vdc_id = g_strdup(vdc->id);
        m->workstation = g_strdup(ws->name);
        m->uuid = old ? g_strdup(at_json_str(old, "uuid", NULL)) : at_new_uuid();
        m->instance_id = old ? g_strdup(at_json_str(old, "instance_id", NULL)) : at_new_uuid();
        m->vmgenid = at_new_uuid(); /* always new: the guest may notice that it was copied */
        m->fresh = identity->fresh;
        m->state = g_strdup(state);
        m->want_running = vdc->want_running;
        m->disks = g_ptr_array_new_with_free_func((GDestroyNotify)at_disk_free);
        if (!m->id) {
            at_error(error, AT_ERROR_CORRUPT, "workstation %s has no machine id", ws->name);
            return NULL;
        }
        if (!add_disks(m, vdc, ws, origin, user, error))
            return NULL;
    }
    return g_steal_pointer(&machines);
}

/* ---- pins ---- */

static char *pin_name(const at_mach *mach, const struct at_disk *disk)
{
    return g_strdup_printf("live/%s/%u/%s", mach->id, disk->index, disk->base);
}

bool at_machine_pin_more(struct at_core *core, const at_mach *mach, GError **error)
{
    for (unsigned i = 0; i < mach->disks->len; i++) {
        const struct at_disk *d = mach->disks->pdata[i];
        g_autofree char *name = d->base ? pin_name(mach, d) : NULL;
        struct at_digest root;
        if (name && (!at_digest_from_hex(d->base, &root, error) ||
                     !at_vault_root_set(core->vault, name, AT_ROOT_TREE, &root, error)))
            return false;
    }
    return true;
}

bool at_machine_pin(struct at_core *core, const at_mach *mach, GError **error)
{
    g_autofree char *prefix = g_strdup_printf("live/%s/", mach->id);
    g_autoptr(GHashTable) needed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (unsigned i = 0; i < mach->disks->len; i++) {
        const struct at_disk *d = mach->disks->pdata[i];
        if (d->base)
            g_hash_table_add(needed, pin_name(mach, d));
    }
    g_autoptr(GPtrArray) roots = at_machine_pin_more(core, mach, error)
                                     ? at_vault_root_list(core->vault, prefix, error)
                                     : NULL;
    for (unsigned i = 0; roots && i < roots->len; i++) {
        const struct at_root *r = roots->pdata[i];
        if (!g_hash_table_contains(needed, r->name) &&
            !at_vault_root_remove(core->vault, r->name, error))
            return false;
    }
    return roots != NULL;
}

bool at_vault_roots_remove(struct at_core *core, const char *prefix, GError **error)
{
    g_autoptr(GPtrArray) roots = at_vault_root_list(core->vault, prefix, error);
    for (unsigned i = 0; roots && i < roots->len; i++) {
        struct at_root *r = roots->pdata[i];
        if (!at_vault_root_remove(core->vault, r->name, error))
            return false;
    }
    return roots != NULL;
}

static bool unpin(struct at_core *core, const char *id, GError **error)
{
    g_autofree char *prefix = g_strdup_printf("live/%s/", id);
    return at_vault_roots_remove(core, prefix, error);
}

bool at_machines_unpin_unknown(struct at_core *core, GError **error)
{
    g_autoptr(GPtrArray) roots = at_vault_root_list(core->vault, "live/", error);
    g_autoptr(GPtrArray) machines = roots ? at_mach_load_all(core->catalog, NULL, error) : NULL;
    if (!machines)
        return false;
    g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; i < machines->len; i++)
        g_hash_table_add(known, ((at_mach *)machines->pdata[i])->id);
    for (unsigned i = 0; i < roots->len; i++) {
        const struct at_root *r = roots->pdata[i];
        g_auto(GStrv) part = g_strsplit(r->name, "/", 3);
        if (part[0] && part[1] && !g_hash_table_contains(known, part[1]) &&
            !at_vault_root_remove(core->vault, r->name, error))
            return false;
    }
    return true;
}

static GMutex slot_lock; /* guards choosing slots until they are recorded */

static bool choose_slots(struct at_core *core, GPtrArray *machines, GError **error)
{
    g_autoptr(GPtrArray) all = at_mach_load_all(core->catalog, NULL, error);
    if (!all)
        return false;
    g_autoptr(GHashTable) used = g_hash_table_new(NULL, NULL);
    for (unsigned i = 0; i < all->len; i++)
        g_hash_table_add(used, GUINT_TO_POINTER(((at_mach *)all->pdata[i])->slot));
    unsigned slot = AT_SLOT_FIRST;
    for (unsigned i = 0; i < machines->len; i++) {
        while (slot <= AT_SLOT_LAST && g_hash_table_contains(used, GUINT_TO_POINTER(slot)))
            slot++;
        if (slot > AT_SLOT_LAST)
            return at_error(error, AT_ERROR_NO_SPACE, "no user id is left for another machine");
        ((at_mach *)machines->pdata[i])->slot = slot++;
    }
    return true;
}

bool at_machines_record(struct at_core *core, at_vdc *vdc, GPtrArray *machines,
                        const GPtrArray *changed, GError **error)
{
    for (unsigned i = 0; i < machines->len; i++) {
        if (!at_fault_point("machines.pin", error) ||
            !at_machine_pin(core, machines->pdata[i], error))
            return false;
    }
    g_mutex_lock(&slot_lock);
    bool ok = choose_slots(core, machines, error);
    if (ok) {
        struct at_txn *txn = at_txn_new(core->catalog);
        uint64_t revision = 0;
        if (vdc)
            at_vdc_put(txn, vdc);
        for (unsigned i = 0; i < machines->len; i++)
            at_mach_put(txn, machines->pdata[i]);
        for (unsigned i = 0; changed && i < changed->len; i++)
            at_mach_put(txn, changed->pdata[i]);
        ok = at_txn_commit(txn, &revision, error);
        if (ok && vdc)
            vdc->revision = revision;
        for (unsigned i = 0; ok && i < machines->len; i++)
            ((at_mach *)machines->pdata[i])->revision = revision;
    }
    g_mutex_unlock(&slot_lock);
    return ok;
}

/* ---- files ---- */

bool at_machine_make_overlay(struct at_core *core, const at_mach *mach, unsigned disk, unsigned gen,
                             uint64_t size, GError **error)
{
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    return at_block_overlay_create(dir, disk, gen, size, core->uid_base + mach->slot,
                                   core->uid_base, error);
}

bool at_machine_make_seed(struct at_core *core, const at_vdc *vdc, const at_mach *mach,
                          GError **error)
{
    const struct at_def_workstation *ws = at_vdc_workstation(vdc, mach->workstation);
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    g_autofree char *path = g_build_filename(dir, "seed.iso", NULL);
    struct at_seed seed = {.instance_id = mach->instance_id,
                           .hostname = ws->hostname,
                           .user_data = ws->user_data,
                           .ssh_keys = (const char *const *)ws->ssh_keys,
                           .fresh_identity = mach->fresh};
    if (!at_seed_write(&seed, path, error))
        return false;
    if (chown(path, core->uid_base + mach->slot, core->uid_base) != 0)
        return at_error_errno(error, errno, "give %s its owner", path);
    return true;
}

bool at_machine_make_files(struct at_core *core, const at_mach *mach, GError **error)
{
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    if (!at_fault_point("machine.files", error) || !at_mkdirs(dir, 0711, error))
        return false;
    for (unsigned i = 0; i < mach->disks->len; i++) {
        const struct at_disk *d = mach->disks->pdata[i];
        for (unsigned g = 0; g < d->gens->len; g++) {
            if (!at_machine_make_overlay(core, mach, d->index, g_array_index(d->gens, unsigned, g),
                                         d->size, error)) {
                g_prefix_error(error, "workstation %s: disk %s: ", mach->workstation, d->name);
                return false;
            }
        }
    }
    return true;
}

bool at_machine_destroy(struct at_core *core, const char *id, GError **error)
{
    g_autofree char *dir = at_core_machine_dir(core, id);
    g_autoptr(GError) local = NULL;
    if (!at_power_off(core, id, 0, NULL, NULL, error))
        return false;
    at_machine_lock(core, id);
    at_gpu_release(core, id, AT_GPU_FORGET);
    at_machine_unlock(core, id);
    if (!at_fault_point("machine.remove", error) || !at_remove_tree(dir, error) ||
        !unpin(core, id, error))
        return false;
    g_autofree char *key = g_strconcat("machine/", id, NULL);
    if (!at_catalog_delete(core->catalog, key, AT_REVISION_ANY, &local) &&
        !g_error_matches(local, AT_ERROR, AT_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    at_supervise_forget(core, id);
    return true;
}
