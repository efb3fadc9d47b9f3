/* SPDX-License-Identifier: Apache-2.0 */
/* Programs and files of a guest whose agent is odd or hostile. A real one is used in
 * tests/system/gpu/test-neighbour.c. */
#include <string.h>

#include "base/error.h"
#include "fake-agent.h"
#include "lib/at-test.h"
#include "qemu/agent-exec.h"

static void test_write(void)
{
    /* The agent may take less than it was given. */
    static const char *const script[] = {SYNCED,
                                         "< guest-file-open",
                                         "> {\"return\": 7}",
                                         "< guest-file-write",
                                         "> {\"return\": {\"count\": 3, \"eof\": false}}",
                                         "< guest-file-write",
                                         "> {\"return\": {\"count\": 2, \"eof\": false}}",
                                         "< guest-file-close",
                                         "> {\"return\": {}}",
                                         "hold",
                                         NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) content = g_bytes_new_static("12345", 5);
    g_autoptr(at_agent) agent = fake_agent(script);
    g_assert_true(at_test_ok(at_agent_write_file(agent, "/x", content, LONG_MS, &error), &error));
}

static void test_write_fails(void)
{
    static const char *const answers[] = {"> {\"return\": {\"count\": 0}}",
                                          "> {\"return\": {\"count\": 6}}",
                                          "> {\"return\": {\"count\": -1}}", "> {\"return\": 5}",
                                          "> {\"error\": {\"desc\": \"No space left on device\"}}"};
    for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
        const char *const script[] = {
            SYNCED,     "< guest-file-open",  "> {\"return\": 7}",  "< guest-file-write",
            answers[i], "< guest-file-close", "> {\"return\": {}}", "hold",
            NULL};
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) content = g_bytes_new_static("12345", 5);
        g_autoptr(at_agent) agent = fake_agent(script);
        g_assert_false(at_agent_write_file(agent, "/x", content, LONG_MS, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
        g_assert_true(g_str_has_prefix(error->message, "guest-file-write: "));
    }
}

static void test_start(void)
{
    static const char *const argv[] = {"/bin/true", "a", NULL};
    static const char *const script[] = {SYNCED,
                                         "< guest-exec",
                                         "> {\"return\": {\"pid\": 42}}",
                                         "< guest-exec",
                                         "> {\"return\": {}}",
                                         "< guest-exec",
                                         "> {\"error\": {\"desc\": \"guest-exec is disabled\"}}",
                                         "hold",
                                         NULL};
    int64_t pid = 0;
    g_autoptr(GError) none = NULL, no_pid = NULL, disabled = NULL;
    g_autoptr(at_agent) agent = fake_agent(script);
    g_assert_true(at_test_ok(at_agent_exec_start(agent, argv, LONG_MS, &pid, &none), &none));
    g_assert_cmpint(pid, ==, 42);
    g_assert_false(at_agent_exec_start(agent, argv, LONG_MS, &pid, &no_pid));
    g_assert_error(no_pid, AT_ERROR, AT_ERROR_PEER);
    g_assert_false(at_agent_exec_start(agent, argv, LONG_MS, &pid, &disabled));
    g_assert_nonnull(strstr(disabled->message, "guest-exec is disabled"));
    g_assert_cmpint(pid, ==, 42);
}

static void test_poll(void)
{
    static const char *const script[] = {
        SYNCED,
        "< guest-exec-status",
        "> {\"return\": {\"exited\": false}}",
        "< guest-exec-status",
        "> {\"return\": {\"exited\": true, \"exitcode\": 3, \"out-data\": \"aGVsbG8=\","
        " \"err-data\": \"/w==\"}}",
        "< guest-exec-status",
        "> {\"return\": {\"exited\": true, \"signal\": 9}}",
        "< guest-exec-status",
        "> {\"return\": {\"exited\": true, \"exitcode\": 0, \"out-data\": \"***\"}}",
        "< guest-exec-status",
        "> {\"return\": []}",
        "hold",
        NULL};
    struct at_agent_exec exec;
    g_autoptr(GError) error = NULL;
    g_autoptr(at_agent) agent = fake_agent(script);
    g_assert_true(at_test_ok(at_agent_exec_poll(agent, 1, LONG_MS, &exec, &error), &error));
    g_assert_false(exec.ended);
    g_assert_true(at_test_ok(at_agent_exec_poll(agent, 1, LONG_MS, &exec, &error), &error));
    g_assert_true(exec.ended);
    g_assert_cmpint(exec.status, ==, 3);
    g_assert_cmpstr(exec.output, ==, "hello");
    g_assert_true(g_utf8_validate(exec.errors, -1, NULL)); /* the byte was none of UTF-8 */
    at_agent_exec_clear(&exec);
    g_assert_true(at_test_ok(at_agent_exec_poll(agent, 1, LONG_MS, &exec, &error), &error));
    g_assert_cmpint(exec.status, ==, -1);
    at_agent_exec_clear(&exec);
    g_assert_true(at_test_ok(at_agent_exec_poll(agent, 1, LONG_MS, &exec, &error), &error));
    g_assert_cmpstr(exec.output, ==, "");
    at_agent_exec_clear(&exec);
    g_assert_false(at_agent_exec_poll(agent, 1, LONG_MS, &exec, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
}

static void test_run(void)
{
    static const char *const argv[] = {"/bin/mkdir", "/x", NULL};
    static const char *const script[] = {
        SYNCED,
        "< guest-exec",
        "> {\"return\": {\"pid\": 42}}",
        "< guest-exec-status",
        "> {\"return\": {\"exited\": false}}",
        "< guest-exec-status",
        "> {\"return\": {\"exited\": true, \"exitcode\": 0}}",
        "< guest-exec",
        "> {\"return\": {\"pid\": 43}}",
        "< guest-exec-status",
        "> {\"return\": {\"exited\": true, \"exitcode\": 1, \"err-data\": \"ZnVsbBsK\"}}",
        "< guest-exec",
        "> {\"return\": {\"pid\": 44}}",
        "< guest-exec-status",
        "> {\"return\": {\"exited\": false}}",
        "hold",
        NULL};
    g_autoptr(GError) none = NULL, status = NULL, late = NULL;
    g_autoptr(at_agent) agent = fake_agent(script);
    g_assert_true(at_test_ok(at_agent_exec_run(agent, argv, LONG_MS, &none), &none));
    g_assert_false(at_agent_exec_run(agent, argv, LONG_MS, &status));
    g_assert_error(status, AT_ERROR, AT_ERROR_PEER);
    /* Without the characters that steer a terminal. */
    g_assert_cmpstr(status->message, ==, "/bin/mkdir ended in the guest with status 1: full  ");
    g_assert_false(at_agent_exec_run(agent, argv, 40, &late));
    g_assert_error(late, AT_ERROR, AT_ERROR_TIMEOUT);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu/agent-exec/writes-a-file-in-the-parts-that-the-agent-takes", test_write);
    g_test_add_func("/qemu/agent-exec/a-file-that-cannot-be-written-is-closed", test_write_fails);
    g_test_add_func("/qemu/agent-exec/starts-a-program-or-says-why-not", test_start);
    g_test_add_func("/qemu/agent-exec/tells-how-a-program-ended", test_poll);
    g_test_add_func("/qemu/agent-exec/runs-a-program-to-its-end", test_run);
    return g_test_run();
}
