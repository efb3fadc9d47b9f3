/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting to a socket in the file system with a deadline. */
#include "qemu/unix-socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"

bool at_unix_path_check(const char *path, GError **error)
{
    struct sockaddr_un addr;
    if (strlen(path) < sizeof addr.sun_path)
        return true;
    return at_error(error, AT_ERROR_INVALID,
                    "socket path is longer than %zu bytes; use a shorter state directory: %s",
                    sizeof addr.sun_path - 1, path);
}

int at_unix_connect(const char *path, int64_t deadline_us, GError **error)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (!at_unix_path_check(path, error))
        return -1;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    at_autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        at_error_errno(error, errno, "socket");
        return -1;
    }
    while (connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0) {
        if (errno == EINTR)
            continue;
        if (errno == ENOENT || errno == ECONNREFUSED) {
            at_error(error, AT_ERROR_UNAVAILABLE, "nobody listens on %s", path);
            return -1;
        }
        if (errno != EAGAIN) {
            at_error_errno(error, errno, "connect to %s", path);
            return -1;
        }
        /* The backlog is full; Linux offers nothing to poll for here. */
        if (at_deadline_left_ms(deadline_us) == 0) {
            at_error(error, AT_ERROR_TIMEOUT, "nobody accepted on %s in time", path);
            return -1;
        }
        g_usleep(10 * 1000);
    }
    return at_steal_fd(&fd);
}
