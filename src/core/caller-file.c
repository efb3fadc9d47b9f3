/* SPDX-License-Identifier: Apache-2.0 */
/* Files with the caller's rights: file system ids are set for one thread by the bare system calls,
 * because the C library would set the groups of all threads. */
#include "core/caller-file.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"

enum { GROUPS_MAX = 256, PASSWD_BUF = 16384 };

static bool set_groups(const gid_t *groups, int n, GError **error)
{
    if (syscall(SYS_setgroups, (size_t)n, groups) == 0)
        return true;
    return at_error_errno(error, errno, "take the caller's groups");
}

bool at_caller_enter(struct at_caller *caller, GError **error)
{
    gid_t groups[GROUPS_MAX] = {caller->gid};
    int n = 1;
    g_autofree char *buf = g_malloc(PASSWD_BUF);
    struct passwd entry, *found = NULL;
    if (caller->uid == 0)
        return true;
    if (getpwuid_r(caller->uid, &entry, buf, PASSWD_BUF, &found) == 0 && found) {
        n = GROUPS_MAX;
        if (getgrouplist(found->pw_name, caller->gid, groups, &n) < 0)
            n = GROUPS_MAX;
    }
    if (!set_groups(groups, n, error))
        return false;
    setfsgid(caller->gid);
    setfsuid(caller->uid);
    caller->active = true;
    /* These calls report nothing; asking with an impossible id tells what holds. */
    if ((uid_t)setfsuid((uid_t)-1) != caller->uid || (gid_t)setfsgid((gid_t)-1) != caller->gid) {
        at_caller_leave(caller);
        return at_error(error, AT_ERROR_DENIED, "cannot act with the rights of uid %u",
                        (unsigned)caller->uid);
    }
    return true;
}

void at_caller_leave(struct at_caller *caller)
{
    gid_t root = 0;
    if (!caller->active)
        return;
    setfsuid(geteuid());
    setfsgid(getegid());
    set_groups(&root, 1, NULL);
    caller->active = false;
}

int at_caller_open(uid_t uid, gid_t gid, const char *path, int flags, GError **error)
{
    struct at_caller caller = {uid, gid, false};
    if (!at_caller_enter(&caller, error))
        return -1;
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    int err = errno;
    at_caller_leave(&caller);
    if (fd < 0)
        at_error_errno(error, err, "open %s", path);
    return fd;
}
