/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent's client against agents that are late, mad or hostile. A real one answers in
 * tests/system/qemu/test-guest.c. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "fake-agent.h"
#include "fake-peer.h"
#include "lib/at-test.h"
#include "qemu/agent.h"

enum { SHORT_MS = 150 };

static void expect_open_fails(const char *const *script, int timeout_ms, int code)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(at_agent_open(fake_peer(script), timeout_ms, &error));
    g_assert_error(error, AT_ERROR, code);
}

static void test_stale_answers(void)
{
    static const char *const script[] = {"< guest-sync-delimited",
                                         ">> turn\": 7}\n{\"return\": 1}\n",
                                         "> \xff{\"return\": 12345}",
                                         "> \xff",
                                         "id {\"error\": {}}\xff{\"return\": %}",
                                         "< guest-ping",
                                         "> {\"return\": {}}",
                                         "hold",
                                         NULL};
    g_autoptr(at_agent) agent = fake_agent(script);
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_agent_ping(agent, LONG_MS, &error), &error));
}

static void test_open_fails(void)
{
    static const char *const silent[] = {"hold", NULL};
    static const char *const closed[] = {"close", NULL};
    static const char *const wrong[] = {"flood 100000000 {\"return\": 5}", NULL};
    static const char *const endless[] = {"bytes 4000000", "hold", NULL};
    expect_open_fails(silent, SHORT_MS, AT_ERROR_TIMEOUT);
    expect_open_fails(closed, LONG_MS, AT_ERROR_UNAVAILABLE);
    expect_open_fails(wrong, SHORT_MS, AT_ERROR_TIMEOUT);
    expect_open_fails(endless, LONG_MS, AT_ERROR_PEER);
}

static void test_bad_answers(void)
{
    static const char *const answers[] = {
        "> nonsense", "> []", "> {}", "> {\"error\": {\"desc\": \"no\"}}", "> {\"return\": \"x\"}",
        "> \xff\xff"};
    for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
        const char *const script[] = {SYNCED, "< guest-fsfreeze-freeze", answers[i], "hold", NULL};
        g_autoptr(at_agent) agent = fake_agent(script);
        g_autoptr(GError) error = NULL;
        unsigned n = 77;
        g_assert_false(at_agent_freeze(agent, LONG_MS, &n, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
        g_assert_cmpuint(n, ==, 77);
    }
}

static void test_hangs(void)
{
    static const char *const script[] = {SYNCED, "< guest-fsfreeze-freeze", "hold", NULL};
    g_autoptr(at_agent) agent = fake_agent(script);
    g_autoptr(GError) error = NULL;
    g_assert_false(at_agent_freeze(agent, SHORT_MS, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
}

static void test_addresses(void)
{
    static const char *const script[] = {
        SYNCED, "< guest-network-get-interfaces",
        "> {\"return\": [{\"name\": \"lo\", \"hardware-address\": \"00:00:00:00:00:00\","
        " \"ip-addresses\": [{\"ip-address\": \"127.0.0.1\"}]}, 5, {\"name\": \"x\"},"
        " {\"hardware-address\": \"<script>\", \"ip-addresses\": [{\"ip-address\": \"1.2.3.4\"}]},"
        " {\"hardware-address\": \"52:54:00:AA:00:01\", \"ip-addresses\": [7, {},"
        " {\"ip-address\": \"10.0.0.5\"}, {\"ip-address\": \"fe80::1\"},"
        " {\"ip-address\": \"10.0.0.6; reboot\"}, {\"ip-address\": \"fd00::5\"}]}]}",
        "hold", NULL};
    g_autoptr(at_agent) agent = fake_agent(script);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) found = at_agent_addresses(agent, LONG_MS, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(json_object_get_size(found), ==, 1);
    JsonArray *list = at_json_arr(found, "52:54:00:aa:00:01");
    g_assert_cmpuint(json_array_get_length(list), ==, 2);
    g_assert_cmpstr(json_array_get_string_element(list, 0), ==, "10.0.0.5");
    g_assert_cmpstr(json_array_get_string_element(list, 1), ==, "fd00::5");
}

static void test_count_is_bounded(void)
{
    static const char *const script[] = {SYNCED, "< guest-fsfreeze-freeze", "> {\"return\": -5}",
                                         "hold", NULL};
    g_autoptr(at_agent) agent = fake_agent(script);
    g_autoptr(GError) error = NULL;
    unsigned n = 77;
    g_assert_true(at_test_ok(at_agent_freeze(agent, LONG_MS, &n, &error), &error));
    g_assert_cmpuint(n, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/qemu/agent/" name, func)
    ADD("answers-to-somebody-else-are-skipped", test_stale_answers);
    ADD("an-agent-that-is-not-there-or-mad-is-told-apart", test_open_fails);
    ADD("answers-that-are-none-are-refused", test_bad_answers);
    ADD("a-hanging-agent-costs-the-deadline-only", test_hangs);
    ADD("addresses-are-filtered", test_addresses);
    ADD("a-mad-count-is-bounded", test_count_is_bounded);
    return g_test_run();
}
