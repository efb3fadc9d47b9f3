/* SPDX-License-Identifier: Apache-2.0 */
/* The job that tests the isolation of a card and keeps the result with it. */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/gpu-neighbour.h"
#include "core/gpu.h"
#include "core/job.h"
#include "core/vdc.h"
#include "gpu/isolation-test.h"

/* Seconds of the noisy neighbour's test: of each run of the victim's, and of the load. */
enum { MEASURE_S = 3, LOAD_S = 20 };

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

/* What the workstation "VDC/NAME" has of a card. */
static const struct at_gpu_hold_rec *hold_of(const at_gpu_rec *rec, const char *workstation,
                                             GError **error)
{
    for (unsigned i = 0; i < rec->holds->len; i++) {
        const struct at_gpu_hold_rec *hold = rec->holds->pdata[i];
        g_autofree char *name = g_strdup_printf("%s/%s", hold->vdc, hold->workstation);
        if (g_str_equal(name, workstation) && hold->attached)
            return hold;
    }
    at_error(error, AT_ERROR_CONFLICT,
             "workstation %s does not run with a part of GPU %s; `atoll gpu show %s` says who does",
             workstation, rec->id, rec->id);
    return NULL;
}

static void show_progress(double percent, void *user)
{
    at_job_percent(user, percent);
}

static bool not_tested(GPtrArray *checks, const char *why)
{
    at_gpu_check_add(checks, AT_NEIGHBOUR_CHECK, AT_GPU_NOT_TESTED, g_strdup(why));
    return true;
}

/* Of the directories in the guests. It is on record before they are made, so that the next daemon
 * finds them, and ends what runs there, before it measures anew. */
static const char *name_in_guests(struct at_job *job, bool *ret_again, GError **error)
{
    const char *name = at_json_str(at_job_data(job), "directory", NULL);
    *ret_again = name;
    if (name)
        return name;
    g_autofree char *fresh = g_strdup_printf("%08x%08x", g_random_int(), g_random_int());
    at_job_set_str(job, "directory", fresh);
    return at_job_save(job, error) ? at_json_str(at_job_data(job), "directory", NULL) : NULL;
}

/* Between two workstations that have parts of it and run. */
static bool test_holders(struct at_job *job, const struct at_gpu_hold_rec *victim,
                         const struct at_gpu_hold_rec *neighbour, GPtrArray *checks, GError **error)
{
    struct at_core *core = at_job_core(job);
    bool again;
    const char *name = name_in_guests(job, &again, error);
    if (!name)
        return false;
    g_autofree char *dir_v = at_core_machine_dir(core, victim->machine);
    g_autofree char *dir_n = at_core_machine_dir(core, neighbour->machine);
    g_autofree char *socket_v = g_build_filename(dir_v, "qga.sock", NULL);
    g_autofree char *socket_n = g_build_filename(dir_n, "qga.sock", NULL);
    const struct at_neighbour_plan plan = {
        .program = core->gpu_load_path,
        .name = name,
        .again = again,
        .victim = {at_json_str(at_job_args(job), "victim", NULL), socket_v,
                   victim->profile->isolation},
        .neighbour = {at_json_str(at_job_args(job), "neighbour", NULL), socket_n,
                      neighbour->profile->isolation},
        .measure_s = MEASURE_S,
        .load_s = LOAD_S,
        .cancellable = at_job_cancellable(job),
        .progress = show_progress,
        .user = job,
    };
    return at_neighbour_measure(&plan, checks, error);
}

/* The other checks have been made and are kept: what stands in the way here is told as this check's
 * result. */
static bool test_neighbour(struct at_job *job, const char *id, GPtrArray *checks, GError **error)
{
    const char *victim = at_json_str(at_job_args(job), "victim", NULL);
    const char *neighbour = at_json_str(at_job_args(job), "neighbour", NULL);
    if (!victim)
        return not_tested(checks, "it needs two running workstations that share the card: "
                                  "--victim VDC/WORKSTATION --neighbour VDC/WORKSTATION");
    g_autoptr(GError) local = NULL;
    g_autoptr(at_gpu_rec) rec = at_gpu_rec_load(at_job_core(job)->catalog, id, error);
    if (!rec)
        return false;
    const struct at_gpu_hold_rec *v = hold_of(rec, victim, &local);
    const struct at_gpu_hold_rec *n = v ? hold_of(rec, neighbour, &local) : NULL;
    return n ? test_holders(job, v, n, checks, error) : not_tested(checks, local->message);
}

/* Who named two workstations has asked for that check, and a script sees that it was not made. */
static bool as_asked(struct at_job *job, const char *id, const GPtrArray *checks, GError **error)
{
    for (unsigned i = 0; at_json_str(at_job_args(job), "victim", NULL) && i < checks->len; i++) {
        const struct at_gpu_check *check = checks->pdata[i];
        if (g_str_equal(check->name, AT_NEIGHBOUR_CHECK) && check->verdict == AT_GPU_NOT_TESTED)
            return at_error(error, AT_ERROR_UNAVAILABLE,
                            "GPU %s: the noisy neighbour was not tested: %s; what else was tested "
                            "is in `atoll gpu show %s`",
                            id, check->detail, id);
    }
    return true;
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
    if (!checks || !test_neighbour(job, id, checks, error))
        return false;
    g_autoptr(JsonNode) result = result_json(checks, &failed);
    at_job_result(job, "test", json_node_copy(result));
    if (!at_gpu_rec_update(core->catalog, id, set_test, result, error))
        return false;
    JsonObject *data = json_object_new();
    json_object_set_boolean_member(data, "passed", !failed);
    at_event_emit(core, "gpu.tested", id, at_job_user(job), data);
    if (failed)
        return at_error(error, AT_ERROR_CONFLICT,
                        "GPU %s: not all walls hold; the job's result and `atoll gpu show %s` say "
                        "which",
                        id, id);
    return as_asked(job, id, checks, error);
}

static const struct at_job_step steps[] = {{"test isolation", run_test, NULL}};
const struct at_job_kind at_job_gpu_test = {"gpu-test", steps, 1, 0, 1};

JsonNode *at_core_gpu_test(struct at_core *core, const struct at_actor *actor, const char *name,
                           const char *victim, const char *neighbour, GError **error)
{
    g_autofree char *id = at_gpu_resolve(core, name, error);
    if (!id)
        return NULL;
    if (!victim != !neighbour || (victim && g_str_equal(victim, neighbour))) {
        at_error(error, AT_ERROR_INVALID,
                 "victim and neighbour are two different workstations, or none are named");
        return NULL;
    }
    if (victim) {
        g_autoptr(at_gpu_rec) rec = at_gpu_rec_load(core->catalog, id, error);
        if (!rec || !hold_of(rec, victim, error) || !hold_of(rec, neighbour, error))
            return NULL;
    }
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "gpu", id);
    at_json_set_str(args, "victim", victim);
    at_json_set_str(args, "neighbour", neighbour);
    g_autofree char *target = g_strdup_printf("GPU %s", id);
    g_autofree char *scope = g_strdup_printf("gpu/%s", id);
    return at_job_start(core, &at_job_gpu_test, target, scope, actor, args, error);
}
