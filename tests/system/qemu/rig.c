/* SPDX-License-Identifier: Apache-2.0 */
/* Bare QEMU machines for tests of the block graph. */
#include "rig.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "lib/at-test.h"
#include "qemu/block.h"
#include "qemu/blockdev.h"

bool rig_possible(void)
{
    return at_test_needs_program("qemu-system-x86_64") && at_test_needs_program("qemu-img") &&
           at_test_needs_program("nbdkit");
}

static void add_disk(GPtrArray *argv, const struct rig *rig, unsigned index, const char *nbd_socket,
                     const char *root)
{
    static const unsigned gens[] = {1};
    g_autoptr(JsonArray) chain =
        at_blockdev_chain(rig->dir, nbd_socket, index, root, gens, G_N_ELEMENTS(gens));
    for (unsigned i = 0; i < json_array_get_length(chain); i++) {
        g_ptr_array_add(argv, g_strdup("-blockdev"));
        g_ptr_array_add(argv, at_json_text(json_array_get_element(chain, i)));
    }
    g_ptr_array_add(argv, g_strdup("-device"));
    g_ptr_array_add(argv, g_strdup_printf("virtio-blk-pci,drive=d%u-1,id=disk%u,werror=stop,"
                                          "rerror=stop",
                                          index, index));
}

void rig_start(struct rig *rig, uint64_t size, const char *nbd_socket, const char *root)
{
    static const char *const fixed[] = {
        "qemu-system-x86_64", "-M", "pc,accel=tcg", "-m", "64", "-nodefaults", "-display", "none"};
    g_autoptr(GError) error = NULL;
    rig->dir = at_test_dir();
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++)
        g_ptr_array_add(argv, g_strdup(fixed[i]));
    for (char which = 'a'; which <= 'c'; which++) {
        g_ptr_array_add(argv, g_strdup("-qmp"));
        g_ptr_array_add(argv,
                        g_strdup_printf("unix:%s/qmp-%c.sock,server=on,wait=off", rig->dir, which));
    }
    for (unsigned i = 0; i < RIG_DISKS; i++) {
        g_assert_true(
            at_test_ok(at_block_overlay_create(rig->dir, i, 1, size, 0, 0, &error), &error));
        add_disk(argv, rig, i, nbd_socket, root);
    }
    g_ptr_array_add(argv, NULL);
    rig->pid = at_test_spawn((const char *const *)argv->pdata, at_test_path(rig->dir, "qemu.log"));
    bool up = at_test_until(rig_runs(rig), RIG_WAIT_MS);
    if (!up) {
        g_autofree char *log = NULL;
        g_file_get_contents(at_test_path(rig->dir, "qemu.log"), &log, NULL, NULL);
        g_test_message("QEMU does not run: %s", log);
    }
    g_assert_true(up);
}

struct at_qmp *rig_monitor(const struct rig *rig, const char *which)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_strdup_printf("%s/qmp-%s.sock", rig->dir, which);
    struct at_qmp *qmp = at_qmp_open(path, RIG_WAIT_MS, &error);
    g_assert_no_error(error);
    return qmp;
}

char *rig_status(const struct rig *rig)
{
    g_autofree char *path = g_strdup_printf("%s/qmp-a.sock", rig->dir);
    struct at_qmp *qmp = at_qmp_open(path, 2000, NULL);
    g_autoptr(JsonNode) answer = NULL;
    char *status = NULL;
    if (qmp && at_qmp_call(qmp, "query-status", NULL, 2000, &answer, NULL))
        status = g_strdup(at_json_str(json_node_get_object(answer), "status", "?"));
    if (qmp)
        at_qmp_close(qmp);
    return status ? status : g_strdup("gone");
}

bool rig_runs(const struct rig *rig)
{
    g_autofree char *status = rig_status(rig);
    return strcmp(status, "running") == 0;
}

void rig_io(const struct rig *rig, struct at_qmp *qmp, unsigned index, const char *command)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) answer = NULL;
    const char *log_path = at_test_path(rig->dir, "qemu.log");
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;
    gsize n_before = 0, n_after = 0;
    g_file_get_contents(log_path, &before, &n_before, NULL);
    JsonObject *args = json_object_new();
    g_autofree char *line = g_strdup_printf(
        "qemu-io -d /machine/peripheral/disk%u/virtio-backend \"%s\"", index, command);
    json_object_set_string_member(args, "command-line", line);
    g_assert_true(at_test_ok(
        at_qmp_call(qmp, "human-monitor-command", args, RIG_WAIT_MS, &answer, &error), &error));
    g_assert_cmpstr(json_node_get_string(answer), ==, "");
    g_file_get_contents(log_path, &after, &n_after, NULL); /* where qemu-io complains */
    if (n_after > n_before && strstr(after + n_before, "failed"))
        g_error("%s: %s", line, after + n_before);
}

unsigned rig_live_gen(const struct rig *rig, unsigned index)
{
    unsigned gen = 0;
    g_autoptr(GError) error = NULL;
    struct at_qmp *qmp = rig_monitor(rig, "a");
    g_assert_true(at_test_ok(at_block_live_gen(qmp, index, &gen, &error), &error));
    at_qmp_close(qmp);
    return gen;
}

bool rig_has_node(const struct rig *rig, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) answer = NULL;
    struct at_qmp *qmp = rig_monitor(rig, "a");
    g_assert_true(at_test_ok(
        at_qmp_call(qmp, "query-named-block-nodes", NULL, RIG_WAIT_MS, &answer, &error), &error));
    at_qmp_close(qmp);
    JsonArray *nodes = json_node_get_array(answer);
    for (unsigned i = 0; i < json_array_get_length(nodes); i++) {
        if (g_strcmp0(at_json_str(json_array_get_object_element(nodes, i), "node-name", ""),
                      name) == 0)
            return true;
    }
    return false;
}

const char *rig_serve(const char *dir, pid_t *ret_pid)
{
    const char *socket = at_test_path(at_test_dir(), "nbd.sock");
    g_autofree char *what = g_strdup_printf("dir=%s", dir);
    const char *argv[] = {"nbdkit", "-f", "-r", "-U", socket, "file", what, NULL};
    pid_t pid = at_test_spawn(argv, NULL);
    if (ret_pid)
        *ret_pid = pid;
    g_assert_true(at_test_until(access(socket, F_OK) == 0, RIG_WAIT_MS));
    return socket;
}
