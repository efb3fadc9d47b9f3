/* SPDX-License-Identifier: Apache-2.0 */
/* Confined helpers: whose rights they have, what they see, and how they end. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/confine.h"
#include "base/error.h"
#include "base/process.h"
#include "lib/at-test.h"

enum { SECOND_MS = 1000, SOMEBODY = 12345 };

/* What a shell in the place of the helper says; @mode and @owner are those of its file. */
static char *say(const char *script, mode_t mode, uid_t owner, GError **error)
{
    const char *dir = at_test_dir();
    const char *path = at_test_file(dir, "file", "content");
    g_assert_cmpint(chmod(path, mode), ==, 0);
    g_assert_cmpint(chown(path, owner, owner), ==, 0);
    g_assert_cmpint(chmod(dir, 0700), ==, 0); /* nobody could walk to it */
    at_autofd fd = open(path, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    struct at_confine confine = {.argv = argv, .file_fd = fd, .listen_fd = -1};
    char *out = NULL;
    at_confine_run(&confine, 30 * SECOND_MS, NULL, &out, NULL, error);
    return out;
}

static void expect(const char *script, mode_t mode, uid_t owner, const char *answer)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *out = say(script, mode, owner, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(out, ==, answer);
}

static void the_file_is_read_with_the_least_rights(void)
{
    if (!at_test_needs_root())
        return;
    static const char script[] = "/usr/bin/id -u; /bin/cat " AT_CONFINED_FILE;
    expect(script, 0644, 0, "65534\ncontent");
    expect(script, 0600, SOMEBODY, "12345\ncontent");
    expect(script, 0640, SOMEBODY, "12345\ncontent");
    expect(script, 0600, 0, "0\ncontent");
}

/* Also where it had to stay root: without capabilities, and with Landlock where there is one. */
static void nothing_else_is_seen(void)
{
    if (!at_test_needs_root())
        return;
    static const char shadow[] = "/bin/cat /etc/shadow >/dev/null 2>&1 && echo read || echo no";
    expect(shadow, 0644, 0, "no\n");
    expect(shadow, 0600, SOMEBODY, "no\n");
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1u) < 0)
        g_test_message("no Landlock here: %s", g_strerror(errno));
    else
        expect(shadow, 0600, 0, "no\n");
}

static void a_failure_quotes_its_first_line_as_plain_text(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *out =
        say("printf 'bad \\033[2J\\377\\nmore\\n' >&2; exit 3", 0644, getuid(), &error);
    g_assert_null(out);
    g_assert_error(error, AT_ERROR, AT_ERROR_IO);
    g_assert_cmpstr(error->message, ==, "bad  [2J\ufffd");
}

static gpointer cancel_soon(gpointer user)
{
    g_usleep(200 * 1000);
    g_cancellable_cancel(user);
    return NULL;
}

static void cancelling_and_deadlines_end_it(void)
{
    const char *argv[] = {"/bin/sleep", "60", NULL};
    at_autofd fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct at_confine confine = {.argv = argv, .file_fd = fd, .listen_fd = -1};
    g_autoptr(GCancellable) cancellable = g_cancellable_new();
    g_autoptr(GError) cancelled = NULL, late = NULL;
    g_autofree char *out = NULL;
    int64_t begin = g_get_monotonic_time();
    GThread *thread = g_thread_new("cancel", cancel_soon, cancellable);
    g_assert_false(at_confine_run(&confine, 60 * SECOND_MS, cancellable, &out, NULL, &cancelled));
    g_assert_error(cancelled, AT_ERROR, AT_ERROR_CANCELLED);
    g_thread_join(thread);
    g_assert_false(at_confine_run(&confine, 100, NULL, &out, NULL, &late));
    g_assert_error(late, AT_ERROR, AT_ERROR_TIMEOUT);
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 20 * G_USEC_PER_SEC);
}

static void processor_time_is_bounded(void)
{
    const char *argv[] = {"/bin/sh", "-c", "while :; do :; done", NULL};
    at_autofd fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct at_confine confine = {.argv = argv, .file_fd = fd, .listen_fd = -1, .limit_cpu_s = 1};
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    int exit_code = 0;
    g_assert_false(at_confine_run(&confine, 60 * SECOND_MS, NULL, &out, &exit_code, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_IO);
    g_assert_cmpint(exit_code, ==, -1);
    g_assert_nonnull(strstr(error->message, "signal"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/confine/the-file-is-read-with-the-least-rights",
                    the_file_is_read_with_the_least_rights);
    g_test_add_func("/base/confine/nothing-else-is-seen", nothing_else_is_seen);
    g_test_add_func("/base/confine/a-failure-quotes-its-first-line-as-plain-text",
                    a_failure_quotes_its_first_line_as_plain_text);
    g_test_add_func("/base/confine/cancelling-and-deadlines-end-it",
                    cancelling_and_deadlines_end_it);
    g_test_add_func("/base/confine/processor-time-is-bounded", processor_time_is_bounded);
    return g_test_run();
}
