/* SPDX-License-Identifier: Apache-2.0 */
/* VDC files: each file in bad/ says in its first line which error it must give; mutated files give
 * errors with a place or definitions that read back equal, and never anything else. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "wire/definition-file.h"
#include "wire/yaml.h"

static void check_bad(const char *name)
{
    static const char head[] = "# expects: ";
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    g_assert_true(g_file_get_contents(name, &text, NULL, NULL));
    g_assert_true(g_str_has_prefix(text, head));
    g_autofree char *line = g_strndup(text + strlen(head), strcspn(text, "\n") - strlen(head));
    g_autofree char *expected = g_strdup_printf("%s:%s", name, line);
    g_autoptr(at_definition) def = at_definition_load(name, NULL, &error);
    if (def)
        g_error("%s was accepted", name);
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_assert_cmpstr(error->message, ==, expected);
}

static void test_bad_files(void)
{
    g_autoptr(GDir) dir = g_dir_open(".", 0, NULL);
    const char *name;
    int n = 0;
    for (; (name = g_dir_read_name(dir)); n++)
        check_bad(name);
    g_assert_cmpint(n, >=, 90);
}

static void check_text(const char *text, gssize len, const char *expected)
{
    g_autofree char *dir = g_dir_make_tmp("atoll-file-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "team.yaml", NULL);
    g_autoptr(GError) error = NULL;
    g_assert_true(g_file_set_contents(path, text, len, NULL));
    g_assert_null(at_definition_load(path, NULL, &error));
    g_assert_nonnull(error);
    g_assert_true(g_str_has_prefix(error->message, dir));
    g_assert_cmpstr(error->message + strlen(dir) + 1, ==, expected);
    g_unlink(path);
    g_rmdir(dir);
}

static void test_not_yaml(void)
{
    g_autofree char *large = g_strnfill((1 << 20) + 1, '#');
    check_text("", 0, "team.yaml:1:1: the file is empty");
    check_text("# nothing\n", -1, "team.yaml:1:1: the file is empty");
    check_text("vdc: a\nb: \xff\n", -1,
               "team.yaml:2:4: the file is not UTF-8 text (is it a YAML file?)");
    check_text("vdc: a\0b\n", 9, "team.yaml:1:7: the file is not UTF-8 text (is it a YAML file?)");
    check_text("vdc: \"a\\0b\"\n", -1, "team.yaml:1:6: text must not contain NUL characters");
    check_text(large, -1, "team.yaml: has 1048577 bytes, allowed are at most 1 MiB");
}

static void test_not_a_file(void)
{
    g_autoptr(GError) missing = NULL, dir = NULL;
    g_assert_null(at_definition_load("no-such.yaml", NULL, &missing));
    g_assert_error(missing, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_assert_cmpstr(missing->message, ==, "no-such.yaml: No such file or directory");
    g_assert_null(at_definition_load("/", NULL, &dir));
    g_assert_error(dir, AT_ERROR, AT_ERROR_INVALID);
}

static void test_user_data_file(void)
{
    g_autofree char *dir = g_dir_make_tmp("atoll-file-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "team.yaml", NULL);
    g_autofree char *data = g_build_filename(dir, "a.cfg", NULL);
    g_assert_true(g_file_set_contents(path,
                                      "vdc: a\nworkstations: [{name: b, disks: [{size: 1 GiB}], "
                                      "cloud_init: {user_data: a.cfg}}]\n",
                                      -1, NULL));
    g_assert_true(g_file_set_contents(data, "#cloud-config\nruncmd: []\n", -1, NULL));
    g_autoptr(GError) error = NULL;
    g_autoptr(at_definition) def = at_definition_load(path, NULL, &error);
    g_assert_no_error(error);
    const struct at_def_workstation *ws = def->workstations->pdata[0];
    g_assert_cmpstr(ws->user_data, ==, "#cloud-config\nruncmd: []\n");

    g_autofree char *large = g_strnfill((64 << 10) + 1, '#');
    g_assert_true(g_file_set_contents(data, large, -1, NULL));
    g_assert_null(at_definition_load(path, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_assert_nonnull(strstr(error->message, "65537 bytes, allowed are at most 64 KiB"));
    g_unlink(data);
    g_unlink(path);
    g_rmdir(dir);
}

/* Errors are printable, begin with a place in the file, and come alone. */
static void check_mutant(const char *text, size_t len)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(at_yaml) yaml = at_yaml_parse("m.yaml", text, len, &error);
    g_autofree char *pointer = NULL;
    g_assert_true((yaml == NULL) == (error != NULL));
    if (!yaml) {
        g_assert_true(g_str_has_prefix(error->message, "m.yaml:"));
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        return;
    }
    g_autoptr(at_definition) def = at_definition_parse(at_yaml_root(yaml), &pointer, &error);
    g_assert_true((def == NULL) == (error != NULL));
    g_assert_true((def == NULL) == (pointer != NULL));
    if (!def) {
        g_autofree char *place = at_yaml_place(yaml, pointer);
        g_assert_true(g_str_has_prefix(place, "m.yaml:"));
        return;
    }
    g_autoptr(JsonNode) once = at_definition_to_json(def);
    g_autoptr(at_definition) again = at_definition_parse(once, NULL, &error);
    g_assert_no_error(error);
    g_autoptr(JsonNode) twice = at_definition_to_json(again);
    g_autofree char *a = at_json_text(once), *b = at_json_text(twice);
    g_assert_cmpstr(a, ==, b);
}

static void mutate(GString *text, GRand *rand)
{
    static const char *const tokens[] = {"[",  "]",   "{",  "}",    ":",  ",",  "- ", "\n", "&a ",
                                         "*a", "!!x", "\"", "'",    "|",  ">",  "#",  "%",  "\t",
                                         "~",  "---", "<<", "true", "-1", "0x", "1e", "  ", "\xff"};
    unsigned at = text->len ? (unsigned)g_rand_int_range(rand, 0, (gint32)text->len) : 0;
    unsigned span = (unsigned)g_rand_int_range(rand, 1, 40);
    span = MIN(span, (unsigned)text->len - at);
    const char *token = tokens[g_rand_int_range(rand, 0, G_N_ELEMENTS(tokens))];
    switch (g_rand_int_range(rand, 0, 5)) {
    case 0:
        text->str[at] = (char)g_rand_int_range(rand, 0, 256);
        break;
    case 1:
        g_string_erase(text, at, span);
        break;
    case 2: {
        g_autofree char *piece = g_strndup(text->str + at, span);
        g_string_insert(text, g_rand_int_range(rand, 0, (gint32)text->len), piece);
        break;
    }
    case 3:
        g_string_insert(text, at, token);
        break;
    default:
        g_string_truncate(text, at);
    }
    if (text->len == 0)
        g_string_append(text, "vdc");
}

static void test_mutants(void)
{
    g_autofree char *path = g_test_build_filename(G_TEST_DIST, "rag-team.yaml", NULL);
    g_autofree char *seed = NULL;
    size_t len;
    g_assert_true(g_file_get_contents(path, &seed, &len, NULL));
    check_mutant(seed, len);
    g_autoptr(GRand) rand = g_rand_new_with_seed(20261123);
    for (int i = 0; i < 3000; i++) {
        g_autoptr(GString) text = g_string_new_len(seed, (gssize)len);
        for (int n = g_rand_int_range(rand, 1, 6); n > 0; n--)
            mutate(text, rand);
        check_mutant(text->str, text->len);
    }
}

static void test_everything(void)
{
    g_autofree char *path = g_test_build_filename(G_TEST_DIST, "rag-team.yaml", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(at_definition) def = at_definition_load(path, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(def->workstations->len, ==, 3);
    const struct at_def_workstation *ws = def->workstations->pdata[0];
    g_assert_cmpuint(ws->health->len, ==, 3);
    g_assert_cmpstr(ws->hostname, ==, "finder");
    const struct at_def_health *tcp = ws->health->pdata[1];
    g_assert_cmpstr(tcp->target, ==, "10.20.0.10:22");
    g_assert_cmpuint(tcp->every_s, ==, 60);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_autofree char *bad = g_test_build_filename(G_TEST_DIST, "bad", NULL);
    g_assert_cmpint(chdir(bad), ==, 0);
    g_test_add_func("/wire/file/names-place-finding-and-allowed-for-every-bad-file",
                    test_bad_files);
    g_test_add_func("/wire/file/refuses-what-is-no-yaml", test_not_yaml);
    g_test_add_func("/wire/file/refuses-what-is-no-file", test_not_a_file);
    g_test_add_func("/wire/file/takes-user-data-from-a-file-beside-it", test_user_data_file);
    g_test_add_func("/wire/file/reads-every-key", test_everything);
    g_test_add_func("/wire/file/survives-mutation", test_mutants);
    return g_test_run();
}
