/* SPDX-License-Identifier: Apache-2.0 */
/* A tree of files like those of a host with GPUs: the files, and functions of PCI in general. */
#include "lib/gpu-tree.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "lib/at-test.h"
#include "lib/gpu-tree-internal.h"

static void tree_free(void *data)
{
    struct gpu_tree *tree = data;
    g_free(tree->sys);
    g_free(tree->dev);
    g_free(tree->proc);
    g_free(tree);
}

struct gpu_tree *gpu_tree_new(void)
{
    struct gpu_tree *tree = g_new0(struct gpu_tree, 1);
    tree->root = at_test_dir();
    tree->sys = g_build_filename(tree->root, "sys", NULL);
    tree->dev = g_build_filename(tree->root, "dev", NULL);
    tree->proc = g_build_filename(tree->root, "proc", NULL);
    g_test_queue_destroy(tree_free, tree);
    static const char *const dirs[] = {"sys/bus/pci/devices", "sys/bus/pci/drivers",
                                       "sys/kernel/iommu_groups", "dev/vfio", "proc"};
    for (unsigned i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path = gpu_tree_path(tree, dirs[i]);
        g_assert_cmpint(g_mkdir_with_parents(path, 0755), ==, 0);
    }
    gpu_tree_write(tree, "sys/bus/pci/drivers_probe", "");
    gpu_tree_write(tree, "dev/vfio/vfio", "");
    return tree;
}

const char *gpu_tree_root(const struct gpu_tree *tree)
{
    return tree->root;
}

const char *gpu_tree_sys(const struct gpu_tree *tree)
{
    return tree->sys;
}

const char *gpu_tree_dev(const struct gpu_tree *tree)
{
    return tree->dev;
}

const char *gpu_tree_proc(const struct gpu_tree *tree)
{
    return tree->proc;
}

char *gpu_tree_path(const struct gpu_tree *tree, const char *relative)
{
    return g_build_filename(tree->root, relative, NULL);
}

static char *path_with_dirs(const struct gpu_tree *tree, const char *relative)
{
    char *path = gpu_tree_path(tree, relative);
    g_autofree char *dir = g_path_get_dirname(path);
    g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
    return path;
}

/* In place and not by renaming: tests write through links and into files that are open. */
void gpu_tree_write_bytes(struct gpu_tree *tree, const char *relative, const void *data, size_t len)
{
    g_autofree char *path = path_with_dirs(tree, relative);
    FILE *f = fopen(path, "we");
    if (!f)
        g_error("%s: %s", path, g_strerror(errno));
    g_assert_cmpuint(fwrite(data, 1, len, f), ==, len);
    g_assert_cmpint(fclose(f), ==, 0);
}

void gpu_tree_write(struct gpu_tree *tree, const char *relative, const char *text)
{
    gpu_tree_write_bytes(tree, relative, text, strlen(text));
}

void gpu_tree_link(struct gpu_tree *tree, const char *relative, const char *target)
{
    g_autofree char *path = path_with_dirs(tree, relative);
    unlink(path);
    g_assert_cmpint(symlink(target, path), ==, 0);
}

void gpu_tree_remove(struct gpu_tree *tree, const char *relative)
{
    g_autofree char *path = gpu_tree_path(tree, relative);
    g_autoptr(GError) error = NULL;
    if (unlink(path) != 0)
        at_remove_tree(path, &error);
    g_assert_no_error(error);
}

/* "sys/bus/pci/devices/<address>/<name>": the first part is a link, as in sysfs. */
static char *attribute(const char *address, const char *name)
{
    return g_build_filename("sys/bus/pci/devices", address, name, NULL);
}

void gpu_tree_set(struct gpu_tree *tree, const char *address, const char *name, const char *text)
{
    g_autofree char *relative = attribute(address, name);
    gpu_tree_write(tree, relative, text);
}

char *gpu_tree_get(struct gpu_tree *tree, const char *address, const char *name)
{
    g_autofree char *relative = attribute(address, name);
    g_autofree char *path = gpu_tree_path(tree, relative);
    char *text = NULL;
    g_autoptr(GError) error = NULL;
    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    return text;
}

void gpu_tree_unset(struct gpu_tree *tree, const char *address, const char *name)
{
    g_autofree char *relative = attribute(address, name);
    gpu_tree_remove(tree, relative);
}

/* Last part of what an attribute links to; NULL: it is no link. */
static char *link_name(struct gpu_tree *tree, const char *address, const char *name)
{
    g_autofree char *relative = attribute(address, name);
    g_autofree char *path = gpu_tree_path(tree, relative);
    g_autofree char *target = g_file_read_link(path, NULL);
    return target ? g_path_get_basename(target) : NULL;
}

const char *gpu_tree_vf(struct gpu_tree *tree, const char *address, unsigned n)
{
    g_autofree char *link = g_strdup_printf("virtfn%u", n);
    char *vf = link_name(tree, address, link);
    if (!vf)
        g_error("%s has no VF %u", address, n);
    g_test_queue_free(vf);
    return vf;
}

int gpu_tree_group(struct gpu_tree *tree, const char *address)
{
    g_autofree char *group = link_name(tree, address, "iommu_group");
    return group ? (int)g_ascii_strtoll(group, NULL, 10) : -1;
}

/* Where a function's files really are, below sys/. */
static char *real_dir(const char *address)
{
    g_autofree char *bus = g_strndup(address, strlen("0000:41"));
    return g_strdup_printf("devices/pci%s/%s", bus, address);
}

void gpu_tree_join(struct gpu_tree *tree, const char *address, int group)
{
    if (group < 0)
        return;
    g_autofree char *name = g_strdup_printf("../../../kernel/iommu_groups/%d", group);
    g_autofree char *relative = attribute(address, "iommu_group");
    gpu_tree_link(tree, relative, name);
    g_autofree char *member =
        g_strdup_printf("sys/kernel/iommu_groups/%d/devices/%s", group, address);
    g_autofree char *dir = real_dir(address);
    g_autofree char *target = g_build_filename("../../../..", dir, NULL);
    gpu_tree_link(tree, member, target);
    g_autofree char *type = g_strdup_printf("sys/kernel/iommu_groups/%d/type", group);
    gpu_tree_write(tree, type, "DMA-FQ\n");
    tree->next_group = MAX(tree->next_group, group + 1);
}

static void bind_driver(struct gpu_tree *tree, const char *address, const char *driver)
{
    g_autofree char *dir = real_dir(address);
    g_autofree char *target = g_build_filename("../../../..", dir, NULL);
    g_autofree char *member = g_build_filename("sys/bus/pci/drivers", driver, address, NULL);
    gpu_tree_link(tree, member, target);
    static const char *const files[] = {"bind", "unbind", "new_id", "remove_id"};
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *file = g_build_filename("sys/bus/pci/drivers", driver, files[i], NULL);
        gpu_tree_write(tree, file, "");
    }
    g_autofree char *own = g_build_filename("../../../bus/pci/drivers", driver, NULL);
    g_autofree char *relative = attribute(address, "driver");
    gpu_tree_link(tree, relative, own);
    int group = gpu_tree_group(tree, address);
    if (g_str_equal(driver, "vfio-pci") && group >= 0) {
        g_autofree char *node = g_strdup_printf("dev/vfio/%d", group);
        gpu_tree_write(tree, node, "");
    }
}

void gpu_tree_bind(struct gpu_tree *tree, const char *address, const char *driver)
{
    g_autofree char *former = link_name(tree, address, "driver");
    if (former) {
        g_autofree char *member = g_build_filename("sys/bus/pci/drivers", former, address, NULL);
        gpu_tree_remove(tree, member);
        gpu_tree_unset(tree, address, "driver");
        gpu_tree_hide_health(tree, address);
    }
    if (*driver)
        bind_driver(tree, address, driver);
    gpu_tree_set(tree, address, "enable", *driver ? "1\n" : "0\n");
}

static void set_number(struct gpu_tree *tree, const char *address, const char *name, unsigned value,
                       int digits)
{
    g_autofree char *text = g_strdup_printf("0x%0*x\n", digits, value);
    gpu_tree_set(tree, address, name, text);
}

/* The first 64 bytes as a device has them, in the 256 that every PCI function has. */
static void write_config(struct gpu_tree *tree, const char *address, unsigned vendor,
                         unsigned device)
{
    uint8_t config[256] = {(uint8_t)vendor, (uint8_t)(vendor >> 8), (uint8_t)device,
                           (uint8_t)(device >> 8)};
    g_autofree char *relative = attribute(address, "config");
    gpu_tree_write_bytes(tree, relative, config, sizeof config);
}

void gpu_tree_function(struct gpu_tree *tree, const char *address, unsigned vendor, unsigned device,
                       unsigned class_code, int group, const char *driver)
{
    g_autofree char *dir = real_dir(address);
    g_autofree char *target = g_build_filename("../../..", dir, NULL);
    g_autofree char *link = g_build_filename("sys/bus/pci/devices", address, NULL);
    g_autofree char *full = g_build_filename(tree->sys, dir, NULL);
    g_assert_cmpint(g_mkdir_with_parents(full, 0755), ==, 0);
    gpu_tree_link(tree, link, target);
    set_number(tree, address, "vendor", vendor, 4);
    set_number(tree, address, "device", device, 4);
    set_number(tree, address, "class", class_code, 6);
    write_config(tree, address, vendor, device);
    static const char *const common[][2] = {{"revision", "0x00\n"},
                                            {"subsystem_vendor", "0x0000\n"},
                                            {"subsystem_device", "0x0000\n"},
                                            {"driver_override", "(null)\n"},
                                            {"numa_node", "0\n"},
                                            {"local_cpulist", "0-31,64-95\n"},
                                            {"d3cold_allowed", "1\n"},
                                            {"power_state", "D0\n"},
                                            {"msi_bus", "1\n"},
                                            {"power/control", "auto\n"},
                                            {"power/runtime_status", "active\n"},
                                            {"remove", ""},
                                            {"rescan", ""}};
    for (unsigned i = 0; i < G_N_ELEMENTS(common); i++)
        gpu_tree_set(tree, address, common[i][0], common[i][1]);
    gpu_tree_join(tree, address, group);
    gpu_tree_bind(tree, address, driver);
}

void gpu_tree_mdev(struct gpu_tree *tree, const char *parent, const char *uuid, const char *type)
{
    g_autofree char *dir = real_dir(parent);
    g_autofree char *own = g_build_filename("sys", dir, uuid, NULL);
    g_autofree char *type_link = g_build_filename(own, "mdev_type", NULL);
    g_autofree char *type_target = g_build_filename("../mdev_supported_types", type, NULL);
    gpu_tree_link(tree, type_link, type_target);
    g_autofree char *remove = g_build_filename(own, "remove", NULL);
    gpu_tree_write(tree, remove, "");
    g_autofree char *group_link = g_build_filename(own, "iommu_group", NULL);
    g_autofree char *group =
        g_strdup_printf("../../../../kernel/iommu_groups/%d", tree->next_group);
    g_autofree char *member =
        g_strdup_printf("sys/kernel/iommu_groups/%d/devices/%s", tree->next_group++, uuid);
    g_autofree char *member_target = g_build_filename("../../../..", dir, uuid, NULL);
    gpu_tree_link(tree, group_link, group);
    gpu_tree_link(tree, member, member_target);
    g_autofree char *link = g_build_filename("sys/bus/mdev/devices", uuid, NULL);
    g_autofree char *target = g_build_filename("../../..", dir, uuid, NULL);
    gpu_tree_link(tree, link, target);
    g_autofree char *instance =
        g_build_filename("mdev_supported_types", type, "devices", uuid, NULL);
    g_autofree char *relative = attribute(parent, instance);
    g_autofree char *back = g_build_filename("../../..", uuid, NULL);
    gpu_tree_link(tree, relative, back);
}
