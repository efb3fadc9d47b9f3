/* SPDX-License-Identifier: Apache-2.0 */
/* The file `resource` of a PCI function. */
#include "gpu/resource.h"

#include "gpu/attribute.h"

enum {
    BARS = 6,
    /* include/linux/ioport.h */
    FLAG_MEMORY = 0x200,
    FLAG_PREFETCH = 0x2000,
    FLAG_WIDE = 0x100000,
};

static bool parse_line(const char *line, struct at_gpu_bar *bar)
{
    g_auto(GStrv) words = g_strsplit(line, " ", 4);
    uint64_t start, end, flags;
    if (g_strv_length(words) != 3 || !at_gpu_number_parse(words[0], 16, UINT64_MAX, &start) ||
        !at_gpu_number_parse(words[1], 16, UINT64_MAX, &end) ||
        !at_gpu_number_parse(words[2], 16, UINT64_MAX, &flags))
        return false;
    uint64_t size = end - start + 1;
    if (!(flags & FLAG_MEMORY) || end <= start || size == 0 || (size & (size - 1)) != 0)
        return false;
    bar->size = size;
    bar->wide = flags & FLAG_WIDE;
    bar->prefetchable = flags & FLAG_PREFETCH;
    return true;
}

void at_pci_resource_parse(const char *text, GArray *bars)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", BARS + 1);
    for (unsigned i = 0; i < BARS && lines[i]; i++) {
        struct at_gpu_bar bar = {.index = i};
        if (parse_line(lines[i], &bar))
            g_array_append_val(bars, bar);
    }
}
