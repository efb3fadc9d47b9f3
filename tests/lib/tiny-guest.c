/* SPDX-License-Identifier: Apache-2.0 */
/* Getting the tiny test guest, and reading what it says. */
#include "lib/tiny-guest.h"

#include <stdlib.h>
#include <string.h>

#include "lib/at-test.h"

enum { BUILD_MS = 5 * 60 * 1000, CANNOT = 77 };

const char *at_test_tiny_guest(void)
{
    static char *path;
    const char *cache = g_getenv("ATOLL_TEST_CACHE");
    const char *const argv[] = {AT_TINY_GUEST_SCRIPT, cache ? cache : "/var/tmp/atoll-test-cache",
                                NULL};
    g_autofree char *output = NULL;
    if (path)
        return path;
    int status = at_test_run(argv, BUILD_MS, &output);
    g_strchomp(output);
    char *line = strrchr(output, '\n');
    line = line ? line + 1 : output;
    if (status == CANNOT) {
        g_test_skip(line);
        return NULL;
    }
    if (status != 0)
        g_error("tiny-guest.sh failed (%d): %s", status, output);
    path = g_strdup(line);
    return path;
}

static char *read_from(const char *path, uint64_t from, gsize *ret_len)
{
    g_autofree char *text = NULL;
    gsize len;
    if (!g_file_get_contents(path, &text, &len, NULL) || len <= from)
        return NULL;
    *ret_len = len - from;
    return g_memdup2(text + from, len - from + 1);
}

bool at_test_wait_for_text(const char *path, uint64_t from, const char *text, int timeout_ms,
                           uint64_t *ret_end)
{
    gint64 deadline = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    for (;;) {
        gsize len;
        g_autofree char *content = read_from(path, from, &len);
        char *found = content ? memmem(content, len, text, strlen(text)) : NULL;
        if (found && ret_end)
            *ret_end = from + (uint64_t)(found - content) + strlen(text);
        if (found)
            return true;
        if (g_get_monotonic_time() >= deadline)
            return false;
        g_usleep(50 * 1000);
    }
}

int64_t at_test_last_value(const char *path, const char *line, const char *name)
{
    g_autofree char *text = NULL;
    g_autofree char *key = g_strdup_printf(" %s=", name);
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return -1;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (int i = (int)g_strv_length(lines) - 2; i >= 0; i--) { /* the last one may be half */
        char *start = strstr(lines[i], line); /* a prompt may stand in front of it */
        char *value = start ? strstr(start, key) : NULL;
        if (value)
            return strtoll(value + strlen(key), NULL, 10);
    }
    return -1;
}
