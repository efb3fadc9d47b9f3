/* SPDX-License-Identifier: Apache-2.0 */
/* The test's side of the state of NVML's double. */
#include "lib/nvml-double/nvml-state.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "lib/at-test.h"

const char *nvml_state_new(const char *dir, const char *text)
{
    const char *path = at_test_file(dir, "nvml-state", text);
    g_setenv("ATOLL_NVML_DOUBLE", path, TRUE);
    return path;
}

/* The lines, with the file locked as long as the descriptor is open. */
static int open_locked(const char *path, GPtrArray **ret_lines)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(flock(fd, LOCK_EX), ==, 0);
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    *ret_lines = g_ptr_array_new_with_free_func(g_free);
    for (char **line = lines; *line; line++) {
        if (**line)
            g_ptr_array_add(*ret_lines, g_strdup(*line));
    }
    return fd;
}

static void write_lines(int fd, const GPtrArray *lines)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < lines->len; i++)
        g_string_append_printf(text, "%s\n", (const char *)lines->pdata[i]);
    g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    g_assert_cmpint(pwrite(fd, text->str, text->len, 0), ==, (gssize)text->len);
    g_string_free(text, TRUE);
}

void nvml_state_add(const char *path, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_autoptr(GPtrArray) lines = NULL;
    at_autofd fd = open_locked(path, &lines);
    g_ptr_array_add(lines, line);
    write_lines(fd, lines);
}

unsigned nvml_state_remove(const char *path, const char *prefix)
{
    g_autoptr(GPtrArray) lines = NULL;
    at_autofd fd = open_locked(path, &lines);
    unsigned gone = 0;
    for (unsigned i = lines->len; i > 0; i--) {
        if (g_str_has_prefix(lines->pdata[i - 1], prefix)) {
            g_ptr_array_remove_index(lines, i - 1);
            gone++;
        }
    }
    write_lines(fd, lines);
    return gone;
}

unsigned nvml_state_count(const char *path, const char *prefix)
{
    g_autoptr(GPtrArray) lines = NULL;
    at_autofd fd = open_locked(path, &lines);
    unsigned n = 0;
    for (unsigned i = 0; i < lines->len; i++)
        n += g_str_has_prefix(lines->pdata[i], prefix);
    return n;
}

void nvml_state_set(const char *path, const char *address, const char *key, const char *value)
{
    g_autoptr(GPtrArray) lines = NULL;
    at_autofd fd = open_locked(path, &lines);
    g_autofree char *card = g_strdup_printf("card %s ", address);
    g_autofree char *word = g_strdup_printf("%s=", key);
    bool found = false;
    for (unsigned i = 0; i < lines->len; i++) {
        if (!g_str_has_prefix(lines->pdata[i], card))
            continue;
        found = true;
        g_auto(GStrv) words = g_strsplit(lines->pdata[i], " ", -1);
        GString *line = g_string_new(NULL);
        for (char **w = words; *w; w++) {
            if (!g_str_has_prefix(*w, word))
                g_string_append_printf(line, "%s ", *w);
        }
        g_string_append_printf(line, "%s%s", word, value);
        g_free(lines->pdata[i]);
        lines->pdata[i] = g_string_free(line, FALSE);
    }
    g_assert_true(found);
    write_lines(fd, lines);
}
