/* SPDX-License-Identifier: Apache-2.0 */
/* Reading sysfs: bounded, because a driver may put anything into its files. */
#include "gpu/sysfs-read.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>

#include "base/cleanup.h"

enum { TEXT_MAX = 64 << 10 };

char *at_sysfs_read_text(const char *path)
{
    at_autofd fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    g_autoptr(GString) text = g_string_new(NULL);
    while (text->len < TEXT_MAX) {
        char buf[4096];
        ssize_t n = read(fd, buf, sizeof buf);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return NULL;
        if (n == 0)
            break;
        g_string_append_len(text, buf, n);
    }
    return g_strstrip(g_string_free(g_steal_pointer(&text), FALSE));
}

bool at_sysfs_read_number(const char *path, uint64_t *ret)
{
    g_autofree char *text = at_sysfs_read_text(path);
    char *end = NULL;
    if (!text || !g_ascii_isdigit(*text))
        return false;
    errno = 0;
    uint64_t value = g_ascii_strtoull(text, &end, 0);
    if (errno || *end)
        return false;
    *ret = value;
    return true;
}

char *at_sysfs_link_name(const char *path)
{
    g_autofree char *target = g_file_read_link(path, NULL);
    return target ? g_path_get_basename(target) : NULL;
}
