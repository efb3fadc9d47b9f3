/* SPDX-License-Identifier: Apache-2.0 */
/* Publishing files: write beside, fsync, rename, fsync the directory. */
#include "base/atomic-file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/retry.h"

bool at_write_all(int fd, const void *data, size_t len, GError **error)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return at_error_errno(error, errno, "write");
        p += n;
        len -= (size_t)n;
    }
    return true;
}

bool at_fsync_dir(const char *dir, GError **error)
{
    at_autofd fd = at_retry(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0 || at_retry(fsync(fd)) != 0)
        return at_error_errno(error, errno, "sync directory %s", dir);
    return true;
}

bool at_fsync_file(const char *path, GError **error)
{
    at_autofd fd = at_retry(open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0 || at_retry(fsync(fd)) != 0)
        return at_error_errno(error, errno, "sync %s", path);
    return true;
}

/* Makes the temporary, whose name ends in XXXXXX before. A name that a crash left is not reused. */
static bool write_beside(char *tmp, const void *data, size_t len, mode_t mode, GError **error)
{
    at_autofd fd = -1;
    do {
        memcpy(tmp + strlen(tmp) - 6, "XXXXXX", 6);
        fd = mkostemp(tmp, O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return at_error_errno(error, errno, "create %s", tmp);
    int injected = at_fault_errno("atomic-file.write");
    if (injected)
        return at_error_errno(error, injected, "write %s", tmp);
    if (!at_write_all(fd, data, len, error)) {
        g_prefix_error(error, "%s: ", tmp);
        return false;
    }
    if (fchmod(fd, mode) != 0)
        return at_error_errno(error, errno, "set mode of %s", tmp);
    if ((injected = at_fault_errno("atomic-file.sync")))
        return at_error_errno(error, injected, "sync %s", tmp);
    if (at_retry(fsync(fd)) != 0)
        return at_error_errno(error, errno, "sync %s", tmp);
    return true;
}

bool at_atomic_write(const char *path, const void *data, size_t len, mode_t mode, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *tmp = g_strdup_printf("%s/.%s.tmp-XXXXXX", dir, base);
    if (!write_beside(tmp, data, len, mode, error)) {
        unlink(tmp);
        return false;
    }
    int injected = at_fault_errno("atomic-file.publish");
    if (injected || rename(tmp, path) != 0) {
        at_error_errno(error, injected ? injected : errno, "publish %s", path);
        unlink(tmp);
        return false;
    }
    return at_fault_point("atomic-file.sync-directory", error) && at_fsync_dir(dir, error);
}

bool at_rename_durable(const char *from, const char *to, GError **error)
{
    g_autofree char *from_dir = g_path_get_dirname(from);
    g_autofree char *to_dir = g_path_get_dirname(to);
    if (!at_fault_point("rename-durable", error))
        return false;
    if (rename(from, to) != 0)
        return at_error_errno(error, errno, "rename %s to %s", from, to);
    return at_fsync_dir(to_dir, error) &&
           (strcmp(from_dir, to_dir) == 0 || at_fsync_dir(from_dir, error));
}

bool at_unlink_durable(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    if (!at_fault_point("unlink-durable", error))
        return false;
    if (unlink(path) == 0)
        return at_fsync_dir(dir, error);
    if (errno != ENOENT)
        return at_error_errno(error, errno, "remove %s", path);
    /* It may be gone since a call that could not sync. */
    g_autoptr(GError) local = NULL;
    if (at_fsync_dir(dir, &local) || local->code == AT_ERROR_NOT_FOUND)
        return true;
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

/* @parent_made: just now, by us.  One that was there may be what a process has made that was killed
 * before it could make the name durable. */
static bool make_dirs(const char *dir, mode_t mode, bool parent_made, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(dir);
    if (mkdir(dir, mode) == 0) {
        g_autofree char *above = g_path_get_dirname(parent);
        if (chmod(dir, mode) != 0)
            return at_error_errno(error, errno, "set mode of %s", dir);
        return (parent_made || at_fsync_dir(above, error)) && at_fsync_dir(parent, error);
    }
    if (errno == EEXIST) {
        if (!g_file_test(dir, G_FILE_TEST_IS_DIR))
            return at_error_errno(error, ENOTDIR, "create directory %s", dir);
        return true;
    }
    if (errno != ENOENT)
        return at_error_errno(error, errno, "create directory %s", dir);
    if (strcmp(parent, dir) == 0 || strcmp(parent, ".") == 0)
        return at_error_errno(error, ENOENT, "create directory %s", dir);
    return make_dirs(parent, mode, false, error) && make_dirs(dir, mode, true, error);
}

bool at_mkdirs(const char *dir, mode_t mode, GError **error)
{
    return make_dirs(dir, mode, false, error);
}

/* Opens the directory @name in @dir unless it is a link or a mount point, also a bind mount of the
 * same file system. */
static int open_below(int dir, const char *name)
{
    struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                           .resolve = RESOLVE_NO_XDEV | RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    return (int)at_retry(syscall(SYS_openat2, dir, name, &how, sizeof how));
}

static bool empty_dir(int fd, const char *name, GError **error);

static bool remove_below(int dir, const char *entry, const char *name, GError **error)
{
    struct stat st;
    bool is_dir = fstatat(dir, entry, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
    if (is_dir) {
        int sub = open_below(dir, entry);
        if (sub < 0 && errno == EXDEV)
            return at_error(error, AT_ERROR_CONFLICT, "%s is a mount point", name);
        if (sub < 0)
            return at_error_errno(error, errno, "open %s", name);
        if (!empty_dir(sub, name, error))
            return false;
    }
    if (unlinkat(dir, entry, is_dir ? AT_REMOVEDIR : 0) != 0 && errno != ENOENT)
        return at_error_errno(error, errno, "remove %s", name);
    return true;
}

/* Empties the directory behind @fd, which is consumed. */
static bool empty_dir(int fd, const char *name, GError **error)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return at_error_errno(error, errno, "read directory %s", name);
    }
    bool ok = true;
    for (struct dirent *e; ok && (errno = 0, e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        g_autofree char *path = g_build_filename(name, e->d_name, NULL);
        ok = remove_below(dirfd(d), e->d_name, path, error);
    }
    if (ok && errno)
        ok = at_error_errno(error, errno, "read directory %s", name);
    closedir(d);
    return ok;
}

bool at_remove_tree(const char *dir, GError **error)
{
    int fd = at_retry(open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (fd < 0) {
        if (errno == ENOENT)
            return true;
        return at_error_errno(error, errno, "open %s", dir);
    }
    if (!empty_dir(fd, dir, error))
        return false;
    if (rmdir(dir) != 0 && errno != ENOENT)
        return at_error_errno(error, errno, "remove %s", dir);
    g_autofree char *parent = g_path_get_dirname(dir);
    return at_fsync_dir(parent, error);
}
