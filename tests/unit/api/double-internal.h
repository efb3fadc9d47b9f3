/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the stand-in for core have in common; see double.h. */
#pragma once
#include "core/core.h"

#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define TIME "\"2026-11-23T19:02:11.123Z\""

JsonNode *double_parse(const char *text);
JsonNode *double_list(const char *view); /* of this one */
/* Keeps the call for double_last_call(). */
void double_note(const struct at_actor *actor, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* A thing named like an error code fails with it. */
bool double_may(const char *name, GError **error);
JsonNode *double_job(const char *name, GError **error); /* if it may */
