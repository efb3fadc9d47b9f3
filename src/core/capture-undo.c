/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a capture back on one machine: overlays that are not written to go, those that are (or may
 * be) stay on top and are recorded. */
#include "base/error.h"
#include "base/json.h"
#include "core/supervisor.h"
#include "core/vdc.h"
#include "qemu/cut.h"

/* Asks the running machine @m and takes the new overlay out again unless it is written to.
 * @ret_kept: it stays on top. */
static bool undo_running(const char *dir, const struct at_disk *d, unsigned gen, bool *ret_kept,
                         GError **error)
{
    g_autofree char *socket_path = g_build_filename(dir, "qmp-b.sock", NULL);
    unsigned live = 0;
    struct at_qmp *qmp = at_qmp_open(socket_path, 10000, error);
    bool ok = qmp && at_block_live_gen(qmp, d->index, &live, error);
    *ret_kept = live == gen;
    ok = ok && (*ret_kept || at_block_overlay_del(qmp, d->index, gen, error));
    if (qmp)
        at_qmp_close(qmp);
    return ok;
}

/* Whether the overlay @gen of the disk stays: it is (or may be) written to. Otherwise it is taken
 * out of a running machine and its file goes. */
static bool settle_disk(struct at_core *core, const at_mach *m, const struct at_disk *d,
                        unsigned gen, bool *ret_kept, GError **error)
{
    struct at_process process;
    g_autofree char *dir = at_core_machine_dir(core, m->id);
    g_autofree char *path = at_block_overlay_path(dir, d->index, gen);
    /* A machine that has died may have written to it: it is kept. Empty, it does no harm. */
    *ret_kept = g_file_test(path, G_FILE_TEST_EXISTS);
    if (at_machine_process(core, m->id, &process) && !undo_running(dir, d, gen, ret_kept, error))
        return false;
    return *ret_kept || at_block_overlay_remove(dir, d->index, gen, error);
}

struct settled {
    unsigned index, gen;
    bool kept;
};

static bool record_settled(at_mach *m, void *user)
{
    const GArray *list = user;
    bool changed = false;
    for (unsigned i = 0; i < list->len; i++) {
        const struct settled *s = &g_array_index(list, struct settled, i);
        for (unsigned k = 0; k < m->disks->len; k++) {
            struct at_disk *d = m->disks->pdata[k];
            if (d->index != s->index || s->gen < d->next)
                continue;
            d->next = s->gen + 1;
            if (s->kept)
                g_array_append_val(d->gens, s->gen);
            changed = true;
        }
    }
    return changed;
}

bool at_capture_undo_machine(struct at_core *core, const char *id, JsonObject *gens, GError **error)
{
    g_autoptr(at_mach) m = at_mach_load(core->catalog, id, NULL);
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(struct settled));
    for (unsigned k = 0; m && k < m->disks->len; k++) {
        const struct at_disk *d = m->disks->pdata[k];
        g_autofree char *index = g_strdup_printf("%u", d->index);
        struct settled s = {.index = d->index, .gen = (unsigned)at_json_int(gens, index, 0)};
        if (s.gen == 0 || s.gen < d->next) /* none, or recorded already: it was captured */
            continue;
        if (!settle_disk(core, m, d, s.gen, &s.kept, error)) {
            g_prefix_error(error, "workstation %s: disk %s: ", m->workstation, d->name);
            return false;
        }
        g_array_append_val(list, s);
    }
    return list->len == 0 || at_mach_update(core->catalog, id, record_settled, list, error);
}

/* What an undo could not look at (the machine died just then) is settled before anything else
 * happens to the machine. */
bool at_machine_settle(struct at_core *core, const char *id, GError **error)
{
    g_autoptr(at_mach) m = at_mach_load(core->catalog, id, error);
    g_autofree char *dir = at_core_machine_dir(core, id);
    g_autoptr(JsonObject) gens = json_object_new();
    for (unsigned k = 0; m && k < m->disks->len; k++) {
        const struct at_disk *d = m->disks->pdata[k];
        g_autofree char *index = g_strdup_printf("%u", d->index);
        g_autofree char *path = at_block_overlay_path(dir, d->index, d->next);
        if (!d->readonly && g_file_test(path, G_FILE_TEST_EXISTS))
            json_object_set_int_member(gens, index, d->next);
    }
    return m && (json_object_get_size(gens) == 0 || at_capture_undo_machine(core, id, gens, error));
}
