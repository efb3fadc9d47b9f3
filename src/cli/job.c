/* SPDX-License-Identifier: Apache-2.0 */
/* atoll job: long operations. */
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/job-wait.h"
#include "cli/text.h"
#include "cli/verify-report.h"

static char *opt_state, *opt_vdc;

static const GOptionEntry list_options[] = {
    {"state", 0, 0, G_OPTION_ARG_STRING, &opt_state,
     "only queued, running, done, failed, cancelled or undone", "STATE"},
    {"vdc", 0, 0, G_OPTION_ARG_STRING, &opt_vdc, "only of this VDC", "VDC"},
    {NULL},
};

static int run_list(struct at_cli *cli, char **args)
{
    static const char *const heads[] = {"ID", "JOB",     "STATE", ">PERCENT", "STEP",
                                        "BY", "STARTED", ">TOOK", NULL};
    GError *error = NULL;
    JsonNode *answer;
    if (opt_state && opt_vdc)
        answer = at_client_get(at_cli_client(cli), &error, "/v1/jobs?state=%s&vdc=%s", opt_state,
                               opt_vdc);
    else if (opt_state)
        answer = at_client_get(at_cli_client(cli), &error, "/v1/jobs?state=%s", opt_state);
    else if (opt_vdc)
        answer = at_client_get(at_cli_client(cli), &error, "/v1/jobs?vdc=%s", opt_vdc);
    else
        answer = at_client_get(at_cli_client(cli), &error, "/v1/jobs");
    g_autoptr(JsonNode) node = answer;
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    struct at_table *table = at_table_new(heads);
    JsonArray *arr = at_cli_list(node, "jobs");
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *job = json_array_get_object_element(arr, i);
        const char *state = at_json_str(job, "state", NULL);
        const char *started = at_json_str(job, "started", at_json_str(job, "created", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(job, "id", NULL));
        at_table_take(table, AT_PLAIN, at_text_job(job));
        at_table_cell(table, at_text_state_color(state), state);
        at_table_take(table, AT_PLAIN, g_strdup_printf("%.0f%%", at_json_num(job, "percent", 0)));
        at_table_cell(table, AT_PLAIN,
                      g_strcmp0(state, "done") == 0 ? "" : at_json_str(job, "step", ""));
        at_table_cell(table, AT_PLAIN, at_json_str(at_json_obj(job, "actor"), "user", NULL));
        at_table_take(table, AT_PLAIN, at_text_time(started));
        at_table_take(table, AT_PLAIN,
                      at_text_between(started, at_json_str(job, "finished", NULL)));
    }
    at_table_print(table, "no jobs");
    return AT_EXIT_DONE;
}

static void show_steps(JsonObject *job)
{
    static const char *const heads[] = {"STEP", "STATE", "STARTED", ">TOOK", NULL};
    struct at_table *table = at_table_new(heads);
    JsonArray *arr = at_json_arr(job, "steps");
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        JsonObject *step = json_array_get_object_element(arr, i);
        const char *state = at_json_str(step, "state", NULL);
        const char *started = at_json_str(step, "started", NULL);
        at_table_cell(table, AT_PLAIN, at_json_str(step, "name", NULL));
        at_table_cell(table, at_text_state_color(state), state);
        at_table_take(table, AT_PLAIN, at_text_time(started));
        at_table_take(table, AT_PLAIN,
                      at_text_between(started, at_json_str(step, "finished", NULL)));
    }
    at_table_print(table, "no steps");
}

static int run_show(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/jobs/%s", args[0]);
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    JsonObject *job = at_cli_object(node), *actor = at_json_obj(job, "actor");
    JsonObject *failure = at_json_obj(job, "error");
    int64_t bytes = at_json_int(job, "bytes_done", 0), total = at_json_int(job, "bytes_total", 0);
    at_text_field("job", at_json_str(job, "id", NULL));
    at_text_field_take("what", at_text_job(job));
    at_text_field_take("by", g_strdup_printf("%s, %s", at_json_str(actor, "user", "?"),
                                             at_json_str(actor, "from", "?")));
    at_text_field("state", at_json_str(job, "state", NULL));
    at_text_field_take("progress", g_strdup_printf("%.0f%%", at_json_num(job, "percent", 0)));
    if (bytes > 0 || total > 0) {
        g_autofree char *have = at_text_size((uint64_t)bytes), *all = at_text_size((uint64_t)total);
        at_text_field_take("bytes",
                           total > 0 ? g_strdup_printf("%s of %s", have, all) : g_strdup(have));
    }
    double rate = at_json_num(job, "rate", 0), eta = at_json_num(job, "eta_s", -1);
    if (rate > 0) {
        g_autofree char *speed = at_text_size((uint64_t)rate);
        at_text_field_take("rate", g_strdup_printf("%s/s", speed));
    }
    if (eta >= 0)
        at_text_field_take("left", at_text_duration(eta));
    if (at_json_str(job, "waiting", NULL))
        at_text_field("waits", at_json_str(job, "waiting", NULL));
    at_text_field_take("created", at_text_time(at_json_str(job, "created", NULL)));
    at_text_field_take("finished", at_text_time(at_json_str(job, "finished", NULL)));
    if (failure)
        at_text_field("error", at_json_str(failure, "message", NULL));
    JsonArray *notes = at_json_arr(job, "notes");
    for (unsigned i = 0; notes && i < json_array_get_length(notes); i++)
        at_text_field("note", json_array_get_string_element(notes, i));
    g_print("\n");
    show_steps(job);
    if (at_verify_report_next(job)) {
        g_print("\n");
        at_verify_report_print(job);
    }
    return AT_EXIT_DONE;
}

static int run_cancel(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node =
        at_client_call(at_cli_client(cli), "POST", NULL, &error, "/v1/jobs/%s/cancel", args[0]);
    if (!node)
        return at_cli_fail(&error);
    if (!at_cli_json(cli, node))
        g_print("job %s is asked to end; atoll job wait %s shows how\n", args[0], args[0]);
    return AT_EXIT_DONE;
}

static int run_wait(struct at_cli *cli, char **args)
{
    return at_job_wait(cli, args[0]);
}

const struct at_verb at_verbs_job[] = {
    {"list", "", "list jobs, the newest first",
     "Examples:\n  atoll job list\n  atoll job list --state running\n", list_options, false,
     run_list},
    {"show", "JOB", "show a job and its steps", "Example:\n  atoll job show 12\n", NULL, false,
     run_show},
    {"wait", "JOB", "show a job's progress until it has ended",
     "The exit code is the job's: 0 when it is done.\n\nExample:\n  atoll job wait 12\n", NULL,
     false, run_wait},
    {"cancel", "JOB", "ask a job to end and to undo what it did",
     "Example:\n  atoll job cancel 12\n", NULL, false, run_cancel},
    {0},
};
