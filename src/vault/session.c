/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: what a running seal or import has put or relies on, so that gc leaves it alone. */
#include "base/error.h"
#include "vault/vault-internal.h"

struct at_vault_session *at_vault_session_begin(struct at_vault *vault, GError **error)
{
    if (!vault->writer) {
        at_error(error, AT_ERROR_DENIED, "vault %s is open for reading only", vault->dir);
        return NULL;
    }
    struct at_vault_session *s = g_new0(struct at_vault_session, 1);
    s->vault = vault;
    g_mutex_init(&s->lock);
    s->hits = at_digest_set_new(8);
    s->pins = g_array_new(FALSE, FALSE, sizeof(struct at_digest));
    g_mutex_lock(&vault->sessions_lock);
    s->start = at_store_position(vault->store);
    s->failures = at_store_failures(vault->store);
    g_ptr_array_add(vault->sessions, s);
    g_mutex_unlock(&vault->sessions_lock);
    return s;
}

static void session_free(struct at_vault_session *s)
{
    at_digest_set_free(s->hits);
    g_array_unref(s->pins);
    g_mutex_clear(&s->lock);
    g_free(s);
}

void at_vault_session_end(struct at_vault_session *session)
{
    if (!session)
        return;
    struct at_vault *vault = session->vault;
    g_mutex_lock(&vault->sessions_lock);
    session->ended = true;
    if (!vault->gc) {
        g_ptr_array_remove(vault->sessions, session);
        session_free(session);
    }
    g_mutex_unlock(&vault->sessions_lock);
}

void at_sessions_reap(struct at_vault *vault)
{
    for (unsigned i = vault->sessions->len; i-- > 0;) {
        struct at_vault_session *s = g_ptr_array_index(vault->sessions, i);
        if (s->ended) {
            g_ptr_array_remove_index(vault->sessions, i);
            session_free(s);
        }
    }
}

bool at_session_pin(struct at_vault_session *session, const struct at_digest *disk, GError **error)
{
    struct at_vault *vault = session->vault;
    g_mutex_lock(&vault->roots_lock); /* gc's last look at the pins is under it, too */
    bool ok = at_gc_keeps(vault, disk);
    if (ok) {
        g_mutex_lock(&session->lock);
        g_array_append_val(session->pins, *disk);
        g_mutex_unlock(&session->lock);
    }
    g_mutex_unlock(&vault->roots_lock);
    if (ok)
        return true;
    g_autofree char *hex = at_digest_dup_hex(disk);
    return at_error(error, AT_ERROR_NOT_FOUND, "disk %s is not in the vault", hex);
}

void at_session_hit(struct at_vault_session *session, const struct at_digest *digest)
{
    g_mutex_lock(&session->lock);
    at_digest_set_add(session->hits, digest);
    g_mutex_unlock(&session->lock);
}
