/* SPDX-License-Identifier: Apache-2.0 */
/* Why a card cannot be given: each obstacle says its cause, who stands in the way, and what to do.
 */
#include <string.h>

#include "lib/at-test.h"
#include "library-double.h"

#define CARD "0000:41:00.0"

struct row {
    const char *about; /* the rest of the test's name */
    const char *board;
    struct gpu_tree_options options;
    enum at_gpu_kind kind;
    const char *says[3]; /* all of these; none: there is no obstacle */
};

static const struct row rows[] = {
    {"no-iommu",
     "h100-pcie",
     {.no_iommu = true},
     AT_GPU_PASSTHROUGH,
     {"the IOMMU is off", "firmware", "intel_iommu=on"}},
    {"no-iommu-for-vgpus-on-vfs",
     "l40s",
     {.no_iommu = true, .vfs = 2, .vgpu = GPU_TREE_VENDOR},
     AT_GPU_VGPU,
     {"the IOMMU is off"}},
    {"mdevs-of-a-card-need-no-iommu",
     "t4",
     {.no_iommu = true, .vgpu = GPU_TREE_MDEV},
     AT_GPU_VGPU,
     {NULL}},
    {"no-iommu-for-vfs", "mi300x", {.no_iommu = true}, AT_GPU_VF, {"the IOMMU is off"}},
    {"own-functions-go-with-it", "l40s", {.audio = true, .bridge = true}, AT_GPU_PASSTHROUGH, {0}},
    {"foreign-function-in-the-group",
     "l40s",
     {.audio = true, .bridge = true, .foreign = true},
     AT_GPU_PASSTHROUGH,
     {"IOMMU group 0 is shared with 0000:42:00.0 (", ", driver igb)", "vfio-pci"}},
    {"no-reset",
     "h100-pcie",
     {.no_reset = true},
     AT_GPU_PASSTHROUGH,
     {"no way to reset it", "reset_method", "vendor-reset"}},
    {"console-in-use",
     "l40s",
     {.boot_vga = true},
     AT_GPU_PASSTHROUGH,
     {"console of the firmware", "driver nvidia", "bind vfio-pci"}},
    {"console-that-is-let-go",
     "l40s",
     {.boot_vga = true, .driver = "vfio-pci"},
     AT_GPU_PASSTHROUGH,
     {0}},
    {"vfs-that-nobody-uses-are-in-nobodys-way",
     "l40s",
     {.vfs = 3, .vgpu = GPU_TREE_VENDOR},
     AT_GPU_PASSTHROUGH,
     {0}},
    {"several-at-once",
     "h100-pcie",
     {.no_iommu = true, .no_reset = true},
     AT_GPU_PASSTHROUGH,
     {"the IOMMU is off", "; there is no way to reset it"}},
    {"vgpus-under-vfio-pci",
     "l40s",
     {.driver = "vfio-pci"},
     AT_GPU_VGPU,
     {"vGPU host driver", "the card has driver vfio-pci", "bind driver nvidia"}},
    {"vgpus-without-a-driver",
     "l40s",
     {.driver = ""},
     AT_GPU_MIG_VGPU,
     {"the card has no driver", "bind driver nvidia"}},
    {"vfs-off-and-nobody-to-ask",
     "l40s",
     {0},
     AT_GPU_VGPU,
     {"is not known (the library is not installed)", "sriov-manage -e 0000:41:00.0"}},
    {"vfs-on-without-an-interface",
     "l40s",
     {.vfs = 2},
     AT_GPU_VGPU,
     {"offers no vGPUs", "instead of the data-centre driver"}},
    {"no-sr-iov-and-no-mdevs", "t4", {0}, AT_GPU_VGPU, {"offers no vGPUs"}},
    {"vgpus-of-amd", "mi300x", {0}, AT_GPU_VGPU, {"NVIDIA's cards only"}},
    {"mig-of-intel", "flex-170", {0}, AT_GPU_MIG_VGPU, {"NVIDIA's cards only"}},
    {"vfs-of-nvidia", "h100-pcie", {0}, AT_GPU_VF, {"AMD's and Intel's cards only"}},
    {"vfs-made-by-gim", "mi300x", {0}, AT_GPU_VF, {0}},
    {"vfs-that-amdgpu-does-not-make",
     "mi300x",
     {.driver = "amdgpu"},
     AT_GPU_VF,
     {"no VF is on", "driver amdgpu", "gim"}},
    {"vfs-that-are-on-already", "mi300x", {.driver = "amdgpu", .vfs = 1}, AT_GPU_VF, {0}},
    {"vfs-made-by-i915", "flex-170", {.driver = "i915"}, AT_GPU_VF, {0}},
    {"vfs-of-intel-under-vfio-pci",
     "flex-170",
     {.driver = "vfio-pci"},
     AT_GPU_VF,
     {"no VF is on", "driver vfio-pci", "xe (or i915)"}},
};

static void check(const struct at_gpu_card *card, enum at_gpu_kind kind, const char *const *says)
{
    const char *text = card->obstacle[kind];
    if (!says[0] && text)
        g_error("expected no obstacle: %s", text);
    for (unsigned i = 0; i < 3 && says[i]; i++)
        library_assert_says(text, says[i]);
    g_assert_true(!text || !strchr(text, '\n'));
}

static void test_row(const void *data)
{
    const struct row *r = data;
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, r->board, CARD, &r->options);
    check(library_card(tree), r->kind, r->says);
}

static void test_vfs_in_use(void)
{
    static const char *const says[3] = {"1 of its VFs are in use", "release them"};
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", CARD, &(struct gpu_tree_options){.vfs = 3, .vgpu = GPU_TREE_VENDOR});
    gpu_tree_set(tree, gpu_tree_vf(tree, CARD, 1), "nvidia/current_vgpu_type", "1147\n");
    check(library_card(tree), AT_GPU_PASSTHROUGH, says);
    struct gpu_tree *intel = gpu_tree_new();
    gpu_tree_add(intel, "flex-170", CARD, &(struct gpu_tree_options){.vfs = 2});
    gpu_tree_bind(intel, gpu_tree_vf(intel, CARD, 0), "vfio-pci");
    check(library_card(intel), AT_GPU_PASSTHROUGH, says);
}

static void test_weak_reset(void)
{
    static const char *const says[3] = {"power management only", "vendor-reset"}, *const none[3] = {
                                                                                      0};
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", CARD, NULL);
    gpu_tree_set(tree, CARD, "reset_method", "pm\n");
    check(library_card(tree), AT_GPU_PASSTHROUGH, says);
    gpu_tree_set(tree, CARD, "reset_method", "pm bus\n");
    check(library_card(tree), AT_GPU_PASSTHROUGH, none);
}

/* Where the card is reset by its bus, all on it must go with it. */
static void test_bus_reset(void)
{
    static const char *const none[3] = {0};
    static const char *const says[3] = {"all on its bus",
                                        "0000:41:01.0 (IOMMU group 77, driver igb)"};
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", CARD, &(struct gpu_tree_options){.audio = true});
    gpu_tree_set(tree, CARD, "reset_method", "bus\n");
    check(library_card(tree), AT_GPU_PASSTHROUGH, none);
    gpu_tree_function(tree, "0000:41:01.0", 0x8086, 0x1521, 0x020000, 77, "igb");
    check(library_card(tree), AT_GPU_PASSTHROUGH, says);
    gpu_tree_set(tree, CARD, "reset_method", "flr bus\n");
    check(library_card(tree), AT_GPU_PASSTHROUGH, none);
}

static void test_two_cards_in_a_group(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", CARD, NULL);
    gpu_tree_add(tree, "l40s", "0000:42:00.0", &(struct gpu_tree_options){.sharing = CARD});
    g_autoptr(GPtrArray) cards = library_discover(tree, NULL);
    const struct at_gpu_card *first = cards->pdata[0], *second = cards->pdata[1];
    library_assert_says(first->obstacle[AT_GPU_PASSTHROUGH], "0000:42:00.0");
    library_assert_says(second->obstacle[AT_GPU_PASSTHROUGH], "0000:41:00.0");
}

/* With vfio-pci both could be given as far as the kernel sees it, but not to two. */
static void test_first_card_of_a_group(void)
{
    static const char *const none[3] = {0};
    static const char *const says[3] = {"only the first, 0000:41:00.0, can be given", "group"};
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", CARD, &(struct gpu_tree_options){.driver = "vfio-pci"});
    gpu_tree_add(tree, "l40s", "0000:42:00.0",
                 &(struct gpu_tree_options){.sharing = CARD, .driver = "vfio-pci"});
    g_autoptr(GPtrArray) cards = library_discover(tree, NULL);
    check(cards->pdata[0], AT_GPU_PASSTHROUGH, none);
    check(cards->pdata[1], AT_GPU_PASSTHROUGH, says);
}

static void test_viable_neighbours(void)
{
    static const char *const drivers[] = {
        "", "vfio-pci", "pci-stub", "xe-vfio-pci", "mlx5_vfio_pci", "nvgrace-gpu-vfio-pci"};
    for (unsigned i = 0; i < G_N_ELEMENTS(drivers); i++) {
        struct gpu_tree *tree = gpu_tree_new();
        gpu_tree_add(tree, "l40s", CARD, &(struct gpu_tree_options){.foreign = true});
        gpu_tree_bind(tree, "0000:42:00.0", drivers[i]);
        g_assert_null(library_card(tree)->obstacle[AT_GPU_PASSTHROUGH]);
    }
}

static void test_bridges(void)
{
    static const struct {
        uint32_t class;
        bool harmless;
    } table[] = {{0x060400, true}, {0x060900, true}, {0x060100, false}, {0x060000, false}};
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        struct gpu_tree *tree = gpu_tree_new();
        gpu_tree_add(tree, "l40s", CARD, NULL);
        gpu_tree_function(tree, "0000:42:00.0", 0x8086, 0x1521, table[i].class,
                          gpu_tree_group(tree, CARD), "some");
        g_assert_cmpint(!library_card(tree)->obstacle[AT_GPU_PASSTHROUGH], ==, table[i].harmless);
    }
}

static void test_many_neighbours(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", CARD, NULL);
    for (unsigned i = 0; i < 8; i++) {
        g_autofree char *address = g_strdup_printf("0000:42:00.%u", i);
        gpu_tree_function(tree, address, 0x8086, 0x1521, 0x020000, gpu_tree_group(tree, CARD),
                          "igb");
    }
    const struct at_gpu_card *card = library_card(tree);
    library_assert_says(card->obstacle[AT_GPU_PASSTHROUGH], "0000:42:00.3");
    library_assert_says(card->obstacle[AT_GPU_PASSTHROUGH], " and 4 more");
    g_assert_null(strstr(card->obstacle[AT_GPU_PASSTHROUGH], "0000:42:00.4"));
}

static bool with_processes(struct at_gpu_card *card, GError **error)
{
    static const unsigned pids[] = {1234, 77};
    for (unsigned i = 0; i < G_N_ELEMENTS(pids); i++) {
        struct at_gpu_process *process = g_new0(struct at_gpu_process, 1);
        process->pid = pids[i];
        g_ptr_array_add(card->processes, process);
    }
    return true;
}

static void test_processes(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    struct at_nvml nvml = {.fill = with_processes};
    gpu_tree_add(tree, "h100-pcie", CARD, NULL);
    gpu_tree_write(tree, "proc/1234/comm", "py\033[1mthon\n"); /* which anybody can choose */
    const struct at_gpu_card *card = library_card_with(tree, &nvml);
    g_assert_cmpstr(card->obstacle[AT_GPU_PASSTHROUGH], ==,
                    "in use by host process 1234 (py [1mthon), 77 (unknown): stop it");
}

/* What the library says of the vGPUs of a card, in small letters: types time-sliced (t) and
 * MIG-backed (m); MIG mode possible (c), on (o), pending (p); used by a process of the host (u). */
static const char *said;

static bool say(struct at_gpu_card *card, GError **error)
{
    if (strchr(said, 't'))
        g_ptr_array_add(card->profiles, at_gpu_profile_new("H100-20C", AT_GPU_VGPU));
    if (strchr(said, 'm'))
        g_ptr_array_add(card->profiles, at_gpu_profile_new("H100-2-20C", AT_GPU_MIG_VGPU));
    card->mig_capable = strchr(said, 'c');
    card->mig_on = strchr(said, 'o');
    card->mig_pending = strchr(said, 'p');
    if (strchr(said, 'u'))
        g_ptr_array_add(card->processes, g_new0(struct at_gpu_process, 1));
    return true;
}

static void test_library_says(void)
{
    static const struct {
        const char *said;
        unsigned vfs;
        enum at_gpu_kind kind;
        const char *says[3];
    } table[] = {
        /* That no VF is on yet keeps nobody from a vGPU. */
        {"tmc", 0, AT_GPU_VGPU, {0}},
        {"tmc", 4, AT_GPU_VGPU, {0}},
        {"tmco", 4, AT_GPU_VGPU, {"MIG mode is on", "nvidia-smi -i 0000:41:00.0 -mig 0"}},
        {"tmco", 0, AT_GPU_MIG_VGPU, {0}},
        {"tmco", 4, AT_GPU_MIG_VGPU, {0}},
        /* Nor that MIG mode is off, as long as nothing uses the card. */
        {"tmc", 4, AT_GPU_MIG_VGPU, {0}},
        {"tmcu", 4, AT_GPU_MIG_VGPU, {"MIG mode is off", "stop them"}},
        {"tmcp", 4, AT_GPU_MIG_VGPU, {"changes when it is reset", "--gpu-reset"}},
        {"t", 4, AT_GPU_MIG_VGPU, {"cannot be cut into MIG instances"}},
        {"m", 4, AT_GPU_VGPU, {"no time-sliced vGPU type for this card"}},
        {"tco", 4, AT_GPU_MIG_VGPU, {"no MIG-backed vGPU type for this card"}},
        {"", 0, AT_GPU_VGPU, {"offers no vGPUs", "data-centre driver"}},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        struct gpu_tree *tree = gpu_tree_new();
        struct at_nvml nvml = {.fill = say};
        said = table[i].said;
        gpu_tree_add(tree, "h100-pcie", CARD,
                     &(struct gpu_tree_options){.vfs = table[i].vfs, .vgpu = GPU_TREE_VENDOR});
        check(library_card_with(tree, &nvml), table[i].kind, table[i].says);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = g_strdup_printf("/gpu/obstacle/%s", rows[i].about);
        g_test_add_data_func(name, &rows[i], test_row);
    }
    g_test_add_func("/gpu/obstacle/vfs-that-somebody-uses-are-counted", test_vfs_in_use);
    g_test_add_func("/gpu/obstacle/power-management-is-no-reset-between-holders", test_weak_reset);
    g_test_add_func("/gpu/obstacle/who-would-be-reset-as-well-is-named", test_bus_reset);
    g_test_add_func("/gpu/obstacle/two-cards-in-a-group-name-each-other",
                    test_two_cards_in_a_group);
    g_test_add_func("/gpu/obstacle/gives-one-gpu-of-a-group-that-vfio-has-whole",
                    test_first_card_of_a_group);
    g_test_add_func("/gpu/obstacle/neighbours-that-let-go-are-none", test_viable_neighbours);
    g_test_add_func("/gpu/obstacle/bridges-between-pci-and-pci-are-none", test_bridges);
    g_test_add_func("/gpu/obstacle/many-neighbours-are-counted", test_many_neighbours);
    g_test_add_func("/gpu/obstacle/processes-are-named-without-their-escapes", test_processes);
    g_test_add_func("/gpu/obstacle/follows-what-the-library-says-of-vgpus", test_library_says);
    return g_test_run();
}
