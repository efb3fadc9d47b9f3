/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the records share: loading one or a list through a parser. */
#pragma once
#include "core/record.h"

typedef void *(*at_record_parse)(JsonObject *value, uint64_t revision, GError **error);
void *at_record_load_one(struct at_catalog *catalog, const char *key, at_record_parse parse,
                         GError **error);
GPtrArray *at_record_load_list(struct at_catalog *catalog, const char *prefix,
                               at_record_parse parse, GDestroyNotify free_func, GError **error);
bool at_record_save_one(struct at_catalog *catalog, const char *key, JsonNode *value,
                        uint64_t *revision, GError **error);
