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

/* Reads and proves the @n objects named; what is not stored is passed over. */
bool at_vault_verify_objects(struct at_vault *vault, const struct at_digest *digests, unsigned n,
                             struct at_verify_report **ret_report, GError **error);

/* Verifies everything one tree or manifest reaches. */
bool at_vault_verify_root(struct at_vault *vault, enum at_root_kind kind,
                          const struct at_digest *digest, at_progress_func progress, void *user,
                          GCancellable *cancellable, struct at_verify_report **ret_report,
                          GError **error);

/* ---- Verifying slowly, a piece at a time, over days ---- */
struct at_verify_place { /* zero: the beginning */
    bool begun;
    struct at_digest after; /* in the order of names all has been read up to here */
};
/* Reads and proves up to @max further objects in the calling thread, in the order of the packs, and
 * moves @place on; *ret_end when there are none behind it. @paced is called after each with the
 * bytes that it took in its pack and may take its time: nothing is held meanwhile. A damaged object
 * is in the quarantine then, and in the report with the roots that need it. False with CANCELLED
 * (@place has not moved) or IO. */
typedef void (*at_paced_func)(uint64_t bytes, void *user);
bool at_vault_verify_next(struct at_vault *vault, struct at_verify_place *place, unsigned max,
                          at_paced_func paced, void *user, GCancellable *cancellable,
                          struct at_verify_report **ret_report, bool *ret_end, GError **error);
/* Follows every reference from the roots, without reading chunks: what is missing. */
bool at_vault_verify_references(struct at_vault *vault, GCancellable *cancellable,
                                struct at_verify_report **ret_report, GError **error);

/* ---- Damage that readers in other processes find, handed over in a small file ---- */
/* Reader: adds @digest to the file, once, as long as there is room. Never fails loudly. */
void at_damage_report(const char *path, const struct at_digest *digest);
/* Writer: empties the file, reads each object that it names, and notes those that are damaged, so
 * that the next put of the same content stores it anew. Whoever writes the file is not trusted.
 * *ret_report: objects that were not known to be damaged, with the roots that need them; free with
 * at_verify_report_free(). NULL when there are none. A missing file is success. */
bool at_vault_take_damage(struct at_vault *vault, const char *path,
                          struct at_verify_report **ret_report, GError **error);

/* ---- A damaged index ---- */
/* Reader, before it opens a vault: should it meet an index that cannot be right, or die while it
 * uses it, it says so in the file that the writer reads with at_vault_take_damage(). */
void at_vault_report_index_to(const char *path);

/* Writer: whether it or a reader has met an index that cannot be right. at_vault_reindex() mends
 * that, and so does the next opening; gc frees nothing until then. Any thread. */
bool at_vault_index_suspect(struct at_vault *vault);

/* Why the index was built again when the vault was opened, as the end of a sentence; NULL when it
 * was not. The quarantine is empty then, until the damage is met again. */
const char *at_vault_index_rebuilt(const struct at_vault *vault);

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
