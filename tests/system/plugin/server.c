/* SPDX-License-Identifier: Apache-2.0 */
/* Starting nbdkit with the atoll plugin for a test, and connecting to it. */
#include "server.h"

#include <sys/stat.h>
#include <unistd.h>

#include "lib/at-test.h"

gid_t server_group(void)
{
    return geteuid() == 0 ? SERVER_GROUP : (gid_t)-1;
}

char *server_uri(const struct server *server, const struct at_digest *root)
{
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(root, hex);
    return g_strdup_printf("nbd+unix:///%s?socket=%s", hex, server->socket);
}

struct nbd_handle *server_connect(const struct server *server, const char *uri)
{
    struct nbd_handle *nbd = nbd_create();
    g_assert_nonnull(nbd);
    nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION);
    if (nbd_connect_uri(nbd, uri) == 0)
        return nbd;
    nbd_close(nbd);
    return NULL;
}

/* The socket is there a little before anybody listens on it. A client that says goodbye leaves no
 * line in the log. */
static bool listens(const char *path)
{
    struct nbd_handle *nbd = nbd_create();
    g_assert_nonnull(nbd);
    bool ok = nbd_set_opt_mode(nbd, true) == 0 && nbd_connect_unix(nbd, path) == 0 &&
              nbd_opt_abort(nbd) == 0;
    nbd_close(nbd);
    return ok;
}

void server_start(struct server *server, const char *dir, const char *vault_dir)
{
    bool root = geteuid() == 0;
    const char *run = at_test_path(dir, "run");
    /* The plugin is in the build directory, which another user may not reach. */
    const char *plugin = at_test_path(run, "nbdkit-atoll-plugin.so");
    if (mkdir(run, 0755) == 0) {
        if (root)
            g_assert_cmpint(chown(run, 65533, SERVER_GROUP), ==, 0);
        const char *copy[] = {"cp", g_getenv("ATOLL_NBDKIT_PLUGIN"), plugin, NULL};
        g_assert_cmpint(at_test_run(copy, 10000, NULL), ==, 0);
    }
    server->socket = at_test_path(run, "s");
    server->damage = at_test_path(run, "damage");
    server->log = at_test_path(dir, "log");
    unlink(server->socket);
    unlink(server->damage);
    unlink(server->log);
    g_autofree char *vault = g_strconcat("vault=", vault_dir, NULL);
    g_autofree char *damage = g_strconcat("damage=", server->damage, NULL);
    g_autofree char *gid = g_strdup_printf("%u", SERVER_GROUP);
    const char *argv[] = {"setpriv",        "--reuid", "65533", "--regid", gid,
                          "--clear-groups", "nbdkit",  "-f",    "-U",      server->socket,
                          plugin,           vault,     damage,  NULL};
    server->pid = at_test_spawn(root ? argv : argv + 6, server->log);
    g_assert_true(at_test_until(listens(server->socket), 20000));
}

void server_stop(struct server *server)
{
    at_test_kill(server->pid, SIGTERM);
}
