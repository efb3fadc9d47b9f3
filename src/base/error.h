/* SPDX-License-Identifier: Apache-2.0 */
/* The one error domain. Codes mean something to an operator; text names what stands in the way. */
#pragma once
#include <glib.h>
#include <stdbool.h>

#define AT_ERROR (at_error_quark())
GQuark at_error_quark(void);

enum at_error_code {
    AT_ERROR_NOT_FOUND,   /* what was named does not exist */
    AT_ERROR_CONFLICT,    /* exists already, is busy, or has another revision */
    AT_ERROR_INVALID,     /* the request or the file is wrong and stays wrong when repeated */
    AT_ERROR_NO_SPACE,    /* disk, memory or address pool is exhausted */
    AT_ERROR_CORRUPT,     /* bytes do not hash to their name */
    AT_ERROR_PEER,        /* QEMU, nbdkit, a guest agent or another site answered wrongly */
    AT_ERROR_TIMEOUT,     /* a deadline passed */
    AT_ERROR_DENIED,      /* the caller may not do this */
    AT_ERROR_UNAVAILABLE, /* a program, device or service that is needed is not there */
    AT_ERROR_CANCELLED,   /* somebody cancelled it */
    AT_ERROR_IO,          /* the operating system reported an error */
};

/* Sets AT_ERROR from an errno value: "<what>: <strerror>". ENOSPC and EDQUOT become NO_SPACE,
 * ENOENT NOT_FOUND, EACCES and EPERM DENIED, the rest IO. Always returns false. */
bool at_error_errno(GError **error, int err, const char *fmt, ...) G_GNUC_PRINTF(3, 4);

/* Sets AT_ERROR with @code. Always returns false, so that `return at_error(...)` reads well. */
bool at_error(GError **error, enum at_error_code code, const char *fmt, ...) G_GNUC_PRINTF(3, 4);

/* Lower-case name of @code for JSON ("not_found"), and back (-1 when unknown). */
const char *at_error_code_name(int code);
int at_error_code_from_name(const char *name);

/* The at_error_code an error of any domain amounts to (GIO errors are mapped; others are IO). */
int at_error_classify(const GError *error);
