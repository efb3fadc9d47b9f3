/* SPDX-License-Identifier: Apache-2.0 */
/* One run of gc, for the files gc*.c only. */
#pragma once
#include "base/error.h"
#include "vault/maintenance.h"
#include "vault/walk.h"

#define AT_GC_ROWS 16384u /* read from the index at a time */

struct at_gc_run {
    struct at_digest_set *marked; /* all kinds, by prefix: a collision only keeps garbage */
    struct at_position floor;
    bool sweeping; /* guarded by roots_lock */
};

struct gc {
    struct at_vault *vault;
    struct at_gc_run run;
    struct at_walk walk;
    at_progress_func progress;
    void *user;
    GCancellable *cancellable;
    struct at_gc_report report;
    uint64_t moved; /* bytes that compacting has appended */
};

static inline bool at_gc_cancelled(const struct gc *gc, GError **error)
{
    return g_cancellable_is_cancelled(gc->cancellable) &&
           !at_error(error, AT_ERROR_CANCELLED, "cancelled");
}

/* gc-compact.c: packs that hold much garbage are copied to the end of the store, and removed. */
bool at_gc_compact(struct gc *gc, GError **error);

/* ---- gc-index.c: may what is freed be judged by the index? ---- */
/* CORRUPT, and the index is to be built again. */
bool at_gc_index_trusted(struct at_vault *vault, GError **error);
/* The same, when of all that was @marked it has as many @rows. */
bool at_gc_index_whole(struct at_vault *vault, size_t rows, const struct at_digest_set *marked,
                       GCancellable *cancellable, GError **error);
/* Whether a record that the index does not name may go, being of something that is needed: *ret_has
 * when there is one at @place, which the index names (NULL: none). */
bool at_gc_has_other(struct at_vault *vault, const struct at_digest *digest,
                     const struct at_place *place, bool *ret_has, GError **error);
