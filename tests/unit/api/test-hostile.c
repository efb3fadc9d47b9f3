/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that no program should be: rubbish, endless headers and bodies, too many connections.
 * After each, a decent client is still served. */
#include <string.h>
#include <sys/socket.h>

#include "api/api-internal.h"
#include "base/cleanup.h"
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

static void assert_still_served(struct fixture *f)
{
    g_autoptr(client_answer) a = client_request(f->path, "GET", "/v1/site", NULL);
    g_assert_cmpuint(a->status, ==, 200);
}

static void tear_down(struct fixture *f, const void *unused)
{
    double_stop();
}

static void rubbish_hurts_nobody(struct fixture *f, const void *u)
{
    for (int i = 0; i < 300; i++) {
        at_autofd fd = client_connect(f->path);
        char noise[512];
        int len = g_test_rand_int_range(1, sizeof noise);
        for (int k = 0; k < len; k++)
            noise[k] = (char)g_test_rand_int_range(0, 256);
        client_send(fd, noise, (size_t)len);
        if (i % 2)
            client_send_text(fd, "\r\n\r\n");
    }
}

static void broken_requests_hurt_nobody(struct fixture *f, const void *u)
{
    static const char request[] = "PUT /v1/vdcs/rag-team?dry_run=true HTTP/1.1\r\nHost: x\r\n"
                                  "Content-Type: application/json\r\nContent-Length: 18\r\n\r\n"
                                  "{\"vdc\":\"rag-team\"}";
    for (int i = 0; i < 600; i++) {
        char broken[sizeof request];
        memcpy(broken, request, sizeof request);
        for (int k = g_test_rand_int_range(1, 5); k > 0; k--)
            broken[g_test_rand_int_range(0, sizeof request - 1)] =
                (char)g_test_rand_int_range(0, 256);
        at_autofd fd = client_connect(f->path);
        client_send(fd, broken, (size_t)g_test_rand_int_range(1, sizeof request));
        if (i % 3 == 0)
            client_send_text(fd, "GET /v1/site HTTP/1.1\r\n\r\n");
    }
}

static void odd_requests_are_answered_or_closed(struct fixture *f, const void *u)
{
    static const char *const odd[] = {
        "GET http://elsewhere/v1/site HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET //v1//site HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v1/site HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /v1/site\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /v1/vault/gc HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/vault/gc HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        "POST /v1/vault/gc HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST /v1/vault/gc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /v1/vault/gc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET /v1/site?%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v1/site HTTP/1.1\r\nHost: x\r\nX: \x01\x02\xff\r\n\r\n",
        "\r\n\r\n\r\nGET /v1/site HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v1/vdcs/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(odd); i++) {
        at_autofd fd = client_connect(f->path);
        client_send_text(fd, odd[i]);
        shutdown(fd, SHUT_WR);
        g_autofree char *line = g_strescape(odd[i], NULL);
        g_test_message("%s", line);
        g_assert_true(client_sees_end(fd));
    }
}

static void endless_headers_are_cut_off(struct fixture *f, const void *u)
{
    static const char *const starts[] = {
        "GET /v1/site HTTP/1.1\r\nX: ", "GET /v1/site HTTP/1.1\r\nHost: x\r\n", "GET /"};
    for (size_t i = 0; i < G_N_ELEMENTS(starts); i++) {
        g_autofree char *line = i == 1 ? g_strdup("X-Filler: 0123456789012345678901234567890\r\n")
                                       : g_strnfill(1024, 'a');
        at_autofd fd = client_connect(f->path);
        client_send_text(fd, starts[i]);
        size_t sent = 0, n;
        while (sent < 16 * 1024 * 1024 && (n = client_send(fd, line, strlen(line))) == strlen(line))
            sent += n;
        g_assert_cmpuint(sent, <, 16 * 1024 * 1024);
    }
}

static void bodies_that_are_too_large_are_refused(struct fixture *f, const void *u)
{
    at_autofd fd = client_connect(f->path);
    client_send_text(fd, "POST /v1/vault/gc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                         "Content-Type: application/json\r\nContent-Length: 99999999\r\n\r\n");
    g_autoptr(client_answer) a = client_read(fd);
    g_assert_cmpuint(a->status, ==, 400);
    g_assert_nonnull(strstr(answer_message(a), "larger than 64 KiB"));

    /* When all of it comes at once, the answer does too. */
    g_autofree char *body = g_strnfill(100 * 1024, ' ');
    g_autoptr(client_answer) b = client_request(f->path, "POST", "/v1/vault/gc", body);
    g_assert_cmpuint(b->status, ==, 400);
    g_autofree char *definition = g_strnfill(9 * 1024 * 1024, ' ');
    g_autoptr(client_answer) c = client_request(f->path, "PUT", "/v1/vdcs/a", definition);
    g_assert_cmpuint(c->status, ==, 400);
    g_assert_nonnull(strstr(answer_message(c), "larger than 8192 KiB"));
    g_autofree char *fits = g_strnfill(7 * 1024 * 1024, ' ');
    memcpy(fits, "{\"vdc\":\"a\"", 10);
    fits[7 * 1024 * 1024 - 1] = '}';
    g_autoptr(client_answer) d = client_request(f->path, "PUT", "/v1/vdcs/a", fits);
    g_assert_cmpuint(d->status, ==, 202);
}

static void a_body_without_end_is_cut_off(struct fixture *f, const void *u)
{
    at_autofd fd = client_connect(f->path);
    client_send_text(fd, "PUT /v1/vdcs/a HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                         "Transfer-Encoding: chunked\r\n\r\n");
    g_autofree char *chunk = g_strnfill(0x10000 + 9, 'x');
    memcpy(chunk, "10000\r\n", 7);
    memcpy(chunk + 7 + 0x10000, "\r\n", 2);
    size_t sent = 0, n;
    while (sent < 256 * 1024 * 1024 && (n = client_send(fd, chunk, 0x10000 + 9)) == 0x10000 + 9)
        sent += n;
    g_assert_cmpuint(sent, <, 256 * 1024 * 1024);
}

static void deep_json_is_refused(struct fixture *f, const void *u)
{
    g_autofree char *deep = g_strnfill(50000, '[');
    g_autoptr(client_answer) a = client_request(f->path, "PUT", "/v1/vdcs/a", deep);
    g_assert_cmpuint(a->status, ==, 400);
    g_autoptr(client_answer) b = client_request(f->path, "PUT", "/v1/vdcs/a", "{\"vdc\":\"\xff\"}");
    g_assert_cmpuint(b->status, ==, 400);
    g_autoptr(client_answer) c = client_request_with(
        f->path, "POST", "/v1/vault/gc",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "\x1f\x8b\x08");
    g_assert_cmpuint(c->status, ==, 400);
}

static void a_slow_client_does_not_hold_up_others(struct fixture *f, const void *u)
{
    static const char request[] = "GET /v1/site HTTP/1.1\r\nHost: x\r\n\r\n";
    at_autofd slow = client_connect(f->path);
    for (size_t i = 0; i < sizeof request - 1; i++) {
        client_send(slow, request + i, 1);
        assert_still_served(f);
    }
    g_autoptr(client_answer) a = client_read(slow);
    g_assert_cmpuint(a->status, ==, 200);
}

static void too_many_connections_are_told_so(struct fixture *f, const void *u)
{
    int fds[AT_API_CONNECTIONS_MAX];
    for (int i = 0; i < AT_API_CONNECTIONS_MAX; i++) {
        fds[i] = client_connect(f->path);
        client_send_text(fds[i], "GET /v1/s"); /* and no more for now */
    }
    at_autofd extra = client_connect(f->path);
    g_autoptr(client_answer) refused = client_read(extra);
    g_assert_cmpuint(refused->status, ==, 503);
    g_assert_cmpstr(answer_code(refused), ==, "unavailable");
    for (int i = 0; i < AT_API_CONNECTIONS_MAX; i++) {
        client_send_text(fds[i], "ite HTTP/1.1\r\nHost: x\r\n\r\n");
        g_autoptr(client_answer) a = client_read(fds[i]);
        g_assert_cmpuint(a->status, ==, 200);
        close(fds[i]);
    }
    /* More than fit at once have been served: none is counted for ever. */
    for (int i = 0; i < AT_API_CONNECTIONS_MAX; i++) {
        g_autoptr(client_answer) a = client_request(f->path, "GET", "/v1/site", NULL);
        g_assert_cmpuint(a->status, ==, 200);
    }
}

static void a_client_that_leaves_before_its_answer_hurts_nobody(struct fixture *f, const void *u)
{
    for (int i = 0; i < 200; i++) {
        at_autofd fd = client_connect(f->path);
        client_send_text(fd, i % 2 ? "GET /v1/diff?a=x@y&b=x@y HTTP/1.1\r\nHost: x\r\n\r\n"
                                   : "GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n");
    }
}

struct attack {
    void (*func)(struct fixture *, const void *);
};

static void attack_and_look_after(struct fixture *f, const void *data)
{
    ((const struct attack *)data)->func(f, NULL);
    assert_still_served(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func)                                                                            \
    do {                                                                                           \
        static const struct attack attack = {func};                                                \
        g_test_add("/api/hostile/" name, struct fixture, &attack, set_up, attack_and_look_after,   \
                   tear_down);                                                                     \
    } while (0)
    ADD("rubbish-hurts-nobody", rubbish_hurts_nobody);
    ADD("broken-requests-hurt-nobody", broken_requests_hurt_nobody);
    ADD("odd-requests-are-answered-or-closed", odd_requests_are_answered_or_closed);
    ADD("endless-headers-are-cut-off", endless_headers_are_cut_off);
    ADD("bodies-that-are-too-large-are-refused", bodies_that_are_too_large_are_refused);
    ADD("a-body-without-end-is-cut-off", a_body_without_end_is_cut_off);
    ADD("deep-json-is-refused", deep_json_is_refused);
    ADD("a-slow-client-does-not-hold-up-others", a_slow_client_does_not_hold_up_others);
    ADD("too-many-connections-are-told-so", too_many_connections_are_told_so);
    ADD("a-client-that-leaves-before-its-answer-hurts-nobody",
        a_client_that_leaves_before_its_answer_hurts_nobody);
    return g_test_run();
}
