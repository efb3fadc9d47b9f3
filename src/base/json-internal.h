/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files of the JSON part of base. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Checks valid UTF-8 @text against the grammar of RFC 8259, at most 64 levels deep, integers of 64
 * bits, no U+0000 and no lone surrogates. Gives the number of object members that are written.
 * False with AT_ERROR_INVALID "JSON:LINE:COLUMN: what". */
bool at_json_check_syntax(const char *text, size_t len, uint64_t *ret_members, GError **error);

/* Appends @s in quotation marks, with the escapes of RFC 8785: the shortest ones. What is not
 * UTF-8 becomes U+FFFD: a record that is written can be read. */
void at_json_put_string(GString *out, const char *s);
