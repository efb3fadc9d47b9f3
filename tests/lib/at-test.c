/* SPDX-License-Identifier: Apache-2.0 */
/* Helpers of the tests: directories, deadlines, processes, reasons to skip. */
#include "lib/at-test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/process.h"

static void remove_dir(void *data)
{
    g_autofree char *dir = data;
    g_autoptr(GError) error = NULL;
    if (!at_remove_tree(dir, &error))
        g_printerr("# left behind: %s: %s\n", dir, error->message);
}

const char *at_test_dir(void)
{
    char *dir = g_build_filename(g_get_tmp_dir(), "at-XXXXXX", NULL);
    if (!g_mkdtemp_full(dir, 0755))
        g_error("no temporary directory %s: %s", dir, g_strerror(errno));
    chmod(dir, 0755); /* whatever the umask is: guests' users look inside */
    g_test_queue_destroy(remove_dir, dir);
    return dir;
}

const char *at_test_path(const char *dir, const char *name)
{
    char *path = g_build_filename(dir, name, NULL);
    g_test_queue_free(path);
    return path;
}

const char *at_test_file_bytes(const char *dir, const char *name, const void *data, size_t len)
{
    const char *path = at_test_path(dir, name);
    g_autoptr(GError) error = NULL;
    g_file_set_contents(path, data, (gssize)len, &error);
    g_assert_no_error(error);
    return path;
}

const char *at_test_file(const char *dir, const char *name, const char *text)
{
    return at_test_file_bytes(dir, name, text, strlen(text));
}

void at_test_pause(void)
{
    if (!g_main_context_iteration(NULL, FALSE))
        g_usleep(5000);
}

static void reap(pid_t pid, int *ret_status)
{
    while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        ;
}

static GHashTable *children; /* pids that at_test_spawn() still owes an end; main thread only */

static void end_child(void *data)
{
    pid_t pid = GPOINTER_TO_INT(data);
    if (g_hash_table_remove(children, data)) {
        kill(pid, SIGKILL);
        reap(pid, NULL);
    }
}

static char **with_program(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    char **copy = g_strdupv((char **)argv);
    char *program = at_find_program(argv[0], NULL, &error);
    g_assert_no_error(error);
    g_free(copy[0]);
    copy[0] = program;
    return copy;
}

static pid_t start(const char *const *argv, int out_fd)
{
    g_auto(GStrv) args = with_program(argv);
    pid_t parent = getpid();
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid > 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    int null_fd = open("/dev/null", O_RDWR);
    dup2(null_fd, 0);
    dup2(out_fd, 1);
    dup2(out_fd, 2);
    syscall(SYS_close_range, 3u, ~0u, 0);
    execv(args[0], args);
    _exit(127);
}

pid_t at_test_spawn(const char *const *argv, const char *log_path)
{
    at_autofd log = log_path ? open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    g_assert_true(!log_path || log >= 0);
    pid_t pid = start(argv, log >= 0 ? log : STDERR_FILENO);
    if (!children)
        children = g_hash_table_new(NULL, NULL);
    g_hash_table_add(children, GINT_TO_POINTER(pid));
    g_test_queue_destroy(end_child, GINT_TO_POINTER(pid));
    return pid;
}

int at_test_kill(pid_t pid, int signo)
{
    int status = 0;
    g_assert_true(g_hash_table_remove(children, GINT_TO_POINTER(pid)));
    kill(pid, signo);
    reap(pid, &status);
    return status;
}

/* Waits for our child @pid; kills it when the time is over. False then. */
static bool reap_in_time(pid_t pid, gint64 deadline_us, int *ret_status)
{
    at_autofd pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    gint64 left;
    bool ended = false;
    while (!ended && (left = deadline_us - g_get_monotonic_time()) > 0)
        ended = poll(&p, 1, (int)(left / 1000 + 1)) > 0;
    if (!ended)
        kill(pid, SIGKILL);
    reap(pid, ret_status);
    return ended;
}

int at_test_run(const char *const *argv, int timeout_ms, char **ret_output)
{
    at_autofd out = memfd_create("output", MFD_CLOEXEC);
    int status = 0;
    pid_t pid = start(argv, out);
    bool ended = reap_in_time(pid, g_get_monotonic_time() + (gint64)timeout_ms * 1000, &status);
    if (ret_output) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", out);
        g_file_get_contents(path, ret_output, NULL, NULL);
    }
    if (!ended)
        return 124;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int at_test_in_child(void (*body)(void *data), void *data, int timeout_ms)
{
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(STDERR_FILENO, STDOUT_FILENO); /* the plan on standard output is the parent's */
        body(data);
        _exit(0);
    }
    if (!reap_in_time(pid, g_get_monotonic_time() + (gint64)timeout_ms * 1000, &status))
        g_error("the child did not end within %d ms", timeout_ms);
    return status;
}

bool at_test_needs_program(const char *program)
{
    g_autofree char *path = at_find_program(program, NULL, NULL);
    if (path)
        return true;
    g_autofree char *reason = g_strdup_printf("%s is not installed", program);
    g_test_skip(reason);
    return false;
}

bool at_test_needs_root(void)
{
    if (geteuid() == 0)
        return true;
    g_test_skip("needs root");
    return false;
}

void at_test_skip_all(const char *reason)
{
    printf("1..0 # SKIP %s\n", reason);
    fflush(NULL);
    exit(0);
}
