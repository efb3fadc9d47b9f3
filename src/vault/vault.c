/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a vault: directories, format, writer lock, the worker pool. */
#include "vault/vault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/retry.h"
#include "vault/vault-internal.h"

#define CHUNK_CACHE (32u << 20)
#define BLOCK_CACHE (4u << 20) /* names of the blocks of half a GiB */
#define NODE_CACHE (8u << 20)
#define AHEAD_MAX (4u << 20)
#define AHEAD_SHARE 16 /* of the cache: readers must not push each other's chunks out */
#define AHEAD_NICE 5

char *at_vault_path(const struct at_vault *vault, const char *name)
{
    return g_build_filename(vault->dir, name, NULL);
}

DIR *at_open_dir(const char *path)
{
    DIR *d;
    do
        d = opendir(path);
    while (!d && errno == EINTR);
    return d;
}

/* A directory whose files get its group; readers may list it. */
static bool make_dir(const char *path, gid_t gid, GError **error)
{
    if (!at_mkdirs(path, 0750, error))
        return false;
    if (gid != (gid_t)-1 && chown(path, (uid_t)-1, gid) != 0)
        return at_error_errno(error, errno, "set group of %s", path);
    if (chmod(path, 02750) != 0)
        return at_error_errno(error, errno, "set mode of %s", path);
    return true;
}

static const char *const dirs[] = {"packs", "roots", "index"};

/* Whether no vault was ever there: the directory is missing or empty, or (with @ours) has only what
 * a crash left of one that was being made, before it had its format. */
static bool is_unmade(const char *dir, bool ours, bool *ret_unmade, GError **error)
{
    DIR *d = at_open_dir(dir);
    if (!d && errno != ENOENT)
        return at_error_errno(error, errno, "read directory %s", dir);
    bool ok = true, unmade = true;
    for (struct dirent *e; d && ok && unmade && (errno = 0, e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            (ours && g_str_has_prefix(e->d_name, ".format.tmp-")))
            continue;
        unmade = false;
        for (unsigned i = 0; ours && i < G_N_ELEMENTS(dirs) && !unmade; i++) {
            g_autofree char *path = g_build_filename(dir, dirs[i], NULL);
            if (strcmp(e->d_name, dirs[i]) == 0)
                ok = is_unmade(path, false, &unmade, error);
        }
    }
    if (ok && unmade && d && errno)
        ok = at_error_errno(error, errno, "read directory %s", dir);
    if (d)
        closedir(d);
    if (ok)
        *ret_unmade = unmade;
    return ok;
}

static bool create(struct at_vault *vault, GError **error)
{
    if (!make_dir(vault->dir, vault->gid, error))
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path = at_vault_path(vault, dirs[i]);
        if (!make_dir(path, vault->gid, error))
            return false;
    }
    g_autofree char *path = at_vault_path(vault, "format");
    g_autofree char *text = g_strdup_printf("atoll-vault %u\n", AT_VAULT_FORMAT);
    return at_atomic_write(path, text, strlen(text), 0640, error);
}

static bool own_files(const char *dir, gid_t gid, GError **error)
{
    DIR *d = at_open_dir(dir);
    bool ok = d != NULL || at_error_errno(error, errno, "read directory %s", dir);
    for (struct dirent *e; ok && (errno = 0, e = readdir(d));) {
        if (e->d_name[0] != '.' && e->d_type != DT_DIR &&
            fchownat(dirfd(d), e->d_name, (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW) != 0)
            ok = at_error_errno(error, errno, "set group of %s/%s", dir, e->d_name);
    }
    if (ok && errno)
        ok = at_error_errno(error, errno, "read directory %s", dir);
    if (d)
        closedir(d);
    return ok && make_dir(dir, gid, error);
}

/* A vault that was made for another group. Its own directory comes last: until then a crash means
 * that it is done again. */
static bool change_group(struct at_vault *vault, GError **error)
{
    struct stat st;
    if (stat(vault->dir, &st) != 0)
        return at_error_errno(error, errno, "look at %s", vault->dir);
    if (vault->gid == (gid_t)-1 || st.st_gid == vault->gid)
        return true;
    for (unsigned i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path = at_vault_path(vault, dirs[i]);
        if (!own_files(path, vault->gid, error))
            return false;
    }
    return own_files(vault->dir, vault->gid, error);
}

/* From now on records may be of kinds that an older Atoll does not know.  In place: one byte
 * changes, which cannot tear and needs no space. */
static bool raise_format(const char *path, GError **error)
{
    g_autofree char *text = g_strdup_printf("atoll-vault %u\n", AT_VAULT_FORMAT);
    at_autofd fd = at_retry(open(path, O_WRONLY | O_CLOEXEC));
    ssize_t len = (ssize_t)strlen(text), n = fd < 0 ? -1 : 0;
    for (ssize_t done = 0; n >= 0 && done < len; done += n)
        n = at_retry(pwrite(fd, text + done, (size_t)(len - done), done));
    if (n < 0 || at_retry(fsync(fd)) != 0)
        return at_error_errno(error, errno, "write %s", path);
    return true;
}

bool at_read_text(const char *path, char **ret_text, GError **error)
{
    g_autoptr(GError) local = NULL;
    while (!g_file_get_contents(path, ret_text, NULL, &local)) {
        if (!g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_INTR)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
        g_clear_error(&local);
    }
    return true;
}

static bool check_format(struct at_vault *vault, GError **error)
{
    g_autofree char *path = at_vault_path(vault, "format");
    g_autofree char *text = NULL;
    g_autoptr(GError) local = NULL;
    if (!at_read_text(path, &text, &local)) {
        if (g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return at_error(error, AT_ERROR_NOT_FOUND, "%s is not a vault", vault->dir);
        return at_error(error, AT_ERROR_IO, "%s", local->message);
    }
    unsigned version;
    if (sscanf(text, "atoll-vault %u", &version) != 1)
        return at_error(error, AT_ERROR_CORRUPT, "%s: not the format file of a vault", path);
    if (version > AT_VAULT_FORMAT)
        return at_error(error, AT_ERROR_INVALID,
                        "vault %s has format %u, made by a newer Atoll; this one reads up to %u; "
                        "upgrade it",
                        vault->dir, version, AT_VAULT_FORMAT);
    vault->format = version;
    return true;
}

static bool take_lock(struct at_vault *vault, GError **error)
{
    g_autofree char *path = at_vault_path(vault, "lock");
    at_autofd fd = at_retry(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640));
    if (fd < 0)
        return at_error_errno(error, errno, "open %s", path);
    if (at_retry(flock(fd, LOCK_EX | LOCK_NB)) != 0) {
        if (errno != EWOULDBLOCK)
            return at_error_errno(error, errno, "lock %s", path);
        char who[256] = "";
        ssize_t n = pread(fd, who, sizeof who - 1, 0);
        who[MAX(n, 0)] = '\0';
        return at_error(error, AT_ERROR_CONFLICT, "vault %s is being written by process %s",
                        vault->dir, *g_strstrip(who) ? who : "(unknown)");
    }
    char who[256];
    ssize_t len = snprintf(who, sizeof who, "%d on %s\n", (int)getpid(), g_get_host_name());
    /* Over what was there, which needs no space; on a full disk a new file stays empty. */
    for (ssize_t done = 0, n; done < len; done += n) {
        n = at_retry(pwrite(fd, who + done, (size_t)(len - done), done));
        if (n < 0 && (errno == ENOSPC || errno == EDQUOT))
            break;
        if (n < 0)
            return at_error_errno(error, errno, "write %s", path);
    }
    if (at_retry(ftruncate(fd, len)) != 0)
        return at_error_errno(error, errno, "write %s", path);
    vault->lock_fd = at_steal_fd(&fd);
    return true;
}

/* Names that a process made or removed before it was killed need not be durable yet, and whoever
 * opens the vault relies on what it sees. */
static bool settle_names(struct at_vault *vault, GError **error)
{
    g_autofree char *roots = at_vault_path(vault, "roots");
    return at_fsync_dir(vault->dir, error) && at_fsync_dir(roots, error);
}

/* In a reader the pool reads ahead; whoever has asked for bytes, and who answers, goes first. */
static void step_back(void)
{
    static __thread bool done;
    if (!done)
        (void)!nice(AHEAD_NICE); /* of this thread alone, on Linux */
    done = true;
}

static void run_work(gpointer data, gpointer user)
{
    struct at_work *work = data;
    if (!((struct at_vault *)user)->writer)
        step_back();
    work->run(work);
}

void at_vault_submit(struct at_vault *vault, struct at_work *work)
{
    g_thread_pool_push(vault->pool, work, NULL);
}

static bool open_parts(struct at_vault *vault, GError **error)
{
    g_autofree char *format = at_vault_path(vault, "format");
    if (vault->writer && vault->format < AT_VAULT_FORMAT && !raise_format(format, error))
        return false;
    g_autofree char *packs = at_vault_path(vault, "packs");
    vault->packs = at_packs_new(packs);
    vault->chunks = at_cache_new(CHUNK_CACHE);
    vault->blocks = at_cache_new(BLOCK_CACHE);
    vault->nodes = at_cache_new(NODE_CACHE);
    vault->ahead_max = MIN(CHUNK_CACHE / AHEAD_SHARE, AHEAD_MAX);
    vault->cores = MAX(g_get_num_processors(), 1u);
    /* Threads of our own: a reader's step back, and one that a stepped-back thread would start
     * later could not be given the standing of the others. */
    unsigned threads = vault->cores + vault->writer; /* a writer's may be waiting for a sync */
    vault->pool = g_thread_pool_new(run_work, vault, (int)threads, TRUE, error);
    if (!vault->pool)
        return false;
    if (vault->writer) {
        at_vault_reserve(vault, false);
        bool ok = at_vault_recover(vault, error);
        at_vault_reserve(vault, true);
        return ok;
    }
    g_autofree char *index = at_vault_path(vault, "index");
    vault->index = at_index_open(index, false, vault->gid, error);
    return vault->index != NULL;
}

struct at_vault *at_vault_open(const char *dir, unsigned flags, gid_t gid, GError **error)
{
    struct at_vault *vault = g_new0(struct at_vault, 1);
    vault->dir = g_strdup(dir);
    vault->writer = flags & AT_VAULT_WRITE;
    vault->gid = gid;
    vault->lock_fd = -1;
    g_rw_lock_init(&vault->sweep_lock);
    g_mutex_init(&vault->gc_lock);
    g_mutex_init(&vault->sessions_lock);
    g_mutex_init(&vault->damage_lock);
    g_mutex_init(&vault->roots_lock);
    vault->sessions = g_ptr_array_new();
    bool make = vault->writer && (flags & AT_VAULT_CREATE);
    if ((make && !is_unmade(dir, true, &make, error)) || (make && !create(vault, error)) ||
        !check_format(vault, error) ||
        (vault->writer && (!take_lock(vault, error) || !settle_names(vault, error) ||
                           !change_group(vault, error))) ||
        !open_parts(vault, error)) {
        at_vault_close(vault);
        return NULL;
    }
    return vault;
}

void at_vault_close(struct at_vault *vault)
{
    if (!vault)
        return;
    if (vault->pool)
        g_thread_pool_free(vault->pool, FALSE, TRUE);
    if (vault->sessions->len)
        g_warning("vault %s closed with %u open sessions", vault->dir, vault->sessions->len);
    at_store_free(vault->store);
    at_index_close(vault->index);
    at_cache_free(vault->chunks);
    at_cache_free(vault->blocks);
    at_cache_free(vault->nodes);
    at_packs_free(vault->packs);
    if (vault->lock_fd >= 0)
        close(vault->lock_fd);
    g_ptr_array_unref(vault->sessions);
    g_rw_lock_clear(&vault->sweep_lock);
    g_mutex_clear(&vault->gc_lock);
    g_mutex_clear(&vault->sessions_lock);
    g_mutex_clear(&vault->damage_lock);
    g_mutex_clear(&vault->roots_lock);
    g_free(vault->dir);
    g_free(vault);
}

void at_vault_set_cache(struct at_vault *vault, size_t bytes)
{
    at_cache_set_bytes(vault->chunks, bytes);
    vault->ahead_max = MIN(bytes / AHEAD_SHARE, (size_t)AHEAD_MAX);
    at_cache_set_bytes(vault->blocks, MAX(bytes / 8, (size_t)BLOCK_CACHE));
    at_cache_set_bytes(vault->nodes, MAX(bytes / 8, (size_t)NODE_CACHE));
}

bool at_vault_stats(struct at_vault *vault, struct at_vault_stats *ret_stats, GError **error)
{
    struct at_vault_stats out = {0};
    struct at_index_stats index;
    if (!at_index_stats(vault->index, &index, error))
        return false;
    g_autoptr(GArray) bad = at_index_quarantined(vault->index, error);
    g_autoptr(GArray) ids = bad ? at_packs_list(vault->packs, error) : NULL;
    if (!ids)
        return false;
    out.chunks = index.chunks;
    out.plain_bytes = index.plain_bytes;
    out.packs = ids->len;
    out.quarantined = bad->len;
    for (unsigned i = 0; i < ids->len; i++) {
        g_autofree char *path = at_packs_path(vault->packs, g_array_index(ids, uint32_t, i));
        struct stat st;
        if (stat(path, &st) == 0)
            out.stored_bytes += (uint64_t)st.st_size;
    }
    *ret_stats = out;
    return true;
}
