/* SPDX-License-Identifier: Apache-2.0 */
/* Reads disk files through a confined qemu-nbd and libnbd: maps a window of the disk, keeps several
 * reads in flight in a ring of bounded memory, and delivers extents in ascending order. */
#include "qemu/disk-reader.h"

#include <errno.h>
#include <fcntl.h>
#include <json-glib/json-glib.h>
#include <libnbd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/confine.h"
#include "base/error.h"
#include "base/json.h"
#include "base/process.h"
#include "qemu/foreign-image.h"

enum {
    PIECE_MAX = 1 << 20,   /* bytes of one read */
    RING_BYTES = 16 << 20, /* memory for the reads in flight */
    RING_SLOTS = 256,
    CONNECT_MS = 20000,
    STALL_MS = 60000, /* no answer at all for so long is a failure */
    CANCEL_MS = 100,  /* how late a cancellation may be seen */
};
static const uint64_t window_max = 1ull << 31; /* of one block status request; below 4 GiB */

static const char context_base[] = "base:allocation";
static const char context_depth[] = "qemu:allocation-depth";

struct piece {
    uint64_t offset, len;
    bool zero;
};

struct slot {
    struct piece piece;
    size_t ring_start, ring_used; /* place of the data, and what it took with the gap before it */
    bool done;
    int err;
};

struct reader {
    const char *path; /* for messages */
    bool overlay;
    at_extent_func func;
    void *user;
    GCancellable *cancellable;

    struct at_confined child;
    struct nbd_handle *nbd;
    uint64_t size;

    /* The map: the window of the last block status request, cut into pieces. */
    uint64_t mapped;              /* everything below is in pieces or was taken from them */
    GArray *pieces;               /* struct piece, of any length */
    unsigned next_piece;          /* first that is not wholly in a slot yet */
    GArray *base_map, *depth_map; /* uint32_t pairs as libnbd gives them */
    bool status_done;
    int status_err;

    /* The ring: slots [tail, head) are in flight or done, in order of offsets. */
    struct slot slots[RING_SLOTS];
    unsigned head, tail;
    char *ring;
    size_t ring_head, ring_used;

    struct piece zeros; /* run that is not delivered yet */
};

/* ---- errors ---- */

static bool fail_nbd(struct reader *r, const char *what, GError **error)
{
    g_autofree char *said = at_confined_stderr(&r->child);
    const char *why = *said ? said : nbd_get_error();
    enum at_error_code code = strstr(why, "Permission denied") ? AT_ERROR_DENIED : AT_ERROR_IO;
    return at_error(error, code, "%s: %s: %s", r->path, what, why ? why : "failed");
}

/* One turn of the connection. Deadlines are of the caller's. */
static bool turn(struct reader *r, int64_t deadline, const char *what, GError **error)
{
    if (g_cancellable_is_cancelled(r->cancellable))
        return at_error(error, AT_ERROR_CANCELLED, "%s: cancelled", r->path);
    int left = at_deadline_left_ms(deadline);
    if (left == 0)
        return at_error(error, AT_ERROR_TIMEOUT, "%s: %s: qemu-nbd does not answer", r->path, what);
    if (nbd_poll(r->nbd, MIN(left, CANCEL_MS)) < 0)
        return fail_nbd(r, what, error);
    return true;
}

/* ---- starting ---- */

/* A listening socket and a connection to it; its name is gone when this returns. */
static bool socket_pair_by_name(int *ret_listen, int *ret_connected, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *dir = g_dir_make_tmp("atoll-nbd-XXXXXX", &local); /* mode 0700 */
    if (!dir)
        return at_error(error, AT_ERROR_IO, "private directory: %s", local->message);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    bool fits =
        (size_t)snprintf(addr.sun_path, sizeof addr.sun_path, "%s/s", dir) < sizeof addr.sun_path;
    at_autofd sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at_autofd conn = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fits && sock >= 0 && conn >= 0 &&
              bind(sock, (struct sockaddr *)&addr, sizeof addr) == 0 && listen(sock, 1) == 0 &&
              connect(conn, (struct sockaddr *)&addr, sizeof addr) == 0;
    int err = fits ? errno : ENAMETOOLONG;
    unlink(addr.sun_path);
    rmdir(dir);
    if (!ok)
        return at_error_errno(error, err, "socket for qemu-nbd");
    *ret_listen = at_steal_fd(&sock);
    *ret_connected = at_steal_fd(&conn);
    return true;
}

/* json: pseudo file name of the disk as the confined program shall open it. */
static char *disk_name(const char *format, bool overlay, bool direct)
{
    JsonObject *cache = json_object_new();
    json_object_set_boolean_member(cache, "direct", direct);
    JsonObject *file = json_object_new();
    json_object_set_string_member(file, "driver", "file");
    json_object_set_string_member(file, "filename", AT_CONFINED_FILE);
    json_object_set_string_member(file, "locking", overlay ? "off" : "on");
    json_object_set_object_member(file, "cache", cache);
    JsonObject *disk = json_object_new();
    json_object_set_string_member(disk, "driver", format);
    json_object_set_object_member(disk, "file", file);
    if (overlay)
        json_object_set_null_member(disk, "backing");
    g_autoptr(JsonNode) node = at_json_take_obj(disk);
    g_autofree char *text = at_json_text(node);
    return g_strconcat("json:", text, NULL);
}

static bool start_server(struct reader *r, int file_fd, const char *name, GError **error)
{
    at_autofd sock = -1;
    at_autofd conn = -1;
    g_autofree char *program = at_find_program("qemu-nbd", "qemu-utils", error);
    if (!program || !socket_pair_by_name(&sock, &conn, error))
        return false;
    const char *argv[] = {program, "--read-only", r->overlay ? "--allocation-depth" : name,
                          r->overlay ? name : NULL, NULL};
    struct at_confine confine = {.argv = argv, .file_fd = file_fd, .listen_fd = sock, .out_fd = -1};
    if (!at_confine_start(&confine, &r->child, error))
        return false;
    at_close_fd(&sock); /* so that its death is an end of file for us */

    if (!(r->nbd = nbd_create()))
        return at_error(error, AT_ERROR_IO, "libnbd: %s", nbd_get_error());
    uint32_t strict = nbd_get_strict_mode(r->nbd) & ~(uint32_t)LIBNBD_STRICT_ALIGN;
    if (nbd_set_strict_mode(r->nbd, strict) < 0 || nbd_add_meta_context(r->nbd, context_base) < 0 ||
        (r->overlay && nbd_add_meta_context(r->nbd, context_depth) < 0) ||
        nbd_aio_connect_socket(r->nbd, conn) < 0)
        return fail_nbd(r, "connect to qemu-nbd", error);
    at_steal_fd(&conn);
    int64_t deadline = at_deadline_ms(CONNECT_MS);
    while (nbd_aio_is_connecting(r->nbd)) {
        if (!turn(r, deadline, "open", error))
            return false;
    }
    if (nbd_aio_is_ready(r->nbd) <= 0)
        return fail_nbd(r, "open", error);
    if (nbd_can_meta_context(r->nbd, context_base) <= 0 ||
        (r->overlay && nbd_can_meta_context(r->nbd, context_depth) <= 0))
        return at_error(error, AT_ERROR_PEER, "qemu-nbd does not tell what is allocated");
    int64_t size = nbd_get_size(r->nbd);
    if (size < 0)
        return fail_nbd(r, "size", error);
    r->size = (uint64_t)size;
    return true;
}

/* ---- the map ---- */

static int on_extents(void *user, const char *context, uint64_t offset, uint32_t *entries,
                      size_t n_entries, int *err)
{
    struct reader *r = user;
    (void)offset;
    if (*err == 0)
        g_array_append_vals(strcmp(context, context_base) == 0 ? r->base_map : r->depth_map,
                            entries, (guint)n_entries);
    return 0;
}

static int on_status(void *user, int *err)
{
    struct reader *r = user;
    r->status_done = true;
    r->status_err = *err;
    return 1; /* retired */
}

/* Appends to the pieces, growing the last one when it goes on. */
static void add_piece(struct reader *r, uint64_t offset, uint64_t len, bool zero)
{
    if (r->pieces->len > 0) {
        struct piece *last = &g_array_index(r->pieces, struct piece, r->pieces->len - 1);
        if (last->zero == zero && last->offset + last->len == offset) {
            last->len += len;
            return;
        }
    }
    struct piece piece = {offset, len, zero};
    g_array_append_val(r->pieces, piece);
}

/* Lays the two maps over each other; they may end at different places: the shorter one counts. */
static uint64_t merge_maps(struct reader *r, uint64_t start, uint64_t end)
{
    enum { DEPTH_HERE = 1 };
    const uint32_t *base = (const uint32_t *)(void *)r->base_map->data;
    const uint32_t *depth = (const uint32_t *)(void *)r->depth_map->data;
    unsigned nb = r->base_map->len / 2, nd = r->depth_map->len / 2, b = 0, d = 0;
    uint64_t at = start, base_end = start, depth_end = start;
    while (at < end) {
        while (base_end <= at && b < nb)
            base_end += base[2 * b++];
        while (r->overlay && depth_end <= at && d < nd)
            depth_end += depth[2 * d++];
        uint64_t upto = MIN(end, r->overlay ? MIN(base_end, depth_end) : base_end);
        if (upto <= at)
            break;
        bool zero = base[2 * (b - 1) + 1] & LIBNBD_STATE_ZERO;
        if (!r->overlay || depth[2 * (d - 1) + 1] == DEPTH_HERE)
            add_piece(r, at, upto - at, zero);
        at = upto;
    }
    return at;
}

static bool map_window(struct reader *r, GError **error)
{
    uint64_t len = MIN(r->size - r->mapped, window_max);
    g_array_set_size(r->pieces, 0);
    g_array_set_size(r->base_map, 0);
    g_array_set_size(r->depth_map, 0);
    r->next_piece = 0;
    r->status_done = false;
    if (nbd_aio_block_status(
            r->nbd, len, r->mapped, (nbd_extent_callback){.callback = on_extents, .user_data = r},
            (nbd_completion_callback){.callback = on_status, .user_data = r}, 0) < 0)
        return fail_nbd(r, "block status", error);
    int64_t deadline = at_deadline_ms(STALL_MS);
    while (!r->status_done) {
        if (!turn(r, deadline, "block status", error))
            return false;
    }
    if (r->status_err != 0)
        return at_error_errno(error, r->status_err, "%s: block status at %" G_GUINT64_FORMAT,
                              r->path, r->mapped);
    uint64_t end = merge_maps(r, r->mapped, r->mapped + len);
    if (end == r->mapped)
        return at_error(error, AT_ERROR_PEER, "%s: qemu-nbd gave an empty map", r->path);
    r->mapped = end;
    return true;
}

/* ---- reading ---- */

static int on_read(void *user, int *err)
{
    struct slot *slot = user;
    slot->done = true;
    slot->err = *err;
    return 1;
}

/* A contiguous place in the ring; false when there is none now. */
static bool ring_take(struct reader *r, size_t len, struct slot *slot)
{
    bool wraps = r->ring_head + len > RING_BYTES;
    size_t skip = wraps ? RING_BYTES - r->ring_head : 0;
    if (r->ring_used + skip + len > RING_BYTES)
        return false;
    slot->ring_start = wraps ? 0 : r->ring_head;
    slot->ring_used = skip + len;
    r->ring_head = slot->ring_start + len;
    r->ring_used += slot->ring_used;
    return true;
}

/* Puts pieces into slots while there is room. */
static bool fill(struct reader *r, GError **error)
{
    while (r->head - r->tail < RING_SLOTS && r->next_piece < r->pieces->len) {
        struct piece *piece = &g_array_index(r->pieces, struct piece, r->next_piece);
        struct slot *slot = &r->slots[r->head % RING_SLOTS];
        *slot = (struct slot){.piece = *piece, .done = piece->zero};
        if (!piece->zero) {
            /* Pieces end where aligned ones would, so that each stays within as few clusters as
             * it can. */
            uint64_t aligned = PIECE_MAX - piece->offset % PIECE_MAX;
            slot->piece.len = MIN(piece->len, aligned);
            if (!ring_take(r, (size_t)slot->piece.len, slot))
                return true;
            if (nbd_aio_pread(
                    r->nbd, r->ring + slot->ring_start, (size_t)slot->piece.len, slot->piece.offset,
                    (nbd_completion_callback){.callback = on_read, .user_data = slot}, 0) < 0)
                return fail_nbd(r, "read", error);
        }
        r->head++;
        piece->offset += slot->piece.len;
        piece->len -= slot->piece.len;
        if (piece->len == 0)
            r->next_piece++;
    }
    return true;
}

static bool deliver_zeros(struct reader *r, GError **error)
{
    struct piece run = r->zeros;
    r->zeros.len = 0;
    return run.len == 0 || r->func(run.offset, run.len, NULL, r->user, error);
}

static bool deliver(struct reader *r, GError **error)
{
    struct slot *slot = &r->slots[r->tail % RING_SLOTS];
    struct piece *piece = &slot->piece;
    if (slot->err != 0)
        return at_error_errno(error, slot->err, "%s: read at %" G_GUINT64_FORMAT, r->path,
                              piece->offset);
    if (piece->zero) {
        if (r->zeros.len > 0 && r->zeros.offset + r->zeros.len == piece->offset) {
            r->zeros.len += piece->len;
        } else {
            if (!deliver_zeros(r, error))
                return false;
            r->zeros = *piece;
        }
    } else if (!deliver_zeros(r, error) ||
               !r->func(piece->offset, piece->len, r->ring + slot->ring_start, r->user, error)) {
        return false;
    }
    r->ring_used -= slot->ring_used;
    r->tail++;
    return true;
}

static bool read_all(struct reader *r, GError **error)
{
    int64_t deadline = at_deadline_ms(STALL_MS);
    while (r->mapped < r->size || r->next_piece < r->pieces->len || r->head != r->tail) {
        if (r->next_piece == r->pieces->len && r->mapped < r->size && !map_window(r, error))
            return false;
        if (!fill(r, error))
            return false;
        if (r->head == r->tail) { /* nothing in this window */
            deadline = at_deadline_ms(STALL_MS);
            continue;
        }
        bool moved = false;
        while (r->tail != r->head && r->slots[r->tail % RING_SLOTS].done) {
            if (g_cancellable_is_cancelled(r->cancellable))
                return at_error(error, AT_ERROR_CANCELLED, "%s: cancelled", r->path);
            if (!deliver(r, error) || !fill(r, error))
                return false;
            moved = true;
        }
        if (moved)
            deadline = at_deadline_ms(STALL_MS);
        else if (!turn(r, deadline, "read", error))
            return false;
    }
    return deliver_zeros(r, error);
}

/* ---- the two ways in ---- */

static bool read_disk(struct reader *r, int file_fd, const char *name, uint64_t *ret_size,
                      GError **error)
{
    r->child = AT_CONFINED_NONE;
    r->pieces = g_array_new(FALSE, FALSE, sizeof(struct piece));
    r->base_map = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    r->depth_map = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    r->ring = g_malloc(RING_BYTES);
    bool ok = start_server(r, file_fd, name, error) && read_all(r, error);
    if (ok && ret_size)
        *ret_size = r->size;
    nbd_close(r->nbd); /* before the ring: it may still hold requests */
    at_confined_end(&r->child);
    g_free(r->ring);
    g_array_unref(r->pieces);
    g_array_unref(r->base_map);
    g_array_unref(r->depth_map);
    return ok;
}

static bool is_regular(int fd, const char *path, GError **error)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return at_error_errno(error, errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return at_error(error, AT_ERROR_INVALID, "%s is not a regular file", path);
    return true;
}

bool at_disk_read_overlay(const char *path, at_extent_func func, void *user,
                          GCancellable *cancellable, uint64_t *ret_size, GError **error)
{
    /* The guest wrote past the page cache; reading past it too leaves the cache to others. */
    bool direct = true;
    at_autofd fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0 && errno == EINVAL) {
        direct = false;
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0)
        return at_error_errno(error, errno, "%s", path);
    if (!is_regular(fd, path, error))
        return false;
    struct reader r = {
        .path = path, .overlay = true, .func = func, .user = user, .cancellable = cancellable};
    g_autofree char *name = disk_name("qcow2", true, direct);
    return read_disk(&r, fd, name, ret_size, error);
}

bool at_disk_read_image(const char *path, const char *format, at_extent_func func, void *user,
                        GCancellable *cancellable, uint64_t *ret_size, GError **error)
{
    at_autofd fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a FIFO must not hold us */
    if (fd < 0)
        return at_error_errno(error, errno, "%s", path);
    if (!is_regular(fd, path, error))
        return false;
    struct reader r = {.path = path, .func = func, .user = user, .cancellable = cancellable};
    g_autofree char *name = disk_name(format, false, false);
    return at_foreign_image_check(fd, name, path, error) &&
           read_disk(&r, fd, name, ret_size, error);
}
