/* SPDX-License-Identifier: Apache-2.0 */
/* Consoles over WebSockets: bytes both ways, credit, and clients that break the rules. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "client.h"
#include "double.h"
#include "lib/at-test.h"
#include "websocket.h"

enum { WINDOW = 256 * 1024 };

struct fixture {
    const char *path;
    int client, guest; /* an open console, both ends */
    GByteArray *data;
};

static void set_up(struct fixture *f, const void *unused)
{
    f->path = double_start(at_test_dir());
    f->client = client_connect(f->path);
    f->data = g_byte_array_new();
    g_assert_cmpuint(ws_upgrade(f->client, "/v1/consoles/rag-team/tune", NULL), ==, 101);
    f->guest = double_take_console();
    g_assert_cmpint(f->guest, >=, 0);
}

static void tear_down(struct fixture *f, const void *unused)
{
    at_close_fd(&f->client);
    double_stop();
    at_close_fd(&f->guest);
    g_byte_array_unref(f->data);
}

/* All that the guest's end takes without waiting; a flood. */
static size_t flood(int guest, size_t most)
{
    char block[4096];
    size_t sent = 0;
    memset(block, 'g', sizeof block);
    while (sent < most) {
        ssize_t n = send(guest, block, MIN(sizeof block, most - sent), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    return sent;
}

/* Reads binary frames until @wanted bytes are there, flooding on; no frame may go beyond. */
static void read_flood(struct fixture *f, size_t wanted)
{
    for (size_t got = 0; got < wanted; got += f->data->len) {
        flood(f->guest, 1 << 20);
        g_assert_cmpint(ws_read(f->client, f->data), ==, WS_BINARY);
    }
}

/* The server answers a ping after what it has sent before: if the pong is next, nothing was. */
static void assert_nothing_comes(struct fixture *f)
{
    flood(f->guest, 1 << 20);
    g_assert_true(ws_send(f->client, WS_PING, true, "p", 1));
    g_assert_cmpint(ws_read(f->client, f->data), ==, WS_PONG);
}

static void bytes_go_both_ways(struct fixture *f, const void *u)
{
    g_assert_cmpint(write(f->guest, "login: \xff", 8), ==, 8);
    g_assert_cmpint(ws_read(f->client, f->data), ==, WS_BINARY);
    g_assert_cmpmem(f->data->data, f->data->len, "login: \xff", 8);
    char typed[4];
    g_assert_true(ws_send(f->client, WS_BINARY, true, "root", 4));
    g_assert_true(client_read_exactly(f->guest, typed, 4));
    g_assert_cmpmem(typed, 4, "root", 4);
    g_assert_true(ws_send(f->client, WS_BINARY, false, "\x03", 1)); /* in two fragments */
    g_assert_true(ws_send(f->client, WS_CONTINUE, true, "\n", 1));
    g_assert_true(client_read_exactly(f->guest, typed, 2));
    g_assert_cmpmem(typed, 2, "\x03\n", 2);
}

static void a_guest_is_read_only_as_far_as_the_client_acknowledges(struct fixture *f, const void *u)
{
    read_flood(f, WINDOW);
    assert_nothing_comes(f);
    g_assert_true(ws_send(f->client, WS_TEXT, true, "{\"ack\":1000}", 12));
    read_flood(f, 1000);
    assert_nothing_comes(f);
    char ack[32];
    g_snprintf(ack, sizeof ack, "{\"ack\":%d}", WINDOW);
    g_assert_true(ws_send(f->client, WS_TEXT, true, ack, strlen(ack)));
    read_flood(f, WINDOW);
    assert_nothing_comes(f);
}

static void nothing_is_packed(struct fixture *f, const void *u)
{
    g_autofree char *head = NULL;
    at_autofd fd = client_connect(f->path);
    g_assert_cmpuint(ws_upgrade(fd, "/v1/consoles/rag-team/eval", &head), ==, 101);
    g_assert_null(strstr(head, "permessage-deflate"));
}

static void text_that_is_no_credit_ends_the_console(struct fixture *f, const void *u)
{
    static const char *const bad[] = {"hello",
                                      "{}",
                                      "{\"ack\":-1}",
                                      "{\"ack\":1}",
                                      "{\"ack\":1.5}",
                                      "{\"ack\":0,\"x\":1}",
                                      "[]",
                                      "",
                                      "{\"ack\":99999999999999999999}"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        at_autofd fd = client_connect(f->path);
        g_autofree char *target = g_strdup_printf("/v1/consoles/rag-team/w%zu", i);
        g_assert_cmpuint(ws_upgrade(fd, target, NULL), ==, 101);
        g_assert_true(ws_send(fd, WS_TEXT, true, bad[i], strlen(bad[i])));
        g_test_message("%s", bad[i]);
        g_assert_cmpuint(ws_close_code(fd), ==, 1008);
    }
}

static void a_message_that_is_too_large_ends_the_console(struct fixture *f, const void *u)
{
    g_autofree char *large = g_strnfill(200 * 1024, 'x');
    ws_send(f->client, WS_BINARY, true, large, 200 * 1024);
    unsigned code = ws_close_code(f->client);
    g_assert_true(code == 1009 || code == 0);
    g_assert_true(client_sees_end(f->guest)); /* for the guest too */
}

static void a_message_that_never_ends_ends_the_console(struct fixture *f, const void *u)
{
    g_autofree char *part = g_strnfill(60 * 1024, 'x');
    bool taken = ws_send(f->client, WS_BINARY, false, part, 60 * 1024);
    for (int i = 0; i < 500 && taken; i++)
        taken = ws_send(f->client, WS_CONTINUE, false, part, 60 * 1024);
    g_assert_false(taken); /* 30 MiB would have been too much */
    g_assert_true(client_sees_end(f->guest));
}

static void input_that_the_guest_does_not_take_is_bounded(struct fixture *f, const void *u)
{
    g_autofree char *part = g_strnfill(32 * 1024, 'x');
    for (int i = 0; i < 200 && ws_send(f->client, WS_BINARY, true, part, 32 * 1024); i++)
        ;
    unsigned code = ws_close_code(f->client);
    g_assert_true(code == 1008 || code == 0);
}

static void a_guest_that_goes_closes_the_console(struct fixture *f, const void *u)
{
    g_assert_cmpint(write(f->guest, "bye", 3), ==, 3);
    at_close_fd(&f->guest);
    g_assert_cmpint(ws_read(f->client, f->data), ==, WS_BINARY);
    g_assert_cmpmem(f->data->data, f->data->len, "bye", 3);
    g_assert_cmpuint(ws_close_code(f->client), ==, 1000);
}

/* The client does not read, so the answer to its goodbye waits behind what the guest has said. */
static void a_guest_may_talk_on_while_the_client_leaves(struct fixture *f, const void *u)
{
    g_autofree char *much = g_strnfill(8 * 1024, 'x');
    for (int i = 0; i < 30; i++)
        g_assert_cmpint(write(f->guest, much, 8 * 1024), ==, 8 * 1024);
    const unsigned char code[] = {1000 >> 8, 1000 & 0xff};
    g_assert_true(ws_send(f->client, WS_CLOSE, true, code, sizeof code));
    for (int i = 0; i < 100 && write(f->guest, "y", 1) == 1; i++) /* until its side is closed */
        g_usleep(1000);
    g_assert_cmpuint(ws_close_code(f->client), ==, 1000);
    g_assert_true(client_sees_end(f->guest));
}

static void a_client_that_goes_frees_the_console(struct fixture *f, const void *u)
{
    at_close_fd(&f->client);
    g_assert_true(client_sees_end(f->guest));
    f->client = client_connect(f->path);
    g_assert_cmpuint(ws_upgrade(f->client, "/v1/consoles/rag-team/tune", NULL), ==, 101);
}

static void a_second_client_is_told(struct fixture *f, const void *u)
{
    at_autofd fd = client_connect(f->path);
    g_assert_cmpuint(ws_upgrade(fd, "/v1/consoles/rag-team/tune", NULL), ==, 409);
    at_autofd other = client_connect(f->path);
    g_assert_cmpuint(ws_upgrade(other, "/v1/consoles/rag-team/eval", NULL), ==, 101);
}

static void errors_come_before_the_upgrade(struct fixture *f, const void *u)
{
    static const struct {
        const char *target;
        unsigned status;
    } cases[] = {
        {"/v1/consoles/rag-team/not_found", 404}, {"/v1/consoles/rag-team/unavailable", 503},
        {"/v1/consoles/rag-team", 404},           {"/v1/consoles/rag-team/a/b", 404},
        {"/v1/consoles/rag-team/..%2f", 400},     {"/v1/consoles/rag-team/x?force=true", 400},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        at_autofd fd = client_connect(f->path);
        g_test_message("%s", cases[i].target);
        g_assert_cmpuint(ws_upgrade(fd, cases[i].target, NULL), ==, cases[i].status);
    }
    g_autoptr(client_answer) plain =
        client_request(f->path, "GET", "/v1/consoles/rag-team/x", NULL);
    g_assert_cmpuint(plain->status, ==, 400);
    g_assert_nonnull(strstr(answer_message(plain), "WebSocket"));
}

static unsigned status_without_upgrade(struct fixture *f, const char *target)
{
    g_autoptr(client_answer) answer = client_request(f->path, "GET", target, NULL);
    g_test_message("%s: %s", target, answer_message(answer));
    return answer->status;
}

static void who_asks_without_an_upgrade_hears_why_there_is_none(struct fixture *f, const void *u)
{
    g_assert_cmpuint(status_without_upgrade(f, "/v1/consoles/rag-team/not_found"), ==, 404);
    g_assert_cmpuint(status_without_upgrade(f, "/v1/consoles/rag-team/tune"), ==, 409);
    g_assert_cmpuint(status_without_upgrade(f, "/v1/consoles/rag-team/eval"), ==, 400);
}

static void consoles_end_with_the_api(struct fixture *f, const void *u)
{
    double_stop();
    g_assert_true(client_sees_end(f->client));
    g_assert_true(client_sees_end(f->guest));
    f->path = double_start(at_test_dir());
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func)                                                                            \
    g_test_add("/api/console/" name, struct fixture, NULL, set_up, func, tear_down)
    ADD("bytes-go-both-ways", bytes_go_both_ways);
    ADD("a-guest-is-read-only-as-far-as-the-client-acknowledges",
        a_guest_is_read_only_as_far_as_the_client_acknowledges);
    ADD("nothing-is-packed", nothing_is_packed);
    ADD("text-that-is-no-credit-ends-the-console", text_that_is_no_credit_ends_the_console);
    ADD("a-message-that-is-too-large-ends-the-console",
        a_message_that_is_too_large_ends_the_console);
    ADD("a-message-that-never-ends-ends-the-console", a_message_that_never_ends_ends_the_console);
    ADD("input-that-the-guest-does-not-take-is-bounded",
        input_that_the_guest_does_not_take_is_bounded);
    ADD("a-guest-may-talk-on-while-the-client-leaves", a_guest_may_talk_on_while_the_client_leaves);
    ADD("a-guest-that-goes-closes-the-console", a_guest_that_goes_closes_the_console);
    ADD("a-client-that-goes-frees-the-console", a_client_that_goes_frees_the_console);
    ADD("a-second-client-is-told", a_second_client_is_told);
    ADD("errors-come-before-the-upgrade", errors_come_before_the_upgrade);
    ADD("who-asks-without-an-upgrade-hears-why-there-is-none",
        who_asks_without_an_upgrade_hears_why_there_is_none);
    ADD("consoles-end-with-the-api", consoles_end_with_the_api);
    return g_test_run();
}
