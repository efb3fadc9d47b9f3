/* SPDX-License-Identifier: Apache-2.0 */
/* What a verification has found, for people: the roots that damage hits by the names that they know
 * them by. */
#include <string.h>

#include "base/json.h"
#include "core/vdc.h"
#include "vault/maintenance.h"

enum {
    PROBLEMS_MAX = 1000, /* in one record: a dead disk damages millions */
    EVENT_PROBLEMS = 20, /* named in an event */
};

static JsonObject *hit_new(const char *kind, const char *name, const char *disk)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "kind", kind);
    json_object_set_string_member(o, "name", name);
    if (disk)
        json_object_set_string_member(o, "disk", disk);
    return o;
}

/* snapshot/VDC-ID/NAME, or below it while it is not sealed. */
static JsonObject *snapshot_hit(struct at_core *core, const char *root)
{
    g_auto(GStrv) parts = g_strsplit(root, "/", 4);
    if (g_strv_length(parts) < 3)
        return NULL;
    g_autoptr(at_snap) snap = at_snap_load(core->catalog, parts[1], parts[2], NULL);
    if (!snap)
        return NULL;
    g_autofree char *name = g_strdup_printf("%s@%s", snap->vdc, snap->name);
    return hit_new("snapshot", name, NULL);
}

/* live/MACHINE/DISK/ROOT */
static JsonObject *machine_hit(struct at_core *core, const char *root)
{
    g_auto(GStrv) parts = g_strsplit(root, "/", 4);
    if (g_strv_length(parts) < 4)
        return NULL;
    g_autoptr(at_mach) mach = at_mach_load(core->catalog, parts[1], NULL);
    if (!mach)
        return NULL;
    const char *disk = NULL;
    uint64_t index = g_ascii_strtoull(parts[2], NULL, 10);
    for (unsigned i = 0; i < mach->disks->len; i++) {
        const struct at_disk *d = mach->disks->pdata[i];
        if (d->index == index)
            disk = d->name;
    }
    g_autofree char *name = g_strdup_printf("%s/%s", mach->vdc, mach->workstation);
    return hit_new("workstation", name, disk);
}

static JsonObject *hit_of(struct at_core *core, const char *root)
{
    JsonObject *hit = NULL;
    if (g_str_has_prefix(root, "image/"))
        hit = hit_new("image", root + strlen("image/"), NULL);
    else if (g_str_has_prefix(root, "snapshot/"))
        hit = snapshot_hit(core, root);
    else if (g_str_has_prefix(root, "live/"))
        hit = machine_hit(core, root);
    /* A job that is under way keeps what it makes under a name of its own. */
    return hit ? hit : hit_new("root", root, NULL);
}

static JsonObject *problem_json(struct at_core *core, const struct at_verify_problem *p)
{
    g_autofree char *hex = at_digest_dup_hex(&p->chunk);
    JsonObject *o = json_object_new();
    JsonArray *roots = json_array_new(), *hits = json_array_new();
    json_object_set_string_member(o, "chunk", hex);
    at_json_set_str(o, "reason", p->reason);
    for (char **r = p->roots; r && *r; r++) {
        json_array_add_string_element(roots, *r);
        json_array_add_object_element(hits, hit_of(core, *r));
    }
    json_object_set_array_member(o, "needed_by", roots);
    json_object_set_array_member(o, "hits", hits);
    return o;
}

static JsonArray *problems_json(struct at_core *core, const GPtrArray *problems, unsigned max)
{
    JsonArray *out = json_array_new();
    for (unsigned i = 0; i < MIN(problems->len, max); i++)
        json_array_add_object_element(out, problem_json(core, problems->pdata[i]));
    return out;
}

void at_verify_tell(struct at_core *core, const GPtrArray *problems)
{
    if (problems->len == 0)
        return;
    JsonObject *data = json_object_new();
    json_object_set_int_member(data, "damaged", problems->len);
    json_object_set_array_member(data, "problems", problems_json(core, problems, EVENT_PROBLEMS));
    at_event_emit(core, "vault.damaged", "vault", at_actor_daemon.user, data);
}

JsonNode *at_verify_report_json(struct at_core *core, const struct at_verify_report *report)
{
    JsonObject *o = json_object_new();
    json_object_set_int_member(o, "chunks", (int64_t)report->chunks);
    json_object_set_int_member(o, "bytes", (int64_t)report->bytes);
    json_object_set_int_member(o, "damaged", report->problems->len);
    json_object_set_array_member(o, "problems",
                                 problems_json(core, report->problems, PROBLEMS_MAX));
    return at_json_take_obj(o);
}
