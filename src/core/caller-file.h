/* SPDX-License-Identifier: Apache-2.0 */
/* Files that a caller names are opened with the caller's own rights, not with the daemon's. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* Between these two the calling thread, and only it, meets the file system as @uid with that
 * user's primary group @gid and supplementary groups. Any thread but the main one; not nested.
 * False with DENIED or IO when the rights cannot be taken; then nothing has changed. */
struct at_caller {
    uid_t uid;
    gid_t gid;
    bool active;
};
bool at_caller_enter(struct at_caller *caller, GError **error);
void at_caller_leave(struct at_caller *caller);

/* open() as the caller, O_CLOEXEC added; -1 with NOT_FOUND, DENIED, ... naming @path. */
int at_caller_open(uid_t uid, gid_t gid, const char *path, int flags, GError **error);
