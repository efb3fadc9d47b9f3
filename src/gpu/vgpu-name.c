/* SPDX-License-Identifier: Apache-2.0 */
/* Names of vGPU types. */
#include "gpu/vgpu-name.h"

#include <string.h>

enum { SLICES_MAX = 16, GIGABYTES_MAX = 9999 };

const char *at_vgpu_name_strip(const char *name)
{
    static const char *const prefixes[] = {"NVIDIA ", "GRID "};
    for (unsigned i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        if (g_str_has_prefix(name, prefixes[i]))
            name += strlen(prefixes[i]);
    }
    return name;
}

/* A number without leading zeros; *p stands behind it. */
static bool parse_number(const char **p, unsigned max, unsigned *ret)
{
    unsigned value = 0;
    const char *start = *p;
    while (g_ascii_isdigit(**p) && value <= max)
        value = value * 10 + (unsigned)(*(*p)++ - '0');
    if (*p == start || value > max || (*start == '0' && *p != start + 1))
        return false;
    *ret = value;
    return true;
}

static bool known_suffix(const char *suffix, bool mig)
{
    static const char *const of_mig[] = {"", "ME", "NOME", "MEALL", "GFX", NULL};
    static const char *const of_time[] = {"", "4", NULL};
    return g_strv_contains(mig ? of_mig : of_time, suffix);
}

/* The dash in front of @end, back to @start. */
static const char *dash_before(const char *start, const char *end)
{
    return memrchr(start, '-', (size_t)(end - start));
}

/* The slices between two dashes; NULL when what stands there belongs to the board's name. */
static const char *parse_slices(const char *name, const char *end, unsigned *ret)
{
    const char *dash = dash_before(name, end);
    if (!dash)
        return NULL;
    const char *p = dash + 1;
    return parse_number(&p, SLICES_MAX, ret) && p == end && *ret > 0 ? dash : NULL;
}

bool at_vgpu_name_parse(const char *name, struct at_vgpu_name *ret)
{
    struct at_vgpu_name n = {.slices = 0};
    name = at_vgpu_name_strip(name);
    const char *end = strrchr(name, '-');
    if (!end)
        return false;
    const char *p = end + 1;
    if (!parse_number(&p, GIGABYTES_MAX, &n.gigabytes) || !*p || !strchr("ABCQ", *p))
        return false;
    n.series = *p++;
    const char *dash = parse_slices(name, end, &n.slices);
    if (dash)
        end = dash;
    else
        n.slices = 0;
    size_t len = (size_t)(end - name);
    if (!known_suffix(p, n.slices > 0) || len == 0 || len >= sizeof n.board)
        return false;
    memcpy(n.board, name, len);
    g_strlcpy(n.suffix, p, sizeof n.suffix);
    *ret = n;
    return true;
}

uint64_t at_vgpu_name_memory(const struct at_vgpu_name *name)
{
    return name->gigabytes ? (uint64_t)name->gigabytes << 30 : UINT64_C(512) << 20;
}
