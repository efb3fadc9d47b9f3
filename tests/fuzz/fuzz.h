/* SPDX-License-Identifier: Apache-2.0 */
/* A fuzz target: bytes of a stranger in, no crash and no broken promise out. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Aborts (GLib assertion) when a promise is broken. Always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
