/* SPDX-License-Identifier: Apache-2.0 */
/* What json-glib lacks: parsing with limits, member access with defaults, canonical text. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Parses @len bytes (-1: NUL-terminated) of UTF-8 JSON, strictly as in RFC 8259, at most 64 levels
 * deep, integers of 64 bits, no member twice in an object, no U+0000 in strings. The caller owns
 * the node, which is immutable. NULL with AT_ERROR_INVALID naming line and column. */
JsonNode *at_json_parse(const char *text, gssize len, GError **error);

/* A deep copy that may be changed (parsed and looked-up nodes are immutable). */
JsonNode *at_json_thaw(JsonNode *node);

/* Compact or indented text; newly allocated. Bytes that are not UTF-8 are written as U+FFFD. */
char *at_json_text(JsonNode *node);
char *at_json_pretty(JsonNode *node);

/* Canonical text as in RFC 8785: members sorted by UTF-16 code units, no white space, shortest
 * escapes. Numbers must be integers in [-(2^53-1), 2^53-1]; NULL with AT_ERROR_INVALID otherwise.
 */
char *at_json_canonical(JsonNode *node, GError **error);

/* Member of @obj, or the default when @obj is NULL, or the member is missing, null or of another
 * type. Strings are borrowed from @obj. */
const char *at_json_str(JsonObject *obj, const char *name, const char *fallback);
int64_t at_json_int(JsonObject *obj, const char *name, int64_t fallback);
double at_json_num(JsonObject *obj, const char *name, double fallback);
bool at_json_bool(JsonObject *obj, const char *name, bool fallback);
JsonObject *at_json_obj(JsonObject *obj, const char *name); /* borrowed, may be NULL */
JsonArray *at_json_arr(JsonObject *obj, const char *name);  /* borrowed, may be NULL */

/* Sets a string member, or a JSON null when @value is NULL. */
void at_json_set_str(JsonObject *obj, const char *name, const char *value);

/* Wraps @obj (taken) in a node. */
JsonNode *at_json_take_obj(JsonObject *obj);
JsonNode *at_json_take_arr(JsonArray *arr);
