/* SPDX-License-Identifier: Apache-2.0 */
/* Processes: deadlines reach grandchildren, outputs are bounded, long-lived ones survive us, drop
 * their rights and descriptors, and are not mistaken for another with the same number. */
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/process.h"
#include "lib/at-test.h"

#define SHELL(script) ((const char *const[]){"sh", "-c", script, NULL})

static char *text_of(const char *path)
{
    char *text = NULL;
    g_file_get_contents(path, &text, NULL, NULL);
    return text;
}

static bool has_text(const char *path)
{
    g_autofree char *text = text_of(path);
    return text && strchr(text, '\n');
}

static void output_and_input_pass_through(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL, *big = g_strnfill(300000, 'x');
    g_assert_true(
        at_test_ok(at_run(SHELL("cat; echo err >&2"), big, 20000, NULL, &out, &error), &error));
    g_assert_cmpuint(strlen(out), ==, 300000);
    g_clear_pointer(&out, g_free);
    g_assert_true(at_test_ok(at_run(SHELL("cat"), NULL, 20000, NULL, &out, &error), &error));
    g_assert_cmpstr(out, ==, "");
}

static void input_that_nobody_reads_kills_nobody(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *big = g_strnfill(300000, 'x');
    g_assert_true(
        at_test_ok(at_run(SHELL("exec <&-; exit 0"), big, 20000, NULL, NULL, &error), &error));
}

static void a_failure_quotes_the_last_of_standard_error(void)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(at_run(SHELL("i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done;"
                                "exit 7"),
                          NULL, 20000, NULL, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_IO);
    g_assert_true(g_str_has_prefix(error->message, "sh failed (exit 7): "));
    g_assert_true(g_str_has_suffix(error->message, "line 2999"));
    g_assert_cmpuint(strlen(error->message), <, 2100);
    g_clear_error(&error);
    g_assert_false(at_run(SHELL("kill -9 $$"), NULL, 20000, NULL, NULL, &error));
    g_assert_nonnull(strstr(error->message, "killed by signal 9"));
}

static void a_program_that_is_missing_is_named_with_its_package(void)
{
    g_autoptr(GError) error = NULL;
    const char *const argv[] = {"no-such-program", NULL};
    g_assert_false(at_run(argv, NULL, 20000, NULL, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    g_clear_error(&error);
    g_assert_null(at_find_program("no-such-program", "some-package", &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    g_assert_cmpstr(error->message, ==,
                    "no-such-program is not installed (apt-get install some-package)");
    g_assert_null(at_find_program("/nowhere/sh", NULL, NULL));
    g_assert_null(at_find_program("bin/../sh", NULL, NULL));
    g_autofree char *sh = at_find_program("sh", NULL, NULL);
    g_assert_true(g_path_is_absolute(sh));
}

static void the_deadline_kills_the_whole_group(void)
{
    g_autoptr(GError) error = NULL;
    const char *dir = at_test_dir(), *pid_path = at_test_path(dir, "pid");
    g_autofree char *script = g_strdup_printf("sleep 1000 & echo $! >%s; wait", pid_path);
    struct at_process grandchild;
    g_assert_false(at_run(SHELL(script), NULL, 1000, NULL, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
    g_autofree char *pid = text_of(pid_path);
    g_assert_nonnull(pid);
    g_assert_true(at_test_until(!at_process_lookup(atoi(pid), &grandchild), 20000));
}

static void a_grandchild_that_keeps_the_output_is_not_waited_for(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    /* It goes on writing to the pipe, and ends by itself once nobody reads. */
    g_assert_true(at_test_ok(
        at_run(SHELL("(while echo more; do :; done) & echo done"), NULL, 2000, NULL, &out, &error),
        &error));
    g_assert_true(g_str_has_prefix(out, "done") || g_str_has_prefix(out, "more"));
}

static void the_output_is_bounded(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    g_assert_true(at_test_ok(
        at_run(SHELL("head -c 40000000 /dev/zero | tr '\\0' x"), NULL, 60000, NULL, &out, &error),
        &error));
    g_assert_cmpuint(strlen(out), <=, (16 << 20) + 65536);
    g_assert_cmpuint(strlen(out), >=, 16 << 20);
}

static gpointer cancel_soon(gpointer data)
{
    g_usleep(100000);
    g_cancellable_cancel(data);
    return NULL;
}

static void a_run_can_be_cancelled(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    GThread *thread = g_thread_new("cancel", cancel_soon, cancel);
    g_assert_false(at_run(SHELL("sleep 1000"), NULL, 60000, cancel, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CANCELLED);
    g_thread_join(thread);
}

/* Spawns a shell and waits until its log holds a line. */
static struct at_process spawn_script(const char *script, const char *log, struct at_spawn spawn)
{
    g_autoptr(GError) error = NULL;
    struct at_process process;
    g_autofree char *sh = at_find_program("sh", NULL, NULL);
    const char *const argv[] = {sh, "-c", script, NULL};
    spawn.argv = argv;
    spawn.log_path = log;
    g_assert_true(at_test_ok(at_spawn(&spawn, &process, &error), &error));
    g_assert_true(at_test_until(has_text(log), 20000));
    return process;
}

static void kill_now(const struct at_process *process)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_process_kill(process, SIGKILL, &error), &error));
    g_assert_true(at_test_ok(at_process_wait(process, 20000, &error), &error));
    g_assert_false(at_process_alive(process));
}

static void spawn_and_leave(void *data)
{
    const char *dir = data;
    g_autofree char *sh = at_find_program("sh", NULL, NULL);
    const char *const argv[] = {sh, "-c", "exec sleep 1000", NULL};
    struct at_spawn spawn = {.argv = argv};
    struct at_process process;
    g_autofree char *path = g_build_filename(dir, "pid", NULL);
    if (!at_spawn(&spawn, &process, NULL) || !at_pidfile_write(path, &process, NULL))
        _exit(1);
    raise(SIGKILL);
}

static void a_spawned_process_survives_us_and_is_found_by_its_file(void)
{
    g_autoptr(GError) error = NULL;
    const char *dir = at_test_dir();
    int status = at_test_in_child(spawn_and_leave, (void *)dir, 20000);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    struct at_process process;
    g_assert_true(at_test_ok(at_pidfile_read(at_test_path(dir, "pid"), &process, &error), &error));
    g_assert_true(at_process_alive(&process));
    g_assert_cmpint(getsid(process.pid), ==, process.pid);
    g_assert_true(at_test_ok(at_process_stop(&process, 20000, &error), &error));
    g_assert_false(at_process_alive(&process));
}

static void spawn_orphan_and_leave(void *data)
{
    const char *const argv[] = {data, "--pdeathsig", "TERM", "sleep", "1000", NULL};
    struct at_spawn spawn = {.argv = argv, .orphan = true};
    struct at_process process;
    if (!at_spawn(&spawn, &process, NULL) || !at_pidfile_write("pid", &process, NULL))
        _exit(1);
    raise(SIGKILL);
}

static void an_orphan_does_not_even_die_with_us_when_it_wants_to(void)
{
    if (!at_test_needs_program("setpriv"))
        return;
    g_autoptr(GError) error = NULL;
    const char *dir = at_test_dir();
    g_autofree char *setpriv = at_find_program("setpriv", NULL, NULL);
    g_autofree char *before = g_get_current_dir();
    g_assert_cmpint(chdir(dir), ==, 0);
    int status = at_test_in_child(spawn_orphan_and_leave, setpriv, 20000);
    g_assert_cmpint(chdir(before), ==, 0);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    struct at_process process;
    g_assert_true(at_test_ok(at_pidfile_read(at_test_path(dir, "pid"), &process, &error), &error));
    g_usleep(100000); /* long enough for a signal that must not come */
    g_assert_true(at_process_alive(&process));
    g_assert_true(at_test_ok(at_process_stop(&process, 20000, &error), &error));
}

static void a_spawned_process_has_little_of_ours(void)
{
    const char *log = at_test_path(at_test_dir(), "log");
    at_autofd kept = open("/dev/null", O_RDONLY | O_CLOEXEC);
    at_autofd other = open("/dev/null", O_RDONLY); /* not even marked close-on-exec */
    g_assert_true(kept > 2 && other > 2);
    g_setenv("ATOLL_SECRET", "x", TRUE);
    signal(SIGUSR2, SIG_IGN);
    const unsigned long ignored[16] = {(unsigned long)SIG_IGN}; /* as some runners leave it */
    g_assert_cmpint(syscall(SYS_rt_sigaction, 32, ignored, NULL, 8), ==, 0);
    struct at_process p = spawn_script(
        "env | grep -c -v -e ^PATH= -e ^LANG= -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD=; ls "
        "/proc/$$/fd | tr '\\n' ' ';"
        "echo; pwd; umask; sed -n 's/SigBlk:.//p;s/SigIgn:.//p;s/NoNewPrivs:.//p' "
        "/proc/self/status;"
        "cat /proc/$$/oom_score_adj; ulimit -l; echo end; exec sleep 1000",
        log, (struct at_spawn){.fds = &kept, .n_fds = 1, .memlock = 1 << 20});
    g_unsetenv("ATOLL_SECRET");
    g_autofree char *text = NULL;
    g_assert_true(
        at_test_until((g_free(text), text = text_of(log), text && strstr(text, "end\n")), 20000));
    g_auto(GStrv) line = g_strsplit(text, "\n", -1);
    g_autofree char *fds = g_strdup_printf("0 1 2 %d ", kept);
    g_assert_cmpstr(line[0], ==, "0"); /* no variable but PATH, LANG and the shell's own */
    /* The shell may hold a descriptor of its own for a moment; ours must not be among them. */
    g_autofree char *leaked = g_strdup_printf(" %d ", other);
    g_assert_true(g_str_has_prefix(line[1], fds));
    g_assert_null(strstr(line[1], leaked));
    g_assert_cmpstr(line[2], ==, "/");
    g_assert_cmpstr(line[3], ==, "0077");
    g_assert_cmpstr(line[4], ==, "0000000000000000");
    g_assert_cmpstr(line[5], ==, "0000000000000000");
    g_assert_cmpstr(line[6], ==, "1");
    g_assert_cmpstr(line[7], ==, "0");
    g_assert_cmpstr(line[8], ==, "1024");
    kill_now(&p);
}

static void a_spawned_process_drops_to_its_user(void)
{
    if (!at_test_needs_root())
        return;
    const char *log = at_test_path(at_test_dir(), "log");
    struct at_process p =
        spawn_script("sed -n 's/^[UG]id:.//p;s/^Groups:.//p;s/^CapEff:.//p' /proc/$$/status; echo "
                     "end; exec sleep 1000",
                     log, (struct at_spawn){.uid = 0x70001234, .gid = 0x70000001});
    g_autofree char *text = NULL;
    g_assert_true(
        at_test_until((g_free(text), text = text_of(log), text && strstr(text, "end\n")), 20000));
    g_assert_cmpstr(text, ==,
                    "1879052852\t1879052852\t1879052852\t1879052852\n"
                    "1879048193\t1879048193\t1879048193\t1879048193\n"
                    " \n0000000000000000\nend\n");
    kill_now(&p);
}

static void a_spawn_that_cannot_start_says_why(void)
{
    g_autoptr(GError) error = NULL;
    struct at_process process = {.pid = 77};
    const char *const missing[] = {"/nowhere/program", NULL}, *const plain[] = {"/etc/passwd",
                                                                                NULL};
    g_assert_false(at_spawn(&(struct at_spawn){.argv = missing}, &process, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    g_assert_cmpstr(error->message, ==, "/nowhere/program is not installed");
    g_clear_error(&error);
    g_assert_false(at_spawn(&(struct at_spawn){.argv = plain}, &process, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_DENIED);
    g_clear_error(&error);
    const char *const good[] = {"/bin/true", NULL};
    g_assert_false(at_spawn(&(struct at_spawn){.argv = good, .netns = "/run/netns/no-such"},
                            &process, &error));
    g_assert_nonnull(strstr(error->message, "/run/netns/no-such"));
    g_clear_error(&error);
    g_assert_false(
        at_spawn(&(struct at_spawn){.argv = good, .cgroup = "/no-such\0"}, &process, &error));
    g_assert_nonnull(strstr(error->message, "/no-such/cgroup.procs"));
    g_clear_error(&error);
    g_assert_false(at_spawn(&(struct at_spawn){.argv = good, .cwd = "/no-such"}, &process, &error));
    g_assert_cmpint(process.pid, ==, 77);
}

static void a_process_is_known_by_pid_and_start_time(void)
{
    g_autoptr(GError) error = NULL;
    const char *dir = at_test_dir(), *path = at_test_path(dir, "pid");
    const char *const argv[] = {"sleep", "1000", NULL};
    struct at_process process, reused, read;
    g_assert_true(at_process_lookup(at_test_spawn(argv, NULL), &process));
    reused = (struct at_process){.pid = process.pid, .start = process.start - 1};
    g_assert_true(at_process_alive(&process));
    g_assert_false(at_process_alive(&reused));
    g_assert_cmpint(at_process_pidfd(&reused), ==, -1);
    g_assert_true(at_process_kill(&reused, SIGKILL, &error)); /* already dead: not this one */
    g_assert_true(at_process_alive(&process));
    g_assert_true(at_process_wait(&reused, 0, &error));
    g_assert_false(at_process_wait(&process, 10, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
    g_clear_error(&error);
    g_assert_true(at_test_ok(at_pidfile_write(path, &process, &error), &error));
    g_assert_true(at_test_ok(at_pidfile_read(path, &read, &error), &error));
    g_assert_cmpint(read.pid, ==, process.pid);
    g_assert_cmpuint(read.start, ==, process.start);
}

static void a_name_with_parentheses_does_not_confuse(void)
{
    const char *dir = at_test_dir(), *odd = at_test_path(dir, "a) R 1 (b");
    g_autofree char *sleep = at_find_program("sleep", NULL, NULL);
    g_autofree char *real = realpath(sleep, NULL);
    g_assert_cmpint(symlink(real, odd), ==, 0);
    const char *const plain[] = {"sleep", "1000", NULL}, *const argv[] = {odd, "1000", NULL};
    struct at_process a, b;
    g_assert_true(at_process_lookup(at_test_spawn(plain, NULL), &a));
    g_assert_true(at_process_lookup(at_test_spawn(argv, NULL), &b));
    g_assert_true(at_process_alive(&b));
    g_assert_cmpuint(b.start, >=, a.start);
    g_assert_cmpuint(b.start - a.start, <, 100 * 60);
}

static void a_pid_file_that_is_none_is_refused(void)
{
    g_autoptr(GError) error = NULL;
    static const char *const texts[] = {"", "x", "12", "1 5\n", "-5 5\n", "0 0\n"};
    const char *dir = at_test_dir();
    struct at_process process;
    g_assert_false(at_pidfile_read(at_test_path(dir, "missing"), &process, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_clear_error(&error);
        g_assert_false(at_pidfile_read(at_test_file(dir, "p", texts[i]), &process, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    }
}

static void stopping_kills_what_ignores_sigterm(void)
{
    g_autoptr(GError) error = NULL;
    const char *log = at_test_path(at_test_dir(), "log");
    struct at_process p = spawn_script("trap '' TERM; echo ready; while :; do sleep 1; done", log,
                                       (struct at_spawn){0});
    g_assert_true(at_test_ok(at_process_stop(&p, 50, &error), &error));
    g_assert_false(at_process_alive(&p));
    g_assert_true(at_test_ok(at_process_stop(&p, 50, &error), &error)); /* again: no harm */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/run/output-and-input-pass-through", output_and_input_pass_through);
    g_test_add_func("/base/run/input-that-nobody-reads-kills-nobody",
                    input_that_nobody_reads_kills_nobody);
    g_test_add_func("/base/run/a-failure-quotes-the-last-of-standard-error",
                    a_failure_quotes_the_last_of_standard_error);
    g_test_add_func("/base/run/a-missing-program-is-named-with-its-package",
                    a_program_that_is_missing_is_named_with_its_package);
    g_test_add_func("/base/run/the-deadline-kills-the-whole-group",
                    the_deadline_kills_the_whole_group);
    g_test_add_func("/base/run/a-grandchild-that-keeps-the-output-is-not-waited-for",
                    a_grandchild_that_keeps_the_output_is_not_waited_for);
    g_test_add_func("/base/run/the-output-is-bounded", the_output_is_bounded);
    g_test_add_func("/base/run/can-be-cancelled", a_run_can_be_cancelled);
    g_test_add_func("/base/spawn/survives-us-and-is-found-by-its-pid-file",
                    a_spawned_process_survives_us_and_is_found_by_its_file);
    g_test_add_func("/base/spawn/an-orphan-does-not-even-die-with-us-when-it-wants-to",
                    an_orphan_does_not_even_die_with_us_when_it_wants_to);
    g_test_add_func("/base/spawn/gets-little-of-ours", a_spawned_process_has_little_of_ours);
    g_test_add_func("/base/spawn/drops-to-its-user", a_spawned_process_drops_to_its_user);
    g_test_add_func("/base/spawn/says-why-it-cannot-start", a_spawn_that_cannot_start_says_why);
    g_test_add_func("/base/process/is-known-by-pid-and-start-time",
                    a_process_is_known_by_pid_and_start_time);
    g_test_add_func("/base/process/a-name-with-parentheses-does-not-confuse",
                    a_name_with_parentheses_does_not_confuse);
    g_test_add_func("/base/process/refuses-a-pid-file-that-is-none",
                    a_pid_file_that_is_none_is_refused);
    g_test_add_func("/base/process/stopping-kills-what-ignores-sigterm",
                    stopping_kills_what_ignores_sigterm);
    return g_test_run();
}
