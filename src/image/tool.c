/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a tool, hands its lines out while it works (progress), and ends its
 * whole process group when it is cancelled or late. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/plain.h"
#include "base/process.h"
#include "image/image-internal.h"

enum { OUT_MAX = 1 << 20, ERR_KEPT = 2000, LINE_MAX_BYTES = 4096 };

struct stream {
    int fd;
    GString *kept;
    GString *line;
    bool tail; /* the end is kept, not the beginning */
    bool lines;
};

/* Between fork and exec: async-signal-safe calls only. */
static void child_setup(gpointer data)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void feed(struct stream *s, const char *buf, size_t len, const struct at_tool *tool)
{
    for (size_t i = 0; s->lines && i < len; i++) {
        if (buf[i] != '\n' && buf[i] != '\r') {
            if (s->line->len < LINE_MAX_BYTES)
                g_string_append_c(s->line, buf[i]);
        } else if (s->line->len > 0) {
            tool->line(s->line->str, tool->user);
            g_string_truncate(s->line, 0);
        }
    }
    if (s->tail) {
        g_string_append_len(s->kept, buf, (gssize)len);
        if (s->kept->len > ERR_KEPT)
            g_string_erase(s->kept, 0, (gssize)(s->kept->len - ERR_KEPT));
    } else if (s->kept->len < OUT_MAX) {
        g_string_append_len(s->kept, buf, (gssize)MIN(len, OUT_MAX - s->kept->len));
    }
}

/* False at the end of the stream, which is then closed. */
static void drain(struct stream *s, const struct at_tool *tool)
{
    char buf[16384];
    ssize_t n = read(s->fd, buf, sizeof buf);
    if (n > 0) {
        feed(s, buf, (size_t)n, tool);
    } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
        close(s->fd);
        s->fd = -1;
    }
}

/* Waits for the end of @pid; -1, or the error code for which it was killed. */
static int pump(pid_t pid, struct stream *out, struct stream *err, const struct at_tool *tool,
                GCancellable *cancellable, int *ret_status)
{
    int64_t deadline = at_deadline_ms(tool->timeout_ms);
    int stopped = -1;
    bool exited = false;
    at_autofd pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    GPollFD cancel = {.fd = -1};
    bool watch = cancellable && g_cancellable_make_pollfd(cancellable, &cancel);
    while (!exited || out->fd >= 0 || err->fd >= 0) {
        struct pollfd p[4] = {{.fd = out->fd, .events = POLLIN},
                              {.fd = err->fd, .events = POLLIN},
                              {.fd = cancel.fd, .events = POLLIN},
                              {.fd = exited ? -1 : pidfd, .events = POLLIN}};
        /* After the exit only what is in the pipes is read: a grandchild may hold them open. */
        int n = poll(p, 4, exited ? 100 : at_deadline_left_ms(deadline));
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0 && exited)
            break;
        if (n <= 0) {
            stopped = AT_ERROR_TIMEOUT;
            break;
        }
        if (p[2].revents) {
            stopped = AT_ERROR_CANCELLED;
            break;
        }
        if (p[0].revents)
            drain(out, tool);
        if (p[1].revents)
            drain(err, tool);
        if (p[3].revents)
            exited = true;
    }
    kill(-pid, SIGKILL); /* also what it may have left behind in its group */
    while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    if (watch)
        g_cancellable_release_fd(cancellable);
    return stopped;
}

static bool judge(const struct at_tool *tool, int stopped, int status, const GString *err,
                  GError **error)
{
    const char *name = tool->argv[0];
    if (stopped == AT_ERROR_CANCELLED)
        return at_error(error, AT_ERROR_CANCELLED, "%s: cancelled", name);
    if (stopped == AT_ERROR_TIMEOUT)
        return at_error(error, AT_ERROR_TIMEOUT, "%s did not finish within %d s and was killed",
                        name, tool->timeout_ms / 1000);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    g_autofree char *text = g_strstrip(at_plain_text(err->str, true)); /* it quotes the file */
    bool full = strstr(text, "No space left on device") != NULL;
    if (WIFSIGNALED(status))
        return at_error(error, AT_ERROR_IO, "%s was killed by signal %d%s%s", name,
                        WTERMSIG(status), *text ? ": " : "", text);
    return at_error(error, full ? AT_ERROR_NO_SPACE : AT_ERROR_IO, "%s failed (exit %d)%s%s", name,
                    WEXITSTATUS(status), *text ? ": " : "", text);
}

/* Input is small (a list of package sources), so a memory file serves as standard input. */
static int input_fd(const char *input, GError **error)
{
    at_autofd fd = (int)syscall(SYS_memfd_create, "input", 1u);
    size_t len = input ? strlen(input) : 0;
    if (fd < 0 || write(fd, input ? input : "", len) != (ssize_t)len ||
        lseek(fd, 0, SEEK_SET) != 0) {
        at_error_errno(error, errno, "prepare standard input");
        return -1;
    }
    return at_steal_fd(&fd);
}

bool at_tool_run(const struct at_tool *tool, GCancellable *cancellable, char **ret_out,
                 GError **error)
{
    if (g_cancellable_is_cancelled(cancellable))
        return at_error(error, AT_ERROR_CANCELLED, "cancelled");
    g_autofree char *program = at_find_program(tool->argv[0], NULL, error);
    at_autofd in = program ? input_fd(tool->input, error) : -1;
    if (in < 0)
        return false;
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_ptr_array_add(argv, program);
    for (unsigned i = 1; tool->argv[i]; i++)
        g_ptr_array_add(argv, (char *)tool->argv[i]);
    g_ptr_array_add(argv, NULL);
    g_auto(GStrv) env = g_get_environ();
    env = g_environ_setenv(env, "LC_ALL", "C.UTF-8", TRUE);
    env = g_environ_setenv(env, "PATH",
                           "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", TRUE);
    for (unsigned i = 0; tool->env && tool->env[i]; i++) {
        g_auto(GStrv) pair = g_strsplit(tool->env[i], "=", 2);
        env = g_environ_setenv(env, pair[0], pair[1], TRUE);
    }
    GPid pid;
    int out_fd, err_fd, status = 0;
    int target = 3;
    g_autoptr(GError) local = NULL;
    if (!g_spawn_async_with_pipes_and_fds(
            NULL, (const char *const *)argv->pdata, (const char *const *)env,
            G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_CLOEXEC_PIPES, child_setup, NULL, in, -1, -1,
            tool->fd >= 0 ? &tool->fd : NULL, tool->fd >= 0 ? &target : NULL, tool->fd >= 0 ? 1 : 0,
            &pid, NULL, &out_fd, &err_fd, &local))
        return at_error(error, AT_ERROR_UNAVAILABLE, "start %s: %s", program, local->message);
    g_autoptr(GString) out_kept = g_string_new(NULL);
    g_autoptr(GString) err_kept = g_string_new(NULL);
    g_autoptr(GString) out_line = g_string_new(NULL);
    g_autoptr(GString) err_line = g_string_new(NULL);
    struct stream out = {out_fd, out_kept, out_line, false, tool->line != NULL};
    struct stream err = {err_fd, err_kept, err_line, true, tool->line && tool->both_outputs};
    int stopped = pump(pid, &out, &err, tool, cancellable, &status);
    at_close_fd(&out.fd);
    at_close_fd(&err.fd);
    if (!judge(tool, stopped, status, err_kept, error))
        return false;
    if (ret_out)
        *ret_out = g_string_free(g_steal_pointer(&out_kept), FALSE);
    return true;
}
