/* SPDX-License-Identifier: Apache-2.0 */
/* Views: VDCs, workstations and snapshots as the API shows them. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/gpu.h"
#include "core/supervisor.h"
#include "core/vdc.h"
#include "qemu/unix-socket.h"

enum { LOG_MAX = 1 << 20 };

static JsonObject *workstation_json(struct at_core *core, const at_vdc *vdc,
                                    const struct at_def_workstation *ws, const at_mach *mach)
{
    struct at_machine_status status = {.state = "stopped", .health = "none"};
    JsonObject *o = json_object_new();
    if (mach)
        at_machine_status(core, mach->id, &status);
    if (mach && mach->down_by_crash && g_str_equal(status.state, "stopped"))
        status.state = "crashed"; /* an earlier daemon saw it */
    json_object_set_string_member(o, "name", ws->name);
    at_json_set_str(o, "id", mach ? mach->id : NULL);
    json_object_set_string_member(o, "state", status.state);
    if (status.pid)
        json_object_set_int_member(o, "pid", status.pid);
    else
        json_object_set_null_member(o, "pid");
    JsonArray *addresses = json_array_new();
    for (unsigned i = 0; i < ws->nics->len; i++)
        json_array_add_string_element(addresses,
                                      ((struct at_def_nic *)ws->nics->pdata[i])->address);
    json_object_set_array_member(o, "addresses", addresses);
    json_object_set_string_member(o, "health", status.health);
    at_json_set_str(o, "health_reason", *status.health_reason ? status.health_reason : NULL);
    at_json_set_str(o, "accel", status.accel);
    json_object_set_int_member(o, "restarts", mach ? mach->restarts : 0);
    at_json_set_str(o, "last_crash", mach ? mach->last_crash : NULL);
    json_object_set_int_member(o, "cpus", ws->cpus);
    json_object_set_int_member(o, "memory", (int64_t)ws->memory);
    JsonArray *disks = json_array_new();
    for (unsigned i = 0; mach && i < mach->disks->len; i++) {
        const struct at_disk *d = mach->disks->pdata[i];
        JsonObject *e = json_object_new();
        json_object_set_string_member(e, "name", d->name);
        json_object_set_int_member(e, "size", (int64_t)d->size);
        json_object_set_boolean_member(e, "readonly", d->readonly);
        at_json_set_str(e, "base", d->base);
        json_object_set_int_member(e, "unsealed_layers", d->gens->len ? d->gens->len - 1 : 0);
        json_array_add_object_element(disks, e);
    }
    json_object_set_array_member(o, "disks", disks);
    json_object_set_array_member(o, "gpus", at_gpu_holds_of(core, vdc->name, ws->name));
    return o;
}

static const char *vdc_state(struct at_core *core, const at_vdc *vdc, const GPtrArray *machines)
{
    unsigned running = 0;
    if (at_job_scope_held(core, vdc->name, NULL))
        return "changing";
    for (unsigned i = 0; i < machines->len; i++) {
        struct at_machine_status status;
        at_machine_status(core, ((at_mach *)machines->pdata[i])->id, &status);
        running += g_str_equal(status.state, "running") || g_str_equal(status.state, "paused");
    }
    if (running == 0)
        return "stopped";
    return running == machines->len ? "running" : "partial";
}

static JsonObject *vdc_json(struct at_core *core, const at_vdc *vdc, bool full, GError **error)
{
    g_autoptr(GPtrArray) machines = at_vdc_machines(core, vdc->id, "active", error);
    g_autoptr(GPtrArray) snaps = machines ? at_snap_load_all(core->catalog, vdc->id, error) : NULL;
    if (!snaps)
        return NULL;
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "name", vdc->name);
    json_object_set_string_member(o, "id", vdc->id);
    at_json_set_str(o, "owner", vdc->owner);
    at_json_set_str(o, "created", vdc->created);
    json_object_set_string_member(o, "state", vdc_state(core, vdc, machines));
    json_object_set_int_member(o, "revision", (int64_t)vdc->revision);
    json_object_set_boolean_member(o, "isolated", vdc->def->isolated);
    g_auto(GStrv) uplink = g_strsplit(vdc->uplink ? vdc->uplink : "", "/", 2);
    at_json_set_str(o, "uplink_address", uplink[0] && *uplink[0] ? uplink[0] : NULL);
    at_json_set_str(o, "cloned_from", vdc->cloned_from);
    at_json_set_str(o, "undo", vdc->undo);
    /* An isolated VDC keeps its host ports for later, but nothing answers on them. */
    unsigned n_ports = vdc->def->isolated ? 0 : json_array_get_length(vdc->ports);
    JsonArray *ports = json_array_new();
    for (unsigned i = 0; i < n_ports; i++) {
        JsonObject *p = json_array_get_object_element(vdc->ports, i);
        JsonObject *e = json_object_new();
        json_object_set_int_member(e, "host", at_json_int(p, "host", 0));
        json_object_set_int_member(e, "guest", at_json_int(p, "guest", 0));
        at_json_set_str(e, "workstation", at_json_str(p, "workstation", NULL));
        at_json_set_str(e, "protocol", at_json_str(p, "protocol", NULL));
        json_array_add_object_element(ports, e);
    }
    json_object_set_array_member(o, "ports", ports);
    JsonArray *list = json_array_new();
    for (unsigned i = 0; i < vdc->def->workstations->len; i++) {
        const struct at_def_workstation *ws = vdc->def->workstations->pdata[i];
        json_array_add_object_element(
            list, workstation_json(core, vdc, ws, at_machines_find(machines, ws->name)));
    }
    json_object_set_array_member(o, "workstations", list);
    json_object_set_int_member(o, "snapshots", snaps->len);
    if (full)
        json_object_set_member(o, "definition", at_definition_to_json(vdc->def));
    return o;
}

JsonNode *at_core_vdc_list(struct at_core *core, GError **error)
{
    g_autoptr(GPtrArray) vdcs = at_vdc_load_all(core->catalog, error);
    if (!vdcs)
        return NULL;
    g_autoptr(JsonArray) list = json_array_new();
    for (unsigned i = 0; i < vdcs->len; i++) {
        JsonObject *o = vdc_json(core, vdcs->pdata[i], true, error);
        if (!o)
            return NULL;
        json_array_add_object_element(list, o);
    }
    return at_json_take_arr(g_steal_pointer(&list));
}

JsonNode *at_core_vdc_view(struct at_core *core, const char *name, GError **error)
{
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, name, error);
    JsonObject *o = vdc ? vdc_json(core, vdc, true, error) : NULL;
    return o ? at_json_take_obj(o) : NULL;
}

/* The active machine of a workstation; NULL with NOT_FOUND. */
static at_mach *find_machine(struct at_core *core, const char *vdc_name, const char *ws_name,
                             at_vdc **ret_vdc, GError **error)
{
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name, error);
    g_autoptr(GPtrArray) machines = vdc ? at_vdc_machines(core, vdc->id, "active", error) : NULL;
    if (!machines)
        return NULL;
    at_mach *m = at_machines_find(machines, ws_name);
    if (!m) {
        at_error(error, AT_ERROR_NOT_FOUND, "VDC %s has no workstation %s", vdc_name, ws_name);
        return NULL;
    }
    if (ret_vdc)
        *ret_vdc = g_steal_pointer(&vdc);
    return at_mach_load(core->catalog, m->id, error);
}

JsonNode *at_core_workstation_view(struct at_core *core, const char *vdc_name, const char *ws_name,
                                   GError **error)
{
    g_autoptr(at_vdc) vdc = NULL;
    g_autoptr(at_mach) mach = find_machine(core, vdc_name, ws_name, &vdc, error);
    if (!mach)
        return NULL;
    JsonObject *o = workstation_json(core, vdc, at_vdc_workstation(vdc, ws_name), mach);
    json_object_set_string_member(o, "vdc", vdc_name);
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    g_autofree char *vnc = g_build_filename(dir, "vnc.sock", NULL);
    json_object_set_string_member(o, "vnc_socket", vnc);
    return at_json_take_obj(o);
}

char *at_core_workstation_log(struct at_core *core, const char *vdc, const char *ws, size_t tail,
                              GError **error)
{
    g_autoptr(at_mach) mach = find_machine(core, vdc, ws, NULL, error);
    if (!mach)
        return NULL;
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    g_autofree char *path = g_build_filename(dir, "console.log", NULL);
    size_t want = MIN(tail ? tail : 65536, (size_t)LOG_MAX);
    at_autofd fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (end < 0 && errno == ENOENT)
        return g_strdup("");
    if (end < 0) {
        at_error_errno(error, errno, "read %s", path);
        return NULL;
    }
    g_autofree char *raw = g_malloc(want + 1);
    ssize_t n = pread(fd, raw, want, MAX(0, end - (off_t)want));
    raw[MAX(n, 0)] = '\0';
    return g_utf8_make_valid(raw, MAX(n, 0)); /* a guest may print anything */
}

int at_core_console_open(struct at_core *core, const char *vdc, const char *ws, GError **error)
{
    g_autoptr(at_mach) mach = find_machine(core, vdc, ws, NULL, error);
    struct at_process process;
    if (!mach)
        return -1;
    if (!at_machine_process(core, mach->id, &process)) {
        at_error(error, AT_ERROR_CONFLICT, "workstation %s of VDC %s does not run", ws, vdc);
        return -1;
    }
    g_autofree char *dir = at_core_machine_dir(core, mach->id);
    g_autofree char *path = g_build_filename(dir, "serial.sock", NULL);
    return at_unix_connect(path, at_deadline_ms(2000), error);
}

/* ---- snapshots ---- */

static JsonObject *snap_json(const at_snap *s)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "name", s->name);
    json_object_set_string_member(o, "vdc", s->vdc);
    at_json_set_str(o, "digest", s->digest);
    json_object_set_string_member(o, "state", s->state);
    json_object_set_object_member(o, "consistency", json_object_ref(s->consistency));
    json_object_set_double_member(o, "pause_ms", s->pause_ms);
    json_object_set_double_member(o, "skew_ms", s->skew_ms);
    json_object_set_int_member(o, "stored_bytes", (int64_t)s->stored_bytes);
    json_object_set_int_member(o, "changed_bytes", (int64_t)s->changed_bytes);
    at_json_set_str(o, "created", s->created);
    at_json_set_str(o, "actor", s->actor);
    at_json_set_str(o, "description", s->description);
    json_object_set_boolean_member(o, "safety", s->safety);
    JsonArray *disks = json_array_new();
    for (unsigned i = 0; i < s->disks->len; i++) {
        const struct at_snap_disk *d = s->disks->pdata[i];
        JsonObject *e = json_object_new();
        json_object_set_string_member(e, "workstation", d->workstation);
        json_object_set_string_member(e, "name", d->name);
        json_object_set_int_member(e, "size", (int64_t)d->size);
        at_json_set_str(e, "root", d->root);
        json_array_add_object_element(disks, e);
    }
    json_object_set_array_member(o, "disks", disks);
    return o;
}

static int by_creation(const void *a, const void *b)
{
    return g_strcmp0((*(at_snap *const *)a)->created, (*(at_snap *const *)b)->created);
}

JsonNode *at_core_snapshot_list(struct at_core *core, const char *vdc_name, GError **error)
{
    g_autoptr(at_vdc) vdc = vdc_name ? at_vdc_load(core->catalog, vdc_name, error) : NULL;
    if (vdc_name && !vdc)
        return NULL;
    g_autoptr(GPtrArray) snaps = at_snap_load_all(core->catalog, vdc ? vdc->id : NULL, error);
    if (!snaps)
        return NULL;
    g_ptr_array_sort(snaps, by_creation);
    JsonArray *list = json_array_new();
    for (unsigned i = 0; i < snaps->len; i++)
        json_array_add_object_element(list, snap_json(snaps->pdata[i]));
    return at_json_take_arr(list);
}

at_snap *at_core_find_snapshot(struct at_core *core, const char *vdc_name, const char *name,
                               at_vdc **ret_vdc, GError **error)
{
    g_autoptr(at_vdc) vdc = at_vdc_load(core->catalog, vdc_name, error);
    at_snap *snap = vdc ? at_snap_load(core->catalog, vdc->id, name, error) : NULL;
    if (!snap && vdc)
        g_prefix_error(error, "VDC %s: ", vdc_name);
    if (snap && ret_vdc)
        *ret_vdc = g_steal_pointer(&vdc);
    return snap;
}

JsonNode *at_core_snapshot_view(struct at_core *core, const char *vdc, const char *name,
                                GError **error)
{
    g_autoptr(at_snap) snap = at_core_find_snapshot(core, vdc, name, NULL, error);
    if (!snap)
        return NULL;
    JsonObject *o = snap_json(snap);
    json_object_set_member(o, "definition", json_node_copy(snap->definition));
    return at_json_take_obj(o);
}

char *at_core_snapshot_manifest(struct at_core *core, const char *vdc, const char *name,
                                GError **error)
{
    struct at_digest digest;
    g_autoptr(at_snap) snap = at_core_find_snapshot(core, vdc, name, NULL, error);
    if (snap && !snap->digest)
        at_error(error, AT_ERROR_CONFLICT, "snapshot %s is not sealed yet", name);
    if (!snap || !snap->digest || !at_digest_from_hex(snap->digest, &digest, error))
        return NULL;
    g_autoptr(GBytes) bytes = at_vault_blob_get(core->vault, &digest, error);
    if (!bytes) {
        g_prefix_error(error, "manifest of snapshot %s: ", name);
        return NULL;
    }
    gsize len;
    const char *text = g_bytes_get_data(bytes, &len);
    return g_strndup(text, len);
}
