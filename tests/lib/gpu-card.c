/* SPDX-License-Identifier: Apache-2.0 */
/* Cards of gpu-tree: a board's attributes, its VFs, and the files of its vGPUs. */
#include <stdio.h>
#include <string.h>

#include "lib/gpu-board.h"
#include "lib/gpu-tree-internal.h"

enum {
    CONFIG_SIZE = 4096,
    CAPABILITY_SERIAL = 0x150,
    ROM_FLAGS = 0x46200,
    VF_BAR_FLAGS = 0x14220c
};

static void set_hex(struct gpu_tree *tree, const char *address, const char *name, unsigned value,
                    int digits)
{
    g_autofree char *text = g_strdup_printf("0x%0*x\n", digits, value);
    gpu_tree_set(tree, address, name, text);
}

static void set_decimal(struct gpu_tree *tree, const char *address, const char *name,
                        unsigned value)
{
    g_autofree char *text = g_strdup_printf("%u\n", value);
    gpu_tree_set(tree, address, name, text);
}

/* Regions lie one behind the other, each aligned to its size, as firmware lays them out. */
static void append_region(GString *out, uint64_t *at, uint64_t size, unsigned flags)
{
    if (size == 0) {
        g_string_append_printf(out, "0x%016x 0x%016x 0x%016x\n", 0u, 0u, 0u);
        return;
    }
    uint64_t start = (*at + size - 1) / size * size;
    *at = start + size;
    g_string_append_printf(out,
                           "0x%016" G_GINT64_MODIFIER "x 0x%016" G_GINT64_MODIFIER "x 0x%016x\n",
                           start, *at - 1, flags);
}

/* Six BARs, the ROM, and six BARs of VFs where the card has any. */
static void write_resource(struct gpu_tree *tree, const char *address,
                           const struct gpu_board *board)
{
    g_autoptr(GString) text = g_string_new(NULL);
    uint64_t at = UINT64_C(0x200000000000);
    for (unsigned i = 0; i < G_N_ELEMENTS(board->bars); i++)
        append_region(text, &at, board->bars[i].size, board->bars[i].flags);
    append_region(text, &at, board->rom, ROM_FLAGS);
    for (unsigned i = 0; board->vfs_total > 0 && i < G_N_ELEMENTS(board->bars); i++)
        append_region(text, &at, i % 2 == 0 ? UINT64_C(16) << 20 : 0, VF_BAR_FLAGS);
    gpu_tree_set(tree, address, "resource", text->str);
}

static void put_le32(uint8_t *p, uint32_t value)
{
    value = GUINT32_TO_LE(value);
    memcpy(p, &value, sizeof value);
}

/* Advanced Error Reporting first, then the Device Serial Number, which tells the address. */
static void write_config(struct gpu_tree *tree, const char *address, const struct gpu_board *board,
                         const struct gpu_tree_options *options)
{
    uint8_t config[CONFIG_SIZE] = {0};
    put_le32(config, board->device << 16 | board->vendor);
    put_le32(config + 8, board->class_code << 8 | board->revision);
    put_le32(config + 0x100, (options->no_serial ? 0 : CAPABILITY_SERIAL) << 20 | 2 << 16 | 0x0001);
    if (!options->no_serial) {
        put_le32(config + CAPABILITY_SERIAL, 1 << 16 | 0x0003);
        put_le32(config + CAPABILITY_SERIAL + 4, g_str_hash(address));
        put_le32(config + CAPABILITY_SERIAL + 8, 0x00044b00);
    }
    if (options->lost)
        memset(config, 0xff, sizeof config);
    g_autofree char *relative = g_build_filename("sys/bus/pci/devices", address, "config", NULL);
    gpu_tree_write_bytes(tree, relative, config, sizeof config);
}

static void add_near(struct gpu_tree *tree, const char *address, int group,
                     const struct gpu_tree_options *options)
{
    unsigned domain, bus, slot, function;
    g_assert_cmpint(sscanf(address, "%x:%x:%x.%x", &domain, &bus, &slot, &function), ==, 4);
    g_autofree char *audio = g_strdup_printf("%04x:%02x:%02x.1", domain, bus, slot);
    g_autofree char *foreign = g_strdup_printf("%04x:%02x:00.0", domain, bus + 1);
    g_autofree char *bridge = g_strdup_printf("%04x:%02x:01.0", domain, bus - 1);
    if (options->audio)
        gpu_tree_function(tree, audio, 0x10de, 0x22ba, 0x040300, group, "snd_hda_intel");
    if (options->foreign)
        gpu_tree_function(tree, foreign, 0x8086, 0x1521, 0x020000, group, "igb");
    if (options->bridge)
        gpu_tree_function(tree, bridge, 0x8086, 0x352a, 0x060400, group, "pcieport");
}

static void write_mdev_types(struct gpu_tree *tree, const char *address,
                             const struct gpu_board *board)
{
    for (const struct gpu_board_type *t = board->types; t && t->id; t++) {
        g_autofree char *dir = g_strdup_printf("mdev_supported_types/nvidia-%u", t->id);
        g_autofree char *name = g_strdup_printf("%s\n", t->name);
        g_autofree char *description =
            g_strdup_printf("num_heads=4, frl_config=60, framebuffer=%uM, "
                            "max_resolution=5120x2880, max_instance=%u\n",
                            t->framebuffer_mib, t->max);
        g_autofree char *available = g_strdup_printf("%u\n", board->vfs_total ? 1 : t->max);
        const char *const files[][2] = {{"name", name},
                                        {"description", description},
                                        {"available_instances", available},
                                        {"device_api", "vfio-pci\n"},
                                        {"create", ""}};
        for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
            g_autofree char *file = g_build_filename(dir, files[i][0], NULL);
            gpu_tree_set(tree, address, file, files[i][1]);
        }
        g_autofree char *devices =
            g_build_filename(gpu_tree_sys(tree), "bus/pci/devices", address, dir, "devices", NULL);
        g_assert_cmpint(g_mkdir_with_parents(devices, 0755), ==, 0);
    }
    g_autofree char *bus = g_build_filename("sys/class/mdev_bus", address, NULL);
    g_autofree char *target = g_build_filename("../../bus/pci/devices", address, NULL);
    gpu_tree_link(tree, bus, target);
}

static void write_vendor_files(struct gpu_tree *tree, const char *address,
                               const struct gpu_board *board)
{
    g_autoptr(GString) list = g_string_new("ID    : vGPU Name\n");
    for (const struct gpu_board_type *t = board->types; t && t->id; t++)
        g_string_append_printf(list, "%-5u : %s\n", t->id, t->name);
    gpu_tree_set(tree, address, "nvidia/creatable_vgpu_types", list->str);
    gpu_tree_set(tree, address, "nvidia/current_vgpu_type", "0\n");
    gpu_tree_set(tree, address, "nvidia/gpu_instance_id", "");
    gpu_tree_set(tree, address, "nvidia/placement_id", "");
    gpu_tree_set(tree, address, "nvidia/vgpu_params", "");
    gpu_tree_set(tree, address, "nvidia/warm_update", "0\n");
}

static void write_vgpu(struct gpu_tree *tree, const char *address, const struct gpu_board *board,
                       enum gpu_tree_vgpu vgpu)
{
    if (board->types && vgpu == GPU_TREE_MDEV)
        write_mdev_types(tree, address, board);
    else if (board->types && vgpu == GPU_TREE_VENDOR)
        write_vendor_files(tree, address, board);
}

static void link_function(struct gpu_tree *tree, const char *address, const char *name,
                          const char *other)
{
    g_autofree char *bus = g_strndup(other, strlen("0000:41"));
    g_autofree char *relative = g_build_filename("sys/bus/pci/devices", address, name, NULL);
    g_autofree char *target = g_strdup_printf("../../pci%s/%s", bus, other);
    gpu_tree_link(tree, relative, target);
}

static void add_vf(struct gpu_tree *tree, const char *address, const struct gpu_board *board,
                   unsigned n, const struct gpu_tree_options *options)
{
    unsigned domain, bus, slot, function;
    g_assert_cmpint(sscanf(address, "%x:%x:%x.%x", &domain, &bus, &slot, &function), ==, 4);
    unsigned id = (bus << 8 | slot << 3 | function) + board->vf_offset + n;
    g_autofree char *vf =
        g_strdup_printf("%04x:%02x:%02x.%x", domain, id >> 8, id >> 3 & 0x1f, id & 7);
    g_autofree char *link = g_strdup_printf("virtfn%u", n);
    gpu_tree_function(tree, vf, board->vendor, board->vf_device, board->class_code,
                      options->no_iommu ? -1 : tree->next_group,
                      options->driver ? options->driver : board->driver);
    set_hex(tree, vf, "subsystem_vendor", board->subsystem_vendor, 4);
    set_hex(tree, vf, "subsystem_device", board->subsystem_device, 4);
    set_hex(tree, vf, "revision", board->revision, 2);
    gpu_tree_set(tree, vf, "reset_method", "flr bus\n");
    gpu_tree_set(tree, vf, "reset", "");
    link_function(tree, vf, "physfn", address);
    link_function(tree, address, link, vf);
    write_vgpu(tree, vf, board, options->vgpu);
}

static void write_sriov(struct gpu_tree *tree, const char *address, const struct gpu_board *board,
                        const struct gpu_tree_options *options)
{
    g_assert_cmpuint(options->vfs, <=, board->vfs_total);
    if (board->vfs_total == 0)
        return;
    set_decimal(tree, address, "sriov_totalvfs", board->vfs_total);
    set_decimal(tree, address, "sriov_numvfs", options->vfs);
    set_decimal(tree, address, "sriov_offset", board->vf_offset);
    set_decimal(tree, address, "sriov_stride", 1);
    set_decimal(tree, address, "sriov_drivers_autoprobe", 1);
    g_autofree char *device = g_strdup_printf("%x\n", board->vf_device);
    gpu_tree_set(tree, address, "sriov_vf_device", device);
    for (unsigned i = 0; i < options->vfs; i++)
        add_vf(tree, address, board, i, options);
}

static int group_of(struct gpu_tree *tree, const struct gpu_tree_options *options)
{
    if (options->no_iommu)
        return -1;
    return options->sharing ? gpu_tree_group(tree, options->sharing) : tree->next_group;
}

const char *gpu_tree_add(struct gpu_tree *tree, const char *name, const char *address,
                         const struct gpu_tree_options *options)
{
    static const struct gpu_tree_options as_it_comes;
    const struct gpu_board *board = gpu_board_find(name);
    options = options ? options : &as_it_comes;
    int group = group_of(tree, options);
    gpu_tree_function(tree, address, board->vendor, board->device, board->class_code, group,
                      options->driver ? options->driver : board->driver);
    set_hex(tree, address, "subsystem_vendor", board->subsystem_vendor, 4);
    set_hex(tree, address, "subsystem_device", board->subsystem_device, 4);
    set_hex(tree, address, "revision", board->revision, 2);
    gpu_tree_set(tree, address, "current_link_speed", "32.0 GT/s PCIe\n");
    gpu_tree_set(tree, address, "current_link_width", "16\n");
    if (!options->no_reset) {
        gpu_tree_set(tree, address, "reset_method", "flr bus\n");
        gpu_tree_set(tree, address, "reset", "");
    }
    if (options->boot_vga) {
        set_hex(tree, address, "class", 0x030000, 6);
        gpu_tree_set(tree, address, "boot_vga", "1\n");
    }
    g_autofree char *unique = g_strdup_printf("%08x%08x", 0x6b1f0a2cu, g_str_hash(address));
    gpu_tree_show_health(tree, address, options->no_unique ? "" : unique);
    write_resource(tree, address, board);
    write_config(tree, address, board, options);
    add_near(tree, address, group, options);
    if (board->vfs_total == 0)
        write_vgpu(tree, address, board, options->vgpu);
    write_sriov(tree, address, board, options);
    return address;
}
