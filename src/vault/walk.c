/* SPDX-License-Identifier: Apache-2.0 */
/* Walking what a root reaches: manifest, disks, nodes, chunks. */
#include "vault/walk.h"

#include "base/error.h"
#include "base/json.h"

/* An unreadable object: the end of the walk, or a note and true. */
static bool note(struct at_walk *walk, const struct at_digest *digest, GError *problem,
                 GError **error)
{
    if (!walk->damaged) {
        g_propagate_error(error, problem);
        return false;
    }
    walk->damaged(digest, problem, walk->user);
    g_error_free(problem);
    return true;
}

static bool walk_node(struct at_walk *walk, const struct at_digest *digest, unsigned level,
                      const struct at_entry *parent, GError **error)
{
    if (!at_digest_set_add(walk->nodes, digest))
        return true;
    if (g_cancellable_is_cancelled(walk->cancellable))
        return at_error(error, AT_ERROR_CANCELLED, "cancelled");
    if (!walk->visit(digest, AT_KIND_NODE, walk->user, error))
        return false;
    GError *local = NULL;
    g_autoptr(at_buf_auto) node = at_object_read(walk->vault, digest, AT_KIND_NODE, &local);
    if (!node || !at_node_valid(node->data, node->len, level, parent, &local))
        return note(walk, digest, local, error);
    for (unsigned i = 0; i < at_node_count(node->data); i++) {
        struct at_entry e;
        at_node_entry(node->data, i, &e);
        if (level == 0 ? !walk->visit(&e.digest, AT_KIND_CHUNK, walk->user, error)
                       : !walk_node(walk, &e.digest, level - 1, &e, error))
            return false;
    }
    return true;
}

static bool walk_disk(struct at_walk *walk, const struct at_digest *digest, GError **error)
{
    if (!at_digest_set_add(walk->nodes, digest))
        return true;
    if (!walk->visit(digest, AT_KIND_DISK, walk->user, error))
        return false;
    GError *local = NULL;
    struct at_disk disk;
    g_autoptr(at_buf_auto) buf = at_object_read(walk->vault, digest, AT_KIND_DISK, &local);
    if (!buf || !at_disk_decode(buf->data, buf->len, &disk, &local))
        return note(walk, digest, local, error);
    return disk.height == 0 || walk_node(walk, &disk.top, disk.height - 1, NULL, error);
}

bool at_manifest_disks(GBytes *manifest, GArray *disks, GError **error)
{
    gsize len;
    const char *text = g_bytes_get_data(manifest, &len);
    g_autoptr(JsonNode) node = at_json_parse(text ? text : "", (gssize)len, error);
    if (!node)
        return false;
    JsonArray *list =
        JSON_NODE_HOLDS_OBJECT(node) ? at_json_arr(json_node_get_object(node), "disks") : NULL;
    for (unsigned i = 0; list && i < json_array_get_length(list); i++) {
        JsonNode *item = json_array_get_element(list, i);
        const char *hex = JSON_NODE_HOLDS_OBJECT(item)
                              ? at_json_str(json_node_get_object(item), "root", NULL)
                              : NULL;
        struct at_digest digest;
        if (!hex || !at_digest_from_hex(hex, &digest, NULL))
            return at_error(error, AT_ERROR_CORRUPT, "disk %u of the manifest has no root", i);
        g_array_append_val(disks, digest);
    }
    return true;
}

bool at_walk_root(struct at_walk *walk, enum at_root_kind kind, const struct at_digest *digest,
                  GError **error)
{
    if (kind == AT_ROOT_TREE)
        return walk_disk(walk, digest, error);
    if (!at_digest_set_add(walk->nodes, digest))
        return true;
    if (!walk->visit(digest, AT_KIND_BLOB, walk->user, error))
        return false;
    GError *local = NULL;
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(struct at_digest));
    g_autoptr(GBytes) manifest = at_vault_blob_get(walk->vault, digest, &local);
    if (!manifest || !at_manifest_disks(manifest, disks, &local))
        return note(walk, digest, local, error);
    for (unsigned i = 0; i < disks->len; i++) {
        if (!walk_disk(walk, &g_array_index(disks, struct at_digest, i), error))
            return false;
    }
    return true;
}
