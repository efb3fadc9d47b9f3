/* SPDX-License-Identifier: Apache-2.0 */
/* A library for LD_PRELOAD that stands between a program and the calls that read and change files:
 * it makes one of them fail, or writes down all changes in their order.  What it is to do is in its
 * environment (io-log.h).  It calls the kernel itself, so that nothing of it is looked at twice. */
/* Both names of a call are defined here: the plain one must not become the other. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/io-log.h"

/* A short read or write, among the errno values. */
#define SHORT (-1)
#define KILL (-2)
#define IOV_FEW 128

static struct {
    const char *dir, *marks, *only, *met;
    size_t dir_len;
    int log;
    int action; /* an errno, SHORT, KILL or 0 */
    unsigned nth;
    bool always;
    unsigned kinds; /* bits */
    unsigned seen;
} plan = {.log = -1};

/* Held over every change and its record, so that the log has the order in which they happened. */
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

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
    plan.nth = nth ? (unsigned)strtoul(nth + 1, NULL, 10) : 0;
    plan.always = strstr(text, ":always") != NULL;
    if (!plan.action || !plan.nth) /* it would test nothing */
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

/* Whether @fd is looked at, and its name. */
static bool fd_inside(int fd, char path[static PATH_MAX])
{
    int saved = errno;
    bool in = fd_path(fd, path) && inside(path);
    errno = saved;
    return in;
}

static bool at_inside(int at, const char *name, char path[static PATH_MAX])
{
    int saved = errno;
    path[0] = '\0';
    if (name[0] != '/' && at != AT_FDCWD && fd_path(at, path))
        strncat(path, "/", PATH_MAX - 1 - strlen(path));
    strncat(path, name, PATH_MAX - 1 - strlen(path));
    errno = saved;
    return inside(path);
}

static bool is_marks(const char *path)
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

/* True when the call is to fail with the errno that is set, or (*ret_len, may be NULL) to be
 * shortened. */
static bool fault(enum io_kind kind, const char *path, size_t len, size_t *ret_len)
{
    if (!plan.action || !(plan.kinds & (1u << kind)) || (plan.only && !strstr(path, plan.only)) ||
        !can_happen(kind, len))
        return false;
    unsigned n = __atomic_add_fetch(&plan.seen, 1, __ATOMIC_SEQ_CST);
    if (n < plan.nth || (n > plan.nth && !plan.always))
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

static uint64_t ino_of(const char *path)
{
    struct stat st;
    int saved = errno;
    uint64_t ino =
        syscall(SYS_newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
    errno = saved;
    return ino;
}

static uint64_t ino_of_fd(int fd, uint64_t *ret_size)
{
    struct stat st;
    int saved = errno;
    uint64_t ino = syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 ? st.st_ino : 0;
    errno = saved;
    if (ret_size)
        *ret_size = (uint64_t)st.st_size;
    return ino;
}

/* With `order` held.  A log that cannot be written would prove nothing. */
static void record(enum io_op op, const char *path, const char *other, uint64_t ino,
                   uint64_t offset, const struct iovec *data, int n, size_t len)
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
    struct iovec out[3 + IOV_FEW] = {
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

/* A change of names: the fault, the call, the record. */
static int change(enum io_kind kind, enum io_op op, const char *path, const char *other,
                  long number, long a, long b, long c, long d, long e)
{
    if (fault(kind, path, 0, NULL))
        return -1;
    pthread_mutex_lock(&order);
    int rc = (int)syscall(number, a, b, c, d, e);
    if (rc == 0)
        record(op, path, other, op == IO_MKDIR ? ino_of(path) : 0, 0, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return rc;
}

/* ---- Opening ---- */

static int open_any(int at, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    if (!plan.dir || !at_inside(at, name, path))
        return (int)syscall(SYS_openat, at, name, flags, mode);
    pthread_mutex_lock(&order);
    bool absent = (flags & O_CREAT) && ino_of(path) == 0;
    int fd = -1;
    if (!fault(absent ? IO_KIND_MAKE : IO_KIND_OPEN, path, 0, NULL))
        fd = (int)syscall(SYS_openat, at, name, flags, mode);
    if (fd >= 0 && absent)
        record(IO_CREATE, path, NULL, ino_of_fd(fd, NULL), 0, NULL, 0, 0);
    else if (fd >= 0 && (flags & O_TRUNC))
        record(IO_SIZE, path, NULL, ino_of_fd(fd, NULL), 0, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return fd;
}

#define OPEN(name, ...)                                                                            \
    int name(__VA_ARGS__ const char *path, int flags, ...);                                        \
    int name(__VA_ARGS__ const char *path, int flags, ...)                                         \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;                    \
        va_end(ap);                                                                                \
        return open_any(OPEN_AT, path, flags, mode);                                               \
    }
#define COMMA ,
#define OPEN_AT AT_FDCWD
OPEN(open, )
OPEN(open64, )
#undef OPEN_AT
#define OPEN_AT at
OPEN(openat, int at COMMA)
OPEN(openat64, int at COMMA)
#undef OPEN_AT

int creat(const char *path, mode_t mode)
{
    return open_any(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

/* libc makes the name; the file it opens by itself. */
int mkostemp64(char *template, int flags)
{
    char path[PATH_MAX];
    int (*real)(char *, int) = (int (*)(char *, int))dlsym(RTLD_NEXT, "mkostemp64");
    if (!at_inside(AT_FDCWD, template, path))
        return real(template, flags);
    if (fault(IO_KIND_MAKE, path, 0, NULL))
        return -1;
    pthread_mutex_lock(&order);
    int fd = real(template, flags);
    if (fd >= 0)
        record(IO_CREATE, template, NULL, ino_of_fd(fd, NULL), 0, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return fd;
}

int mkostemp(char *template, int flags)
{
    return mkostemp64(template, flags);
}

/* ---- Looking and listing ---- */

#define LOOK(name, type)                                                                           \
    int name(const char *restrict file, struct type *restrict st)                                  \
    {                                                                                              \
        char path[PATH_MAX];                                                                       \
        if (at_inside(AT_FDCWD, file, path) && fault(IO_KIND_LOOK, path, 0, NULL))                 \
            return -1;                                                                             \
        return (int)syscall(SYS_newfstatat, AT_FDCWD, file, st, 0);                                \
    }
LOOK(stat, stat)
LOOK(stat64, stat64)

DIR *opendir(const char *name)
{
    char path[PATH_MAX];
    DIR *(*real)(const char *) = (DIR * (*)(const char *)) dlsym(RTLD_NEXT, "opendir");
    return at_inside(AT_FDCWD, name, path) && fault(IO_KIND_LIST, path, 0, NULL) ? NULL
                                                                                 : real(name);
}

#define LIST(name, type)                                                                           \
    struct type *name(DIR *dir)                                                                    \
    {                                                                                              \
        char path[PATH_MAX];                                                                       \
        struct type *(*real)(DIR *) = (struct type * (*)(DIR *)) dlsym(RTLD_NEXT, #name);          \
        return fd_inside(dirfd(dir), path) && fault(IO_KIND_LIST, path, 0, NULL) ? NULL            \
                                                                                 : real(dir);      \
    }
LIST(readdir, dirent)
LIST(readdir64, dirent64)

/* ---- Reading and writing ---- */

/* @iov cut to @len bytes, in @out. */
static int shorten(const struct iovec *iov, int n, size_t len, struct iovec out[static IOV_FEW])
{
    int used = 0;
    for (; used < n && used < IOV_FEW && len > 0; used++) {
        out[used] = iov[used];
        if (out[used].iov_len > len)
            out[used].iov_len = len;
        len -= out[used].iov_len;
    }
    return used;
}

static size_t length(const struct iovec *iov, int n)
{
    size_t len = 0;
    for (int i = 0; i < n; i++)
        len += iov[i].iov_len;
    return len;
}

/* @offset -1: at the position of the descriptor. */
static ssize_t read_any(int fd, const struct iovec *iov, int n, off64_t offset)
{
    char path[PATH_MAX];
    struct iovec less[IOV_FEW];
    size_t all = length(iov, n), len = all;
    if (fd_inside(fd, path) && fault(IO_KIND_READ, path, all, &len))
        return -1;
    if (len < all) {
        n = shorten(iov, n, len, less);
        iov = less;
    }
    return offset < 0 ? syscall(SYS_readv, fd, iov, n) : syscall(SYS_preadv, fd, iov, n, offset, 0);
}

static ssize_t write_any(int fd, const struct iovec *iov, int n, off64_t offset)
{
    char path[PATH_MAX];
    struct iovec less[IOV_FEW];
    size_t all = length(iov, n), len = all;
    bool in = fd_inside(fd, path), marks = is_marks(path);
    if (in && !marks && fault(IO_KIND_WRITE, path, all, &len))
        return -1;
    if (len < all) {
        n = shorten(iov, n, len, less);
        iov = less;
    }
    if (!in && !marks)
        return offset < 0 ? syscall(SYS_writev, fd, iov, n)
                          : syscall(SYS_pwritev, fd, iov, n, offset, 0);
    pthread_mutex_lock(&order);
    uint64_t size, ino = ino_of_fd(fd, &size);
    int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
    uint64_t pos = (uint64_t)offset;
    if (offset < 0)
        pos = flags & O_APPEND ? size : (uint64_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    ssize_t done = offset < 0 ? syscall(SYS_writev, fd, iov, n)
                              : syscall(SYS_pwritev, fd, iov, n, offset, 0);
    if (done > 0)
        record(marks ? IO_MARK : IO_WRITE, marks ? NULL : path, NULL, ino, pos, iov, n,
               (size_t)done);
    if (done > 0 && !marks && (flags & O_DSYNC)) /* which O_SYNC has in it */
        record(IO_SYNC, path, NULL, ino, IO_SYNC_LAST, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return done;
}

#define ONE(data, len) (&(struct iovec){(void *)(data), len}), 1
/* clang-format off */
ssize_t read(int fd, void *buf, size_t len) { return read_any(fd, ONE(buf, len), -1); }
ssize_t readv(int fd, const struct iovec *iov, int n) { return read_any(fd, iov, n, -1); }
ssize_t pread(int fd, void *buf, size_t len, off_t at) { return read_any(fd, ONE(buf, len), at); }
ssize_t pread64(int fd, void *buf, size_t len, off64_t at) { return read_any(fd, ONE(buf, len), at); }
ssize_t preadv(int fd, const struct iovec *iov, int n, off_t at) { return read_any(fd, iov, n, at); }
ssize_t preadv64(int fd, const struct iovec *iov, int n, off64_t at) { return read_any(fd, iov, n, at); }
ssize_t write(int fd, const void *buf, size_t len) { return write_any(fd, ONE(buf, len), -1); }
ssize_t writev(int fd, const struct iovec *iov, int n) { return write_any(fd, iov, n, -1); }
ssize_t pwrite(int fd, const void *buf, size_t len, off_t at) { return write_any(fd, ONE(buf, len), at); }
ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at) { return write_any(fd, ONE(buf, len), at); }
ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at) { return write_any(fd, iov, n, at); }
ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t at) { return write_any(fd, iov, n, at); }
/* clang-format on */

/* ---- Sizes and syncs ---- */

static int size_any(const char *path, enum io_op op, uint64_t ino, uint64_t size, long number,
                    long a, long b, long c, long d)
{
    if (fault(IO_KIND_SIZE, path, 0, NULL))
        return -1;
    pthread_mutex_lock(&order);
    int rc = (int)syscall(number, a, b, c, d);
    if (rc == 0)
        record(op, path, NULL, ino, size, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return rc;
}

static int resize_fd(int fd, off64_t size)
{
    char path[PATH_MAX];
    if (!fd_inside(fd, path))
        return (int)syscall(SYS_ftruncate, fd, size);
    return size_any(path, IO_SIZE, ino_of_fd(fd, NULL), (uint64_t)size, SYS_ftruncate, fd, size, 0,
                    0);
}

static int resize(const char *name, off64_t size)
{
    char path[PATH_MAX];
    if (!at_inside(AT_FDCWD, name, path))
        return (int)syscall(SYS_truncate, name, size);
    return size_any(path, IO_SIZE, ino_of(path), (uint64_t)size, SYS_truncate, (long)name, size, 0,
                    0);
}

static int allocate(int fd, int mode, off64_t at, off64_t len)
{
    char path[PATH_MAX];
    if (!fd_inside(fd, path))
        return (int)syscall(SYS_fallocate, fd, mode, at, len);
    if (mode != 0) /* the log knows none of these */
        abort();
    return size_any(path, IO_ALLOCATE, ino_of_fd(fd, NULL), (uint64_t)(at + len), SYS_fallocate, fd,
                    mode, at, len);
}

static int sync_any(int fd, long number)
{
    char path[PATH_MAX];
    if (!fd_inside(fd, path))
        return (int)syscall(number, fd);
    if (fault(IO_KIND_SYNC, path, 0, NULL))
        return -1;
    pthread_mutex_lock(&order);
    int rc = (int)syscall(number, fd);
    if (rc == 0)
        record(IO_SYNC, path, NULL, ino_of_fd(fd, NULL), 0, NULL, 0, 0);
    pthread_mutex_unlock(&order);
    return rc;
}

/* clang-format off */
int ftruncate(int fd, off_t size) { return resize_fd(fd, size); }
int ftruncate64(int fd, off64_t size) { return resize_fd(fd, size); }
int truncate(const char *path, off_t size) { return resize(path, size); }
int truncate64(const char *path, off64_t size) { return resize(path, size); }
int fallocate(int fd, int mode, off_t at, off_t len) { return allocate(fd, mode, at, len); }
int fallocate64(int fd, int mode, off64_t at, off64_t len) { return allocate(fd, mode, at, len); }
int posix_fallocate(int fd, off_t at, off_t len) { return allocate(fd, 0, at, len) ? errno : 0; }
int posix_fallocate64(int fd, off64_t at, off64_t len) { return allocate(fd, 0, at, len) ? errno : 0; }
int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }
/* clang-format on */

/* Promises nothing, so it is not in the log. */
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags)
{
    char path[PATH_MAX];
    if (fd_inside(fd, path) && fault(IO_KIND_SYNC, path, 0, NULL))
        return -1;
    return (int)syscall(SYS_sync_file_range, fd, at, len, flags);
}

/* ---- Names ---- */

static int rename_any(int at, const char *from, int to_at, const char *to, unsigned flags)
{
    char path[PATH_MAX], other[PATH_MAX];
    bool in = at_inside(at, from, path), to_in = at_inside(to_at, to, other);
    if (in != to_in && plan.log >= 0) /* half of it would be unknown to the log */
        abort();
    if (!in)
        return (int)syscall(SYS_renameat2, at, from, to_at, to, flags);
    return change(IO_KIND_NAME, flags & RENAME_EXCHANGE ? IO_EXCHANGE : IO_RENAME, path, other,
                  SYS_renameat2, at, (long)from, to_at, (long)to, flags);
}

static int link_any(int at, const char *from, int to_at, const char *to, int flags)
{
    char path[PATH_MAX], other[PATH_MAX];
    bool in = at_inside(at, from, path), to_in = at_inside(to_at, to, other);
    if (!in && !to_in)
        return (int)syscall(SYS_linkat, at, from, to_at, to, flags);
    return change(IO_KIND_NAME, IO_LINK, path, other, SYS_linkat, at, (long)from, to_at,
                  (long)to, flags);
}

static int unlink_any(int at, const char *name, int flags)
{
    char path[PATH_MAX];
    if (!at_inside(at, name, path))
        return (int)syscall(SYS_unlinkat, at, name, flags);
    return change(IO_KIND_NAME, IO_UNLINK, path, NULL, SYS_unlinkat, at, (long)name, flags, 0,
                  0);
}

static int mkdir_any(int at, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    if (!at_inside(at, name, path))
        return (int)syscall(SYS_mkdirat, at, name, mode);
    return change(IO_KIND_MKDIR, IO_MKDIR, path, NULL, SYS_mkdirat, at, (long)name, mode, 0,
                  0);
}

/* clang-format off */
int rename(const char *from, const char *to) { return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int at, const char *from, int to_at, const char *to) { return rename_any(at, from, to_at, to, 0); }
int renameat2(int at, const char *from, int to_at, const char *to, unsigned flags) { return rename_any(at, from, to_at, to, flags); }
int link(const char *from, const char *to) { return link_any(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int at, const char *from, int to_at, const char *to, int flags) { return link_any(at, from, to_at, to, flags); }
int unlink(const char *path) { return unlink_any(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return unlink_any(at, path, flags); }
int rmdir(const char *path) { return unlink_any(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdir(const char *path, mode_t mode) { return mkdir_any(AT_FDCWD, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { return mkdir_any(at, path, mode); }
/* clang-format on */
