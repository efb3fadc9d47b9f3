/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end of a unix socket, and whether they may call. */
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api-internal.h"

/* Newly allocated login name of @uid, or NULL. @ret_gid: primary group. */
static char *login_name(uid_t uid, gid_t *ret_gid)
{
    char buffer[16384];
    struct passwd entry, *found = NULL;
    if (getpwuid_r(uid, &entry, buffer, sizeof buffer, &found) != 0 || !found)
        return NULL;
    *ret_gid = entry.pw_gid;
    return g_strdup(entry.pw_name);
}

static bool group_id(const char *name, gid_t *ret_gid)
{
    g_autofree char *buffer = g_malloc(256 * 1024);
    struct group entry, *found = NULL;
    if (getgrnam_r(name, &entry, buffer, 256 * 1024, &found) != 0 || !found)
        return false;
    *ret_gid = entry.gr_gid;
    return true;
}

bool at_peer_is_member(uid_t uid, gid_t gid, const char *group)
{
    gid_t wanted, primary = gid;
    if (uid == 0 || uid == geteuid())
        return true;
    if (!group_id(group, &wanted))
        return false;
    if (gid == wanted)
        return true;
    g_autofree char *name = login_name(uid, &primary);
    if (!name)
        return false;
    int n = 64;
    g_autofree gid_t *groups = g_new(gid_t, n);
    if (getgrouplist(name, primary, groups, &n) < 0) {
        groups = g_renew(gid_t, groups, n);
        if (getgrouplist(name, primary, groups, &n) < 0)
            return false;
    }
    for (int i = 0; i < n; i++) {
        if (groups[i] == wanted)
            return true;
    }
    return false;
}

struct at_peer *at_peer_new(GSocket *socket)
{
    struct at_peer *peer = g_new0(struct at_peer, 1);
    struct ucred who = {.pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1};
    socklen_t len = sizeof who;
    bool known = getsockopt(g_socket_get_fd(socket), SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
                 who.pid > 0;
    gid_t primary;
    peer->uid = who.uid;
    peer->gid = who.gid;
    peer->pid = who.pid;
    peer->user = known ? login_name(who.uid, &primary) : g_strdup("unknown");
    if (!peer->user)
        peer->user = g_strdup_printf("uid %u", who.uid);
    peer->from = g_strdup_printf("unix socket, pid %d", (int)who.pid);
    peer->allowed = known && at_peer_is_member(who.uid, who.gid, AT_API_GROUP);
    return peer;
}

void at_peer_free(struct at_peer *peer)
{
    if (!peer)
        return;
    g_free(peer->user);
    g_free(peer->from);
    g_free(peer);
}
