/* SPDX-License-Identifier: Apache-2.0 */
/* What the victim writes: units of 16 bytes, each the token of this test and the unit's number. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define AT_PATTERN_BLOCK ((size_t)1 << 20) /* bytes */
#define AT_PATTERN_PAGE ((size_t)4096)

/* Block @number of the pattern, AT_PATTERN_BLOCK bytes. */
void at_pattern_fill(uint8_t *block, uint64_t token, uint64_t number);
/* Pages of @block that are not as at_pattern_fill() makes them. */
unsigned at_pattern_damaged(const uint8_t *block, uint64_t token, uint64_t number);
/* Whether @len bytes have the token anywhere where a unit could begin. */
int at_pattern_found(const uint8_t *bytes, size_t len, uint64_t token);
