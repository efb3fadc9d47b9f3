/* SPDX-License-Identifier: Apache-2.0 */
/* Trees that no kernel would show: discovery ends, nothing is read out of bounds, what is found is
 * within its limits, and what cannot be read is unknown. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gpu/attribute.h"
#include "gpu/card-internal.h"
#include "gpu/function.h"
#include "lib/at-test.h"
#include "library-double.h"

/* A sanitizer makes everything several times slower. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { ROUNDS = 160 };
#else
enum { ROUNDS = 320 };
#endif
enum { CHANGES_MAX = 12 };

static struct gpu_tree *full_tree(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", "0000:21:00.0",
                 &(struct gpu_tree_options){.vfs = 3, .vgpu = GPU_TREE_VENDOR});
    gpu_tree_add(tree, "a100-pcie-80", "0000:41:00.0",
                 &(struct gpu_tree_options){.vfs = 2, .vgpu = GPU_TREE_MDEV});
    gpu_tree_add(tree, "t4", "0000:61:00.0",
                 &(struct gpu_tree_options){
                     .audio = true, .foreign = true, .bridge = true, .vgpu = GPU_TREE_MDEV});
    gpu_tree_add(tree, "mi300x", "0000:81:00.0", NULL);
    gpu_tree_mdev(tree, "0000:61:00.0", "11111111-1111-1111-1111-111111111111", "nvidia-231");
    return tree;
}

/* Every file and link below a directory, which is not followed out of. */
static void collect(const char *dir, GPtrArray *paths)
{
    g_autoptr(GPtrArray) names = at_gpu_attr_list(dir, AT_GPU_LIST_MAX, NULL);
    for (unsigned i = 0; names && i < names->len; i++) {
        char *path = g_build_filename(dir, names->pdata[i], NULL);
        struct stat st;
        g_ptr_array_add(paths, path);
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            collect(path, paths);
    }
}

static bool is_file(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static void write_random(GRand *rand, const char *path, size_t len)
{
    g_autofree char *data = g_malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        data[i] = (char)g_rand_int_range(rand, 0, 256);
    FILE *f = fopen(path, "we");
    if (!f)
        return;
    fwrite(data, 1, len, f);
    fclose(f);
}

static void write_word(GRand *rand, const char *path)
{
    static const char *const words[] = {"",
                                        "\n",
                                        "0x",
                                        "0xffffffffffffffffff\n",
                                        "-1\n",
                                        "99999999999999999999",
                                        "65535",
                                        "0x0302",
                                        "0x030200 \n",
                                        "(null)\n",
                                        ":\n",
                                        "1147 : NVIDIA L40S-1Q\n",
                                        "%s%n",
                                        "\033[2J",
                                        "4294967295\n",
                                        "framebuffer=16777217M, max_instance=0\n"};
    FILE *f = fopen(path, "we");
    if (!f)
        return;
    fputs(words[g_rand_int_range(rand, 0, G_N_ELEMENTS(words))], f);
    fclose(f);
}

static void relink(GRand *rand, const char *path, const GPtrArray *paths)
{
    const char *other = paths->pdata[g_rand_int_range(rand, 0, (gint32)paths->len)];
    const char *const targets[] = {
        path,           "..", "/", "", "nowhere", other, "../../../kernel/iommu_groups/99999999999",
        "\xff\x01/\x02"};
    const char *target = targets[g_rand_int_range(rand, 0, G_N_ELEMENTS(targets))];
    if (unlink(path) == 0 && symlink(target, path) != 0)
        g_assert_true(errno == ENOENT); /* an empty target is none */
}

/* One change to one entry of the tree. */
static void disturb(GRand *rand, const GPtrArray *paths)
{
    const char *path = paths->pdata[g_rand_int_range(rand, 0, (gint32)paths->len)];
    switch (g_rand_int_range(rand, 0, 7)) {
    case 0:
        unlink(path);
        break;
    case 1:
        if (is_file(path))
            write_random(rand, path, (size_t)g_rand_int_range(rand, 0, 200));
        break;
    case 2:
        if (is_file(path))
            write_word(rand, path);
        break;
    case 3:
        relink(rand, path, paths);
        break;
    case 4:
        if (unlink(path) == 0)
            g_assert_cmpint(mkdir(path, 0755), ==, 0);
        break;
    case 5:
        if (unlink(path) == 0)
            g_assert_cmpint(mkfifo(path, 0644), ==, 0);
        break;
    default:
        if (is_file(path))
            write_random(rand, path, AT_GPU_ATTR_MAX + 10);
    }
}

static void check_card(const struct at_gpu_card *card)
{
    g_assert_nonnull(card->id);
    g_assert_nonnull(card->name);
    g_assert_nonnull(card->unknown);
    g_assert_nonnull(card->reset_methods);
    g_assert_true(g_utf8_validate(card->driver ? card->driver : "", -1, NULL));
    g_assert_cmpuint(card->vfs->len, <=, AT_PCI_VFS_MAX);
    g_assert_cmpuint(card->bars->len, <=, 6);
    g_assert_cmpint(card->iommu_group, >=, -1);
    g_assert_cmpint(card->numa_node, >=, -1);
    for (unsigned i = 0; i < card->profiles->len; i++) {
        const struct at_gpu_profile *p = card->profiles->pdata[i];
        g_assert_cmpuint(p->max, >=, 1);
        g_assert_cmpint(p->kind, !=, AT_GPU_MIG_VGPU);
        g_assert_true(at_gpu_card_profile(card, p->name) == p); /* no name twice */
    }
    for (unsigned kind = 0; kind < AT_GPU_N_KINDS; kind++) {
        const char *text = card->obstacle[kind];
        g_assert_true(!text || (g_utf8_validate(text, -1, NULL) && !strpbrk(text, "\n\033")));
    }
}

static void test_disturbed(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(41);
    unsigned found = 0;
    for (unsigned round = 0; round < ROUNDS;) {
        struct gpu_tree *tree = full_tree();
        g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
        collect(gpu_tree_sys(tree), paths);
        /* It gets worse and worse, until there is not much left to disturb. */
        for (unsigned worse = 0; worse < 40; worse++, round++) {
            unsigned changes = (unsigned)g_rand_int_range(rand, 1, CHANGES_MAX);
            for (unsigned i = 0; i < changes; i++)
                disturb(rand, paths);
            struct at_gpu_paths roots = {gpu_tree_sys(tree), gpu_tree_dev(tree),
                                         gpu_tree_proc(tree)};
            g_autoptr(GPtrArray) cards = at_gpu_discover(&roots, NULL, "nobody to ask", NULL);
            for (unsigned i = 0; cards && i < cards->len; i++)
                check_card(cards->pdata[i]);
            found += cards ? cards->len : 0;
        }
    }
    g_assert_cmpuint(found, >, ROUNDS); /* it was not all over at once */
}

static void test_missing(void)
{
    static const char *const files[] = {
        "vendor", "device",    "subsystem_vendor", "subsystem_device", "revision",
        "config", "numa_node", "local_cpulist",    "resource",         "reset_method",
        "reset",  "driver",    "sriov_totalvfs",   "sriov_numvfs",     "iommu_group"};
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "h100-pcie", "0000:41:00.0", NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++)
        gpu_tree_unset(tree, "0000:41:00.0", files[i]);
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmpstr(card->id, ==, "PCI-0000-0000-0000:41:00.0");
    g_assert_cmpstr(card->name, ==, "0000:0000");
    g_assert_null(card->driver);
    g_assert_null(card->cpulist);
    g_assert_cmpint(card->iommu_group, ==, -1);
    g_assert_cmpint(card->numa_node, ==, -1);
    g_assert_cmpuint(card->bars->len, ==, 0);
    g_assert_false(card->physical_function);
    g_assert_false(card->health.lost); /* which is not what a missing file says */
    check_card(card);
}

static void test_too_long(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    g_autofree char *digits = g_strnfill(1 << 20, '1');
    gpu_tree_add(tree, "l40s", "0000:41:00.0",
                 &(struct gpu_tree_options){.vfs = 1, .vgpu = GPU_TREE_VENDOR});
    gpu_tree_set(tree, "0000:41:00.0", "local_cpulist", digits);
    gpu_tree_set(tree, "0000:41:00.0", "resource", digits);
    gpu_tree_set(tree, gpu_tree_vf(tree, "0000:41:00.0", 0), "nvidia/creatable_vgpu_types", digits);
    const struct at_gpu_card *card = library_card(tree);
    g_assert_null(card->cpulist);
    g_assert_cmpuint(card->bars->len, ==, 0);
    g_assert_cmpuint(card->profiles->len, ==, 1);
}

/* Capabilities that point at each other, and a serial number that ends beyond the space. */
static void test_config(void)
{
    static const uint32_t circles[][2] = {{0x10000001, 0x10010001}, {0x20000001, 0x20010001},
                                          {0xffc00001, 0x00010003}, {0x0ff10001, 0x00010003},
                                          {0xffffffff, 0xffffffff}, {0, 0}};
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "h100-pcie", "0000:41:00.0", NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(circles); i++) {
        uint32_t config[1024] = {0x233110de};
        config[0x100 / 4] = GUINT32_TO_LE(circles[i][0]);
        config[0x200 / 4] = config[0xffc / 4] = GUINT32_TO_LE(circles[i][1]);
        gpu_tree_write_bytes(tree, "sys/bus/pci/devices/0000:41:00.0/config", config,
                             sizeof config);
        g_assert_cmpstr(library_card(tree)->id, ==, "PCI-10de-2331-0000:41:00.0");
    }
}

static void test_vf_links(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", "0000:41:00.0", NULL);
    for (unsigned i = 0; i < 1000; i++) {
        g_autofree char *link = g_strdup_printf("sys/bus/pci/devices/0000:41:00.0/virtfn%u", i);
        g_autofree char *target =
            g_strdup_printf("../0000:%02x:%02x.%u", i / 128, i / 8 % 16, i % 8);
        gpu_tree_link(tree, link, i == 3 ? "../0000:41:00.0" : i == 4 ? "rubbish" : target);
    }
    gpu_tree_link(tree, "sys/bus/pci/devices/0000:41:00.0/virtfn9", "../0000:00:01.0");
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmpuint(card->vfs->len, ==, AT_PCI_VFS_MAX - 3); /* itself, rubbish, and one twice */
}

static void test_many_functions(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "h100-pcie", "0000:41:00.0", NULL);
    for (unsigned i = 0; i < AT_GPU_FUNCTIONS_MAX + 500; i++) {
        g_autofree char *link =
            g_strdup_printf("sys/bus/pci/devices/%04x:%02x:00.0", 1 + i / 256, i % 256);
        gpu_tree_link(tree, link, "../../../devices/pci0000:41/0000:41:00.0");
    }
    g_autoptr(GPtrArray) cards = library_discover(tree, NULL);
    g_assert_cmpuint(cards->len, <=, AT_GPU_FUNCTIONS_MAX);
    g_assert_cmpuint(cards->len, >=, AT_GPU_FUNCTIONS_MAX - 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/hostile/missing-files-are-unknown", test_missing);
    g_test_add_func("/gpu/hostile/files-without-an-end-are-unknown", test_too_long);
    g_test_add_func("/gpu/hostile/capabilities-in-a-circle-end", test_config);
    g_test_add_func("/gpu/hostile/links-to-vfs-are-bounded", test_vf_links);
    g_test_add_func("/gpu/hostile/functions-are-bounded", test_many_functions);
    g_test_add_func("/gpu/hostile/disturbed-trees-are-read-to-the-end", test_disturbed);
    return g_test_run();
}
