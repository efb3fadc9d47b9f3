/* SPDX-License-Identifier: Apache-2.0 */
/* The socket file: bound beside, given its owner and mode, then renamed into place, so that nobody
 * ever meets it with other rights, and a client finds the old socket or the new one. */
#include <errno.h>
#include <grp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/api-internal.h"
#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"

enum { BACKLOG = 128 };

static int unix_socket(GError **error)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        at_error_errno(error, errno, "make a socket");
    return fd;
}

static bool fill_address(const char *path, struct sockaddr_un *address, GError **error)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address->sun_path)
        return at_error(error, AT_ERROR_INVALID,
                        "socket path %s is too long: %zu bytes, at most %zu", path, strlen(path),
                        sizeof address->sun_path - 1);
    strcpy(address->sun_path, path);
    return true;
}

/* True when @path may be replaced: nothing is there, or a socket that nobody listens on. */
static bool is_free(const char *path, GError **error)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        if (errno == ENOENT)
            return true;
        return at_error_errno(error, errno, "look at %s", path);
    }
    if (!S_ISSOCK(st.st_mode))
        return at_error(error, AT_ERROR_CONFLICT, "%s exists and is not a socket", path);
    struct sockaddr_un address;
    at_autofd fd = unix_socket(error);
    if (fd < 0 || !fill_address(path, &address, error))
        return false;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno == ECONNREFUSED)
        return true;
    return at_error(error, AT_ERROR_CONFLICT,
                    "another daemon listens on %s; stop it, or give another --socket", path);
}

/* Group and mode of the file at @path. */
static bool set_rights(const char *path, GError **error)
{
    g_autofree char *buffer = g_malloc(256 * 1024);
    struct group entry, *group = NULL;
    mode_t mode = 0600;
    if (getgrnam_r(AT_API_GROUP, &entry, buffer, 256 * 1024, &group) == 0 && group) {
        if (chown(path, (uid_t)-1, group->gr_gid) == 0)
            mode = 0660;
        else if (errno != EPERM)
            return at_error_errno(error, errno, "set group of %s", path);
    }
    if (chmod(path, mode) != 0)
        return at_error_errno(error, errno, "set mode of %s", path);
    return true;
}

bool at_api_check_socket(const char *path, GError **error)
{
    g_autofree char *beside = g_strdup_printf("%s.new", path);
    struct sockaddr_un address;
    return fill_address(beside, &address, error) && is_free(path, error);
}

int at_socket_publish(const char *path, struct at_socket_file *ret_file, GError **error)
{
    g_autofree char *beside = g_strdup_printf("%s.new", path);
    g_autofree char *dir = g_path_get_dirname(path);
    struct sockaddr_un address;
    struct stat st;
    if (!at_api_check_socket(path, error) || !fill_address(beside, &address, error) ||
        !at_mkdirs(dir, 0755, error))
        return -1;
    at_autofd fd = unix_socket(error);
    if (fd < 0)
        return -1;
    if (unlink(beside) != 0 && errno != ENOENT) {
        at_error_errno(error, errno, "remove %s", beside);
        return -1;
    }
    /* Between bind and chmod the file has the rights of the umask, but nobody listens yet. */
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        at_error_errno(error, errno, "make socket %s", path);
        return -1;
    }
    if (!set_rights(beside, error))
        goto failed;
    if (listen(fd, BACKLOG) != 0 || stat(beside, &st) != 0 || rename(beside, path) != 0) {
        at_error_errno(error, errno, "publish socket %s", path);
        goto failed;
    }
    ret_file->path = g_strdup(path);
    ret_file->dev = st.st_dev;
    ret_file->ino = st.st_ino;
    return at_steal_fd(&fd);

failed:
    unlink(beside);
    return -1;
}

void at_socket_withdraw(struct at_socket_file *file)
{
    struct stat st;
    if (!file->path)
        return;
    if (lstat(file->path, &st) == 0 && st.st_dev == file->dev && st.st_ino == file->ino)
        unlink(file->path);
    g_clear_pointer(&file->path, g_free);
}
