/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 digests as values: the names of chunks, trees and manifests. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define AT_DIGEST_LEN 32
#define AT_DIGEST_HEX 64

struct at_digest {
    uint8_t bytes[AT_DIGEST_LEN];
};

/* Before the first use of OpenSSL, by whoever uses it: it shall not clean up at the end of the
 * process, when threads that used it may be ending at the same time. Any thread, any number of
 * times. */
void at_digest_prepare(void);

/* SHA-256 of @len bytes at @data. Any thread. */
void at_digest_of(const void *data, size_t len, struct at_digest *ret_digest);

/* Writes 64 lower-case hex digits and a NUL. */
void at_digest_to_hex(const struct at_digest *digest, char hex[static AT_DIGEST_HEX + 1]);

/* Newly allocated hex. */
char *at_digest_dup_hex(const struct at_digest *digest);

/* Reads exactly 64 lower-case hex digits; false with AT_ERROR_INVALID on anything else. */
bool at_digest_from_hex(const char *hex, struct at_digest *ret_digest, GError **error);

bool at_digest_equal(const struct at_digest *a, const struct at_digest *b);
bool at_digest_is_zero(const struct at_digest *digest);

/* Keys of a GHashTable that begin with a digest. */
guint at_digest_key_hash(gconstpointer key);
gboolean at_digest_key_equal(gconstpointer a, gconstpointer b);
