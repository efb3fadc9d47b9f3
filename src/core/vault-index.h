/* SPDX-License-Identifier: Apache-2.0 */
/* A damaged index of the vault is built again without anybody asking. */
#pragma once
#include "core/backoff.h"
#include "core/core-internal.h"

/* At the start of the daemon: tells (log, event vault.index-rebuilt) that opening the vault did it.
 */
void at_vault_index_tell(struct at_core *core);

/* Now and then: starts the job vault-reindex when something was met in the index that cannot be
 * true (event vault.index-damaged). @backoff: of the caller, zero at first. Main thread. */
void at_vault_index_mend(struct at_core *core, struct at_backoff *backoff);
