/* SPDX-License-Identifier: Apache-2.0 */
/* Block nodes of a machine: their names and their options, built in one place. */
#include "qemu/blockdev.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { RECONNECT_DELAY_S = 5 };

/* kernel.io_uring_disabled (Linux 6.6): 1 forbids it to the unprivileged, and QEMU is that. */
static bool io_uring_forbidden(void)
{
    g_autofree char *value = NULL;
    return g_file_get_contents("/proc/sys/kernel/io_uring_disabled", &value, NULL, NULL) &&
           value[0] != '0';
}

static bool have_io_uring(void)
{
    static gsize once; /* 1: no, 2: yes */
    if (g_once_init_enter(&once)) {
        struct io_uring_params params = {0};
        at_autofd fd = (int)syscall(SYS_io_uring_setup, 1, &params);
        g_once_init_leave(&once, fd >= 0 && !io_uring_forbidden() ? 2 : 1);
    }
    return once == 2;
}

/* O_DIRECT is refused by open(2) where the file system has none; O_TMPFILE leaves no name. */
static bool have_direct(const char *dir)
{
    at_autofd fd = open(dir, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
    return fd >= 0;
}

enum at_aio at_blockdev_probe_aio(const char *dir, bool *ret_direct)
{
    bool direct = have_direct(dir);
    if (ret_direct)
        *ret_direct = direct;
    if (have_io_uring())
        return AT_AIO_IO_URING;
    return direct ? AT_AIO_NATIVE : AT_AIO_THREADS; /* native needs O_DIRECT */
}

const char *at_aio_name(enum at_aio aio)
{
    return aio == AT_AIO_IO_URING ? "io_uring" : aio == AT_AIO_NATIVE ? "native" : "threads";
}

char *at_blockdev_overlay_path(const char *dir, unsigned disk, unsigned gen)
{
    return g_strdup_printf("%s/d%u-%u.qcow2", dir, disk, gen);
}

char *at_blockdev_overlay_node(unsigned disk, unsigned gen)
{
    return g_strdup_printf("d%u-%u", disk, gen);
}

char *at_blockdev_file_node(unsigned disk, unsigned gen)
{
    return g_strdup_printf("d%u-%uf", disk, gen);
}

char *at_blockdev_base_node(unsigned disk, const char *root)
{
    return g_strdup_printf("d%u-b%.16s", disk, root);
}

bool at_blockdev_parse_overlay_node(const char *node, unsigned *ret_disk, unsigned *ret_gen)
{
    unsigned disk, gen;
    if (!node || sscanf(node, "d%u-%u", &disk, &gen) != 2)
        return false;
    g_autofree char *again = at_blockdev_overlay_node(disk, gen);
    if (strcmp(again, node) != 0)
        return false;
    *ret_disk = disk;
    *ret_gen = gen;
    return true;
}

static JsonObject *cache_options(bool direct)
{
    JsonObject *cache = json_object_new();
    json_object_set_boolean_member(cache, "direct", direct);
    json_object_set_boolean_member(cache, "no-flush", FALSE);
    return cache;
}

JsonObject *at_blockdev_file_options(const char *dir, unsigned disk, unsigned gen)
{
    bool direct;
    enum at_aio aio = at_blockdev_probe_aio(dir, &direct);
    g_autofree char *node = at_blockdev_file_node(disk, gen);
    g_autofree char *path = at_blockdev_overlay_path(dir, disk, gen);
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "driver", "file");
    json_object_set_string_member(o, "node-name", node);
    json_object_set_string_member(o, "filename", path);
    json_object_set_string_member(o, "aio", at_aio_name(aio));
    json_object_set_string_member(o, "discard", "unmap");
    json_object_set_object_member(o, "cache", cache_options(direct));
    return o;
}

JsonObject *at_blockdev_overlay_options(unsigned disk, unsigned gen, const char *backing)
{
    g_autofree char *node = at_blockdev_overlay_node(disk, gen);
    g_autofree char *file = at_blockdev_file_node(disk, gen);
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "driver", "qcow2");
    json_object_set_string_member(o, "node-name", node);
    json_object_set_string_member(o, "file", file);
    if (backing)
        json_object_set_string_member(o, "backing", backing);
    else
        json_object_set_null_member(o, "backing");
    json_object_set_string_member(o, "discard", "unmap");
    json_object_set_string_member(o, "detect-zeroes", "unmap");
    return o;
}

JsonObject *at_blockdev_base_options(const char *nbd_socket, unsigned disk, const char *root)
{
    g_autofree char *node = at_blockdev_base_node(disk, root);
    JsonObject *server = json_object_new();
    json_object_set_string_member(server, "type", "unix");
    json_object_set_string_member(server, "path", nbd_socket);
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "driver", "nbd");
    json_object_set_string_member(o, "node-name", node);
    json_object_set_object_member(o, "server", server);
    json_object_set_string_member(o, "export", root);
    json_object_set_boolean_member(o, "read-only", TRUE);
    json_object_set_int_member(o, "reconnect-delay", RECONNECT_DELAY_S);
    json_object_set_object_member(o, "cache", cache_options(true));
    return o;
}

JsonArray *at_blockdev_chain(const char *dir, const char *nbd_socket, unsigned disk,
                             const char *root, const unsigned *gens, unsigned n_gens)
{
    JsonArray *chain = json_array_new();
    g_autofree char *below = NULL;
    if (root) {
        json_array_add_object_element(chain, at_blockdev_base_options(nbd_socket, disk, root));
        below = at_blockdev_base_node(disk, root);
    }
    for (unsigned i = 0; i < n_gens; i++) {
        JsonObject *file = at_blockdev_file_options(dir, disk, gens[i]);
        JsonObject *overlay = at_blockdev_overlay_options(disk, gens[i], below);
        if (i + 1 < n_gens) {
            json_object_set_boolean_member(file, "read-only", TRUE);
            json_object_set_boolean_member(overlay, "read-only", TRUE);
        }
        json_array_add_object_element(chain, file);
        json_array_add_object_element(chain, overlay);
        g_free(below);
        below = at_blockdev_overlay_node(disk, gens[i]);
    }
    return chain;
}
