/* SPDX-License-Identifier: Apache-2.0 */
/* The socket file and who may use it. */
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/api-internal.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "client.h"
#include "double.h"
#include "lib/at-test.h"

static void leave_stale_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    at_autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
}

static void assert_refused(const char *path, int code, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(at_api_new(NULL, path, &error));
    g_assert_error(error, AT_ERROR, code);
    g_assert_nonnull(strstr(error->message, words));
    g_assert_nonnull(strstr(error->message, path));
}

static void the_socket_of_a_dead_daemon_is_replaced(void)
{
    const char *dir = at_test_dir();
    leave_stale_socket(at_test_path(dir, "api.sock"));
    const char *path = double_start(dir);
    g_autoptr(client_answer) a = client_request(path, "GET", "/v1/site", NULL);
    g_assert_cmpuint(a->status, ==, 200);
    double_stop();
}

static void the_socket_of_a_live_daemon_is_left_alone(void)
{
    const char *path = double_start(at_test_dir());
    assert_refused(path, AT_ERROR_CONFLICT, "another daemon listens");
    g_autoptr(GError) error = NULL;
    g_assert_false(at_api_check_socket(path, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_autoptr(client_answer) a = client_request(path, "GET", "/v1/site", NULL);
    g_assert_cmpuint(a->status, ==, 200);
    double_stop();
}

static void other_files_are_never_replaced(void)
{
    const char *dir = at_test_dir();
    const char *file = at_test_file(dir, "precious", "text");
    assert_refused(file, AT_ERROR_CONFLICT, "not a socket");
    assert_refused(dir, AT_ERROR_CONFLICT, "not a socket");
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(file, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "text");
}

static void a_path_that_is_too_long_is_refused(void)
{
    g_autofree char *name = g_strnfill(120, 'n');
    assert_refused(at_test_path(at_test_dir(), name), AT_ERROR_INVALID, "too long");
}

static void the_file_goes_with_the_api_unless_it_is_anothers(void)
{
    const char *path = at_test_path(at_test_dir(), "a.sock");
    g_autoptr(GError) error = NULL;
    struct at_api *first = at_api_new(NULL, path, &error);
    g_assert_no_error(error);
    struct stat st;
    g_assert_cmpint(stat(path, &st), ==, 0);
    at_api_free(first);
    g_assert_cmpint(stat(path, &st), ==, -1);

    first = at_api_new(NULL, path, &error);
    g_assert_cmpint(unlink(path), ==, 0);
    leave_stale_socket(path);
    at_api_free(first);
    g_assert_cmpint(stat(path, &st), ==, 0);
}

static void the_file_is_only_for_those_who_may_call(void)
{
    const char *path = at_test_path(at_test_dir(), "a.sock");
    struct group *group = getgrnam(AT_API_GROUP);
    struct at_api *api = at_api_new(NULL, path, NULL);
    struct stat st;
    g_assert_nonnull(api);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, group && geteuid() == 0 ? 0660 : 0600);
    if (group && geteuid() == 0)
        g_assert_cmpuint(st.st_gid, ==, group->gr_gid);
    at_api_free(api);
}

/* ---- peers ---- */

static void ask_as_nobody(void *path)
{
    struct passwd *nobody = getpwnam("nobody");
    if (setgroups(0, NULL) != 0 || setgid(nobody->pw_gid) != 0 || setuid(nobody->pw_uid) != 0)
        _exit(1);
    g_autoptr(client_answer) a = client_request(path, "GET", "/v1/site", NULL);
    g_autoptr(client_answer) b = client_request(path, "POST", "/v1/vault/gc", "{}");
    if (a->status != 403 || strcmp(answer_code(a), "denied") != 0 ||
        !strstr(answer_message(a), "nobody") || !strstr(answer_message(a), AT_API_GROUP) ||
        b->status != 403)
        _exit(2);
}

static void others_are_denied_even_when_they_reach_the_socket(void)
{
    if (!at_test_needs_root())
        return;
    const char *dir = at_test_dir();
    const char *path = double_start(dir);
    g_assert_cmpint(chmod(path, 0666), ==, 0);
    int status = at_test_in_child(ask_as_nobody, (void *)path, 20000);
    g_assert_cmpint(status, ==, 0);
    g_autofree char *call = double_last_call();
    g_assert_null(call);
    double_stop();
}

static void root_and_members_of_the_group_may_call(void)
{
    struct passwd *nobody = getpwnam("nobody");
    struct group *theirs = nobody ? getgrgid(nobody->pw_gid) : NULL;
    if (!theirs || geteuid() == nobody->pw_uid) {
        g_test_skip("there is no user nobody with a group");
        return;
    }
    g_assert_true(at_peer_is_member(0, 0, "no-such-group"));
    g_assert_true(at_peer_is_member(geteuid(), getegid(), "no-such-group"));
    g_assert_true(at_peer_is_member(nobody->pw_uid, nobody->pw_gid, theirs->gr_name));
    /* By the user's entry, whatever group the process has now. */
    g_assert_true(at_peer_is_member(nobody->pw_uid, 12345, theirs->gr_name));
    g_assert_false(at_peer_is_member(nobody->pw_uid, nobody->pw_gid, "root"));
    g_assert_false(at_peer_is_member(nobody->pw_uid, nobody->pw_gid, "no-such-group"));
    g_assert_false(at_peer_is_member(4000000, 4000000, theirs->gr_name));
    g_assert_true(at_peer_is_member(4000000, theirs->gr_gid, theirs->gr_name));
}

static void supplementary_groups_count(void)
{
    struct group entry, *g = NULL;
    g_autofree char *buffer = g_malloc(256 * 1024);
    while (getgrent_r(&entry, buffer, 256 * 1024, &g) == 0) {
        struct passwd *member = g->gr_mem[0] ? getpwnam(g->gr_mem[0]) : NULL;
        if (!member || member->pw_uid == geteuid() || member->pw_gid == g->gr_gid)
            continue;
        g_assert_true(at_peer_is_member(member->pw_uid, member->pw_gid, g->gr_name));
        endgrent();
        return;
    }
    endgrent();
    g_test_skip("no user of this host is in a second group");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/api/socket/that-of-a-dead-daemon-is-replaced",
                    the_socket_of_a_dead_daemon_is_replaced);
    g_test_add_func("/api/socket/that-of-a-live-daemon-is-left-alone",
                    the_socket_of_a_live_daemon_is_left_alone);
    g_test_add_func("/api/socket/other-files-are-never-replaced", other_files_are_never_replaced);
    g_test_add_func("/api/socket/a-path-that-is-too-long-is-refused",
                    a_path_that_is_too_long_is_refused);
    g_test_add_func("/api/socket/goes-with-the-api-unless-it-is-anothers",
                    the_file_goes_with_the_api_unless_it_is_anothers);
    g_test_add_func("/api/socket/is-only-for-those-who-may-call",
                    the_file_is_only_for_those_who_may_call);
    g_test_add_func("/api/peer/others-are-denied-even-when-they-reach-the-socket",
                    others_are_denied_even_when_they_reach_the_socket);
    g_test_add_func("/api/peer/root-and-members-of-the-group-may-call",
                    root_and_members_of_the_group_may_call);
    g_test_add_func("/api/peer/supplementary-groups-count", supplementary_groups_count);
    return g_test_run();
}
