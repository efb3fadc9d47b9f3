/* SPDX-License-Identifier: Apache-2.0 */
/* Keeping a vault healthy: verify, gc, reindex. All run beside readers and seals. */
#pragma once
#include "vault/tree.h"

struct at_verify_problem {
    struct at_digest chunk;
    char *reason; /* "does not hash to its name", "missing", ... */
    GStrv roots;  /* names of the roots that need it */
};
struct at_verify_report {
    uint64_t chunks, bytes; /* read and hashed */
    GPtrArray *problems;    /* struct at_verify_problem* */
};
void at_verify_report_free(struct at_verify_report *report);

/* Re-reads and re-hashes; damaged chunks are quarantined. @percent in (0, 100]: a random sample
 * when below 100. True also when problems were found: they are in the report. */
bool at_vault_verify(struct at_vault *vault, double percent, at_progress_func progress, void *user,
                     GCancellable *cancellable, struct at_verify_report **ret_report,
                     GError **error);

/* Verifies everything one tree or manifest reaches. */
bool at_vault_verify_root(struct at_vault *vault, enum at_root_kind kind,
                          const struct at_digest *digest, at_progress_func progress, void *user,
                          GCancellable *cancellable, struct at_verify_report **ret_report,
                          GError **error);

/* ---- Damage that readers in other processes find, handed over in a small file ---- */
/* Reader: adds @digest to the file, once, as long as there is room. Never fails loudly. */
void at_damage_report(const char *path, const struct at_digest *digest);
/* Writer: empties the file, reads each object that it names, and notes those that are damaged, so
 * that the next put of the same content stores it anew. Whoever writes the file is not trusted.
 * *ret_found: objects that were not known to be damaged. A missing file is success. */
bool at_vault_take_damage(struct at_vault *vault, const char *path, unsigned *ret_found,
                          GError **error);

struct at_gc_report {
    uint64_t chunks_freed, bytes_freed; /* bytes of pack files given back */
    uint64_t stored_bytes;              /* after */
};
/* Frees what no root and no open session reaches, and compacts packs. Killed at any point it
 * leaves a vault that verifies. */
bool at_vault_gc(struct at_vault *vault, at_progress_func progress, void *user,
                 GCancellable *cancellable, struct at_gc_report *ret_report, GError **error);

/* Rebuilds the index from the packs alone. Writer only. */
bool at_vault_reindex(struct at_vault *vault, at_progress_func progress, void *user,
                      GCancellable *cancellable, GError **error);
