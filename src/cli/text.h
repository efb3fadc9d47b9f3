/* SPDX-License-Identifier: Apache-2.0 */
/* Text for people: tables aligned by display width, colours on terminals only, short times. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum at_color { AT_PLAIN, AT_BOLD, AT_DIM, AT_GREEN, AT_YELLOW, AT_RED };

/* True when standard output is a terminal and NO_COLOR is not set. */
bool at_text_colorful(void);
/* Columns of @text on a terminal. */
unsigned at_text_width(const char *text);
/* @text cut to @width columns, "..." at its end when it was longer; newly allocated. */
char *at_text_cut(const char *text, unsigned width);
/* Prints a line in which nothing steers the terminal, whatever a guest or the daemon said. */
void at_text_line(FILE *to, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* Prints JSON text; what would steer the terminal is escaped. */
void at_text_json(FILE *to, const char *json);
/* Colour that a state ("running", "failed") is shown in. */
enum at_color at_text_state_color(const char *state);

/* "Nov 23 19:02" local, from RFC 3339; "-" for NULL. Newly allocated. */
char *at_text_time(const char *rfc3339);
/* "2.3 s", "4 min 05 s"; newly allocated. */
char *at_text_duration(double seconds);
/* From one RFC 3339 time to another; NULL when one of them is missing. */
char *at_text_between(const char *from, const char *to);
/* "12 MiB/s" style sizes without needless digits: "1.5 GiB", "12 MiB", "812 KiB". */
char *at_text_size(uint64_t bytes);
/* "snapshot create rag-team@nightly" for a job record. */
char *at_text_job(JsonObject *job);
/* The first 12 digits of a digest, "-" for NULL. */
char *at_text_digest(const char *hex);

struct at_table;
/* @heads: NULL-terminated; a head that begins with '>' is aligned to the right. */
struct at_table *at_table_new(const char *const *heads);
/* Appends a cell (copied; NULL is "-"), row by row. What steers a terminal becomes spaces, here and
 * in fields. */
void at_table_cell(struct at_table *table, enum at_color color, const char *text);
void at_table_take(struct at_table *table, enum at_color color, char *text);
/* Prints to standard output, or @none when there is no row, and frees. */
void at_table_print(struct at_table *table, const char *none);

void at_table_discard(struct at_table *table);

/* "name    value" lines, values aligned. */
void at_text_field(const char *name, const char *value);
void at_text_field_take(const char *name, char *value);
void at_text_title(const char *text);
