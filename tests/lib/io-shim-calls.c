/* SPDX-License-Identifier: Apache-2.0 */
/* The I/O shim: the calls that it stands in for.  Each asks for a fault, calls the kernel, and has
 * the change written down. */
#include "lib/io-shim.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Opening ---- */

static int open_any(int at, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    if (!shim_looks() || !shim_inside(at, name, path))
        return (int)syscall(SYS_openat, at, name, flags, mode);
    pthread_mutex_lock(&shim_order);
    bool absent = (flags & O_CREAT) && shim_ino(path) == 0;
    int fd = -1;
    if (!shim_fault(absent ? IO_KIND_MAKE : IO_KIND_OPEN, path, 0, NULL))
        fd = (int)syscall(SYS_openat, at, name, flags, mode);
    if (fd >= 0 && absent)
        shim_record(IO_CREATE, path, NULL, shim_fd_ino(fd, NULL), 0, NULL, 0, 0);
    else if (fd >= 0 && (flags & O_TRUNC))
        shim_record(IO_SIZE, path, NULL, shim_fd_ino(fd, NULL), 0, NULL, 0, 0);
    pthread_mutex_unlock(&shim_order);
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
    if (!shim_inside(AT_FDCWD, template, path))
        return real(template, flags);
    if (shim_fault(IO_KIND_MAKE, path, 0, NULL))
        return -1;
    pthread_mutex_lock(&shim_order);
    int fd = real(template, flags);
    if (fd >= 0)
        shim_record(IO_CREATE, template, NULL, shim_fd_ino(fd, NULL), 0, NULL, 0, 0);
    pthread_mutex_unlock(&shim_order);
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
        if (shim_inside(AT_FDCWD, file, path) && shim_fault(IO_KIND_LOOK, path, 0, NULL))          \
            return -1;                                                                             \
        return (int)syscall(SYS_newfstatat, AT_FDCWD, file, st, 0);                                \
    }
LOOK(stat, stat)
LOOK(stat64, stat64)

DIR *opendir(const char *name)
{
    char path[PATH_MAX];
    DIR *(*real)(const char *) = (DIR * (*)(const char *)) dlsym(RTLD_NEXT, "opendir");
    return shim_inside(AT_FDCWD, name, path) && shim_fault(IO_KIND_OPEN, path, 0, NULL)
               ? NULL
               : real(name);
}

#define LIST(name, type)                                                                           \
    struct type *name(DIR *dir)                                                                    \
    {                                                                                              \
        char path[PATH_MAX];                                                                       \
        struct type *(*real)(DIR *) = (struct type * (*)(DIR *)) dlsym(RTLD_NEXT, #name);          \
        return shim_fd_inside(dirfd(dir), path) && shim_fault(IO_KIND_LIST, path, 0, NULL)         \
                   ? NULL                                                                          \
                   : real(dir);                                                                    \
    }
LIST(readdir, dirent)
LIST(readdir64, dirent64)

/* ---- Reading and writing ---- */

/* @iov cut to @len bytes, in @out. */
static int shorten(const struct iovec *iov, int n, size_t len, struct iovec out[static SHIM_IOV])
{
    int used = 0;
    for (; used < n && used < SHIM_IOV && len > 0; used++) {
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
    struct iovec less[SHIM_IOV];
    size_t all = length(iov, n), len = all;
    if (shim_fd_inside(fd, path) && shim_fault(IO_KIND_READ, path, all, &len))
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
    struct iovec less[SHIM_IOV];
    size_t all = length(iov, n), len = all;
    bool in = shim_fd_inside(fd, path), marks = shim_is_marks(path);
    if (in && !marks && shim_fault(IO_KIND_WRITE, path, all, &len))
        return -1;
    if (len < all) {
        n = shorten(iov, n, len, less);
        iov = less;
    }
    if (!in && !marks)
        return offset < 0 ? syscall(SYS_writev, fd, iov, n)
                          : syscall(SYS_pwritev, fd, iov, n, offset, 0);
    pthread_mutex_lock(&shim_order);
    uint64_t size, ino = shim_fd_ino(fd, &size);
    int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
    uint64_t pos = (uint64_t)offset;
    if (offset < 0)
        pos = flags & O_APPEND ? size : (uint64_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
    ssize_t done =
        offset < 0 ? syscall(SYS_writev, fd, iov, n) : syscall(SYS_pwritev, fd, iov, n, offset, 0);
    if (done > 0)
        shim_record(marks ? IO_MARK : IO_WRITE, marks ? NULL : path, NULL, ino, pos, iov, n,
                    (size_t)done);
    if (done > 0 && !marks && (flags & O_DSYNC)) /* which O_SYNC has in it */
        shim_record(IO_SYNC, path, NULL, ino, IO_SYNC_LAST, NULL, 0, 0);
    pthread_mutex_unlock(&shim_order);
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
    if (shim_fault(IO_KIND_SIZE, path, 0, NULL))
        return -1;
    pthread_mutex_lock(&shim_order);
    int rc = (int)syscall(number, a, b, c, d);
    if (rc == 0)
        shim_record(op, path, NULL, ino, size, NULL, 0, 0);
    pthread_mutex_unlock(&shim_order);
    return rc;
}

static int resize_fd(int fd, off64_t size)
{
    char path[PATH_MAX];
    if (!shim_fd_inside(fd, path))
        return (int)syscall(SYS_ftruncate, fd, size);
    return size_any(path, IO_SIZE, shim_fd_ino(fd, NULL), (uint64_t)size, SYS_ftruncate, fd, size,
                    0, 0);
}

static int resize(const char *name, off64_t size)
{
    char path[PATH_MAX];
    if (!shim_inside(AT_FDCWD, name, path))
        return (int)syscall(SYS_truncate, name, size);
    return size_any(path, IO_SIZE, shim_ino(path), (uint64_t)size, SYS_truncate, (long)name, size,
                    0, 0);
}

static int allocate(int fd, int mode, off64_t at, off64_t len)
{
    char path[PATH_MAX];
    if (!shim_fd_inside(fd, path))
        return (int)syscall(SYS_fallocate, fd, mode, at, len);
    if (mode != 0) /* the log knows none of these */
        abort();
    return size_any(path, IO_ALLOCATE, shim_fd_ino(fd, NULL), (uint64_t)(at + len), SYS_fallocate,
                    fd, mode, at, len);
}

static int sync_any(int fd, long number)
{
    char path[PATH_MAX];
    if (!shim_fd_inside(fd, path))
        return (int)syscall(number, fd);
    if (shim_fault(IO_KIND_SYNC, path, 0, NULL))
        return -1;
    pthread_mutex_lock(&shim_order);
    int rc = (int)syscall(number, fd);
    if (rc == 0)
        shim_record(IO_SYNC, path, NULL, shim_fd_ino(fd, NULL), 0, NULL, 0, 0);
    pthread_mutex_unlock(&shim_order);
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
    if (shim_fd_inside(fd, path) && shim_fault(IO_KIND_SYNC, path, 0, NULL))
        return -1;
    return (int)syscall(SYS_sync_file_range, fd, at, len, flags);
}

/* ---- Names ---- */

/* A change of names: the fault, the call, the record. */
static int change(enum io_kind kind, enum io_op op, const char *path, const char *other,
                  long number, long a, long b, long c, long d, long e)
{
    if (shim_fault(kind, path, 0, NULL))
        return -1;
    pthread_mutex_lock(&shim_order);
    int rc = (int)syscall(number, a, b, c, d, e);
    if (rc == 0)
        shim_record(op, path, other, op == IO_MKDIR ? shim_ino(path) : 0, 0, NULL, 0, 0);
    pthread_mutex_unlock(&shim_order);
    return rc;
}

static int rename_any(int at, const char *from, int to_at, const char *to, unsigned flags)
{
    char path[PATH_MAX], other[PATH_MAX];
    bool in = shim_inside(at, from, path), to_in = shim_inside(to_at, to, other);
    if (in != to_in && shim_records()) /* half of it would be unknown to the log */
        abort();
    if (!in)
        return (int)syscall(SYS_renameat2, at, from, to_at, to, flags);
    return change(IO_KIND_NAME, flags & RENAME_EXCHANGE ? IO_EXCHANGE : IO_RENAME, path, other,
                  SYS_renameat2, at, (long)from, to_at, (long)to, flags);
}

static int link_any(int at, const char *from, int to_at, const char *to, int flags)
{
    char path[PATH_MAX], other[PATH_MAX];
    bool in = shim_inside(at, from, path), to_in = shim_inside(to_at, to, other);
    if (!in && !to_in)
        return (int)syscall(SYS_linkat, at, from, to_at, to, flags);
    return change(IO_KIND_NAME, IO_LINK, path, other, SYS_linkat, at, (long)from, to_at, (long)to,
                  flags);
}

static int unlink_any(int at, const char *name, int flags)
{
    char path[PATH_MAX];
    if (!shim_inside(at, name, path))
        return (int)syscall(SYS_unlinkat, at, name, flags);
    return change(IO_KIND_NAME, IO_UNLINK, path, NULL, SYS_unlinkat, at, (long)name, flags, 0, 0);
}

static int mkdir_any(int at, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    if (!shim_inside(at, name, path))
        return (int)syscall(SYS_mkdirat, at, name, mode);
    return change(IO_KIND_MKDIR, IO_MKDIR, path, NULL, SYS_mkdirat, at, (long)name, mode, 0, 0);
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
