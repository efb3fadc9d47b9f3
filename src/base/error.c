/* SPDX-License-Identifier: Apache-2.0 */
/* The error domain: names of the codes and mapping from errno and GIO. */
#include "base/error.h"

#include <errno.h>
#include <gio/gio.h>
#include <string.h>

/* It would take the name for a subtraction. */
/* clang-format off */
G_DEFINE_QUARK(at-error-quark, at_error)
/* clang-format on */

static const char *const names[] = {
    [AT_ERROR_NOT_FOUND] = "not_found",
    [AT_ERROR_CONFLICT] = "conflict",
    [AT_ERROR_INVALID] = "invalid",
    [AT_ERROR_NO_SPACE] = "no_space",
    [AT_ERROR_CORRUPT] = "corrupt",
    [AT_ERROR_PEER] = "peer",
    [AT_ERROR_TIMEOUT] = "timeout",
    [AT_ERROR_DENIED] = "denied",
    [AT_ERROR_UNAVAILABLE] = "unavailable",
    [AT_ERROR_CANCELLED] = "cancelled",
    [AT_ERROR_IO] = "io",
};

static int code_of_errno(int err)
{
    switch (err) {
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
        return AT_ERROR_NO_SPACE;
    case ENOENT:
        return AT_ERROR_NOT_FOUND;
    case EACCES:
    case EPERM:
        return AT_ERROR_DENIED;
    case ETIMEDOUT:
        return AT_ERROR_TIMEOUT;
    default:
        return AT_ERROR_IO;
    }
}

bool at_error_errno(GError **error, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *what = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_set_error(error, AT_ERROR, code_of_errno(err), "%s: %s", what, g_strerror(err));
    return false;
}

bool at_error(GError **error, enum at_error_code code, const char *fmt, ...)
{
    if (error) {
        va_list ap;
        va_start(ap, fmt);
        *error = g_error_new_valist(AT_ERROR, code, fmt, ap);
        va_end(ap);
    }
    return false;
}

const char *at_error_code_name(int code)
{
    return code >= 0 && code < (int)G_N_ELEMENTS(names) ? names[code] : "io";
}

int at_error_code_from_name(const char *name)
{
    for (int i = 0; i < (int)G_N_ELEMENTS(names); i++) {
        if (g_strcmp0(name, names[i]) == 0)
            return i;
    }
    return -1;
}

int at_error_classify(const GError *error)
{
    if (error->domain == AT_ERROR)
        return error->code;
    if (error->domain == G_IO_ERROR) {
        switch (error->code) {
        case G_IO_ERROR_NOT_FOUND:
            return AT_ERROR_NOT_FOUND;
        case G_IO_ERROR_NO_SPACE:
            return AT_ERROR_NO_SPACE;
        case G_IO_ERROR_CANCELLED:
            return AT_ERROR_CANCELLED;
        case G_IO_ERROR_TIMED_OUT:
            return AT_ERROR_TIMEOUT;
        case G_IO_ERROR_PERMISSION_DENIED:
            return AT_ERROR_DENIED;
        default:
            return AT_ERROR_IO;
        }
    }
    return AT_ERROR_IO;
}
