/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the lists of vGPU types that NVIDIA's kernel driver writes in text. */
#include "gpu/vgpu-list.h"

#include <string.h>

#include "gpu/attribute.h"
#include "gpu/vgpu-name.h"

enum { NAME_MAX_BYTES = 128, MEMORY_MAX_MIB = 1 << 24, INSTANCES_MAX = 4096, LINES_MAX = 4096 };

void at_vgpu_type_clear(struct at_vgpu_type *type)
{
    g_clear_pointer(&type->name, g_free);
}

GArray *at_vgpu_types_new(void)
{
    GArray *types = g_array_new(FALSE, FALSE, sizeof(struct at_vgpu_type));
    g_array_set_clear_func(types, (GDestroyNotify)at_vgpu_type_clear);
    return types;
}

bool at_vgpu_types_have(const GArray *types, uint64_t id)
{
    for (unsigned i = 0; i < types->len; i++) {
        if (g_array_index(types, struct at_vgpu_type, i).id == id)
            return true;
    }
    return false;
}

static void creatable_line(char *line, GArray *types)
{
    char *colon = strchr(line, ':');
    uint64_t id;
    if (!colon)
        return;
    *colon = '\0';
    const char *name = at_vgpu_name_strip(g_strstrip(colon + 1));
    if (!at_gpu_number_parse(g_strstrip(line), 10, G_MAXUINT32, &id) || id == 0 || !*name ||
        strlen(name) > NAME_MAX_BYTES || at_vgpu_types_have(types, id))
        return;
    struct at_vgpu_type type = {.id = (unsigned)id, .name = g_strdup(name)};
    g_array_append_val(types, type);
}

void at_vgpu_creatable_parse(const char *text, GArray *types)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", LINES_MAX);
    for (unsigned i = 0; lines[i] && types->len < AT_VGPU_TYPES_MAX; i++)
        creatable_line(lines[i], types);
}

void at_vgpu_description_parse(const char *text, struct at_vgpu_type *type)
{
    g_auto(GStrv) words = g_strsplit_set(text, ", \t\n", LINES_MAX);
    for (unsigned i = 0; words[i]; i++) {
        char *value = strchr(words[i], '=');
        uint64_t number;
        if (!value)
            continue;
        *value++ = '\0';
        size_t len = strlen(value);
        if (g_str_equal(words[i], "framebuffer") && len > 0 && value[len - 1] == 'M') {
            value[len - 1] = '\0';
            if (at_gpu_number_parse(value, 10, MEMORY_MAX_MIB, &number))
                type->memory = number << 20;
        } else if (g_str_equal(words[i], "max_instance") &&
                   at_gpu_number_parse(value, 10, INSTANCES_MAX, &number)) {
            type->max = (unsigned)number;
        }
    }
}
