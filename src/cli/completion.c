/* SPDX-License-Identifier: Apache-2.0 */
/* atoll completion: the words that can come next, from the tables and from the daemon. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"

static const char *const bash_script =
    "# bash completion for atoll; the program itself knows what can come next.\n"
    "_atoll() {\n"
    "    local IFS=$'\\n' cur words cword\n"
    "    if declare -F _get_comp_words_by_ref >/dev/null; then\n"
    "        _get_comp_words_by_ref -n @:/ cur words cword\n"
    "    else\n"
    "        cur=${COMP_WORDS[COMP_CWORD]} words=(\"${COMP_WORDS[@]}\") cword=$COMP_CWORD\n"
    "    fi\n"
    "    COMPREPLY=()\n"
    "    local word\n"
    "    for word in $(atoll completion words -- \"${words[@]:1:cword}\" 2>/dev/null); do\n"
    "        if [ \"$word\" = :file ]; then\n"
    "            compopt -o filenames\n"
    "            COMPREPLY+=($(compgen -f -- \"$cur\"))\n"
    "        else\n"
    "            [[ $word == \"$cur\"* ]] && COMPREPLY+=(\"$word\")\n"
    "        fi\n"
    "    done\n"
    "    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions \"$cur\"\n"
    "}\n"
    "complete -F _atoll atoll\n";

static void put_members(struct at_cli *cli, const char *path, const char *list, const char *first,
                        char mark, const char *second, const char *inner)
{
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), NULL, "/v1/%s", path);
    JsonArray *arr = node ? at_cli_list(node, list) : NULL;
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *obj = json_array_get_object_element(arr, i);
        const char *name = at_json_str(obj, first, "");
        JsonArray *parts = inner ? at_json_arr(obj, inner) : NULL;
        if (second && !inner)
            printf("%s%c%s\n", name, mark, at_json_str(obj, second, ""));
        else if (!inner)
            puts(name);
        for (unsigned k = 0; parts && k < json_array_get_length(parts); k++)
            printf("%s%c%s\n", name, mark,
                   at_json_str(json_array_get_object_element(parts, k), second, ""));
    }
}

/* What an argument such as "VDC@SNAPSHOT" can be. */
static void put_argument(struct at_cli *cli, const char *arg)
{
    if (strstr(arg, "VDC@SNAPSHOT"))
        put_members(cli, "snapshots", "snapshots", "vdc", '@', "name", NULL);
    else if (strstr(arg, "VDC/WORKSTATION"))
        put_members(cli, "vdcs", "vdcs", "name", '/', "name", "workstations");
    else if (strstr(arg, "VDC"))
        put_members(cli, "vdcs", "vdcs", "name", 0, NULL, NULL);
    else if (strstr(arg, "IMAGE"))
        put_members(cli, "images", "images", "name", 0, NULL, NULL);
    else if (strstr(arg, "JOB"))
        put_members(cli, "jobs", "jobs", "id", 0, NULL, NULL);
    else if (strstr(arg, "FILE"))
        puts(":file");
    else if (g_ascii_islower(*arg))
        puts(arg);
}

static void put_options(const struct at_verb *verb)
{
    for (const GOptionEntry *o = verb->options; o && o->long_name; o++)
        printf("--%s\n", o->long_name);
    puts("--json\n--socket\n--help");
    if (verb->job)
        puts("--wait\n--no-wait");
}

/* @words: what was typed behind "atoll"; the last one is being typed. */
static int run_words(struct at_cli *cli, char **words)
{
    g_autoptr(GPtrArray) plain = g_ptr_array_new();
    unsigned n = g_strv_length(words);
    const char *current = n ? words[n - 1] : "", *before = n > 1 ? words[n - 2] : "";
    for (unsigned i = 0; i + 1 < n; i++) {
        bool value = i > 0 && strcmp(words[i - 1], "--socket") == 0;
        if (value)
            cli->socket = words[i];
        if (words[i][0] != '-' && !value)
            g_ptr_array_add(plain, words[i]);
    }
    if (strcmp(before, "-f") == 0 || strcmp(before, "--file") == 0 ||
        strcmp(before, "--socket") == 0) {
        puts(":file");
        return AT_EXIT_DONE;
    }
    if (plain->len == 0) {
        for (const struct at_noun *noun = at_nouns; noun->name; noun++)
            puts(noun->name);
    }
    const char *first = plain->len > 0 ? plain->pdata[0] : "";
    const struct at_noun *noun = plain->len == 1 ? at_noun_find(first) : NULL;
    for (const struct at_verb *verb = noun ? noun->verbs : NULL; verb && verb->name; verb++)
        puts(verb->name);
    for (const struct at_alias *alias = at_aliases; alias->name && plain->len < 2; alias++) {
        if (strcmp(alias->noun, first) == 0)
            puts(alias->name);
    }
    unsigned used = 1;
    const struct at_verb *verb = plain->len > 0 ? at_verb_find("", first) : NULL;
    if (!verb && plain->len > 1) {
        verb = at_verb_find(first, plain->pdata[1]);
        used = 2;
    }
    if (!verb)
        return AT_EXIT_DONE;
    if (*current == '-') {
        put_options(verb);
        return AT_EXIT_DONE;
    }
    g_auto(GStrv) args = g_strsplit(verb->args, " ", -1);
    unsigned index = plain->len - used, count = g_strv_length(args);
    if (index < count)
        put_argument(cli, args[index]);
    return AT_EXIT_DONE;
}

static int run_bash(struct at_cli *cli, char **args)
{
    fputs(bash_script, stdout);
    return AT_EXIT_DONE;
}

static int run_man(struct at_cli *cli, char **args)
{
    at_help_man();
    return AT_EXIT_DONE;
}

const struct at_verb at_verbs_completion[] = {
    {"bash", "", "print the completion script for bash",
     "Example:\n  source <(atoll completion bash)\n", NULL, false, run_bash},
    {"words", "[WORD...]", "print what can come next (for the scripts)", NULL, NULL, false,
     run_words},
    {"man", "", "print the manual page", "Example:\n  atoll completion man | man -l -\n", NULL,
     false, run_man},
    {0},
};
