/* SPDX-License-Identifier: Apache-2.0 */
/* Answers: JSON, text, errors; the one map from error codes to HTTP status numbers. */
#include <string.h>

#include "api/api-internal.h"
#include "base/error.h"
#include "base/json.h"

unsigned at_reply_status(int code)
{
    switch (code) {
    case AT_ERROR_INVALID:
        return 400;
    case AT_ERROR_DENIED:
        return 403;
    case AT_ERROR_NOT_FOUND:
        return 404;
    case AT_ERROR_CONFLICT:
    case AT_ERROR_CANCELLED:
        return 409;
    case AT_ERROR_UNAVAILABLE:
        return 503;
    case AT_ERROR_TIMEOUT:
        return 504;
    case AT_ERROR_NO_SPACE:
        return 507;
    default: /* corrupt, peer, io */
        return 500;
    }
}

/* Takes @text. A connection is for one request: libsoup 3.2 keeps, for ever, what belongs to one
 * that a client closes between two requests, and a new one costs little on a unix socket. */
static void reply(SoupServerMessage *msg, unsigned status, const char *type, char *text, size_t len)
{
    SoupMessageHeaders *headers = soup_server_message_get_response_headers(msg);
    soup_message_headers_replace(headers, "Connection", "close");
    soup_message_headers_replace(headers, "Cache-Control", "no-store");
    soup_message_headers_replace(headers, "X-Content-Type-Options", "nosniff");
    soup_server_message_set_status(msg, status, NULL);
    soup_server_message_set_response(msg, type, SOUP_MEMORY_TAKE, text, len);
}

void at_reply_json(SoupServerMessage *msg, unsigned status, JsonNode *node)
{
    g_autofree char *text = at_json_text(node);
    char *line = g_strconcat(text, "\n", NULL);
    reply(msg, status, "application/json", line, strlen(line));
}

void at_reply_text(SoupServerMessage *msg, const char *type, const char *text, size_t len)
{
    reply(msg, 200, type, g_strndup(text, len), len);
}

void at_reply_error(SoupServerMessage *msg, const GError *error, const char *pointer)
{
    int code = at_error_classify(error);
    unsigned status = at_reply_status(code);
    if (status == 400 &&
        soup_message_headers_get_one(soup_server_message_get_response_headers(msg), "Allow"))
        status = 405;
    if (status == 500)
        g_message("api: %s %s: %s", soup_server_message_get_method(msg),
                  g_uri_get_path(soup_server_message_get_uri(msg)), error->message);
    JsonObject *details = json_object_new();
    if (pointer)
        json_object_set_string_member(details, "pointer", pointer);
    JsonObject *obj = json_object_new();
    json_object_set_string_member(obj, "code", at_error_code_name(code));
    /* json-glib refuses text that is not UTF-8, and messages quote what clients sent. */
    g_autofree char *message = g_utf8_make_valid(error->message, -1);
    json_object_set_string_member(obj, "message", message);
    json_object_set_object_member(obj, "details", details);
    g_autoptr(JsonNode) node = at_json_take_obj(obj);
    at_reply_json(msg, status, node);
}
