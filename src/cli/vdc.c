/* SPDX-License-Identifier: Apache-2.0 */
/* atoll vdc: whole virtual data centers. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/job-wait.h"
#include "cli/text.h"
#include "wire/definition-file.h"
#include "wire/plan.h"

/* ---- apply ---- */

static char *opt_file;
static gboolean opt_dry_run, opt_no_start, opt_yes;

static const GOptionEntry apply_options[] = {
    {"file", 'f', 0, G_OPTION_ARG_FILENAME, &opt_file, "the VDC's YAML file; - is standard input",
     "FILE"},
    {"dry-run", 0, 0, G_OPTION_ARG_NONE, &opt_dry_run, "only say what would change", NULL},
    {"no-start", 0, 0, G_OPTION_ARG_NONE, &opt_no_start, "make it, but start nothing", NULL},
    {"yes", 'y', 0, G_OPTION_ARG_NONE, &opt_yes, "go on when data would be deleted", NULL},
    {NULL},
};

static enum at_color color_of_action(const char *action)
{
    return strcmp(action, "create") == 0    ? AT_GREEN
           : strcmp(action, "delete") == 0  ? AT_RED
           : strcmp(action, "change") == 0  ? AT_YELLOW
           : strcmp(action, "restart") == 0 ? AT_YELLOW
                                            : AT_PLAIN;
}

static bool deletes_data(JsonArray *changes)
{
    bool deletes = false;
    for (unsigned i = 0; changes && i < json_array_get_length(changes); i++)
        deletes |= at_json_bool(json_array_get_object_element(changes, i), "deletes_data", false);
    return deletes;
}

static void show_changes(JsonArray *changes)
{
    static const char *const heads[] = {"CHANGE", "WHAT", "DETAIL", NULL};
    struct at_table *table = at_table_new(heads);
    for (unsigned i = 0; changes && i < json_array_get_length(changes); i++) {
        JsonObject *change = json_array_get_object_element(changes, i);
        const char *action = at_json_str(change, "action", "");
        at_table_cell(table, color_of_action(action), action);
        at_table_cell(table, AT_PLAIN, at_json_str(change, "what", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(change, "detail", NULL));
    }
    at_table_print(table, "nothing to change");
}

static bool asked_and_agreed(void)
{
    char answer[16] = "";
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return false;
    g_printerr("This deletes data that is in no snapshot. Go on? [y/N] ");
    return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* What the daemon complains about has a place in the file. */
static int fail_in_file(struct at_cli *cli, const struct at_yaml *yaml, GError **error)
{
    const char *pointer = at_json_str(at_client_details(at_cli_client(cli)), "pointer", NULL);
    if (pointer && yaml) {
        g_autofree char *place = at_yaml_place(yaml, pointer);
        g_prefix_error(error, "%s: ", place);
    }
    return at_cli_fail(error);
}

static int run_apply(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(at_yaml) yaml = NULL;
    if (!opt_file)
        return at_cli_usage("apply needs a file: atoll apply -f team.yaml");
    g_autoptr(at_definition) def = at_definition_load(opt_file, &yaml, &error);
    if (!def)
        return at_cli_fail(&error);
    g_autoptr(JsonNode) plan = at_client_call(at_cli_client(cli), "PUT", at_definition_to_json(def),
                                              &error, "/v1/vdcs/%s?dry_run=true", def->vdc);
    if (!plan)
        return fail_in_file(cli, yaml, &error);
    JsonObject *obj = JSON_NODE_HOLDS_OBJECT(plan) ? json_node_get_object(plan) : NULL;
    cli->changes = at_json_arr(obj, "changes");
    if (opt_dry_run && at_cli_json(cli, plan))
        return AT_EXIT_DONE;
    if (!cli->json)
        show_changes(cli->changes);
    if (opt_dry_run)
        return AT_EXIT_DONE;
    if (deletes_data(cli->changes) && !opt_yes && !asked_and_agreed()) {
        at_error(&error, AT_ERROR_CONFLICT, "VDC %s: this would delete data; nothing was done",
                 def->vdc);
        return at_cli_fail_next(&error, "atoll snapshot create keeps it; --yes goes on");
    }
    JsonNode *answer = at_client_call(
        at_cli_client(cli), "PUT", at_definition_to_json(def), &error,
        opt_no_start ? "/v1/vdcs/%s?start=false" : "/v1/vdcs/%s?start=true", def->vdc);
    return answer ? at_job_follow(cli, answer) : fail_in_file(cli, yaml, &error);
}

/* ---- list and show ---- */

static char *join_strings(JsonArray *arr)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++)
        g_string_append_printf(text, "%s%s", i ? ", " : "", json_array_get_string_element(arr, i));
    return text->len ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

static int run_list(struct at_cli *cli, char **args)
{
    static const char *const heads[] = {"NAME",   "STATE",       ">WORKSTATIONS", ">SNAPSHOTS",
                                        "UPLINK", "CLONED FROM", "OWNER",         NULL};
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/vdcs");
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    struct at_table *table = at_table_new(heads);
    JsonArray *arr = at_cli_list(node, "vdcs");
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *vdc = json_array_get_object_element(arr, i);
        JsonArray *ws = at_json_arr(vdc, "workstations");
        const char *state = at_json_str(vdc, "state", NULL);
        at_table_cell(table, AT_PLAIN, at_json_str(vdc, "name", NULL));
        at_table_cell(table, at_text_state_color(state), state);
        at_table_take(table, AT_PLAIN, g_strdup_printf("%u", ws ? json_array_get_length(ws) : 0));
        at_table_take(table, AT_PLAIN,
                      g_strdup_printf("%d", (int)at_json_int(vdc, "snapshots", 0)));
        at_table_cell(table, AT_PLAIN,
                      at_json_bool(vdc, "isolated", false)
                          ? "isolated"
                          : at_json_str(vdc, "uplink_address", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(vdc, "cloned_from", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(vdc, "owner", NULL));
    }
    at_table_print(table, "no VDC yet; atoll apply -f FILE makes one");
    return AT_EXIT_DONE;
}

/* The part of the definition that describes workstation @name. */
static JsonObject *find_definition(JsonObject *vdc, const char *name)
{
    JsonArray *arr = at_json_arr(at_json_obj(vdc, "definition"), "workstations");
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *ws = json_array_get_object_element(arr, i);
        if (g_strcmp0(at_json_str(ws, "name", NULL), name) == 0)
            return ws;
    }
    return NULL;
}

static void show_workstations(JsonObject *vdc)
{
    static const char *const heads[] = {"WORKSTATION", "STATE", "HEALTH", "ADDRESS",   ">CPUS",
                                        ">MEMORY",     "ACCEL", ">PID",   ">RESTARTS", NULL};
    struct at_table *table = at_table_new(heads);
    JsonArray *arr = at_json_arr(vdc, "workstations");
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *ws = json_array_get_object_element(arr, i);
        JsonObject *def = find_definition(vdc, at_json_str(ws, "name", ""));
        const char *state = at_json_str(ws, "state", NULL);
        const char *health = at_json_str(ws, "health", NULL);
        int64_t pid = at_json_int(ws, "pid", 0);
        at_table_cell(table, AT_PLAIN, at_json_str(ws, "name", NULL));
        at_table_cell(table, at_text_state_color(state), state);
        at_table_cell(table, at_text_state_color(health), health);
        at_table_take(table, AT_PLAIN, join_strings(at_json_arr(ws, "addresses")));
        at_table_take(table, AT_PLAIN, g_strdup_printf("%d", (int)at_json_int(def, "cpus", 1)));
        at_table_take(table, AT_PLAIN, at_text_size((uint64_t)at_json_int(def, "memory", 0)));
        at_table_cell(table, AT_PLAIN, at_json_str(ws, "accel", NULL));
        at_table_take(table, AT_PLAIN, pid > 0 ? g_strdup_printf("%d", (int)pid) : NULL);
        at_table_take(table, AT_PLAIN, g_strdup_printf("%d", (int)at_json_int(ws, "restarts", 0)));
    }
    at_table_print(table, "no workstations");
}

static void show_ports(JsonObject *vdc)
{
    JsonArray *arr = at_json_arr(vdc, "ports");
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *port = json_array_get_object_element(arr, i);
        at_text_field_take(i ? "" : "ports",
                           g_strdup_printf("%d/%s -> %s:%d", (int)at_json_int(port, "host", 0),
                                           at_json_str(port, "protocol", "tcp"),
                                           at_json_str(port, "workstation", "?"),
                                           (int)at_json_int(port, "guest", 0)));
    }
}

static void show_networks(JsonObject *vdc)
{
    JsonArray *arr = at_json_arr(at_json_obj(vdc, "definition"), "networks");
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *net = json_array_get_object_element(arr, i);
        at_text_field_take(i ? "" : "networks",
                           g_strdup_printf("%s %s%s", at_json_str(net, "name", "?"),
                                           at_json_str(net, "subnet", "?"),
                                           at_json_bool(net, "nat", true) ? ", NAT" : ""));
    }
}

static int run_show(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/vdcs/%s", args[0]);
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    JsonObject *vdc = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    bool isolated = at_json_bool(vdc, "isolated", false);
    at_text_field("vdc", at_json_str(vdc, "name", NULL));
    at_text_field("id", at_json_str(vdc, "id", NULL));
    at_text_field("state", at_json_str(vdc, "state", NULL));
    at_text_field("owner", at_json_str(vdc, "owner", NULL));
    if (at_json_str(vdc, "cloned_from", NULL))
        at_text_field("cloned from", at_json_str(vdc, "cloned_from", NULL));
    at_text_field("uplink", isolated ? "isolated" : at_json_str(vdc, "uplink_address", NULL));
    show_networks(vdc);
    show_ports(vdc);
    at_text_field_take("snapshots", g_strdup_printf("%d", (int)at_json_int(vdc, "snapshots", 0)));
    g_print("\n");
    show_workstations(vdc);
    return AT_EXIT_DONE;
}

/* ---- start, stop, delete, undo ---- */

static int opt_timeout = 60;
static gboolean opt_force, opt_snapshots;

static const GOptionEntry stop_options[] = {
    {"timeout", 't', 0, G_OPTION_ARG_INT, &opt_timeout,
     "how long guests may take to shut down (default 60)", "SECONDS"},
    {"force", 0, 0, G_OPTION_ARG_NONE, &opt_force, "power off at once", NULL},
    {NULL},
};
static const GOptionEntry delete_options[] = {
    {"snapshots", 0, 0, G_OPTION_ARG_NONE, &opt_snapshots, "delete its snapshots, too", NULL},
    {NULL},
};

static void set_workstations(JsonObject *body, char **names)
{
    if (!*names)
        return;
    JsonArray *arr = json_array_new();
    for (; *names; names++)
        json_array_add_string_element(arr, *names);
    json_object_set_array_member(body, "workstations", arr);
}

static int follow(struct at_cli *cli, JsonNode *answer, GError **error)
{
    return answer ? at_job_follow(cli, answer) : at_cli_fail(error);
}

static int run_start(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    JsonObject *body = json_object_new();
    set_workstations(body, args + 1);
    JsonNode *answer = at_client_call(at_cli_client(cli), "POST", at_json_take_obj(body), &error,
                                      "/v1/vdcs/%s/start", args[0]);
    return follow(cli, answer, &error);
}

static int run_stop(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    if (opt_timeout < 0 || opt_timeout > 86400)
        return at_cli_usage("--timeout is from 0 to 86400 seconds");
    JsonObject *body = json_object_new();
    set_workstations(body, args + 1);
    json_object_set_int_member(body, "timeout_s", opt_timeout);
    json_object_set_boolean_member(body, "force", opt_force);
    JsonNode *answer = at_client_call(at_cli_client(cli), "POST", at_json_take_obj(body), &error,
                                      "/v1/vdcs/%s/stop", args[0]);
    return follow(cli, answer, &error);
}

static int run_delete(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    JsonNode *answer =
        at_client_call(at_cli_client(cli), "DELETE", NULL, &error,
                       opt_snapshots ? "/v1/vdcs/%s?snapshots=true" : "/v1/vdcs/%s", args[0]);
    if (!answer && !opt_snapshots && g_error_matches(error, AT_ERROR, AT_ERROR_CONFLICT) &&
        strstr(error->message, "snapshot") && !strstr(error->message, "--snapshots"))
        return at_cli_fail_next(&error, "--snapshots deletes them, too");
    return follow(cli, answer, &error);
}

static int run_undo(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    JsonNode *answer =
        at_client_call(at_cli_client(cli), "POST", NULL, &error, "/v1/vdcs/%s/undo", args[0]);
    return follow(cli, answer, &error);
}

/* ---- clone and restore ---- */

static char *opt_identity, *opt_gpu;
static gboolean opt_isolated;

static const GOptionEntry clone_options[] = {
    {"identity", 0, 0, G_OPTION_ARG_STRING, &opt_identity,
     "keep (default), or fresh: new machine-id and host keys", "keep|fresh"},
    {"gpu", 0, 0, G_OPTION_ARG_STRING, &opt_gpu,
     "same-profile (default), equivalent: as much memory and isolation, or none",
     "same-profile|equivalent|none"},
    {"isolated", 0, 0, G_OPTION_ARG_NONE, &opt_isolated, "without uplink and published ports",
     NULL},
    {"no-start", 0, 0, G_OPTION_ARG_NONE, &opt_no_start, "make it, but start nothing", NULL},
    {NULL},
};

static int run_clone(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autofree char *vdc = NULL, *snap = NULL;
    const char *identity = opt_identity ? opt_identity : "keep";
    if (!at_cli_split(args[0], '@', &vdc, &snap))
        return AT_EXIT_USAGE;
    if (strcmp(identity, "keep") != 0 && strcmp(identity, "fresh") != 0)
        return at_cli_usage("--identity is keep or fresh, not \"%s\"", identity);
    if (!at_name_check(args[1], "VDC", &error))
        return at_cli_fail(&error);
    JsonObject *body = json_object_new();
    json_object_set_string_member(body, "name", args[1]);
    json_object_set_string_member(body, "identity", identity);
    if (opt_gpu)
        json_object_set_string_member(body, "gpu", opt_gpu);
    json_object_set_boolean_member(body, "isolated", opt_isolated);
    json_object_set_boolean_member(body, "start", !opt_no_start);
    JsonNode *answer = at_client_call(at_cli_client(cli), "POST", at_json_take_obj(body), &error,
                                      "/v1/vdcs/%s/snapshots/%s/clone", vdc, snap);
    return follow(cli, answer, &error);
}

static int run_restore(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autofree char *vdc = NULL, *snap = NULL;
    if (!at_cli_split(args[0], '@', &vdc, &snap))
        return AT_EXIT_USAGE;
    JsonObject *body = json_object_new();
    json_object_set_boolean_member(body, "safety", TRUE);
    JsonNode *answer = at_client_call(at_cli_client(cli), "POST", at_json_take_obj(body), &error,
                                      "/v1/vdcs/%s/snapshots/%s/restore", vdc, snap);
    return follow(cli, answer, &error);
}

const struct at_verb at_verbs_vdc[] = {
    {"apply", "", "make a VDC be as its file says",
     "Applying again changes only what differs, and says what. Published ports, health checks,\n"
     "the restart policy, isolation and new networks and workstations change while the VDC runs;\n"
     "a workstation whose cpus, memory, disks, nics or volumes change is restarted.\n"
     "The file is described in atoll-vdc(5).\n\n"
     "Examples:\n"
     "  atoll apply -f team.yaml --dry-run\n"
     "  atoll apply -f team.yaml\n",
     apply_options, true, run_apply},
    {"list", "", "list VDCs", "Example:\n  atoll vdc list\n", NULL, false, run_list},
    {"show", "VDC", "show a VDC and its workstations",
     "Examples:\n  atoll vdc show rag-team\n  atoll --json vdc show rag-team\n", NULL, false,
     run_show},
    {"start", "VDC [WORKSTATION...]", "start a VDC, or some of its workstations",
     "Examples:\n  atoll start rag-team\n  atoll start rag-team tune eval\n", NULL, true,
     run_start},
    {"stop", "VDC [WORKSTATION...]", "shut a VDC down, or some of its workstations",
     "Guests are asked to shut down; those that have not by the deadline are switched off.\n\n"
     "Examples:\n  atoll stop rag-team\n  atoll stop rag-team --timeout 10\n"
     "  atoll stop rag-team --force\n",
     stop_options, true, run_stop},
    {"delete", "VDC", "delete a VDC with its disks",
     "A VDC that has snapshots is only deleted together with them (--snapshots).\n\n"
     "Examples:\n  atoll delete rag-team-2\n  atoll delete rag-team --snapshots\n",
     delete_options, true, run_delete},
    {"clone", "VDC@SNAPSHOT NEW", "make a new VDC from a snapshot",
     "The clone has the same addresses inside as the original, and runs beside it.\n\n"
     "Examples:\n  atoll clone rag-team@nightly rag-team-2\n"
     "  atoll clone rag-team@nightly drill --identity fresh --isolated\n",
     clone_options, true, run_clone},
    {"restore", "VDC@SNAPSHOT", "put a VDC back to a snapshot",
     "The state it is in is kept as a safety snapshot first; atoll undo goes back to it.\n\n"
     "Example:\n  atoll restore rag-team@before-upgrade\n",
     NULL, true, run_restore},
    {"undo", "VDC", "go back to where a VDC was before its last restore",
     "Example:\n  atoll undo rag-team\n", NULL, true, run_undo},
    {0},
};
