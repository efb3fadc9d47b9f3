/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of one open vault, for the files of this room only. */
#pragma once
#include <dirent.h>

#include "vault/cache.h"
#include "vault/digest-set.h"
#include "vault/index.h"
#include "vault/pack.h"
#include "vault/store.h"
#include "vault/vault.h"

struct at_gc_run;

struct at_vault {
    char *dir;
    bool writer;
    unsigned format; /* that it had when it was opened */
    gid_t gid;
    int lock_fd;
    struct at_index *index;
    const char *rebuilt;   /* why the index was built again at opening, or NULL */
    bool built;            /* we have built the index: what it lacks, the packs lack */
    guint reader_suspects; /* atomic: a reader has met a damaged index, or died of it */
    struct at_packs *packs;
    struct at_cache *chunks; /* plain chunks */
    struct at_cache *blocks; /* names of the blocks of chunks that were proved once */
    struct at_cache *nodes;  /* plain nodes, already validated for their level */
    struct at_store *store;  /* writer only */
    GThreadPool *pool;       /* struct at_work; hashing, compressing, reading ahead */
    unsigned cores;
    uint64_t ahead_max;       /* bytes kept in preparation for one sequential reader */
    at_damage_func on_damage; /* readers only */
    void *on_damage_user;

    /* Against gc: a put takes this for reading from its lookup until its session has noted the
     * hit; gc takes it for writing from its last look at the sessions until its deletions are
     * committed. */
    GRWLock sweep_lock;

    GMutex gc_lock;       /* one gc, reindex at a time */
    GMutex sessions_lock; /* guards the three below */
    GPtrArray *sessions;  /* open ones, and ended ones that a running gc must still respect */
    struct at_gc_run *gc; /* the run that is in progress, or NULL */
    GMutex damage_lock;   /* noting damage, against a reindex that replaces the index */
    GMutex roots_lock;    /* guards the set of root files against gc's reading of it */
};

struct at_vault_session {
    struct at_vault *vault;
    struct at_position start;
    uint64_t failures; /* of the store when it began */
    bool ended;
    GMutex lock;                /* guards the two below */
    struct at_digest_set *hits; /* put here but stored earlier by somebody else */
    GArray *pins;               /* struct at_digest: disks whose parts are being reused */
};

/* Work for the pool: @run is called once, from a pool thread, and owns @this. */
struct at_work {
    void (*run)(struct at_work *work);
};
void at_vault_submit(struct at_vault *vault, struct at_work *work);

/* Keeps @disk and all below it while the session is open.  NOT_FOUND when gc is freeing it. */
bool at_session_pin(struct at_vault_session *session, const struct at_digest *disk, GError **error);
/* Frees ended sessions; with sessions_lock held, when no gc runs. */
void at_sessions_reap(struct at_vault *vault);
/* Notes that the session relies on @digest. */
void at_session_hit(struct at_vault_session *session, const struct at_digest *digest);

/* Paths and modes (umask-proof, group from the directory). */
char *at_vault_path(const struct at_vault *vault, const char *name);
/* g_file_get_contents() that goes on when it is interrupted; G_FILE_ERROR. */
bool at_read_text(const char *path, char **ret_text, GError **error);
/* opendir() that goes on when it is interrupted; NULL with errno. */
DIR *at_open_dir(const char *path);

/* Plain bytes of a record that was read whole; CORRUPT when they do not hash to its name. */
struct at_buf *at_object_prove(const struct at_record *record, const uint8_t *payload,
                               GError **error);
/* Verified bytes of an object of @kind, from disk.  NOT_FOUND, CORRUPT, IO. */
struct at_buf *at_object_read(struct at_vault *vault, const struct at_digest *digest, uint8_t kind,
                              GError **error);
/* The same; of a chunk also the names of its blocks (room for AT_CHUNK_MAX_BLOCKS), unless NULL. */
struct at_buf *at_object_read_blocks(struct at_vault *vault, const struct at_digest *digest,
                                     uint8_t kind, struct at_digest *ret_blocks, GError **error);
/* Bytes that nothing has been proved of yet, or NULL for any reason. */
struct at_buf *at_object_decode(struct at_vault *vault, const struct at_digest *digest,
                                uint8_t kind);
/* The same into @out, at most @cap bytes; how many, or 0 for any reason. */
size_t at_object_decode_into(struct at_vault *vault, const struct at_digest *digest, uint8_t kind,
                             uint8_t *out, size_t cap);

/* chunk.c: [skip, skip + len) of the chunk @digest, which is @chunk_len bytes long, proved, through
 * the cache.  CORRUPT, NOT_FOUND, IO: then @out holds rubbish. */
bool at_chunk_read(struct at_vault *vault, const struct at_digest *digest, size_t chunk_len,
                   size_t skip, void *out, size_t len, GError **error);
/* Several together, AT_CHUNKS_GROUP at most, of AT_CHUNKS_BLOCKS blocks at most. */
#define AT_CHUNKS_GROUP 32u
#define AT_CHUNKS_BLOCKS (AT_CHUNKS_GROUP * AT_CHUNK_MAX_BLOCKS)
/* Brings them into the cache, for read-ahead. */
void at_chunks_prepare(struct at_vault *vault, const struct at_digest *digests, size_t n);
/* Which of them are what @digests say; @ret_names gets the names of all their blocks one after
 * another. */
struct at_plain {
    const uint8_t *data;
    size_t len; /* 0: none there */
};
void at_chunks_prove(const struct at_plain *plains, const struct at_digest *digests, size_t n,
                     bool *ret_right, struct at_digest *ret_names);

/* A node through the cache. */
/* @parent: the entry that names it (NULL: any range). */
struct at_entry;
struct at_buf *at_node_get(struct at_vault *vault, const struct at_digest *digest, unsigned level,
                           const struct at_entry *parent, GError **error);

/* Where an object is, also when it is not committed yet. */
bool at_object_place(struct at_vault *vault, const struct at_digest *digest,
                     struct at_place *ret_place, bool *ret_found, GError **error);

/* reserve.c: keeps space back on disk, or gives it up for recovery and gc. */
void at_vault_reserve(struct at_vault *vault, bool keep);

/* recover.c: makes index and packs agree when a writer opens; cuts torn tails. */
bool at_vault_recover(struct at_vault *vault, GError **error);

/* damage.c: notes damaged objects durably; later puts of them are stored anew. */
bool at_vault_note_damage(struct at_vault *vault, const struct at_digest *digests, unsigned n,
                          GError **error);
/* Takes back what is whole again, or needed by nobody and gone. */
bool at_vault_forget_damage(struct at_vault *vault, const struct at_digest *digests, unsigned n,
                            GError **error);
/* A read has found @digest damaged: a writer notes it, a reader tells its owner. */
void at_vault_found_damage(struct at_vault *vault, const struct at_digest *digest);

/* gc.c: whether the running gc (if any) keeps @digest; called with roots_lock held. */
bool at_gc_keeps(struct at_vault *vault, const struct at_digest *digest);
