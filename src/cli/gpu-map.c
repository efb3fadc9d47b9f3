/* SPDX-License-Identifier: Apache-2.0 */
/* The map: each card as a bar of what is held and what is free, and beside it the holders. */
#include "cli/gpu-map.h"

#include <string.h>

#include "base/json.h"
#include "cli/gpu-device.h"
#include "cli/text.h"

enum { CELLS = 8, CELLS_MAX = 16, LETTERS = 26 };

char *at_gpu_slices_text(JsonObject *grant)
{
    int64_t slices = at_json_int(grant, "slices", 0), start = at_json_int(grant, "start", 0);
    return slices ? g_strdup_printf("%d-%d", (int)start, (int)(start + slices - 1)) : NULL;
}

/* Cells of a holder: its slices where the card is cut into slices, else its share of the memory, at
 * least one; all of them for who has the whole card. */
static void cells_of(JsonObject *gpu, JsonObject *hold, unsigned cells, unsigned free_at,
                     unsigned *ret_first, unsigned *ret_count)
{
    int64_t slices = at_json_int(hold, "slices", 0), memory = at_json_int(hold, "memory", 0);
    int64_t whole = at_json_int(gpu, "memory", 0);
    *ret_first = free_at;
    if (strcmp(at_json_str(hold, "isolation", ""), "exclusive") == 0) {
        *ret_first = 0;
        *ret_count = cells;
    } else if (slices > 0) {
        *ret_first = (unsigned)CLAMP(at_json_int(hold, "start", 0), 0, (int64_t)cells);
        *ret_count = (unsigned)CLAMP(slices, 0, (int64_t)cells);
    } else {
        *ret_count =
            whole > 0 && memory > 0 ? MAX(1u, (unsigned)(memory * (int64_t)cells / whole)) : 1;
    }
    *ret_count = MIN(*ret_count, cells - *ret_first);
}

/* "[AABB....]" */
static char *bar_of(JsonObject *gpu)
{
    JsonArray *holds = at_json_arr(gpu, "holds");
    int64_t grid = at_json_int(at_json_obj(gpu, "mig"), "slices", 0);
    unsigned cells = grid > 0 && grid <= CELLS_MAX ? (unsigned)grid : CELLS, free_at = 0;
    char bar[CELLS_MAX + 1];
    memset(bar, '.', cells);
    bar[cells] = '\0';
    for (unsigned i = 0; holds && i < json_array_get_length(holds); i++) {
        unsigned first, count;
        cells_of(gpu, json_array_get_object_element(holds, i), cells, free_at, &first, &count);
        memset(bar + first, 'A' + (char)(i % LETTERS), count);
        free_at = MIN(first + count, cells);
    }
    return g_strdup_printf("[%s]", bar);
}

/* "passthrough, mig-vgpu" */
static char *kinds_of(JsonObject *gpu)
{
    static const char *const kinds[] = {"passthrough", "vgpu", "mig-vgpu", "vf"};
    JsonObject *modes = at_json_obj(gpu, "modes");
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; modes && i < G_N_ELEMENTS(kinds); i++) {
        if (json_object_has_member(modes, kinds[i]) && !at_json_str(modes, kinds[i], NULL))
            g_string_append_printf(text, "%s%s", text->len ? ", " : "can be ", kinds[i]);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* What there is to say of a card that nobody has. */
static char *remark_of(JsonObject *gpu)
{
    const char *reserved = at_json_str(gpu, "reserved", NULL);
    const char *quarantined = at_json_str(gpu, "quarantined", NULL);
    if (quarantined)
        return g_strdup(quarantined);
    if (reserved)
        return g_strdup(reserved);
    if (strcmp(at_json_str(gpu, "state", ""), "absent") == 0)
        return g_strdup("it is not in the host any more");
    g_autofree char *kinds = kinds_of(gpu);
    if (*kinds)
        return g_steal_pointer(&kinds);
    return g_strdup(at_json_str(at_json_obj(gpu, "modes"), "passthrough", ""));
}

static char *hold_text(JsonObject *hold, unsigned index)
{
    int64_t memory = at_json_int(hold, "memory", 0);
    g_autofree char *size = memory ? at_text_size((uint64_t)memory) : NULL;
    return g_strdup_printf("%c %s: %s%s%s, %s%s", 'A' + (int)(index % LETTERS),
                           at_json_str(hold, "holder", "?"), at_json_str(hold, "profile", "?"),
                           size ? ", " : "", size ? size : "", at_json_str(hold, "isolation", "?"),
                           at_json_bool(hold, "given_up", false)   ? ", cannot be given back"
                           : at_json_bool(hold, "attached", false) ? ""
                           : at_json_bool(hold, "kept", false)     ? ", kept"
                                                                   : ", granted");
}

static enum at_color color_of(const char *state)
{
    if (strcmp(state, "free") == 0)
        return AT_GREEN;
    if (strcmp(state, "used") == 0)
        return AT_PLAIN;
    return strcmp(state, "quarantined") == 0 || strcmp(state, "absent") == 0 ? AT_RED : AT_YELLOW;
}

static void add_blank(struct at_table *table, unsigned cells)
{
    for (unsigned i = 0; i < cells; i++)
        at_table_cell(table, AT_PLAIN, "");
}

static void add_card(struct at_table *table, JsonObject *gpu, bool first_of_node)
{
    JsonArray *holds = at_json_arr(gpu, "holds");
    unsigned n = holds ? json_array_get_length(holds) : 0;
    int64_t memory = at_json_int(gpu, "memory", 0);
    const char *state = at_json_str(gpu, "state", "?");
    at_table_cell(table, AT_PLAIN, first_of_node ? at_json_str(gpu, "node", "") : "");
    at_table_cell(table, AT_BOLD, at_json_str(gpu, "address", NULL));
    at_table_cell(table, AT_PLAIN, at_json_str(gpu, "name", NULL));
    at_table_take(table, AT_PLAIN, memory ? at_text_size((uint64_t)memory) : NULL);
    at_table_cell(table, color_of(state), state);
    at_table_take(table, AT_PLAIN, bar_of(gpu));
    if (n == 0) {
        at_table_take(table, AT_DIM, remark_of(gpu));
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        if (i)
            add_blank(table, 6);
        at_table_take(table, AT_PLAIN, hold_text(json_array_get_object_element(holds, i), i));
    }
    if (at_json_str(gpu, "quarantined", NULL)) {
        add_blank(table, 6);
        at_table_cell(table, AT_RED, at_json_str(gpu, "quarantined", NULL));
    }
}

/* One line for each node that has a card of NVIDIA's, which all have the same driver. */
static void print_drivers(JsonArray *gpus)
{
    const char *node = NULL;
    for (unsigned i = 0; gpus && i < json_array_get_length(gpus); i++) {
        JsonObject *gpu = json_array_get_object_element(gpus, i);
        const char *its = at_json_str(gpu, "node", "");
        g_autofree char *driver = at_gpu_driver_text(gpu);
        if (!driver || g_strcmp0(node, its) == 0)
            continue;
        at_text_line(stdout, "%s: NVIDIA driver %s", its, driver);
        node = its;
    }
}

void at_gpu_map_print(JsonArray *gpus)
{
    static const char *const heads[] = {"NODE",  "GPU", "NAME",   ">MEMORY",
                                        "STATE", "MAP", "HOLDER", NULL};
    struct at_table *table = at_table_new(heads);
    const char *node = NULL;
    for (unsigned i = 0; gpus && i < json_array_get_length(gpus); i++) {
        JsonObject *gpu = json_array_get_object_element(gpus, i);
        const char *its = at_json_str(gpu, "node", "");
        add_card(table, gpu, g_strcmp0(node, its) != 0);
        node = its;
    }
    at_table_print(table, "no GPU in this host; atoll gpu rescan looks again");
    print_drivers(gpus);
}
