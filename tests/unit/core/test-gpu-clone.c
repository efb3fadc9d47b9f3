/* SPDX-License-Identifier: Apache-2.0 */
/* What a clone asks for: the same, as much as the original had, or nothing. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "gpu-site.h"

#define HAD                                                                                        \
    "{\"tune\": {\"gpus\": [{\"request\": 0, \"profile\": \"H100-2-20C\", \"memory\": "            \
    "21474836480, \"isolation\": \"hardware\"}]}}"

static at_snap *snap_of(const char *consistency)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) node = at_json_parse(consistency, -1, &error);
    at_snap *snap = at_snap_new("monday", "team", "t");
    g_assert_no_error(error);
    g_clear_pointer(&snap->consistency, json_object_unref);
    snap->consistency = json_object_ref(json_node_get_object(node));
    return snap;
}

static struct at_definition *wish(enum at_gpu_wish what, const char *wants, const char *consistency,
                                  GError **error)
{
    const char *const list[] = {wants, NULL};
    g_autoptr(at_snap) snap = snap_of(consistency);
    g_autoptr(at_definition) def = gpu_site_def("team", NULL, list);
    return at_gpu_wish_apply(def, what, snap, error) ? g_steal_pointer(&def) : NULL;
}

static const struct at_def_gpu *gpu_of(const struct at_definition *def)
{
    const struct at_def_workstation *ws = def->workstations->pdata[0];
    g_assert_cmpuint(ws->gpus->len, ==, 1);
    return ws->gpus->pdata[0];
}

static void equivalent(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(at_definition) def =
        wish(AT_GPU_WISH_EQUIVALENT,
             "{\"profile\": \"H100-2-20C\", \"model\": \"H100*\", \"count\": 2, \"hold\": true}",
             HAD, &error);
    g_assert_no_error(error);
    const struct at_def_gpu *gpu = gpu_of(def);
    g_assert_null(gpu->profile);
    g_assert_null(gpu->model);
    g_assert_cmpuint(gpu->memory, ==, UINT64_C(20) << 30);
    g_assert_cmpstr(gpu->isolation, ==, "hardware");
    g_assert_cmpuint(gpu->count, ==, 2);
    g_assert_true(gpu->hold);
}

/* Who asked by need asks for the same. */
static void by_need(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(at_definition) def = wish(
        AT_GPU_WISH_EQUIVALENT, "{\"memory\": \"10 GiB\", \"model\": \"H100*\"}", "{}", &error);
    g_assert_no_error(error);
    g_assert_cmpuint(gpu_of(def)->memory, ==, UINT64_C(10) << 30);
    g_assert_cmpstr(gpu_of(def)->model, ==, "H100*");
}

static void not_known(void)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(
        wish(AT_GPU_WISH_EQUIVALENT, "{\"profile\": \"passthrough\"}", "{\"tune\": {}}", &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_assert_nonnull(strstr(error->message, "--gpu none"));
}

static void same_or_none(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(at_definition) same =
        wish(AT_GPU_WISH_SAME, "{\"profile\": \"H100-2-20C\"}", HAD, &error);
    g_autoptr(at_definition) none =
        wish(AT_GPU_WISH_NONE, "{\"profile\": \"H100-2-20C\"}", HAD, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(gpu_of(same)->profile, ==, "H100-2-20C");
    g_assert_cmpuint(((struct at_def_workstation *)none->workstations->pdata[0])->gpus->len, ==, 0);
}

/* The equivalent is there where the same is not: on another board. */
static void is_planned(void)
{
    g_autoptr(GError) error = NULL;
    struct gpu_site *site = gpu_site_new("card " CARD " h100-pcie\n");
    const char *const had = "{\"tune\": {\"gpus\": [{\"request\": 0, \"memory\": 21474836480, "
                            "\"isolation\": \"hardware\"}]}}";
    const char *const wants = "{\"profile\": \"A100-4-20C\"}";
    g_autoptr(at_definition) same = wish(AT_GPU_WISH_SAME, wants, had, &error);
    g_assert_false(at_gpu_plan_check(&site->core, "copy", same, NULL, &error));
    g_assert_nonnull(strstr(error->message, "A100-4-20C"));
    g_clear_error(&error);
    g_autoptr(at_definition) def = wish(AT_GPU_WISH_EQUIVALENT, wants, had, &error);
    g_assert_true(at_test_ok(at_gpu_plan_check(&site->core, "copy", def, NULL, &error), &error));
    gpu_site_free(site);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu-clone/the-equivalent-is-as-much-memory-and-as-strong-walls", equivalent);
    g_test_add_func("/gpu-clone/who-asked-by-need-asks-for-the-same", by_need);
    g_test_add_func("/gpu-clone/what-it-had-must-be-known", not_known);
    g_test_add_func("/gpu-clone/the-same-or-none", same_or_none);
    g_test_add_func("/gpu-clone/the-equivalent-is-there-where-the-same-is-not", is_planned);
    return g_test_run();
}
