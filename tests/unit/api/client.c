/* SPDX-License-Identifier: Apache-2.0 */
/* A small blocking HTTP client over a unix socket, for tests. */
#include "client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/json.h"

enum { DEADLINE_MS = 20000 };

void answer_free(struct answer *answer)
{
    g_free(answer->head);
    g_free(answer->body);
    g_clear_pointer(&answer->json, json_node_unref);
    g_free(answer);
}

int client_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    struct timeval timeout = {.tv_sec = DEADLINE_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    return fd;
}

size_t client_send(int fd, const void *data, size_t len)
{
    size_t sent = 0;
    while (sent < len) {
        ssize_t n = send(fd, (const char *)data + sent, len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            g_assert_cmpint(errno, !=, EAGAIN); /* the deadline */
            break;
        }
        sent += (size_t)n;
    }
    return sent;
}

void client_send_text(int fd, const char *text)
{
    client_send(fd, text, strlen(text));
}

/* 0 at the end of the connection. */
static size_t receive(int fd, char *buffer, size_t cap)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;
    while ((n = poll(&p, 1, DEADLINE_MS)) < 0 && errno == EINTR)
        ;
    g_assert_cmpint(n, ==, 1); /* otherwise: no answer within the deadline */
    ssize_t got = recv(fd, buffer, cap, 0);
    return got > 0 ? (size_t)got : 0;
}

bool client_read_exactly(int fd, void *data, size_t len)
{
    for (size_t got = 0; got < len;) {
        size_t n = receive(fd, (char *)data + got, len - got);
        if (n == 0)
            return false;
        got += n;
    }
    return true;
}

bool client_read_until(int fd, GString *buffer, const char *needle)
{
    while (!g_strstr_len(buffer->str, (gssize)buffer->len, needle)) {
        char chunk[16384];
        size_t n = receive(fd, chunk, sizeof chunk);
        if (n == 0)
            return false;
        g_string_append_len(buffer, chunk, (gssize)n);
    }
    return true;
}

bool client_sees_end(int fd)
{
    char chunk[16384];
    while (receive(fd, chunk, sizeof chunk) > 0)
        ;
    return true;
}

char *answer_header(const struct answer *answer, const char *name)
{
    g_auto(GStrv) lines = g_strsplit(answer->head ? answer->head : "", "\r\n", -1);
    for (char **line = lines; *line; line++) {
        size_t len = strlen(name);
        if (g_ascii_strncasecmp(*line, name, len) == 0 && (*line)[len] == ':')
            return g_strstrip(g_strdup(*line + len + 1));
    }
    return NULL;
}

static bool read_more(int fd, GString *buffer, size_t until)
{
    while (buffer->len < until) {
        char chunk[16384];
        size_t n = receive(fd, chunk, MIN(sizeof chunk, until - buffer->len));
        if (n == 0)
            return false;
        g_string_append_len(buffer, chunk, (gssize)n);
    }
    return true;
}

/* Reads bytewise up to the empty line, so that nothing of the body is taken. */
struct answer *client_read_head(int fd)
{
    struct answer *answer = g_new0(struct answer, 1);
    g_autoptr(GString) head = g_string_new(NULL);
    while (!g_str_has_suffix(head->str, "\r\n\r\n") && read_more(fd, head, head->len + 1))
        ;
    if (g_str_has_prefix(head->str, "HTTP/1.1 "))
        answer->status = (unsigned)g_ascii_strtoull(head->str + 9, NULL, 10);
    answer->head = g_string_free(g_steal_pointer(&head), FALSE);
    return answer;
}

struct answer *client_read(int fd)
{
    struct answer *answer = client_read_head(fd);
    g_autofree char *length = answer_header(answer, "Content-Length");
    g_autofree char *type = answer_header(answer, "Content-Type");
    g_autoptr(GString) body = g_string_new(NULL);
    if (length)
        read_more(fd, body, (size_t)g_ascii_strtoull(length, NULL, 10));
    if (type && strcmp(type, "application/json") == 0 && body->len > 0) {
        GError *error = NULL;
        answer->json = at_json_parse(body->str, (gssize)body->len, &error);
        g_assert_no_error(error);
    }
    answer->len = body->len;
    answer->body = g_string_free(g_steal_pointer(&body), FALSE);
    return answer;
}

struct answer *client_request_with(const char *path, const char *method, const char *target,
                                   const char *headers, const char *body)
{
    at_autofd fd = client_connect(path);
    g_autoptr(GString) text = g_string_new(NULL);
    g_string_append_printf(text, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s", method, target,
                           headers);
    if (body)
        g_string_append_printf(text, "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    else
        g_string_append(text, "\r\n");
    client_send(fd, text->str, text->len);
    return client_read(fd);
}

struct answer *client_request(const char *path, const char *method, const char *target,
                              const char *body)
{
    return client_request_with(path, method, target,
                               body ? "Content-Type: application/json\r\n" : "", body);
}

static JsonObject *object_of(const struct answer *answer)
{
    return answer->json && JSON_NODE_HOLDS_OBJECT(answer->json) ? json_node_get_object(answer->json)
                                                                : NULL;
}

const char *answer_code(const struct answer *answer)
{
    return at_json_str(object_of(answer), "code", "");
}

const char *answer_message(const struct answer *answer)
{
    return at_json_str(object_of(answer), "message", "");
}

const char *answer_pointer(const struct answer *answer)
{
    return at_json_str(at_json_obj(object_of(answer), "details"), "pointer", "");
}
