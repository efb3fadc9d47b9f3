/* SPDX-License-Identifier: Apache-2.0 */
/* atolld itself: options, readiness, signals, a second daemon, and answers of the real core held
 * against the API description. Needs root; no guest is started. */
#include <glib/gstdio.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/process.h"
#include "lib/at-test.h"
#include "lib/json-schema.h"
#include "unit/api/client.h"

enum { DEADLINE_MS = 60000 };

struct daemon {
    const char *dir, *state, *socket, *log;
    pid_t pid;
};

static const char *atolld(void)
{
    return g_getenv("ATOLLD");
}

/* The image server outlives its daemon, but not the test. */
static void stop_image_server(void *pidfile)
{
    struct at_process server;
    if (at_pidfile_read(pidfile, &server, NULL))
        at_process_stop(&server, 5000, NULL);
    g_free(pidfile);
}

static struct daemon *daemon_new(void)
{
    struct daemon *d = g_new0(struct daemon, 1);
    g_test_queue_free(d);
    d->dir = at_test_dir();
    d->state = at_test_path(d->dir, "state");
    d->socket = at_test_path(d->dir, "s.sock");
    d->log = at_test_path(d->dir, "log");
    g_test_queue_destroy(stop_image_server, g_build_filename(d->state, "nbd", "pid", NULL));
    return d;
}

/* Starts it and waits until it says that it is ready. */
static void daemon_start(struct daemon *d)
{
    const char *path = at_test_path(d->dir, "notify");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = DEADLINE_MS / 1000};
    char text[64];
    unlink(path);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    at_autofd fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    g_setenv("NOTIFY_SOCKET", path, TRUE);
    const char *const argv[] = {atolld(),  "--state", d->state, "--socket",
                                d->socket, "--accel", "tcg",    NULL};
    d->pid = at_test_spawn(argv, d->log);
    g_unsetenv("NOTIFY_SOCKET");
    ssize_t n = recv(fd, text, sizeof text, 0);
    if (n != 7 || memcmp(text, "READY=1", 7) != 0) {
        g_autofree char *log = NULL;
        g_file_get_contents(d->log, &log, NULL, NULL);
        g_error("atolld did not become ready: %s", log);
    }
}

static void daemon_stop(struct daemon *d)
{
    int status = at_test_kill(d->pid, SIGTERM);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    g_assert_false(g_file_test(d->socket, G_FILE_TEST_EXISTS));
}

static int run(const char *const *argv, char **ret_output)
{
    return at_test_run(argv, DEADLINE_MS, ret_output);
}

/* ---- options ---- */

static void wrong_options_are_told(void)
{
    static const struct {
        const char *a, *b, *words;
        int status;
    } cases[] = {
        {"--version", NULL, "atolld 0.1.0", 0},     {"--help", NULL, "--state=DIR", 0},
        {"--frobnicate", NULL, "frobnicate", 2},    {"extra", NULL, "extra", 2},
        {"--accel", "fast", "auto, kvm or tcg", 2}, {"--state", NULL, "--state", 2},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *const argv[] = {atolld(), cases[i].a, cases[i].b, NULL};
        g_autofree char *output = NULL;
        g_assert_cmpint(run(argv, &output), ==, cases[i].status);
        g_assert_nonnull(strstr(output, cases[i].words));
    }
}

static void only_root_may_run_it(void)
{
    if (!at_test_needs_root() || !at_test_needs_program("setpriv"))
        return;
    const char *const argv[] = {"setpriv", "--reuid", "65534",
                                "--regid", "65534",   "--clear-groups",
                                atolld(),  "--state", "/nonexistent/state",
                                NULL};
    g_autofree char *output = NULL;
    int status = run(argv, &output);
    if (status == 127 || status == 126) {
        g_test_skip("other users cannot reach the build tree");
        return;
    }
    g_assert_cmpint(status, ==, 1);
    g_assert_nonnull(strstr(output, "must run as root"));
}

static void a_missing_part_is_named(void)
{
    if (!at_test_needs_root())
        return;
    struct daemon *d = daemon_new();
    g_setenv("ATOLL_PLUGIN", "/nonexistent/plugin.so", TRUE);
    const char *const argv[] = {atolld(), "--state", d->state, "--socket", d->socket, NULL};
    g_autofree char *output = NULL;
    g_assert_cmpint(run(argv, &output), ==, 1);
    g_unsetenv("ATOLL_PLUGIN");
    g_assert_nonnull(strstr(output, "/nonexistent/plugin.so"));
    g_assert_false(g_file_test(d->state, G_FILE_TEST_EXISTS));
}

/* A host without GPUs need not have what only guests with them run. */
static void it_starts_without_the_load_of_gpus(void)
{
    if (!at_test_needs_root() || !at_test_needs_program("nbdkit"))
        return;
    struct daemon *d = daemon_new();
    g_setenv("ATOLL_GPU_LOAD", "/nonexistent/atoll-gpu-load", TRUE);
    daemon_start(d);
    g_unsetenv("ATOLL_GPU_LOAD");
    daemon_stop(d);
}

/* ---- life ---- */

static void it_stops_as_told_and_the_image_server_goes_on(void)
{
    if (!at_test_needs_root() || !at_test_needs_program("nbdkit"))
        return;
    struct daemon *d = daemon_new();
    struct at_process first, second;
    const char *pidfile = at_test_path(d->state, "nbd/pid");
    daemon_start(d);
    g_assert_true(at_pidfile_read(pidfile, &first, NULL));
    kill(d->pid, SIGHUP); /* a terminal that goes away is no reason */
    g_autoptr(client_answer) alive = client_request(d->socket, "GET", "/v1/site", NULL);
    g_assert_cmpuint(alive->status, ==, 200);
    daemon_stop(d);
    g_assert_true(at_process_alive(&first));

    daemon_start(d);
    at_test_kill(d->pid, SIGKILL);
    g_assert_true(at_process_alive(&first));
    daemon_start(d); /* over the socket that the dead one left */
    g_assert_true(at_pidfile_read(pidfile, &second, NULL));
    g_assert_cmpint(first.pid, ==, second.pid);
    daemon_stop(d);
}

/* A tree that was built in a home directory is root's and its owner's alone. */
static void the_image_server_starts_from_a_closed_directory(void)
{
    if (!at_test_needs_root() || !at_test_needs_program("nbdkit"))
        return;
    struct daemon *d = daemon_new();
    struct at_process server;
    g_autofree char *from = g_path_get_dirname(atolld());
    const char *built = at_test_path(from, "../../plugin/nbdkit-atoll-plugin.so");
    const char *home = at_test_path(d->dir, "home");
    const char *plugin = at_test_path(home, "plugin.so");
    g_assert_cmpint(g_mkdir(home, 0700), ==, 0);
    const char *const copy[] = {"cp", built, plugin, NULL};
    g_assert_cmpint(run(copy, NULL), ==, 0);
    g_setenv("ATOLL_PLUGIN", plugin, TRUE);
    daemon_start(d);
    g_unsetenv("ATOLL_PLUGIN");
    g_assert_true(at_pidfile_read(at_test_path(d->state, "nbd/pid"), &server, NULL));
    g_assert_true(at_process_alive(&server));
    daemon_stop(d);
}

static void a_second_daemon_is_refused_and_hurts_nothing(void)
{
    if (!at_test_needs_root() || !at_test_needs_program("nbdkit"))
        return;
    struct daemon *d = daemon_new();
    daemon_start(d);
    g_autofree char *output = NULL;
    const char *other = at_test_path(d->dir, "other");
    const char *const same_socket[] = {atolld(), "--state", other, "--socket", d->socket, NULL};
    g_assert_cmpint(run(same_socket, &output), ==, 1);
    g_assert_nonnull(strstr(output, d->socket));
    g_assert_false(g_file_test(other, G_FILE_TEST_EXISTS));
    g_clear_pointer(&output, g_free);
    const char *const same_state[] = {
        atolld(), "--state", d->state, "--socket", at_test_path(d->dir, "t.sock"), NULL};
    g_assert_cmpint(run(same_state, &output), ==, 1);
    g_assert_nonnull(strstr(output, d->state));
    g_autoptr(client_answer) alive = client_request(d->socket, "GET", "/v1/site", NULL);
    g_assert_cmpuint(alive->status, ==, 200);
    daemon_stop(d);
}

/* ---- answers of the real core ---- */

/* Asks, checks the answer against the description of @path, and gives it. */
static struct answer *ask(struct daemon *d, JsonNode *doc, const char *method, const char *path,
                          const char *target, const char *body, unsigned status)
{
    struct answer *a = client_request(d->socket, method, target, body);
    g_test_message("%s %s: %u %s", method, target, a->status, answer_message(a));
    g_assert_cmpuint(a->status, ==, status);
    g_autoptr(GString) name = g_string_new(path);
    g_string_replace(name, "/", "~1", 0);
    g_autofree char *lower = g_ascii_strdown(method, -1);
    g_autofree char *reference =
        g_strdup_printf("#/paths/%s/%s/responses/%u", name->str, lower, status);
    JsonNode *response =
        at_schema_resolve(doc, status < 400 ? reference : "#/components/responses/Error");
    g_assert_nonnull(response);
    JsonObject *content = at_json_obj(json_node_get_object(response), "content");
    JsonObject *json = at_json_obj(content, "application/json");
    g_autoptr(GString) complaints = g_string_new(NULL);
    if (json && !at_schema_check(doc, json_object_get_member(json, "schema"), a->json, complaints))
        g_error("%s %s is not as described:\n%s%s", method, target, complaints->str, a->body);
    return a;
}

static const char *job_state(struct daemon *d, JsonNode *doc, const char *id,
                             struct answer **answer)
{
    g_autofree char *target = g_strconcat("/v1/jobs/", id, NULL);
    if (*answer)
        answer_free(*answer);
    *answer = ask(d, doc, "GET", "/v1/jobs/{job}", target, NULL, 200);
    return at_json_str(json_node_get_object((*answer)->json), "state", "");
}

/* Starts a job and waits until it is done. */
static void do_job(struct daemon *d, JsonNode *doc, const char *method, const char *path,
                   const char *target, const char *body)
{
    g_autoptr(client_answer) started = ask(d, doc, method, path, target, body, 202);
    JsonObject *job = at_json_obj(json_node_get_object(started->json), "job");
    g_autofree char *id = g_strdup(at_json_str(job, "id", NULL));
    struct answer *now = NULL;
    const char *state = "";
    g_assert_true(at_test_until((state = job_state(d, doc, id, &now),
                                 strcmp(state, "queued") != 0 && strcmp(state, "running") != 0),
                                DEADLINE_MS));
    if (strcmp(state, "done") != 0)
        g_error("%s %s: job %s: %s", method, target, state, now->body);
    answer_free(now);
}

#define VDC "/v1/vdcs/{vdc}"
#define SNAP VDC "/snapshots/{snapshot}"
#define WS VDC "/workstations/{workstation}"

static void ask_everything(struct daemon *d, JsonNode *doc)
{
    static const struct {
        const char *path, *target;
    } questions[] = {
        {"/v1/site", "/v1/site"},
        {"/v1/node", "/v1/node"},
        {"/v1/vault", "/v1/vault"},
        {"/v1/vdcs", "/v1/vdcs"},
        {VDC, "/v1/vdcs/answers"},
        {WS, "/v1/vdcs/answers/workstations/one"},
        {WS "/log", "/v1/vdcs/answers/workstations/one/log?tail=100"},
        {"/v1/snapshots", "/v1/snapshots"},
        {VDC "/snapshots", "/v1/vdcs/answers/snapshots"},
        {SNAP, "/v1/vdcs/answers/snapshots/first"},
        {"/v1/diff", "/v1/diff?a=answers@first&b=answers@second"},
        {"/v1/images", "/v1/images"},
        {"/v1/jobs", "/v1/jobs"},
        {"/v1/jobs", "/v1/jobs?state=done&vdc=answers"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(questions); i++)
        answer_free(ask(d, doc, "GET", questions[i].path, questions[i].target, NULL, 200));
}

static void real_answers_are_as_described(void)
{
    if (!at_test_needs_root() || !at_test_needs_program("nbdkit") ||
        !at_test_needs_program("qemu-img") || !at_test_needs_program("ip"))
        return;
    static const char definition[] =
        "{\"vdc\":\"answers\",\"workstations\":[{\"name\":\"one\",\"memory\":\"64 MiB\",\"disks\":"
        "[{\"size\":\"16 MiB\"}]}]}";
    struct daemon *d = daemon_new();
    daemon_start(d);
    g_autoptr(client_answer) served = client_request(d->socket, "GET", "/v1/openapi.json", NULL);
    JsonNode *doc = served->json;

    answer_free(ask(d, doc, "PUT", VDC, "/v1/vdcs/answers?dry_run=true", definition, 200));
    do_job(d, doc, "PUT", VDC, "/v1/vdcs/answers?start=false", definition);
    do_job(d, doc, "POST", VDC "/snapshots", "/v1/vdcs/answers/snapshots", "{\"name\":\"first\"}");
    do_job(d, doc, "POST", VDC "/snapshots", "/v1/vdcs/answers/snapshots",
           "{\"name\":\"second\",\"description\":\"nothing changed\"}");
    ask_everything(d, doc);
    do_job(d, doc, "POST", SNAP "/verify", "/v1/vdcs/answers/snapshots/second/verify", NULL);
    do_job(d, doc, "POST", SNAP "/clone", "/v1/vdcs/answers/snapshots/first/clone",
           "{\"name\":\"copy\",\"isolated\":true,\"start\":false}");
    answer_free(ask(d, doc, "GET", VDC, "/v1/vdcs/copy", NULL, 200));

    answer_free(ask(d, doc, "GET", VDC, "/v1/vdcs/none", NULL, 404));
    answer_free(ask(d, doc, "GET", SNAP, "/v1/vdcs/answers/snapshots/none", NULL, 404));
    answer_free(ask(d, doc, "GET", WS, "/v1/vdcs/answers/workstations/none", NULL, 404));
    answer_free(ask(d, doc, "GET", "/v1/images/{image}", "/v1/images/none", NULL, 404));
    answer_free(ask(d, doc, "GET", "/v1/jobs/{job}", "/v1/jobs/99999999", NULL, 404));
    answer_free(ask(d, doc, "DELETE", VDC, "/v1/vdcs/answers", NULL, 409));
    g_autoptr(client_answer) wrong = ask(
        d, doc, "PUT", VDC, "/v1/vdcs/answers",
        "{\"vdc\":\"answers\",\"workstations\":[{\"name\":\"one\",\"memory\":\"1 parsec\"}]}", 400);
    g_assert_cmpstr(answer_pointer(wrong), ==, "/workstations/0/memory");

    do_job(d, doc, "DELETE", VDC, "/v1/vdcs/copy", NULL);
    do_job(d, doc, "DELETE", SNAP, "/v1/vdcs/answers/snapshots/first", NULL);
    do_job(d, doc, "DELETE", VDC, "/v1/vdcs/answers?snapshots=true", NULL);
    do_job(d, doc, "POST", "/v1/vault/gc", "/v1/vault/gc", NULL);
    do_job(d, doc, "POST", "/v1/vault/verify", "/v1/vault/verify", "{\"sample_percent\":50}");
    daemon_stop(d);
}

/* ---- events of the real core ---- */

/* Opens the stream, after @last where it is not "". */
static int open_events(struct daemon *d, const char *last, GString *text)
{
    g_autofree char *request =
        g_strdup_printf("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n%s%s%s\r\n",
                        *last ? "Last-Event-ID: " : "", last, *last ? "\r\n" : "");
    int fd = client_connect(d->socket);
    client_send_text(fd, request);
    g_autoptr(client_answer) head = client_read_head(fd);
    g_assert_cmpuint(head->status, ==, 200);
    g_assert_true(client_read_until(fd, text, "retry: 2000\n\n"));
    return fd;
}

/* "ID TYPE SUBJECT" of every event, ids growing; reads up to the end of @job. */
static GPtrArray *read_events(int fd, GString *text, const char *job)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(g_free);
    int64_t before = 0;
    g_autofree char *end = g_strdup_printf("\"type\":\"job.finished\",\"subject\":\"%s\"", job);
    g_assert_true(client_read_until(fd, text, end));
    const char *last = strstr(text->str, end);
    g_autoptr(GString) tail = g_string_new(last);
    g_string_truncate(text, (gsize)(last - text->str));
    g_assert_true(client_read_until(fd, tail, "\n\n")); /* the whole event */
    g_string_append(text, tail->str);
    for (const char *p = text->str; (p = strstr(p, "\nid: ")); p++) {
        g_auto(GStrv) lines = g_strsplit(p + 1, "\n", 4);
        g_autoptr(JsonNode) data = at_json_parse(lines[2] + strlen("data: "), -1, NULL);
        g_assert_nonnull(data);
        JsonObject *event = json_node_get_object(data);
        int64_t id = at_json_int(event, "id", 0);
        const char *type = at_json_str(event, "type", "");
        g_assert_cmpint(id, ==, g_ascii_strtoll(lines[0] + strlen("id: "), NULL, 10));
        g_assert_cmpstr(lines[1] + strlen("event: "), ==, type);
        g_assert_cmpint(id, >, before);
        before = id;
        g_ptr_array_add(list, g_strdup_printf("%" PRId64 " %s %s", id, type,
                                              at_json_str(event, "subject", "")));
        if (strstr(lines[2], end))
            break;
    }
    return list;
}

static int place_of(const GPtrArray *list, const char *type, const char *subject)
{
    g_autofree char *wanted = g_strdup_printf(" %s %s", type, subject);
    for (unsigned i = 0; i < list->len; i++) {
        if (g_str_has_suffix(list->pdata[i], wanted))
            return (int)i;
    }
    return -1;
}

static void events_come_in_order_and_can_be_taken_up(void)
{
    if (!at_test_needs_root() || !at_test_needs_program("nbdkit") ||
        !at_test_needs_program("qemu-img") || !at_test_needs_program("ip"))
        return;
    static const char definition[] = "{\"vdc\":\"events\",\"workstations\":[{\"name\":\"one\","
                                     "\"memory\":\"64 MiB\",\"disks\":[{\"size\":\"1 MiB\"}]}]}";
    struct daemon *d = daemon_new();
    daemon_start(d);
    g_autoptr(client_answer) served = client_request(d->socket, "GET", "/v1/openapi.json", NULL);
    g_autoptr(GString) text = g_string_new(NULL), rest = g_string_new(NULL);
    at_autofd live = open_events(d, "", text);
    do_job(d, served->json, "PUT", VDC, "/v1/vdcs/events?start=false", definition);
    g_autoptr(client_answer) jobs =
        ask(d, served->json, "GET", "/v1/jobs", "/v1/jobs?vdc=events", NULL, 200);
    JsonObject *newest = json_array_get_object_element(json_node_get_array(jobs->json), 0);
    const char *job = at_json_str(newest, "id", "");
    g_autoptr(GPtrArray) all = read_events(live, text, job);
    int step = place_of(all, "job.step", job), changed = place_of(all, "vdc.changed", "events"),
        finished = place_of(all, "job.finished", job);
    g_assert_cmpint(step, >=, 0);
    g_assert_cmpint(changed, >, step);
    g_assert_cmpint(finished, >, changed);

    g_autofree char *last = g_strdup(all->pdata[step]);
    last[strcspn(last, " ")] = '\0';
    at_autofd again = open_events(d, last, rest);
    g_autoptr(GPtrArray) missed = read_events(again, rest, job);
    g_assert_cmpuint(missed->len, ==, all->len - (unsigned)step - 1);
    for (unsigned i = 0; i < missed->len; i++)
        g_assert_cmpstr(missed->pdata[i], ==, all->pdata[(unsigned)step + 1 + i]);
    do_job(d, served->json, "DELETE", VDC, "/v1/vdcs/events", NULL);
    daemon_stop(d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/daemon/wrong-options-are-told", wrong_options_are_told);
    g_test_add_func("/daemon/only-root-may-run-it", only_root_may_run_it);
    g_test_add_func("/daemon/a-missing-part-is-named", a_missing_part_is_named);
    g_test_add_func("/daemon/starts-without-the-load-of-gpus", it_starts_without_the_load_of_gpus);
    g_test_add_func("/daemon/stops-as-told-and-the-image-server-goes-on",
                    it_stops_as_told_and_the_image_server_goes_on);
    g_test_add_func("/daemon/the-image-server-starts-from-a-closed-directory",
                    the_image_server_starts_from_a_closed_directory);
    g_test_add_func("/daemon/a-second-one-is-refused-and-hurts-nothing",
                    a_second_daemon_is_refused_and_hurts_nothing);
    g_test_add_func("/daemon/real-answers-are-as-described", real_answers_are_as_described);
    g_test_add_func("/daemon/events-come-in-order-and-can-be-taken-up",
                    events_come_in_order_and_can_be_taken_up);
    return g_test_run();
}
