/* SPDX-License-Identifier: Apache-2.0 */
/* The stream of events: ids, going on where it broke off, and clients that do not read. */
#include <string.h>

#include "api/api-internal.h"
#include "base/cleanup.h"
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

/* Opens a stream and reads up to where events begin. */
static int open_stream(struct fixture *f, const char *query, const char *header, GString *text)
{
    g_autofree char *request =
        g_strdup_printf("GET /v1/events%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", query, header);
    int fd = client_connect(f->path);
    client_send_text(fd, request);
    g_autoptr(client_answer) head = client_read_head(fd);
    g_autofree char *type = answer_header(head, "Content-Type");
    g_assert_cmpuint(head->status, ==, 200);
    g_assert_cmpstr(type, ==, "text/event-stream");
    g_assert_true(g_str_has_prefix(head->head, "HTTP/1.1 ")); /* browsers: not with HTTP/2 */
    g_assert_true(client_read_until(fd, text, "retry: 2000\n\n"));
    return fd;
}

static void events_come_with_id_type_and_data(struct fixture *f, const void *u)
{
    g_autoptr(GString) text = g_string_new(NULL);
    at_autofd fd = open_stream(f, "", "", text);
    g_assert_true(at_test_until(double_watchers() == 1, 20000));
    double_emit("vdc.changed", 10);
    g_assert_true(client_read_until(fd, text, "xxxxxxxxxx"));
    g_assert_nonnull(strstr(text->str, "id: 1\nevent: vdc.changed\ndata: {"));
    double_emit("job.progress", 0);
    g_assert_true(client_read_until(fd, text, "id: 2\nevent: job.progress\ndata: {"));
}

static void a_stream_goes_on_where_it_broke_off(struct fixture *f, const void *u)
{
    for (int i = 0; i < 5; i++)
        double_emit("vdc.changed", 0);
    g_autoptr(GString) a = g_string_new(NULL);
    at_autofd one = open_stream(f, "", "Last-Event-ID: 3\r\n", a);
    g_assert_true(client_read_until(one, a, "id: 5\n"));
    g_assert_null(strstr(a->str, "id: 3\n"));
    g_assert_nonnull(strstr(a->str, "id: 4\n"));
    g_autoptr(GString) b = g_string_new(NULL);
    at_autofd two = open_stream(f, "?since=4", "", b);
    g_assert_true(client_read_until(two, b, "id: 5\n"));
    g_assert_null(strstr(b->str, "id: 4\n"));
    g_autoptr(client_answer) bad =
        client_request_with(f->path, "GET", "/v1/events", "Last-Event-ID: yesterday\r\n", NULL);
    g_assert_cmpuint(bad->status, ==, 400);
}

static void a_client_that_leaves_is_forgotten(struct fixture *f, const void *u)
{
    g_autoptr(GString) text = g_string_new(NULL);
    int fd = open_stream(f, "", "", text);
    g_assert_true(at_test_until(double_watchers() == 1, 20000));
    close(fd);
    /* It is noticed at the latest when something is sent. */
    g_assert_true(at_test_until((double_emit("x", 0), double_watchers() == 0), 20000));
}

static void a_client_that_does_not_read_is_dropped_and_others_are_not(struct fixture *f,
                                                                      const void *u)
{
    g_autoptr(GString) a = g_string_new(NULL);
    g_autoptr(GString) b = g_string_new(NULL);
    at_autofd slow = open_stream(f, "", "", a);
    at_autofd good = open_stream(f, "", "", b);
    g_assert_true(at_test_until(double_watchers() == 2, 20000));
    for (unsigned i = 1; i <= 12; i++) {
        g_autofree char *id = g_strdup_printf("id: %u\n", i);
        double_emit("big", 1024 * 1024);
        g_assert_true(client_read_until(good, b, id));
        g_string_truncate(b, 0);
    }
    g_assert_true(at_test_until(double_watchers() == 1, 20000));
    g_assert_true(client_sees_end(slow));
    double_emit("last", 0);
    g_assert_true(client_read_until(good, b, "event: last"));
}

static void the_number_of_streams_is_bounded(struct fixture *f, const void *u)
{
    int fds[AT_API_STREAMS_MAX];
    for (int i = 0; i < AT_API_STREAMS_MAX; i++) {
        g_autoptr(GString) text = g_string_new(NULL);
        fds[i] = open_stream(f, "", "", text);
    }
    g_autoptr(client_answer) refused = client_request(f->path, "GET", "/v1/events", NULL);
    g_assert_cmpuint(refused->status, ==, 503);
    g_assert_cmpstr(answer_code(refused), ==, "unavailable");
    g_autoptr(client_answer) other = client_request(f->path, "GET", "/v1/site", NULL);
    g_assert_cmpuint(other->status, ==, 200);
    for (int i = 0; i < AT_API_STREAMS_MAX; i++)
        close(fds[i]);
}

static void streams_end_with_the_api(struct fixture *f, const void *u)
{
    g_autoptr(GString) text = g_string_new(NULL);
    at_autofd fd = open_stream(f, "", "", text);
    double_stop();
    g_assert_true(client_sees_end(fd));
    f->path = double_start(at_test_dir());
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func)                                                                            \
    g_test_add("/api/events/" name, struct fixture, NULL, set_up, func, tear_down)
    ADD("come-with-id-type-and-data", events_come_with_id_type_and_data);
    ADD("a-stream-goes-on-where-it-broke-off", a_stream_goes_on_where_it_broke_off);
    ADD("a-client-that-leaves-is-forgotten", a_client_that_leaves_is_forgotten);
    ADD("a-client-that-does-not-read-is-dropped-and-others-are-not",
        a_client_that_does_not_read_is_dropped_and_others_are_not);
    ADD("the-number-of-streams-is-bounded", the_number_of_streams_is_bounded);
    ADD("streams-end-with-the-api", streams_end_with_the_api);
    return g_test_run();
}
