/* SPDX-License-Identifier: Apache-2.0 */
/* A model of the kernel's sysfs: what a write changes, refuses, and holds up. */
#include "kernel-model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gpu/sysfs-write-internal.h"
#include "kernel-model-internal.h"
#include "lib/at-test.h"

static struct model *current;

/* ---- paths ---- */

char *model_device(const struct model *model, const char *address, const char *file)
{
    return g_build_filename(model->paths.sys, "bus/pci/devices", address, file, NULL);
}

char *model_parked(const struct model *model, const char *address, const char *file)
{
    return g_build_filename(model->root, "parked", address, file, NULL);
}

void model_put(const char *path, const char *text)
{
    FILE *f = fopen(path, "we"); /* nothing of this has to survive a power cut */
    if (!f) {
        g_autofree char *dir = g_path_get_dirname(path);
        g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
        f = fopen(path, "we");
    }
    g_assert_nonnull(f);
    g_assert_cmpint(fputs(text, f), >=, 0);
    g_assert_cmpint(fclose(f), ==, 0);
}

char *model_get(const char *path)
{
    char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? g_strchomp(text) : NULL;
}

char *model_text(const struct model *model, const char *address, const char *file)
{
    g_autofree char *path = model_device(model, address, file);
    return model_get(path);
}

void model_set(struct model *model, const char *address, const char *file, const char *text)
{
    g_autofree char *path = model_device(model, address, file);
    model_put(path, text);
}

void model_remove(struct model *model, const char *address, const char *file)
{
    g_autofree char *path = model_device(model, address, file);
    g_assert_cmpint(remove(path), ==, 0);
}

char *model_driver(const struct model *model, const char *address)
{
    g_autofree char *path = model_device(model, address, "driver");
    g_autofree char *target = g_file_read_link(path, NULL);
    return target ? g_path_get_basename(target) : NULL;
}

static bool exists(const struct model *model, const char *address, const char *file)
{
    g_autofree char *path = model_device(model, address, file);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static bool is_open(const struct model *model, const char *what)
{
    return g_ptr_array_find_with_equal_func(model->open, what, g_str_equal, NULL);
}

static bool has_driver_dir(const struct model *model, const char *driver)
{
    g_autofree char *dir = g_build_filename(model->paths.sys, "bus/pci/drivers", driver, NULL);
    return g_file_test(dir, G_FILE_TEST_IS_DIR);
}

static void link_driver(const struct model *model, const char *address, const char *driver)
{
    g_autofree char *target = g_build_filename("../../drivers", driver, NULL);
    g_autofree char *link = model_device(model, address, "driver");
    g_assert_cmpint(symlink(target, link), ==, 0);
}

/* ---- drivers ---- */

static const char *default_driver(const struct model *model, const char *address)
{
    for (unsigned i = 0; i < model->default_driver->len; i += 2) {
        if (g_str_equal(model->default_driver->pdata[i], address))
            return model->default_driver->pdata[i + 1];
    }
    return NULL;
}

/* The driver that the kernel tries: the override, or the one that knows the device. */
static int probe(struct model *model, const char *address)
{
    g_autofree char *bound = model_driver(model, address);
    if (!exists(model, address, NULL))
        return EINVAL;
    if (bound)
        return 0;
    g_autofree char *override = model_text(model, address, "driver_override");
    bool overridden = override && !g_str_equal(override, "(null)");
    const char *driver = overridden ? override : default_driver(model, address);
    if (!driver || !has_driver_dir(model, driver))
        return 0;
    bool vfio = g_str_equal(driver, "vfio-pci");
    if ((vfio && !exists(model, address, "iommu_group")) || (!vfio && is_open(model, address)))
        return EINVAL;
    link_driver(model, address, driver);
    return 0;
}

static int unbind(struct model *model, const char *address)
{
    g_autofree char *link = model_device(model, address, "driver");
    g_autofree char *driver = model_driver(model, address);
    bool held = g_strcmp0(driver, "nvidia") == 0 && model_nvml_holds(model);
    if (is_open(model, address) || held)
        return AT_SYSFS_WRITE_BLOCKS;
    return unlink(link) == 0 ? 0 : ENODEV;
}

static int set_override(struct model *model, const char *address, const char *value)
{
    model_set(model, address, "driver_override",
              g_str_equal(value, "\n") || !*value ? "(null)\n" : value);
    return 0;
}

/* ---- VFs ---- */

static unsigned n_parked(const struct model *model, const char *pf)
{
    g_autofree char *path = g_build_filename(model->root, "vfs", pf, NULL);
    g_autofree char *text = model_get(path);
    g_auto(GStrv) vfs = g_strsplit(text ? text : "", "\n", -1);
    return g_strv_length(vfs);
}

static void move_vf(struct model *model, const char *pf, unsigned i, const char *vf, bool on)
{
    char name[24];
    g_snprintf(name, sizeof name, "virtfn%u", i);
    g_autofree char *link = model_device(model, pf, name);
    g_autofree char *target = g_build_filename("..", vf, NULL);
    g_autofree char *device = model_device(model, vf, NULL);
    g_autofree char *parked = model_parked(model, vf, NULL);
    if (on) {
        g_assert_cmpint(rename(parked, device), ==, 0);
        g_assert_cmpint(symlink(target, link), ==, 0);
    } else {
        g_assert_cmpint(unlink(link), ==, 0);
        g_assert_cmpint(rename(device, parked), ==, 0);
    }
}

static int set_vfs(struct model *model, const char *pf, const char *value)
{
    unsigned want = (unsigned)strtoul(value, NULL, 10);
    g_autofree char *now = model_text(model, pf, "sriov_numvfs");
    g_autofree char *path = g_build_filename(model->root, "vfs", pf, NULL);
    g_autofree char *text = model_get(path);
    g_auto(GStrv) vfs = g_strsplit(text ? text : "", "\n", -1);
    unsigned have = (unsigned)strtoul(now, NULL, 10);
    g_autofree char *driver = model_driver(model, pf);
    if (!driver || g_str_equal(driver, "vfio-pci"))
        return ENOENT;
    if (want > n_parked(model, pf))
        return ERANGE;
    if (want && have)
        return EBUSY;
    for (unsigned i = 0; want == 0 && i < have; i++) {
        if (is_open(model, vfs[i]))
            return AT_SYSFS_WRITE_BLOCKS;
    }
    g_autofree char *autoprobe = model_text(model, pf, "sriov_drivers_autoprobe");
    for (unsigned i = 0; i < MAX(want, have); i++) {
        move_vf(model, pf, i, vfs[i], want > 0);
        if (want && g_strcmp0(autoprobe, "1") == 0)
            probe(model, vfs[i]);
    }
    model_set(model, pf, "sriov_numvfs", value);
    return 0;
}

/* ---- vGPUs ---- */

static int set_type(struct model *model, const char *vf, const char *value)
{
    g_autofree char *now = model_text(model, vf, "nvidia/current_vgpu_type");
    g_autofree char *types = model_text(model, vf, "nvidia/creatable_vgpu_types");
    g_autofree char *line = g_strdup_printf("\n%s ", value);
    if (!now)
        return ENOENT;
    if (is_open(model, vf))
        return EBUSY;
    if (g_str_equal(value, "0")) {
        g_autofree char *id = model_device(model, vf, "nvidia/gpu_instance_id");
        unlink(id);
    } else if (!g_str_equal(now, "0")) {
        return EEXIST;
    } else if (!types || !strstr(types, line)) {
        return EIO;
    } else if (model->host.nvml && !model_take_instance(model, vf)) {
        return EIO;
    }
    model_set(model, vf, "nvidia/current_vgpu_type", value);
    return 0;
}

static void add_instances(struct model *model, const char *parent, const char *type, int n)
{
    g_autofree char *file =
        g_build_filename("mdev_supported_types", type, "available_instances", NULL);
    g_autofree char *text = model_text(model, parent, file);
    g_autofree char *sum = g_strdup_printf("%d\n", atoi(text) + n);
    model_set(model, parent, file, sum);
}

static char *mdev_link(const struct model *model, const char *uuid)
{
    return g_build_filename(model->paths.sys, "bus/mdev/devices", uuid, NULL);
}

static int create_mdev(struct model *model, const char *parent, const char *type, const char *uuid)
{
    g_autofree char *link = mdev_link(model, uuid);
    g_autofree char *bus = g_path_get_dirname(link);
    g_autofree char *available =
        g_build_filename("mdev_supported_types", type, "available_instances", NULL);
    g_autofree char *left = model_text(model, parent, available);
    if (g_file_test(link, G_FILE_TEST_IS_SYMLINK))
        return EEXIST;
    if (!left || g_str_equal(left, "0"))
        return left ? ENOSPC : ENOENT;
    g_autofree char *target = g_build_filename("../../pci/devices", parent, uuid, NULL);
    g_autofree char *device = model_device(model, parent, uuid);
    g_autofree char *type_link = g_build_filename(device, "mdev_type", NULL);
    g_autofree char *type_target = g_build_filename("../mdev_supported_types", type, NULL);
    g_autofree char *group = g_build_filename(device, "iommu_group", NULL);
    g_autofree char *file = g_build_filename(device, "remove", NULL);
    model_put(file, "");
    g_mkdir_with_parents(bus, 0755);
    g_assert_cmpint(symlink(type_target, type_link), ==, 0);
    g_assert_cmpint(symlink("/kernel/iommu_groups/77", group), ==, 0);
    g_assert_cmpint(symlink(target, link), ==, 0);
    add_instances(model, parent, type, -1);
    return 0;
}

static int remove_mdev(struct model *model, const char *uuid)
{
    g_autofree char *link = mdev_link(model, uuid);
    g_autofree char *target = g_file_read_link(link, NULL);
    if (is_open(model, uuid))
        return AT_SYSFS_WRITE_BLOCKS;
    g_auto(GStrv) part = g_strsplit(target, "/", -1);
    const char *parent = part[4];
    g_autofree char *device = model_device(model, parent, uuid);
    g_autofree char *type_link = g_build_filename(device, "mdev_type", NULL);
    g_autofree char *type_path = g_file_read_link(type_link, NULL);
    g_autofree char *type = g_path_get_basename(type_path);
    static const char *const files[] = {"mdev_type", "iommu_group", "remove", NULL};
    for (unsigned i = 0; files[i]; i++) {
        g_autofree char *path = g_build_filename(device, files[i], NULL);
        g_assert_cmpint(unlink(path), ==, 0);
    }
    g_assert_cmpint(rmdir(device), ==, 0);
    g_assert_cmpint(unlink(link), ==, 0);
    add_instances(model, parent, type, 1);
    return 0;
}

/* ---- writes ---- */

static int react_device(struct model *model, char **part, const char *value)
{
    const char *address = part[0], *file = part[1];
    if (g_str_equal(file, "driver_override"))
        return set_override(model, address, value);
    if (g_str_equal(file, "driver"))
        return unbind(model, value);
    if (g_str_equal(file, "sriov_numvfs"))
        return set_vfs(model, address, value);
    if (g_str_equal(file, "nvidia"))
        return set_type(model, address, value);
    if (g_str_equal(file, "mdev_supported_types"))
        return create_mdev(model, address, part[2], value);
    if (g_str_equal(file, "reset") && model->no_single_reset)
        return ENOTTY;
    model_set(model, address, file, value); /* reset, sriov_drivers_autoprobe */
    return 0;
}

static int react(struct model *model, const char *path, const char *value)
{
    if (g_str_has_suffix(path, "/unbindLock")) {
        model_put(path, value);
        return 0;
    }
    const char *bus = path + strlen(model->paths.sys);
    g_assert_true(g_str_has_prefix(path, model->paths.sys));
    if (g_str_equal(bus, "/bus/pci/drivers_probe"))
        return probe(model, value);
    g_auto(GStrv) part = g_strsplit(bus, "/", -1); /* "", bus, pci, devices, ADDRESS, FILE */
    if (g_str_equal(part[2], "mdev"))
        return remove_mdev(model, part[4]);
    return react_device(model, part + 4, value);
}

int model_tick(struct model *model, int *ret_errno)
{
    model->writes++;
    if (model->writes == model->die_at && model->die_before)
        _exit(9);
    if (model->writes != model->fail_at)
        return 0;
    *ret_errno = model->fail_errno;
    return 1;
}

void model_tock(struct model *model)
{
    if (model->writes == model->die_at)
        _exit(9);
}

static int hook(const char *path, const char *value)
{
    struct model *model = current;
    int err;
    if (model_tick(model, &err))
        return err;
    bool probe_or_unbind =
        g_str_has_suffix(path, "/unbind") || g_str_has_suffix(path, "/drivers_probe");
    if (!probe_or_unbind && !g_file_test(path, G_FILE_TEST_EXISTS))
        return ENOENT;
    err = model->ignore && g_str_has_suffix(path, model->ignore) ? 0 : react(model, path, value);
    model_tock(model);
    return err;
}

/* The only work that is no write: VFIO's hot reset. */
static int work_hook(const char *about)
{
    struct model *model = current;
    int err;
    if (model_tick(model, &err))
        return err;
    if (is_open(model, about))
        return EBUSY;
    model->bus_resets++;
    model_tock(model);
    return 0;
}

void model_use(struct model *model)
{
    current = model;
    at_sysfs_work_hook = model ? work_hook : NULL;
    at_sysfs_write_hook = model ? hook : NULL;
}
