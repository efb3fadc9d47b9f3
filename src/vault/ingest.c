/* SPDX-License-Identifier: Apache-2.0 */
/* Whole raw disks in and out of the vault: this thread reads and cuts, the pool does the rest. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "vault/tree-internal.h"

#define EXPORT_BATCH (2u << 20)
#define EXPORT_GROUP (256u << 10) /* stays in a core's cache */

static bool read_range(struct at_tree_writer *w, int fd, uint64_t from, uint64_t to, uint64_t size,
                       at_progress_func progress, void *user, GCancellable *cancellable,
                       GError **error)
{
    while (from < to) {
        if (g_cancellable_is_cancelled(cancellable))
            return at_error(error, AT_ERROR_CANCELLED, "cancelled");
        size_t cap;
        uint8_t *p = at_tree_writer_space(w, &cap, error);
        if (!p)
            return false;
        size_t want = (size_t)MIN((uint64_t)cap, to - from), have = 0;
        while (have < want) {
            int injected = at_fault_errno("vault.ingest.read");
            ssize_t n = injected ? -1 : pread(fd, p + have, want - have, (off_t)(from + have));
            if (injected)
                errno = injected;
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return at_error_errno(error, errno, "read at %" G_GUINT64_FORMAT, from + have);
            if (n == 0)
                return at_error(error, AT_ERROR_INVALID,
                                "the file ends at %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT,
                                from + have, size);
            have += (size_t)n;
        }
        size_t whole = (have + AT_BLOCK - 1) / AT_BLOCK * AT_BLOCK;
        memset(p + have, 0, whole - have);
        if (!at_tree_writer_feed(w, from, whole, error))
            return false;
        from += have;
        if (progress)
            progress(from, size, user);
    }
    return true;
}

bool at_tree_ingest_fd(struct at_vault_session *session, int fd, uint64_t size,
                       at_progress_func progress, void *user, GCancellable *cancellable,
                       struct at_digest *ret_root, struct at_tree_stats *ret_stats, GError **error)
{
    struct at_tree_writer *w = at_tree_writer_new(session, NULL, size, error);
    if (!w)
        return false;
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    bool ok = true;
    for (uint64_t at = 0; ok && at < size;) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            struct stat st; /* a hole up to the end, unless the file is too short */
            if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size < size)
                ok = at_error(error, AT_ERROR_INVALID,
                              "the file ends at %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT,
                              (uint64_t)st.st_size, size);
            break;
        }
        off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
        /* Where holes cannot be asked for, all is data; zero blocks are found by looking. */
        uint64_t from = data < 0 || hole < 0 ? at : (uint64_t)data;
        uint64_t to = data < 0 || hole < 0 ? size : MIN((uint64_t)hole, size);
        from = MAX(from / AT_BLOCK * AT_BLOCK, at);
        to = MIN((to + AT_BLOCK - 1) / AT_BLOCK * AT_BLOCK, size);
        if (from >= size)
            break;
        ok = read_range(w, fd, from, to, size, progress, user, cancellable, error);
        at = to;
    }
    ok = ok && at_tree_writer_finish(w, ret_root, ret_stats, error);
    at_tree_writer_free(w);
    if (ok && progress)
        progress(size, size, user);
    return ok;
}

/* ---- Export ---- */

struct export
{
    struct at_tree *tree;
    int fd;
    GMutex lock; /* guards all below */
    GCond cond;
    unsigned busy;
    uint64_t done;
    GError *error; /* the first one */
};

struct export_part {
    struct at_work work;
    struct export *e;
    GArray *chunks; /* struct at_entry */
};

static bool write_chunk(struct export *e, const struct at_entry *chunk, struct at_plain plain,
                        GError **error)
{
    if (plain.len != chunk->len)
        return at_error(error, AT_ERROR_CORRUPT, "a chunk is not as long as its tree says");
    uint64_t end = MIN(at_entry_end(chunk), e->tree->disk.size);
    for (uint64_t at = chunk->offset; at < end;) {
        ssize_t n = pwrite(e->fd, plain.data + (at - chunk->offset), (size_t)(end - at), (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return at_error_errno(error, errno, "write at %" G_GUINT64_FORMAT, at);
        at += (uint64_t)n;
    }
    return true;
}

/* Decodes and proves some chunks together and writes them; what is wrong with one that fails,
 * reading it alone tells. */
static bool write_chunks(struct export *e, const struct at_entry *chunks, size_t n, GError **error)
{
    static GPrivate room_key = G_PRIVATE_INIT(g_free);
    struct at_vault *vault = e->tree->vault;
    struct at_plain plains[AT_CHUNKS_GROUP] = {0};
    struct at_digest digests[AT_CHUNKS_GROUP] = {0}, names[AT_CHUNKS_BLOCKS];
    bool right[AT_CHUNKS_GROUP], ok = true;
    uint8_t *room = g_private_get(&room_key);
    size_t used = 0;
    if (!room) {
        room = g_malloc(EXPORT_GROUP + AT_CHUNK_MAX);
        g_private_set(&room_key, room);
    }
    for (size_t i = 0; i < n; i++) {
        digests[i] = chunks[i].digest;
        plains[i].data = room + used;
        plains[i].len = at_object_decode_into(vault, &digests[i], AT_KIND_CHUNK, room + used,
                                              EXPORT_GROUP + AT_CHUNK_MAX - used);
        used += plains[i].len;
    }
    at_chunks_prove(plains, digests, n, right, names);
    for (size_t i = 0; ok && i < n; i++) {
        g_autoptr(at_buf_auto) alone = NULL;
        if (!right[i]) {
            alone = at_object_read(vault, &digests[i], AT_KIND_CHUNK, error);
            plains[i] = alone ? (struct at_plain){alone->data, alone->len} : (struct at_plain){0};
            ok = alone != NULL;
        }
        ok = ok && write_chunk(e, &chunks[i], plains[i], error);
    }
    return ok;
}

static void run_export(struct at_work *work)
{
    struct export_part *part = (struct export_part *)work;
    struct export *e = part->e;
    GError *error = NULL;
    const struct at_entry *chunks = (struct at_entry *)(void *)part->chunks->data;
    uint64_t from = chunks[0].offset, done = from;
    for (unsigned i = 0; i < part->chunks->len && !error;) {
        unsigned n = 0;
        for (uint64_t bytes = 0;
             i + n < part->chunks->len && n < AT_CHUNKS_GROUP && bytes < EXPORT_GROUP;)
            bytes += chunks[i + n++].len;
        write_chunks(e, chunks + i, n, &error);
        i += n;
        done = at_entry_end(&chunks[i - 1]);
    }
    /* Only begins to write back, so that whoever syncs the file has little left to wait for. */
    sync_file_range(e->fd, (off_t)from, (off_t)(done - from), SYNC_FILE_RANGE_WRITE);
    g_mutex_lock(&e->lock);
    if (error && !e->error)
        e->error = g_steal_pointer(&error);
    e->done = MAX(e->done, done);
    e->busy--;
    g_cond_signal(&e->cond);
    g_mutex_unlock(&e->lock);
    g_clear_error(&error);
    g_array_unref(part->chunks);
    g_free(part);
}

/* A regular file is emptied first, so that what is not written is a hole; on a device holes are
 * written as zeros. */
static bool prepare(struct export *e, GError **error)
{
    struct stat st;
    if (fstat(e->fd, &st) != 0)
        return at_error_errno(error, errno, "look at the file to write");
    if (S_ISREG(st.st_mode)) {
        if (ftruncate(e->fd, 0) != 0 || ftruncate(e->fd, (off_t)e->tree->disk.size) != 0)
            return at_error_errno(error, errno, "set the size of the file to write");
        return true;
    }
    uint64_t at = 0;
    struct at_leaf leaf = {0};
    g_autofree uint8_t *zeros = g_malloc0(EXPORT_BATCH);
    bool ok = at_leaf_seek(e->tree, 0, &leaf, error);
    while (ok && at < e->tree->disk.size) {
        uint64_t to = leaf.node ? MIN(leaf.chunk.offset, e->tree->disk.size) : e->tree->disk.size;
        while (ok && at < to) {
            ssize_t n =
                pwrite(e->fd, zeros, (size_t)MIN(to - at, (uint64_t)EXPORT_BATCH), (off_t)at);
            if (n < 0 && errno != EINTR)
                ok = at_error_errno(error, errno, "write at %" G_GUINT64_FORMAT, at);
            at += n > 0 ? (uint64_t)n : 0;
        }
        if (!leaf.node)
            break;
        at = at_entry_end(&leaf.chunk);
        ok = ok && at_leaf_next(e->tree, &leaf, error);
    }
    at_leaf_clear(&leaf);
    return ok;
}

static bool hand_out(struct export *e, at_progress_func progress, void *user,
                     GCancellable *cancellable, GError **error)
{
    struct at_vault *vault = e->tree->vault;
    struct at_leaf leaf = {0};
    bool ok = at_leaf_seek(e->tree, 0, &leaf, error);
    while (ok && leaf.node) {
        struct export_part *part = g_new0(struct export_part, 1);
        part->work.run = run_export;
        part->e = e;
        part->chunks = g_array_new(FALSE, FALSE, sizeof(struct at_entry));
        for (uint64_t bytes = 0; ok && leaf.node && bytes < EXPORT_BATCH;) {
            g_array_append_val(part->chunks, leaf.chunk);
            bytes += leaf.chunk.len;
            ok = at_leaf_next(e->tree, &leaf, error);
        }
        g_mutex_lock(&e->lock);
        while (e->busy >= 2 * vault->cores)
            g_cond_wait(&e->cond, &e->lock);
        e->busy++;
        uint64_t done = e->done;
        bool failed = e->error != NULL;
        g_mutex_unlock(&e->lock);
        at_vault_submit(vault, &part->work);
        if (progress)
            progress(MIN(done, e->tree->disk.size), e->tree->disk.size, user);
        if (failed)
            break;
        if (g_cancellable_is_cancelled(cancellable))
            ok = at_error(error, AT_ERROR_CANCELLED, "cancelled");
    }
    at_leaf_clear(&leaf);
    return ok;
}

bool at_tree_export_fd(struct at_tree *tree, int fd, at_progress_func progress, void *user,
                       GCancellable *cancellable, GError **error)
{
    struct export e = {.tree = tree, .fd = fd};
    g_mutex_init(&e.lock);
    g_cond_init(&e.cond);
    bool ok = prepare(&e, error) && hand_out(&e, progress, user, cancellable, error);
    g_mutex_lock(&e.lock);
    while (e.busy)
        g_cond_wait(&e.cond, &e.lock);
    g_mutex_unlock(&e.lock);
    if (e.error) {
        if (ok)
            g_propagate_error(error, e.error);
        else
            g_error_free(e.error);
        ok = false;
    }
    g_mutex_clear(&e.lock);
    g_cond_clear(&e.cond);
    if (ok && progress)
        progress(tree->disk.size, tree->disk.size, user);
    return ok;
}
