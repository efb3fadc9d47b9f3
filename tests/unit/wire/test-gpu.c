/* SPDX-License-Identifier: Apache-2.0 */
/* Requests for GPUs in a definition: what is read, filled in, written, refused and planned. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "wire/plan.h"

#define BEFORE                                                                                     \
    "{\"vdc\":\"lab\",\"workstations\":[{\"name\":\"tune\",\"disks\":[{\"size\":1048576}]"
#define WITH(gpus) BEFORE ",\"gpus\":[" gpus "]}]}"

static at_definition *parse(const char *text, char **ret_pointer, GError **error)
{
    g_autoptr(JsonNode) node = at_json_parse(text, -1, error);
    return node ? at_definition_parse(node, ret_pointer, error) : NULL;
}

static at_definition *parse_good(const char *text)
{
    g_autoptr(GError) error = NULL;
    at_definition *def = parse(text, NULL, &error);
    g_assert_no_error(error);
    return def;
}

static void reads(void)
{
    g_autoptr(at_definition) def = parse_good(
        WITH("{\"profile\":\"passthrough\",\"model\":\"H100*\"},{\"profile\":\"H100-2-20C\"},"
             "{\"memory\":\">= 20 GiB\",\"isolation\":\"hardware\",\"count\":2,\"hold\":true}"));
    const struct at_def_workstation *ws = def->workstations->pdata[0];
    g_assert_cmpuint(ws->gpus->len, ==, 3);
    const struct at_def_gpu *first = ws->gpus->pdata[0], *third = ws->gpus->pdata[2];
    g_assert_cmpstr(first->profile, ==, "passthrough");
    g_assert_cmpstr(first->model, ==, "H100*");
    g_assert_cmpstr(first->isolation, ==, "any");
    g_assert_cmpuint(first->count, ==, 1);
    g_assert_false(first->hold);
    g_assert_null(third->profile);
    g_assert_cmpuint(third->memory, ==, UINT64_C(20) << 30);
    g_assert_cmpuint(third->count, ==, 2);
    g_assert_true(third->hold);
    g_autofree char *text = at_gpus_text(ws);
    g_assert_cmpstr(text, ==,
                    "passthrough of H100*; H100-2-20C; 2 x any profile, >= 20 GiB, isolation "
                    "hardware, held when stopped");
    g_autoptr(JsonNode) once = at_definition_to_json(def);
    g_autofree char *json = at_json_text(once);
    g_autoptr(at_definition) again = parse_good(json);
    g_autoptr(JsonNode) twice = at_definition_to_json(again);
    g_autofree char *same = at_json_text(twice);
    g_assert_cmpstr(json, ==, same);
}

/* What cards with large BARs need. */
static void firmware(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(at_definition) bios = parse_good(BEFORE "}]}");
    g_autoptr(at_definition) uefi = parse_good(BEFORE ",\"firmware\":\"uefi\"}]}");
    g_autoptr(JsonNode) node = at_definition_to_json(uefi);
    g_autofree char *json = at_json_text(node);
    g_assert_nonnull(strstr(json, "\"firmware\":\"uefi\""));
    g_autoptr(GPtrArray) changes = at_plan_changes(bios, uefi, NULL, &error);
    const struct at_change *change = changes->pdata[0];
    g_assert_cmpstr(change->detail, ==, "firmware bios -> uefi");
    g_assert_true(change->needs_restart);
    g_assert_null(parse(BEFORE ",\"firmware\":\"coreboot\"}]}", NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
}

/* The digest of what was captured before there were GPUs does not change. */
static void stays(void)
{
    g_autoptr(at_definition) def = parse_good(BEFORE "}]}");
    g_autoptr(JsonNode) node = at_definition_to_json(def);
    g_autofree char *json = at_json_text(node);
    g_assert_null(strstr(json, "gpu"));
    g_assert_null(strstr(json, "firmware"));
}

static void refuses(void)
{
    static const struct {
        const char *gpus, *pointer, *words;
    } cases[] = {
        {"{}", "/workstations/0/gpus/0", "says nothing of what is needed"},
        {"{\"profile\":\"\"}", "/workstations/0/gpus/0/profile", "not empty"},
        {"{\"profile\":\"a\\u0007b\"}", "/workstations/0/gpus/0/profile", "allowed are names"},
        {"{\"memory\":\">= 20 GB\"}", "/workstations/0/gpus/0/memory", "GiB"},
        {"{\"memory\":\"much\"}", "/workstations/0/gpus/0/memory", "much"},
        {"{\"isolation\":\"hard\"}", "/workstations/0/gpus/0/isolation", "hardware"},
        {"{\"profile\":\"vf\",\"count\":0}", "/workstations/0/gpus/0/count", "1"},
        {"{\"profile\":\"vf\",\"count\":9},{\"profile\":\"vf\",\"count\":8}",
         "/workstations/0/gpus/1", "asks for 17 GPUs"},
        {"{\"profil\":\"vf\"}", "/workstations/0/gpus/0/profil#", "profile"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *pointer = NULL;
        g_autofree char *text = g_strdup_printf(WITH("%s"), cases[i].gpus);
        g_test_message("%s", text);
        g_assert_null(parse(text, &pointer, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
        g_assert_cmpstr(pointer, ==, cases[i].pointer);
        g_test_message("%s", error->message);
        g_assert_nonnull(strstr(error->message, cases[i].words));
    }
}

static void policy(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(at_definition) def = parse_good(
        "{\"vdc\":\"lab\",\"gpu_policy\":{\"isolation\":\"hardware\",\"on_failure\":\"move\","
        "\"quota\":{\"gpus\":4,\"memory\":\"160 GiB\"}}}");
    g_assert_cmpstr(def->gpu_policy.isolation, ==, "hardware");
    g_assert_cmpuint(def->gpu_policy.gpus, ==, 4);
    g_assert_cmpuint(def->gpu_policy.slices, ==, 0);
    g_autoptr(JsonNode) once = at_definition_to_json(def);
    g_autofree char *json = at_json_text(once);
    g_autoptr(at_definition) again = parse_good(json);
    g_assert_cmpuint(again->gpu_policy.memory, ==, UINT64_C(160) << 30);
    g_assert_cmpstr(again->gpu_policy.on_failure, ==, "move");
    g_assert_null(parse("{\"vdc\":\"lab\",\"gpu_policy\":{\"quota\":{\"gpus\":0}}}", NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
}

static const struct at_change *find(const GPtrArray *changes, const char *words)
{
    for (unsigned i = 0; i < changes->len; i++) {
        const struct at_change *change = changes->pdata[i];
        if (strstr(change->detail, words))
            return change;
    }
    return NULL;
}

static void plans(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(at_definition) none = parse_good(BEFORE "}]}");
    g_autoptr(at_definition) one = parse_good(WITH("{\"profile\":\"passthrough\"}"));
    g_autoptr(at_definition) strict = parse_good(WITH("{\"profile\":\"passthrough\"}"));
    g_free(strict->gpu_policy.isolation);
    strict->gpu_policy.isolation = g_strdup("exclusive");
    g_autoptr(GPtrArray) added = at_plan_changes(none, one, NULL, &error);
    const struct at_change *change = find(added, "GPUs: none -> passthrough");
    g_assert_nonnull(change);
    g_assert_true(change->needs_restart);
    g_autoptr(GPtrArray) made = at_plan_changes(NULL, one, NULL, &error);
    g_assert_nonnull(find(made, "GPUs: passthrough"));
    g_autoptr(GPtrArray) policies = at_plan_changes(one, strict, NULL, &error);
    g_assert_nonnull(find(policies, "isolation any, a failed card: leave -> isolation exclusive"));
    g_autoptr(GPtrArray) same = at_plan_changes(one, one, NULL, &error);
    g_assert_cmpuint(same->len, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/gpu/reads-requests-by-profile-and-by-need", reads);
    g_test_add_func("/wire/gpu/firmware-is-chosen-and-changed-with-a-restart", firmware);
    g_test_add_func("/wire/gpu/definitions-without-gpus-are-written-as-ever", stays);
    g_test_add_func("/wire/gpu/refuses-what-means-nothing-and-names-the-place", refuses);
    g_test_add_func("/wire/gpu/a-policy-limits-isolation-and-quota", policy);
    g_test_add_func("/wire/gpu/changes-of-gpus-are-planned-with-a-restart", plans);
    return g_test_run();
}
