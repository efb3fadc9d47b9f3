/* SPDX-License-Identifier: Apache-2.0 */
/* atoll: finds the noun and the verb, reads the options, runs the verb. */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/text.h"
#include "wire/scalar.h"

const struct at_noun at_nouns[] = {
    {"vdc", "virtual data centers: apply, start, stop, clone, restore", at_verbs_vdc},
    {"snapshot", "one instant of a whole VDC", at_verbs_snapshot},
    {"ws", "workstations: state, console, log", at_verbs_ws},
    {"image", "disks that workstations begin with", at_verbs_image},
    {"gpu", "graphics processors: what there is, who holds what", at_verbs_gpu},
    {"job", "long operations", at_verbs_job},
    {"vault", "the store of all disks", at_verbs_vault},
    {"node", "this host", at_verbs_node},
    {"events", "what happens", at_verbs_events},
    {"completion", "for shells", at_verbs_completion},
    {0},
};

const struct at_alias at_aliases[] = {
    {"", "apply", "vdc", "apply"},
    {"", "list", "vdc", "list"},
    {"", "show", "vdc", "show"},
    {"", "start", "vdc", "start"},
    {"", "stop", "vdc", "stop"},
    {"", "delete", "vdc", "delete"},
    {"", "clone", "vdc", "clone"},
    {"", "restore", "vdc", "restore"},
    {"", "undo", "vdc", "undo"},
    {"snapshot", "clone", "vdc", "clone"},
    {"snapshot", "restore", "vdc", "restore"},
    {"vault", "show", "vault", "status"},
    {0},
};

const struct at_noun *at_noun_find(const char *name)
{
    for (const struct at_noun *noun = at_nouns; noun->name; noun++) {
        if (strcmp(noun->name, name) == 0)
            return noun;
    }
    return NULL;
}

const struct at_verb *at_verb_find(const char *noun, const char *name)
{
    for (const struct at_alias *alias = at_aliases; alias->name; alias++) {
        if (strcmp(alias->noun, noun) == 0 && strcmp(alias->name, name) == 0)
            return at_verb_find(alias->of_noun, alias->of_verb);
    }
    const struct at_noun *found = at_noun_find(noun);
    for (const struct at_verb *verb = found ? found->verbs : NULL; verb && verb->name; verb++) {
        if (strcmp(verb->name, name) == 0)
            return verb;
    }
    return NULL;
}

void at_verb_arg_counts(const struct at_verb *verb, unsigned *ret_min, unsigned *ret_max)
{
    g_auto(GStrv) words = g_strsplit(verb->args, " ", -1);
    unsigned min = 0, max = 0;
    for (char **word = words; *word; word++) {
        if (**word == '\0')
            continue;
        min += **word != '[';
        max = g_str_has_suffix(*word, "...") || g_str_has_suffix(*word, "...]") ? 1000 : max + 1;
    }
    *ret_min = min;
    *ret_max = max;
}

/* ---- what verbs share ---- */

struct at_client *at_cli_client(struct at_cli *cli)
{
    if (!cli->client)
        cli->client = at_client_new(cli->socket);
    return cli->client;
}

bool at_cli_split(const char *text, char mark, char **ret_left, char **ret_right)
{
    const char *at = strchr(text, mark);
    if (!at || at == text || !at[1] || strchr(at + 1, mark)) {
        at_cli_usage("\"%s\" is not %s", text,
                     mark == '@' ? "VDC@SNAPSHOT, such as rag-team@nightly"
                                 : "VDC/WORKSTATION, such as rag-team/tune");
        return false;
    }
    *ret_left = g_strndup(text, (size_t)(at - text));
    *ret_right = g_strdup(at + 1);
    return true;
}

bool at_cli_json(struct at_cli *cli, JsonNode *node)
{
    if (!cli->json)
        return false;
    g_autofree char *text = at_json_pretty(node);
    at_text_json(stdout, text);
    return true;
}

JsonArray *at_cli_list(JsonNode *node, const char *name)
{
    return JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node)
                                       : at_json_arr(at_cli_object(node), name);
}

JsonObject *at_cli_object(JsonNode *node)
{
    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

void at_cli_record_field(const char *name, JsonNode *node, char **ret_label, char **ret_value)
{
    g_autoptr(GString) label = g_string_new(name);
    bool is_bytes = strstr(name, "bytes") || strcmp(name, "memory") == 0;
    g_string_replace(label, "_bytes", "", 0);
    g_string_replace(label, "bytes_", "", 0);
    g_string_replace(label, "_", " ", 0);
    *ret_label = g_string_free(g_steal_pointer(&label), FALSE);
    GType type = JSON_NODE_HOLDS_VALUE(node) ? json_node_get_value_type(node) : G_TYPE_INVALID;
    if (is_bytes && type == G_TYPE_INT64)
        *ret_value = at_text_size((uint64_t)json_node_get_int(node));
    else if (type == G_TYPE_STRING)
        *ret_value = json_node_dup_string(node);
    else
        *ret_value = at_json_text(node);
}

static char *list_text(JsonArray *arr)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; i < json_array_get_length(arr); i++) {
        JsonNode *node = json_array_get_element(arr, i);
        g_autofree char *one = NULL, *none = NULL;
        at_cli_record_field("", node, &none, &one);
        g_string_append_printf(text, "%s%s", i ? ", " : "", one);
    }
    return text->len ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

void at_cli_print_record(JsonObject *obj)
{
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;
    if (!obj)
        return;
    json_object_iter_init_ordered(&iter, obj);
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        g_autofree char *label = NULL, *value = NULL;
        at_cli_record_field(name, node, &label, &value);
        if (JSON_NODE_HOLDS_OBJECT(node)) {
            at_text_title(label);
            at_cli_print_record(json_node_get_object(node));
        } else if (JSON_NODE_HOLDS_ARRAY(node)) {
            at_text_field_take(label, list_text(json_node_get_array(node)));
        } else if (JSON_NODE_HOLDS_VALUE(node)) {
            at_text_field(label, value);
        }
    }
}

/* ---- the command line ---- */

/* Takes the first word (nothing that begins with -) out of @argv. */
static char *take_word(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--socket") == 0) {
            i++;
            continue;
        }
        if (argv[i][0] == '-')
            continue;
        char *word = argv[i];
        memmove(argv + i, argv + i + 1, sizeof(char *) * (size_t)(*argc - i));
        (*argc)--;
        return word;
    }
    return NULL;
}

static bool has_option(int argc, char **argv, const char *option)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], option) == 0)
            return true;
        if (strcmp(argv[i], "--") == 0)
            break;
    }
    return false;
}

static int unknown_noun(const char *word)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    for (const struct at_noun *noun = at_nouns; noun->name; noun++)
        g_ptr_array_add(words, (char *)noun->name);
    for (const struct at_alias *alias = at_aliases; alias->name; alias++) {
        if (*alias->noun == '\0')
            g_ptr_array_add(words, (char *)alias->name);
    }
    g_ptr_array_add(words, NULL);
    const char *near = at_nearest_word(word, (const char *const *)words->pdata);
    if (strcmp(word, "create") == 0)
        return at_cli_usage("there is no \"create\"; a VDC is made by atoll apply -f FILE, a "
                            "snapshot by atoll snapshot create VDC");
    if (near)
        return at_cli_usage("there is no \"%s\", did you mean \"%s\"? See atoll --help", word,
                            near);
    return at_cli_usage("there is no \"%s\"; see atoll --help", word);
}

static int unknown_verb(const struct at_noun *noun, const char *word)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    for (const struct at_verb *verb = noun->verbs; verb->name; verb++)
        g_ptr_array_add(words, (char *)verb->name);
    for (const struct at_alias *alias = at_aliases; alias->name; alias++) {
        if (strcmp(alias->noun, noun->name) == 0)
            g_ptr_array_add(words, (char *)alias->name);
    }
    g_ptr_array_add(words, NULL);
    g_autofree char *all = g_strjoinv(", ", (char **)words->pdata);
    const char *near = at_nearest_word(word, (const char *const *)words->pdata);
    if (near)
        return at_cli_usage("there is no \"%s %s\", did you mean \"%s %s\"? Verbs are %s",
                            noun->name, word, noun->name, near, all);
    return at_cli_usage("there is no \"%s %s\"; verbs are %s", noun->name, word, all);
}

static int help(int argc, char **argv)
{
    const char *word = take_word(&argc, argv), *second = take_word(&argc, argv);
    const struct at_noun *noun = word ? at_noun_find(word) : NULL;
    if (!word) {
        at_help_program(false);
        return AT_EXIT_DONE;
    }
    const struct at_verb *verb = second ? at_verb_find(word, second) : at_verb_find("", word);
    if (verb)
        at_help_verb(noun ? word : "", verb);
    else if (noun && !second)
        at_help_noun(noun, false);
    else
        return noun ? unknown_verb(noun, second) : unknown_noun(word);
    return AT_EXIT_DONE;
}

static int run(const char *noun, const struct at_verb *verb, int argc, char **argv)
{
    g_autofree char *socket = NULL;
    gboolean json = FALSE, wait = FALSE, no_wait = FALSE;
    const GOptionEntry common[] = {
        {"socket", 0, 0, G_OPTION_ARG_FILENAME, &socket, NULL, NULL},
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, NULL, NULL},
        {NULL},
    };
    const GOptionEntry waiting[] = {
        {"wait", 0, 0, G_OPTION_ARG_NONE, &wait, NULL, NULL},
        {"no-wait", 0, 0, G_OPTION_ARG_NONE, &no_wait, NULL, NULL},
        {NULL},
    };
    const char *space = *noun ? " " : "";
    g_autoptr(GError) error = NULL;
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_add_main_entries(context, common, NULL);
    if (verb->job)
        g_option_context_add_main_entries(context, waiting, NULL);
    if (verb->options)
        g_option_context_add_main_entries(context, verb->options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error))
        return at_cli_usage("%s; see atoll %s%s%s --help", error->message, noun, space, verb->name);
    unsigned min, max, n = (unsigned)argc - 1;
    at_verb_arg_counts(verb, &min, &max);
    bool dashes = n > 0 && strcmp(argv[1], "--") == 0;
    n -= dashes;
    if (n < min || n > max)
        return at_cli_usage("usage: atoll %s%s%s%s%s", noun, space, verb->name,
                            *verb->args ? " " : "", verb->args);
    if (wait && no_wait)
        return at_cli_usage("--wait and --no-wait exclude each other");
    const char *from_env = g_getenv("ATOLL_SOCKET");
    struct at_cli cli = {
        .socket = socket                  ? socket
                  : from_env && *from_env ? from_env
                                          : "/run/atoll/atolld.sock",
        .json = json,
        .wait = !no_wait,
    };
    int code = verb->run(&cli, argv + 1 + dashes);
    at_client_free(cli.client);
    return code;
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    signal(SIGPIPE, SIG_DFL);
    g_set_prgname("atoll");
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        g_print("atoll %s\n", ATOLL_VERSION);
        return AT_EXIT_DONE;
    }
    if (has_option(argc, argv, "--json")) /* also for errors of the command line */
        at_cli_errors_as_json();
    bool wants_help = has_option(argc, argv, "--help") || has_option(argc, argv, "-h");
    const char *word = take_word(&argc, argv);
    if (!word || strcmp(word, "help") == 0) {
        if (word || wants_help)
            return help(argc, argv);
        at_help_program(true);
        return AT_EXIT_USAGE;
    }
    const struct at_verb *verb = at_verb_find("", word);
    const struct at_noun *noun = at_noun_find(word);
    if (verb && wants_help) {
        at_help_verb("", verb);
        return AT_EXIT_DONE;
    }
    if (verb)
        return run("", verb, argc, argv);
    if (!noun)
        return unknown_noun(word);
    const char *second = take_word(&argc, argv);
    verb = second ? at_verb_find(word, second) : NULL;
    if (second && !verb)
        return unknown_verb(noun, second);
    if (!second) {
        at_help_noun(noun, !wants_help);
        return wants_help ? AT_EXIT_DONE : AT_EXIT_USAGE;
    }
    if (wants_help) {
        at_help_verb(word, verb);
        return AT_EXIT_DONE;
    }
    return run(word, verb, argc, argv);
}
