/* SPDX-License-Identifier: Apache-2.0 */
/* One YAML document as JSON, with the place of every value, so that whoever finds fault with the
 * JSON can name file:line:column.
 * YAML 1.2 with little magic: only true and false are booleans; numbers are decimal; everything
 * else is text. Refused: duplicate keys, keys of more than 256 bytes, tags, a second document, and
 * documents that grow beyond 20,000 values, 32 levels or 4 MiB of text and places more than the
 * file has when their aliases are followed. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

struct at_yaml;
typedef struct at_yaml at_yaml;

/* Reads @len bytes (at most 1 MiB). @name is the file's name for messages: they begin with
 * "NAME:LINE:COLUMN: ". NULL with INVALID. Any thread. */
struct at_yaml *at_yaml_parse(const char *name, const char *text, size_t len, GError **error);
void at_yaml_free(struct at_yaml *yaml);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_yaml, at_yaml_free)

/* Borrowed; changing it does not move the places. */
JsonNode *at_yaml_root(const struct at_yaml *yaml);

/* "team.yaml:12:14" for a JSON pointer (with '#' at its end: of the key); for one that is not in
 * the file the place of the nearest value around it. Newly allocated. */
char *at_yaml_place(const struct at_yaml *yaml, const char *pointer);
