/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a store, for store.c (appending) and store-commit.c (making it durable) only. */
#pragma once
#include "vault/store.h"
#include "vault/vault-internal.h"

/* A pack with bytes that are not durable yet, or that is being appended to. */
struct at_tail {
    int refs;
    int fd;
    uint32_t id;
    uint8_t uuid[16];
    uint64_t end;     /* where the next record goes, buffered ones included */
    uint64_t written; /* up to here by pwrite */
    uint64_t kicked;  /* up to here the kernel was asked to begin writing back */
    uint64_t taken;   /* up to here a flush has taken charge */
    uint64_t indexed; /* up to here the index knows it */
};

struct at_row {
    struct at_digest digest; /* first: the key */
    struct at_place place;
    bool replace; /* the old copy is damaged */
};

struct at_move {
    struct at_digest digest;
    struct at_place old, place;
};

struct at_store {
    struct at_packs *packs;
    struct at_index *index;
    gid_t gid;
    GMutex commit_lock; /* one flush at a time; taken before `lock` */
    GMutex lock;        /* guards all below */
    struct at_tail *current;
    GPtrArray *tails; /* struct at_tail*, the current one included */
    uint32_t next_id;
    uint8_t *buffer;
    size_t fill;
    GHashTable *pending, *committing; /* struct at_row by its digest */
    GHashTable *in_flight;            /* digests that a thread is compressing */
    GCond landed;                     /* in_flight has lost one */
    uint64_t settled;                 /* batches that have left `committing` */
    GHashTable *distrusted;           /* digests whose stored copy is damaged */
    GArray *moves;
    uint64_t pending_bytes;
    bool commit_queued;
    uint64_t failures;
    GError *failure; /* the last one */
};

GHashTable *at_rows_new(void); /* of struct at_row, by its digest */
void at_tail_unref(void *tail);

/* With `lock` held: writes the buffer; false when what was not durable has been given up. */
bool at_store_write_out(struct at_store *store, GError **error);
/* With `lock` held: forgets all that is not durable, remembers why, and goes on in a new pack.
 * @cut  also takes its bytes off the packs */
void at_store_give_up(struct at_store *store, const GError *why, bool cut);

/* Has the pool commit what is pending: not in the thread that puts, because others wait for what it
 * has in hand, to keep their order. */
void at_store_commit_beside(struct at_vault *vault);
