/* SPDX-License-Identifier: Apache-2.0 */
/* atoll snapshot: one instant of a whole VDC. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/job-wait.h"
#include "cli/text.h"
#include "wire/definition.h"

static gboolean opt_quiesce;
static char *opt_description;
static gboolean opt_manifest;

static const GOptionEntry create_options[] = {
    {"quiesce", 'q', 0, G_OPTION_ARG_NONE, &opt_quiesce,
     "freeze the guests' file systems by their agents", NULL},
    {"description", 'd', 0, G_OPTION_ARG_STRING, &opt_description, "a note for people", "TEXT"},
    {NULL},
};

static const GOptionEntry show_options[] = {
    {"manifest", 0, 0, G_OPTION_ARG_NONE, &opt_manifest,
     "print the bytes that its digest is the SHA-256 of, and nothing else", NULL},
    {NULL},
};

static int follow(struct at_cli *cli, JsonNode *answer, GError **error)
{
    return answer ? at_job_follow(cli, answer) : at_cli_fail(error);
}

static int run_create(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    if (strchr(args[0], '@')) /* VDC@NAME is what the other verbs take: accept it here, too */
        return at_cli_usage("write the name as a word of its own: atoll snapshot create VDC NAME");
    if (args[1] && !at_name_check(args[1], "snapshot", &error))
        return at_cli_fail(&error);
    JsonObject *body = json_object_new();
    if (args[1])
        json_object_set_string_member(body, "name", args[1]);
    json_object_set_boolean_member(body, "quiesce", opt_quiesce);
    json_object_set_string_member(body, "description", opt_description ? opt_description : "");
    JsonNode *answer = at_client_call(at_cli_client(cli), "POST", at_json_take_obj(body), &error,
                                      "/v1/vdcs/%s/snapshots", args[0]);
    return follow(cli, answer, &error);
}

/* "crash", "filesystem", or "mixed". */
static const char *consistency_of(JsonObject *snap)
{
    JsonObject *all = at_json_obj(snap, "consistency");
    const char *common = NULL, *name;
    JsonObjectIter iter;
    JsonNode *node;
    if (!all)
        return NULL;
    json_object_iter_init_ordered(&iter, all);
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        const char *class = at_json_str(at_cli_object(node), "class", NULL);
        if (common && g_strcmp0(common, class) != 0)
            return "mixed";
        common = class;
    }
    return common;
}

static char *milliseconds(JsonObject *obj, const char *name)
{
    double value = at_json_num(obj, name, -1);
    return value < 0 ? NULL : g_strdup_printf("%.1f ms", value);
}

static char *size_member(JsonObject *obj, const char *name)
{
    int64_t value = at_json_int(obj, name, -1);
    return value < 0 ? NULL : at_text_size((uint64_t)value);
}

static int run_list(struct at_cli *cli, char **args)
{
    static const char *const heads[] = {"SNAPSHOT",    "STATE",  "CONSISTENCY", ">CHANGED",
                                        ">STORED",     ">PAUSE", "CREATED",     "DIGEST",
                                        "DESCRIPTION", NULL};
    GError *error = NULL;
    g_autoptr(JsonNode) node =
        args[0] ? at_client_get(at_cli_client(cli), &error, "/v1/vdcs/%s/snapshots", args[0])
                : at_client_get(at_cli_client(cli), &error, "/v1/snapshots");
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    struct at_table *table = at_table_new(heads);
    JsonArray *arr = at_cli_list(node, "snapshots");
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *snap = json_array_get_object_element(arr, i);
        const char *state = at_json_str(snap, "state", NULL);
        bool safety = at_json_bool(snap, "safety", false);
        const char *description = at_json_str(snap, "description", "");
        at_table_take(table, AT_PLAIN,
                      g_strdup_printf("%s@%s", at_json_str(snap, "vdc", "?"),
                                      at_json_str(snap, "name", "?")));
        at_table_cell(table, at_text_state_color(state), state);
        at_table_cell(table, AT_PLAIN, consistency_of(snap));
        at_table_take(table, AT_PLAIN, size_member(snap, "changed_bytes"));
        at_table_take(table, AT_PLAIN, size_member(snap, "stored_bytes"));
        at_table_take(table, AT_PLAIN, milliseconds(snap, "pause_ms"));
        at_table_take(table, AT_PLAIN, at_text_time(at_json_str(snap, "created", NULL)));
        at_table_take(table, AT_DIM, at_text_digest(at_json_str(snap, "digest", NULL)));
        at_table_cell(table, AT_PLAIN, *description ? description : safety ? "(safety)" : "");
    }
    at_table_print(table, "no snapshots; atoll snapshot create VDC makes one");
    return AT_EXIT_DONE;
}

static void show_consistency(JsonObject *snap)
{
    JsonObject *all = at_json_obj(snap, "consistency");
    static const char *const heads[] = {"WORKSTATION", "CONSISTENCY", "REASON", NULL};
    struct at_table *table = at_table_new(heads);
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;
    if (all)
        json_object_iter_init_ordered(&iter, all);
    while (all && json_object_iter_next_ordered(&iter, &name, &node)) {
        JsonObject *one = at_cli_object(node);
        at_table_cell(table, AT_PLAIN, name);
        at_table_cell(table, AT_PLAIN, at_json_str(one, "class", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(one, "reason", ""));
        if (at_json_str(one, "left_out", NULL)) {
            at_table_cell(table, AT_PLAIN, "");
            at_table_cell(table, AT_PLAIN, "left out");
            at_table_cell(table, AT_PLAIN, at_json_str(one, "left_out", ""));
        }
    }
    at_table_print(table, "no workstations");
}

static void show_disks(JsonObject *snap)
{
    static const char *const heads[] = {"WORKSTATION", "DISK", ">SIZE", "ROOT", NULL};
    struct at_table *table = at_table_new(heads);
    JsonArray *arr = at_json_arr(snap, "disks");
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *disk = json_array_get_object_element(arr, i);
        at_table_cell(table, AT_PLAIN, at_json_str(disk, "workstation", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(disk, "name", NULL));
        at_table_take(table, AT_PLAIN, size_member(disk, "size"));
        at_table_cell(table, AT_DIM, at_json_str(disk, "root", NULL));
    }
    at_table_print(table, "no disks");
}

static int show_manifest(struct at_cli *cli, const char *vdc, const char *name)
{
    GError *error = NULL;
    g_autofree char *text =
        at_client_text(at_cli_client(cli), &error, "/v1/vdcs/%s/snapshots/%s/manifest", vdc, name);
    if (!text)
        return at_cli_fail(&error);
    /* On a terminal nothing steers it; a file or a pipe gets every byte as it is. */
    if (isatty(STDOUT_FILENO))
        at_text_json(stdout, text);
    else
        fputs(text, stdout);
    return AT_EXIT_DONE;
}

static int run_show(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autofree char *vdc = NULL, *name = NULL;
    if (!at_cli_split(args[0], '@', &vdc, &name))
        return AT_EXIT_USAGE;
    if (opt_manifest)
        return show_manifest(cli, vdc, name);
    g_autoptr(JsonNode) node =
        at_client_get(at_cli_client(cli), &error, "/v1/vdcs/%s/snapshots/%s", vdc, name);
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    JsonObject *snap = at_cli_object(node);
    at_text_field("snapshot", args[0]);
    at_text_field("digest", at_json_str(snap, "digest", NULL));
    at_text_field("state", at_json_str(snap, "state", NULL));
    at_text_field_take("created", at_text_time(at_json_str(snap, "created", NULL)));
    if (*at_json_str(snap, "description", ""))
        at_text_field("description", at_json_str(snap, "description", ""));
    if (at_json_bool(snap, "safety", false))
        at_text_field("safety", "made before a restore; atoll undo goes back to it");
    at_text_field_take("pause", milliseconds(snap, "pause_ms"));
    at_text_field_take("skew", milliseconds(snap, "skew_ms"));
    at_text_field_take("changed", size_member(snap, "changed_bytes"));
    at_text_field_take("stored", size_member(snap, "stored_bytes"));
    g_print("\n");
    show_consistency(snap);
    g_print("\n");
    show_disks(snap);
    return AT_EXIT_DONE;
}

static int run_verify(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autofree char *vdc = NULL, *name = NULL;
    if (!at_cli_split(args[0], '@', &vdc, &name))
        return AT_EXIT_USAGE;
    JsonNode *answer = at_client_call(at_cli_client(cli), "POST", NULL, &error,
                                      "/v1/vdcs/%s/snapshots/%s/verify", vdc, name);
    return follow(cli, answer, &error);
}

static int run_delete(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autofree char *vdc = NULL, *name = NULL;
    if (!at_cli_split(args[0], '@', &vdc, &name))
        return AT_EXIT_USAGE;
    JsonNode *answer = at_client_call(at_cli_client(cli), "DELETE", NULL, &error,
                                      "/v1/vdcs/%s/snapshots/%s", vdc, name);
    return follow(cli, answer, &error);
}

static int run_diff(struct at_cli *cli, char **args)
{
    static const char *const heads[] = {"WORKSTATION", "DISK", ">CHANGED", ">SIZE", "NOTE", NULL};
    GError *error = NULL;
    for (int i = 0; i < 2; i++) {
        g_autofree char *vdc = NULL, *name = NULL;
        if (!at_cli_split(args[i], '@', &vdc, &name))
            return AT_EXIT_USAGE;
    }
    g_autoptr(JsonNode) node =
        at_client_get(at_cli_client(cli), &error, "/v1/diff?a=%s&b=%s", args[0], args[1]);
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    struct at_table *table = at_table_new(heads);
    JsonArray *arr = at_cli_list(node, "disks");
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *disk = json_array_get_object_element(arr, i);
        at_table_cell(table, AT_PLAIN, at_json_str(disk, "workstation", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(disk, "name", NULL));
        const char *only = at_json_str(disk, "only_in", NULL); /* a or b: nothing to compare with */
        at_table_take(table, AT_PLAIN, only ? NULL : size_member(disk, "changed_bytes"));
        at_table_take(table, AT_PLAIN, size_member(disk, "size"));
        at_table_take(table, AT_PLAIN,
                      only ? g_strdup_printf("only in %s", args[*only == 'b']) : g_strdup(""));
    }
    at_table_print(table, "no disks");
    return AT_EXIT_DONE;
}

const struct at_verb at_verbs_snapshot[] = {
    {"create", "VDC [NAME]", "capture a VDC, running or not, at one instant",
     "All workstations are captured at the same instant while they run. Without a NAME it is\n"
     "made from the time. The snapshot is safe on disk when it is \"captured\", and has its\n"
     "digest when it is \"sealed\" in the vault.\n\n"
     "Examples:\n  atoll snapshot create rag-team\n"
     "  atoll snapshot create rag-team before-upgrade --quiesce -d \"before CUDA 13\"\n",
     create_options, true, run_create},
    {"list", "[VDC]", "list snapshots",
     "Examples:\n  atoll snapshot list\n"
     "  atoll snapshot list rag-team\n",
     NULL, false, run_list},
    {"show", "VDC@SNAPSHOT", "show a snapshot, its consistency and its disks",
     "Examples:\n  atoll snapshot show rag-team@nightly\n"
     "  atoll --json snapshot show rag-team@nightly\n"
     "  atoll snapshot show rag-team@nightly --manifest | sha256sum\n",
     show_options, false, run_show},
    {"verify", "VDC@SNAPSHOT", "read a snapshot back and compare every byte with its digest",
     "Example:\n  atoll snapshot verify rag-team@nightly\n", NULL, true, run_verify},
    {"delete", "VDC@SNAPSHOT", "delete a snapshot; atoll vault gc frees its space",
     "Example:\n  atoll snapshot delete rag-team@nightly\n", NULL, true, run_delete},
    {"diff", "VDC@SNAPSHOT VDC@SNAPSHOT", "tell how much each disk differs",
     "Example:\n  atoll snapshot diff rag-team@monday rag-team@tuesday\n", NULL, false, run_diff},
    {0},
};
