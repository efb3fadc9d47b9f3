/* SPDX-License-Identifier: Apache-2.0 */
/* What a verification has found, as a table for people. */
#pragma once
#include <json-glib/json-glib.h>
#include <stdbool.h>

/* Prints what @job's report names as damaged, and what that hits; false when there is nothing. */
bool at_verify_report_print(JsonObject *job);
/* What can be done about it: one line; NULL when the job has found nothing. */
const char *at_verify_report_next(JsonObject *job);
