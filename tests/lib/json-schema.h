/* SPDX-License-Identifier: Apache-2.0 */
/* A checker for the part of JSON Schema that our API description uses: $ref, type, enum, pattern,
 * minimum, maximum, maxLength, properties, required, additionalProperties, items, oneOf, anyOf.
 * A keyword it does not know is a complaint, so that nothing is believed checked that is not. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

/* True when @value is as @schema says; else @complaints (may be NULL) gets a line for each place
 * that is not. @document is where "#/..." references lead. */
bool at_schema_check(JsonNode *document, JsonNode *schema, JsonNode *value, GString *complaints);

/* What a reference "#/a/b~1c" leads to, or NULL; borrowed. */
JsonNode *at_schema_resolve(JsonNode *document, const char *reference);
