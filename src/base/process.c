/* SPDX-License-Identifier: Apache-2.0 */
/* Processes: helpers that are waited for with a deadline, and long-lived ones that outlive us. */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"

static const char search_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

enum { OUTPUT_MAX = 16 << 20, STDERR_KEPT = 2000 };

char *at_find_program(const char *name, const char *package_hint, GError **error)
{
    g_auto(GStrv) dirs = g_strsplit(strchr(name, '/') ? "" : search_path, ":", -1);
    if (strchr(name, '/') && access(name, X_OK) == 0)
        return g_strdup(name);
    for (char **dir = dirs; *dir; dir++) {
        g_autofree char *path = g_build_filename(*dir, name, NULL);
        if (access(path, X_OK) == 0)
            return g_steal_pointer(&path);
    }
    at_error(error, AT_ERROR_UNAVAILABLE, "%s is not installed%s%s%s", name,
             package_hint ? " (apt-get install " : "", package_hint ? package_hint : "",
             package_hint ? ")" : "");
    return NULL;
}

/* Runs in the child between fork and exec: async-signal-safe calls only. */
static void child_fail(int fd, int err)
{
    while (write(fd, &err, sizeof err) < 0 && errno == EINTR)
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
            child_fail(c->status_fd, errno);
    }
    if (c->netns_fd >= 0 && setns(c->netns_fd, CLONE_NEWNET) != 0)
        child_fail(c->status_fd, errno);
    int null_fd = open("/dev/null", O_RDWR);
    if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(c->log_fd >= 0 ? c->log_fd : null_fd, 1) < 0 ||
        dup2(c->log_fd >= 0 ? c->log_fd : null_fd, 2) < 0)
        child_fail(c->status_fd, errno);
    for (unsigned i = 0; i < s->n_fds; i++)
        fcntl(s->fds[i], F_SETFD, 0);
    keep_only(s->fds, s->n_fds, c->status_fd);
    if (chdir(s->cwd ? s->cwd : "/") != 0)
        child_fail(c->status_fd, errno);
    if (s->memlock) {
        struct rlimit lim = {s->memlock, s->memlock};
        if (setrlimit(RLIMIT_MEMLOCK, &lim) != 0)
            child_fail(c->status_fd, errno);
    }
    if (s->cpus && sched_setaffinity(0, sizeof *s->cpus, s->cpus) != 0)
        child_fail(c->status_fd, errno);
    umask(0077);
    if (s->uid != 0 &&
        (setgroups(s->n_groups, s->groups) != 0 || setresgid(s->gid, s->gid, s->gid) != 0 ||
         setresuid(s->uid, s->uid, s->uid) != 0))
        child_fail(c->status_fd, errno);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        child_fail(c->status_fd, errno);
    execve(s->argv[0], (char *const *)s->argv, environment);
    child_fail(c->status_fd, errno);
}

static bool read_stat(pid_t pid, char *ret_state, uint64_t *ret_start)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    at_autofd fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return false;
    text[n] = '\0';
    char *p = strrchr(text, ')'); /* the command name may hold anything, also parentheses */
    unsigned long long start;
    if (!p || sscanf(p + 1,
                     " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
                     "%llu",
                     ret_state, &start) != 2)
        return false;
    *ret_start = start;
    return true;
}

bool at_process_lookup(pid_t pid, struct at_process *ret_process)
{
    char state;
    uint64_t start;
    if (pid <= 0 || !read_stat(pid, &state, &start) || state == 'Z' || state == 'X')
        return false;
    *ret_process = (struct at_process){.pid = pid, .start = start};
    return true;
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
    int err = 0;
    ssize_t n;
    while ((n = read(status[0], &err, sizeof err)) < 0 && errno == EINTR)
        ;
    if (n > 0) {
        waitpid(pid, NULL, 0);
        if (err == ENOENT)
            at_error(error, AT_ERROR_UNAVAILABLE, "%s is not installed", spawn->argv[0]);
        else
            at_error_errno(error, err, "start %s", spawn->argv[0]);
        goto out;
    }
    char state;
    if (!read_stat(pid, &state, &ret_process->start)) {
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

bool at_process_alive(const struct at_process *process)
{
    char state;
    uint64_t start;
    if (process->pid <= 0 || !read_stat(process->pid, &state, &start) || start != process->start)
        return false;
    if (state == 'Z' || state == 'X') {
        waitpid(process->pid, NULL, WNOHANG); /* reaps it when it is ours; harmless otherwise */
        return false;
    }
    return true;
}

int at_process_pidfd(const struct at_process *process)
{
    int fd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (fd >= 0 && !at_process_alive(process)) { /* the pid may have been reused before the open */
        close(fd);
        return -1;
    }
    return fd;
}

bool at_process_kill(const struct at_process *process, int signo, GError **error)
{
    at_autofd fd = at_process_pidfd(process);
    if (fd < 0 && at_process_alive(process))
        return at_error(error, AT_ERROR_IO, "no descriptor to signal process %d",
                        (int)process->pid);
    if (fd < 0)
        return true;
    if (syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0) != 0 && errno != ESRCH)
        return at_error_errno(error, errno, "signal process %d", (int)process->pid);
    return true;
}

bool at_process_wait(const struct at_process *process, int timeout_ms, GError **error)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    while (at_process_alive(process)) {
        at_autofd fd = at_process_pidfd(process);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int left = at_deadline_left_ms(deadline);
        /* Without a pidfd (out of descriptors, or it just ended) it is looked at again soon. */
        if (poll(&p, 1, fd < 0 ? MIN(left, 10) : left) == 0 && at_deadline_left_ms(deadline) == 0)
            return at_error(error, AT_ERROR_TIMEOUT, "process %d did not end within %d ms",
                            (int)process->pid, timeout_ms);
    }
    return true;
}

bool at_process_stop(const struct at_process *process, int term_ms, GError **error)
{
    if (!at_process_kill(process, SIGTERM, error))
        return false;
    if (at_process_wait(process, term_ms, NULL))
        return true;
    return at_process_kill(process, SIGKILL, error) && at_process_wait(process, 5000, error);
}

bool at_pidfile_write(const char *path, const struct at_process *process, GError **error)
{
    g_autofree char *text =
        g_strdup_printf("%d %" G_GUINT64_FORMAT "\n", (int)process->pid, process->start);
    return at_atomic_write(path, text, strlen(text), 0644, error);
}

bool at_pidfile_read(const char *path, struct at_process *ret_process, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) local = NULL;
    int pid;
    unsigned long long start;
    if (!g_file_get_contents(path, &text, NULL, &local))
        return at_error(error,
                        g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT)
                            ? AT_ERROR_NOT_FOUND
                            : AT_ERROR_IO,
                        "%s", local->message);
    if (sscanf(text, "%d %llu", &pid, &start) != 2 || pid <= 1)
        return at_error(error, AT_ERROR_INVALID, "%s is not a pid file", path);
    *ret_process = (struct at_process){.pid = pid, .start = start};
    return true;
}

/* Reads what is there; false at end of file. Keeps the head for stdout, the tail for stderr. */
static bool drain(int fd, GString *into, size_t keep, bool tail)
{
    char buf[65536];
    ssize_t n = read(fd, buf, sizeof buf);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (n == 0)
        return false;
    if (tail || into->len < keep)
        g_string_append_len(into, buf, n);
    if (tail && into->len > keep)
        g_string_erase(into, 0, (gssize)(into->len - keep));
    return true;
}

static void enter_own_group(gpointer data)
{
    setpgid(0, 0);
    (void)data;
}

/* The input as a file: a program that does not read it blocks nobody and raises no SIGPIPE here. */
static int input_file(const char *input, GError **error)
{
    at_autofd fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0) {
        at_error_errno(error, errno, "memfd");
        return -1;
    }
    if (!at_write_all(fd, input, strlen(input), error))
        return -1;
    if (lseek(fd, 0, SEEK_SET) != 0) {
        at_error_errno(error, errno, "rewind the input");
        return -1;
    }
    return at_steal_fd(&fd);
}

/* Waits for the pid and gives its wait status; kills its group when the deadline passes. */
static bool pump(pid_t pid, int out, int err, int64_t deadline, GCancellable *cancellable,
                 GString *o, GString *e, int *ret_status, GError **error)
{
    GPollFD cancel = {.fd = -1};
    bool watch_cancel = cancellable && g_cancellable_make_pollfd(cancellable, &cancel);
    int stopped = -1;
    at_autofd pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    bool exited = false;
    while (!exited || out >= 0 || err >= 0) {
        struct pollfd p[4] = {{.fd = out, .events = POLLIN},
                              {.fd = err, .events = POLLIN},
                              {.fd = cancel.fd, .events = POLLIN},
                              {.fd = exited ? -1 : pidfd, .events = POLLIN}};
        int left = at_deadline_left_ms(deadline);
        /* After the exit what is in the pipes is read; a grandchild that holds them is not waited
         * for, however much it says. */
        int n = poll(p, 4, exited ? MIN(left, 200) : left);
        if (n < 0 && errno == EINTR)
            continue;
        if (exited && (n <= 0 || left == 0))
            break;
        if (n <= 0) {
            stopped = AT_ERROR_TIMEOUT;
            break;
        }
        if (p[2].revents) {
            stopped = AT_ERROR_CANCELLED;
            break;
        }
        if (p[0].revents && !drain(out, o, OUTPUT_MAX, false)) {
            close(out);
            out = -1;
        }
        if (p[1].revents && !drain(err, e, STDERR_KEPT, true)) {
            close(err);
            err = -1;
        }
        if (p[3].revents)
            exited = true;
    }
    if (stopped >= 0)
        kill(-pid, SIGKILL);
    while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    at_close_fd(&out);
    at_close_fd(&err);
    if (watch_cancel)
        g_cancellable_release_fd(cancellable);
    if (stopped == AT_ERROR_TIMEOUT)
        return at_error(error, AT_ERROR_TIMEOUT, "did not finish in time and was killed");
    if (stopped == AT_ERROR_CANCELLED)
        return at_error(error, AT_ERROR_CANCELLED, "cancelled");
    return true;
}

bool at_run(const char *const *argv, const char *input, int timeout_ms, GCancellable *cancellable,
            char **ret_out, GError **error)
{
    g_autofree char *program = at_find_program(argv[0], NULL, error);
    if (!program)
        return false;
    g_autoptr(GPtrArray) args = g_ptr_array_new();
    g_ptr_array_add(args, program);
    for (int i = 1; argv[i]; i++)
        g_ptr_array_add(args, (char *)argv[i]);
    g_ptr_array_add(args, NULL);
    g_auto(GStrv) env = g_get_environ();
    env = g_environ_setenv(env, "LC_ALL", "C.UTF-8", TRUE);
    env = g_environ_setenv(env, "PATH", search_path, TRUE);
    at_autofd in = -1;
    if (input && (in = input_file(input, error)) < 0)
        return false;
    GPid pid;
    int out, err, status = 0;
    g_autoptr(GError) local = NULL;
    if (!g_spawn_async_with_pipes_and_fds(
            NULL, (const char *const *)args->pdata, (const char *const *)env,
            G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_CLOEXEC_PIPES, enter_own_group, NULL, in, -1, -1,
            NULL, NULL, 0, &pid, NULL, &out, &err, &local))
        return at_error(error, AT_ERROR_UNAVAILABLE, "%s", local->message);
    g_autoptr(GString) o = g_string_new(NULL);
    g_autoptr(GString) e = g_string_new(NULL);
    if (!pump(pid, out, err, at_deadline_ms(timeout_ms), cancellable, o, e, &status, error)) {
        g_prefix_error(error, "%s: ", argv[0]);
        return false;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        g_strchomp(e->str);
        if (WIFEXITED(status))
            return at_error(error, AT_ERROR_IO, "%s failed (exit %d)%s%s", argv[0],
                            WEXITSTATUS(status), *e->str ? ": " : "", e->str);
        return at_error(error, AT_ERROR_IO, "%s was killed by signal %d%s%s", argv[0],
                        WTERMSIG(status), *e->str ? ": " : "", e->str);
    }
    if (ret_out)
        *ret_out = g_string_free(g_steal_pointer(&o), FALSE);
    return true;
}
