/* SPDX-License-Identifier: Apache-2.0 */
/* vGPUs as sysfs shows them: by which interface, which types, which exist; and what is offered. */
#include <string.h>

#include "gpu/attribute.h"
#include "gpu/resource.h"
#include "gpu/vgpu-list.h"
#include "lib/at-test.h"
#include "library-double.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define CARD "0000:41:00.0"

static const struct at_gpu_profile *profile(const struct at_gpu_card *card, const char *name)
{
    const struct at_gpu_profile *p = at_gpu_card_profile(card, name);
    if (!p)
        g_error("no profile %s", name);
    return p;
}

static void check_time_sliced(const struct at_gpu_card *card, const char *name, unsigned type_id,
                              uint64_t memory, unsigned max)
{
    const struct at_gpu_profile *p = profile(card, name);
    g_assert_cmpint(p->kind, ==, AT_GPU_VGPU);
    g_assert_cmpint(p->isolation, ==, AT_GPU_SHARED);
    g_assert_cmpuint(p->type_id, ==, type_id);
    g_assert_cmpuint(p->memory, ==, memory);
    g_assert_cmpuint(p->max, ==, max);
    g_assert_cmpuint(p->max_mixed, ==, 0);
}

static unsigned count_kind(const struct at_gpu_card *card, enum at_gpu_kind kind)
{
    unsigned n = 0;
    for (unsigned i = 0; i < card->profiles->len; i++) {
        const struct at_gpu_profile *p = card->profiles->pdata[i];
        n += p->kind == kind;
    }
    return n;
}

static void test_mdev_on_card(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "t4", CARD, &(struct gpu_tree_options){.vgpu = GPU_TREE_MDEV});
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmpint(card->vgpu, ==, AT_GPU_VGPU_MDEV);
    g_assert_cmpuint(count_kind(card, AT_GPU_VGPU), ==, 8);
    check_time_sliced(card, "T4-1Q", 230, 1024 * MIB, 16);
    check_time_sliced(card, "T4-16Q", 234, 16384 * MIB, 1);
    check_time_sliced(card, "T4-2B4", 225, 2048 * MIB, 8);
    g_assert_null(card->obstacle[AT_GPU_VGPU]);
}

static void test_mdev_on_vfs(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "a100-pcie-80", CARD,
                 &(struct gpu_tree_options){.vfs = 20, .vgpu = GPU_TREE_MDEV});
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmpint(card->vgpu, ==, AT_GPU_VGPU_MDEV);
    check_time_sliced(card, "A100D-20C", 1024, 20480 * MIB, 4);
    /* The geometry of the others stands nowhere: they are named, and not offered. */
    g_assert_null(at_gpu_card_profile(card, "A100D-2-20C"));
    g_assert_cmpuint(count_kind(card, AT_GPU_MIG_VGPU), ==, 0);
    library_assert_says(card->obstacle[AT_GPU_MIG_VGPU], "A100D-2-20C");
    library_assert_says(card->obstacle[AT_GPU_MIG_VGPU], "the library is not installed");
    g_assert_null(card->obstacle[AT_GPU_VGPU]);
}

static void test_vendor(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", CARD,
                 &(struct gpu_tree_options){.vfs = 32, .vgpu = GPU_TREE_VENDOR});
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmpint(card->vgpu, ==, AT_GPU_VGPU_VENDOR);
    check_time_sliced(card, "L40S-1Q", 1147, GIB, 32); /* as many as there are VFs */
    check_time_sliced(card, "L40S-12Q", 1153, 12 * GIB, 4);
    check_time_sliced(card, "L40S-48A", 1166, 48 * GIB, 1);
    g_assert_null(card->obstacle[AT_GPU_VGPU]);
    library_assert_says(card->obstacle[AT_GPU_MIG_VGPU], "only NVIDIA's library knows");
}

/* Beside a vGPU the driver lists types of its size only, or none when the card is full. */
static void test_vendor_in_use(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "l40s", CARD,
                 &(struct gpu_tree_options){.vfs = 32, .vgpu = GPU_TREE_VENDOR});
    for (unsigned i = 0; i < 32; i++)
        gpu_tree_set(tree, gpu_tree_vf(tree, CARD, i), "nvidia/creatable_vgpu_types",
                     i < 2 ? "ID    : vGPU Name\n"
                           : "ID    : vGPU Name\n1153  : NVIDIA L40S-12Q\n");
    gpu_tree_set(tree, gpu_tree_vf(tree, CARD, 0), "nvidia/current_vgpu_type", "1153\n");
    gpu_tree_set(tree, gpu_tree_vf(tree, CARD, 1), "nvidia/current_vgpu_type", "1153\n");
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmpuint(count_kind(card, AT_GPU_VGPU), ==, 1);
    check_time_sliced(card, "L40S-12Q", 1153, 12 * GIB, 3); /* two and one more, for certain */

    for (unsigned i = 0; i < 32; i++)
        gpu_tree_set(tree, gpu_tree_vf(tree, CARD, i), "nvidia/creatable_vgpu_types",
                     "ID    : vGPU Name\n");
    const struct at_gpu_card *full = library_card(tree);
    g_assert_cmpuint(count_kind(full, AT_GPU_VGPU), ==, 0);
    library_assert_says(full->obstacle[AT_GPU_VGPU], "can be made on it at present");
}

static void test_boards_with_vendor_types(void)
{
    static const struct {
        const char *board, *offered, *left_out;
    } table[] = {
        {"h100-pcie", "H100-20C", "H100-1-10CME"},
        {"h200-sxm", "H200X-141C", "H200X-3-71C"},
        {"a100-sxm4-80", "A100DX-40C", "A100DX-3-40C"},
        {"rtx-pro-6000", "RTX Pro 6000 Blackwell DC-48Q", "RTX Pro 6000 Blackwell DC-2-48Q"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        struct gpu_tree *tree = gpu_tree_new();
        gpu_tree_add(tree, table[i].board, CARD,
                     &(struct gpu_tree_options){.vfs = 4, .vgpu = GPU_TREE_VENDOR});
        const struct at_gpu_card *card = library_card(tree);
        g_assert_cmpint(card->vgpu, ==, AT_GPU_VGPU_VENDOR);
        profile(card, table[i].offered);
        g_assert_null(at_gpu_card_profile(card, table[i].left_out));
        library_assert_says(card->obstacle[AT_GPU_MIG_VGPU], table[i].left_out);
    }
}

static void test_mdevs(void)
{
    static const char *const uuids[] = {"11111111-1111-1111-1111-111111111111",
                                        "22222222-2222-2222-2222-222222222222",
                                        "33333333-3333-3333-3333-333333333333"};
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "t4", CARD, &(struct gpu_tree_options){.vgpu = GPU_TREE_MDEV});
    gpu_tree_add(tree, "a100-pcie-80", "0000:81:00.0",
                 &(struct gpu_tree_options){.vfs = 2, .vgpu = GPU_TREE_MDEV});
    const char *vf = gpu_tree_vf(tree, "0000:81:00.0", 1);
    gpu_tree_mdev(tree, CARD, uuids[0], "nvidia-231");
    gpu_tree_mdev(tree, vf, uuids[1], "nvidia-1024");
    gpu_tree_function(tree, "0000:05:00.0", 0x8086, 1, 0x020000, 77, "");
    gpu_tree_mdev(tree, "0000:05:00.0", uuids[2], "other-1"); /* of no GPU */
    g_autoptr(GPtrArray) cards = library_discover(tree, NULL);
    const struct at_gpu_card *t4 = cards->pdata[0], *a100 = cards->pdata[1];
    g_assert_cmpuint(t4->mdevs->len, ==, 1);
    g_assert_cmpuint(a100->mdevs->len, ==, 1);
    const struct at_gpu_mdev *first = t4->mdevs->pdata[0], *second = a100->mdevs->pdata[0];
    g_assert_cmpstr(first->uuid, ==, uuids[0]);
    g_assert_cmpstr(first->parent, ==, CARD);
    g_assert_cmpuint(first->type_id, ==, 231);
    g_assert_cmpstr(first->type, ==, "nvidia-231");
    g_assert_cmpstr(second->parent, ==, vf);
    g_assert_cmpuint(second->type_id, ==, 1024);
    library_assert_says(t4->obstacle[AT_GPU_PASSTHROUGH], uuids[0]);
}

static bool fill_with_types(struct at_gpu_card *card, GError **error)
{
    struct at_gpu_profile *p = at_gpu_profile_new("L40S-24Q", AT_GPU_VGPU);
    p->max = 2;
    p->max_mixed = 1;
    g_ptr_array_add(card->profiles, p);
    return true;
}

static void test_library_wins(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    struct at_nvml nvml = {.fill = fill_with_types};
    gpu_tree_add(tree, "l40s", CARD,
                 &(struct gpu_tree_options){.vfs = 32, .vgpu = GPU_TREE_VENDOR});
    const struct at_gpu_card *card = library_card_with(tree, &nvml);
    g_assert_cmpint(card->vgpu, ==, AT_GPU_VGPU_VENDOR);
    g_assert_cmpuint(card->profiles->len, ==, 2); /* with passthrough */
    g_assert_cmpuint(profile(card, "L40S-24Q")->max_mixed, ==, 1);
}

static void test_vf_profiles(void)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "mi300x", CARD, NULL);
    gpu_tree_add(tree, "flex-170", "0000:81:00.0", &(struct gpu_tree_options){.vfs = 5});
    gpu_tree_add(tree, "h100-pcie", "0000:c1:00.0", NULL);
    g_autoptr(GPtrArray) cards = library_discover(tree, NULL);
    const struct at_gpu_profile *amd = profile(cards->pdata[0], "vf");
    const struct at_gpu_profile *intel = profile(cards->pdata[1], "vf");
    g_assert_cmpint(amd->kind, ==, AT_GPU_VF);
    g_assert_cmpint(amd->isolation, ==, AT_GPU_HARDWARE);
    g_assert_cmpuint(amd->max, ==, 8);
    g_assert_cmpint(intel->isolation, ==, AT_GPU_SHARED);
    g_assert_cmpuint(intel->max, ==, 5); /* what is on */
    g_assert_null(at_gpu_card_profile(cards->pdata[2], "vf"));
}

/* Only AMD's accelerators are known to give each VF a partition of its own. */
static void test_vfs_that_take_turns(void)
{
    static const char *const classes[] = {"0x030000\n", "0x030200\n", "0x038000\n"};
    for (unsigned i = 0; i < G_N_ELEMENTS(classes); i++) {
        struct gpu_tree *tree = gpu_tree_new();
        gpu_tree_add(tree, "mi300x", CARD, NULL);
        gpu_tree_set(tree, CARD, "class", classes[i]);
        g_autoptr(GPtrArray) cards = library_discover(tree, NULL);
        g_assert_cmpint(profile(cards->pdata[0], "vf")->isolation, ==, AT_GPU_SHARED);
    }
}

static void test_creatable(void)
{
    g_autoptr(GArray) types = at_vgpu_types_new();
    at_vgpu_creatable_parse("1145:NVIDIA L40S-1B\n  1147  :  NVIDIA L40S-1Q  \n"
                            "x : NVIDIA L40S-2Q\n0 : NVIDIA L40S-3Q\n1147 : again\n"
                            "1148 :\nno colon\n-5 : NVIDIA L40S-4Q\n99999999999 : NVIDIA L40S-6Q",
                            types);
    g_assert_cmpuint(types->len, ==, 2);
    const struct at_vgpu_type *t = &g_array_index(types, struct at_vgpu_type, 0);
    g_assert_cmpuint(t[0].id, ==, 1145);
    g_assert_cmpstr(t[0].name, ==, "L40S-1B");
    g_assert_cmpuint(t[1].id, ==, 1147);
    g_assert_cmpstr(t[1].name, ==, "L40S-1Q");
    g_autoptr(GString) many = g_string_new(NULL);
    for (unsigned i = 1; i < 4000; i++)
        g_string_append_printf(many, "%u : NVIDIA L40S-1Q\n", i);
    at_vgpu_creatable_parse(many->str, types);
    g_assert_cmpuint(types->len, ==, AT_VGPU_TYPES_MAX);
}

static void test_description(void)
{
    static const struct {
        const char *text;
        uint64_t memory;
        unsigned max;
    } table[] = {
        {"num_heads=1, frl_config=60, framebuffer=4864M, max_resolution=4096x2160, max_instance=7",
         4864 * MIB, 7},
        {"max_instance=16,framebuffer=1024M", 1024 * MIB, 16},
        {"framebuffer=1024", 0, 0},
        {"framebuffer=M, max_instance=", 0, 0},
        {"framebuffer=-5M, max_instance=-1", 0, 0},
        {"framebuffer=99999999999999999999M, max_instance=99999999", 0, 0},
        {"", 0, 0},
        {"=, ==,,=", 0, 0},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        struct at_vgpu_type type = {0};
        at_vgpu_description_parse(table[i].text, &type);
        g_assert_cmpuint(type.memory, ==, table[i].memory);
        g_assert_cmpuint(type.max, ==, table[i].max);
    }
}

static void test_resource(void)
{
    g_autoptr(GArray) bars = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_bar));
    at_pci_resource_parse(
        "0x00000000f6000000 0x00000000f6ffffff 0x0000000000040200\n"  /* 16 MiB */
        "0x0000000000000000 0x0000000fffffffff 0x000000002014220c\n"  /* no place */
        "0x0000000000000000 0xffffffffffffffff 0x000000000014220c\n"  /* all */
        "0x0000004000000000 0x0000004001fffffe 0x000000000014220c\n"  /* odd */
        "0x000000000000e000 0x000000000000e07f 0x0000000000040101\n"  /* ports */
        "0x0000004000000000 0x0000004001ffffff\n"                     /* short */
        "0x00000000f7000000 0x00000000f707ffff 0x0000000000046200\n", /* ROM */
        bars);
    g_assert_cmpuint(bars->len, ==, 2);
    const struct at_gpu_bar *b = &g_array_index(bars, struct at_gpu_bar, 0);
    g_assert_cmpuint(b[0].size, ==, 16 * MIB);
    g_assert_false(b[0].wide || b[0].prefetchable);
    g_assert_cmpuint(b[1].index, ==, 1);
    g_assert_cmpuint(b[1].size, ==, 64 * GIB);
    g_assert_true(b[1].wide && b[1].prefetchable);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/vgpu/mdev-types-of-a-card", test_mdev_on_card);
    g_test_add_func("/gpu/vgpu/mdev-types-of-vfs-without-those-of-unknown-geometry",
                    test_mdev_on_vfs);
    g_test_add_func("/gpu/vgpu/types-of-the-vendors-vfio-driver", test_vendor);
    g_test_add_func("/gpu/vgpu/never-offers-more-than-fits-beside-what-is-made",
                    test_vendor_in_use);
    g_test_add_func("/gpu/vgpu/leaves-mig-backed-types-out-and-names-them",
                    test_boards_with_vendor_types);
    g_test_add_func("/gpu/vgpu/finds-the-card-of-each-mdev", test_mdevs);
    g_test_add_func("/gpu/vgpu/believes-the-library-rather-than-sysfs", test_library_wins);
    g_test_add_func("/gpu/vgpu/offers-vfs-of-amd-and-intel", test_vf_profiles);
    g_test_add_func("/gpu/vgpu/vfs-of-amds-other-boards-are-shared", test_vfs_that_take_turns);
    g_test_add_func("/gpu/vgpu/reads-lists-with-rubbish-in-them", test_creatable);
    g_test_add_func("/gpu/vgpu/reads-descriptions-in-any-order", test_description);
    g_test_add_func("/gpu/vgpu/takes-regions-for-bars-only-when-they-can-be", test_resource);
    return g_test_run();
}
