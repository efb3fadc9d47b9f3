/* SPDX-License-Identifier: Apache-2.0 */
/* The pattern: made, compared, and looked for. */
#include "guest/pattern.h"

#include <string.h>

#define UNIT 16u

static void unit_fill(uint8_t *unit, uint64_t token, uint64_t number)
{
    memcpy(unit, &token, sizeof token);
    memcpy(unit + sizeof token, &number, sizeof number);
}

void at_pattern_fill(uint8_t *block, uint64_t token, uint64_t number)
{
    uint64_t first = number * (AT_PATTERN_BLOCK / UNIT);
    for (size_t i = 0; i < AT_PATTERN_BLOCK / UNIT; i++)
        unit_fill(block + i * UNIT, token, first + i);
}

unsigned at_pattern_damaged(const uint8_t *block, uint64_t token, uint64_t number)
{
    uint64_t first = number * (AT_PATTERN_BLOCK / UNIT);
    unsigned damaged = 0;
    for (size_t page = 0; page < AT_PATTERN_BLOCK; page += AT_PATTERN_PAGE) {
        int wrong = 0;
        for (size_t at = page; at < page + AT_PATTERN_PAGE && !wrong; at += UNIT) {
            uint8_t unit[UNIT];
            unit_fill(unit, token, first + at / UNIT);
            wrong = memcmp(block + at, unit, UNIT) != 0;
        }
        damaged += wrong != 0;
    }
    return damaged;
}

int at_pattern_found(const uint8_t *bytes, size_t len, uint64_t token)
{
    for (size_t at = 0; at + sizeof token <= len; at += sizeof token) {
        if (memcmp(bytes + at, &token, sizeof token) == 0)
            return 1;
    }
    return 0;
}
