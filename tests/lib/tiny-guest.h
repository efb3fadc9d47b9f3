/* SPDX-License-Identifier: Apache-2.0 */
/* The tiny test guest: a bootable disk that comes up in seconds without KVM and runs guest-load.c,
 * which says on the serial console what it finds and does. See tiny-guest.sh and guest-load.c.
 * Lines to wait for: "GUEST-UP", "FOUND all disks=1 order=good errors=0", "LOAD n=4 round=17 ...",
 * "GUEST-ADDRESS 10.0.0.2", "GUEST-BUTTON". It serves http://ADDRESS:8000/health. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum { AT_TEST_TINY_BYTES = 96 << 20 };

/* Path of the raw disk image, which must not be written to; built on first use (half a minute, once
 * for all tests; in $ATOLL_TEST_CACHE or /var/tmp/atoll-test-cache). NULL when it cannot be had
 * here: then the test is marked as skipped with the reason, and the caller returns. */
const char *at_test_tiny_guest(void);

/* Waits until the file holds @text behind its first @from bytes, at most @timeout_ms; false when it
 * did not come. @ret_end (may be NULL): the offset behind the text. */
bool at_test_wait_for_text(const char *path, uint64_t from, const char *text, int timeout_ms,
                           uint64_t *ret_end);

/* The number behind "<name>=" in the last whole line that begins with @line, or -1. */
int64_t at_test_last_value(const char *path, const char *line, const char *name);
