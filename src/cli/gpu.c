/* SPDX-License-Identifier: Apache-2.0 */
/* atoll gpu: graphics processors, what can be given of them, and who has it. */
#include "cli/gpu-map.h"

#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/gpu-device.h"
#include "cli/job-wait.h"
#include "cli/text.h"
#include "wire/definition-file.h"

static char *opt_file, *opt_reason;
static gboolean opt_off;
static char *opt_victim, *opt_neighbour;

static const GOptionEntry plan_options[] = {
    {"file", 'f', 0, G_OPTION_ARG_FILENAME, &opt_file, "the VDC's file", "FILE"},
    {NULL},
};
static const GOptionEntry test_options[] = {
    {"victim", 0, 0, G_OPTION_ARG_STRING, &opt_victim, "workstation that measures its part of it",
     "VDC/WS"},
    {"neighbour", 0, 0, G_OPTION_ARG_STRING, &opt_neighbour, "workstation that disturbs it",
     "VDC/WS"},
    {NULL},
};

static const GOptionEntry mix_options[] = {
    {"off", 0, 0, G_OPTION_ARG_NONE, &opt_off, "one size again, of which more fit", NULL},
    {NULL},
};
static const GOptionEntry reserve_options[] = {
    {"reason", 0, 0, G_OPTION_ARG_STRING, &opt_reason, "shown to those who want it", "TEXT"},
    {NULL},
};

static int print_list(struct at_cli *cli, JsonNode *node)
{
    if (!at_cli_json(cli, node))
        at_gpu_map_print(at_cli_list(node, "gpus"));
    return AT_EXIT_DONE;
}

static int run_list(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/gpus");
    return node ? print_list(cli, node) : at_cli_fail(&error);
}

static int run_rescan(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node =
        at_client_call(at_cli_client(cli), "POST", NULL, &error, "/v1/gpus/rescan");
    return node ? print_list(cli, node) : at_cli_fail(&error);
}

/* ---- show ---- */

static void show_modes(JsonObject *gpu)
{
    static const char *const kinds[] = {"passthrough", "vgpu", "mig-vgpu", "vf"};
    JsonObject *modes = at_json_obj(gpu, "modes");
    if (!modes)
        return;
    at_text_title("can be given as");
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const char *obstacle = at_json_str(modes, kinds[i], NULL);
        at_text_field(kinds[i], obstacle ? obstacle : "yes");
    }
}

static void show_holds(JsonObject *gpu)
{
    static const char *const heads[] = {"HOLDER", "PROFILE", "ISOLATION", ">MEMORY",
                                        "SLICES", "SINCE",   "NOW",       NULL};
    JsonArray *holds = at_json_arr(gpu, "holds");
    if (!holds || json_array_get_length(holds) == 0)
        return;
    at_text_title("held by");
    struct at_table *table = at_table_new(heads);
    for (unsigned i = 0; i < json_array_get_length(holds); i++) {
        JsonObject *h = json_array_get_object_element(holds, i);
        int64_t memory = at_json_int(h, "memory", 0);
        at_table_cell(table, AT_PLAIN, at_json_str(h, "holder", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(h, "profile", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(h, "isolation", NULL));
        at_table_take(table, AT_PLAIN, memory ? at_text_size((uint64_t)memory) : NULL);
        at_table_take(table, AT_PLAIN, at_gpu_slices_text(h));
        at_table_take(table, AT_PLAIN, at_text_time(at_json_str(h, "since", NULL)));
        at_table_cell(table, AT_PLAIN,
                      at_json_bool(h, "attached", false) ? "attached"
                      : at_json_bool(h, "kept", false)   ? "kept"
                                                         : "granted");
    }
    at_table_print(table, "");
}

enum { PAST_SHOWN = 10 };

/* The last ones first. */
static void show_past(JsonObject *gpu)
{
    static const char *const heads[] = {"HOLDER", "PROFILE", "FROM", "TO", "THEN", NULL};
    JsonArray *past = at_json_arr(gpu, "past");
    unsigned n = past ? json_array_get_length(past) : 0;
    if (n == 0)
        return;
    at_text_title("held before by");
    struct at_table *table = at_table_new(heads);
    for (unsigned i = 0; i < MIN(n, PAST_SHOWN); i++) {
        JsonObject *p = json_array_get_object_element(past, n - 1 - i);
        const char *cleared = at_json_str(p, "cleared", NULL);
        at_table_cell(table, AT_PLAIN, at_json_str(p, "holder", NULL));
        at_table_cell(table, AT_PLAIN, at_json_str(p, "profile", NULL));
        at_table_take(table, AT_PLAIN, at_text_time(at_json_str(p, "from", NULL)));
        at_table_take(table, AT_PLAIN, at_text_time(at_json_str(p, "to", NULL)));
        at_table_cell(table, cleared ? AT_PLAIN : AT_YELLOW,
                      cleared ? cleared : "the card was gone");
    }
    at_table_print(table, "");
}

static void show_test(JsonObject *gpu)
{
    JsonObject *test = at_json_obj(gpu, "test");
    JsonArray *checks = at_json_arr(test, "checks");
    if (!checks)
        return;
    g_autofree char *time = at_text_time(at_json_str(test, "time", NULL));
    g_autofree char *title = g_strdup_printf("isolation, tested %s", time);
    at_text_title(title);
    for (unsigned i = 0; i < json_array_get_length(checks); i++) {
        JsonObject *c = json_array_get_object_element(checks, i);
        at_text_field_take(at_json_str(c, "check", "?"),
                           g_strdup_printf("%s: %s", at_json_str(c, "verdict", "?"),
                                           at_json_str(c, "detail", "")));
    }
}

/* The reason is said once when it is the same for the card and for the whole library. */
static void show_driver(JsonObject *gpu)
{
    const char *unknown = at_json_str(gpu, "unknown", NULL);
    const char *driver = at_json_str(gpu, "driver", NULL);
    const char *why = at_json_str(at_json_obj(gpu, "nvidia"), "unknown", NULL);
    g_autofree char *version = at_gpu_driver_text(gpu);
    if (unknown)
        at_text_field("unknown", unknown);
    if (driver)
        at_text_field("driver", driver);
    if (version)
        at_text_field("nvidia driver",
                      unknown && g_strcmp0(unknown, why) == 0 ? "unknown" : version);
}

static int run_show(struct at_cli *cli, char **args)
{
    static const char *const fields[] = {"id",       "node",       "address",      "vendor",
                                         "name",     "serial",     "architecture", "state",
                                         "reserved", "quarantined"};
    GError *error = NULL;
    g_autoptr(JsonNode) node = at_client_get(at_cli_client(cli), &error, "/v1/gpus/%s", args[0]);
    if (!node)
        return at_cli_fail(&error);
    if (at_cli_json(cli, node))
        return AT_EXIT_DONE;
    JsonObject *gpu = at_cli_object(node);
    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        const char *value = at_json_str(gpu, fields[i], NULL);
        if (value)
            at_text_field(fields[i], value);
    }
    int64_t memory = at_json_int(gpu, "memory", 0);
    show_driver(gpu);
    at_text_field_take("memory", memory ? at_text_size((uint64_t)memory) : g_strdup("unknown"));
    if (at_json_bool(gpu, "mixed", false))
        at_text_field("vGPU sizes", "may differ");
    at_gpu_device_print(gpu);
    at_gpu_health_print(gpu);
    show_modes(gpu);
    show_holds(gpu);
    show_past(gpu);
    show_test(gpu);
    return AT_EXIT_DONE;
}

/* ---- plan ---- */

static void print_plan(JsonArray *grants)
{
    static const char *const heads[] = {"HOLDER",  "NODE",   "GPU",       "NAME", "PROFILE",
                                        ">MEMORY", "SLICES", "ISOLATION", NULL};
    struct at_table *table = at_table_new(heads);
    for (unsigned i = 0; grants && i < json_array_get_length(grants); i++) {
        JsonObject *g = json_array_get_object_element(grants, i);
        int64_t memory = at_json_int(g, "memory", 0);
        static const char *const texts[] = {"holder", "node", "address", "name", "profile"};
        for (unsigned t = 0; t < G_N_ELEMENTS(texts); t++)
            at_table_cell(table, AT_PLAIN, at_json_str(g, texts[t], NULL));
        at_table_take(table, AT_PLAIN, memory ? at_text_size((uint64_t)memory) : NULL);
        at_table_take(table, AT_PLAIN, at_gpu_slices_text(g));
        at_table_cell(table, AT_PLAIN, at_json_str(g, "isolation", NULL));
    }
    at_table_print(table, "it asks for no GPU");
}

static int run_plan(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    g_autoptr(at_yaml) yaml = NULL;
    if (!opt_file)
        return at_cli_usage("plan needs a file: atoll gpu plan -f team.yaml");
    g_autoptr(at_definition) def = at_definition_load(opt_file, &yaml, &error);
    if (!def)
        return at_cli_fail(&error);
    g_autoptr(JsonNode) node = at_client_call(at_cli_client(cli), "POST",
                                              at_definition_to_json(def), &error, "/v1/gpus/plan");
    if (!node)
        return at_cli_fail(&error);
    const char *refused = at_json_str(at_cli_object(node), "refused", NULL);
    if (!at_cli_json(cli, node) && !refused)
        print_plan(at_json_arr(at_cli_object(node), "grants"));
    if (!refused)
        return AT_EXIT_DONE;
    at_error(&error, AT_ERROR_CONFLICT, "VDC %s: %s", def->vdc, refused);
    return at_cli_fail_next(&error, "atoll gpu list shows who holds what");
}

/* ---- changes ---- */

static int change(struct at_cli *cli, const char *gpu, const char *verb, JsonNode *body,
                  const char *done)
{
    GError *error = NULL;
    g_autoptr(JsonNode) node =
        at_client_call(at_cli_client(cli), "POST", body, &error, "/v1/gpus/%s/%s", gpu, verb);
    if (!node)
        return at_cli_fail(&error);
    if (!at_cli_json(cli, node))
        at_text_line(stdout, "GPU %s (%s) %s", at_json_str(at_cli_object(node), "address", gpu),
                     at_json_str(at_cli_object(node), "name", "unknown"), done);
    return AT_EXIT_DONE;
}

static int run_reserve(struct at_cli *cli, char **args)
{
    JsonObject *body = json_object_new();
    if (opt_reason)
        json_object_set_string_member(body, "reason", opt_reason);
    return change(cli, args[0], "reserve", at_json_take_obj(body), "is kept for the host");
}

static int run_mix(struct at_cli *cli, char **args)
{
    JsonObject *body = json_object_new();
    json_object_set_boolean_member(body, "on", !opt_off);
    return change(cli, args[0], "mix", at_json_take_obj(body),
                  opt_off ? "takes vGPUs of one size" : "takes vGPUs of different sizes");
}

static int run_release(struct at_cli *cli, char **args)
{
    return change(cli, args[0], "release", NULL, "can be given to workstations");
}

static int run_test(struct at_cli *cli, char **args)
{
    GError *error = NULL;
    JsonObject *body = json_object_new();
    if (opt_victim)
        json_object_set_string_member(body, "victim", opt_victim);
    if (opt_neighbour)
        json_object_set_string_member(body, "neighbour", opt_neighbour);
    JsonNode *answer = at_client_call(at_cli_client(cli), "POST", at_json_take_obj(body), &error,
                                      "/v1/gpus/%s/test-isolation", args[0]);
    return answer ? at_job_follow(cli, answer) : at_cli_fail(&error);
}

const struct at_verb at_verbs_gpu[] = {
    {"list", "", "the map of all GPUs: what they are cut into, and who has it",
     "A letter in the map is a holder, a dot is free.\n\nExample:\n  atoll gpu list\n", NULL, false,
     run_list},
    {"show", "GPU", "show a GPU: what it can be, its health, its holders, its isolation test",
     "GPU is its address, its id, or the beginning of the id.\n\nExamples:\n"
     "  atoll gpu show 41:00.0\n  atoll gpu show GPU-6d0a2a5e\n",
     NULL, false, run_show},
    {"plan", "", "show where the GPUs of a VDC's file would go, or what stands in the way",
     "Nothing is changed. Who stands in the way is named, and what would fit instead.\n\n"
     "Example:\n  atoll gpu plan -f team.yaml\n",
     plan_options, false, run_plan},
    {"rescan", "", "look at this host's devices again", "Example:\n  atoll gpu rescan\n", NULL,
     false, run_rescan},
    {"mix", "GPU", "let time-sliced vGPUs of different sizes share a GPU (--off: no more)",
     "Example:\n  atoll gpu mix 81:00.0\n", mix_options, false, run_mix},
    {"reserve", "GPU", "keep a GPU for the host: nothing of it is given to workstations",
     "Example:\n  atoll gpu reserve 41:00.0 --reason \"inference of the host\"\n", reserve_options,
     false, run_reserve},
    {"release", "GPU", "give a GPU to workstations again, also out of quarantine",
     "Example:\n  atoll gpu release 41:00.0\n", NULL, false, run_release},
    {"test-isolation", "GPU", "test the walls between holders of a GPU, as far as this host can",
     "The result is kept with the card: atoll gpu show. A card that nobody has is reset.\n\n"
     "With --victim and --neighbour two workstations that run with parts of the card are\n"
     "loaded for about 40 s: the one measures its bandwidth alone and beside the other, which\n"
     "fills all memory of the card that it gets and hogs bandwidth. Both need a guest agent\n"
     "and a CUDA driver, and should have nothing else to do.\n\n"
     "Examples:\n  atoll gpu test-isolation 41:00.0\n"
     "  atoll gpu test-isolation 41:00.0 --victim rag/tune --neighbour lab/nb1\n",
     test_options, true, run_test},
    {0},
};
