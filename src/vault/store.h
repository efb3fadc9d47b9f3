/* SPDX-License-Identifier: Apache-2.0 */
/* Appending to packs.  Puts come from many threads; a flush makes everything put before it durable
 * (pack data, then one index transaction).  When a write fails, all that is not yet durable is
 * forgotten and the failure counter rises: sessions that began before are told by at_store_flush.
 */
#pragma once
#include <gio/gio.h>

#include "vault/index.h"
#include "vault/pack.h"

struct at_vault_session;
struct at_store;

/* Where appending stands: everything at or behind a position was put after it was taken. */
struct at_position {
    uint32_t pack;
    uint64_t offset;
};

struct at_store *at_store_new(struct at_packs *packs, struct at_index *index, gid_t gid);
void at_store_free(struct at_store *store);

/* Continues @id at @offset, or (id 0) begins with a new pack numbered from @next. */
void at_store_start(struct at_store *store, uint32_t id, const uint8_t *uuid, int fd,
                    uint64_t offset, uint32_t next);

struct at_position at_store_position(struct at_store *store);
uint64_t at_store_failures(struct at_store *store);
/* Pack that is being appended to (0: none). */
uint32_t at_store_current(struct at_store *store);
/* Whether a pack has bytes that no flush has committed yet, or is being appended to. */
bool at_store_has_open(struct at_store *store, uint32_t id);
/* The next record begins a new pack. */
void at_store_roll(struct at_store *store);

/* Puts one object.  *ret_stored: bytes that it takes anew in packs, 0 when it was there. */
bool at_store_put(struct at_vault_session *session, uint8_t kind, const struct at_digest *digest,
                  const uint8_t *plain, size_t len, uint64_t *ret_stored, GError **error);

/* Appends a record as it is (gc moves it); its row is replaced at the next flush, if it is still
 * at @old by then. */
bool at_store_move(struct at_store *store, const struct at_record *record, const uint8_t *payload,
                   const struct at_place *old, GError **error);

/* Durable on return: all that was put before.  @failures: the counter when the caller began; when
 * it has risen, the error of the last failure. */
bool at_store_flush(struct at_store *store, uint64_t failures, GError **error);

/* False, with that error, when the counter has risen: going on would be of no use. */
bool at_store_check(struct at_store *store, uint64_t failures, GError **error);

/* Between the two nothing is committed; appending goes on until a commit is due. */
void at_store_hold(struct at_store *store);
void at_store_release(struct at_store *store);

/* Looks among what is not yet in the index; makes sure that its bytes can be read from the pack. */
bool at_store_peek(struct at_store *store, const struct at_digest *digest,
                   struct at_place *ret_place, bool *ret_found, GError **error);

/* Damaged objects: a put of one stores it anew instead of relying on the old copy. */
void at_store_distrust(struct at_store *store, const struct at_digest *digest);
void at_store_trust(struct at_store *store, const struct at_digest *digest); /* again */
bool at_store_distrusts(struct at_store *store, const struct at_digest *digest);
