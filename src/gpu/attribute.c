/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes of sysfs: small files and links, read within limits. */
#include "gpu/attribute.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/plain.h"

enum { PROCESS_NAME_MAX = 64 };

/* How many there are; -1 with errno: unknown, for a part of an attribute says nothing. */
static ssize_t read_open(int fd, void *buf, size_t cap)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -1;
    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    size_t len = 0;
    while (len < cap) {
        ssize_t n = read(fd, (char *)buf + len, cap - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    return (ssize_t)len;
}

static ssize_t read_bytes(const char *dir, const char *name, void *buf, size_t cap)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -1;
    ssize_t len = read_open(fd, buf, cap);
    int err = errno;
    close(fd);
    errno = err;
    return len;
}

size_t at_gpu_attr_bytes(const char *dir, const char *name, void *buf, size_t cap)
{
    ssize_t len = read_bytes(dir, name, buf, cap);
    return len < 0 ? 0 : (size_t)len;
}

static char *read_text(const char *dir, const char *name, bool lines)
{
    g_autofree char *buf = g_malloc(AT_GPU_ATTR_MAX + 1);
    ssize_t len = read_bytes(dir, name, buf, AT_GPU_ATTR_MAX + 1);
    if (len < 0)
        return NULL;
    if (len > AT_GPU_ATTR_MAX || memchr(buf, '\0', (size_t)len)) {
        errno = len > AT_GPU_ATTR_MAX ? EFBIG : EILSEQ;
        return NULL;
    }
    buf[len] = '\0';
    return g_strstrip(at_plain_text(buf, lines));
}

char *at_gpu_attr_text(const char *dir, const char *name)
{
    return read_text(dir, name, true);
}

char *at_gpu_attr_line(const char *dir, const char *name)
{
    return read_text(dir, name, false);
}

bool at_gpu_number_parse(const char *text, unsigned base, uint64_t max, uint64_t *ret)
{
    guint64 value;
    if (base == 16 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
        text += 2;
    if (!g_ascii_string_to_unsigned(text, base, 0, max, &value, NULL))
        return false;
    *ret = value;
    return true;
}

bool at_gpu_attr_number(const char *dir, const char *name, unsigned base, uint64_t max,
                        uint64_t *ret)
{
    g_autofree char *text = at_gpu_attr_text(dir, name);
    return text && at_gpu_number_parse(text, base, max, ret);
}

bool at_gpu_attr_exists(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    return access(path, F_OK) == 0;
}

/* What a link says, cut into its parts; NULL when it is no link. */
static GStrv link_parts(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    char target[4096];
    ssize_t len = readlink(path, target, sizeof target - 1);
    if (len <= 0)
        return NULL;
    target[len] = '\0';
    g_autofree char *plain = at_plain_text(target, false);
    return g_strsplit(plain, "/", -1);
}

/* The part @back before the last; NULL when there is none that names something. */
static char *link_part(const char *dir, const char *name, unsigned back)
{
    g_auto(GStrv) parts = link_parts(dir, name);
    unsigned n = parts ? g_strv_length(parts) : 0;
    if (n <= back)
        return NULL;
    const char *part = parts[n - 1 - back];
    if (!*part || g_str_equal(part, ".") || g_str_equal(part, ".."))
        return NULL;
    return g_strdup(part);
}

char *at_gpu_attr_link(const char *dir, const char *name)
{
    return link_part(dir, name, 0);
}

char *at_gpu_attr_link_parent(const char *dir, const char *name)
{
    return link_part(dir, name, 1);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

GPtrArray *at_gpu_attr_list(const char *dir, unsigned max, bool (*take)(const char *name))
{
    DIR *d = opendir(dir);
    if (!d)
        return NULL;
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    const struct dirent *entry;
    for (unsigned seen = 0; seen < AT_GPU_LIST_MAX && names->len < max && (entry = readdir(d));
         seen++) {
        const char *name = entry->d_name;
        if (!g_str_equal(name, ".") && !g_str_equal(name, "..") && (!take || take(name)))
            g_ptr_array_add(names, g_strdup(name));
    }
    closedir(d);
    g_ptr_array_sort(names, compare_names);
    return names;
}

char *at_gpu_process_name(const char *proc, unsigned pid)
{
    char file[24], name[PROCESS_NAME_MAX + 1];
    g_snprintf(file, sizeof file, "%u/comm", pid);
    g_autofree char *comm = at_gpu_attr_line(proc, file);
    if (!comm || !*comm)
        return NULL;
    at_plain_copy(name, sizeof name, comm);
    return g_strdup(name);
}
