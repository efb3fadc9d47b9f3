/* SPDX-License-Identifier: Apache-2.0 */
/* A small blocking HTTP client over a unix socket, for tests: it can also send what no decent
 * client would. Every read has a deadline; running into it fails the test. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

struct answer {
    unsigned status; /* 0: the connection ended without an answer */
    char *head;      /* status line and headers, with their line ends */
    char *body;
    size_t len;
    JsonNode *json; /* when the body is JSON */
};
void answer_free(struct answer *answer);
typedef struct answer client_answer;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(client_answer, answer_free)

/* A new connection; asserts that there is one. */
int client_connect(const char *path);
/* All of @len bytes (or fewer when the other side has closed). */
size_t client_send(int fd, const void *data, size_t len);
void client_send_text(int fd, const char *text);
/* False when the connection ended before. */
bool client_read_exactly(int fd, void *data, size_t len);
/* One answer with its body (Content-Length or chunked). */
struct answer *client_read(int fd);
/* Only the head; the body is for client_read_until(). */
struct answer *client_read_head(int fd);
/* Adds what comes to @buffer until it contains @needle; false when the connection ended. */
bool client_read_until(int fd, GString *buffer, const char *needle);
/* True when the other side closes within the deadline, whatever it sends before. */
bool client_sees_end(int fd);

/* One request on a connection of its own. @body may be NULL; then also no Content-Type. */
struct answer *client_request(const char *path, const char *method, const char *target,
                              const char *body);
struct answer *client_request_with(const char *path, const char *method, const char *target,
                                   const char *headers, const char *body);

const char *answer_code(const struct answer *answer);    /* error code, or "" */
const char *answer_message(const struct answer *answer); /* error message, or "" */
const char *answer_pointer(const struct answer *answer); /* details.pointer, or "" */
/* Newly allocated value of a header, or NULL. */
char *answer_header(const struct answer *answer, const char *name);
