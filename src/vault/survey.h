/* SPDX-License-Identifier: Apache-2.0 */
/* What kind of bytes a chunk holds, told from a sample: whether compressing is worth the work, and
 * whether they look like floating-point numbers.  A hint only; nothing depends on it being right.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of numbers fall into lanes: lane k has byte k of every number, taken after a rotation to
 * the left by one bit, which brings the exponent into the highest byte and the sign to the
 * mantissa. */
struct at_survey {
    double flat;       /* bits of entropy per byte, whatever its place */
    double lane[2][4]; /* the same by lane: of 16-bit numbers, of 32-bit numbers */
    uint8_t top[2];   /* of the highest lane: the window of 15 values that has the most ends here */
    double in_top[2]; /* share of it that is in the window */
};

/* @len is a multiple of 4096. */
void at_survey(const uint8_t *data, size_t len, struct at_survey *ret_survey);

/* Whether more than a few of the 8-byte strings in @data come again, which is what a dictionary
 * coder lives on. */
bool at_survey_repeats(const uint8_t *data, size_t len);
