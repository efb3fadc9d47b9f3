/* SPDX-License-Identifier: Apache-2.0 */
/* Finding cards in sysfs: every board, what stands beside it, and what it is called. */
#include <glib/gstdio.h>

#include "base/error.h"
#include "gpu/pci-names.h"
#include "lib/at-test.h"
#include "library-double.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* What the boards of one maker have in common. */
struct maker {
    uint16_t vendor;
    uint32_t class;
    uint8_t revision;
    const char *driver;
    unsigned n_bars, knows;
};
static const struct maker nvidia = {0x10de, 0x030200, 0xa1, "nvidia", 3, 0};
static const struct maker amd = {0x1002, 0x120000, 0x00, "gim", 3, 0};
static const struct maker intel = {0x8086, 0x038000, 0x08, "xe", 2, AT_GPU_KNOWS_TEMPERATURE};

struct board {
    const char *name;
    const struct maker *maker;
    uint16_t device, subsystem_device;
    unsigned vfs;
    unsigned large;      /* number of the BAR with the memory, */
    uint64_t size, rest; /* and what the others add to the window */
};

static const struct board boards[] = {
    {"h100-pcie", &nvidia, 0x2331, 0x1626, 20, 2, 128 * GIB, 48 * MIB},
    {"a100-sxm4-80", &nvidia, 0x20b2, 0x1463, 20, 1, 128 * GIB, 32 * MIB},
    {"a100-pcie-80", &nvidia, 0x20b5, 0x1533, 20, 1, 128 * GIB, 32 * MIB},
    {"l40s", &nvidia, 0x26b9, 0x1851, 32, 1, 64 * GIB, 32 * MIB},
    {"h200-sxm", &nvidia, 0x2335, 0x18be, 20, 2, 256 * GIB, 48 * MIB},
    {"rtx-pro-6000", &nvidia, 0x2bb5, 0x204e, 48, 1, 128 * GIB, 32 * MIB},
    {"mi300x", &amd, 0x74a1, 0x74a1, 8, 0, 256 * GIB, 2 * MIB},
    {"flex-170", &intel, 0x56c0, 0x4905, 31, 2, 16 * GIB, 16 * MIB},
    {"t4", &nvidia, 0x1eb8, 0x12a2, 0, 1, 256 * MIB, 32 * MIB},
};

static void check_bars(const struct at_gpu_card *card, const struct board *b)
{
    g_assert_cmpuint(card->bars->len, ==,
                     b->maker->n_bars); /* without I/O ports, ROM and VFs' BARs */
    bool found = false;
    for (unsigned i = 0; i < card->bars->len; i++) {
        const struct at_gpu_bar *bar = &g_array_index(card->bars, struct at_gpu_bar, i);
        found |= bar->index == b->large && bar->size == b->size && bar->wide && bar->prefetchable;
    }
    g_assert_true(found);
    g_assert_cmpuint(at_gpu_card_window(card), ==, b->size + b->rest);
}

static void test_board(const void *data)
{
    const struct board *b = data;
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, b->name, "0000:41:00.0", NULL);
    gpu_tree_function(tree, "0000:42:00.0", 0x8086, 0x1521, 0x020000, -1, "igb");
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmpstr(card->address, ==, "0000:41:00.0");
    g_assert_cmphex(card->vendor, ==, b->maker->vendor);
    g_assert_cmphex(card->device, ==, b->device);
    g_assert_cmphex(card->subsystem_vendor, ==, b->maker->vendor);
    g_assert_cmphex(card->subsystem_device, ==, b->subsystem_device);
    g_assert_cmphex(card->class, ==, b->maker->class);
    g_assert_cmphex(card->revision, ==, b->maker->revision);
    g_assert_cmpstr(card->driver, ==, b->maker->driver);
    g_assert_cmpint(card->iommu_group, ==, 0);
    g_assert_cmpint(card->numa_node, ==, 0);
    g_assert_cmpstr(card->cpulist, ==, "0-31,64-95");
    g_assert_cmpuint(g_strv_length(card->reset_methods), ==, 2);
    g_assert_cmpstr(card->reset_methods[0], ==, "flr");
    g_assert_cmpstr(card->reset_methods[1], ==, "bus");
    g_assert_false(card->boot_vga);
    g_assert_cmpint(card->physical_function, ==, b->vfs > 0);
    g_assert_cmpuint(card->vfs_total, ==, b->vfs);
    g_assert_cmpuint(card->vfs_on, ==, 0);
    g_assert_cmpuint(card->neighbours->len, ==, 0);
    g_assert_false(card->health.lost);
    g_assert_cmphex(card->health.known, ==, b->maker->knows);
    g_assert_nonnull(card->name);
    g_assert_null(card->obstacle[AT_GPU_PASSTHROUGH]);
    check_bars(card, b);
    const struct at_gpu_profile *whole = card->profiles->pdata[0];
    g_assert_cmpstr(whole->name, ==, "passthrough");
    g_assert_cmpint(whole->isolation, ==, AT_GPU_EXCLUSIVE);
    g_assert_cmpuint(whole->max, ==, 1);
    g_assert_cmpuint(whole->memory, ==, 0);
}

static void test_vfs(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", "0000:41:00.0",
                 &(struct gpu_tree_options){.vfs = 32, .vgpu = GPU_TREE_VENDOR});
    gpu_tree_set(tree, gpu_tree_vf(tree, "0000:41:00.0", 3), "nvidia/current_vgpu_type", "1155\n");
    const struct at_gpu_card *card = library_card(tree); /* and the VFs are no cards */
    g_assert_cmpuint(card->vfs_on, ==, 32);
    g_assert_cmpuint(card->vfs->len, ==, 32);
    for (unsigned i = 0; i < card->vfs->len; i++) {
        const struct at_gpu_vf *vf = card->vfs->pdata[i];
        g_assert_cmpstr(vf->address, ==, gpu_tree_vf(tree, "0000:41:00.0", i));
        g_assert_cmpstr(vf->driver, ==, "nvidia");
        g_assert_cmpint(vf->iommu_group, ==, gpu_tree_group(tree, vf->address));
        g_assert_true(vf->vendor_vfio);
        g_assert_cmpuint(vf->vgpu_type, ==, i == 3 ? 1155 : 0);
    }
    g_assert_cmpstr(gpu_tree_vf(tree, "0000:41:00.0", 4), ==, "0000:41:01.0");
}

static void test_neighbours(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", "0000:41:00.0",
                 &(struct gpu_tree_options){.audio = true, .foreign = true, .bridge = true});
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmpuint(card->neighbours->len, ==, 3);
    const struct at_gpu_neighbour *bridge = card->neighbours->pdata[0];
    const struct at_gpu_neighbour *audio = card->neighbours->pdata[1];
    const struct at_gpu_neighbour *nic = card->neighbours->pdata[2];
    g_assert_cmpstr(bridge->address, ==, "0000:40:01.0");
    g_assert_true(bridge->bridge);
    g_assert_false(bridge->same_card);
    g_assert_cmpstr(audio->address, ==, "0000:41:00.1");
    g_assert_cmpstr(audio->driver, ==, "snd_hda_intel");
    g_assert_cmphex(audio->class, ==, 0x040300);
    g_assert_true(audio->same_card);
    g_assert_false(audio->bridge);
    g_assert_cmpstr(nic->address, ==, "0000:42:00.0");
    g_assert_false(nic->same_card);
    g_assert_nonnull(nic->name);
}

static void test_order(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    static const char *const addresses[] = {"0000:02:00.0", "0000:41:00.0", "0000:41:00.1",
                                            "0000:c1:00.0", "0001:01:00.0", "10000:01:00.0"};
    for (unsigned i = G_N_ELEMENTS(addresses); i-- > 0;)
        gpu_tree_function(tree, addresses[i], 0x10de, 0x2331, 0x030200, (int)i, "");
    g_autoptr(GPtrArray) cards = library_discover(tree, NULL);
    g_assert_cmpuint(cards->len, ==, G_N_ELEMENTS(addresses));
    for (unsigned i = 0; i < cards->len; i++) {
        const struct at_gpu_card *card = cards->pdata[i];
        g_assert_cmpstr(card->address, ==, addresses[i]);
    }
}

static void test_classes(void)
{
    static const struct {
        unsigned class;
        bool gpu;
    } table[] = {{0x030000, true},  {0x030001, true},  {0x030200, true},  {0x038000, true},
                 {0x120000, true},  {0x030100, false}, {0x068000, false}, {0x040300, false},
                 {0x020000, false}, {0x060400, false}, {0x120100, false}};
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        struct gpu_tree *tree = gpu_tree_new();
        gpu_tree_function(tree, "0000:41:00.0", 0x10de, 0x2331, table[i].class, 1, "");
        g_autoptr(GPtrArray) cards = library_discover(tree, NULL);
        g_assert_cmpuint(cards->len, ==, table[i].gpu);
    }
}

static void test_ids(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "h100-pcie", "0000:41:00.0", NULL);
    gpu_tree_add(tree, "h100-pcie", "0000:42:00.0", &(struct gpu_tree_options){.no_serial = true});
    gpu_tree_add(tree, "h100-pcie", "0000:43:00.0", NULL);
    gpu_tree_add(tree, "h100-pcie", "0000:44:00.0", NULL);
    g_autofree char *same = gpu_tree_path(tree, "sys/bus/pci/devices/0000:43:00.0/config");
    g_autofree char *config = NULL;
    gsize len;
    g_assert_true(g_file_get_contents(same, &config, &len, NULL));
    gpu_tree_write_bytes(tree, "sys/bus/pci/devices/0000:44:00.0/config", config, len);
    gpu_tree_add(tree, "h100-pcie", "0000:45:00.0", NULL); /* root alone reads more than this: */
    gpu_tree_write_bytes(tree, "sys/bus/pci/devices/0000:45:00.0/config", config, 64);
    g_autoptr(GPtrArray) cards = library_discover(tree, NULL);
    const struct at_gpu_card *const *card = (const void *)cards->pdata;
    g_assert_cmpuint(cards->len, ==, 5);
    g_assert_true(g_regex_match_simple("^PCI-10de-2331-00044b00[0-9a-f]{8}$", card[0]->id, 0, 0));
    g_assert_cmpstr(card[1]->id, ==, "PCI-10de-2331-0000:42:00.0");
    /* Two boards with one serial number. */
    g_assert_cmpstr(card[2]->id, ==, "PCI-10de-2331-0000:43:00.0");
    g_assert_cmpstr(card[3]->id, ==, "PCI-10de-2331-0000:44:00.0");
    g_assert_cmpstr(card[4]->id, ==, "PCI-10de-2331-0000:45:00.0");
    g_assert_cmpstr(card[2]->pci_serial, ==, AT_GPU_NUMBER_SHARED);
    g_assert_null(card[4]->pci_serial);
}

/* The serial number of the function first: other drivers let it be read, too. */
static void test_ids_of_drivers(void)
{
    static const struct gpu_tree_options plain = {.driver = "amdgpu"},
                                         no_serial = {.driver = "amdgpu", .no_serial = true};
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "mi300x", "0000:41:00.0", &plain);
    gpu_tree_add(tree, "mi300x", "0000:42:00.0", &no_serial);
    gpu_tree_add(tree, "mi300x", "0000:43:00.0", &no_serial);
    gpu_tree_add(tree, "mi300x", "0000:44:00.0", &no_serial);
    gpu_tree_set(tree, "0000:42:00.0", "unique_id", "43b6b1f2a3b4c5d6\n");
    gpu_tree_set(tree, "0000:43:00.0", "unique_id", "00000000deadbeef\n");
    gpu_tree_set(tree, "0000:44:00.0", "unique_id", "00000000deadbeef\n");
    g_autoptr(GPtrArray) cards = library_discover(tree, NULL);
    const struct at_gpu_card *const *card = (const void *)cards->pdata;
    g_assert_true(g_regex_match_simple("^PCI-1002-74a1-00044b00[0-9a-f]{8}$", card[0]->id, 0, 0));
    g_assert_cmpstr(card[1]->id, ==, "UID-1002-74a1-43b6b1f2a3b4c5d6");
    g_assert_cmpstr(card[2]->id, ==, "PCI-1002-74a1-0000:43:00.0");
    g_assert_cmpstr(card[3]->unique_id, ==, AT_GPU_NUMBER_SHARED);
}

static void test_lost(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    struct at_nvml nvml = {0};
    gpu_tree_add(tree, "h100-pcie", "0000:41:00.0", &(struct gpu_tree_options){.lost = true});
    const struct at_gpu_card *card = library_card_with(tree, &nvml);
    g_assert_true(card->health.lost);
    g_assert_cmpuint(nvml.asked, ==, 0);
    for (unsigned kind = 0; kind < AT_GPU_N_KINDS; kind++)
        library_assert_says(card->obstacle[kind], "does not answer any more");
}

static void test_old_kernel(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "h100-pcie", "0000:41:00.0", NULL);
    gpu_tree_unset(tree, "0000:41:00.0", "reset_method");
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmpuint(g_strv_length(card->reset_methods), ==, 1);
    g_assert_cmpstr(card->reset_methods[0], ==, "unknown");
    g_assert_null(card->obstacle[AT_GPU_PASSTHROUGH]);
}

static bool fill_h100(struct at_gpu_card *card, GError **error)
{
    g_free(card->id);
    card->id = g_strdup("GPU-6d0a2a5e-0000-0000-0000-000000000001");
    g_free(card->name);
    card->name = g_strdup("NVIDIA H100 PCIe");
    card->memory = 80 * GIB;
    struct at_gpu_process *process = g_new0(struct at_gpu_process, 1);
    process->pid = 1234;
    g_ptr_array_add(card->processes, process);
    return true;
}

static void test_library(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    struct at_nvml nvml = {.fill = fill_h100};
    gpu_tree_add(tree, "h100-pcie", "0000:41:00.0", NULL);
    gpu_tree_write(tree, "proc/1234/comm", "python3\n");
    const struct at_gpu_card *card = library_card_with(tree, &nvml);
    g_assert_cmpstr(card->id, ==, "GPU-6d0a2a5e-0000-0000-0000-000000000001");
    g_assert_cmpstr(card->name, ==, "NVIDIA H100 PCIe");
    g_assert_null(card->unknown);
    const struct at_gpu_profile *whole = at_gpu_card_profile(card, "passthrough");
    g_assert_cmpuint(whole->memory, ==, 80 * GIB);
    const struct at_gpu_process *process = card->processes->pdata[0];
    g_assert_cmpstr(process->name, ==, "python3");
}

static void test_unknown(void)
{
    static const struct {
        const char *board, *driver, *says;
        unsigned asked;
    } table[] = {
        {"h100-pcie", "nvidia", "the library does not see 0000:41:00.0", 1},
        {"h100-pcie", "vfio-pci", "bound to vfio-pci: NVIDIA's driver is not asked", 0},
        {"h100-pcie", "nouveau", "bound to nouveau: NVIDIA's driver is not asked", 0},
        {"h100-pcie", "", "no driver is bound: NVIDIA's driver is not asked", 0},
        {"mi300x", "gim", "driver gim shows nothing of it in sysfs", 0},
        {"mi300x", "amdgpu", NULL, 0},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        struct gpu_tree *tree = gpu_tree_new();
        struct at_nvml nvml = {0};
        gpu_tree_add(tree, table[i].board, "0000:41:00.0",
                     &(struct gpu_tree_options){.driver = table[i].driver});
        g_assert_cmpstr(library_card_with(tree, &nvml)->unknown, ==, table[i].says);
        g_assert_cmpuint(nvml.asked, ==, table[i].asked);
    }
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "h100-pcie", "0000:41:00.0", NULL);
    g_assert_cmpstr(library_card(tree)->unknown, ==, "the library is not installed");
}

/* The versions are the host's: also of a card that another driver has, but of no other vendor's. */
static void test_versions(void)
{
    static const struct {
        const char *board, *driver;
        struct at_nvml nvml;
        const char *says_driver, *says_cuda, *why;
    } table[] = {
        {"l40s", "nvidia", {.driver = "580.65.06", .cuda = "13.0"}, "580.65.06", "13.0", NULL},
        {"l40s", "vfio-pci", {.driver = "580.65.06", .cuda = "13.0"}, "580.65.06", "13.0", NULL},
        {"l40s",
         "nvidia",
         {.driver = "580.65.06"},
         "580.65.06",
         NULL,
         "NVIDIA's library does not tell it"},
        {"l40s",
         "nvidia",
         {.driver = "580.65.06", .cuda = "13.0", .silent = "of different versions"},
         NULL,
         NULL,
         "of different versions"},
        {"mi300x", "gim", {.driver = "580.65.06", .cuda = "13.0"}, NULL, NULL, NULL},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        struct gpu_tree *tree = gpu_tree_new();
        struct at_nvml nvml = table[i].nvml;
        gpu_tree_add(tree, table[i].board, "0000:41:00.0",
                     &(struct gpu_tree_options){.driver = table[i].driver});
        const struct at_gpu_card *card = library_card_with(tree, &nvml);
        g_assert_cmpstr(card->driver_version, ==, table[i].says_driver);
        g_assert_cmpstr(card->cuda_version, ==, table[i].says_cuda);
        g_assert_cmpstr(card->version_unknown, ==, table[i].why);
    }
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", "0000:41:00.0", NULL);
    g_assert_cmpstr(library_card(tree)->version_unknown, ==, "the library is not installed");
}

static void test_no_pci(void)
{
    const char *dir = at_test_dir();
    struct at_gpu_paths paths = {dir, dir, dir};
    g_autoptr(GError) error = NULL;
    g_assert_null(at_gpu_discover(&paths, NULL, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_IO);
    library_assert_says(error->message, dir);
    g_assert_cmpint(g_mkdir(at_test_path(dir, "bus"), 0755), ==, 0); /* a host without PCI */
    g_autoptr(GPtrArray) cards = at_gpu_discover(&paths, NULL, NULL, NULL);
    g_assert_nonnull(cards);
    g_assert_cmpuint(cards->len, ==, 0);
}

static void test_names(void)
{
    const char *list = at_test_file(at_test_dir(), "pci.ids",
                                    "10de  NVIDIA Corporation\n"
                                    "\t2331  GH100 [H100 PCIe]\n"
                                    "\t0001  Plain\n"
                                    "\t0002  Odd []\n");
    struct at_pci_names *names = at_pci_names_open(list);
    g_autofree char *vendor = at_pci_names_vendor(names, 0x10de);
    g_autofree char *device = at_pci_names_device(names, 0x10de, 0x2331);
    g_autofree char *product = at_pci_names_product(names, 0x10de, 0x2331);
    g_autofree char *plain = at_pci_names_product(names, 0x10de, 1);
    g_autofree char *odd = at_pci_names_product(names, 0x10de, 2);
    g_autofree char *full = at_pci_names_full(names, 0x10de, 0x2331);
    g_autofree char *half = at_pci_names_full(names, 0x10de, 3);
    g_autofree char *nothing = at_pci_names_full(names, 0x1234, 3);
    g_assert_cmpstr(vendor, ==, "NVIDIA Corporation");
    g_assert_cmpstr(device, ==, "GH100 [H100 PCIe]");
    g_assert_cmpstr(product, ==, "H100 PCIe");
    g_assert_cmpstr(plain, ==, "Plain");
    g_assert_cmpstr(odd, ==, "Odd []");
    g_assert_cmpstr(full, ==, "NVIDIA Corporation GH100 [H100 PCIe]");
    g_assert_cmpstr(half, ==, "NVIDIA Corporation 0003");
    g_assert_cmpstr(nothing, ==, "1234:0003");
    g_assert_null(at_pci_names_vendor(names, 0x1234));
    at_pci_names_close(names);
}

static void test_no_names(void)
{
    const char *dir = at_test_dir();
    const char *const lists[] = {at_test_path(dir, "missing"), dir,
                                 at_test_file(dir, "bad", "rubbish\n\t\t\t\tz\n"),
                                 at_test_file_bytes(dir, "binary", "\0\xff\n\x80\0\n", 6)};
    for (unsigned i = 0; i < G_N_ELEMENTS(lists); i++) {
        struct at_pci_names *names = at_pci_names_open(lists[i]);
        for (unsigned n = 0; n < 2; n++) {
            g_autofree char *full = at_pci_names_full(names, 0x10de, 0x2331);
            g_assert_cmpstr(full, ==, "10de:2331");
        }
        at_pci_names_close(names);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(boards); i++) {
        g_autofree char *name = g_strdup_printf("/gpu/discover/board/%s", boards[i].name);
        g_test_add_data_func(name, &boards[i], test_board);
    }
    g_test_add_func("/gpu/discover/follows-the-links-to-vfs-which-are-no-cards", test_vfs);
    g_test_add_func("/gpu/discover/knows-who-shares-the-group", test_neighbours);
    g_test_add_func("/gpu/discover/goes-in-the-order-of-addresses", test_order);
    g_test_add_func("/gpu/discover/takes-displays-and-accelerators", test_classes);
    g_test_add_func("/gpu/discover/names-a-card-by-its-serial-number-else-its-place", test_ids);
    g_test_add_func("/gpu/discover/names-a-card-by-its-drivers-number-where-it-has-no-other",
                    test_ids_of_drivers);
    g_test_add_func("/gpu/discover/sees-that-a-card-fell-off-the-bus", test_lost);
    g_test_add_func("/gpu/discover/takes-a-reset-that-an-old-kernel-does-not-name",
                    test_old_kernel);
    g_test_add_func("/gpu/discover/lets-the-library-speak", test_library);
    g_test_add_func("/gpu/discover/says-why-the-library-did-not-speak", test_unknown);
    g_test_add_func("/gpu/discover/tells-the-driver-and-why-it-is-unknown", test_versions);
    g_test_add_func("/gpu/discover/tells-a-host-without-pci-from-no-sysfs", test_no_pci);
    g_test_add_func("/gpu/pci-names/are-those-of-the-list", test_names);
    g_test_add_func("/gpu/pci-names/are-numbers-without-a-list-that-can-be-read", test_no_names);
    return g_test_run();
}
