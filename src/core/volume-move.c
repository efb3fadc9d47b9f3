/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes that change hands: first in the records, then their overlays. */
#include "core/volume-move.h"

#include <errno.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "core/vdc.h"
#include "qemu/block.h"

static bool has_volume(const struct at_definition *def, const char *workstation, const char *volume)
{
    at_vdc v = {.def = (struct at_definition *)def};
    const struct at_def_workstation *ws = at_vdc_workstation(&v, workstation);
    return ws && ws->volumes && g_strv_contains((const char *const *)ws->volumes, volume);
}

static struct at_disk *steal_disk(at_mach *m, const char *name)
{
    for (unsigned i = 0; i < m->disks->len; i++) {
        struct at_disk *d = m->disks->pdata[i];
        if (!d->readonly && g_str_equal(d->name, name))
            return g_ptr_array_steal_index(m->disks, i);
    }
    return NULL;
}

static unsigned free_index(const at_mach *m)
{
    unsigned next = 0;
    for (unsigned i = 0; i < m->disks->len; i++)
        next = MAX(next, ((struct at_disk *)m->disks->pdata[i])->index + 1);
    return next;
}

static void move(struct at_core *core, at_mach *from, at_mach *to, const char *volume,
                 JsonArray *moves)
{
    struct at_disk *d = steal_disk(from, volume);
    if (!d)
        return;
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "from", from->id);
    json_object_set_int_member(o, "from_index", d->index);
    d->index = free_index(to);
    json_object_set_string_member(o, "to", to->id);
    json_object_set_int_member(o, "to_index", d->index);
    json_object_set_int_member(o, "gen", at_disk_live(d));
    json_object_set_int_member(o, "uid", core->uid_base + to->slot);
    json_array_add_object_element(moves, o);
    g_ptr_array_add(to->disks, d);
}

/* The machine that had @volume and does not have it any more. */
static at_mach *giver(const struct at_definition *before, const struct at_definition *after,
                      const GPtrArray *machines, const char *volume)
{
    for (unsigned i = 0; i < machines->len; i++) {
        at_mach *m = machines->pdata[i];
        if (has_volume(before, m->workstation, volume) &&
            !has_volume(after, m->workstation, volume))
            return m;
    }
    return NULL;
}

JsonArray *at_volumes_move(struct at_core *core, const struct at_definition *before,
                           const struct at_definition *after, const GPtrArray *machines)
{
    JsonArray *moves = json_array_new();
    for (unsigned i = 0; i < after->workstations->len; i++) {
        const struct at_def_workstation *ws = after->workstations->pdata[i];
        at_mach *to = at_machines_find(machines, ws->name);
        for (char **name = ws->volumes; to && name && *name; name++) {
            at_mach *from =
                has_volume(before, ws->name, *name) ? NULL : giver(before, after, machines, *name);
            if (from)
                move(core, from, to, *name, moves);
        }
    }
    return moves;
}

static bool move_file(struct at_core *core, JsonObject *o, GError **error)
{
    g_autofree char *from_dir = at_core_machine_dir(core, at_json_str(o, "from", ""));
    g_autofree char *to_dir = at_core_machine_dir(core, at_json_str(o, "to", ""));
    unsigned gen = (unsigned)at_json_int(o, "gen", 0);
    g_autofree char *from =
        at_block_overlay_path(from_dir, (unsigned)at_json_int(o, "from_index", 0), gen);
    g_autofree char *to =
        at_block_overlay_path(to_dir, (unsigned)at_json_int(o, "to_index", 0), gen);
    if (!g_file_test(from, G_FILE_TEST_EXISTS))
        return true;
    if (chown(from, (uid_t)at_json_int(o, "uid", 0), core->uid_base) != 0)
        return at_error_errno(error, errno, "give %s its new owner", from);
    return at_fault_point("volume.move", error) && at_rename_durable(from, to, error) &&
           at_fsync_dir(from_dir, error);
}

bool at_volumes_move_files(struct at_core *core, JsonArray *moves, GError **error)
{
    for (unsigned i = 0; moves && i < json_array_get_length(moves); i++) {
        if (!move_file(core, json_array_get_object_element(moves, i), error))
            return false;
    }
    return true;
}
