/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs: manifests, named by the plain SHA-256 of their bytes. */
#include "base/error.h"
#include "vault/hash.h"
#include "vault/vault-internal.h"

bool at_vault_blob_put(struct at_vault_session *session, const void *data, size_t len,
                       struct at_digest *ret_digest, GError **error)
{
    const uint8_t *p = data;
    /* Names of other objects are hashes of bytes that begin with 0x00 to 0x03. */
    if (len == 0 || len > AT_BLOB_MAX || p[0] < 0x20)
        return at_error(error, AT_ERROR_INVALID,
                        "a blob has 1 byte to 64 MiB and begins with a printable character");
    struct at_digest digest;
    uint64_t stored;
    at_hash(data, len, &digest);
    if (!at_store_put(session, AT_KIND_BLOB, &digest, data, len, &stored, error) ||
        !at_store_flush(session->vault->store, session->failures, error))
        return false;
    *ret_digest = digest;
    return true;
}

GBytes *at_vault_blob_get(struct at_vault *vault, const struct at_digest *digest, GError **error)
{
    struct at_buf *buf = at_object_read(vault, digest, AT_KIND_BLOB, error);
    if (!buf)
        return NULL;
    return g_bytes_new_with_free_func(buf->data, buf->len, (GDestroyNotify)at_buf_unref, buf);
}
