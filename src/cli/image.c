/* SPDX-License-Identifier: Apache-2.0 */
/* atoll image: immutable disks that workstations begin with. */
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/job-wait.h"
#include "cli/text.h"
#include "wire/definition.h"

static char *opt_name, *opt_suite, *opt_size, *opt_format;
static char **opt_include;

static const GOptionEntry import_options[] = {
    {"name", 'n', 0, G_OPTION_ARG_STRING, &opt_name, "its name (default: from the file's)", "NAME"},
    {NULL},
};
static const GOptionEntry build_options[] = {
    {"name", 'n', 0, G_OPTION_ARG_STRING, &opt_name, "its name", "NAME"},
    {"include", 0, 0, G_OPTION_ARG_STRING_ARRAY, &opt_include,
     "packages to install; may be given several times", "PKG,..."},
    {"suite", 0, 0, G_OPTION_ARG_STRING, &opt_suite, "release (default bookworm)", "SUITE"},
    {"size", 0, 0, G_OPTION_ARG_STRING, &opt_size, "of the disk (default 4 GiB)", "SIZE"},
    {NULL},
};
static const GOptionEntry export_options[] = {
    {"format", 0, 0, G_OPTION_ARG_STRING, &opt_format, "instead of the one FILE's ending names",
     "raw|qcow2"},
    {NULL},
};

static int follow(struct at_cli *cli, JsonNode *answer, GError **error)
{
    return answer ? at_job_follow(cli, answer) : at_cli_fail(error);
}

/* "Debian-12.qcow2" -> "debian-12". */
static char *name_of_file(const char *path)
{
    g_autofree char *base = g_path_get_basename(path);
    char *dot = strrchr(base, '.');
    if (dot && dot != base)
        *dot = '\0';
    char *name = g_ascii_strdown(base, -1);
    return g_strdelimit(name, "._ ", '-');
}

static int run_import(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autofree char *name = opt_name ? g_strdup(opt_name) : name_of_file(args[0]);
    g_autofree char *path = g_canonicalize_filename(args[0], NULL);
    if (!at_name_check(name, "image", &error))
        return at_cli_fail_next(&error, opt_name ? NULL : "name it with --name NAME");
    JsonObject *body = json_object_new();
    json_object_set_string_member(body, "name", name);
    json_object_set_string_member(body, "path", path);
    JsonNode *answer =
        at_client_call(at_cli_client(cli), "POST", at_json_take_obj(body), &error, "/v1/images");
    return follow(cli, answer, &error);
}

static JsonArray *included_packages(void)
{
    JsonArray *include = json_array_new();
    for (char **list = opt_include; list && *list; list++) {
        g_auto(GStrv) words = g_strsplit_set(*list, ", ", -1);
        for (char **word = words; *word; word++) {
            if (**word)
                json_array_add_string_element(include, *word);
        }
    }
    return include;
}

static int run_build(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    uint64_t size = 0;
    if (strcmp(args[0], "debian") != 0)
        return at_cli_usage("only debian can be built, not \"%s\"", args[0]);
    if (!opt_name)
        return at_cli_usage("build needs --name NAME");
    if (!at_name_check(opt_name, "image", &error))
        return at_cli_fail(&error);
    if (opt_size && !at_size_parse(opt_size, &size, &error)) {
        g_prefix_error(&error, "--size: ");
        return at_cli_fail(&error);
    }
    JsonObject *build = json_object_new();
    json_object_set_string_member(build, "distribution", args[0]);
    json_object_set_string_member(build, "suite", opt_suite ? opt_suite : "bookworm");
    json_object_set_array_member(build, "include", included_packages());
    if (size)
        json_object_set_int_member(build, "size", (int64_t)size);
    JsonObject *body = json_object_new();
    json_object_set_string_member(body, "name", opt_name);
    json_object_set_object_member(body, "build", build);
    JsonNode *answer =
        at_client_call(at_cli_client(cli), "POST", at_json_take_obj(body), &error, "/v1/images");
    return follow(cli, answer, &error);
}

static char *used_by(JsonObject *image)
{
    JsonArray *arr = at_json_arr(image, "used_by");
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonNode *node = json_array_get_element(arr, i);
        if (JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING)
            g_string_append_printf(text, "%s%s", text->len ? ", " : "", json_node_get_string(node));
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static int run_list(struct at_cli *cli, char **args)
{
    static const char *const heads[] = {"NAME",    ">SIZE",   ">STORED", "FORMAT",
                                        "CREATED", "USED BY", NULL};
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/images");
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    struct at_table *table = at_table_new(heads);
    JsonArray *arr = at_cli_list(node, "images");
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *image = json_array_get_object_element(arr, i);
        at_table_cell(table, AT_PLAIN, at_json_str(image, "name", NULL));
        at_table_take(table, AT_PLAIN, at_text_size((uint64_t)at_json_int(image, "size", 0)));
        at_table_take(table, AT_PLAIN,
                      at_text_size((uint64_t)at_json_int(image, "stored_bytes", 0)));
        at_table_cell(table, AT_PLAIN, at_json_str(image, "format", NULL));
        at_table_take(table, AT_PLAIN, at_text_time(at_json_str(image, "created", NULL)));
        at_table_take(table, AT_PLAIN, used_by(image));
    }
    at_table_print(table, "no images; atoll image build debian --name debian-12 makes one");
    return AT_EXIT_DONE;
}

static int run_show(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/images/%s", args[0]);
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    JsonObject *image = at_cli_object(node);
    at_text_field("image", at_json_str(image, "name", NULL));
    at_text_field_take("size", at_text_size((uint64_t)at_json_int(image, "size", 0)));
    at_text_field_take("stored", at_text_size((uint64_t)at_json_int(image, "stored_bytes", 0)));
    at_text_field("root", at_json_str(image, "root", NULL));
    at_text_field("format", at_json_str(image, "format", NULL));
    at_text_field("source", at_json_str(image, "source", NULL));
    at_text_field_take("created", at_text_time(at_json_str(image, "created", NULL)));
    at_text_field_take("used by", used_by(image));
    return AT_EXIT_DONE;
}

static int run_delete(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    JsonNode *answer =
        at_client_call(at_cli_client(cli), "DELETE", NULL, &error, "/v1/images/%s", args[0]);
    return follow(cli, answer, &error);
}

static int run_export(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autofree char *path = g_canonicalize_filename(args[1], NULL);
    const char *format = opt_format                         ? opt_format
                         : g_str_has_suffix(path, ".qcow2") ? "qcow2"
                         : g_str_has_suffix(path, ".raw") || g_str_has_suffix(path, ".img") ? "raw"
                                                                                            : "";
    if (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
        return at_cli_usage("FILE ends in .raw, .img or .qcow2, or --format is raw or qcow2");
    JsonObject *body = json_object_new();
    json_object_set_string_member(body, "path", path);
    json_object_set_string_member(body, "format", format);
    JsonNode *answer = at_client_call(at_cli_client(cli), "POST", at_json_take_obj(body), &error,
                                      "/v1/images/%s/export", args[0]);
    return follow(cli, answer, &error);
}

const struct at_verb at_verbs_image[] = {
    {"import", "FILE", "make an image from a disk file (raw, qcow2, vmdk, vhdx)",
     "Examples:\n  atoll image import debian-12.qcow2\n"
     "  atoll image import weights.raw --name weights-v1\n",
     import_options, true, run_import},
    {"build", "debian", "make an image from Debian packages",
     "The image boots by itself and has a serial console, cloud-init and the guest agent.\n\n"
     "Example:\n  atoll image build debian --name debian-12 --include python3,curl --size \"4 "
     "GiB\"\n",
     build_options, true, run_build},
    {"list", "", "list images", "Example:\n  atoll image list\n", NULL, false, run_list},
    {"show", "IMAGE", "show an image", "Example:\n  atoll image show debian-12\n", NULL, false,
     run_show},
    {"delete", "IMAGE", "delete an image; disks made from it stay",
     "Example:\n  atoll image delete debian-12\n", NULL, true, run_delete},
    {"export", "IMAGE FILE", "write an image to a disk file",
     "Examples:\n  atoll image export debian-12 debian-12.qcow2\n"
     "  atoll image export debian-12 /dev/shm/d --format raw\n",
     export_options, true, run_export},
    {0},
};
