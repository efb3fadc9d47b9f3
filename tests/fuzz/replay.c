/* SPDX-License-Identifier: Apache-2.0 */
/* The normal run of a fuzz target: every sample of the corpus, and some hundred mutations of each
 * that are the same in every run. usage: fuzz-X [--tap] PATH... (files or directories) */
#include <glib.h>
#include <string.h>

#include "fuzz/fuzz.h"

enum { MUTATIONS = 300, SAMPLE_MAX = 1 << 20 };

static void mutate(GRand *rand, GByteArray *bytes)
{
    static const char *const words[] = {
        "{",    "}",   "[",  "]",   "\"",   ":", ",",  "\n",  "  ",
        "- ",   "&a ", "*a", "\\u", "\xff", "0", "-1", "1e9", "9223372036854775808",
        "null", "\t",  "#",  "!!",  "'",    "/", "TiB"};
    unsigned at = bytes->len ? (unsigned)g_rand_int_range(rand, 0, (gint32)bytes->len) : 0;
    unsigned left = bytes->len - at;
    unsigned n = (unsigned)g_rand_int_range(rand, 1, 17);
    n = MIN(n, left);
    const char *word = words[g_rand_int_range(rand, 0, G_N_ELEMENTS(words))];
    switch (g_rand_int_range(rand, 0, 6)) {
    case 0: /* flip a bit */
        if (left)
            bytes->data[at] ^= (guint8)(1u << g_rand_int_range(rand, 0, 8));
        break;
    case 1: /* cut off */
        g_byte_array_set_size(bytes, at);
        break;
    case 2: /* take out */
        if (n)
            g_byte_array_remove_range(bytes, at, n);
        break;
    case 3: { /* say a part again */
        g_autofree guint8 *part = g_memdup2(bytes->data + at, n);
        if (n)
            g_byte_array_append(bytes, part, n);
        break;
    }
    default: { /* put in what means something */
        g_autofree guint8 *rest = g_memdup2(bytes->data + at, left);
        g_byte_array_set_size(bytes, at);
        g_byte_array_append(bytes, (const guint8 *)word, (guint)strlen(word));
        if (left)
            g_byte_array_append(bytes, rest, left);
    }
    }
}

static void feed(const void *data, size_t len)
{
    /* A copy of exactly that size, so that a sanitizer sees a read beyond the end. */
    g_autofree uint8_t *exact = g_memdup2(data, len);
    LLVMFuzzerTestOneInput(exact, len);
}

static void replay(const void *path)
{
    g_autofree char *text = NULL;
    gsize len = 0;
    g_autoptr(GError) error = NULL;
    g_file_get_contents(path, &text, &len, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(len, <=, SAMPLE_MAX);
    feed(text, len);
    for (unsigned i = 0; i < MUTATIONS; i++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(i);
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_byte_array_append(bytes, (const guint8 *)text, (guint)len);
        for (unsigned n = i % 4 + 1; n > 0; n--)
            mutate(rand, bytes);
        feed(bytes->data, bytes->len);
    }
}

static void add(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    if (!dir) {
        g_autofree char *name = g_path_get_basename(path);
        g_autofree char *test = g_strdup_printf("/fuzz/%s/%s", g_get_prgname(), name);
        g_test_add_data_func_full(test, g_strdup(path), replay, g_free);
        return;
    }
    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        add(file);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int i = 1; i < argc; i++)
        add(argv[i]);
    return g_test_run();
}
