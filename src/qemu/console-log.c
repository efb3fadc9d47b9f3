/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping the logs of machines short, and reading their ends. */
#include "qemu/console-log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"

/* The log belongs to an unprivileged user: never through a link, never a device or a pipe. */
static int open_log(const char *path, int flags, uint64_t *ret_size, GError **error)
{
    struct stat st;
    at_autofd fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        if (errno == ELOOP)
            at_error(error, AT_ERROR_DENIED, "%s is a link", path);
        else
            at_error_errno(error, errno, "open %s", path);
        return -1;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        at_error(error, AT_ERROR_DENIED, "%s is not a file", path);
        return -1;
    }
    *ret_size = (uint64_t)st.st_size;
    return at_steal_fd(&fd);
}

/* At most the last @max bytes of what the file held when its size was taken. */
static char *read_end(int fd, const char *path, uint64_t size, uint64_t max, size_t *ret_len,
                      GError **error)
{
    uint64_t len = MIN(size, max), done = 0;
    g_autofree char *text = g_malloc(len + 1);
    while (done < len) {
        ssize_t n = pread(fd, text + done, len - done, (off_t)(size - len + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            at_error_errno(error, errno, "read %s", path);
            return NULL;
        }
        if (n == 0)
            break;
        done += (uint64_t)n;
    }
    text[done] = '\0';
    *ret_len = done;
    return g_steal_pointer(&text);
}

bool at_console_log_trim(const char *path, uint64_t max, GError **error)
{
    uint64_t size;
    size_t len;
    g_autoptr(GError) local = NULL;
    at_autofd fd = open_log(path, O_RDWR | O_APPEND, &size, &local);
    if (fd < 0 && g_error_matches(local, AT_ERROR, AT_ERROR_NOT_FOUND))
        return true;
    if (fd < 0) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (size <= max)
        return true;
    g_autofree char *text = read_end(fd, path, size, max / 2, &len, error);
    if (!text)
        return false;
    const char *line = memchr(text, '\n', len);
    const char *from = line ? line + 1 : text;
    if (ftruncate(fd, 0) != 0)
        return at_error_errno(error, errno, "shorten %s", path);
    return at_write_all(fd, from, len - (size_t)(from - text), error);
}

char *at_console_log_tail(const char *path, uint64_t max, GError **error)
{
    uint64_t size;
    size_t len;
    g_autoptr(GError) local = NULL;
    at_autofd fd = open_log(path, O_RDONLY, &size, &local);
    if (fd < 0 && g_error_matches(local, AT_ERROR, AT_ERROR_NOT_FOUND))
        return g_strdup("");
    if (fd < 0) {
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    g_autofree char *text = read_end(fd, path, size, max, &len, error);
    return text ? g_utf8_make_valid(text, (gssize)len) : NULL;
}
