/* SPDX-License-Identifier: Apache-2.0 */
/* The block graph of a machine: overlays on top, frozen ones away. */
#include "qemu/block.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/process.h"
#include "qemu/blockdev.h"

enum { CREATE_MS = 30000, QUERY_MS = 10000, STEP_MS = 60000 };

/* ---- files ---- */

char *at_block_overlay_path(const char *dir, unsigned disk, unsigned gen)
{
    return at_blockdev_overlay_path(dir, disk, gen);
}

bool at_block_overlay_create(const char *dir, unsigned disk, unsigned gen, uint64_t size, uid_t uid,
                             gid_t gid, GError **error)
{
    g_autofree char *path = at_blockdev_overlay_path(dir, disk, gen);
    g_autofree char *fresh = g_strconcat(path, ".new", NULL);
    g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    const char *argv[] = {"qemu-img",
                          "create",
                          "-q",
                          "-f",
                          "qcow2",
                          "-o",
                          "extended_l2=on,cluster_size=128k,compat=1.1",
                          fresh,
                          bytes,
                          NULL};
    if (!at_fault_point("block.overlay.create", error) ||
        !at_run(argv, NULL, CREATE_MS, NULL, NULL, error))
        goto fail;
    if ((geteuid() == 0 && chown(fresh, uid, gid) != 0) || chmod(fresh, 0600) != 0) {
        at_error_errno(error, errno, "owner of %s", fresh);
        goto fail;
    }
    if (!at_fsync_file(fresh, error) || !at_rename_durable(fresh, path, error))
        goto fail;
    return true;
fail:
    unlink(fresh);
    g_prefix_error(error, "overlay %s: ", path);
    return false;
}

bool at_block_overlay_remove(const char *dir, unsigned disk, unsigned gen, GError **error)
{
    g_autofree char *path = at_blockdev_overlay_path(dir, disk, gen);
    return at_fault_point("block.overlay.remove", error) && at_unlink_durable(path, error);
}

/* ---- what is there ---- */

/* name -> its object in the answer, which @ret_answer keeps alive. */
static GHashTable *query_nodes(struct at_qmp *qmp, JsonNode **ret_answer, GError **error)
{
    JsonObject *args = json_object_new();
    json_object_set_boolean_member(args, "flat", TRUE);
    g_autoptr(JsonNode) answer = NULL;
    if (!at_qmp_call(qmp, "query-named-block-nodes", args, QUERY_MS, &answer, error))
        return NULL;
    if (!JSON_NODE_HOLDS_ARRAY(answer)) {
        at_error(error, AT_ERROR_PEER, "query-named-block-nodes gave no list");
        return NULL;
    }
    JsonArray *list = json_node_get_array(answer);
    GHashTable *nodes = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; i < json_array_get_length(list); i++) {
        JsonNode *element = json_array_get_element(list, i);
        JsonObject *node = JSON_NODE_HOLDS_OBJECT(element) ? json_node_get_object(element) : NULL;
        const char *name = at_json_str(node, "node-name", NULL);
        if (name)
            g_hash_table_insert(nodes, (char *)name, node);
    }
    *ret_answer = g_steal_pointer(&answer);
    return nodes;
}

static bool is_device(const char *qdev, unsigned disk)
{
    g_autofree char *id = g_strdup_printf("disk%u", disk);
    g_auto(GStrv) parts = g_strsplit(qdev ? qdev : "", "/", -1);
    return g_strv_contains((const char *const *)parts, id);
}

bool at_block_live_gen(struct at_qmp *qmp, unsigned disk, unsigned *ret_gen, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;
    if (!at_qmp_call(qmp, "query-block", NULL, QUERY_MS, &answer, error))
        return false;
    if (!JSON_NODE_HOLDS_ARRAY(answer))
        return at_error(error, AT_ERROR_PEER, "query-block gave no list");
    JsonArray *list = json_node_get_array(answer);
    for (unsigned i = 0; i < json_array_get_length(list); i++) {
        JsonNode *element = json_array_get_element(list, i);
        JsonObject *device = JSON_NODE_HOLDS_OBJECT(element) ? json_node_get_object(element) : NULL;
        if (!is_device(at_json_str(device, "qdev", NULL), disk))
            continue;
        const char *node = at_json_str(at_json_obj(device, "inserted"), "node-name", NULL);
        unsigned of_disk;
        if (!at_blockdev_parse_overlay_node(node, &of_disk, ret_gen) || of_disk != disk)
            return at_error(error, AT_ERROR_INVALID, "device disk%u is on node %s, not an overlay",
                            disk, node ? node : "(none)");
        return true;
    }
    return at_error(error, AT_ERROR_NOT_FOUND, "the machine has no device disk%u", disk);
}

/* ---- changing it ---- */

static bool add_node(struct at_qmp *qmp, GHashTable *nodes, JsonObject *options, int timeout_ms,
                     GError **error)
{
    const char *name = json_object_get_string_member(options, "node-name");
    if (g_hash_table_contains(nodes, name)) {
        json_object_unref(options);
        return true;
    }
    return at_qmp_call(qmp, "blockdev-add", options, timeout_ms, NULL, error);
}

static bool delete_node(struct at_qmp *qmp, GHashTable *nodes, const char *name, GError **error)
{
    if (!g_hash_table_contains(nodes, name))
        return true;
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "node-name", name);
    if (!at_qmp_call(qmp, "blockdev-del", args, STEP_MS, NULL, error)) {
        g_prefix_error(error, "node %s: ", name);
        return false;
    }
    g_hash_table_remove(nodes, name);
    return true;
}

static bool delete_overlay(struct at_qmp *qmp, GHashTable *nodes, unsigned disk, unsigned gen,
                           GError **error)
{
    g_autofree char *overlay = at_blockdev_overlay_node(disk, gen);
    g_autofree char *file = at_blockdev_file_node(disk, gen);
    return delete_node(qmp, nodes, overlay, error) && delete_node(qmp, nodes, file, error);
}

bool at_block_overlay_add(struct at_qmp *qmp, const char *dir, unsigned disk, unsigned gen,
                          int timeout_ms, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GHashTable) nodes = query_nodes(qmp, &answer, error);
    /* A node of that name, left by an earlier attempt, may hold a file that was replaced since. */
    return nodes && delete_overlay(qmp, nodes, disk, gen, error) &&
           add_node(qmp, nodes, at_blockdev_file_options(dir, disk, gen), timeout_ms, error) &&
           add_node(qmp, nodes, at_blockdev_overlay_options(disk, gen, NULL), timeout_ms, error);
}

bool at_block_overlay_del(struct at_qmp *qmp, unsigned disk, unsigned gen, GError **error)
{
    unsigned live;
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GHashTable) nodes = query_nodes(qmp, &answer, error);
    if (!nodes)
        return false;
    g_autofree char *overlay = at_blockdev_overlay_node(disk, gen);
    if (g_hash_table_contains(nodes, overlay)) {
        if (!at_block_live_gen(qmp, disk, &live, error))
            return false;
        if (live == gen)
            return at_error(error, AT_ERROR_CONFLICT, "disk%u writes to overlay %s", disk, overlay);
    }
    return delete_overlay(qmp, nodes, disk, gen, error);
}

/* The node's name has a part of the root only: a node that stands for other content under the same
 * name would silently change what the guest reads. */
static bool check_base(GHashTable *nodes, const char *name, const char *root, GError **error)
{
    JsonObject *node = g_hash_table_lookup(nodes, name);
    const char *file = at_json_str(node, "file", "");
    if (node && !strstr(file, root))
        return at_error(error, AT_ERROR_CONFLICT, "node %s is %s, not export %s", name, file, root);
    return true;
}

static bool reopen_above(struct at_qmp *qmp, GHashTable *nodes, unsigned disk, unsigned above,
                         const char *base, GError **error)
{
    g_autofree char *name = at_blockdev_overlay_node(disk, above);
    JsonObject *node = g_hash_table_lookup(nodes, name);
    if (!node)
        return at_error(error, AT_ERROR_NOT_FOUND, "the machine has no overlay %s", name);
    JsonObject *options = at_blockdev_overlay_options(disk, above, base);
    if (at_json_bool(node, "ro", false)) /* frozen itself, and to stay so */
        json_object_set_boolean_member(options, "read-only", TRUE);
    JsonArray *list = json_array_new();
    json_array_add_object_element(list, options);
    JsonObject *args = json_object_new();
    json_object_set_array_member(args, "options", list);
    return at_qmp_call(qmp, "blockdev-reopen", args, STEP_MS, NULL, error);
}

static int newest_first(const void *a, const void *b)
{
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x < y) - (x > y);
}

static bool rebase(struct at_qmp *qmp, const char *nbd_socket, unsigned disk, unsigned above,
                   const char *new_root, const unsigned *gens, unsigned n_gens,
                   const char *old_root, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GHashTable) nodes = query_nodes(qmp, &answer, error);
    g_autofree char *base = at_blockdev_base_node(disk, new_root);
    if (!nodes || !check_base(nodes, base, new_root, error))
        return false;
    for (unsigned i = 0; i < n_gens; i++) {
        if (gens[i] >= above)
            return at_error(error, AT_ERROR_INVALID, "overlay %u is not below %u", gens[i], above);
    }
    if (!at_fault_point("block.rebase.add", error) ||
        !add_node(qmp, nodes, at_blockdev_base_options(nbd_socket, disk, new_root), STEP_MS,
                  error) ||
        !at_fault_point("block.rebase.reopen", error) ||
        !reopen_above(qmp, nodes, disk, above, base, error))
        return false;
    for (unsigned i = 0; i < n_gens; i++) {
        if (!at_fault_point("block.rebase.delete", error) ||
            !delete_overlay(qmp, nodes, disk, gens[i], error))
            return false;
    }
    if (!old_root)
        return true;
    g_autofree char *old_base = at_blockdev_base_node(disk, old_root);
    return strcmp(old_base, base) == 0 ||
           (at_fault_point("block.rebase.base", error) && delete_node(qmp, nodes, old_base, error));
}

bool at_block_rebase(struct at_qmp *qmp, const char *dir, const char *nbd_socket, unsigned disk,
                     unsigned above, const char *new_root, const unsigned *old_gens,
                     unsigned n_old_gens, const char *old_root, GError **error)
{
    (void)dir;
    g_autofree unsigned *gens = g_memdup2(old_gens, n_old_gens * sizeof *old_gens);
    if (n_old_gens > 0)
        qsort(gens, n_old_gens, sizeof *gens, newest_first);
    if (rebase(qmp, nbd_socket, disk, above, new_root, gens, n_old_gens, old_root, error))
        return true;
    g_prefix_error(error, "disk%u: rebase onto %.16s: ", disk, new_root);
    return false;
}
