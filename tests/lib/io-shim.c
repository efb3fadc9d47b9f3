/* SPDX-License-Identifier: Apache-2.0 */
/* A library for LD_PRELOAD that stands between a program and the calls that read and change files:
 * it makes one of them fail, or writes down all changes in their order.  What it is to do is in its
 * environment (io-log.h).  It calls the kernel itself, so that nothing of it is looked at twice. */
#include "lib/io-shim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A short read or write, among the errno values. */
#define SHORT (-1)
#define KILL (-2)

static struct {
    const char *dir, *marks, *only, *met;
    size_t dir_len;
    int log;
    int action; /* an errno, SHORT, KILL or 0 */
    unsigned nth, count;
    unsigned kinds; /* bits */
    unsigned seen;
} plan = {.log = -1};

pthread_mutex_t shim_order = PTHREAD_MUTEX_INITIALIZER;

static const char *const kind_names[] = IO_KIND_NAMES;

/* ---- The plan ---- */

static void parse_fault(const char *text)
{
    static const struct {
        const char *name;
        int action;
    } actions[] = {
        {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EINTR", EINTR}, {"short", SHORT}, {"kill", KILL}};
    const char *nth = strchr(text, ':');
    for (size_t i = 0; nth && i < sizeof actions / sizeof *actions; i++) {
        if (strncmp(text, actions[i].name, strlen(actions[i].name)) == 0)
            plan.action = actions[i].action;
    }
    char *end = NULL;
    plan.nth = nth ? (unsigned)strtoul(nth + 1, &end, 10) : 0;
    plan.count = end && *end == ':' ? (unsigned)strtoul(end + 1, &end, 10) : 1;
    if (end && strcmp(end, "always") == 0)
        plan.count = UINT_MAX;
    if (!plan.action || !plan.nth || !plan.count) /* it would test nothing */
        abort();
}

__attribute__((constructor)) static void start(void)
{
    const char *fault = getenv("ATOLL_IO_FAULT"), *kinds = getenv("ATOLL_IO_KINDS");
    const char *log = getenv("ATOLL_IO_LOG");
    plan.marks = getenv("ATOLL_IO_MARKS");
    plan.only = getenv("ATOLL_IO_ONLY");
    plan.met = getenv("ATOLL_IO_MET");
    if (fault)
        parse_fault(fault);
    for (unsigned k = 0; k < IO_KINDS; k++) {
        if (!kinds || strstr(kinds, kind_names[k]))
            plan.kinds |= 1u << k;
    }
    if (log)
        plan.log = (int)syscall(SYS_openat, AT_FDCWD, log,
                                O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const char *dir = getenv("ATOLL_IO_DIR");
    plan.dir_len = dir ? strlen(dir) : 0;
    plan.dir = dir; /* last: from here on we look */
}

/* ---- Whose call it is ---- */

bool shim_looks(void)
{
    return plan.dir != NULL;
}

bool shim_records(void)
{
    return plan.log >= 0;
}

static bool inside(const char *path)
{
    size_t len = strlen(path);
    if (!plan.dir || strncmp(path, plan.dir, plan.dir_len) != 0 ||
        (path[plan.dir_len] != '/' && path[plan.dir_len] != '\0'))
        return false;
    /* LMDB's lock file is shared memory of the living. */
    return len < 9 || strcmp(path + len - 9, "/lock.mdb") != 0;
}

static bool fd_path(int fd, char path[static PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = plan.dir ? syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1) : -1;
    path[n > 0 ? n : 0] = '\0';
    return n > 0;
}

bool shim_fd_inside(int fd, char path[static PATH_MAX])
{
    int saved = errno;
    bool in = fd_path(fd, path) && inside(path);
    errno = saved;
    return in;
}

bool shim_inside(int at, const char *name, char path[static PATH_MAX])
{
    int saved = errno;
    path[0] = '\0';
    if (name[0] != '/' && at != AT_FDCWD && fd_path(at, path))
        strncat(path, "/", PATH_MAX - 1 - strlen(path));
    strncat(path, name, PATH_MAX - 1 - strlen(path));
    errno = saved;
    return inside(path);
}

bool shim_is_marks(const char *path)
{
    return plan.marks && strcmp(path, plan.marks) == 0;
}

/* ---- Faults ---- */

/* A call can only be interrupted in a thread that takes signals. */
static bool takes_signals(void)
{
    sigset_t mask;
    return pthread_sigmask(SIG_BLOCK, NULL, &mask) != 0 || !sigismember(&mask, SIGTERM) ||
           !sigismember(&mask, SIGALRM) || !sigismember(&mask, SIGUSR1);
}

/* What the manual pages say can happen. */
static bool can_happen(enum io_kind kind, size_t len)
{
    switch (plan.action) {
    case ENOSPC:
        return kind == IO_KIND_WRITE || kind == IO_KIND_SIZE || kind == IO_KIND_MAKE ||
               kind == IO_KIND_MKDIR || kind == IO_KIND_SYNC;
    case EINTR:
        return (kind == IO_KIND_OPEN || kind == IO_KIND_MAKE || kind == IO_KIND_READ ||
                kind == IO_KIND_WRITE || kind == IO_KIND_SYNC || kind == IO_KIND_SIZE) &&
               takes_signals();
    case SHORT:
        return (kind == IO_KIND_READ || kind == IO_KIND_WRITE) && len > 1;
    case KILL:
        return kind == IO_KIND_WRITE || kind == IO_KIND_SIZE || kind == IO_KIND_MAKE ||
               kind == IO_KIND_MKDIR || kind == IO_KIND_SYNC || kind == IO_KIND_NAME;
    default:
        return true;
    }
}

static void meet(enum io_kind kind, const char *path)
{
    static int met;
    if (!plan.met || __atomic_exchange_n(&met, 1, __ATOMIC_SEQ_CST))
        return;
    char text[PATH_MAX + 64];
    int n = snprintf(text, sizeof text, "%s %s\n", kind_names[kind], path + plan.dir_len);
    long fd = syscall(SYS_openat, AT_FDCWD, plan.met, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    syscall(SYS_write, fd, text, (size_t)n);
    syscall(SYS_close, fd);
}

bool shim_fault(enum io_kind kind, const char *path, size_t len, size_t *ret_len)
{
    if (!plan.action || !(plan.kinds & (1u << kind)) || (plan.only && !strstr(path, plan.only)) ||
        !can_happen(kind, len))
        return false;
    unsigned n = __atomic_add_fetch(&plan.seen, 1, __ATOMIC_SEQ_CST);
    if (n < plan.nth || n - plan.nth >= plan.count)
        return false;
    meet(kind, path);
    if (plan.action == KILL)
        syscall(SYS_kill, getpid(), SIGKILL);
    if (plan.action == SHORT) {
        *ret_len = len / 2;
        return false;
    }
    errno = plan.action;
    return true;
}

/* ---- The log ---- */

uint64_t shim_ino(const char *path)
{
    struct stat st;
    int saved = errno;
    uint64_t ino =
        syscall(SYS_newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
    errno = saved;
    return ino;
}

uint64_t shim_fd_ino(int fd, uint64_t *ret_size)
{
    struct stat st;
    int saved = errno;
    uint64_t ino = syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 ? st.st_ino : 0;
    errno = saved;
    if (ret_size)
        *ret_size = (uint64_t)st.st_size;
    return ino;
}

/* A log that cannot be written would prove nothing. */
void shim_record(enum io_op op, const char *path, const char *other, uint64_t ino, uint64_t offset,
                 const struct iovec *data, int n, size_t len)
{
    if (plan.log < 0)
        return;
    int saved = errno;
    const char *p = path ? path + plan.dir_len : "", *o = other ? other + plan.dir_len : "";
    struct io_record r = {.op = op,
                          .path_len = (uint32_t)strlen(p),
                          .other_len = (uint32_t)strlen(o),
                          .data_len = (uint32_t)len,
                          .ino = ino,
                          .offset = offset};
    struct iovec out[3 + SHIM_IOV] = {
        {&r, sizeof r}, {(void *)p, r.path_len}, {(void *)o, r.other_len}};
    int parts = 3;
    for (int i = 0; i < n && len > 0; i++) {
        out[parts] = data[i];
        if (out[parts].iov_len > len)
            out[parts].iov_len = len;
        len -= out[parts++].iov_len;
    }
    size_t want = sizeof r + r.path_len + r.other_len + r.data_len;
    if (syscall(SYS_writev, plan.log, out, parts) != (long)want)
        abort();
    errno = saved;
}
