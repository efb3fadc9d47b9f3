/* SPDX-License-Identifier: Apache-2.0 */
/* Running programs and waiting for them. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/process.h"

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
