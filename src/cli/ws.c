/* SPDX-License-Identifier: Apache-2.0 */
/* atoll ws: single workstations. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/console.h"
#include "cli/gpu-map.h"
#include "cli/job-wait.h"
#include "cli/text.h"

enum { LOG_TAIL = 65536, LOG_OVERLAP = 4096, LOG_EVERY_MS = 500 };

static char *first_address(JsonObject *ws)
{
    JsonArray *arr = at_json_arr(ws, "addresses");
    return arr && json_array_get_length(arr) ? g_strdup(json_array_get_string_element(arr, 0))
                                             : NULL;
}

static int run_list(struct at_cli *cli, char **args)
{
    static const char *const heads[] = {"WORKSTATION", "STATE", "HEALTH",    "ADDRESS",
                                        "ACCEL",       ">PID",  ">RESTARTS", NULL};
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/vdcs");
    if (!node)
        return at_cli_fail(&error);
    JsonArray *vdcs = at_cli_list(node, "vdcs");
    JsonArray *all = json_array_new();
    g_autoptr(JsonNode) result = at_json_take_arr(all);
    struct at_table *table = at_table_new(heads);
    bool found = !args[0];
    for (unsigned i = 0; vdcs && i < json_array_get_length(vdcs); i++) {
        JsonObject *vdc = json_array_get_object_element(vdcs, i);
        const char *name = at_json_str(vdc, "name", "?");
        JsonArray *list = at_json_arr(vdc, "workstations");
        if (args[0] && strcmp(args[0], name) != 0)
            continue;
        found = true;
        for (unsigned k = 0; list && k < json_array_get_length(list); k++) {
            JsonObject *ws = json_array_get_object_element(list, k);
            const char *state = at_json_str(ws, "state", NULL);
            const char *health = at_json_str(ws, "health", NULL);
            int64_t pid = at_json_int(ws, "pid", 0);
            json_object_set_string_member(ws, "vdc", name);
            json_array_add_object_element(all, json_object_ref(ws));
            at_table_take(table, AT_PLAIN,
                          g_strdup_printf("%s/%s", name, at_json_str(ws, "name", "?")));
            at_table_cell(table, at_text_state_color(state), state);
            at_table_cell(table, at_text_state_color(health), health);
            at_table_take(table, AT_PLAIN, first_address(ws));
            at_table_cell(table, AT_PLAIN, at_json_str(ws, "accel", NULL));
            at_table_take(table, AT_PLAIN, pid > 0 ? g_strdup_printf("%d", (int)pid) : NULL);
            at_table_take(table, AT_PLAIN,
                          g_strdup_printf("%d", (int)at_json_int(ws, "restarts", 0)));
        }
    }
    if (!found) {
        at_table_discard(table);
        at_error(&error, AT_ERROR_NOT_FOUND, "there is no VDC %s", args[0]);
        return at_cli_fail(&error);
    }
    if (at_cli_json(cli, result))
        at_table_discard(table);
    else
        at_table_print(table, "no workstations");
    return AT_EXIT_DONE;
}

static void show_disks(JsonArray *disks)
{
    static const char *const heads[] = {"DISK", ">SIZE", "ACCESS", ">UNSEALED", "BASE", NULL};
    struct at_table *table = at_table_new(heads);
    for (unsigned i = 0; disks && i < json_array_get_length(disks); i++) {
        JsonObject *disk = json_array_get_object_element(disks, i);
        at_table_cell(table, AT_PLAIN, at_json_str(disk, "name", NULL));
        at_table_take(table, AT_PLAIN, at_text_size((uint64_t)at_json_int(disk, "size", 0)));
        at_table_cell(table, AT_PLAIN,
                      at_json_bool(disk, "readonly", false) ? "read-only" : "read-write");
        at_table_take(table, AT_PLAIN,
                      g_strdup_printf("%d", (int)at_json_int(disk, "unsealed_layers", 0)));
        at_table_cell(table, AT_PLAIN, at_json_str(disk, "base", "zeros"));
    }
    g_print("\n");
    at_table_print(table, "no disks");
}

static void show_gpus(JsonArray *gpus)
{
    static const char *const heads[] = {"GPU",    "NAME",      "PROFILE", ">MEMORY",
                                        "SLICES", "ISOLATION", NULL};
    if (!gpus || json_array_get_length(gpus) == 0)
        return;
    struct at_table *table = at_table_new(heads);
    for (unsigned i = 0; i < json_array_get_length(gpus); i++) {
        JsonObject *gpu = json_array_get_object_element(gpus, i);
        int64_t memory = at_json_int(gpu, "memory", 0);
        at_table_cell(table, AT_PLAIN, at_json_str(gpu, "address", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(gpu, "name", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(gpu, "profile", NULL));
        at_table_take(table, AT_PLAIN, memory ? at_text_size((uint64_t)memory) : NULL);
        at_table_take(table, AT_PLAIN, at_gpu_slices_text(gpu));
        at_table_cell(table, AT_PLAIN, at_json_str(gpu, "isolation", NULL));
    }
    g_print("\n");
    at_table_print(table, "");
}

static int run_show(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autofree char *vdc = NULL, *ws = NULL;
    if (!at_cli_split(args[0], '/', &vdc, &ws))
        return AT_EXIT_USAGE;
    g_autoptr(JsonNode) node =
        at_client_get(at_cli_client(cli), &error, "/v1/vdcs/%s/workstations/%s", vdc, ws);
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    g_autoptr(JsonNode) copy = at_json_thaw(node);
    JsonObject *rest = at_cli_object(copy);
    json_object_remove_member(rest, "disks");
    json_object_remove_member(rest, "gpus");
    at_cli_print_record(rest);
    show_disks(at_json_arr(at_cli_object(node), "disks"));
    show_gpus(at_json_arr(at_cli_object(node), "gpus"));
    return AT_EXIT_DONE;
}

static int opt_timeout = 60;
static gboolean opt_force;

static const GOptionEntry stop_options[] = {
    {"timeout", 't', 0, G_OPTION_ARG_INT, &opt_timeout,
     "how long the guest may take to shut down (default 60)", "SECONDS"},
    {"force", 0, 0, G_OPTION_ARG_NONE, &opt_force, "power off at once", NULL},
    {NULL},
};

static int act(struct at_cli *cli, const char *target, const char *path, JsonObject *body)
{
    GError *error = NULL;
    g_autofree char *vdc = NULL, *ws = NULL;
    g_autoptr(JsonNode) node = body ? at_json_take_obj(body) : NULL;
    if (!at_cli_split(target, '/', &vdc, &ws))
        return AT_EXIT_USAGE;
    g_autofree char *verb = g_strdup(path);
    JsonNode *answer = at_client_call(at_cli_client(cli), "POST", g_steal_pointer(&node), &error,
                                      "/v1/vdcs/%s/workstations/%s/%s", vdc, ws, verb);
    return answer ? at_job_follow(cli, answer) : at_cli_fail(&error);
}

static int run_start(struct at_cli *cli, char **args)
{
    return act(cli, args[0], "start", NULL);
}

static int run_stop(struct at_cli *cli, char **args)
{
    if (opt_timeout < 0 || opt_timeout > 86400)
        return at_cli_usage("--timeout is from 0 to 86400 seconds");
    JsonObject *body = json_object_new();
    json_object_set_int_member(body, "timeout_s", opt_timeout);
    json_object_set_boolean_member(body, "force", opt_force);
    return act(cli, args[0], "stop", body);
}

static int run_restart(struct at_cli *cli, char **args)
{
    return act(cli, args[0], "restart", NULL);
}

static int run_console(struct at_cli *cli, char **args)
{
    g_autofree char *vdc = NULL, *ws = NULL;
    if (!at_cli_split(args[0], '/', &vdc, &ws))
        return AT_EXIT_USAGE;
    return at_console_run(cli, vdc, ws);
}

static gboolean opt_follow;
static int opt_tail = LOG_TAIL;

static const GOptionEntry log_options[] = {
    {"follow", 'f', 0, G_OPTION_ARG_NONE, &opt_follow, "go on with what is added", NULL},
    {"tail", 'n', 0, G_OPTION_ARG_INT, &opt_tail, "only the last so many bytes (default 65536)",
     "BYTES"},
    {NULL},
};

/* What @now has beyond @before: the end of @before is looked for in it. */
static const char *added(const char *before, const char *now)
{
    size_t len = strlen(before);
    const char *end = before + (len > LOG_OVERLAP ? len - LOG_OVERLAP : 0);
    const char *found = NULL;
    for (const char *at = now; *end && (at = strstr(at, end)); at++)
        found = at;
    return found ? found + strlen(end) : now;
}

/* As the guest wrote it, colours and all; for programs {"log": "..."}, with --follow again and
 * again.
 */
static void put_log(struct at_cli *cli, const char *text)
{
    if (cli->json && (*text || !opt_follow)) {
        JsonObject *obj = json_object_new();
        json_object_set_string_member(obj, "log", text);
        g_autoptr(JsonNode) node = at_json_take_obj(obj);
        at_cli_json(cli, node);
    } else if (!cli->json) {
        fputs(text, stdout);
        fflush(stdout);
    }
}

static int run_log(struct at_cli *cli, char **args)
{
    g_autofree char *vdc = NULL, *ws = NULL, *before = g_strdup("");
    GError *error = NULL;
    if (!at_cli_split(args[0], '/', &vdc, &ws))
        return AT_EXIT_USAGE;
    if (opt_tail < 1 || opt_tail > 1 << 20)
        return at_cli_usage("--tail is from 1 to 1048576 bytes");
    for (;;) {
        g_autofree char *tail = g_strdup_printf("%d", before[0] ? LOG_TAIL : opt_tail);
        char *text = at_client_text(at_cli_client(cli), &error,
                                    "/v1/vdcs/%s/workstations/%s/log?tail=%s", vdc, ws, tail);
        if (!text)
            return at_cli_fail(&error);
        put_log(cli, added(before, text));
        g_free(before);
        before = text;
        if (!opt_follow)
            return AT_EXIT_DONE;
        g_usleep(LOG_EVERY_MS * 1000);
    }
}

const struct at_verb at_verbs_ws[] = {
    {"list", "[VDC]", "list workstations", "Examples:\n  atoll ws list\n  atoll ws list rag-team\n",
     NULL, false, run_list},
    {"show", "VDC/WORKSTATION", "show a workstation", "Example:\n  atoll ws show rag-team/tune\n",
     NULL, false, run_show},
    {"start", "VDC/WORKSTATION", "start a workstation",
     "Example:\n  atoll ws start rag-team/tune\n", NULL, true, run_start},
    {"stop", "VDC/WORKSTATION", "shut a workstation down",
     "Examples:\n  atoll ws stop rag-team/tune\n  atoll ws stop rag-team/tune --force\n",
     stop_options, true, run_stop},
    {"restart", "VDC/WORKSTATION", "shut a workstation down and start it again",
     "Example:\n  atoll ws restart rag-team/tune\n", NULL, true, run_restart},
    {"console", "VDC/WORKSTATION", "use the serial console; Ctrl-] leaves it",
     "Example:\n  atoll ws console rag-team/tune\n", NULL, false, run_console},
    {"log", "VDC/WORKSTATION", "print what the serial console has shown",
     "Examples:\n  atoll ws log rag-team/tune\n  atoll ws log -f rag-team/tune\n", log_options,
     false, run_log},
    {0},
};
