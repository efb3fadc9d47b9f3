/* SPDX-License-Identifier: Apache-2.0 */
/* Files that a caller names are opened with the caller's rights, and the daemon keeps its own. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "core/caller-file.h"
#include "lib/at-test.h"

enum { NOBODY = 65534 };

struct attempt {
    const char *path;
    uid_t uid;
    gid_t gid;
    int code;      /* of the error, -1: opened */
    bool own_left; /* the thread could open a file of root's afterwards */
};

static void *attempt(void *data)
{
    struct attempt *a = data;
    g_autoptr(GError) error = NULL;
    at_autofd fd = at_caller_open(a->uid, a->gid, a->path, O_RDONLY, &error);
    a->code = fd >= 0 ? -1 : at_error_classify(error);
    at_autofd own = open("/etc/shadow", O_RDONLY | O_CLOEXEC);
    a->own_left = own >= 0;
    return NULL;
}

/* In a thread of its own, as the steps of jobs run. */
static int open_as(const char *path, uid_t uid, gid_t gid)
{
    struct attempt a = {.path = path, .uid = uid, .gid = gid};
    g_thread_join(g_thread_new("caller", attempt, &a));
    g_assert_true(a.own_left);
    return a.code;
}

static const char *make(const char *dir, const char *name, uid_t uid, gid_t gid, mode_t mode)
{
    const char *path = at_test_file(dir, name, "x");
    g_assert_cmpint(chown(path, uid, gid), ==, 0);
    g_assert_cmpint(chmod(path, mode), ==, 0);
    return path;
}

static void test_rights(void)
{
    if (!at_test_needs_root())
        return;
    const char *dir = at_test_dir();
    const char *secret = make(dir, "secret", 0, 0, 0600);
    const char *own = make(dir, "own", NOBODY, 0, 0400);
    const char *shared = make(dir, "shared", 0, NOBODY, 0040);
    g_assert_cmpint(open_as(secret, 0, 0), ==, -1);
    g_assert_cmpint(open_as(secret, NOBODY, NOBODY), ==, AT_ERROR_DENIED);
    g_assert_cmpint(open_as(own, NOBODY, NOBODY), ==, -1);
    g_assert_cmpint(open_as(shared, NOBODY, NOBODY), ==, -1);
    g_assert_cmpint(open_as(shared, NOBODY, NOBODY - 1), ==, AT_ERROR_DENIED);
    g_assert_cmpint(open_as(at_test_path(dir, "missing"), NOBODY, NOBODY), ==, AT_ERROR_NOT_FOUND);
}

/* Root's own groups must not open what the caller's do not. */
static void test_groups(void)
{
    if (!at_test_needs_root())
        return;
    const char *path = make(at_test_dir(), "of-group-0", 1, 0, 0040);
    g_assert_cmpint(open_as(path, NOBODY, NOBODY), ==, AT_ERROR_DENIED);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/core/caller-file/opens-with-the-rights-of-the-caller-only", test_rights);
    g_test_add_func("/core/caller-file/leaves-the-daemon's-groups-out", test_groups);
    return g_test_run();
}
