/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel's drivers show of cards of which no library tells: read as their documents say,
 * and unknown with the reason where it is not as they say. */
#include <errno.h>
#include <sys/stat.h>

#include "base/error.h"
#include "lib/at-test.h"
#include "library-double.h"

#define CARD "0000:41:00.0"
#define GIB (UINT64_C(1) << 30)

static struct gpu_tree *tree_of(const char *board, const char *driver)
{
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, board, CARD, &(struct gpu_tree_options){.driver = driver});
    return tree;
}

static void amdgpu(void)
{
    struct gpu_tree *tree = tree_of("mi300x", "amdgpu");
    gpu_tree_set(tree, CARD, "gpu_busy_percent", "97\n");
    gpu_tree_set(tree, CARD, "ras/umc_err_count", "ue: 3\nce: 5\nde: 1\n");
    gpu_tree_set(tree, CARD, "ras/gpu_vram_bad_pages",
                 "0x00000001 : 0x00001000 : R\n0x00000002 : 0x00001000 : P\n"
                 "0x0abcdef2 : 0x00001000 : R\n");
    const struct at_gpu_card *card = library_card(tree);
    const struct at_gpu_health *h = &card->health;
    g_assert_cmpstr(card->unknown, ==, NULL);
    g_assert_cmpstr(card->health_unknown, ==, NULL);
    g_assert_cmpuint(card->memory, ==, UINT64_C(206141652992));
    g_assert_cmpuint(at_gpu_card_profile(card, "passthrough")->memory, ==, card->memory);
    g_assert_cmphex(h->known, ==,
                    AT_GPU_KNOWS_TEMPERATURE | AT_GPU_KNOWS_POWER | AT_GPU_KNOWS_UTILIZATION |
                        AT_GPU_KNOWS_MEMORY_USED | AT_GPU_KNOWS_ECC | AT_GPU_KNOWS_ROWS);
    g_assert_cmpuint(h->memory_used, ==, 297103360);
    g_assert_cmpuint(h->utilization_gpu, ==, 97);
    g_assert_cmpint(h->temperature_c, ==, 41); /* the hottest place: it has no edge */
    g_assert_cmpuint(h->power_mw, ==, 139000);
    g_assert_cmpuint(h->power_limit_mw, ==, 750000);
    g_assert_cmpuint(h->ecc_uncorrected, ==, 3);
    g_assert_cmpuint(h->ecc_corrected, ==, 5);
    g_assert_cmpuint(h->rows_uncorrected, ==, 2);
    g_assert_true(h->rows_pending);
    g_assert_false(h->rows_failed);
}

static void xe(void)
{
    struct gpu_tree *tree = tree_of("flex-170", "xe");
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmpstr(card->unknown, ==, NULL);
    g_assert_cmpstr(card->health_unknown, ==,
                    "driver xe does not show: memory, memory in use, utilization, power, memory "
                    "errors, bad pages");
    g_assert_cmphex(card->health.known, ==, AT_GPU_KNOWS_TEMPERATURE);
    g_assert_cmpint(card->health.temperature_c, ==, 38);
    g_assert_cmpuint(card->memory, ==, 0);
    /* Older ones show the memory of each tile. */
    gpu_tree_set(tree, CARD, "tile0/physical_vram_size_bytes", "17179869184\n");
    gpu_tree_set(tree, CARD, "tile1/physical_vram_size_bytes", "17179869184\n");
    g_assert_cmpuint(library_card(tree)->memory, ==, 32 * GIB);
    gpu_tree_set(tree, CARD, "tile1/physical_vram_size_bytes", "\n");
    const struct at_gpu_card *half = library_card(tree);
    g_assert_cmpuint(half->memory, ==, 0);
    library_assert_says(half->health_unknown, "memory (tile1/physical_vram_size_bytes): it says");
}

static void i915(void)
{
    struct gpu_tree *tree = tree_of("flex-170", "i915");
    g_assert_cmpint(library_card(tree)->health.temperature_c, ==, 37);
    g_assert_cmpuint(library_card(tree)->memory, ==, 0);
    gpu_tree_set(tree, CARD, "drm/card1/lmem_total_bytes", "17179869184\n");
    gpu_tree_set(tree, CARD, "drm/renderD128/lmem_total_bytes", "1\n");
    g_assert_cmpuint(library_card(tree)->memory, ==, 16 * GIB);
    gpu_tree_set(tree, CARD, "drm/card1/gt/gt1/id", "1\n"); /* of one tile, or of all? */
    g_assert_cmpuint(library_card(tree)->memory, ==, 0);
}

/* Drivers of other makers have sensors, too; why the library did not speak is not hidden by it. */
static void nouveau(void)
{
    struct gpu_tree *tree = tree_of("l40s", "nouveau");
    gpu_tree_set(tree, CARD, "hwmon/hwmon0/temp1_input", "-5500\n");
    gpu_tree_set(tree, CARD, "hwmon/hwmon1/power1_average", "31000000\n");
    const struct at_gpu_card *card = library_card(tree);
    library_assert_says(card->unknown, "bound to nouveau");
    g_assert_cmphex(card->health.known, ==, AT_GPU_KNOWS_TEMPERATURE | AT_GPU_KNOWS_POWER);
    g_assert_cmpint(card->health.temperature_c, ==, -5);
    g_assert_cmpuint(card->health.power_mw, ==, 31000);
}

static bool fill(struct at_gpu_card *card, GError **error)
{
    card->memory = 46 * GIB;
    return true;
}

static void library_first(void)
{
    struct gpu_tree *tree = tree_of("l40s", "nvidia");
    struct at_nvml nvml = {.fill = fill};
    gpu_tree_set(tree, CARD, "mem_info_vram_total", "1024\n");
    g_assert_cmpuint(library_card_with(tree, &nvml)->memory, ==, 46 * GIB);
}

/* Each spoils one value: it alone is unknown, and its reason names the attribute. */
static const struct spoiled {
    const char *test, *name, *text, *says;
    unsigned bit; /* 0: the memory */
} table[] = {
    {"memory-of-nothing", "mem_info_vram_total", "0\n", "memory (mem_info_vram_total): it says '0'",
     0},
    {"memory-beyond-reason", "mem_info_vram_total", "18446744073709551615\n", "it says '1844", 0},
    {"memory-in-words", "mem_info_vram_total", "192 GiB\n", "it says '192 GiB'", 0},
    {"memory-below-nothing", "mem_info_vram_total", "-1\n", "it says '-1'", 0},
    {"more-in-use-than-there-is", "mem_info_vram_used", "206141652993\n", "memory in use",
     AT_GPU_KNOWS_MEMORY_USED},
    {"busier-than-all-the-time", "gpu_busy_percent", "101\n", "utilization (gpu_busy_percent)",
     AT_GPU_KNOWS_UTILIZATION},
    {"an-empty-file", "gpu_busy_percent", "", "it says ''", AT_GPU_KNOWS_UTILIZATION},
    {"hotter-than-the-sun", "hwmon/hwmon3/temp2_input", "5772000\n",
     "temperature (hwmon/hwmon3/temp2_input)", AT_GPU_KNOWS_TEMPERATURE},
    {"power-of-a-town", "hwmon/hwmon3/power1_input", "9000000000000\n", "power (",
     AT_GPU_KNOWS_POWER},
    {"errors-that-cannot-be-asked", "ras/umc_err_count", "Query currently inaccessible\n",
     "it says 'Query currently inaccessible'", AT_GPU_KNOWS_ECC},
    {"errors-of-one-kind-only", "ras/umc_err_count", "ce: 1\n", "memory errors", AT_GPU_KNOWS_ECC},
    {"errors-without-a-number", "ras/umc_err_count", "ue: many\nce: 1\n", "memory errors",
     AT_GPU_KNOWS_ECC},
    {"pages-of-another-kind", "ras/gpu_vram_bad_pages", "0x1 : 0x1000 : X\n", "bad pages",
     AT_GPU_KNOWS_ROWS},
    {"pages-cut-off", "ras/gpu_vram_bad_pages", "0x1 : 0x1000 : R\n0x2 :", "bad pages",
     AT_GPU_KNOWS_ROWS},
};

static void spoil(const void *data)
{
    const struct spoiled *s = data;
    struct gpu_tree *tree = tree_of("mi300x", "amdgpu");
    unsigned all = library_card(tree)->health.known;
    gpu_tree_set(tree, CARD, s->name, s->text);
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmphex(card->health.known, ==, all & ~s->bit);
    g_assert_cmpint(card->memory == 0, ==, s->bit == 0);
    library_assert_says(card->health_unknown, s->says);
}

static void too_long(void)
{
    struct gpu_tree *tree = tree_of("mi300x", "amdgpu");
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; i < 4000; i++)
        g_string_append_printf(text, "0x%08x : 0x00001000 : R\n", i);
    gpu_tree_set(tree, CARD, "ras/gpu_vram_bad_pages", text->str);
    const struct at_gpu_card *card = library_card(tree);
    g_assert_false(card->health.known & AT_GPU_KNOWS_ROWS);
    library_assert_says(card->health_unknown, g_strerror(EFBIG));
}

/* A FIFO would wait for somebody who writes to it. */
static void no_file(void)
{
    struct gpu_tree *tree = tree_of("mi300x", "amdgpu");
    g_autofree char *path = gpu_tree_path(tree, "sys/bus/pci/devices/" CARD "/gpu_busy_percent");
    gpu_tree_unset(tree, CARD, "gpu_busy_percent");
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    const struct at_gpu_card *card = library_card(tree);
    g_assert_false(card->health.known & AT_GPU_KNOWS_UTILIZATION);
    library_assert_says(card->health_unknown, "utilization (gpu_busy_percent): ");
}

static void suspended(void)
{
    struct gpu_tree *tree = tree_of("mi300x", "amdgpu");
    gpu_tree_set(tree, CARD, "power/runtime_status", "suspended\n");
    const struct at_gpu_card *card = library_card(tree);
    g_assert_cmphex(card->health.known, ==, AT_GPU_KNOWS_MEMORY_USED);
    g_assert_cmpuint(card->memory, >, 0);
    g_assert_nonnull(card->unique_id);
    library_assert_says(card->health_unknown, "is not woken to be asked for: utilization, "
                                              "temperature, power, memory errors, bad pages");
}

static void silent(void)
{
    static const char *const rows[][3] = {
        {"mi300x", "gim", "driver gim shows nothing of it in sysfs"},
        {"mi300x", "", "no driver is bound that could tell of it"},
        {"mi300x", "vfio-pci", "bound to vfio-pci: its own driver is not there to tell of it"},
        {"flex-170", "xe-vfio-pci", "bound to xe-vfio-pci: its own"}};
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        const struct at_gpu_card *card = library_card(tree_of(rows[i][0], rows[i][1]));
        library_assert_says(card->unknown, rows[i][2]);
        g_assert_cmphex(card->health.known, ==, 0);
        g_assert_null(card->health_unknown);
    }
    struct gpu_tree *tree = gpu_tree_new();
    gpu_tree_add(tree, "mi300x", CARD,
                 &(struct gpu_tree_options){.driver = "amdgpu", .lost = true});
    const struct at_gpu_card *lost = library_card(tree);
    g_assert_cmpstr(lost->unknown, ==, "the card does not answer");
    g_assert_cmphex(lost->health.known, ==, 0);
}

static void numbers(void)
{
    static const char *const rows[][3] = {
        {"43b6b1f2a3b4c5d6\n", "692231000131\n", "43b6b1f2a3b4c5d6"},
        {"43B6B1F2A3B4C5D6\n", "", "43b6b1f2a3b4c5d6"},
        {"", "692231000131\n", "692231000131"},
        {"0000000000000000\n", "", NULL},
        {"ffffffffffffffff\n", "00000000\n", NULL},
        {"a number\n", "../../evil\n", NULL},
        {"", "N/A\n", NULL}};
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct gpu_tree *tree = tree_of("mi300x", "amdgpu");
        gpu_tree_set(tree, CARD, "unique_id", rows[i][0]);
        gpu_tree_set(tree, CARD, "serial_number", rows[i][1]);
        g_assert_cmpstr(library_card(tree)->unique_id, ==, rows[i][2]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/card-driver/amdgpu-tells-all", amdgpu);
    g_test_add_func("/gpu/card-driver/xe-tells-little-and-what-it-does-not-is-named", xe);
    g_test_add_func("/gpu/card-driver/i915-of-intels-own-packages-tells-the-memory", i915);
    g_test_add_func("/gpu/card-driver/sensors-are-those-of-any-driver", nouveau);
    g_test_add_func("/gpu/card-driver/what-the-library-told-is-not-asked-again", library_first);
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        g_autofree char *name = g_strdup_printf("/gpu/card-driver/unknown/%s", table[i].test);
        g_test_add_data_func(name, &table[i], spoil);
    }
    g_test_add_func("/gpu/card-driver/unknown/a-file-without-end", too_long);
    g_test_add_func("/gpu/card-driver/unknown/what-is-no-file", no_file);
    g_test_add_func("/gpu/card-driver/a-card-that-sleeps-is-not-woken", suspended);
    g_test_add_func("/gpu/card-driver/a-silent-driver-is-named", silent);
    g_test_add_func("/gpu/card-driver/numbers-are-taken-only-when-they-are-some", numbers);
    return g_test_run();
}
