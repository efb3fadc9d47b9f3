/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for a job: asks the daemon again and again, shows progress, and tells the end. */
#include "cli/job-wait.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/client.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/verify-report.h"

/* The end is told late by at most a fiftieth of the time that the job took (but 40 ms, or half a
 * second). */
enum { LEAST_POLL_MS = 40, MOST_POLL_MS = 500, POLL_SHARE = 50, MAX_LOST_S = 30 };

static volatile sig_atomic_t interrupts;

static void on_interrupt(int signo)
{
    interrupts++;
}

static JsonObject *as_object(JsonNode *node)
{
    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static bool has_ended(JsonObject *job)
{
    static const char *const ends[] = {"done", "failed", "cancelled", "undone", NULL};
    return g_strv_contains(ends, at_json_str(job, "state", ""));
}

/* Sleeps in pieces, so that Ctrl-C is seen at once. */
static void rest(int ms, int seen)
{
    for (int slept = 0; slept < ms && interrupts == seen; slept += 20)
        g_usleep(20 * 1000);
}

struct wait {
    struct at_cli *cli;
    struct at_progress *progress;
    const char *id;
    int handled; /* presses of Ctrl-C that were acted upon */
};

/* True when the user wants to leave the job alone. */
static bool handle_interrupts(struct wait *w)
{
    if (interrupts == w->handled)
        return false;
    w->handled = interrupts;
    if (w->handled > 1)
        return true;
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) answer =
        at_client_call(at_cli_client(w->cli), "POST", NULL, &error, "/v1/jobs/%s/cancel", w->id);
    g_autofree char *text =
        answer ? g_strdup("cancelling; Ctrl-C again leaves it running")
               : g_strdup_printf("cannot be cancelled: %s; Ctrl-C again leaves it running",
                                 error->message);
    at_progress_note(w->progress, text);
    return false;
}

/* The daemon may be restarted while we wait: its jobs go on, so we ask again for a while. */
static JsonNode *poll_job(struct wait *w, int64_t *lost_since, GError **error)
{
    GError *local = NULL;
    JsonNode *job = at_client_get(at_cli_client(w->cli), &local, "/v1/jobs/%s", w->id);
    if (job) {
        *lost_since = 0;
        return job;
    }
    int64_t now = g_get_monotonic_time();
    if (local->code != AT_ERROR_UNAVAILABLE ||
        (*lost_since && now - *lost_since > MAX_LOST_S * G_USEC_PER_SEC)) {
        g_propagate_error(error, local);
        return NULL;
    }
    if (!*lost_since) {
        at_progress_note(w->progress, "atolld went away; waiting for it to come back");
        *lost_since = now;
    }
    g_error_free(local);
    return json_node_init_null(json_node_alloc());
}

/* The record at its end; NULL with the error set, or without when the user left. */
static JsonNode *wait_for_end(struct wait *w, GError **error)
{
    int64_t lost_since = 0, begun = g_get_monotonic_time();
    for (;;) {
        g_autoptr(JsonNode) node = poll_job(w, &lost_since, error);
        if (!node)
            return NULL;
        JsonObject *job = as_object(node);
        if (job)
            at_progress_show(w->progress, job);
        if (job && has_ended(job))
            return g_steal_pointer(&node);
        int64_t waited_ms = (g_get_monotonic_time() - begun) / 1000;
        rest((int)CLAMP(waited_ms / POLL_SHARE, LEAST_POLL_MS, MOST_POLL_MS), w->handled);
        if (handle_interrupts(w))
            return NULL;
    }
}

/* What somebody can do about a job that failed, by its kind. */
static const char *next_for(int code)
{
    switch (code) {
    case AT_ERROR_NO_SPACE:
        return "free space: delete snapshots or images, then atoll vault gc";
    case AT_ERROR_CORRUPT:
        return "atoll vault verify --all lists what is damaged";
    default:
        return NULL;
    }
}

static int tell_failure(JsonObject *job)
{
    JsonObject *error = at_json_obj(job, "error");
    const char *state = at_json_str(job, "state", "failed");
    int code = at_error_code_from_name(at_json_str(error, "code", "io"));
    const char *message = at_json_str(
        error, "message",
        strcmp(state, "cancelled") == 0 ? "was cancelled; nothing has changed" : "failed");
    const char *next = at_verify_report_next(job);
    if (!next)
        next = next_for(code);
    g_autofree char *title = at_text_job(job);
    GError *text = NULL;
    at_error(&text, code < 0 ? AT_ERROR_IO : (enum at_error_code)code, "%s: %s", title, message);
    g_autofree char *more =
        next ? NULL : g_strdup_printf("atoll job show %s", at_json_str(job, "id", ""));
    return at_cli_fail_next(&text, next ? next : more);
}

static void tell_notes(JsonObject *job)
{
    JsonArray *notes = at_json_arr(job, "notes");
    for (unsigned i = 0; notes && i < json_array_get_length(notes); i++)
        at_text_line(stderr, "note: %s", json_array_get_string_element(notes, i));
}

/* "  digest 99d1...": what the job has made, apart from what its title says. */
static void tell_result(JsonObject *job)
{
    JsonObject *result = at_json_obj(job, "result");
    const char *target = at_json_str(job, "target", ""), *name;
    JsonObjectIter iter;
    JsonNode *node;
    if (!result)
        return;
    json_object_iter_init_ordered(&iter, result);
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        if (!JSON_NODE_HOLDS_VALUE(node))
            continue;
        g_autofree char *label = NULL, *value = NULL;
        at_cli_record_field(name, node, &label, &value);
        if (strcmp(value, target) != 0)
            at_text_line(stdout, "  %s %s", label, value);
    }
}

/* With --json prints the job's record, and what apply is about to change. */
static bool put_json(struct at_cli *cli, JsonNode *node)
{
    if (!cli->json || !cli->changes || !as_object(node))
        return at_cli_json(cli, node);
    g_autoptr(JsonNode) copy = at_json_thaw(node);
    json_object_set_array_member(as_object(copy), "changes", json_array_ref(cli->changes));
    return at_cli_json(cli, copy);
}

static int tell_end(struct at_cli *cli, JsonNode *node)
{
    JsonObject *job = as_object(node);
    if (!put_json(cli, node)) {
        tell_notes(job);
        at_verify_report_print(job);
    }
    if (strcmp(at_json_str(job, "state", ""), "done") != 0)
        return tell_failure(job);
    if (cli->json)
        return AT_EXIT_DONE;
    const char *from = at_json_str(job, "started", at_json_str(job, "created", NULL));
    g_autofree char *time = at_text_between(from, at_json_str(job, "finished", NULL));
    g_autofree char *size = NULL;
    int64_t bytes = at_json_int(job, "bytes_done", 0);
    if (bytes > 0)
        size = at_text_size((uint64_t)bytes);
    g_autofree char *title = at_text_job(job);
    g_print("%s: done%s%s%s%s\n", title, time ? " in " : "", time ? time : "", size ? ", " : "",
            size ? size : "");
    tell_result(job);
    return AT_EXIT_DONE;
}

int at_job_wait(struct at_cli *cli, const char *id)
{
    struct sigaction action = {.sa_handler = on_interrupt}, old;
    GError *error = NULL;
    struct wait w = {cli, at_progress_new(cli->json), id, 0};
    interrupts = 0;
    sigaction(SIGINT, &action, &old);
    g_autoptr(JsonNode) end = wait_for_end(&w, &error);
    sigaction(SIGINT, &old, NULL);
    at_progress_free(w.progress);
    if (end)
        return tell_end(cli, end);
    if (error)
        return at_cli_fail(&error);
    g_autofree char *next = g_strdup_printf("atoll job wait %s shows it again", id);
    at_error(&error, AT_ERROR_CANCELLED, "job %s goes on", id);
    return at_cli_fail_next(&error, next);
}

int at_job_follow(struct at_cli *cli, JsonNode *answer)
{
    g_autoptr(JsonNode) owned = answer;
    JsonObject *obj = as_object(owned);
    JsonObject *job = at_json_obj(obj, "job");
    const char *id = at_json_str(job, "id", NULL);
    if (!id) { /* done at once */
        if (!at_cli_json(cli, owned))
            g_print("done\n");
        return AT_EXIT_DONE;
    }
    if (cli->wait)
        return at_job_wait(cli, id);
    if (!put_json(cli, json_object_get_member(obj, "job")))
        at_text_line(stdout, "%s", id);
    return AT_EXIT_DONE;
}
