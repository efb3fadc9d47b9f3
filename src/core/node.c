/* SPDX-License-Identifier: Apache-2.0 */
/* This node: what it has, what it offers to machines, and what of it stands in their way. Looking
 * for the latter asks other programs, so it is done by a thread now and then. */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/core-internal.h"
#include "image/image.h"
#include "net/net.h"
#include "qemu/cgroup.h"

enum { FRESH_S = 30 };
/* When KVM is probed again after a probe that only took too long; 0 last. */
static const unsigned again_s[] = {30, 120, 600, 0};

struct at_node {
    struct at_core *core;
    GMutex lock;    /* guards the members up to the next comment */
    GStrv warnings; /* NULL before the first look */
    const char *cgroup;
    char *cgroup_reason;
    GHashTable *told; /* reasons that were logged */
    /* main thread */
    int64_t looked_us;
    int looking; /* atomic */
    unsigned timer, tries;
};

/* ---- memory ---- */

static uint64_t meminfo(const char *text, const char *name)
{
    const char *p = strstr(text, name);
    return p ? g_ascii_strtoull(p + strlen(name), NULL, 10) * 1024 : 0;
}

bool at_node_has_numa(void)
{
    return access("/sys/devices/system/node/node1", F_OK) == 0;
}

uint64_t at_node_memory(uint64_t *ret_available)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents("/proc/meminfo", &text, NULL, NULL))
        return 0;
    if (ret_available)
        *ret_available = meminfo(text, "MemAvailable:");
    return meminfo(text, "MemTotal:");
}

/* ---- space ---- */

bool at_node_space(struct at_core *core, struct at_node_space *ret_space, GError **error)
{
    struct statvfs fs;
    if (statvfs(core->state_dir, &fs) != 0)
        return at_error_errno(error, errno, "look at the space of %s", core->state_dir);
    ret_space->total = (uint64_t)fs.f_blocks * fs.f_frsize;
    ret_space->available = (uint64_t)fs.f_bavail * fs.f_frsize;
    ret_space->kept = CLAMP(ret_space->total / 20, 32ull << 20, 1ull << 30);
    return true;
}

bool at_node_room(struct at_core *core, GError **error)
{
    struct at_node_space space;
    if (!at_node_space(core, &space, error))
        return false;
    if (space.available >= space.kept)
        return true;
    const uint64_t whole_mib = ~((1ull << 20) - 1);
    g_autofree char *have = at_size_format(space.available & whole_mib);
    g_autofree char *kept = at_size_format(space.kept & whole_mib);
    return at_error(error, AT_ERROR_NO_SPACE,
                    "%s are free on the file system of %s, and %s are kept for the running guests; "
                    "delete snapshots or clones and run: atoll vault gc, or grow it",
                    have, core->state_dir, kept);
}

/* ---- control groups ---- */

static void set_cgroup(struct at_node *node, const char *kind, const char *reason)
{
    g_mutex_lock(&node->lock);
    node->cgroup = kind;
    g_free(node->cgroup_reason);
    node->cgroup_reason = g_strdup(reason);
    bool tell = reason && g_hash_table_add(node->told, g_strdup(reason));
    g_mutex_unlock(&node->lock);
    if (tell)
        at_core_log("machines run without limits of memory, tasks and processors: %s", reason);
}

void at_node_note_cgroup(struct at_core *core, const char *reason)
{
    set_cgroup(core->node, reason ? "none" : at_cgroup_kind(), reason);
}

/* ---- warnings ---- */

static void add_all(GStrvBuilder *list, const char *what, GStrv texts)
{
    for (char **text = texts; *text; text++) {
        g_autofree char *whole = g_strconcat(what, *text, NULL);
        g_strv_builder_add(list, whole);
    }
    g_strfreev(texts);
}

static void *look(void *user)
{
    struct at_node *node = user;
    g_autoptr(GStrvBuilder) list = g_strv_builder_new();
    add_all(list, "", at_net_requirements());
    add_all(list, "missing for work on images: ", at_image_requirements());
    add_all(list, "", at_net_warnings());
    g_mutex_lock(&node->lock);
    g_strfreev(node->warnings);
    node->warnings = g_strv_builder_end(list);
    g_mutex_unlock(&node->lock);
    g_atomic_int_set(&node->looking, 0);
    return NULL;
}

static void look_when_due(struct at_node *node)
{
    if (node->looked_us && at_clock_us() - node->looked_us < FRESH_S * G_USEC_PER_SEC)
        return;
    if (!g_atomic_int_compare_and_exchange(&node->looking, 0, 1))
        return;
    node->looked_us = at_clock_us();
    g_thread_unref(g_thread_new("node-look", look, node));
}

/* ---- KVM, once more ---- */

static gboolean probe_again(void *user);

static void plan_probe(struct at_node *node)
{
    if (again_s[node->tries] > 0 && !node->core->closing)
        node->timer = g_timeout_add_seconds(again_s[node->tries++], probe_again, node);
}

static gboolean probed(void *user)
{
    struct at_node *node = user;
    if (at_machine_probe_accel(AT_ACCEL_AUTO, NULL, NULL) == AT_ACCEL_KVM)
        at_core_log("KVM works now: machines that are started from here on run on it");
    else
        plan_probe(node);
    return G_SOURCE_REMOVE;
}

static void *probe_thread(void *user)
{
    struct at_node *node = user;
    at_machine_probe_again();
    at_core_later(node->core, probed, node);
    return NULL;
}

static gboolean probe_again(void *user)
{
    struct at_node *node = user;
    node->timer = 0;
    g_thread_unref(g_thread_new("probe-kvm", probe_thread, node));
    return G_SOURCE_REMOVE;
}

/* ---- all of it ---- */

void at_node_open(struct at_core *core)
{
    struct at_node *node = g_new0(struct at_node, 1);
    g_autofree char *reason = NULL;
    core->node = node;
    node->core = core;
    g_mutex_init(&node->lock);
    node->told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    const char *kind = at_cgroup_probe(core->site_id, &reason);
    set_cgroup(node, kind, reason);
    look_when_due(node);
    if (at_machine_probe_accel(core->accel_wanted, NULL, NULL) == AT_ACCEL_TCG &&
        core->accel_wanted == AT_ACCEL_AUTO)
        plan_probe(node);
}

void at_node_close(struct at_core *core)
{
    if (core->node)
        g_clear_handle_id(&core->node->timer, g_source_remove);
    /* The object stays, for a thread that is still looking. */
}

JsonNode *at_core_node_view(struct at_core *core)
{
    struct at_node *node = core->node;
    uint64_t available = 0, total = at_node_memory(&available);
    g_autofree char *qemu = at_qemu_version(NULL);
    g_autofree char *accel_reason = NULL;
    enum at_accel accel = at_machine_probe_accel(core->accel_wanted, &accel_reason, NULL);
    JsonArray *warnings = json_array_new();
    JsonObject *o = json_object_new();
    look_when_due(node);
    json_object_set_string_member(o, "name", g_get_host_name());
    json_object_set_int_member(o, "cpus", g_get_num_processors());
    json_object_set_int_member(o, "memory_bytes", (int64_t)total);
    json_object_set_int_member(o, "memory_available_bytes", (int64_t)available);
    struct at_node_space space;
    if (at_node_space(core, &space, NULL)) {
        json_object_set_int_member(o, "space_bytes", (int64_t)space.total);
        json_object_set_int_member(o, "space_available_bytes", (int64_t)space.available);
        json_object_set_int_member(o, "space_kept_bytes", (int64_t)space.kept);
    }
    json_object_set_string_member(o, "accel", at_accel_name(accel));
    at_json_set_str(o, "accel_reason", accel_reason);
    at_json_set_str(o, "qemu", qemu);
    json_object_set_boolean_member(o, "image_server", at_nbd_alive(core));
    g_mutex_lock(&node->lock);
    json_object_set_string_member(o, "cgroup", node->cgroup);
    at_json_set_str(o, "cgroup_reason", node->cgroup_reason);
    for (char **text = node->warnings; text && *text; text++)
        json_array_add_string_element(warnings, *text);
    g_mutex_unlock(&node->lock);
    json_object_set_array_member(o, "warnings", warnings);
    return at_json_take_obj(o);
}
