/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers: every verb reaches core with its arguments, what is wrong is refused with
 * words that help, and codes become the right status numbers. */
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "client.h"
#include "double.h"
#include "lib/at-test.h"

struct fixture {
    const char *path;
};

static void set_up(struct fixture *f, const void *unused)
{
    f->path = double_start(at_test_dir());
}

static void tear_down(struct fixture *f, const void *unused)
{
    double_stop();
}

/* ---- verbs ---- */

static const struct {
    const char *method, *target, *body, *call;
} verbs[] = {
    {"POST", "/v1/vault/gc", NULL, "vault_gc"},
    {"POST", "/v1/vault/gc", "{}", "vault_gc"},
    {"POST", "/v1/vault/verify", NULL, "vault_verify 100"},
    {"POST", "/v1/vault/verify", "{\"sample_percent\": 2.5}", "vault_verify 2.5"},
    {"POST", "/v1/vault/reindex", NULL, "vault_reindex"},
    {"PUT", "/v1/vdcs/rag-team", "{\"vdc\":\"rag-team\"}", "vdc_apply rag-team start"},
    {"PUT", "/v1/vdcs/rag-team?start=false", "{\"vdc\":\"rag-team\"}",
     "vdc_apply rag-team no-start"},
    {"DELETE", "/v1/vdcs/rag-team", NULL, "vdc_delete rag-team"},
    {"DELETE", "/v1/vdcs/rag-team?snapshots=true", NULL, "vdc_delete rag-team with snapshots"},
    {"POST", "/v1/vdcs/rag-team/start", NULL, "vdc_start rag-team [all]"},
    {"POST", "/v1/vdcs/rag-team/start", "{\"workstations\":[\"a\",\"b\"]}",
     "vdc_start rag-team [a,b]"},
    {"POST", "/v1/vdcs/rag-team/stop", NULL, "vdc_stop rag-team [all] 60"},
    {"POST", "/v1/vdcs/rag-team/stop", "{\"workstations\":[\"a\"],\"timeout_s\":5,\"force\":true}",
     "vdc_stop rag-team [a] 5 force"},
    {"POST", "/v1/vdcs/rag-team/restart", NULL, "vdc_restart rag-team [all]"},
    {"POST", "/v1/vdcs/rag-team/undo", NULL, "vdc_undo rag-team"},
    {"POST", "/v1/vdcs/rag-team/workstations/tune/start", NULL, "vdc_start rag-team [tune]"},
    {"POST", "/v1/vdcs/rag-team/workstations/tune/stop", "{\"timeout_s\":0}",
     "vdc_stop rag-team [tune] 0"},
    {"POST", "/v1/vdcs/rag-team/workstations/tune/restart", NULL, "vdc_restart rag-team [tune]"},
    {"POST", "/v1/vdcs/rag-team/snapshots", NULL, "snapshot_create rag-team (unnamed) \"\""},
    {"POST", "/v1/vdcs/rag-team/snapshots",
     "{\"name\":\"monday\",\"quiesce\":true,\"description\":\"before the update\"}",
     "snapshot_create rag-team monday quiesce \"before the update\""},
    {"POST", "/v1/vdcs/rag-team/snapshots", "{\"name\":null}",
     "snapshot_create rag-team (unnamed) \"\""},
    {"DELETE", "/v1/vdcs/rag-team/snapshots/monday", NULL, "snapshot_delete rag-team monday"},
    {"POST", "/v1/vdcs/rag-team/snapshots/monday/verify", NULL, "snapshot_verify rag-team monday"},
    {"POST", "/v1/vdcs/rag-team/snapshots/monday/clone", "{\"name\":\"two\"}",
     "snapshot_clone rag-team monday two keep same-profile start"},
    {"POST", "/v1/vdcs/rag-team/snapshots/monday/clone",
     "{\"name\":\"two\",\"identity\":\"fresh\",\"gpu\":\"none\",\"isolated\":true,\"start\":false}",
     "snapshot_clone rag-team monday two fresh none isolated"},
    {"POST", "/v1/vdcs/rag-team/snapshots/monday/restore", "{\"safety\":true}",
     "snapshot_restore rag-team monday"},
    {"POST", "/v1/gpus/GPU-1/test-isolation", NULL, "gpu_test GPU-1 - -"},
    {"POST", "/v1/gpus/GPU-1/test-isolation", "{\"victim\":\"a/b\",\"neighbour\":\"a/c\"}",
     "gpu_test GPU-1 a/b a/c"},
    {"POST", "/v1/images", "{\"name\":\"debian-12\",\"path\":\"/tmp/x.qcow2\"}",
     "image_import debian-12 /tmp/x.qcow2"},
    {"POST", "/v1/images", "{\"name\":\"d\",\"build\":{\"suite\":\"bookworm\"}}",
     "image_build d bookworm"},
    {"DELETE", "/v1/images/debian-12", NULL, "image_delete debian-12"},
    {"POST", "/v1/images/d/export", "{\"path\":\"/tmp/d.qcow2\"}",
     "image_export d /tmp/d.qcow2 qcow2"},
    {"POST", "/v1/images/d/export", "{\"path\":\"/tmp/d.img\"}", "image_export d /tmp/d.img raw"},
    {"POST", "/v1/images/d/export", "{\"path\":\"/tmp/d.img\",\"format\":\"qcow2\"}",
     "image_export d /tmp/d.img qcow2"},
    {"POST", "/v1/jobs/00000007/cancel", NULL, "job_cancel 00000007"},
};

static void every_verb_reaches_core_and_answers_with_its_job(struct fixture *f, const void *u)
{
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        g_autoptr(client_answer) a =
            client_request(f->path, verbs[i].method, verbs[i].target, verbs[i].body);
        g_test_message("%s %s", verbs[i].method, verbs[i].target);
        g_assert_cmpstr(answer_message(a), ==, "");
        g_assert_cmpuint(a->status, ==, 202);
        g_assert_cmpstr(at_json_str(at_json_obj(json_node_get_object(a->json), "job"), "id", ""),
                        ==, "00000007");
        g_autofree char *call = double_last_call();
        g_autofree char *expected = g_strconcat(verbs[i].call, " by ", g_get_user_name(), NULL);
        g_assert_cmpstr(call, ==, expected);
    }
}

static const struct {
    const char *target, *call;
} reads[] = {
    {"/v1/vdcs/rag-team/workstations/tune/log", "workstation_log rag-team tune 65536"},
    {"/v1/vdcs/rag-team/workstations/tune/log?tail=7", "workstation_log rag-team tune 7"},
    {"/v1/snapshots", "snapshot_list of all"},
    {"/v1/vdcs/rag-team/snapshots", "snapshot_list rag-team"},
    {"/v1/vdcs/rag-team/snapshots/monday/manifest", "snapshot_manifest rag-team monday"},
    {"/v1/diff?a=rag-team@monday&b=two%40tuesday", "diff rag-team monday two tuesday"},
    {"/v1/jobs", "job_list - -"},
    {"/v1/jobs?state=running&vdc=rag-team", "job_list running rag-team"},
};

static void questions_are_answered_at_once(struct fixture *f, const void *u)
{
    for (size_t i = 0; i < G_N_ELEMENTS(reads); i++) {
        g_autoptr(client_answer) a = client_request(f->path, "GET", reads[i].target, NULL);
        g_assert_cmpuint(a->status, ==, 200);
        g_autofree char *call = double_last_call();
        g_assert_cmpstr(call, ==, reads[i].call);
    }
}

static const struct {
    const char *target, *body, *call;
} marks[] = {
    {"/v1/gpus/0000:41:00.0/reserve", "{\"reason\":\"ours\"}", "gpu_reserve 0000:41:00.0 \"ours\""},
    {"/v1/gpus/GPU-1/reserve", NULL, "gpu_reserve GPU-1 \"\""},
    {"/v1/gpus/GPU-1/release", NULL, "gpu_release GPU-1"},
    {"/v1/gpus/GPU-1/mix", NULL, "gpu_mix GPU-1 on"},
    {"/v1/gpus/GPU-1/mix", "{\"on\":false}", "gpu_mix GPU-1 off"},
};

static void changes_of_a_gpu_are_answered_at_once_with_it(struct fixture *f, const void *u)
{
    for (size_t i = 0; i < G_N_ELEMENTS(marks); i++) {
        g_autoptr(client_answer) a =
            client_request(f->path, "POST", marks[i].target, marks[i].body);
        g_assert_cmpstr(answer_message(a), ==, "");
        g_assert_cmpuint(a->status, ==, 200);
        g_assert_cmpstr(at_json_str(json_node_get_object(a->json), "id", ""), ==, "GPU-1");
        g_autofree char *call = double_last_call();
        g_autofree char *expected = g_strconcat(marks[i].call, " by ", g_get_user_name(), NULL);
        g_assert_cmpstr(call, ==, expected);
    }
}

static void metrics_are_text(struct fixture *f, const void *u)
{
    g_autoptr(client_answer) a = client_request(f->path, "GET", "/metrics", NULL);
    g_assert_cmpuint(a->status, ==, 200);
    g_assert_true(g_str_has_prefix(a->body, "# TYPE atoll_gpu_info gauge"));
}

static void a_dry_run_answers_with_changes(struct fixture *f, const void *u)
{
    g_autoptr(client_answer) a =
        client_request(f->path, "PUT", "/v1/vdcs/rag-team?dry_run=true", "{\"vdc\":\"rag-team\"}");
    g_assert_cmpuint(a->status, ==, 200);
    g_assert_nonnull(at_json_arr(json_node_get_object(a->json), "changes"));
}

static void logs_are_text_that_is_valid(struct fixture *f, const void *u)
{
    g_autoptr(client_answer) a =
        client_request(f->path, "GET", "/v1/vdcs/a/workstations/b/log", NULL);
    g_autofree char *type = answer_header(a, "Content-Type");
    g_assert_cmpstr(type, ==, "text/plain; charset=utf-8");
    g_assert_true(g_str_has_prefix(a->body, "login: "));
    g_assert_true(g_utf8_validate(a->body, -1, NULL));
}

static void head_is_get_without_a_body(struct fixture *f, const void *u)
{
    at_autofd fd = client_connect(f->path);
    char extra;
    client_send_text(fd, "HEAD /v1/site HTTP/1.1\r\nHost: x\r\n\r\n");
    g_autoptr(client_answer) head = client_read_head(fd);
    g_assert_cmpuint(head->status, ==, 200);
    g_assert_false(client_read_exactly(fd, &extra, 1));
}

static void a_connection_is_for_one_request(struct fixture *f, const void *u)
{
    static const char *const requests[] = {"GET /v1/site HTTP/1.1\r\nHost: x\r\n\r\n",
                                           "GET /v1/none HTTP/1.1\r\nHost: x\r\n\r\n",
                                           "POST /v1/site HTTP/1.1\r\nHost: x\r\n\r\n"};
    for (size_t i = 0; i < G_N_ELEMENTS(requests); i++) {
        at_autofd fd = client_connect(f->path);
        client_send_text(fd, requests[i]);
        g_autoptr(client_answer) a = client_read(fd);
        g_autofree char *connection = answer_header(a, "Connection");
        g_assert_cmpstr(connection, ==, "close");
        g_assert_true(g_str_has_prefix(a->head, "HTTP/1.1 "));
        g_assert_true(client_sees_end(fd));
    }
}

/* ---- errors ---- */

static void codes_become_status_numbers(struct fixture *f, const void *u)
{
    static const struct {
        const char *code;
        unsigned status;
    } map[] = {
        {"not_found", 404}, {"conflict", 409},    {"invalid", 400},   {"no_space", 507},
        {"corrupt", 500},   {"peer", 500},        {"timeout", 504},   {"denied", 403},
        {"io", 500},        {"unavailable", 503}, {"cancelled", 409},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(map); i++) {
        g_autofree char *target = g_strconcat("/v1/vdcs/", map[i].code, NULL);
        g_autoptr(client_answer) a = client_request(f->path, "GET", target, NULL);
        g_assert_cmpuint(a->status, ==, map[i].status);
        g_assert_cmpstr(answer_code(a), ==, map[i].code);
        g_assert_nonnull(strstr(answer_message(a), "as asked"));
        g_assert_nonnull(at_json_obj(json_node_get_object(a->json), "details"));
    }
    g_autoptr(client_answer) later =
        client_request(f->path, "GET", "/v1/diff?a=x@corrupt&b=x@y", NULL);
    g_assert_cmpuint(later->status, ==, 500);
    g_assert_cmpstr(answer_code(later), ==, "corrupt");
}

static const struct {
    const char *method, *target, *body, *pointer, *words;
} wrong[] = {
    {"GET", "/v1/vdcs?colour=red", NULL, "", "unknown query parameter \"colour\"; allowed: none"},
    {"PUT", "/v1/vdcs/a?dryrun=true", "{}", "", "allowed: dry_run, start"},
    {"PUT", "/v1/vdcs/a?dry_run=yes", "{}", "", "true or false, found \"yes\""},
    {"PUT", "/v1/vdcs/a?dry_run=true&dry_run=true", "{}", "", "given twice"},
    {"PUT", "/v1/vdcs/a", NULL, "", "definition"},
    {"PUT", "/v1/vdcs/a", "{}", "/vdc", "vdc is missing"},
    {"PUT", "/v1/vdcs/a", "{\"vdc\":\"b\"}", "/vdc", "the path says a"},
    {"PUT", "/v1/vdcs/a", "[1]", "", "must be a JSON object"},
    {"PUT", "/v1/vdcs/a", "{\"vdc\":", "", "JSON"},
    {"GET", "/v1/vdcs/a/workstations/b/log?tail=0", NULL, "", "from 1 to 1048576"},
    {"GET", "/v1/vdcs/a/workstations/b/log?tail=-1", NULL, "", "found \"-1\""},
    {"GET", "/v1/vdcs/a/workstations/b/log?tail=99999999999999999999", NULL, "", "tail"},
    {"GET", "/v1/diff?a=x@y", NULL, "", "query parameter b is missing"},
    {"GET", "/v1/diff?a=x&b=x@y", NULL, "", "VDC@SNAPSHOT"},
    {"GET", "/v1/diff?a=@y&b=x@y", NULL, "", "VDC@SNAPSHOT"},
    {"GET", "/v1/jobs?vdc=%ff", NULL, "", "percent-encoded"},
    {"GET", "/v1/events?since=x", NULL, "", "since"},
    {"POST", "/v1/vdcs/a/stop", "{\"forse\":true}", "/forse",
     "unknown member \"forse\"; allowed: workstations, timeout_s, force"},
    {"POST", "/v1/vdcs/a/stop", "{\"force\":\"yes\"}", "/force", "true or false"},
    {"POST", "/v1/vdcs/a/stop", "{\"timeout_s\":-1}", "/timeout_s", "out of range"},
    {"POST", "/v1/vdcs/a/stop", "{\"timeout_s\":1.5}", "/timeout_s", "whole number"},
    {"POST", "/v1/vdcs/a/start", "{\"workstations\":[1]}", "/workstations", "list of strings"},
    {"POST", "/v1/vdcs/a/undo", "{\"x\":1}", "/x", "allowed: none"},
    {"POST", "/v1/vdcs/a/snapshots/b/clone", NULL, "/name", "name is missing"},
    {"POST", "/v1/vdcs/a/snapshots/b/clone", "{\"name\":null}", "/name", "a string"},
    {"POST", "/v1/vdcs/a/snapshots/b/clone", "{\"name\":\"\"}", "/name", "1 to 63"},
    {"POST", "/v1/vdcs/a/snapshots/b/clone", "{\"name\":\"n\",\"identity\":\"new\"}", "/identity",
     "keep or fresh"},
    {"POST", "/v1/vdcs/a/snapshots/b/restore", "{\"safety\":false}", "/safety", "always"},
    {"POST", "/v1/images", "{\"name\":\"n\"}", "", "either path"},
    {"POST", "/v1/images", "{\"name\":\"n\",\"path\":\"/x\",\"build\":{}}", "", "either path"},
    {"POST", "/v1/images", "{\"name\":\"n\",\"path\":\"x.img\"}", "/path", "absolute"},
    {"POST", "/v1/images/n/export", "{\"path\":\"/x\",\"format\":\"vmdk\"}", "/format",
     "raw or qcow2"},
    {"POST", "/v1/vault/verify", "{\"sample_percent\":101}", "/sample_percent", "0 to 100"},
    {"DELETE", "/v1/vdcs/a", "{}", "", "takes no body"},
    {"GET", "/v1/site", "{}", "", "takes no body"},
};

static void what_is_wrong_is_refused_in_words_that_help(struct fixture *f, const void *u)
{
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(client_answer) a =
            client_request(f->path, wrong[i].method, wrong[i].target, wrong[i].body);
        g_test_message("%s %s: %s", wrong[i].method, wrong[i].target, answer_message(a));
        g_assert_cmpuint(a->status, ==, 400);
        g_assert_cmpstr(answer_code(a), ==, "invalid");
        g_assert_cmpstr(answer_pointer(a), ==, wrong[i].pointer);
        g_assert_nonnull(strstr(answer_message(a), wrong[i].words));
    }
}

static void another_content_type_is_refused(struct fixture *f, const void *u)
{
    static const char *const types[] = {"", "Content-Type: text/plain\r\n",
                                        "Content-Type: application/json; charset=latin1\r\n"};
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        g_autoptr(client_answer) a =
            client_request_with(f->path, "POST", "/v1/vault/gc", types[i], "{}");
        g_assert_cmpuint(a->status, ==, 400);
    }
    g_autoptr(client_answer) ok = client_request_with(
        f->path, "POST", "/v1/vault/gc", "Content-Type: Application/JSON; charset=UTF-8\r\n", "{}");
    g_assert_cmpuint(ok->status, ==, 202);
}

static void another_method_is_refused_with_what_is_allowed(struct fixture *f, const void *u)
{
    static const struct {
        const char *method, *target, *allow;
    } cases[] = {
        {"POST", "/v1/vdcs", "GET"},         {"PATCH", "/v1/vdcs/a", "GET, PUT, DELETE"},
        {"GET", "/v1/vdcs/a/start", "POST"}, {"OPTIONS", "/v1/vdcs/a/snapshots", "GET, POST"},
        {"FROBNICATE", "/v1/site", "GET"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(client_answer) a =
            client_request(f->path, cases[i].method, cases[i].target, NULL);
        g_autofree char *allow = answer_header(a, "Allow");
        g_assert_cmpuint(a->status, ==, 405);
        g_assert_cmpstr(allow, ==, cases[i].allow);
        g_assert_nonnull(strstr(answer_message(a), cases[i].method));
    }
}

static void unknown_paths_and_names_that_lead_elsewhere_are_refused(struct fixture *f,
                                                                    const void *u)
{
    static const struct {
        const char *target;
        unsigned status;
    } cases[] = {
        {"/", 404},
        {"/v1", 404},
        {"/v1/", 404},
        {"/v1/vdcs/", 400},
        {"/v2/site", 404},
        {"/v1/site/", 404},
        {"/v1/vdcs/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s", 404},
        {"/v1/vdcs/%2e%2e", 404},
        {"/v1/vdcs/..%2f..%2fetc", 400},
        {"/v1/vdcs/a%00b", 400},
        {"/v1/vdcs/.hidden", 400},
        {"/v1/vdcs/-rf", 400},
        {"/v1/vdcs/a%20b", 400},
        {"/v1/vdcs/a%0d%0ab", 400},
        {"/v1/vdcs/%ff%fe", 400},
        {"/v1/vdcs/a@b", 400},
        {"/v1/images/..", 404},
        {"/v1/jobs/../../../etc/passwd", 404},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(client_answer) a = client_request(f->path, "GET", cases[i].target, NULL);
        g_test_message("%s: %u %s", cases[i].target, a->status, answer_message(a));
        g_assert_cmpuint(a->status, ==, cases[i].status);
    }
}

/* ---- revisions and headers ---- */

static void a_put_can_insist_on_the_revision_it_has_seen(struct fixture *f, const void *u)
{
    static const struct {
        const char *header, *vdc;
        unsigned status;
    } cases[] = {
        {"\"42\"", "a", 202}, {"*", "a", 202},         {"\"41\"", "a", 409},
        {"42", "a", 409},     {"*", "not_found", 409},
    };
    g_autoptr(client_answer) get = client_request(f->path, "GET", "/v1/vdcs/a", NULL);
    g_autofree char *etag = answer_header(get, "ETag");
    g_assert_cmpstr(etag, ==, "\"42\"");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *headers =
            g_strdup_printf("Content-Type: application/json\r\nIf-Match: %s\r\n", cases[i].header);
        g_autofree char *target = g_strconcat("/v1/vdcs/", cases[i].vdc, NULL);
        g_autofree char *body = g_strdup_printf("{\"vdc\":\"%s\"}", cases[i].vdc);
        g_autoptr(client_answer) a = client_request_with(f->path, "PUT", target, headers, body);
        g_assert_cmpuint(a->status, ==, cases[i].status);
    }
}

static void a_request_id_comes_back(struct fixture *f, const void *u)
{
    g_autoptr(client_answer) a =
        client_request_with(f->path, "GET", "/v1/site", "X-Request-Id: abc-1.2_3\r\n", NULL);
    g_autofree char *id = answer_header(a, "X-Request-Id");
    g_assert_cmpstr(id, ==, "abc-1.2_3");
    g_autoptr(client_answer) b =
        client_request_with(f->path, "GET", "/v1/site", "X-Request-Id: a b<c>\r\n", NULL);
    g_autofree char *none = answer_header(b, "X-Request-Id");
    g_assert_null(none);
    g_autofree char *cache = answer_header(b, "Cache-Control");
    g_assert_cmpstr(cache, ==, "no-store");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func)                                                                            \
    g_test_add("/api/routes/" name, struct fixture, NULL, set_up, func, tear_down)
    ADD("every-verb-reaches-core-and-answers-with-its-job",
        every_verb_reaches_core_and_answers_with_its_job);
    ADD("questions-are-answered-at-once", questions_are_answered_at_once);
    ADD("changes-of-a-gpu-are-answered-at-once-with-it",
        changes_of_a_gpu_are_answered_at_once_with_it);
    ADD("metrics-are-text", metrics_are_text);
    ADD("a-dry-run-answers-with-changes", a_dry_run_answers_with_changes);
    ADD("logs-are-text-that-is-valid", logs_are_text_that_is_valid);
    ADD("head-is-get-without-a-body", head_is_get_without_a_body);
    ADD("a-connection-is-for-one-request", a_connection_is_for_one_request);
    ADD("codes-become-status-numbers", codes_become_status_numbers);
    ADD("what-is-wrong-is-refused-in-words-that-help", what_is_wrong_is_refused_in_words_that_help);
    ADD("another-content-type-is-refused", another_content_type_is_refused);
    ADD("another-method-is-refused-with-what-is-allowed",
        another_method_is_refused_with_what_is_allowed);
    ADD("unknown-paths-and-names-that-lead-elsewhere-are-refused",
        unknown_paths_and_names_that_lead_elsewhere_are_refused);
    ADD("a-put-can-insist-on-the-revision-it-has-seen",
        a_put_can_insist_on_the_revision_it_has_seen);
    ADD("a-request-id-comes-back", a_request_id_comes_back);
    return g_test_run();
}
