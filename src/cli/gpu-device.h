/* SPDX-License-Identifier: Apache-2.0 */
/* The device behind a GPU, in the terminal. @gpu as /v1/gpus/GPU gives it. */
#pragma once
#include <json-glib/json-glib.h>

/* "580.65.06, CUDA 13.0", or "unknown: " and why; NULL for what is not NVIDIA's. Newly allocated.
 */
char *at_gpu_driver_text(JsonObject *gpu);
/* Nothing for a card that is absent. */
void at_gpu_device_print(JsonObject *gpu);
void at_gpu_health_print(JsonObject *gpu);
