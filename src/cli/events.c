/* SPDX-License-Identifier: Apache-2.0 */
/* atoll events: what happens, as it happens. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/text.h"

static int64_t opt_since;

static const GOptionEntry follow_options[] = {
    {"since", 0, 0, G_OPTION_ARG_INT64, &opt_since, "begin after the event with this id", "ID"},
    {NULL},
};

/* "vm crashed, exit code 1" from whatever is in data, for people. */
static char *data_text(JsonObject *event)
{
    JsonObject *data = at_json_obj(event, "data");
    g_autoptr(GString) text = g_string_new(NULL);
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;
    JsonObject *job = at_json_obj(data, "job");
    if (job) {
        g_autofree char *title = at_text_job(job);
        return g_strdup_printf("%s: %s, %s %.0f%%", title, at_json_str(job, "state", "?"),
                               at_json_str(job, "step", ""), at_json_num(job, "percent", 0));
    }
    if (!data)
        return g_strdup("");
    json_object_iter_init_ordered(&iter, data);
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        if (!JSON_NODE_HOLDS_VALUE(node))
            continue;
        g_autofree char *value = json_node_get_value_type(node) == G_TYPE_STRING
                                     ? json_node_dup_string(node)
                                     : at_json_text(node);
        g_string_append_printf(text, "%s%s %s", text->len ? ", " : "", name, value);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static void print_event(struct at_cli *cli, const char *json)
{
    g_autoptr(JsonNode) node = at_json_parse(json, -1, NULL);
    JsonObject *event = at_cli_object(node);
    if (!event)
        return;
    if (cli->json) {
        g_autofree char *text = at_json_text(node);
        at_text_json(stdout, text);
    } else {
        g_autofree char *time = at_text_time(at_json_str(event, "time", NULL));
        g_autofree char *data = data_text(event);
        at_text_line(stdout, "%s  %-22s %-24s %s", time, at_json_str(event, "type", "?"),
                     at_json_str(event, "subject", ""), data);
    }
    fflush(stdout);
}

static int run_follow(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autofree char *path = opt_since > 0
                                ? g_strdup_printf("/v1/events?since=%" G_GINT64_FORMAT, opt_since)
                                : g_strdup("/v1/events");
    g_autoptr(GInputStream) stream = at_client_stream(at_cli_client(cli), &error, path);
    if (!stream)
        return at_cli_fail(&error);
    g_autoptr(GDataInputStream) lines = g_data_input_stream_new(stream);
    for (;;) {
        g_autofree char *line = g_data_input_stream_read_line(lines, NULL, NULL, &error);
        if (!line)
            break;
        if (g_str_has_prefix(line, "data: "))
            print_event(cli, line + strlen("data: "));
    }
    if (!error)
        at_error(&error, AT_ERROR_UNAVAILABLE, "atolld ended the stream of events");
    return at_cli_fail(&error);
}

const struct at_verb at_verbs_events[] = {
    {"follow", "", "print events as they happen, until Ctrl-C",
     "Examples:\n  atoll events follow\n  atoll --json events follow --since 1764000000000\n",
     follow_options, false, run_follow},
    {0},
};
