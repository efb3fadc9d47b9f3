/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a workstation, and finding it again.
 *
 * DIR (root:gid 0710) holds:
 *   qmp-a.sock, qmp-b.sock, qmp-c.sock   monitors: supervision, jobs, guard of a cut
 *   serial.sock, qga.sock                first serial port, guest agent
 *   u/ (uid, 0700), u/vnc.sock           what QEMU creates itself; vnc.sock is a link to it
 *   vars.fd                              variables of UEFI firmware (uid, 0600)
 *   d<i>-<g>.qcow2, seed.iso             disks (uid, 0600), seed (uid, 0400)
 *   console.log                          serial output (uid, 0600), see console-log.h
 *   qemu.log                             what QEMU says
 *   pid                                  "PID START"
 *   starting                             only while QEMU is started and `pid` not yet written
 * QEMU, which may be in the hands of its guest, cannot write into DIR: it gets its sockets as
 * descriptors, and cannot make us kill another process by a false pid file or follow a link. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/cpulist.h"
#include "base/error.h"
#include "base/fault.h"
#include "qemu/blockdev.h"
#include "qemu/firmware.h"
#include "qemu/machine-internal.h"
#include "qemu/qmp.h"
#include "qemu/unix-socket.h"

enum { START_TIMEOUT_MS = 30 * 1000, LOG_TAIL_BYTES = 2000 };

static char *in_dir(const char *dir, const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static int listen_on(const char *path, GError **error)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (!at_unix_path_check(path, error))
        return -1;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    at_autofd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (unlink(path) != 0 && errno != ENOENT) {
        at_error_errno(error, errno, "remove %s", path);
        return -1;
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) != 0 || chmod(path, 0600) != 0 ||
        listen(fd, 8) != 0) {
        at_error_errno(error, errno, "listen on %s", path);
        return -1;
    }
    return at_steal_fd(&fd);
}

static bool own(const char *path, uid_t uid, gid_t gid, mode_t mode, GError **error)
{
    at_autofd fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fchown(fd, uid, gid) != 0 || fchmod(fd, mode) != 0)
        return at_error_errno(error, errno, "give %s to user %u", path, (unsigned)uid);
    return true;
}

/* By path: opening a VFIO group would take it. The nodes are in a directory of root's. With iommufd
 * QEMU opens none. */
static bool own_nodes(const struct at_machine_config *c, GError **error)
{
    for (unsigned i = 0; i < c->n_gpus && !c->iommufd; i++) {
        for (const char *const *node = c->gpus[i].nodes; node && *node; node++) {
            if (lchown(*node, c->uid, c->gid) != 0 || chmod(*node, 0600) != 0)
                return at_error_errno(error, errno, "give %s to user %u", *node, (unsigned)c->uid);
        }
    }
    return true;
}

static bool prepare_dir(const struct at_machine_config *c, GError **error)
{
    g_autofree char *user_dir = in_dir(c->dir, "u");
    g_autofree char *console = in_dir(c->dir, "console.log");
    g_autofree char *vnc = in_dir(c->dir, "vnc.sock");
    g_autofree char *vnc_real = in_dir(user_dir, "vnc.sock");
    if (!at_unix_path_check(vnc_real, error) || !at_mkdirs(c->dir, 0710, error) ||
        !own(c->dir, 0, c->gid, 0710, error) || !at_mkdirs(user_dir, 0700, error) ||
        !own(user_dir, c->uid, c->gid, 0700, error))
        return false;
    at_autofd fd = open(console, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return at_error_errno(error, errno, "open %s", console);
    if (!own(console, c->uid, c->gid, 0600, error))
        return false;
    unlink(vnc_real);
    if (symlink("u/vnc.sock", vnc) != 0 && errno != EEXIST)
        return at_error_errno(error, errno, "link %s", vnc);
    for (unsigned i = 0; i < c->n_disks; i++) {
        for (unsigned g = 0; g < c->disks[i].n_gens; g++) {
            g_autofree char *path =
                at_blockdev_overlay_path(c->dir, c->disks[i].index, c->disks[i].gens[g]);
            if (!own(path, c->uid, c->gid, 0600, error))
                return false;
        }
    }
    return at_firmware_prepare(c, error) &&
           (!c->seed_path || own(c->seed_path, c->uid, c->gid, 0400, error)) && own_nodes(c, error);
}

/* Need not be durable: a crash of the host ends QEMU too. */
static bool touch(const char *path, GError **error)
{
    at_autofd fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return fd >= 0 || at_error_errno(error, errno, "create %s", path);
}

/* The end of what QEMU said since @from, for the error message. */
static void add_log(GError **error, const char *log, off_t from)
{
    char buf[LOG_TAIL_BYTES + 1];
    at_autofd fd = open(log, O_RDONLY | O_CLOEXEC);
    off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    if (!error || end <= from)
        return;
    ssize_t n = pread(fd, buf, LOG_TAIL_BYTES, MAX(from, end - LOG_TAIL_BYTES));
    if (n <= 0)
        return;
    buf[n] = '\0';
    g_autofree char *text = g_utf8_make_valid(g_strstrip(buf), -1);
    g_autofree char *message = g_strdup_printf("%s; QEMU said: %s", (*error)->message, text);
    g_free((*error)->message);
    (*error)->message = g_steal_pointer(&message);
}

static bool spawn(const struct at_machine_config *c, const char *const *argv, const int *sockets,
                  const struct at_iommufd *iommufd, const char *log, struct at_process *ret_process,
                  GError **error)
{
    g_autofree int *fds = g_new(int, AT_MACHINE_N_SOCKETS + c->n_nics + 1 + AT_IOMMUFD_MAX);
    unsigned n = 0;
    gid_t groups[1];
    for (; n < AT_MACHINE_N_SOCKETS; n++)
        fds[n] = sockets[n];
    for (unsigned i = 0; i < c->n_nics; i++)
        fds[n++] = c->nics[i].tap_fd;
    if (iommufd->iommu >= 0)
        fds[n++] = iommufd->iommu;
    for (unsigned i = 0; i < iommufd->n; i++)
        fds[n++] = iommufd->devices[i];
    struct at_spawn s = {.argv = argv,
                         .uid = c->uid,
                         .gid = c->gid,
                         .groups = groups,
                         .n_groups = at_machine_kvm_groups(c->accel, groups),
                         .log_path = log,
                         .cgroup = c->cgroup,
                         .fds = fds,
                         .n_fds = n,
                         .memlock = at_machine_memlock(c)};
    cpu_set_t cpus;
    if (c->n_gpus > 0 && c->cpulist) {
        if (!at_cpulist_parse(c->cpulist, &cpus, error))
            return false;
        s.cpus = &cpus;
    }
    return at_spawn(&s, ret_process, error);
}

/* Publishes who it is, and waits until the monitors answer. */
static bool settle(const struct at_machine_config *c, const struct at_process *process,
                   GError **error)
{
    g_autofree char *pid = in_dir(c->dir, "pid");
    g_autofree char *monitor = in_dir(c->dir, at_machine_socket_names[AT_MACHINE_QMP_A]);
    if (!at_fault_point("machine-spawned", error) || !at_pidfile_write(pid, process, error))
        return false;
    g_autoptr(at_qmp) qmp = at_qmp_open(monitor, START_TIMEOUT_MS, error);
    return qmp != NULL;
}

bool at_machine_start(const struct at_machine_config *config, struct at_process *ret_process,
                      GError **error)
{
    g_autofree char *log = in_dir(config->dir, "qemu.log");
    g_autofree char *starting = in_dir(config->dir, "starting");
    g_autofree char *program = at_find_program(AT_QEMU_PROGRAM, "qemu-system-x86", error);
    int sockets[AT_MACHINE_N_SOCKETS] = {-1, -1, -1, -1, -1};
    struct at_iommufd iommufd = AT_IOMMUFD_NONE;
    struct at_process process = {0};
    g_auto(GStrv) argv = NULL;
    struct stat st;
    bool ok = false;
    if (!program)
        return false;
    if (at_machine_find(config->dir, &process, NULL))
        return at_error(error, AT_ERROR_CONFLICT, "%s runs already as process %d", config->name,
                        (int)process.pid);
    argv = at_machine_build_argv(config, program, sockets, &iommufd, error); /* before any effect */
    if (!argv)
        return false;
    if (!prepare_dir(config, error) || !at_iommufd_open(config, &iommufd, error))
        goto undo_sockets;
    for (int i = 0; i < AT_MACHINE_N_SOCKETS; i++) {
        g_autofree char *path = in_dir(config->dir, at_machine_socket_names[i]);
        sockets[i] = listen_on(path, error);
        if (sockets[i] < 0)
            goto undo_sockets;
    }
    g_strfreev(argv);
    argv = at_machine_build_argv(config, program, sockets, &iommufd, error);
    off_t log_from = stat(log, &st) == 0 ? st.st_size : 0;
    if (!argv || !touch(starting, error))
        goto undo_sockets;
    if (!at_fault_point("machine-spawn", error) ||
        !spawn(config, (const char *const *)argv, sockets, &iommufd, log, &process, error))
        goto undo_starting;
    for (int i = 0; i < AT_MACHINE_N_SOCKETS; i++)
        at_close_fd(&sockets[i]); /* QEMU's death must close them for whoever is connected */
    at_iommufd_close(&iommufd);   /* and free the card */
    if (!settle(config, &process, error)) {
        at_process_kill(&process, SIGKILL, NULL);
        at_process_wait(&process, 5000, NULL);
        add_log(error, log, log_from);
        goto undo_starting;
    }
    *ret_process = process;
    ok = true;
undo_starting:
    unlink(starting);
undo_sockets:
    at_iommufd_close(&iommufd);
    for (int i = 0; i < AT_MACHINE_N_SOCKETS; i++)
        at_close_fd(&sockets[i]);
    if (!ok) {
        at_machine_clean_dir(config->dir);
        g_prefix_error(error, "start %s: ", config->name);
    }
    return ok;
}

void at_machine_clean_dir(const char *dir)
{
    static const char *const others[] = {"vnc.sock", "u/vnc.sock", "starting", "pid"};
    for (int i = 0; i < AT_MACHINE_N_SOCKETS; i++) {
        g_autofree char *path = in_dir(dir, at_machine_socket_names[i]);
        unlink(path);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autofree char *path = in_dir(dir, others[i]);
        unlink(path);
    }
}

/* True when the command line of @pid is that of the machine in @dir. */
static bool is_machine(pid_t pid, const char *dir)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
    g_autofree char *text = NULL;
    g_autofree char *wanted = g_strdup_printf("logfile=%s/console.log,", dir);
    gsize len;
    if (!g_file_get_contents(path, &text, &len, NULL))
        return false;
    return memmem(text, len, wanted, strlen(wanted)) != NULL;
}

/* For a start that was cut off before it could write the pid file. */
static bool scan(const char *dir, struct at_process *ret_process)
{
    DIR *proc = opendir("/proc");
    bool found = false;
    struct dirent *entry;
    while (proc && !found && (entry = readdir(proc))) {
        pid_t pid = atoi(entry->d_name);
        struct at_process process;
        if (pid > 1 && at_process_lookup(pid, &process) && is_machine(pid, dir) &&
            at_process_alive(&process)) {
            *ret_process = process;
            found = true;
        }
    }
    if (proc)
        closedir(proc);
    return found;
}

bool at_machine_find(const char *dir, struct at_process *ret_process, GError **error)
{
    g_autofree char *pid = in_dir(dir, "pid");
    g_autofree char *starting = in_dir(dir, "starting");
    struct at_process process;
    g_autofree char *escaped = NULL;
    g_auto(GStrv) parts = g_strsplit(dir, ",", -1);
    escaped = g_strjoinv(",,", parts);
    if (at_pidfile_read(pid, &process, NULL) && at_process_alive(&process) &&
        is_machine(process.pid, escaped)) {
        *ret_process = process;
        return true;
    }
    if (access(starting, F_OK) == 0 && scan(escaped, &process) &&
        at_pidfile_write(pid, &process, error)) {
        unlink(starting);
        *ret_process = process;
        return true;
    }
    if (error && *error)
        return false;
    return at_error(error, AT_ERROR_NOT_FOUND, "no machine runs in %s", dir);
}
