/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of a GPU's driver in sysfs: lists of vGPU types, descriptions, names and regions. The first
 * byte says which it is. What is taken is within its limits, and what is written out again from it
 * is read as the same. */
#include <glib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "gpu/function.h"
#include "gpu/resource.h"
#include "gpu/vgpu-list.h"
#include "gpu/vgpu-name.h"

static void creatable(const char *text)
{
    g_autoptr(GArray) types = at_vgpu_types_new();
    g_autoptr(GArray) again = at_vgpu_types_new();
    g_autoptr(GString) list = g_string_new("ID    : vGPU Name\n");
    at_vgpu_creatable_parse(text, types);
    g_assert_cmpuint(types->len, <=, AT_VGPU_TYPES_MAX);
    for (unsigned i = 0; i < types->len; i++) {
        const struct at_vgpu_type *type = &g_array_index(types, struct at_vgpu_type, i);
        g_assert_cmpuint(type->id, >, 0);
        g_assert_true(*type->name && !strchr(type->name, '\n'));
        g_string_append_printf(list, "%-5u : NVIDIA %s\n", type->id, type->name);
    }
    at_vgpu_creatable_parse(list->str, again);
    g_assert_cmpuint(again->len, ==, types->len);
    for (unsigned i = 0; i < types->len; i++) {
        const struct at_vgpu_type *a = &g_array_index(types, struct at_vgpu_type, i);
        const struct at_vgpu_type *b = &g_array_index(again, struct at_vgpu_type, i);
        g_assert_cmpuint(a->id, ==, b->id);
        g_assert_cmpstr(a->name, ==, b->name);
    }
}

static void description(const char *text)
{
    struct at_vgpu_type type = {0}, again = {0};
    at_vgpu_description_parse(text, &type);
    g_assert_cmpuint(type.memory % (1 << 20), ==, 0);
    g_assert_cmpuint(type.memory >> 20, <=, 1 << 24);
    g_autofree char *back = g_strdup_printf("max_instance=%u, framebuffer=%" G_GUINT64_FORMAT "M",
                                            type.max, type.memory >> 20);
    at_vgpu_description_parse(back, &again);
    g_assert_cmpuint(type.max, ==, again.max);
    g_assert_cmpuint(type.memory, ==, again.memory);
}

static void name(const char *text)
{
    struct at_vgpu_name n;
    if (!at_vgpu_name_parse(text, &n))
        return;
    g_autoptr(GString) back = g_string_new(n.board);
    if (n.slices > 0)
        g_string_append_printf(back, "-%u", n.slices);
    g_string_append_printf(back, "-%u%c%s", n.gigabytes, n.series, n.suffix);
    g_assert_cmpstr(back->str, ==, at_vgpu_name_strip(text));
    g_assert_cmpuint(at_vgpu_name_memory(&n), >, 0);
}

static void resource(const char *text)
{
    g_autoptr(GArray) bars = g_array_new(FALSE, FALSE, sizeof(struct at_gpu_bar));
    at_pci_resource_parse(text, bars);
    g_assert_cmpuint(bars->len, <=, 6);
    for (unsigned i = 0; i < bars->len; i++) {
        const struct at_gpu_bar *bar = &g_array_index(bars, struct at_gpu_bar, i);
        g_assert_cmpuint(bar->index, <, 6);
        g_assert_true(bar->size > 0 && (bar->size & (bar->size - 1)) == 0);
    }
}

static void address(const char *text)
{
    struct at_pci_address a;
    if (!at_pci_address_parse(text, &a))
        return;
    g_autofree char *back =
        g_strdup_printf("%04x:%02x:%02x.%x", a.domain, a.bus, a.slot, a.function);
    g_assert_cmpint(at_pci_address_compare(text, back), ==, 0);
    g_assert_true(at_pci_address_valid(back) && at_pci_address_same_slot(text, back));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const parts[])(const char *text) = {creatable, description, name, resource,
                                                      address};
    if (size < 1)
        return 0;
    g_autofree char *text = g_strndup((const char *)data + 1, size - 1);
    parts[data[0] % G_N_ELEMENTS(parts)](text);
    return 0;
}
