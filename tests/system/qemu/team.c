/* SPDX-License-Identifier: Apache-2.0 */
/* A few tiny guests that write all the time. */
#include "team.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "lib/tiny-guest.h"
#include "qemu/block.h"
#include "qemu/blockdev.h"
#include "qemu/disk-reader.h"
#include "qemu/machine.h"

enum { MIB = 1 << 20, FIRST_UID = 0x70ff0000, WAIT_MS = 20000 };
static const uint64_t sizes[TEAM_DISKS] = {AT_TEST_TINY_BYTES, TEAM_DATA_BYTES};

static void kill_all(const struct team *team)
{
    for (unsigned i = 0; i < TEAM_MAX; i++) {
        g_autofree char *dir = g_strdup_printf("%s/m%u", team->dir, i);
        struct at_process process;
        if (at_machine_find(dir, &process, NULL))
            at_process_stop(&process, 0, NULL);
    }
    at_process_stop(&team->nbdkit, 0, NULL);
}

/* Machines and nbdkit outlive whoever starts them; so this one waits for our end. */
static bool start_reaper(struct team *team)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        setsid();
        close(pipe_fds[1]);
        while (read(pipe_fds[0], &byte, 1) < 0 && errno == EINTR)
            ;
        kill_all(team);
        at_remove_tree(team->dir, NULL);
        _exit(0);
    }
    close(pipe_fds[0]);
    team->reaper_fd = pipe_fds[1];
    return pid > 0;
}

static bool serve(struct team *team, GError **error)
{
    g_autofree char *program = at_find_program("nbdkit", "nbdkit", error);
    g_autofree char *dir = g_strdup_printf("dir=%s", team->exports);
    const char *argv[] = {program, "-f", "-r", "-U", team->socket, "file", dir, NULL};
    struct at_spawn spawn = {.argv = argv};
    if (!program || !at_spawn(&spawn, &team->nbdkit, error))
        return false;
    int64_t deadline = at_deadline_ms(WAIT_MS);
    while (access(team->socket, F_OK) != 0) {
        if (at_deadline_left_ms(deadline) == 0)
            return at_error(error, AT_ERROR_TIMEOUT, "nbdkit does not serve");
        g_usleep(5000);
    }
    chmod(team->socket, 0777);
    return true;
}

/* A name as a tree's root has one; only that it is new counts here. */
static char *new_root(void)
{
    static unsigned n;
    g_autofree char *text = g_strdup_printf("root %u", n++);
    return g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
}

static bool copy(const char *from, const char *to, GError **error)
{
    const char *argv[] = {"cp", "--sparse=always", "--reflink=auto", from, to, NULL};
    return at_run(argv, NULL, WAIT_MS, NULL, NULL, error);
}

static bool start_member(struct team *team, unsigned index, const unsigned *gens, unsigned n_gens,
                         GError **error)
{
    struct team_member *m = &team->members[index];
    struct at_machine_disk disks[TEAM_DISKS];
    uid_t uid = FIRST_UID + (uid_t)(getpid() % 1000) * TEAM_MAX + index;
    m->gen = gens[n_gens - 1];
    for (unsigned k = 0; k < TEAM_DISKS; k++) {
        disks[k] = (struct at_machine_disk){
            .index = k, .size = sizes[k], .base_root = m->roots[k], .gens = gens, .n_gens = n_gens};
        if (!at_block_overlay_create(m->dir, k, m->gen, sizes[k], uid, uid, error))
            return false;
    }
    g_autofree char *uuid = g_uuid_string_random();
    struct at_machine_config config = {.name = m->name,
                                       .uuid = uuid,
                                       .dir = m->dir,
                                       .nbd_socket = team->socket,
                                       .uid = uid,
                                       .gid = uid,
                                       .cpus = 1,
                                       .memory = 128 * MIB,
                                       .accel = AT_ACCEL_TCG,
                                       .disks = disks,
                                       .n_disks = TEAM_DISKS};
    return at_machine_start(&config, &m->process, error);
}

static struct team_member *add_member(struct team *team, GError **error)
{
    unsigned i = team->n++;
    struct team_member *m = &team->members[i];
    m->name = g_strdup_printf("team/guest%u", i);
    m->dir = g_strdup_printf("%s/m%u", team->dir, i);
    return at_mkdirs(m->dir, 0755, error) ? m : NULL;
}

bool team_start(struct team *team, const char *image, unsigned n, GError **error)
{
    static const unsigned gens[] = {1};
    *team = (struct team){.dir = g_strdup("/var/tmp/at-team-XXXXXX"), .reaper_fd = -1};
    if (!g_mkdtemp_full(team->dir, 0755))
        return at_error_errno(error, errno, "%s", team->dir);
    chmod(team->dir, 0755);
    team->exports = g_build_filename(team->dir, "exports", NULL);
    team->socket = g_build_filename(team->dir, "nbd.sock", NULL);
    g_autofree char *root = new_root();
    g_autofree char *base = g_build_filename(team->exports, root, NULL);
    if (!at_mkdirs(team->exports, 0755, error) || !copy(image, base, error) || !serve(team, error))
        goto fail;
    if (!start_reaper(team)) {
        at_error(error, AT_ERROR_IO, "no process to clean up");
        goto fail;
    }
    for (unsigned i = 0; i < n; i++) {
        struct team_member *m = add_member(team, error);
        if (!m)
            goto fail;
        m->roots[0] = g_strdup(root);
        if (!start_member(team, i, gens, 1, error))
            goto fail;
    }
    return true;
fail:
    team_end(team);
    return false;
}

void team_end(struct team *team)
{
    kill_all(team);
    at_close_fd(&team->reaper_fd);
    at_remove_tree(team->dir, NULL);
    for (unsigned i = 0; i < team->n; i++) {
        struct team_member *m = &team->members[i];
        g_free(m->dir);
        g_free(m->name);
        for (unsigned k = 0; k < TEAM_DISKS; k++)
            g_free(m->roots[k]);
    }
    g_free(team->dir);
    g_free(team->exports);
    g_free(team->socket);
    *team = (struct team){.reaper_fd = -1};
}

bool team_start_copy(struct team *team, unsigned of, unsigned gen, GError **error)
{
    const unsigned gens[] = {gen, gen + 1};
    const struct team_member *from = &team->members[of];
    struct team_member *m = add_member(team, error);
    for (unsigned k = 0; m && k < TEAM_DISKS; k++) {
        g_autofree char *source = at_blockdev_overlay_path(from->dir, k, gen);
        g_autofree char *target = at_blockdev_overlay_path(m->dir, k, gen);
        m->roots[k] = g_strdup(from->roots[k]);
        if (!copy(source, target, error))
            return false;
    }
    return m && start_member(team, team->n - 1, gens, 2, error);
}

char *team_console(const struct team_member *member)
{
    return g_build_filename(member->dir, "console.log", NULL);
}

bool team_loaded(const struct team *team)
{
    for (unsigned i = 0; i < team->n; i++) {
        g_autofree char *console = team_console(&team->members[i]);
        if (at_test_last_value(console, "LOAD", "round") < 20 ||
            at_test_last_value(console, "LOAD", "errors") != 0)
            return false;
    }
    return true;
}

bool team_cut(struct team *team, struct at_cut_result *ret_result, GError **error)
{
    struct at_cut_disk disks[TEAM_MAX][TEAM_DISKS];
    struct at_cut_machine machines[TEAM_MAX] = {0};
    for (unsigned i = 0; i < team->n; i++) {
        const struct team_member *m = &team->members[i];
        struct stat st;
        g_autofree char *live = at_blockdev_overlay_path(m->dir, 0, m->gen);
        if (stat(live, &st) != 0)
            return at_error_errno(error, errno, "%s", live);
        for (unsigned k = 0; k < TEAM_DISKS; k++) {
            disks[i][k] = (struct at_cut_disk){k, m->gen, m->gen + 1};
            if (!at_block_overlay_create(m->dir, k, m->gen + 1, sizes[k], st.st_uid, st.st_gid,
                                         error))
                return false;
        }
        machines[i] = (struct at_cut_machine){
            .name = m->name, .dir = m->dir, .disks = disks[i], .n_disks = TEAM_DISKS};
    }
    if (!at_cut_run(machines, team->n, NULL, NULL, 0, ret_result, error))
        return false;
    for (unsigned i = 0; i < team->n; i++)
        team->members[i].gen++;
    return true;
}

static bool lay(uint64_t offset, uint64_t len, const void *data, void *user, GError **error)
{
    int fd = *(int *)user;
    if (data ? pwrite(fd, data, len, (off_t)offset) != (ssize_t)len
             : fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                         (off_t)len) != 0)
        return at_error_errno(error, errno, "write base");
    return true;
}

static bool seal_disk(struct team *team, struct team_member *m, struct at_qmp *qmp, unsigned k,
                      GError **error)
{
    unsigned frozen = m->gen - 1;
    g_autofree char *root = new_root();
    g_autofree char *target = g_build_filename(team->exports, root, NULL);
    g_autofree char *overlay = at_blockdev_overlay_path(m->dir, k, frozen);
    g_autofree char *old = m->roots[k] ? g_build_filename(team->exports, m->roots[k], NULL) : NULL;
    if (old && !copy(old, target, error))
        return false;
    at_autofd fd = open(target, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)sizes[k]) != 0)
        return at_error_errno(error, errno, "%s", target);
    if (!at_disk_read_overlay(overlay, lay, &fd, NULL, NULL, error) ||
        !at_block_rebase(qmp, m->dir, team->socket, k, m->gen, root, &frozen, 1, m->roots[k],
                         error) ||
        !at_block_overlay_remove(m->dir, k, frozen, error))
        return false;
    g_free(m->roots[k]);
    m->roots[k] = g_steal_pointer(&root);
    return true;
}

bool team_seal(struct team *team, GError **error)
{
    for (unsigned i = 0; i < team->n; i++) {
        struct team_member *m = &team->members[i];
        g_autofree char *monitor = g_build_filename(m->dir, "qmp-b.sock", NULL);
        struct at_qmp *qmp = at_qmp_open(monitor, WAIT_MS, error);
        bool ok = qmp != NULL;
        for (unsigned k = 0; ok && k < TEAM_DISKS; k++)
            ok = seal_disk(team, m, qmp, k, error);
        if (qmp)
            at_qmp_close(qmp);
        if (!ok)
            return false;
    }
    return true;
}
