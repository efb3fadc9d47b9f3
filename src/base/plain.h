/* SPDX-License-Identifier: Apache-2.0 */
/* Text of guests, files and other programs, made fit for records and terminals. */
#pragma once
#include <glib.h>
#include <stdbool.h>

/* True for characters that steer a terminal or turn the direction of writing: Unicode's control
 * characters (C0, DEL, C1), line and paragraph separators, embeddings, overrides and isolates. */
bool at_plain_steers(gunichar c);

/* @text as valid UTF-8, bytes that are none replaced by U+FFFD, and what steers by spaces. With
 * @lines the line ends stay. Newly allocated. */
char *at_plain_text(const char *text, bool lines);

/* The same, without lines, into @buf of @cap bytes; cut between two characters where it is longer.
 */
void at_plain_copy(char *buf, size_t cap, const char *text);
