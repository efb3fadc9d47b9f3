/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a helper on one file that nobody vouches for, with as little power as the kernel allows. */
#include "base/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/securebits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/plain.h"

enum {
    NOBODY = 65534,
    LISTEN_FD = 3,
    FILE_FD = 4,
    FIRST_FREE_FD = 5,
    STDERR_KEPT = 1000,
    OUT_MAX = 1 << 20
};

/* What the dynamic loader and the libraries of a helper read. */
static const char *const readable[] = {
    "/usr",           "/lib",      "/lib64",       "/etc/ld.so.cache",       "/etc/ld.so.preload",
    "/etc/localtime", "/dev/null", "/dev/urandom", "/sys/devices/system/cpu"};

static const uint64_t handled_access =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
    LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
    LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
    LANDLOCK_ACCESS_FS_MAKE_SYM;

static bool allow(int ruleset, int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return false;
    struct landlock_path_beneath_attr rule = {.parent_fd = fd};
    rule.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE;
    if (S_ISCHR(st.st_mode)) /* /dev/null: QEMU opens it for both */
        rule.allowed_access |= LANDLOCK_ACCESS_FS_WRITE_FILE;
    if (S_ISDIR(st.st_mode))
        rule.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_EXECUTE;
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

/* -1 when this kernel has no Landlock: the other walls still stand. */
static int make_ruleset(int file_fd)
{
    struct landlock_ruleset_attr attr = {.handled_access_fs = handled_access};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (ruleset < 0)
        return -1;
    for (size_t i = 0; i < G_N_ELEMENTS(readable); i++) {
        at_autofd fd = open(readable[i], O_PATH | O_CLOEXEC);
        if (fd >= 0)
            allow(ruleset, fd);
    }
    allow(ruleset, file_fd);
    return ruleset;
}

/* Who can read the file with the least power. Root without capabilities is the last resort. */
static void choose_identity(int file_fd, uid_t *ret_uid, gid_t *ret_gid)
{
    struct stat st;
    *ret_uid = *ret_gid = 0;
    if (fstat(file_fd, &st) != 0)
        return;
    if (st.st_mode & S_IROTH) {
        *ret_uid = *ret_gid = NOBODY;
    } else if (st.st_uid != 0 && (st.st_mode & S_IRUSR)) {
        *ret_uid = st.st_uid;
        *ret_gid = st.st_gid ? st.st_gid : NOBODY;
    } else if (st.st_gid != 0 && (st.st_mode & S_IRGRP)) {
        *ret_uid = NOBODY;
        *ret_gid = st.st_gid;
    }
}

struct child_setup {
    const struct at_confine *confine;
    int status_fd, err_fd, ruleset_fd;
    pid_t parent;
    uid_t uid;
    gid_t gid;
    bool root;
};

/* From here to exec: async-signal-safe calls only. */
static void child_fail(int fd, int err)
{
    while (write(fd, &err, sizeof err) < 0 && errno == EINTR)
        ;
    _exit(127);
}

static void format_pid(char *to, unsigned pid)
{
    char digits[12];
    unsigned n = 0;
    do
        digits[n++] = (char)('0' + pid % 10);
    while (pid /= 10);
    while (n)
        *to++ = digits[--n];
    *to = '\0';
}

static bool limit(int resource, rlim_t value)
{
    struct rlimit lim = {value, value};
    return setrlimit(resource, &lim) == 0;
}

static bool drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    return prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, 0, 0, 0) == 0 &&
           syscall(SYS_capset, &header, none) == 0;
}

/* @fd moved out of the way of the low numbers that are assigned below. */
static int move_up(int fd)
{
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 16);
}

static void child_main(const struct child_setup *c)
{
    static char listen_pid[32] = "LISTEN_PID=";
    static char *const environment[] = {(char *)"PATH=/usr/bin:/bin", (char *)"LANG=C.UTF-8",
                                        (char *)"LISTEN_FDS=1", listen_pid, NULL};
    const struct at_confine *s = c->confine;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int sig = 1; sig < 32; sig++)
        signal(sig, SIG_DFL);
    setsid();
    int status = move_up(c->status_fd), err = move_up(c->err_fd), rules = move_up(c->ruleset_fd);
    int file = move_up(s->file_fd), sock = move_up(s->listen_fd), out = move_up(s->out_fd);
    int null = move_up(open("/dev/null", O_RDWR));
    if (status < 0 || err < 0 || file < 0 || null < 0)
        child_fail(c->status_fd, errno);
    if (dup2(null, 0) < 0 || dup2(out >= 0 ? out : null, 1) < 0 || dup2(err, 2) < 0 ||
        dup2(sock >= 0 ? sock : null, LISTEN_FD) < 0 || dup2(file, FILE_FD) < 0)
        child_fail(status, errno);
    syscall(SYS_close_range, FIRST_FREE_FD, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */);
    if (!limit(RLIMIT_CORE, 0) || !limit(RLIMIT_NOFILE, 256) || !limit(RLIMIT_FSIZE, OUT_MAX) ||
        !limit(RLIMIT_AS, s->limit_as ? s->limit_as : 8ull << 30) ||
        (s->limit_cpu_s && !limit(RLIMIT_CPU, s->limit_cpu_s)))
        child_fail(status, errno);
    if (c->root) {
        unshare(CLONE_NEWNET | CLONE_NEWIPC); /* as much as there is */
        if (c->uid != 0 ? syscall(SYS_setgroups, 0, NULL) != 0 ||
                              syscall(SYS_setresgid, c->gid, c->gid, c->gid) != 0 ||
                              syscall(SYS_setresuid, c->uid, c->uid, c->uid) != 0
                        : !drop_capabilities())
            child_fail(status, errno);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        child_fail(status, errno);
    if (getppid() != c->parent) /* it died before the line above */
        _exit(127);
    if (rules >= 0 && syscall(SYS_landlock_restrict_self, rules, 0) != 0)
        child_fail(status, errno);
    if (s->listen_fd >= 0)
        format_pid(listen_pid + strlen("LISTEN_PID="), (unsigned)getpid());
    execve(s->argv[0], (char *const *)s->argv, environment);
    child_fail(status, errno);
}

bool at_confine_start(const struct at_confine *confine, struct at_confined *ret_child,
                      GError **error)
{
    int status[2];
    at_autofd err_fd = memfd_create("stderr", MFD_CLOEXEC);
    if (err_fd < 0)
        return at_error_errno(error, errno, "memfd_create");
    at_autofd ruleset_fd = make_ruleset(confine->file_fd);
    if (pipe2(status, O_CLOEXEC) != 0)
        return at_error_errno(error, errno, "pipe");
    struct child_setup setup = {.confine = confine,
                                .status_fd = status[1],
                                .err_fd = err_fd,
                                .ruleset_fd = ruleset_fd,
                                .parent = getpid(),
                                .root = geteuid() == 0};
    choose_identity(confine->file_fd, &setup.uid, &setup.gid);
    pid_t pid = fork();
    if (pid == 0)
        child_main(&setup);
    int fork_errno = errno, err = 0;
    close(status[1]);
    ssize_t n = 0;
    while (pid > 0 && (n = read(status[0], &err, sizeof err)) < 0 && errno == EINTR)
        ;
    close(status[0]);
    if (pid < 0)
        return at_error_errno(error, fork_errno, "fork");
    if (n > 0) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        if (err == ENOENT)
            return at_error(error, AT_ERROR_UNAVAILABLE, "%s is not installed", confine->argv[0]);
        return at_error_errno(error, err, "start %s", confine->argv[0]);
    }
    ret_child->pid = pid;
    ret_child->exit_code = -1;
    ret_child->err_fd = at_steal_fd(&err_fd);
    return true;
}

char *at_confined_stderr(const struct at_confined *child)
{
    char text[STDERR_KEPT + 1];
    ssize_t n = pread(child->err_fd, text, STDERR_KEPT, 0);
    text[MAX(n, 0)] = '\0';
    text[strcspn(text, "\n")] = '\0'; /* a damaged file gives hundreds; the first says enough */
    return g_strstrip(at_plain_text(text, false));
}

static bool judge(struct at_confined *child, int status, GError **error)
{
    child->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (child->exit_code == 0)
        return true;
    g_autofree char *text = at_confined_stderr(child);
    if (WIFSIGNALED(status))
        return at_error(error, AT_ERROR_IO, "was killed by signal %d%s%s%s", WTERMSIG(status),
                        WTERMSIG(status) == SIGXCPU ? " (more CPU time than it may use)" : "",
                        *text ? ": " : "", text);
    return at_error(error, AT_ERROR_IO, "%s", *text ? text : "failed without a word");
}

bool at_confined_wait(struct at_confined *child, int timeout_ms, GCancellable *cancellable,
                      GError **error)
{
    at_autofd pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    if (pidfd < 0)
        return at_error_errno(error, errno, "pidfd_open");
    GPollFD cancel = {.fd = -1};
    bool watch = cancellable && g_cancellable_make_pollfd(cancellable, &cancel);
    struct pollfd p[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = cancel.fd, .events = POLLIN}};
    int64_t deadline = at_deadline_ms(timeout_ms);
    int status, n;
    while ((n = poll(p, 2, at_deadline_left_ms(deadline))) < 0 && errno == EINTR)
        ;
    if (watch)
        g_cancellable_release_fd(cancellable);
    if (n == 0)
        return at_error(error, AT_ERROR_TIMEOUT, "did not end within %d ms", timeout_ms);
    if (p[1].revents)
        return at_error(error, AT_ERROR_CANCELLED, "cancelled");
    pid_t got;
    while ((got = waitpid(child->pid, &status, 0)) < 0 && errno == EINTR)
        ;
    child->pid = 0;
    return got > 0 ? judge(child, status, error) : at_error_errno(error, errno, "wait for its end");
}

bool at_confine_run(const struct at_confine *confine, int timeout_ms, GCancellable *cancellable,
                    char **ret_out, int *ret_exit, GError **error)
{
    at_autofd out = memfd_create("output", MFD_CLOEXEC);
    if (out < 0)
        return at_error_errno(error, errno, "memfd_create");
    struct at_confine with_output = *confine;
    struct at_confined child = AT_CONFINED_NONE;
    with_output.out_fd = out;
    bool ok = at_confine_start(&with_output, &child, error) &&
              at_confined_wait(&child, timeout_ms, cancellable, error);
    at_confined_end(&child);
    if (ret_exit)
        *ret_exit = child.exit_code;
    if (!ok)
        return false;
    g_autofree char *text = g_malloc(OUT_MAX + 1);
    ssize_t n = pread(out, text, OUT_MAX, 0);
    text[MAX(n, 0)] = '\0';
    *ret_out = g_steal_pointer(&text);
    return true;
}

void at_confined_end(struct at_confined *child)
{
    if (child->pid > 0) {
        kill(child->pid, SIGKILL); /* not reaped yet: it is still ours */
        while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        child->pid = 0;
    }
    at_close_fd(&child->err_fd);
}
