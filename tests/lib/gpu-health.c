/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's drivers show of a card in sysfs, as their documents say it (they are named in
 * src/gpu/card-driver.c and card-ras.c). No such card was looked at. */
#include <unistd.h>

#include "lib/gpu-tree-internal.h"

struct file {
    const char *name, *text;
};

/* An MI300X has no sensor of its edge, and tells the power that it takes in. */
static const struct file amdgpu[] = {{"mem_info_vram_total", "206141652992\n"},
                                     {"mem_info_vram_used", "297103360\n"},
                                     {"mem_info_vis_vram_total", "206141652992\n"},
                                     {"mem_info_vis_vram_used", "297103360\n"},
                                     {"mem_info_vram_vendor", "hynix\n"},
                                     {"gpu_busy_percent", "0\n"},
                                     {"mem_busy_percent", "0\n"},
                                     {"product_name", "AMD Instinct MI300X OAM\n"},
                                     {"product_number", "102-G30211-0C\n"},
                                     {"hwmon/hwmon3/name", "amdgpu\n"},
                                     {"hwmon/hwmon3/temp2_input", "41000\n"},
                                     {"hwmon/hwmon3/temp2_label", "junction\n"},
                                     {"hwmon/hwmon3/temp3_input", "36000\n"},
                                     {"hwmon/hwmon3/temp3_label", "mem\n"},
                                     {"hwmon/hwmon3/power1_input", "139000000\n"},
                                     {"hwmon/hwmon3/power1_cap", "750000000\n"},
                                     {"hwmon/hwmon3/power1_label", "PPT\n"},
                                     {"ras/features", "feature mask: 0x6ffd\n"},
                                     {"ras/umc_err_count", "ue: 0\nce: 2\nde: 0\n"},
                                     {"ras/gfx_err_count", "ue: 0\nce: 0\n"},
                                     {"ras/gpu_vram_bad_pages", ""},
                                     {NULL, NULL}};

/* Of both of Intel's drivers: the power that may be drawn and the energy that was, not the power.
 */
static const struct file xe[] = {{"hwmon/hwmon4/name", "xe\n"},
                                 {"hwmon/hwmon4/energy1_input", "87234500000\n"},
                                 {"hwmon/hwmon4/power1_max", "150000000\n"},
                                 {"hwmon/hwmon4/temp2_input", "38000\n"},
                                 {"hwmon/hwmon4/temp2_label", "pkg\n"},
                                 {"hwmon/hwmon4/temp3_input", "40000\n"},
                                 {"hwmon/hwmon4/temp3_label", "vram\n"},
                                 {"tile0/gt0/gtidle/name", "gt0-rc\n"},
                                 {NULL, NULL}};

static const struct file i915[] = {{"hwmon/hwmon4/name", "i915\n"},
                                   {"hwmon/hwmon4/energy1_input", "87234500000\n"},
                                   {"hwmon/hwmon4/power1_max", "150000000\n"},
                                   {"hwmon/hwmon4/temp1_input", "37000\n"},
                                   {"drm/card1/gt/gt0/id", "0\n"},
                                   {NULL, NULL}};

static bool has_driver(struct gpu_tree *tree, const char *address, const char *driver)
{
    g_autofree char *path =
        g_build_filename(gpu_tree_sys(tree), "bus/pci/devices", address, "driver", NULL);
    g_autofree char *target = g_file_read_link(path, NULL);
    g_autofree char *name = target ? g_path_get_basename(target) : NULL;
    return g_strcmp0(name, driver) == 0;
}

static void write_files(struct gpu_tree *tree, const char *address, const struct file *files)
{
    for (; files->name; files++)
        gpu_tree_set(tree, address, files->name, files->text);
}

void gpu_tree_show_health(struct gpu_tree *tree, const char *address, const char *unique)
{
    if (has_driver(tree, address, "amdgpu")) {
        g_autofree char *line = *unique ? g_strconcat(unique, "\n", NULL) : g_strdup("");
        write_files(tree, address, amdgpu);
        gpu_tree_set(tree, address, "unique_id", line);
    } else if (has_driver(tree, address, "xe")) {
        write_files(tree, address, xe);
    } else if (has_driver(tree, address, "i915")) {
        write_files(tree, address, i915);
    }
}

static void hide(struct gpu_tree *tree, const char *address, const char *name)
{
    g_auto(GStrv) parts = g_strsplit(name, "/", 2);
    g_autofree char *path =
        g_build_filename(gpu_tree_sys(tree), "bus/pci/devices", address, parts[0], NULL);
    if (access(path, F_OK) == 0)
        gpu_tree_unset(tree, address, parts[0]);
}

void gpu_tree_hide_health(struct gpu_tree *tree, const char *address)
{
    static const struct file *const all[] = {amdgpu, xe, i915};
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        for (const struct file *f = all[i]; f->name; f++)
            hide(tree, address, f->name);
    }
    static const char *const others[] = {"unique_id", "serial_number", "drm"};
    for (unsigned i = 0; i < G_N_ELEMENTS(others); i++)
        hide(tree, address, others[i]);
}
