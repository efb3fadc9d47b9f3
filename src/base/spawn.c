/* SPDX-License-Identifier: Apache-2.0 */
/* Starting processes that outlive us. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/process-internal.h"
#include "base/process.h"

/* What the child could not do; text of the program itself, which is at the same place in both. */
struct child_failure {
    const char *what; /* NULL: exec */
    int err;
};

/* Runs in the child between fork and exec: async-signal-safe calls only. */
static void child_fail(int fd, const char *what)
{
    struct child_failure failure = {what, errno};
    while (write(fd, &failure, sizeof failure) < 0 && errno == EINTR)
        ;
    _exit(127);
}

static void write_own(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = write(fd, text, strlen(text)); /* best effort */
        (void)n;
        close(fd);
    }
}

static void keep_only(const int *fds, unsigned n, int status_fd)
{
    /* Ranges between kept descriptors are closed; the lists are tiny. */
    unsigned from = 3;
    for (;;) {
        unsigned next = ~0u;
        for (unsigned i = 0; i < n; i++) {
            if (fds[i] >= (int)from && (unsigned)fds[i] < next)
                next = (unsigned)fds[i];
        }
        if (status_fd >= (int)from && (unsigned)status_fd < next)
            next = (unsigned)status_fd;
        if (next == ~0u) {
            syscall(SYS_close_range, from, ~0u, 0);
            return;
        }
        if (next > from)
            syscall(SYS_close_range, from, next - 1, 0);
        from = next + 1;
    }
}

/* Every signal back to its default. By the system call: signal() keeps away from the two realtime
 * signals that are glibc's own, which whoever started us may have left ignored. */
static void default_signals(void)
{
    static const unsigned long zeros[16]; /* a kernel sigaction: SIG_DFL, no flags, empty mask */
    for (int sig = 1; sig <= 64; sig++)
        syscall(SYS_rt_sigaction, sig, zeros, NULL, 8);
}

struct child_setup {
    const struct at_spawn *spawn;
    int status_fd;
    int log_fd;
    int netns_fd;
    const int *cgroup_fds;
    unsigned n_cgroups;
};

static void child_main(const struct child_setup *c)
{
    static char *const environment[] = {
        (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        (char *)"LANG=C.UTF-8", NULL};
    const struct at_spawn *s = c->spawn;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    default_signals();
    setsid();
    write_own("/proc/self/oom_score_adj", "0"); /* not ours, which may be guarded */
    for (unsigned i = 0; i < c->n_cgroups; i++) {
        if (write(c->cgroup_fds[i], "0", 1) < 0)
            child_fail(c->status_fd, "enter its cgroup");
    }
    if (c->netns_fd >= 0 && setns(c->netns_fd, CLONE_NEWNET) != 0)
        child_fail(c->status_fd, "enter its network namespace");
    int null_fd = open("/dev/null", O_RDWR);
    if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(c->log_fd >= 0 ? c->log_fd : null_fd, 1) < 0 ||
        dup2(c->log_fd >= 0 ? c->log_fd : null_fd, 2) < 0)
        child_fail(c->status_fd, "open its log");
    for (unsigned i = 0; i < s->n_fds; i++)
        fcntl(s->fds[i], F_SETFD, 0);
    keep_only(s->fds, s->n_fds, c->status_fd);
    if (chdir(s->cwd ? s->cwd : "/") != 0)
        child_fail(c->status_fd, "enter its directory");
    if (s->memlock) {
        struct rlimit lim = {s->memlock, s->memlock};
        if (setrlimit(RLIMIT_MEMLOCK, &lim) != 0)
            child_fail(c->status_fd, "raise its limit of locked memory");
    }
    if (s->cpus && sched_setaffinity(0, sizeof *s->cpus, s->cpus) != 0)
        child_fail(c->status_fd, "stay on its processors");
    umask(0077);
    if (s->uid != 0 &&
        (setgroups(s->n_groups, s->groups) != 0 || setresgid(s->gid, s->gid, s->gid) != 0 ||
         setresuid(s->uid, s->uid, s->uid) != 0))
        child_fail(c->status_fd, "become its user");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        child_fail(c->status_fd, "set no_new_privs");
    execve(s->argv[0], (char *const *)s->argv, environment);
    child_fail(c->status_fd, NULL);
}

static bool open_cgroups(const char *list, int *fds, unsigned max, unsigned *ret_n, GError **error)
{
    for (const char *dir = list; dir && *dir; dir += strlen(dir) + 1) {
        g_autofree char *path = g_build_filename(dir, "cgroup.procs", NULL);
        if (*ret_n == max)
            return at_error(error, AT_ERROR_INVALID, "more than %u cgroups", max);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            return at_error_errno(error, errno, "open %s", path);
        fds[(*ret_n)++] = fd;
    }
    return true;
}

/* Forks twice; the grandchild goes on only when its parent is gone and it belongs to init. Gives
 * its pid, or -1 with errno. */
static pid_t fork_orphan(struct child_setup *setup)
{
    int told[2], go[2];
    pid_t orphan = -1;
    if (pipe2(told, O_CLOEXEC) != 0)
        return -1;
    if (pipe2(go, O_CLOEXEC) != 0) {
        close(told[0]);
        close(told[1]);
        return -1;
    }
    pid_t between = fork();
    if (between == 0) {
        char c;
        close(go[1]);
        orphan = fork();
        if (orphan == 0) {
            if (read(go[0], &c, 1) == 1)
                child_main(setup);
            _exit(1);
        }
        _exit(write(told[1], &orphan, sizeof orphan) == sizeof orphan ? 0 : 1);
    }
    close(told[1]);
    close(go[0]);
    if (between > 0) {
        while (waitpid(between, NULL, 0) < 0 && errno == EINTR)
            ;
        if (read(told[0], &orphan, sizeof orphan) != sizeof orphan || orphan < 0 ||
            write(go[1], "", 1) != 1) {
            orphan = -1;
            errno = EAGAIN;
        }
    }
    close(told[0]);
    close(go[1]);
    return orphan;
}

bool at_spawn(const struct at_spawn *spawn, struct at_process *ret_process, GError **error)
{
    enum { MAX_CGROUPS = 12 };
    int cgroup_fds[MAX_CGROUPS];
    unsigned n_cgroups = 0;
    at_autofd log_fd = -1;
    at_autofd netns_fd = -1;
    bool ok = false;
    if (spawn->log_path &&
        (log_fd = open(spawn->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640)) < 0)
        return at_error_errno(error, errno, "open %s", spawn->log_path);
    if (spawn->netns && (netns_fd = open(spawn->netns, O_RDONLY | O_CLOEXEC)) < 0)
        return at_error_errno(error, errno, "open network namespace %s", spawn->netns);
    int status[2];
    if (pipe2(status, O_CLOEXEC) != 0)
        return at_error_errno(error, errno, "pipe");
    if (!open_cgroups(spawn->cgroup, cgroup_fds, MAX_CGROUPS, &n_cgroups, error))
        goto out;

    struct child_setup setup = {spawn, status[1], log_fd, netns_fd, cgroup_fds, n_cgroups};
    pid_t pid = spawn->orphan ? fork_orphan(&setup) : fork();
    if (pid == 0)
        child_main(&setup);
    if (pid < 0) {
        at_error_errno(error, errno, "fork");
        goto out;
    }
    close(status[1]);
    status[1] = -1;
    struct child_failure failure = {NULL, EIO};
    ssize_t n;
    while ((n = read(status[0], &failure, sizeof failure)) < 0 && errno == EINTR)
        ;
    if (n > 0) {
        waitpid(pid, NULL, 0);
        if (!failure.what && failure.err == ENOENT)
            at_error(error, AT_ERROR_UNAVAILABLE, "%s is not installed", spawn->argv[0]);
        else
            at_error_errno(error, failure.err, "start %s%s%s", spawn->argv[0],
                           failure.what ? ": " : "", failure.what ? failure.what : "");
        goto out;
    }
    char state;
    if (!at_process_stat(pid, &state, &ret_process->start)) {
        at_error(error, AT_ERROR_IO, "%s ended at once", spawn->argv[0]);
        goto out;
    }
    ret_process->pid = pid;
    ok = true;
out:
    for (unsigned i = 0; i < n_cgroups; i++)
        close(cgroup_fds[i]);
    close(status[0]);
    if (status[1] >= 0)
        close(status[1]);
    return ok;
}
