/* SPDX-License-Identifier: Apache-2.0 */
/* The image server: one nbdkit with our plugin for the whole site. It outlives the daemon, is found
 * again by its pid file, and is started anew at once when it dies. */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "core/backoff.h"
#include "core/core-internal.h"

struct at_nbd {
    struct at_core *core;
    char *dir, *socket, *pidfile;
    struct at_process process;
    int pidfd;
    bool running; /* as far as we know */
    unsigned watch, retry;
    unsigned failures; /* in a row, for the pause before the next try */
};

enum { WATCH_MS = 1000, RETRY_FIRST_MS = 400, RETRY_MAX_MS = 10000 };

static void watch_process(struct at_nbd *nbd);
static gboolean nbd_ended(int fd, GIOCondition condition, void *user);
static bool launch(struct at_nbd *nbd, GError **error);

static bool connect_to(const char *path, int timeout_ms, GError **error)
{
    at_autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (fd < 0 || strlen(path) >= sizeof addr.sun_path)
        return at_error(error, AT_ERROR_INVALID, "socket path %s is too long", path);
    strcpy(addr.sun_path, path);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0)
        return at_error(error, AT_ERROR_UNAVAILABLE, "the image server does not listen on %s: %s",
                        path, g_strerror(errno));
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char greeting[8];
    if (poll(&p, 1, timeout_ms) != 1 || read(fd, greeting, sizeof greeting) != sizeof greeting ||
        memcmp(greeting, "NBDMAGIC", sizeof greeting) != 0)
        return at_error(error, AT_ERROR_UNAVAILABLE,
                        "the image server does not answer within %d ms", timeout_ms);
    return true;
}

bool at_nbd_check(struct at_core *core, GError **error)
{
    g_autofree char *socket_path = at_core_nbd_socket(core);
    return connect_to(socket_path, 2000, error);
}

static gboolean watch_again(void *user)
{
    struct at_nbd *nbd = user;
    nbd->retry = 0;
    watch_process(nbd);
    return G_SOURCE_REMOVE;
}

/* Without a descriptor to spare it is looked at again and again until there is one. */
static void watch_process(struct at_nbd *nbd)
{
    nbd->running = true;
    nbd->pidfd = at_process_pidfd(&nbd->process);
    if (nbd->pidfd >= 0)
        nbd->watch = g_unix_fd_add(nbd->pidfd, G_IO_IN, nbd_ended, nbd);
    else if (at_process_alive(&nbd->process))
        nbd->retry = g_timeout_add(WATCH_MS, watch_again, nbd);
    else
        nbd_ended(-1, 0, nbd);
}

static gboolean try_again(void *user)
{
    struct at_nbd *nbd = user;
    g_autoptr(GError) error = NULL;
    nbd->retry = 0;
    if (!launch(nbd, &error)) {
        at_core_log("image server: %s", error->message);
        nbd->retry = g_timeout_add(at_backoff_ms(RETRY_FIRST_MS, RETRY_MAX_MS, ++nbd->failures),
                                   try_again, nbd);
    } else {
        nbd->failures = 0;
        at_event_emit(nbd->core, "image-server.started", "nbdkit", "atolld", NULL);
    }
    return G_SOURCE_REMOVE;
}

static gboolean nbd_ended(int fd, GIOCondition condition, void *user)
{
    struct at_nbd *nbd = user;
    (void)fd;
    (void)condition;
    at_close_fd(&nbd->pidfd);
    nbd->watch = 0;
    nbd->running = false;
    at_process_alive(&nbd->process); /* reaps it */
    at_core_log("image server (pid %d) ended; starting it again", (int)nbd->process.pid);
    at_event_emit(nbd->core, "image-server.died", "nbdkit", "atolld", NULL);
    if (!nbd->retry)
        nbd->retry = g_timeout_add(0, try_again, nbd);
    return G_SOURCE_REMOVE;
}

/* The new server binds beside and is renamed into place, so that a client never meets a
 * half-made socket. */
static bool launch(struct at_nbd *nbd, GError **error)
{
    struct at_core *core = nbd->core;
    g_autofree char *program = at_find_program("nbdkit", "nbdkit", error);
    g_autofree char *fresh = g_strconcat(nbd->socket, ".new", NULL);
    g_autofree char *vault = g_strconcat("vault=", core->state_dir, "/vault", NULL);
    g_autofree char *damage = g_strconcat("damage=", nbd->dir, "/damage", NULL);
    g_autofree char *log = g_build_filename(nbd->dir, "nbdkit.log", NULL);
    if (!program || !at_fault_point("nbd.start", error))
        return false;
    unlink(fresh);
    /* By descriptor: the plugin may be in a home directory, which another user may not enter. */
    at_autofd file = open(core->plugin_path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return at_error_errno(error, errno, "open %s", core->plugin_path);
    g_autofree char *plugin = g_strdup_printf("/proc/self/fd/%d", file);
    const char *argv[] = {program, "--foreground", "--readonly", "--threads", "16", "--unix",
                          fresh,   plugin,         vault,        damage,      NULL};
    struct at_spawn spawn = {.argv = argv,
                             .fds = &file,
                             .n_fds = 1,
                             .uid = core->uid_base + AT_SLOT_NBD,
                             .gid = core->uid_base + AT_SLOT_NBD,
                             .log_path = log,
                             .orphan = true}; /* or it would die with us, and guests would wait */
    if (!at_spawn(&spawn, &nbd->process, error))
        return false;
    int64_t deadline = at_deadline_ms(10000);
    g_autoptr(GError) last = NULL;
    while (!connect_to(fresh, 1000, (g_clear_error(&last), &last))) {
        if (!at_process_alive(&nbd->process) || at_deadline_left_ms(deadline) == 0) {
            at_process_stop(&nbd->process, 500, NULL);
            g_autofree char *text = NULL;
            g_file_get_contents(log, &text, NULL, NULL);
            size_t len = text ? strlen(text) : 0;
            return at_error(error, AT_ERROR_UNAVAILABLE, "nbdkit does not start: %s",
                            len ? text + (len > 400 ? len - 400 : 0) : last->message);
        }
        g_usleep(5000);
    }
    /* Guests are in the site's group, which may connect to it and nothing more. */
    if (lchown(fresh, (uid_t)-1, core->uid_base) != 0 || chmod(fresh, 0660) != 0) {
        at_error_errno(error, errno, "open %s to its group", fresh);
        goto stop;
    }
    /* Before any client can meet it: a server that no pid file names would never be found again. */
    if (!at_pidfile_write(nbd->pidfile, &nbd->process, error))
        goto stop;
    if (rename(fresh, nbd->socket) != 0) {
        at_error_errno(error, errno, "publish %s", nbd->socket);
        goto stop;
    }
    watch_process(nbd);
    return true;
stop:
    at_process_stop(&nbd->process, 500, NULL);
    return false;
}

/* One that an earlier Atoll has started is in the site's group, which the vault is not any more. */
static bool in_own_group(const struct at_nbd *nbd)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)nbd->process.pid);
    g_autofree char *gid = g_strdup_printf("\nGid:\t%u\t", nbd->core->uid_base + AT_SLOT_NBD);
    g_autofree char *status = NULL;
    return g_file_get_contents(path, &status, NULL, NULL) && strstr(status, gid);
}

bool at_nbd_start(struct at_core *core, GError **error)
{
    struct at_nbd *nbd = g_new0(struct at_nbd, 1);
    core->nbd = nbd;
    nbd->core = core;
    nbd->pidfd = -1;
    nbd->dir = g_build_filename(core->state_dir, "nbd", NULL);
    nbd->socket = at_core_nbd_socket(core);
    nbd->pidfile = g_build_filename(nbd->dir, "pid", NULL);
    if (!at_mkdirs(nbd->dir, 0750, error))
        return false;
    if (chown(nbd->dir, core->uid_base + AT_SLOT_NBD, core->uid_base) != 0)
        return at_error_errno(error, errno, "give %s its owner", nbd->dir);
    /* One that is only slow is not replaced: guests are reading from it. */
    if (at_pidfile_read(nbd->pidfile, &nbd->process, NULL) && at_process_alive(&nbd->process) &&
        in_own_group(nbd) && connect_to(nbd->socket, 15000, NULL)) {
        watch_process(nbd);
        return true;
    }
    at_process_stop(&nbd->process, 2000, NULL);
    return launch(nbd, error);
}

void at_nbd_close(struct at_core *core)
{
    struct at_nbd *nbd = core->nbd;
    if (!nbd)
        return;
    if (nbd->watch)
        g_source_remove(nbd->watch);
    if (nbd->retry)
        g_source_remove(nbd->retry);
    at_close_fd(&nbd->pidfd);
    g_free(nbd->dir);
    g_free(nbd->socket);
    g_free(nbd->pidfile);
    g_free(nbd);
    core->nbd = NULL;
}

bool at_nbd_alive(struct at_core *core)
{
    return core->nbd && core->nbd->running;
}

bool at_nbd_stop(struct at_core *core, GError **error)
{
    struct at_nbd *nbd = core->nbd;
    if (!nbd)
        return true;
    struct at_process process = nbd->process;
    g_autofree char *socket_path = g_strdup(nbd->socket);
    g_autofree char *pidfile = g_strdup(nbd->pidfile);
    at_nbd_close(core);
    if (!at_process_stop(&process, 3000, error))
        return false;
    unlink(socket_path);
    unlink(pidfile);
    return true;
}
