/* SPDX-License-Identifier: Apache-2.0 */
/* nbdkit plugin: serves the disks of a vault read-only.  The export name is the root of the tree,
 * 64 hex digits; every byte is proved before it is sent.  Manual: nbdkit-atoll-plugin.pod. */
#define NBDKIT_API_VERSION 2
#include <errno.h>
#include <glib.h>
#include <malloc.h>
#include <nbdkit-plugin.h>
#include <string.h>

#include "base/error.h"
#include "vault/format.h"
#include "vault/maintenance.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define DEFAULT_CACHE (INT64_C(256) << 20)

static char *vault_dir;
static char *damage_path; /* or NULL */
static int64_t cache_bytes = DEFAULT_CACHE;
static struct at_vault *vault;

static GMutex told_lock; /* guards told */
static GHashTable *told; /* messages that the log has already */

/* Says each thing once: a guest may read a bad chunk a thousand times. */
static void tell(const GError *error)
{
    g_mutex_lock(&told_lock);
    bool fresh = !g_hash_table_contains(told, error->message);
    if (fresh && g_hash_table_size(told) < 10000)
        g_hash_table_add(told, g_strdup(error->message));
    g_mutex_unlock(&told_lock);
    if (fresh)
        nbdkit_error("%s", error->message);
}

/* Buffers of chunks come and go in many threads. By default each thread has a heap that grows by a
 * system call per buffer, under the lock that page faults of all threads want. */
static void keep_one_heap(void)
{
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_TOP_PAD, 4 << 20);
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
}

static void plugin_load(void)
{
    keep_one_heap();
    told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

static void plugin_unload(void)
{
    at_vault_close(vault);
    g_hash_table_unref(told);
    g_free(vault_dir);
    g_free(damage_path);
}

static int plugin_config(const char *key, const char *value)
{
    if (strcmp(key, "vault") == 0) {
        char *path = nbdkit_realpath(value);
        if (!path)
            return -1;
        g_free(vault_dir);
        vault_dir = g_strdup(path);
        free(path);
        return 0;
    }
    if (strcmp(key, "damage") == 0) {
        char *path = nbdkit_absolute_path(value);
        if (!path)
            return -1;
        g_free(damage_path);
        damage_path = g_strdup(path);
        free(path);
        return 0;
    }
    if (strcmp(key, "cache") == 0) {
        cache_bytes = nbdkit_parse_size(value);
        return cache_bytes < 0 ? -1 : 0;
    }
    nbdkit_error("unknown parameter '%s'; there are vault=DIR, cache=SIZE and damage=FILE", key);
    return -1;
}

static int plugin_config_complete(void)
{
    if (!vault_dir) {
        nbdkit_error("the parameter vault=DIR is missing");
        return -1;
    }
    return 0;
}

static void note_damage(const struct at_digest *digest, void *user)
{
    at_damage_report(damage_path, digest);
}

/* After nbdkit has forked: the index must not be open across a fork. */
static int plugin_after_fork(void)
{
    g_autoptr(GError) error = NULL;
    at_vault_report_index_to(damage_path);
    vault = at_vault_open(vault_dir, AT_VAULT_READ, (gid_t)-1, &error);
    if (!vault) {
        nbdkit_error("%s", error->message);
        return -1;
    }
    at_vault_set_cache(vault, (size_t)cache_bytes);
    if (damage_path)
        at_vault_on_damage(vault, note_damage, NULL);
    return 0;
}

/* Which disks there are is not told: who knows a root may read it. */
static int plugin_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
    return 0;
}

static const char *plugin_default_export(int readonly, int is_tls)
{
    return NULL;
}

static void *plugin_open(int readonly)
{
    g_autoptr(GError) error = NULL;
    struct at_digest root;
    const char *name = nbdkit_export_name();
    struct at_tree *tree = NULL;
    if (name && at_digest_from_hex(name, &root, &error))
        tree = at_tree_open(vault, &root, &error);
    if (!tree && !error)
        at_error(&error, AT_ERROR_INVALID, "no name");
    if (!tree) {
        /* A machine tries again and again. */
        g_prefix_error(&error, "export '%s': ", name ? name : "");
        tell(error);
    }
    return tree;
}

static void plugin_close(void *handle)
{
    at_tree_close(handle);
}

static int64_t plugin_get_size(void *handle)
{
    return (int64_t)at_tree_size(handle);
}

static int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                             uint32_t *maximum)
{
    *minimum = 1;
    *preferred = AT_BLOCK;
    *maximum = 32u << 20;
    return 0;
}

static int plugin_no(void *handle)
{
    return 0;
}

static int plugin_yes(void *handle)
{
    return 1;
}

static int plugin_can_cache(void *handle)
{
    return NBDKIT_CACHE_EMULATE; /* nbdkit reads it, and so it is in the cache */
}

static int plugin_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    g_autoptr(GError) error = NULL;
    if (at_tree_read(handle, buf, offset, count, &error))
        return 0;
    tell(error);
    nbdkit_set_error(EIO);
    return -1;
}

static bool add_extent(uint64_t offset, uint64_t len, bool hole, void *user, GError **error)
{
    uint32_t type = hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
    if (nbdkit_add_extent(user, offset, len, type) == -1)
        return at_error_errno(error, errno, "extent");
    return true;
}

static int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                          struct nbdkit_extents *extents)
{
    g_autoptr(GError) error = NULL;
    if (at_tree_extents(handle, offset, count, add_extent, extents, &error))
        return 0;
    tell(error);
    nbdkit_set_error(EIO);
    return -1;
}

static struct nbdkit_plugin plugin = {
    .name = "atoll",
    .longname = "disks of an Atoll vault",
    .description = "Serves the disks of a vault read-only; the export name is the tree root.",
    .version = ATOLL_VERSION,
    .load = plugin_load,
    .unload = plugin_unload,
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .config_help = "vault=DIR     (required) directory of the vault\n"
                   "cache=SIZE    memory for decompressed chunks (default 256M)\n"
                   "damage=FILE   names of damaged objects are added here, for atolld",
    .magic_config_key = "vault",
    .after_fork = plugin_after_fork,
    .list_exports = plugin_list_exports,
    .default_export = plugin_default_export,
    .open = plugin_open,
    .close = plugin_close,
    .get_size = plugin_get_size,
    .block_size = plugin_block_size,
    .can_write = plugin_no,
    .is_rotational = plugin_no,
    .can_extents = plugin_yes,
    .can_multi_conn = plugin_yes,
    .can_cache = plugin_can_cache,
    .pread = plugin_pread,
    .extents = plugin_extents,
    .errno_is_preserved = 0,
};

NBDKIT_REGISTER_PLUGIN(plugin)
