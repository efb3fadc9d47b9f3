/* SPDX-License-Identifier: Apache-2.0 */
/* Reading sysfs: small texts, numbers and the names that links point to. What cannot be read is
 * NULL or false; whoever asks knows what that means. Any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* The text of a file without blanks at its ends, at most 64 KiB of it; NULL when it cannot be
 * read. Newly allocated. */
char *at_sysfs_read_text(const char *path);

/* The one number that is in a file, decimal or with 0x. */
bool at_sysfs_read_number(const char *path, uint64_t *ret);

/* Last part of a link's target: "nvidia" for ".../driver". NULL when there is no link. */
char *at_sysfs_link_name(const char *path);
