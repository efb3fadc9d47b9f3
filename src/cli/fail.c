/* SPDX-License-Identifier: Apache-2.0 */
/* Errors for people or, with --json, for programs; the one map from error codes to exit codes. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/text.h"

static bool as_json;

void at_cli_errors_as_json(void)
{
    as_json = true;
}

static void tell(int code, const char *message, const char *next)
{
    if (!as_json) {
        at_text_line(stderr, "atoll: %s", message);
        if (next)
            at_text_line(stderr, "  next: %s", next);
        return;
    }
    JsonObject *error = json_object_new(), *outer = json_object_new();
    json_object_set_string_member(error, "code", at_error_code_name(code));
    json_object_set_string_member(error, "message", message);
    if (next)
        json_object_set_string_member(error, "next", next);
    json_object_set_object_member(outer, "error", error);
    g_autoptr(JsonNode) node = at_json_take_obj(outer);
    g_autofree char *text = at_json_text(node);
    at_text_json(stderr, text);
}

int at_cli_usage(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    tell(AT_ERROR_INVALID, text, NULL);
    return AT_EXIT_USAGE;
}

static const char *default_next(const GError *error)
{
    if (g_error_matches(error, AT_ERROR, AT_ERROR_UNAVAILABLE) &&
        strstr(error->message, "atolld does not run"))
        return "start it: systemctl start atolld, or atolld --state DIR --socket PATH; another "
               "socket is named by --socket or ATOLL_SOCKET";
    if (g_error_matches(error, AT_ERROR, AT_ERROR_DENIED) &&
        strstr(error->message, "no permission"))
        return "be root or a member of the group atoll: adduser USER atoll, then log in again";
    return NULL;
}

int at_cli_fail_next(GError **error, const char *next)
{
    g_autoptr(GError) owned = g_steal_pointer(error);
    int code = at_error_classify(owned);
    tell(code, owned->message, next ? next : default_next(owned));
    switch (code) {
    case AT_ERROR_NOT_FOUND:
        return AT_EXIT_NOT_FOUND;
    case AT_ERROR_CONFLICT:
        return AT_EXIT_CONFLICT;
    case AT_ERROR_INVALID:
        return AT_EXIT_USAGE;
    default:
        return AT_EXIT_FAILED;
    }
}

int at_cli_fail(GError **error)
{
    return at_cli_fail_next(error, NULL);
}
