/* SPDX-License-Identifier: Apache-2.0 */
/* Pack files for reading: open descriptors, checked records, scanning for what a pack holds. */
#include "vault/pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/retry.h"
#include "vault/vault-internal.h"

#define OPEN_MAX 128u
#define PAGE 4096u

struct open_pack {
    int refs;
    int fd;
    uint32_t id;
    uint64_t used; /* tick of the last use */
};

struct at_packs {
    char *dir;
    GMutex lock;      /* guards all below */
    GHashTable *open; /* id -> struct open_pack */
    uint64_t tick;
};

static void open_pack_unref(struct open_pack *p)
{
    if (g_atomic_int_dec_and_test(&p->refs)) {
        close(p->fd);
        g_free(p);
    }
}

struct at_packs *at_packs_new(const char *dir)
{
    struct at_packs *packs = g_new0(struct at_packs, 1);
    packs->dir = g_strdup(dir);
    g_mutex_init(&packs->lock);
    packs->open =
        g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)(void (*)(void))open_pack_unref);
    return packs;
}

void at_packs_free(struct at_packs *packs)
{
    if (!packs)
        return;
    g_hash_table_unref(packs->open);
    g_mutex_clear(&packs->lock);
    g_free(packs->dir);
    g_free(packs);
}

const char *at_packs_dir(const struct at_packs *packs)
{
    return packs->dir;
}

char *at_packs_path(const struct at_packs *packs, uint32_t id)
{
    return g_strdup_printf("%s/%08x.pack", packs->dir, id);
}

void at_packs_forget(struct at_packs *packs, uint32_t id)
{
    g_mutex_lock(&packs->lock);
    g_hash_table_remove(packs->open, GUINT_TO_POINTER(id));
    g_mutex_unlock(&packs->lock);
}

static void evict_oldest(struct at_packs *packs)
{
    GHashTableIter it;
    gpointer value;
    struct open_pack *oldest = NULL;
    g_hash_table_iter_init(&it, packs->open);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        struct open_pack *p = value;
        if (!oldest || p->used < oldest->used)
            oldest = p;
    }
    if (oldest)
        g_hash_table_remove(packs->open, GUINT_TO_POINTER(oldest->id));
}

/* A reference, or NULL with errno. */
static struct open_pack *get_pack(struct at_packs *packs, uint32_t id)
{
    g_mutex_lock(&packs->lock);
    struct open_pack *p = g_hash_table_lookup(packs->open, GUINT_TO_POINTER(id));
    int err = 0;
    if (!p) {
        g_autofree char *path = at_packs_path(packs, id);
        int fd = at_retry(open(path, O_RDONLY | O_CLOEXEC));
        if (fd < 0) {
            err = errno;
        } else {
            if (g_hash_table_size(packs->open) >= OPEN_MAX)
                evict_oldest(packs);
            p = g_new0(struct open_pack, 1);
            p->refs = 1;
            p->fd = fd;
            p->id = id;
            g_hash_table_insert(packs->open, GUINT_TO_POINTER(id), p);
        }
    }
    if (p) {
        p->used = ++packs->tick;
        g_atomic_int_inc(&p->refs);
    }
    g_mutex_unlock(&packs->lock);
    errno = err;
    return p;
}

bool at_pread_full(int fd, void *buf, size_t len, uint64_t offset, bool *ret_short, GError **error)
{
    uint8_t *p = buf;
    *ret_short = false;
    while (len > 0) {
        int injected = at_fault_errno("vault.pack.read");
        ssize_t n = injected ? -1 : pread(fd, p, len, (off_t)offset);
        if (injected)
            errno = injected;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return at_error_errno(error, errno, "read");
        if (n == 0) {
            *ret_short = true;
            return true;
        }
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return true;
}

enum at_pack_read at_packs_read(struct at_packs *packs, uint32_t id, uint64_t offset,
                                const struct at_digest *digest, uint32_t stored, uint8_t *buf,
                                struct at_record *ret_record, GError **error)
{
    struct open_pack *p = get_pack(packs, id);
    if (!p && errno == ENOENT)
        return AT_PACK_READ_MOVED;
    if (!p) {
        at_error_errno(error, errno, "open pack %08x", id);
        return AT_PACK_READ_ERROR;
    }
    bool is_short;
    g_autoptr(GError) local = NULL;
    bool ok =
        at_pread_full(p->fd, buf, AT_RECORD_HEADER + (size_t)stored, offset, &is_short, &local);
    open_pack_unref(p);
    if (!ok) {
        bool bad = local->code == AT_ERROR_IO;
        g_propagate_prefixed_error(error, g_steal_pointer(&local),
                                   "pack %08x at %" G_GUINT64_FORMAT ": ", id, offset);
        return bad ? AT_PACK_READ_BAD : AT_PACK_READ_ERROR;
    }
    if (!is_short && at_record_decode(buf, ret_record) &&
        at_digest_equal(&ret_record->digest, digest) && ret_record->stored == stored)
        return AT_PACK_READ_OK;
    /* gc empties a pack before it unlinks it: this descriptor may be of no use any more. */
    at_packs_forget(packs, id);
    return AT_PACK_READ_MOVED;
}

static int compare_ids(gconstpointer a, gconstpointer b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

GArray *at_packs_list(struct at_packs *packs, GError **error)
{
    DIR *d = at_open_dir(packs->dir);
    if (!d) {
        at_error_errno(error, errno, "read directory %s", packs->dir);
        return NULL;
    }
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    for (struct dirent *e; (errno = 0, e = readdir(d));) {
        char *end;
        guint64 id = g_ascii_strtoull(e->d_name, &end, 16);
        if (end == e->d_name + 8 && strcmp(end, ".pack") == 0 && id > 0) {
            uint32_t id32 = (uint32_t)id;
            g_array_append_val(ids, id32);
        }
    }
    int err = errno; /* half a list would be taken for all packs that there are */
    closedir(d);
    if (err) {
        at_error_errno(error, err, "read directory %s", packs->dir);
        return NULL;
    }
    g_array_sort(ids, compare_ids);
    return g_steal_pointer(&ids);
}

bool at_pack_open(struct at_packs *packs, uint32_t id, bool writable, int *ret_fd,
                  struct at_pack_header *ret_header, uint64_t *ret_size, GError **error)
{
    g_autofree char *path = at_packs_path(packs, id);
    at_autofd fd = at_retry(open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return at_error_errno(error, errno, "open %s", path);
    uint8_t raw[AT_PACK_HEADER];
    bool is_short;
    if (!at_pread_full(fd, raw, sizeof raw, 0, &is_short, error))
        return false;
    if (is_short)
        return at_error(error, AT_ERROR_CORRUPT, "%s ends inside its header", path);
    struct at_pack_header header;
    if (!at_pack_header_decode(raw, &header, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    if (header.id != id)
        return at_error(error, AT_ERROR_CORRUPT, "%s says it is pack %08x", path, header.id);
    *ret_header = header;
    *ret_size = (uint64_t)st.st_size;
    *ret_fd = at_steal_fd(&fd);
    return true;
}

/* As at_pread_full(), but what the disk cannot give is zeros, which are no record; *bad_end is
 * raised to where the last such page ends. */
static bool read_around(int fd, uint8_t *buf, size_t len, uint64_t offset, bool *ret_short,
                        uint64_t *bad_end, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (at_pread_full(fd, buf, len, offset, ret_short, &local))
        return true;
    for (size_t at = 0, n; at < len && local->code == AT_ERROR_IO; at += n) {
        n = MIN(len - at, PAGE - (size_t)((offset + at) % PAGE));
        g_autoptr(GError) page = NULL;
        if (at_pread_full(fd, buf + at, n, offset + at, ret_short, &page)) {
            if (*ret_short)
                return true;
        } else if (page->code == AT_ERROR_IO) {
            memset(buf + at, 0, n);
            *bad_end = MAX(*bad_end, offset + at + n);
        } else {
            g_propagate_error(error, g_steal_pointer(&page));
            return false;
        }
    }
    if (local->code == AT_ERROR_IO)
        return true;
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

static bool proves(const struct at_record *record, const uint8_t *payload)
{
    g_autoptr(at_buf_auto) buf = at_object_prove(record, payload, NULL);
    return buf != NULL;
}

bool at_pack_scan(int fd, uint64_t from, uint64_t to, at_pack_func func, void *user,
                  uint64_t *ret_end, uint64_t *ret_damaged, GError **error)
{
    /* One window over the file; records are at most a blob long, so it grows when it has to. */
    size_t cap = 4u << 20, have = 0;
    g_autofree uint8_t *buf = g_malloc(cap);
    uint64_t base = from; /* file offset of buf[0] */
    uint64_t at = from, end = from, bad_end = 0, skipped = 0, damaged = 0;
    bool stepped = false; /* over anything: we may be inside of what a guest has written */
    while (at + AT_RECORD_HEADER <= to) {
        size_t need = AT_RECORD_HEADER;
        struct at_record r;
        bool header_ok = false;
        for (int pass = 0; pass < 2; pass++) {
            if (at - base + need > have) {
                size_t keep = have > at - base ? have - (size_t)(at - base) : 0;
                if (keep)
                    memmove(buf, buf + (at - base), keep);
                base = at;
                if (need > cap) {
                    cap = need;
                    buf = g_realloc(buf, cap);
                }
                size_t want = (size_t)MIN((uint64_t)cap, to - base);
                bool is_short;
                if (want > keep && !read_around(fd, buf + keep, want - keep, base + keep, &is_short,
                                                &bad_end, error))
                    return false;
                if (want > keep && is_short)
                    return at_error(error, AT_ERROR_IO, "the pack shrank while it was read");
                have = want;
            }
            if (pass == 1)
                break;
            header_ok = at_record_decode(buf + (at - base), &r);
            if (!header_ok || at + at_record_size(r.stored) > to)
                break;
            need = (size_t)at_record_size(r.stored);
        }
        const uint8_t *payload = buf + (at - base) + AT_RECORD_HEADER;
        if (!header_ok || at + at_record_size(r.stored) > to ||
            at_check(payload, r.stored) != r.check || (stepped && !proves(&r, payload))) {
            at += AT_RECORD_ALIGN;
            skipped += AT_RECORD_ALIGN;
            stepped = true;
            continue;
        }
        if (func && !func(&r, at, payload, user, error))
            return false;
        damaged += skipped;
        skipped = 0;
        at += at_record_size(r.stored);
        end = at;
    }
    *ret_end = bad_end > end ? to : end;
    if (ret_damaged)
        *ret_damaged = damaged;
    return true;
}
