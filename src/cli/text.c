/* SPDX-License-Identifier: Apache-2.0 */
/* Text for people: tables aligned by display width, colours on terminals only, short times. */
#include "cli/text.h"

#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/plain.h"

bool at_text_colorful(void)
{
    const char *no = g_getenv("NO_COLOR"), *term = g_getenv("TERM");
    return isatty(STDOUT_FILENO) && !(no && *no) && g_strcmp0(term, "dumb") != 0;
}

static unsigned char_width(gunichar c)
{
    return g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
}

unsigned at_text_width(const char *text)
{
    unsigned width = 0;
    for (const char *p = text; *p; p = g_utf8_next_char(p))
        width += char_width(g_utf8_get_char(p));
    return width;
}

char *at_text_cut(const char *text, unsigned width)
{
    if (at_text_width(text) <= width)
        return g_strdup(text);
    unsigned used = 0, room = width > 3 ? width - 3 : 0;
    const char *p = text;
    for (; *p && used + char_width(g_utf8_get_char(p)) <= room; p = g_utf8_next_char(p))
        used += char_width(g_utf8_get_char(p));
    g_autofree char *head = g_strndup(text, (size_t)(p - text));
    return g_strconcat(head, &"..."[width < 3 ? 3 - width : 0], NULL);
}

enum at_color at_text_state_color(const char *state)
{
    static const char *const good[] = {"running", "healthy", "done", "sealed", "verified", NULL};
    static const char *const busy[] = {"starting", "changing", "partial",   "queued",
                                       "captured", "paused",   "cancelled", NULL};
    static const char *const bad[] = {"crashed", "unhealthy", "failed", "undone", NULL};
    if (!state)
        return AT_PLAIN;
    return g_strv_contains(good, state)   ? AT_GREEN
           : g_strv_contains(busy, state) ? AT_YELLOW
           : g_strv_contains(bad, state)  ? AT_RED
                                          : AT_PLAIN;
}

static const char *escape_of(enum at_color color)
{
    static const char *const escapes[] = {"",         "\033[1m",  "\033[2m",
                                          "\033[32m", "\033[33m", "\033[31m"};
    return escapes[color];
}

static void put(enum at_color color, const char *text)
{
    if (color != AT_PLAIN && at_text_colorful())
        g_print("%s%s\033[0m", escape_of(color), text);
    else
        g_print("%s", text);
}

void at_text_line(FILE *to, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_autofree char *plain = at_plain_text(text, false);
    (to == stderr ? g_printerr : g_print)("%s\n", plain);
}

void at_text_json(FILE *to, const char *json)
{
    for (const char *p = json; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        if (c != '\n' && at_plain_steers(c)) /* stands in a string: others are never written */
            fprintf(to, "\\u%04x", c);
        else
            fwrite(p, 1, (size_t)(g_utf8_next_char(p) - p), to);
    }
    fputc('\n', to); /* UTF-8 in every locale */
    fflush(to);
}

static GDateTime *read_time(const char *text)
{
    return text ? g_date_time_new_from_iso8601(text, NULL) : NULL;
}

char *at_text_time(const char *rfc3339)
{
    g_autoptr(GDateTime) utc = read_time(rfc3339);
    g_autoptr(GDateTime) local = utc ? g_date_time_to_local(utc) : NULL;
    return local ? g_date_time_format(local, "%b %e %H:%M") : g_strdup("-");
}

char *at_text_duration(double seconds)
{
    unsigned whole = (unsigned)(seconds + 0.5);
    if (seconds < 60)
        return g_strdup_printf("%.1f s", seconds);
    if (whole < 3600)
        return g_strdup_printf("%u min %02u s", whole / 60, whole % 60);
    return g_strdup_printf("%u h %02u min", whole / 3600, whole / 60 % 60);
}

char *at_text_between(const char *from, const char *to)
{
    g_autoptr(GDateTime) a = read_time(from), b = read_time(to);
    return a && b ? at_text_duration((double)g_date_time_difference(b, a) / 1e6) : NULL;
}

char *at_text_size(uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    for (; value >= 1024 && unit + 1 < G_N_ELEMENTS(units); unit++)
        value /= 1024;
    bool whole = unit == 0 || value >= 99.95 || value == (double)(uint64_t)value;
    return g_strdup_printf(whole ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

char *at_text_job(JsonObject *job)
{
    g_autofree char *kind = g_strdelimit(g_strdup(at_json_str(job, "kind", "job")), "-", ' ');
    g_autofree char *noun = g_strndup(kind, strcspn(kind, " "));
    const char *target = at_json_str(job, "target", "");
    if (g_str_has_prefix(target, noun)) { /* "image debian-12", or "vault" alone */
        char behind = target[strlen(noun)];
        if (behind == ' ' || behind == '\0')
            target += strlen(noun) + (behind == ' ');
    }
    g_autofree char *text = g_strconcat(kind, *target ? " " : "", target, NULL);
    return at_plain_text(text, false);
}

char *at_text_digest(const char *hex)
{
    return hex ? g_strndup(hex, 12) : g_strdup("-");
}

/* ---- tables ---- */

struct cell {
    char *text;
    enum at_color color;
};

struct at_table {
    unsigned columns;
    bool *right;
    GArray *cells; /* of struct cell, heads first */
};

static void cell_clear(void *data)
{
    g_free(((struct cell *)data)->text);
}

struct at_table *at_table_new(const char *const *heads)
{
    struct at_table *table = g_new0(struct at_table, 1);
    table->columns = g_strv_length((char **)heads);
    table->right = g_new0(bool, table->columns);
    table->cells = g_array_new(FALSE, FALSE, sizeof(struct cell));
    g_array_set_clear_func(table->cells, cell_clear);
    for (unsigned i = 0; i < table->columns; i++) {
        table->right[i] = heads[i][0] == '>';
        at_table_cell(table, AT_BOLD, heads[i] + table->right[i]);
    }
    return table;
}

void at_table_cell(struct at_table *table, enum at_color color, const char *text)
{
    struct cell cell = {at_plain_text(text ? text : "-", false), color};
    g_array_append_val(table->cells, cell);
}

void at_table_take(struct at_table *table, enum at_color color, char *text)
{
    at_table_cell(table, color, text);
    g_free(text);
}

void at_table_print(struct at_table *table, const char *none)
{
    unsigned n = table->columns;
    g_autofree unsigned *widths = g_new0(unsigned, n);
    const struct cell *cells = (struct cell *)(void *)table->cells->data;
    for (unsigned i = 0; i < table->cells->len; i++)
        widths[i % n] = MAX(widths[i % n], at_text_width(cells[i].text));
    if (table->cells->len == n)
        g_print("%s\n", none);
    for (unsigned row = 0; row < table->cells->len && table->cells->len > n; row += n) {
        unsigned last = n - 1; /* nothing is printed behind the last cell with text */
        while (last > 0 && *cells[row + last].text == '\0')
            last--;
        for (unsigned i = 0; i <= last; i++) {
            unsigned pad = widths[i] - at_text_width(cells[row + i].text);
            g_print("%*s", table->right[i] ? (int)pad : 0, "");
            put(cells[row + i].color, cells[row + i].text);
            if (i < last)
                g_print("%*s", (int)(2 + (table->right[i] ? 0 : pad)), "");
        }
        g_print("\n");
    }
    at_table_discard(table);
}

void at_table_discard(struct at_table *table)
{
    g_array_unref(table->cells);
    g_free(table->right);
    g_free(table);
}

void at_text_field(const char *name, const char *value)
{
    g_autofree char *label = at_plain_text(name, false);
    g_autofree char *text = at_plain_text(value ? value : "-", false);
    put(AT_DIM, label);
    g_print("%*s%s\n", (int)MAX(18 - (int)at_text_width(label), 1), "", text);
}

void at_text_field_take(const char *name, char *value)
{
    at_text_field(name, value);
    g_free(value);
}

void at_text_title(const char *text)
{
    g_autofree char *plain = at_plain_text(text, false);
    put(AT_BOLD, plain);
    g_print("\n");
}
