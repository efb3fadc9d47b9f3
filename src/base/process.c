/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that are known by pid and start time. */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/process-internal.h"

bool at_process_stat(pid_t pid, char *ret_state, uint64_t *ret_start)
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
    if (pid <= 0 || !at_process_stat(pid, &state, &start) || state == 'Z' || state == 'X')
        return false;
    *ret_process = (struct at_process){.pid = pid, .start = start};
    return true;
}

bool at_process_alive(const struct at_process *process)
{
    char state;
    uint64_t start;
    if (process->pid <= 0 || !at_process_stat(process->pid, &state, &start) ||
        start != process->start)
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
