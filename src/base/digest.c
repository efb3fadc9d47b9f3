/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 digests as values, by OpenSSL (uses the CPU's SHA instructions). */
#include "base/digest.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

#include "base/error.h"

void at_digest_prepare(void)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
        g_once_init_leave(&once, 1);
    }
}

void at_digest_of(const void *data, size_t len, struct at_digest *ret_digest)
{
    at_digest_prepare();
    SHA256(data, len, ret_digest->bytes);
}

void at_digest_to_hex(const struct at_digest *digest, char hex[static AT_DIGEST_HEX + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < AT_DIGEST_LEN; i++) {
        hex[2 * i] = digits[digest->bytes[i] >> 4];
        hex[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
    hex[AT_DIGEST_HEX] = '\0';
}

char *at_digest_dup_hex(const struct at_digest *digest)
{
    char *hex = g_malloc(AT_DIGEST_HEX + 1);
    at_digest_to_hex(digest, hex);
    return hex;
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool at_digest_from_hex(const char *hex, struct at_digest *ret_digest, GError **error)
{
    struct at_digest out;
    size_t len = hex ? strlen(hex) : 0;
    if (len != AT_DIGEST_HEX)
        return at_error(error, AT_ERROR_INVALID, "a digest has 64 hex digits, found %zu characters",
                        len);
    for (int i = 0; i < AT_DIGEST_LEN; i++) {
        int hi = nibble(hex[2 * i]), lo = nibble(hex[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return at_error(error, AT_ERROR_INVALID, "a digest has only digits 0-9 and a-f");
        out.bytes[i] = (uint8_t)(hi << 4 | lo);
    }
    *ret_digest = out;
    return true;
}

bool at_digest_equal(const struct at_digest *a, const struct at_digest *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

bool at_digest_is_zero(const struct at_digest *digest)
{
    static const struct at_digest zero;
    return at_digest_equal(digest, &zero);
}

guint at_digest_key_hash(gconstpointer key)
{
    guint hash;
    memcpy(&hash, key, sizeof hash);
    return hash;
}

gboolean at_digest_key_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, AT_DIGEST_LEN) == 0;
}
