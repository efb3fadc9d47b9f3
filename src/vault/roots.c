/* SPDX-License-Identifier: Apache-2.0 */
/* Roots: small files in `roots/` that name a disk or a manifest and keep it alive. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/fault.h"
#include "vault/hash.h"
#include "vault/vault-internal.h"
#include "vault/walk.h"

#define NAME_MAX_LEN 255u
#define PLAIN_MAX 200u /* longer names are filed under their hash */

void at_root_free(struct at_root *root)
{
    if (!root)
        return;
    g_free(root->name);
    g_free(root);
}

static bool check_name(const char *name, GError **error)
{
    size_t len = strlen(name);
    if (len == 0 || len > NAME_MAX_LEN ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._/@-") != len)
        return at_error(error, AT_ERROR_INVALID,
                        "root name '%s' is not 1 to 255 characters of a-z 0-9 . _ / @ -", name);
    return true;
}

/* One name, one file: '/' is '+', which no name has; names that the file system could mistake or
 * that are long are '=' and their SHA-256. */
static char *file_of(const struct at_vault *vault, const char *name)
{
    if (name[0] == '.' || strlen(name) > PLAIN_MAX) {
        struct at_digest d;
        char hex[AT_DIGEST_HEX + 1];
        at_hash(name, strlen(name), &d);
        at_digest_to_hex(&d, hex);
        return g_strdup_printf("%s/roots/=%s", vault->dir, hex);
    }
    g_autofree char *encoded = g_strdelimit(g_strdup(name), "/", '+');
    return g_strdup_printf("%s/roots/%s", vault->dir, encoded);
}

static const char *const kinds[] = {[AT_ROOT_TREE] = "tree", [AT_ROOT_MANIFEST] = "manifest"};

static char *format_root(const char *name, enum at_root_kind kind, const struct at_digest *digest)
{
    g_autofree char *hex = at_digest_dup_hex(digest);
    g_autofree char *body =
        g_strdup_printf("atoll-root 1\nname %s\nkind %s\ndigest %s\n", name, kinds[kind], hex);
    struct at_digest sum;
    at_hash(body, strlen(body), &sum);
    g_autofree char *check = at_digest_dup_hex(&sum);
    return g_strdup_printf("%scheck %s\n", body, check);
}

static struct at_root *read_root(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) local = NULL;
    if (!at_read_text(path, &text, &local)) {
        at_error(error,
                 g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT) ? AT_ERROR_NOT_FOUND
                                                                          : AT_ERROR_IO,
                 "%s", local->message);
        return NULL;
    }
    unsigned version;
    char name[NAME_MAX_LEN + 1], kind[16], hex[AT_DIGEST_HEX + 1];
    if (sscanf(text, "atoll-root %u", &version) == 1 && version > 1) {
        at_error(error, AT_ERROR_INVALID, "root %s has version %u, newer than this Atoll", path,
                 version);
        return NULL;
    }
    struct at_digest digest;
    if (sscanf(text, "atoll-root %u name %255s kind %15s digest %64s", &version, name, kind, hex) !=
            4 ||
        !at_digest_from_hex(hex, &digest, NULL)) {
        at_error(error, AT_ERROR_CORRUPT, "root file %s is damaged", path);
        return NULL;
    }
    enum at_root_kind k = strcmp(kind, "manifest") == 0 ? AT_ROOT_MANIFEST : AT_ROOT_TREE;
    g_autofree char *expected = format_root(name, k, &digest);
    if (strcmp(expected, text) != 0) {
        at_error(error, AT_ERROR_CORRUPT, "root file %s is damaged", path);
        return NULL;
    }
    struct at_root *root = g_new0(struct at_root, 1);
    root->name = g_strdup(name);
    root->kind = k;
    root->digest = digest;
    return root;
}

/* Whether an object is in the index, of that kind, and a running gc does not free it.  With
 * roots_lock held. */
static bool check_kept(struct at_vault *vault, const struct at_digest *digest, uint8_t kind,
                       GError **error)
{
    struct at_place place;
    bool found;
    if (!at_index_lookup(vault->index, digest, &place, &found, error))
        return false;
    if (found && place.kind == kind && at_gc_keeps(vault, digest))
        return true;
    g_autofree char *hex = at_digest_dup_hex(digest);
    return at_error(error, AT_ERROR_NOT_FOUND, "no %s %s in the vault", at_kind_name(kind), hex);
}

/* The same for a manifest and each disk that it keeps. */
static bool check_manifest(struct at_vault *vault, const struct at_digest *digest, GError **error)
{
    if (!check_kept(vault, digest, AT_KIND_BLOB, error))
        return false;
    g_autoptr(GArray) disks = g_array_new(FALSE, FALSE, sizeof(struct at_digest));
    g_autoptr(GBytes) manifest = at_vault_blob_get(vault, digest, error);
    if (!manifest || !at_manifest_disks(manifest, disks, error))
        return false;
    for (unsigned i = 0; i < disks->len; i++) {
        if (!check_kept(vault, &g_array_index(disks, struct at_digest, i), AT_KIND_DISK, error))
            return false;
    }
    return true;
}

bool at_vault_root_set(struct at_vault *vault, const char *name, enum at_root_kind kind,
                       const struct at_digest *digest, GError **error)
{
    if (!vault->writer)
        return at_error(error, AT_ERROR_DENIED, "vault %s is open for reading only", vault->dir);
    /* Content before names: whatever is not durable yet becomes so first. */
    if (!check_name(name, error) ||
        !at_store_flush(vault->store, at_store_failures(vault->store), error))
        return false;
    g_autofree char *path = file_of(vault, name);
    g_autofree char *text = format_root(name, kind, digest);
    g_mutex_lock(&vault->roots_lock);
    bool ok = kind == AT_ROOT_TREE ? check_kept(vault, digest, AT_KIND_DISK, error)
                                   : check_manifest(vault, digest, error);
    if (!ok)
        g_prefix_error(error, "root %s: ", name);
    ok = ok && at_fault_point("vault.root.publish", error) &&
         at_atomic_write(path, text, strlen(text), 0640, error);
    g_mutex_unlock(&vault->roots_lock);
    return ok;
}

bool at_vault_root_remove(struct at_vault *vault, const char *name, GError **error)
{
    if (!vault->writer)
        return at_error(error, AT_ERROR_DENIED, "vault %s is open for reading only", vault->dir);
    if (!check_name(name, error))
        return false;
    g_autofree char *path = file_of(vault, name);
    g_mutex_lock(&vault->roots_lock);
    bool ok = at_fault_point("vault.root.remove", error) && at_unlink_durable(path, error);
    g_mutex_unlock(&vault->roots_lock);
    return ok;
}

bool at_vault_root_get(struct at_vault *vault, const char *name, struct at_root **ret_root,
                       GError **error)
{
    if (!check_name(name, error))
        return false;
    g_autofree char *path = file_of(vault, name);
    g_autoptr(GError) local = NULL;
    struct at_root *root = read_root(path, &local);
    if (!root) {
        if (local->code == AT_ERROR_NOT_FOUND)
            return at_error(error, AT_ERROR_NOT_FOUND, "there is no root %s", name);
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    *ret_root = root;
    return true;
}

static int by_name(gconstpointer a, gconstpointer b)
{
    return strcmp((*(struct at_root *const *)a)->name, (*(struct at_root *const *)b)->name);
}

GPtrArray *at_vault_root_list(struct at_vault *vault, const char *prefix, GError **error)
{
    g_autofree char *dir = at_vault_path(vault, "roots");
    DIR *d = at_open_dir(dir);
    if (!d) {
        at_error_errno(error, errno, "read directory %s", dir);
        return NULL;
    }
    g_autoptr(GPtrArray) roots = g_ptr_array_new_with_free_func((GDestroyNotify)at_root_free);
    bool ok = true;
    for (struct dirent *e; ok && (errno = 0, e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        g_autofree char *path = g_build_filename(dir, e->d_name, NULL);
        g_autoptr(GError) local = NULL;
        struct at_root *root = read_root(path, &local);
        if (!root && local->code == AT_ERROR_NOT_FOUND)
            continue; /* removed meanwhile */
        if (!root) {
            g_propagate_error(error, g_steal_pointer(&local));
            ok = false;
        } else if (prefix && !g_str_has_prefix(root->name, prefix)) {
            at_root_free(root);
        } else {
            g_ptr_array_add(roots, root);
        }
    }
    if (ok && errno) /* gc would free what the roots keep that are not listed */
        ok = at_error_errno(error, errno, "read directory %s", dir);
    closedir(d);
    if (!ok)
        return NULL;
    g_ptr_array_sort(roots, by_name);
    return g_steal_pointer(&roots);
}
