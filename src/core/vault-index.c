/* SPDX-License-Identifier: Apache-2.0 */
/* Telling of a damaged index of the vault, and starting what mends it. */
#include "core/vault-index.h"

#include "base/clock.h"
#include "base/error.h"
#include "core/job.h"
#include "vault/maintenance.h"

enum {
    AGAIN_FIRST_MS = 60 * 1000, /* between two, when the damage comes back */
    AGAIN_MAX_MS = 6 * 3600 * 1000,
};

static void tell(struct at_core *core, const char *event, const char *why)
{
    JsonObject *data = json_object_new();
    json_object_set_string_member(data, "reason", why);
    at_event_emit(core, event, "vault", at_actor_daemon.user, data);
}

void at_vault_index_tell(struct at_core *core)
{
    const char *why = at_vault_index_rebuilt(core->vault);
    if (!why)
        return;
    at_core_log("vault: the index was built again from the packs: %s", why);
    tell(core, "vault.index-rebuilt", why);
}

void at_vault_index_mend(struct at_core *core, struct at_backoff *backoff)
{
    g_autoptr(GError) error = NULL;
    if (!at_vault_index_suspect(core->vault) || at_job_scope_held(core, "vault", NULL) ||
        !at_backoff_due(backoff, AGAIN_FIRST_MS, AGAIN_MAX_MS, at_clock_us()))
        return;
    g_autoptr(JsonNode) job = at_core_vault_reindex(core, &at_actor_daemon, &error);
    if (!job) {
        at_core_log("vault: the index is damaged, and cannot be built again: %s", error->message);
        return;
    }
    at_core_log("vault: the index is damaged; it is being built again from the packs");
    tell(core, "vault.index-damaged", "something was met in it that cannot be true");
}
