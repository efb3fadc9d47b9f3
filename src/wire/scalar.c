/* SPDX-License-Identifier: Apache-2.0 */
/* Small texts with a meaning: sizes, durations, names, addresses, and the nearest of several words.
 */
#include "wire/scalar.h"

#include <string.h>

#include "base/error.h"
#include "wire/definition.h"

/* Reads digits into @ret_value; false when there are none or they do not fit. */
static bool read_digits(const char **text, uint64_t *ret_value)
{
    const char *p = *text;
    uint64_t value = 0;
    if (!g_ascii_isdigit(*p))
        return false;
    for (; g_ascii_isdigit(*p); p++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return false;
    }
    *text = p;
    *ret_value = value;
    return true;
}

static const struct {
    const char *name;
    uint64_t bytes;
} units[] = {
    {"TiB", UINT64_C(1) << 40},
    {"GiB", UINT64_C(1) << 30},
    {"MiB", UINT64_C(1) << 20},
    {"KiB", UINT64_C(1) << 10},
};

static uint64_t unit_of(const char *text)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(units); i++) {
        if (strcmp(text, units[i].name) == 0)
            return units[i].bytes;
    }
    return strcmp(text, "B") == 0 || *text == '\0' ? 1 : 0;
}

static bool size_parse(const char *text, uint64_t *ret_bytes)
{
    uint64_t whole, bytes, fraction = 0, scale = 1;
    const char *p = text;
    if (!read_digits(&p, &whole))
        return false;
    if (*p == '.') {
        const char *start = ++p;
        if (!read_digits(&p, &fraction) || p - start > 3)
            return false;
        for (const char *q = start; q < p; q++)
            scale *= 10;
    }
    while (*p == ' ')
        p++;
    uint64_t unit = unit_of(p);
    if (unit == 0 || fraction * unit % scale != 0 || __builtin_mul_overflow(whole, unit, &bytes) ||
        __builtin_add_overflow(bytes, fraction * unit / scale, &bytes))
        return false;
    *ret_bytes = bytes;
    return true;
}

bool at_size_parse(const char *text, uint64_t *ret_bytes, GError **error)
{
    if (!size_parse(text, ret_bytes))
        return at_error(error, AT_ERROR_INVALID,
                        "found \"%s\", allowed are sizes such as 512 MiB, 1 GiB, 2 TiB", text);
    return true;
}

char *at_size_format(uint64_t bytes)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(units); i++) {
        uint64_t unit = units[i].bytes;
        if (bytes < unit)
            continue;
        if (bytes % unit == 0)
            return g_strdup_printf("%" G_GUINT64_FORMAT " %s", bytes / unit, units[i].name);
        return g_strdup_printf("%.1f %s", (double)bytes / (double)unit, units[i].name);
    }
    return g_strdup_printf("%" G_GUINT64_FORMAT " B", bytes);
}

bool at_name_check(const char *name, const char *what, GError **error)
{
    size_t len = strlen(name);
    bool good = len >= 1 && len <= 63 && name[0] != '-' && name[len - 1] != '-';
    for (size_t i = 0; good && i < len; i++)
        good = g_ascii_islower(name[i]) || g_ascii_isdigit(name[i]) || name[i] == '-';
    if (!good)
        return at_error(
            error, AT_ERROR_INVALID,
            "found \"%s\", %s %s name has 1 to 63 of a-z, 0-9 and -, and neither begins "
            "nor ends with -",
            name, strchr("aeiou", what[0]) ? "an" : "a", what);
    return true;
}

bool at_duration_parse(const char *text, unsigned *ret_seconds)
{
    uint64_t value, factor = 1;
    if (!read_digits(&text, &value))
        return false;
    while (*text == ' ')
        text++;
    if (strcmp(text, "m") == 0)
        factor = 60;
    else if (strcmp(text, "h") == 0)
        factor = 3600;
    else if (*text && strcmp(text, "s") != 0)
        return false;
    if (value > 1000000)
        return false;
    *ret_seconds = (unsigned)(value * factor);
    return true;
}

char *at_duration_format(uint64_t seconds)
{
    if (seconds < 60)
        return g_strdup_printf("%us", (unsigned)seconds);
    if (seconds < 3600)
        return g_strdup_printf("%um%02us", (unsigned)(seconds / 60), (unsigned)(seconds % 60));
    return g_strdup_printf("%" G_GUINT64_FORMAT "h%02um", seconds / 3600,
                           (unsigned)(seconds / 60 % 60));
}

static bool read_ipv4(const char **text, uint32_t *ret_address)
{
    uint32_t address = 0;
    for (int i = 0; i < 4; i++) {
        uint64_t octet;
        if (i > 0 && *(*text)++ != '.')
            return false;
        bool leading_zero = (*text)[0] == '0' && g_ascii_isdigit((*text)[1]);
        if (leading_zero || !read_digits(text, &octet) || octet > 255)
            return false;
        address = address << 8 | (uint32_t)octet;
    }
    *ret_address = address;
    return true;
}

bool at_ipv4_parse(const char *text, uint32_t *ret_address)
{
    uint32_t address;
    if (!read_ipv4(&text, &address) || *text)
        return false;
    *ret_address = address;
    return true;
}

char *at_ipv4_format(uint32_t address)
{
    return g_strdup_printf("%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255,
                           address & 255);
}

uint32_t at_subnet_mask(unsigned prefix)
{
    return prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
}

bool at_subnet_parse(const char *text, uint32_t *ret_address, unsigned *ret_prefix)
{
    uint32_t address;
    uint64_t prefix;
    if (!read_ipv4(&text, &address) || *text++ != '/')
        return false;
    if (!read_digits(&text, &prefix) || *text || prefix > 32)
        return false;
    *ret_address = address;
    *ret_prefix = (unsigned)prefix;
    return true;
}

char *at_subnet_gateway(const char *subnet)
{
    uint32_t address;
    unsigned prefix;
    if (!at_subnet_parse(subnet, &address, &prefix))
        return NULL;
    return at_ipv4_format((address & at_subnet_mask(prefix)) + 1);
}

char *at_mac_canonical(const char *text)
{
    if (strlen(text) != 17)
        return NULL;
    for (int i = 0; i < 17; i++) {
        bool good = i % 3 == 2 ? text[i] == ':' : g_ascii_isxdigit(text[i]);
        if (!good)
            return NULL;
    }
    return g_ascii_strdown(text, 17);
}

/* Edit distance with swaps of neighbours (optimal string alignment); words are short. */
static unsigned distance(const char *a, const char *b)
{
    enum { MAX = 40 };
    unsigned row[MAX + 1][MAX + 1];
    size_t n = strlen(a), m = strlen(b);
    if (n > MAX || m > MAX)
        return UINT_MAX;
    for (unsigned i = 0; i <= n; i++) {
        for (unsigned j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                row[i][j] = i + j;
                continue;
            }
            unsigned best = row[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = MIN(best, row[i - 1][j] + 1);
            best = MIN(best, row[i][j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MIN(best, row[i - 2][j - 2] + 1);
            row[i][j] = best;
        }
    }
    return row[n][m];
}

const char *at_nearest_word(const char *word, const char *const *words)
{
    const char *nearest = NULL;
    unsigned least = UINT_MAX;
    for (; *words; words++) {
        unsigned d = distance(word, *words);
        size_t longest = MAX(strlen(word), strlen(*words));
        if (d < least && d * 2 <= longest && d <= 3) {
            least = d;
            nearest = *words;
        }
    }
    return nearest;
}
