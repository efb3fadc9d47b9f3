/* SPDX-License-Identifier: Apache-2.0 */
/* The job that tests the isolation of a card and keeps the result with it. */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/gpu.h"
#include "core/job.h"
#include "core/vdc.h"
#include "gpu/isolation-test.h"

static JsonNode *result_json(const GPtrArray *checks, bool *ret_failed)
{
    g_autofree char *now = at_clock_rfc3339();
    JsonObject *o = json_object_new();
    JsonArray *list = json_array_new();
    bool failed = false;
    for (unsigned i = 0; i < checks->len; i++) {
        const struct at_gpu_check *check = checks->pdata[i];
        JsonObject *c = json_object_new();
        json_object_set_string_member(c, "check", check->name);
        json_object_set_string_member(c, "verdict", at_gpu_verdict_name(check->verdict));
        at_json_set_str(c, "detail", check->detail);
        json_array_add_object_element(list, c);
        failed = failed || check->verdict == AT_GPU_FAILED;
    }
    json_object_set_string_member(o, "time", now);
    json_object_set_boolean_member(o, "passed", !failed);
    json_object_set_array_member(o, "checks", list);
    *ret_failed = failed;
    return at_json_take_obj(o);
}

static bool set_test(at_gpu_rec *rec, void *user)
{
    g_clear_pointer(&rec->test, json_node_unref);
    rec->test = json_node_copy(user);
    return true;
}

/* Nobody gets the card while it is tested. */
static GPtrArray *test_locked(struct at_core *core, const char *id, GError **error)
{
    g_autoptr(GPtrArray) cards = at_gpus_cards(core);
    const struct at_gpu_card *card = at_gpus_find(cards, id);
    g_autoptr(at_gpu_rec) rec = at_gpu_rec_load(core->catalog, id, error);
    if (rec && !card)
        at_error(error, AT_ERROR_NOT_FOUND, "GPU %s is not in this host now", id);
    if (!rec || !card)
        return NULL;
    const struct at_gpu_host *host = at_gpus_change_begin(core);
    GPtrArray *checks = at_gpu_test_isolation(host, card, rec->holds->len > 0);
    at_gpus_change_end(core);
    return checks;
}

static bool run_test(struct at_job *job, GError **error)
{
    struct at_core *core = at_job_core(job);
    const char *id = at_json_str(at_job_args(job), "gpu", "");
    bool failed;
    if (!at_gpus_scan(core, error))
        return false;
    at_gpus_plan_lock(core);
    g_autoptr(GPtrArray) checks = test_locked(core, id, error);
    at_gpus_plan_unlock(core);
    if (!checks)
        return false;
    g_autoptr(JsonNode) result = result_json(checks, &failed);
    at_job_result(job, "test", json_node_copy(result));
    if (!at_gpu_rec_update(core->catalog, id, set_test, result, error))
        return false;
    JsonObject *data = json_object_new();
    json_object_set_boolean_member(data, "passed", !failed);
    at_event_emit(core, "gpu.tested", id, at_job_user(job), data);
    return !failed || at_error(error, AT_ERROR_CONFLICT,
                               "GPU %s: not all walls hold; the job's result and `atoll gpu show "
                               "%s` say which",
                               id, id);
}

static const struct at_job_step steps[] = {{"test isolation", run_test, NULL}};
const struct at_job_kind at_job_gpu_test = {"gpu-test", steps, 1, 0, 1};

JsonNode *at_core_gpu_test(struct at_core *core, const struct at_actor *actor, const char *name,
                           GError **error)
{
    g_autofree char *id = at_gpu_resolve(core, name, error);
    if (!id)
        return NULL;
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "gpu", id);
    g_autofree char *target = g_strdup_printf("GPU %s", id);
    g_autofree char *scope = g_strdup_printf("gpu/%s", id);
    return at_job_start(core, &at_job_gpu_test, target, scope, actor, args, error);
}
