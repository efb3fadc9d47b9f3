/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP client against peers that keep to the protocol, that break it, and a real QEMU. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "fake-peer.h"
#include "lib/at-test.h"
#include "qemu/qmp-internal.h"
#include "qemu/qmp.h"

enum { LONG_MS = 20000, SHORT_MS = 150 };

#define HELLO                                                                                      \
    "> {\"QMP\": {\"version\": {}, \"capabilities\": []}}", "< qmp_capabilities",                  \
        "id {\"return\": {}, \"id\": %}"

static struct at_qmp *open_ok(const char *const *script)
{
    g_autoptr(GError) error = NULL;
    struct at_qmp *qmp = at_qmp_open(fake_peer(script), LONG_MS, &error);
    g_assert_no_error(error);
    return qmp;
}

static void expect_open_fails(const char *const *script, int timeout_ms, int code)
{
    g_autoptr(GError) error = NULL;
    struct at_qmp *qmp = at_qmp_open(fake_peer(script), timeout_ms, &error);
    g_assert_null(qmp);
    g_assert_error(error, AT_ERROR, code);
}

static bool call(struct at_qmp *qmp, int timeout_ms, GError **error)
{
    return at_qmp_call(qmp, "query-status", NULL, timeout_ms, NULL, error);
}

static void test_open_fails(void)
{
    static const char *const silent[] = {"hold", NULL};
    static const char *const closed[] = {"close", NULL};
    static const char *const nonsense[] = {"> hello", "hold", NULL};
    static const char *const array[] = {"> []", "hold", NULL};
    static const char *const deaf[] = {"> {\"QMP\": {}}", "hold", NULL};
    static const char *const refused[] = {"> {\"QMP\": {}}", "< qmp_capabilities",
                                          "id {\"error\": {\"desc\": \"no\"}, \"id\": %}", NULL};
    static const char *const endless[] = {"flood 100000000 {\"event\": \"X\"}", NULL};
    expect_open_fails(silent, SHORT_MS, AT_ERROR_TIMEOUT);
    expect_open_fails(closed, LONG_MS, AT_ERROR_UNAVAILABLE);
    expect_open_fails(nonsense, LONG_MS, AT_ERROR_PEER);
    expect_open_fails(array, LONG_MS, AT_ERROR_PEER);
    expect_open_fails(deaf, SHORT_MS, AT_ERROR_TIMEOUT);
    expect_open_fails(refused, LONG_MS, AT_ERROR_PEER);
    expect_open_fails(endless, SHORT_MS, AT_ERROR_TIMEOUT);
}

static void test_no_listener(void)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(at_qmp_open(at_test_path(at_test_dir(), "none"), LONG_MS, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    g_clear_error(&error);
    g_autofree char *deep = g_strnfill(200, 'd');
    g_assert_null(at_qmp_open(deep, LONG_MS, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
}

static void test_answers_by_id(void)
{
    static const char *const script[] = {HELLO,
                                         "< first",
                                         "< second",
                                         "id {\"return\": {\"n\": 2}, \"id\": %}",
                                         "> {\"return\": {\"n\": 9}, \"id\": 999}",
                                         "> {\"return\": {\"n\": 8}, \"id\": \"2\"}",
                                         "> {\"return\": {\"n\": 7}}",
                                         "> {\"return\": {\"n\": 1}, \"id\": 2}",
                                         "hold",
                                         NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    uint64_t first = at_qmp_send(qmp, "first", NULL, -1, &error);
    uint64_t second = at_qmp_send(qmp, "second", NULL, -1, &error);
    g_autoptr(JsonNode) a = NULL;
    g_autoptr(JsonNode) b = NULL;
    g_assert_true(at_test_ok(at_qmp_wait(qmp, first, LONG_MS, &a, &error), &error));
    g_assert_true(at_qmp_ready(qmp, second));
    g_assert_true(at_test_ok(at_qmp_wait(qmp, second, 0, &b, &error), &error));
    g_assert_cmpint(at_json_int(json_node_get_object(a), "n", 0), ==, 1);
    g_assert_cmpint(at_json_int(json_node_get_object(b), "n", 0), ==, 2);
    g_assert_false(at_qmp_wait(qmp, second, 0, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
}

static void test_late_answer(void)
{
    static const char *const script[] = {HELLO,
                                         "< query-status",
                                         "< query-status",
                                         "> {\"return\": {\"late\": 1}, \"id\": 2}",
                                         "id {\"return\": {\"late\": 0}, \"id\": %}",
                                         "hold",
                                         NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) value = NULL;
    g_assert_false(call(qmp, SHORT_MS, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
    g_clear_error(&error);
    g_assert_true(
        at_test_ok(at_qmp_call(qmp, "query-status", NULL, LONG_MS, &value, &error), &error));
    g_assert_cmpint(at_json_int(json_node_get_object(value), "late", 1), ==, 0);
}

static void test_forgotten_answer(void)
{
    static const char *const script[] = {HELLO,
                                         "< cont",
                                         "id {\"return\": {}, \"id\": %}",
                                         "< again",
                                         "id {\"return\": {\"n\": 2}, \"id\": %}",
                                         "hold",
                                         NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) value = NULL;
    g_autoptr(at_qmp) qmp = open_ok(script);
    uint64_t id = at_qmp_send(qmp, "cont", NULL, -1, &error);
    at_qmp_forget(qmp, id);
    at_qmp_forget(qmp, 0);
    g_assert_true(at_qmp_call(qmp, "again", NULL, LONG_MS, &value, &error));
    g_assert_cmpint(at_json_int(json_node_get_object(value), "n", 0), ==, 2);
    g_assert_false(at_qmp_wait(qmp, id, 0, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
}

static void test_refusal(void)
{
    static const char *const script[] = {
        HELLO,
        "< query-status",
        "id {\"error\": {\"class\": \"GenericError\", \"desc\": \"is busy\"},"
        " \"id\": %}",
        "< query-status",
        "id {\"error\": 5, \"id\": %}",
        "hold",
        NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    g_assert_false(call(qmp, LONG_MS, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
    g_assert_cmpstr(error->message, ==, "query-status: is busy");
    g_clear_error(&error);
    g_assert_false(call(qmp, LONG_MS, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
}

static void test_split_and_joined_lines(void)
{
    static const char *const script[] = {
        HELLO,
        "< query-status",
        ">> {\"event\": \"A\"}\r\n\r\n{\"ev",
        ">> ent\": \"B\"}\n{\"return\": {}, \"id\": 2}\n{\"event\"",
        "> : \"C\"}",
        "hold",
        NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(call(qmp, LONG_MS, &error), &error));
    for (const char *name = "ABC"; *name; name++) {
        g_autoptr(JsonNode) event = at_qmp_next_event(qmp, LONG_MS, &error);
        g_assert_nonnull(event);
        g_assert_cmpint(at_json_str(json_node_get_object(event), "event", "")[0], ==, *name);
    }
    g_autoptr(JsonNode) none = at_qmp_next_event(qmp, 0, &error);
    g_assert_null(none);
    g_assert_no_error(error);
}

static bool is_disk1(JsonObject *data, void *user)
{
    (void)user;
    return strcmp(at_json_str(data, "device", ""), "disk1") == 0;
}

static void test_wait_event(void)
{
    static const char *const script[] = {
        HELLO,
        "> {\"event\": \"DONE\", \"data\": {\"device\": \"disk0\"}}",
        "> {\"event\": \"DONE\"}",
        "> {\"event\": \"STOP\", \"timestamp\": {\"seconds\": 10, \"microseconds\": 5}}",
        "> {\"event\": \"RESUME\", \"timestamp\": {\"seconds\": -1, \"microseconds\": -1}}",
        "> {\"event\": \"DONE\", \"data\": {\"device\": \"disk1\"}}",
        "hold",
        NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) event = NULL;
    g_assert_true(at_test_ok(
        at_qmp_wait_event(qmp, "DONE", is_disk1, NULL, LONG_MS, &event, &error), &error));
    g_assert_cmpint(at_qmp_last_stop_us(qmp), ==, 10000005);
    g_assert_cmpint(at_qmp_last_resume_us(qmp), ==, 0);
    g_assert_false(at_qmp_wait_event(qmp, "DONE", is_disk1, NULL, SHORT_MS, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
    g_clear_error(&error);
    for (int i = 0; i < 4; i++) { /* the others are still there */
        g_autoptr(JsonNode) other = at_qmp_next_event(qmp, 0, &error);
        g_assert_nonnull(other);
    }
}

static void test_events_before_the_end(void)
{
    static const char *const script[] = {
        HELLO, "> {\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-shutdown\"}}", "close",
        NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    g_assert_false(call(qmp, LONG_MS, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    g_clear_error(&error);
    g_autoptr(JsonNode) event = at_qmp_next_event(qmp, 0, &error);
    g_assert_nonnull(event);
    g_autoptr(JsonNode) none = at_qmp_next_event(qmp, 0, &error);
    g_assert_null(none);
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
    g_assert_cmpuint(at_qmp_send(qmp, "stop", NULL, -1, NULL), ==, 0);
    g_assert_false(at_qmp_dispatch(qmp, NULL));
}

static void test_flood_keeps_what_matters(void)
{
    static const char *const script[] = {HELLO,
                                         "> {\"event\": \"STOP\"}",
                                         "flood 5000 {\"event\": \"RTC_CHANGE\"}",
                                         "> {\"event\": \"SHUTDOWN\"}",
                                         "< query-status",
                                         "id {\"return\": {}, \"id\": %}",
                                         "hold",
                                         NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    unsigned n = 0, kept = 0;
    g_assert_true(at_test_ok(call(qmp, LONG_MS, &error), &error));
    for (;; n++) {
        g_autoptr(JsonNode) event = at_qmp_next_event(qmp, 0, &error);
        if (!event)
            break;
        const char *name = at_json_str(json_node_get_object(event), "event", "");
        kept += strcmp(name, "STOP") == 0 || strcmp(name, "SHUTDOWN") == 0;
    }
    g_assert_cmpuint(n, ==, AT_QMP_EVENTS_MAX);
    g_assert_cmpuint(kept, ==, 2);
}

static void test_flood_of_what_matters(void)
{
    static const char *const script[] = {HELLO, "flood 100000000 {\"event\": \"STOP\"}", NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    g_assert_false(call(qmp, LONG_MS, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
}

static void test_endless_line(void)
{
    static const char *const script[] = {HELLO, "bytes 40000000", "hold", NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    g_assert_false(call(qmp, LONG_MS, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
    g_assert_nonnull(strstr(error->message, "longer than 16 MiB"));
}

/* Every line that is not QMP ends the connection, and nothing else. */
static void test_broken_lines(void)
{
    static const char *const lines[] = {"> {",
                                        "> {\"event\": 5}",
                                        "> {\"return\"}",
                                        "> \"text\"",
                                        "> {\"QMP\": {}}",
                                        "> \xff\xfe",
                                        "> null",
                                        "> {\"event\": \"X\"} {\"event\": \"Y\"}"};
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        const char *const script[] = {HELLO, lines[i], "hold", NULL};
        g_autoptr(at_qmp) qmp = open_ok(script);
        g_autoptr(GError) error = NULL;
        g_assert_false(call(qmp, LONG_MS, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
    }
    g_autofree char *deep = g_strnfill(100000, '[');
    g_autofree char *line = g_strconcat("> {\"event\": \"X\", \"data\": ", deep, NULL);
    const char *const script[] = {HELLO, line, "hold", NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    g_assert_false(call(qmp, LONG_MS, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
}

static void test_passes_descriptor(void)
{
    static const char *const script[] = {HELLO, "< getfd", "id {\"return\": {}, \"id\": %}", "hold",
                                         NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "fdname", "mig");
    at_autofd fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    uint64_t id = at_qmp_send(qmp, "getfd", args, fd, &error);
    g_assert_true(at_test_ok(at_qmp_wait(qmp, id, LONG_MS, NULL, &error), &error));
    at_autofd got = fake_peer_take_fd();
    struct stat ours, theirs;
    g_assert_cmpint(fstat(fd, &ours), ==, 0);
    g_assert_cmpint(fstat(got, &theirs), ==, 0);
    g_assert_cmpuint(ours.st_rdev, ==, theirs.st_rdev);
}

static void test_main_loop(void)
{
    static const char *const script[] = {
        HELLO, "< query-status", "> {\"event\": \"A\"}", "id {\"return\": {}, \"id\": %}", "hold",
        NULL};
    g_autoptr(at_qmp) qmp = open_ok(script);
    g_autoptr(GError) error = NULL;
    uint64_t id = at_qmp_send(qmp, "query-status", NULL, -1, &error);
    g_assert_cmpint(at_qmp_fd(qmp), >=, 0);
    g_assert_true(at_test_until(at_qmp_dispatch(qmp, NULL) && at_qmp_ready(qmp, id), LONG_MS));
    g_assert_true(at_test_ok(at_qmp_wait(qmp, id, 0, NULL, &error), &error));
    g_autoptr(JsonNode) event = at_qmp_next_event(qmp, 0, &error);
    g_assert_nonnull(event);
}

static struct at_qmp *open_real(const char *path)
{
    struct at_qmp *qmp = NULL;
    g_assert_true(at_test_until((qmp = at_qmp_open(path, LONG_MS, NULL)), LONG_MS));
    return qmp;
}

static void test_real_qemu(void)
{
    if (!at_test_needs_program("qemu-system-x86_64"))
        return;
    const char *dir = at_test_dir();
    const char *path = at_test_path(dir, "qmp");
    g_autofree char *option = g_strdup_printf("unix:%s,server=on,wait=off", path);
    const char *const argv[] = {"qemu-system-x86_64", "-M",       "none", "-accel", "tcg",  "-S",
                                "-nodefaults",        "-display", "none", "-qmp",   option, NULL};
    at_test_spawn(argv, at_test_path(dir, "log"));
    g_autoptr(GError) error = NULL;
    g_autoptr(at_qmp) qmp = open_real(path);
    g_autoptr(JsonNode) value = NULL;
    g_assert_true(
        at_test_ok(at_qmp_call(qmp, "query-version", NULL, LONG_MS, &value, &error), &error));
    g_assert_cmpint(at_json_int(at_json_obj(json_node_get_object(value), "qemu"), "major", 0), >=,
                    7);

    /* A second client stands in line, and is served when the first has gone. */
    g_assert_null(at_qmp_open(path, SHORT_MS, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
    g_clear_error(&error);
    g_assert_true(at_test_ok(at_qmp_call(qmp, "cont", NULL, LONG_MS, NULL, &error), &error));
    g_assert_true(
        at_test_ok(at_qmp_wait_event(qmp, "RESUME", NULL, NULL, LONG_MS, NULL, &error), &error));
    g_assert_cmpint(at_qmp_last_resume_us(qmp), >, G_USEC_PER_SEC);
    at_qmp_close(g_steal_pointer(&qmp));
    qmp = open_real(path);
    g_assert_true(at_test_ok(at_qmp_call(qmp, "quit", NULL, LONG_MS, NULL, &error), &error));
    g_assert_true(
        at_test_ok(at_qmp_wait_event(qmp, "SHUTDOWN", NULL, NULL, LONG_MS, NULL, &error), &error));
    g_assert_false(call(qmp, LONG_MS, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/qemu/qmp/" name, func)
    ADD("a-peer-that-does-not-greet-well-is-told-apart", test_open_fails);
    ADD("nobody-listening-and-too-long-a-path-are-told-apart", test_no_listener);
    ADD("answers-find-their-command-by-id", test_answers_by_id);
    ADD("a-late-answer-is-dropped-and-the-connection-lives", test_late_answer);
    ADD("an-answer-nobody-waits-for-is-not-kept", test_forgotten_answer);
    ADD("a-refusal-carries-the-text-of-qemu", test_refusal);
    ADD("lines-may-come-in-pieces-and-together", test_split_and_joined_lines);
    ADD("waiting-for-one-event-keeps-the-others", test_wait_event);
    ADD("what-came-before-the-end-can-be-taken", test_events_before_the_end);
    ADD("a-flood-of-events-drops-the-old-but-not-what-matters", test_flood_keeps_what_matters);
    ADD("a-flood-of-what-matters-is-cut-off", test_flood_of_what_matters);
    ADD("an-endless-line-is-cut-off", test_endless_line);
    ADD("lines-that-are-not-qmp-end-the-connection", test_broken_lines);
    ADD("a-descriptor-travels-along", test_passes_descriptor);
    ADD("a-main-loop-reads-without-blocking", test_main_loop);
    ADD("a-real-qemu-is-talked-to", test_real_qemu);
    return g_test_run();
}
