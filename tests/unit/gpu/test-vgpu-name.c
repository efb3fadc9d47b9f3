/* SPDX-License-Identifier: Apache-2.0 */
/* Names of vGPU types, of all generations. */
#include <string.h>

#include "gpu/vgpu-name.h"

struct row {
    const char *text, *board;
    unsigned slices, gigabytes;
    char series;
    const char *suffix;
};

static void test_names(void)
{
    static const struct row table[] = {
        {"H100-80C", "H100", 0, 80, 'C', ""},
        {"NVIDIA H100-7-80C", "H100", 7, 80, 'C', ""},
        {"NVIDIA H100-4-40C", "H100", 4, 40, 'C', ""},
        {"NVIDIA H100-3-40C", "H100", 3, 40, 'C', ""},
        {"H100-2-20C", "H100", 2, 20, 'C', ""},
        {"H100-1-20C", "H100", 1, 20, 'C', ""},
        {"H100-1-10C", "H100", 1, 10, 'C', ""},
        {"H100-1-10CME", "H100", 1, 10, 'C', "ME"},
        {"H100XM-7-80C", "H100XM", 7, 80, 'C', ""},
        {"H100L-1-12CME", "H100L", 1, 12, 'C', "ME"},
        {"H100XL-94C", "H100XL", 0, 94, 'C', ""},
        {"H100XS-1-8C", "H100XS", 1, 8, 'C', ""},
        {"NVIDIA H200X-1-18C", "H200X", 1, 18, 'C', ""},
        {"H200X-141C", "H200X", 0, 141, 'C', ""},
        {"H200-3-71C", "H200", 3, 71, 'C', ""},
        {"GRID A100-1-5C", "A100", 1, 5, 'C', ""},
        {"A100-7-40C", "A100", 7, 40, 'C', ""},
        {"A100DX-3-40C", "A100DX", 3, 40, 'C', ""},
        {"A30-4-24C", "A30", 4, 24, 'C', ""},
        {"NVIDIA RTX Pro 6000 Blackwell DC-4-96Q", "RTX Pro 6000 Blackwell DC", 4, 96, 'Q', ""},
        {"RTX Pro 6000 Blackwell DC-1-2Q", "RTX Pro 6000 Blackwell DC", 1, 2, 'Q', ""},
        {"RTX Pro 6000 Blackwell DC-2-48QGFX", "RTX Pro 6000 Blackwell DC", 2, 48, 'Q', "GFX"},
        {"RTX Pro 6000 Blackwell DC-1-24CMEALL", "RTX Pro 6000 Blackwell DC", 1, 24, 'C', "MEALL"},
        {"RTX Pro 6000 Blackwell DC-1-24CNOME", "RTX Pro 6000 Blackwell DC", 1, 24, 'C', "NOME"},
        {"NVIDIA L40S-1B", "L40S", 0, 1, 'B', ""},
        {"L40S-48A", "L40S", 0, 48, 'A', ""},
        {"NVIDIA RTX6000-Ada-24Q", "RTX6000-Ada", 0, 24, 'Q', ""},
        {"GRID T4-16Q", "T4", 0, 16, 'Q', ""},
        {"GRID T4-2B4", "T4", 0, 2, 'B', "4"},
        {"GRID M60-0Q", "M60", 0, 0, 'Q', ""},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        const struct row *r = &table[i];
        struct at_vgpu_name name;
        if (!at_vgpu_name_parse(r->text, &name))
            g_error("refused: %s", r->text);
        g_assert_cmpstr(name.board, ==, r->board);
        g_assert_cmpuint(name.slices, ==, r->slices);
        g_assert_cmpuint(name.gigabytes, ==, r->gigabytes);
        g_assert_true(name.series == r->series);
        g_assert_cmpstr(name.suffix, ==, r->suffix);
    }
}

static void test_refusals(void)
{
    static const char *const table[] = {"",
                                        "H100",
                                        "H100-",
                                        "-80C",
                                        "NVIDIA -80C",
                                        "H100-80",
                                        "H100-C",
                                        "H100-80D",
                                        "H100-80c",
                                        "H100-80CX",
                                        "H100-80CME",
                                        "H100-1-10CBAD",
                                        "H100-1-10C ",
                                        "H100-1-10C4",
                                        "H100-99999C",
                                        "H100-080C",
                                        "-1-10C",
                                        "i915-GVTg_V5_4",
                                        "H100-99999999999999999999C",
                                        "H100-\xff\xfe"};
    struct at_vgpu_name name = {.gigabytes = 7};
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        if (at_vgpu_name_parse(table[i], &name))
            g_error("taken: %s", table[i]);
    }
    g_autofree char *board = g_strnfill(64, 'x');
    g_autofree char *too_long = g_strconcat(board, "-8C", NULL);
    g_assert_false(at_vgpu_name_parse(too_long, &name));
    g_assert_true(at_vgpu_name_parse(too_long + 1, &name));
    g_assert_cmpuint(strlen(name.board), ==, 63);
}

static void test_memory(void)
{
    struct at_vgpu_name name;
    g_assert_true(at_vgpu_name_parse("L40S-48Q", &name));
    g_assert_cmpuint(at_vgpu_name_memory(&name), ==, UINT64_C(48) << 30);
    g_assert_true(at_vgpu_name_parse("M60-0B", &name));
    g_assert_cmpuint(at_vgpu_name_memory(&name), ==, UINT64_C(512) << 20);
    g_assert_cmpstr(at_vgpu_name_strip("NVIDIA L40S-48Q"), ==, "L40S-48Q");
    g_assert_cmpstr(at_vgpu_name_strip("GRID T4-1Q"), ==, "T4-1Q");
    g_assert_cmpstr(at_vgpu_name_strip("NVIDIA GRID T4-1Q"), ==, "T4-1Q");
    g_assert_cmpstr(at_vgpu_name_strip("T4-1Q"), ==, "T4-1Q");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/vgpu-name/says-board-slices-memory-and-series", test_names);
    g_test_add_func("/gpu/vgpu-name/refuses-what-is-no-name", test_refusals);
    g_test_add_func("/gpu/vgpu-name/gives-memory-and-loses-the-drivers-prefix", test_memory);
    return g_test_run();
}
