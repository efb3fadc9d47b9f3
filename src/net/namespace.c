/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces with a name, and work done inside one by a thread of its own. */
#include "net/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "net/names.h"

struct inside {
    const char *path; /* NULL: a new namespace, gone afterwards unless the work names it */
    at_net_work work;
    void *data;
    bool ok;
    GError *error;
};

static gpointer inside_thread(gpointer data)
{
    struct inside *in = data;
    at_autofd fd = -1;
    if (!in->path) {
        if (unshare(CLONE_NEWNET) != 0) {
            at_error_errno(&in->error, errno, "make a network namespace");
            return NULL;
        }
    } else if ((fd = open(in->path, O_RDONLY | O_CLOEXEC)) < 0 || setns(fd, CLONE_NEWNET) != 0) {
        if (errno == EINVAL) /* the file is there, the namespace is not */
            errno = ENOENT;
        at_error_errno(&in->error, errno, "enter network namespace %s", in->path);
        return NULL;
    }
    in->ok = in->work(in->data, &in->error);
    return NULL;
}

static bool run_inside(struct inside *in, GError **error)
{
    /* GLib starts its own worker and the spawner of its thread pools with the first GTask, and
     * they inherit the namespace of whoever needs them first: that must not be the one inside. */
    g_type_ensure(G_TYPE_TASK);
    GThread *thread = g_thread_try_new("at-netns", inside_thread, in, error);
    if (!thread)
        return false;
    g_thread_join(thread);
    if (in->error)
        g_propagate_error(error, in->error);
    return in->ok;
}

bool at_net_inside(const char *path, at_net_work work, void *data, GError **error)
{
    struct inside in = {.path = path, .work = work, .data = data};
    return run_inside(&in, error);
}

bool at_net_namespace_exists(const char *name)
{
    g_autofree char *path = g_build_filename(AT_NET_DIR, name, NULL);
    struct statfs fs;
    return statfs(path, &fs) == 0 && fs.f_type == NSFS_MAGIC;
}

/* The directory is a shared mount, as `ip netns` makes it, so that names reach other mount
 * namespaces and can be removed in all of them. */
static bool prepare_dir(GError **error)
{
    if (mkdir(AT_NET_DIR, 0755) != 0 && errno != EEXIST)
        return at_error_errno(error, errno, "make %s", AT_NET_DIR);
    if (mount("", AT_NET_DIR, "none", MS_SHARED | MS_REC, NULL) == 0)
        return true;
    if (errno != EINVAL || mount(AT_NET_DIR, AT_NET_DIR, "none", MS_BIND | MS_REC, NULL) != 0 ||
        mount("", AT_NET_DIR, "none", MS_SHARED | MS_REC, NULL) != 0)
        return at_error_errno(error, errno, "make %s a shared mount", AT_NET_DIR);
    return true;
}

static bool name_it(void *data, GError **error)
{
    const char *path = data;
    g_autofree char *self = g_strdup_printf("/proc/self/task/%d/ns/net", gettid());
    if (!at_fault_point("net.netns", error))
        return false;
    if (mount(self, path, "none", MS_BIND, NULL) != 0)
        return at_error_errno(error, errno, "name network namespace %s", path);
    return true;
}

bool at_net_namespace_make(const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(AT_NET_DIR, name, NULL);
    if (at_net_namespace_exists(name))
        return true;
    if (!at_fault_point("net.netns", error) || !prepare_dir(error))
        return false;
    at_autofd fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0);
    if (fd < 0)
        return at_error_errno(error, errno, "make %s", path);
    struct inside in = {.work = name_it, .data = path};
    return run_inside(&in, error);
}

bool at_net_namespace_remove(const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(AT_NET_DIR, name, NULL);
    if (access(path, F_OK) != 0)
        return true;
    if (!at_fault_point("net.netns", error))
        return false;
    while (umount2(path, MNT_DETACH) == 0)
        ; /* two makers may have stacked two */
    if (errno != EINVAL && errno != ENOENT)
        return at_error_errno(error, errno, "unmount %s", path);
    if (unlink(path) != 0 && errno != ENOENT)
        return at_error_errno(error, errno, "remove %s", path);
    return true;
}

bool at_net_sysctl(const char *path, const char *value, bool optional, GError **error)
{
    g_autofree char *file = g_build_filename("/proc/sys/net", path, NULL);
    char now[64];
    at_autofd fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return (optional && errno == ENOENT) || at_error_errno(error, errno, "open %s", file);
    ssize_t n = read(fd, now, sizeof now - 1);
    if (n > 0) {
        now[n] = '\0';
        if (strcmp(g_strchomp(now), value) == 0)
            return true; /* also where it may not be written, as in some containers */
    }
    close(at_steal_fd(&fd));
    if ((fd = open(file, O_WRONLY | O_CLOEXEC)) < 0)
        return at_error_errno(error, errno, "open %s", file);
    if (write(fd, value, strlen(value)) < 0)
        return at_error_errno(error, errno, "write %s to %s", value, file);
    return true;
}
