/* SPDX-License-Identifier: Apache-2.0 */
/* Writing one value to a sysfs file, and other work that the kernel can hold up, by a child
 * process; and keeping account of children that the kernel does not let go. */
#include "gpu/sysfs-write.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "gpu/sysfs-write-internal.h"

int (*at_sysfs_write_hook)(const char *path, const char *value);
int (*at_sysfs_work_hook)(const char *about);

/* Each is a process that keeps a copy of our memory alive; more than these would be a leak. */
enum { PENDING_MAX = 32, KILL_GRACE_MS = 200 };

struct pending {
    pid_t pid;
    char *what, *about;
    int64_t since; /* at_clock_us() */
};

static GMutex pending_lock; /* guards pending */
static GPtrArray *pending;  /* struct pending*, made at the first need */

static void pending_free(void *p)
{
    struct pending *w = p;
    g_free(w->what);
    g_free(w->about);
    g_free(w);
}

/* Forgets those that have ended meanwhile. With the lock. */
static void reap(void)
{
    for (unsigned i = pending ? pending->len : 0; i-- > 0;) {
        const struct pending *w = pending->pdata[i];
        pid_t pid = waitpid(w->pid, NULL, WNOHANG);
        if (pid == w->pid || (pid < 0 && errno == ECHILD))
            g_ptr_array_remove_index(pending, i);
    }
}

static char *pending_text(const struct pending *w)
{
    return g_strdup_printf("%s, for %" G_GINT64_FORMAT " s now (process %d)", w->what,
                           (at_clock_us() - w->since) / G_USEC_PER_SEC, (int)w->pid);
}

char *at_sysfs_write_pending(const char *about)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&pending_lock);
    (void)locker;
    reap();
    for (unsigned i = 0; pending && i < pending->len; i++) {
        const struct pending *w = pending->pdata[i];
        if (g_str_equal(w->about, about))
            return pending_text(w);
    }
    return NULL;
}

static bool may_begin(const char *about, GError **error)
{
    g_autofree char *earlier = at_sysfs_write_pending(about);
    if (earlier)
        return at_error(error, AT_ERROR_TIMEOUT, "the kernel still holds up an earlier write: %s",
                        earlier);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&pending_lock);
    (void)locker;
    if (!pending || pending->len < PENDING_MAX)
        return true;
    g_autofree char *first = pending_text(pending->pdata[0]);
    return at_error(error, AT_ERROR_UNAVAILABLE,
                    "the kernel holds up %u earlier writes; the first is %s: end what uses that "
                    "device, or boot the host again",
                    pending->len, first);
}

static void leave_behind(pid_t pid, const char *what, const char *about)
{
    struct pending *w = g_new0(struct pending, 1);
    w->pid = pid;
    w->what = g_strdup(what);
    w->about = g_strdup(about);
    w->since = at_clock_us();
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&pending_lock);
    (void)locker;
    if (!pending)
        pending = g_ptr_array_new_with_free_func(pending_free);
    g_ptr_array_add(pending, w);
}

/* In the child, between fork and _exit: nothing but system calls. All that was open is closed, for
 * a child that is left behind must not keep the locks and sockets of its parent. */
G_NORETURN static void child(int answer, at_sysfs_work_func work, void *data)
{
    prctl(PR_SET_NAME, "atoll-sysfs");
    int err = dup2(answer, 0) < 0 ? errno : 0;
    if (!err)
        syscall(SYS_close_range, 1U, ~0U, 0U);
    if (!err)
        err = work(data);
    ssize_t told = write(0, &err, sizeof err);
    _exit(told == (ssize_t)sizeof err ? 0 : 1);
}

/* All signals are blocked around the fork and stay so in the child: handlers that it inherits
 * would speak to the parent's descriptors. */
static pid_t start(at_sysfs_work_func work, void *data, int *ret_answer)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        child(ends[1], work, data);
    int err = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    if (pid < 0)
        close(ends[0]);
    else
        *ret_answer = ends[0];
    errno = err;
    return pid;
}

/* Whether @fd has something to read, or its writer is gone, before the deadline. */
static bool wait_readable(int fd, int64_t deadline)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int left = at_deadline_left_ms(deadline);
        int n = poll(&p, 1, left);
        if (n > 0)
            return true;
        if (n == 0 && left == 0)
            return false;
        if (n < 0 && errno != EINTR)
            return false;
    }
}

static void wait_for(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* 0, an errno, or one of AT_SYSFS_WRITE_*. */
static int by_child(at_sysfs_work_func work, void *data, const char *what, const char *about,
                    int timeout_ms)
{
    at_autofd answer = -1;
    pid_t pid = start(work, data, &answer);
    if (pid < 0)
        return errno;
    if (wait_readable(answer, at_deadline_ms(timeout_ms))) {
        int err = 0;
        ssize_t n = read(answer, &err, sizeof err);
        wait_for(pid); /* it has nothing left to do but to end */
        return n == (ssize_t)sizeof err ? err : EIO;
    }
    kill(pid, SIGKILL);
    /* Waits that a signal ends are over now. */
    if (wait_readable(answer, at_deadline_ms(KILL_GRACE_MS))) {
        wait_for(pid);
        return AT_SYSFS_WRITE_GIVEN_UP;
    }
    leave_behind(pid, what, about);
    return AT_SYSFS_WRITE_BLOCKS;
}

bool at_sysfs_work(at_sysfs_work_func work, void *data, const char *what, const char *about,
                   int timeout_ms, int *ret_errno, GError **error)
{
    if (!may_begin(about, error)) {
        g_prefix_error(error, "%s: ", what);
        return false;
    }
    int err = at_sysfs_work_hook ? at_sysfs_work_hook(about)
                                 : by_child(work, data, what, about, timeout_ms);
    if (err == AT_SYSFS_WRITE_BLOCKS)
        return at_error(error, AT_ERROR_TIMEOUT,
                        "%s: the kernel has not finished it after %d ms (it will when the device "
                        "is let go)",
                        what, timeout_ms);
    if (err == AT_SYSFS_WRITE_GIVEN_UP)
        return at_error(error, AT_ERROR_TIMEOUT, "%s: given up after %d ms", what, timeout_ms);
    *ret_errno = err;
    return true;
}

/* ---- one value into a file ---- */

struct value {
    const char *path, *text;
    size_t len;
};

static int write_value(void *data)
{
    const struct value *value = data;
    int fd = open(value->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        return errno;
    ssize_t n = write(fd, value->text, value->len);
    return n < 0 ? errno : (size_t)n != value->len ? EIO : 0;
}

static bool refused(int err, const char *path, const char *shown, GError **error)
{
    if (err == EBUSY || err == EEXIST)
        return at_error(error, AT_ERROR_CONFLICT, "writing \"%s\" to %s: %s", shown, path,
                        g_strerror(err));
    if (err == ENODEV || err == ENOTTY)
        return at_error(error, AT_ERROR_UNAVAILABLE, "writing \"%s\" to %s: %s", shown, path,
                        g_strerror(err));
    return at_error_errno(error, err, "writing \"%s\" to %s", shown, path);
}

bool at_sysfs_write(const char *path, const char *value, const char *about, int timeout_ms,
                    GError **error)
{
    g_autofree char *shown = g_strchomp(g_strdup(value));
    if (!may_begin(about, error)) {
        g_prefix_error(error, "writing \"%s\" to %s: ", shown, path);
        return false;
    }
    g_autofree char *what = g_strdup_printf("\"%s\" to %s", shown, path);
    struct value wanted = {path, value, strlen(value)};
    int err = at_sysfs_write_hook ? at_sysfs_write_hook(path, value)
                                  : by_child(write_value, &wanted, what, about, timeout_ms);
    if (err == AT_SYSFS_WRITE_BLOCKS)
        return at_error(error, AT_ERROR_TIMEOUT,
                        "writing %s: the kernel has not finished it after %d ms (it will when the "
                        "device is let go)",
                        what, timeout_ms);
    if (err == AT_SYSFS_WRITE_GIVEN_UP)
        return at_error(error, AT_ERROR_TIMEOUT,
                        "writing %s: given up after %d ms; nothing was written", what, timeout_ms);
    return err == 0 || refused(err, path, shown, error);
}
