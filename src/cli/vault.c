/* SPDX-License-Identifier: Apache-2.0 */
/* atoll vault: the store of all disks. */
#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/job-wait.h"
#include "cli/text.h"

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

/* "41% since Nov 23 02:00, at most 10 MiB/s" */
static char *verifying(JsonObject *verify)
{
    const char *state = at_json_str(verify, "state", "off");
    g_autofree char *rate = at_text_size((uint64_t)at_json_int(verify, "rate_bytes", 0));
    if (g_str_equal(state, "off"))
        return g_strdup("never (atolld --verify-days)");
    if (g_str_equal(state, "waiting")) {
        g_autofree char *next = at_text_time(at_json_str(verify, "next", NULL));
        return g_strdup_printf("next %s, every %g days, at most %s/s", next,
                               at_json_num(verify, "every_days", 0), rate);
    }
    g_autofree char *began = at_text_time(at_json_str(verify, "began", NULL));
    return g_strdup_printf("%.0f%%%s since %s, at most %s/s", at_json_num(verify, "percent", 0),
                           g_str_equal(state, "paused") ? ", paused," : "", began, rate);
}

static char *verified(JsonObject *verify)
{
    const char *last = at_json_str(verify, "last_finished", NULL);
    if (!last)
        return g_strdup("never");
    int64_t damaged = at_json_int(verify, "last_damaged", 0);
    g_autofree char *time = at_text_time(last);
    g_autofree char *size = at_text_size((uint64_t)at_json_int(verify, "last_bytes", 0));
    g_autofree char *count =
        damaged ? g_strdup_printf("%" G_GINT64_FORMAT, damaged) : g_strdup("nothing");
    return g_strdup_printf("%s, %s, %s damaged", time, size, count);
}

static int run_status(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/vault");
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    g_autoptr(JsonNode) copy = at_json_thaw(node);
    JsonObject *obj = at_cli_object(copy), *verify = at_json_obj(obj, "verify");
    g_autofree char *last = verify ? verified(verify) : NULL;
    g_autofree char *now = verify ? verifying(verify) : NULL;
    if (verify)
        json_object_remove_member(obj, "verify");
    bool damaged = at_json_bool(obj, "index_damaged", false);
    json_object_remove_member(obj, "index_damaged");
    at_cli_print_record(obj);
    if (damaged)
        at_text_field("index", "damaged, about to be built again (atoll job list)");
    if (last) {
        at_text_field("verified", last);
        at_text_field("verifying", now);
    }
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
