/* SPDX-License-Identifier: Apache-2.0 */
/* A model of the kernel's sysfs: building the host that a test wants, and reading it. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel-model-internal.h"
#include "lib/at-test.h"

#define BAR "0x0000002000000000 0x0000002fffffffff 0x000000000014220c\n"
#define NO_BAR "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
#define SMALL_BAR "0x00000000f6000000 0x00000000f6ffffff 0x0000000000040200\n"
#define VF_BAR "0x0000004000000000 0x00000040ffffffff 0x000000000014220c\n"

/* As NVIDIA's script: the first time without the lock when a test says so; files of vGPUs appear
 * only a while after the VFs; all MIG instances go. */
static const char script[] =
    "#!/bin/sh\n"
    "# Stands in for NVIDIA's sriov-manage.\n"
    "root=%s; dev=$root/sys/bus/pci/devices; pf=$2\n"
    "if [ -e $root/locked ]; then\n"
    "    rm $root/locked; echo \"Cannot obtain unbindLock for $pf\"; exit 1\n"
    "fi\n"
    "[ ! -e $root/nvml/held ] || { echo 'Cannot obtain unbindLock: NVML'; exit 1; }\n"
    "if [ -e $root/broken ]; then echo 'no such luck'; exit 0; fi\n"
    "rm -f $root/nvml/instances/*\n"
    "i=0\n"
    "for vf in $(cat $root/vfs/$pf); do\n"
    "    if [ \"$1\" = -e ] && [ ! -e $dev/$vf ]; then\n"
    "        for d in nvidia mdev_supported_types; do\n"
    "            [ ! -e $root/parked/$vf/$d ] || mv $root/parked/$vf/$d $root/parked/$vf/later-$d\n"
    "        done\n"
    "        mv $root/parked/$vf $dev/$vf; ln -s ../$vf $dev/$pf/virtfn$i\n"
    "    elif [ \"$1\" = -d ] && [ -e $dev/$vf ]; then\n"
    "        rm $dev/$pf/virtfn$i; mv $dev/$vf $root/parked/$vf\n"
    "    fi\n"
    "    i=$((i + 1))\n"
    "done\n"
    "[ \"$1\" = -e ] || i=0\n"
    "echo $i > $dev/$pf/sriov_numvfs\n"
    "if [ $i -gt 0 ]; then\n"
    "    (sleep 0.05; for vf in $(cat $root/vfs/$pf); do\n"
    "        for d in nvidia mdev_supported_types; do\n"
    "            [ ! -e $dev/$vf/later-$d ] || mv $dev/$vf/later-$d $dev/$vf/$d\n"
    "        done\n"
    "    done) >/dev/null 2>&1 &\n"
    "fi\n";

struct model *model_new(void)
{
    struct model *model = g_new0(struct model, 1);
    model->root = at_test_dir();
    model->paths = (struct at_gpu_paths){.sys = at_test_path(model->root, "sys"),
                                         .dev = at_test_path(model->root, "dev"),
                                         .proc = at_test_path(model->root, "proc")};
    g_autofree char *text = g_strdup_printf(script, model->root);
    model->host = (struct at_gpu_host){
        .paths = model->paths,
        .sriov_manage = at_test_file(model->root, "sriov-manage", text),
        .modprobe = at_test_path(model->root, "modprobe"),
        .write_timeout_ms = 2000,
    };
    g_assert_cmpint(chmod(model->host.sriov_manage, 0755), ==, 0);
    g_assert_cmpint(g_mkdir_with_parents(model->paths.proc, 0755), ==, 0);
    model->default_driver = g_ptr_array_new_with_free_func(g_free);
    model->open = g_ptr_array_new_with_free_func(g_free);
    model_add_driver(model, "vfio-pci");
    model_use(model);
    return model;
}

void model_free(struct model *model)
{
    model_use(NULL);
    model_nvml_free(model);
    g_ptr_array_unref(model->default_driver);
    g_ptr_array_unref(model->open);
    g_free(model);
}

void model_add_driver(struct model *model, const char *driver)
{
    g_autofree char *dir = g_build_filename(model->paths.sys, "bus/pci/drivers", driver, NULL);
    g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
}

/* Beginnings of configuration spaces. That of a VF has ones for its vendor and device. */
static const char config_of_card[] = "\xde\x10\x31\x23";
static const char config_of_vf[] = "\xff\xff\xff\xff\x06\x04\x10\x08\x01\x01\x02\x03";

static void put_function(const char *dir, const char *vendor, const char *class, const char *bars,
                         const char *config)
{
    const char *const files[][2] = {{"vendor", vendor},
                                    {"class", class},
                                    {"driver_override", "(null)\n"},
                                    {"numa_node", "1\n"},
                                    {"local_cpulist", "32-63\n"},
                                    {"reset_method", "flr bus\n"},
                                    {"reset", ""},
                                    {"resource", bars},
                                    {"config", config}};
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(dir, files[i][0], NULL);
        model_put(path, files[i][1]);
    }
}

static void put_group(struct model *model, const char *dir, const char *address, unsigned group)
{
    g_autofree char *members =
        g_strdup_printf("%s/kernel/iommu_groups/%u/devices", model->paths.sys, group);
    g_autofree char *entry = g_build_filename(members, address, NULL);
    g_autofree char *link = g_build_filename(dir, "iommu_group", NULL);
    g_autofree char *target = g_strdup_printf("%s/kernel/iommu_groups/%u", model->paths.sys, group);
    g_assert_cmpint(g_mkdir_with_parents(members, 0755), ==, 0);
    model_put(entry, "");
    g_assert_cmpint(symlink(target, link), ==, 0);
}

void model_add(struct model *model, const char *address, const char *vendor, const char *class,
               const char *driver, unsigned group)
{
    g_autofree char *dir = model_device(model, address, NULL);
    put_function(dir, vendor, class, SMALL_BAR NO_BAR BAR NO_BAR NO_BAR NO_BAR NO_BAR,
                 config_of_card);
    put_group(model, dir, address, group);
    if (!driver)
        return;
    model_add_driver(model, driver);
    g_ptr_array_add(model->default_driver, g_strdup(address));
    g_ptr_array_add(model->default_driver, g_strdup(driver));
    g_autofree char *target = g_build_filename("../../drivers", driver, NULL);
    g_autofree char *link = g_build_filename(dir, "driver", NULL);
    g_assert_cmpint(symlink(target, link), ==, 0);
}

void model_add_vfs(struct model *model, const char *pf, const char *slot, unsigned first,
                   unsigned n, unsigned group, const char *types)
{
    g_autofree char *vendor = model_text(model, pf, "vendor");
    g_autoptr(GString) all = g_string_new(NULL);
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *vf = g_strdup_printf("%s.%u", slot, first + i);
        g_autofree char *dir = model_parked(model, vf, NULL);
        put_function(dir, vendor, "0x030200", VF_BAR NO_BAR NO_BAR NO_BAR NO_BAR NO_BAR NO_BAR,
                     config_of_vf);
        put_group(model, dir, vf, group + i);
        g_string_append_printf(all, "%s%s", i ? "\n" : "", vf);
        if (types) {
            g_autofree char *now = model_parked(model, vf, "nvidia/current_vgpu_type");
            g_autofree char *list = model_parked(model, vf, "nvidia/creatable_vgpu_types");
            model_put(now, "0\n");
            model_put(list, types);
        }
    }
    g_autofree char *path = g_build_filename(model->root, "vfs", pf, NULL);
    g_autofree char *total = g_strdup_printf("%u\n", n);
    model_put(path, all->str);
    model_set(model, pf, "sriov_totalvfs", total);
    model_set(model, pf, "sriov_numvfs", "0\n");
    model_set(model, pf, "sriov_drivers_autoprobe", "1\n");
}

void model_add_mdev_type(struct model *model, const char *address, const char *type,
                         unsigned instances)
{
    g_autofree char *dir = model_device(model, address, NULL);
    if (!g_file_test(dir, G_FILE_TEST_IS_DIR)) {
        g_free(dir);
        dir = model_parked(model, address, NULL);
    }
    g_autofree char *n = g_strdup_printf("%u\n", instances);
    g_autofree char *types = g_build_filename(dir, "mdev_supported_types", type, NULL);
    g_autofree char *available = g_build_filename(types, "available_instances", NULL);
    g_autofree char *create = g_build_filename(types, "create", NULL);
    model_put(available, n);
    model_put(create, "");
}

void model_open_path(struct model *model, const char *path, unsigned pid, const char *comm)
{
    g_autofree char *dir = g_strdup_printf("%s/%u/fd", model->paths.proc, pid);
    g_autofree char *name = g_strdup_printf("%s/%u/comm", model->paths.proc, pid);
    g_autofree char *link = g_build_filename(dir, "7", NULL);
    g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
    g_assert_cmpint(symlink(path, link), ==, 0);
    model_put(name, comm);
}

void model_open(struct model *model, const char *address, const char *uuid, unsigned pid,
                const char *comm)
{
    const char *bus = uuid ? "bus/mdev/devices" : "bus/pci/devices";
    const char *what = uuid ? uuid : address;
    g_autofree char *link = g_build_filename(model->paths.sys, bus, what, "iommu_group", NULL);
    g_autofree char *target = g_file_read_link(link, NULL);
    g_autofree char *group = g_path_get_basename(target);
    g_autofree char *node = g_build_filename("/dev/vfio", group, NULL);
    model_open_path(model, node, pid, comm);
    g_ptr_array_add(model->open, g_strdup(what));
}

void model_close(struct model *model, unsigned pid)
{
    g_autofree char *link = g_strdup_printf("%s/%u/fd/7", model->paths.proc, pid);
    g_assert_cmpint(unlink(link), ==, 0);
    g_ptr_array_set_size(model->open, 0);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *names_in(const char *dir)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    GDir *d = g_dir_open(dir, 0, NULL);
    const char *name;
    while (d && (name = g_dir_read_name(d)))
        g_ptr_array_add(names, g_strdup(name));
    if (d)
        g_dir_close(d);
    g_ptr_array_sort(names, by_name);
    return names;
}

char *model_state(const struct model *model)
{
    static const char *const files[] = {"driver_override", "sriov_numvfs",
                                        "sriov_drivers_autoprobe", "nvidia/current_vgpu_type",
                                        "nvidia/gpu_instance_id"};
    GString *state = g_string_new(NULL);
    g_autofree char *bus = g_build_filename(model->paths.sys, "bus/pci/devices", NULL);
    g_autofree char *mdev = g_build_filename(model->paths.sys, "bus/mdev/devices", NULL);
    g_autoptr(GPtrArray) functions = names_in(bus);
    g_autoptr(GPtrArray) mdevs = names_in(mdev);
    for (unsigned i = 0; i < functions->len; i++) {
        g_autofree char *driver = model_driver(model, functions->pdata[i]);
        g_string_append_printf(state, "%s: driver %s", (char *)functions->pdata[i],
                               driver ? driver : "-");
        for (unsigned f = 0; f < G_N_ELEMENTS(files); f++) {
            g_autofree char *text = model_text(model, functions->pdata[i], files[f]);
            if (text)
                g_string_append_printf(state, ", %s %s", files[f], text);
        }
        g_string_append_c(state, '\n');
    }
    for (unsigned i = 0; i < mdevs->len; i++)
        g_string_append_printf(state, "mdev %s\n", (char *)mdevs->pdata[i]);
    g_string_append_printf(state, "%u instances\n", model_instances(model));
    return g_string_free(state, FALSE);
}
