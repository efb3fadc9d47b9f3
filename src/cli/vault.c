/* SPDX-License-Identifier: Apache-2.0 */
/* atoll vault: the store of all disks. */
#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/job-wait.h"

static gboolean opt_all;
static char *opt_sample;

static const GOptionEntry verify_options[] = {
    {"all", 0, 0, G_OPTION_ARG_NONE, &opt_all, "every chunk (the default)", NULL},
    {"sample", 0, 0, G_OPTION_ARG_STRING, &opt_sample, "a part of them, chosen at random", "N%"},
    {NULL},
};

static int post(struct at_cli *cli, const char *path, JsonNode *body)
{
    GError *error = NULL;
    JsonNode *answer =
        at_client_call(at_cli_client(cli), "POST", body, &error, "/v1/vault/%s", path);
    return answer ? at_job_follow(cli, answer) : at_cli_fail(&error);
}

static int run_status(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/vault");
    if (!node)
        return at_cli_fail(&error);
    if (!at_cli_json(cli, node))
        at_cli_print_record(at_cli_object(node));
    return AT_EXIT_DONE;
}

static int run_gc(struct at_cli *cli, char **args)
{
    return post(cli, "gc", NULL);
}

static int run_verify(struct at_cli *cli, char **args)
{
    double percent = 100;
    if (opt_all && opt_sample)
        return at_cli_usage("--all and --sample exclude each other");
    if (opt_sample) {
        char *end;
        percent = g_ascii_strtod(opt_sample, &end);
        end += *end == '%';
        if (end == opt_sample || *end || !(percent > 0 && percent <= 100))
            return at_cli_usage("--sample is a percentage such as 5%%, not \"%s\"", opt_sample);
    }
    JsonObject *body = json_object_new();
    json_object_set_double_member(body, "sample_percent", percent);
    return post(cli, "verify", at_json_take_obj(body));
}

static int run_reindex(struct at_cli *cli, char **args)
{
    return post(cli, "reindex", NULL);
}

const struct at_verb at_verbs_vault[] = {
    {"status", "", "tell what the vault holds", "Example:\n  atoll vault status\n", NULL, false,
     run_status},
    {"gc", "", "free what nothing refers to any more", "Example:\n  atoll vault gc\n", NULL, true,
     run_gc},
    {"verify", "", "read the vault back and compare it with its digests",
     "Examples:\n  atoll vault verify\n  atoll vault verify --sample 5%\n", verify_options, true,
     run_verify},
    {"reindex", "", "make the index anew from the packs", "Example:\n  atoll vault reindex\n", NULL,
     true, run_reindex},
    {0},
};
