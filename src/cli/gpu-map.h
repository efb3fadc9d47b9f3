/* SPDX-License-Identifier: Apache-2.0 */
/* The map of GPUs in the terminal. */
#pragma once
#include <json-glib/json-glib.h>

/* A row for each card of @gpus (as /v1/gpus gives them; may be NULL), and one for each further
 * holder.
 */
void at_gpu_map_print(JsonArray *gpus);
/* "4-7": the MIG slices of a grant; NULL when it has none. Newly allocated. */
char *at_gpu_slices_text(JsonObject *grant);
