/* SPDX-License-Identifier: Apache-2.0 */
/* A damaged or forged pack: what passes as a record is within its limits, gives the bytes that it
 * is named for or none, and a scan of the whole pack ends inside of it. The first byte of the input
 * says what the rest is, and which checks are made right: a search does not come upon them. */
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "fuzz/fuzz.h"
#include "vault/codec.h"
#include "vault/hash.h"
#include "vault/pack.h"
#include "vault/vault-internal.h"

enum { WHAT = 3, RIGHT_CHECK = 4, RIGHT_LENGTH = 8 };

/* Makes the checks of the record at @p right when its lengths fit into @len. */
static void mend(uint8_t *p, size_t len)
{
    size_t stored = at_get_le32(p + 12);
    if (stored <= len - AT_RECORD_HEADER)
        at_put_le32(p + 20, at_check(p + AT_RECORD_HEADER, stored));
    at_put_le32(p + 60, at_check(p, 60));
}

/* The header as decoded says what its bytes say. */
static void check_header(const uint8_t *header, const struct at_record *r)
{
    uint8_t back[AT_RECORD_HEADER], same[AT_RECORD_HEADER];
    g_assert_cmpuint(r->plain, <=, at_kind_max(r->kind));
    g_assert_cmpuint(r->stored, <=, r->plain);
    g_assert_cmpuint(r->stored, >, 0);
    g_assert_nonnull(at_kind_name(r->kind));
    g_assert_cmpuint(at_record_size(r->stored), >=, AT_RECORD_HEADER + (uint64_t)r->stored);
    memcpy(same, header, sizeof same);
    same[7] = 0; /* the reserved bytes */
    memset(same + 56, 0, 4);
    at_put_le32(same + 60, at_check(same, 60));
    at_record_encode(r, back);
    g_assert_cmpmem(same, sizeof same, back, sizeof back);
}

/* docs/vault-format.md, section 1: what the first byte says it is. */
static bool is_of_kind(uint8_t kind, uint8_t first)
{
    return kind == AT_KIND_CHUNK  ? true
           : kind == AT_KIND_NODE ? first == 0x02
           : kind == AT_KIND_DISK ? first == 0x03
                                  : first >= 0x20;
}

/* Bytes come out only when they hash to the name, and are what they are said to be. */
static void check_payload(struct at_record *r, const uint8_t *payload)
{
    g_autoptr(GError) error = NULL;
    g_autofree uint8_t *plain = g_malloc(r->plain);
    bool decodes =
        r->key_id == 0 && at_codec_unpack(r->codec, payload, r->stored, plain, r->plain, &error);
    g_autoptr(GError) refusal = NULL;
    g_autoptr(at_buf_auto) wrong = at_object_prove(r, payload, &refusal);
    if (wrong) {
        g_assert_true(decodes);
        g_assert_true(wrong->len == r->plain && memcmp(wrong->data, plain, r->plain) == 0);
    } else {
        g_assert_true(g_error_matches(refusal, AT_ERROR, AT_ERROR_CORRUPT) ||
                      g_error_matches(refusal, AT_ERROR, AT_ERROR_INVALID));
    }
    if (!decodes)
        return;
    at_hash_object(r->kind, plain, r->plain, &r->digest);
    g_autoptr(at_buf_auto) right = at_object_prove(r, payload, NULL);
    if (!is_of_kind(r->kind, plain[0])) {
        g_assert_null(right);
        return;
    }
    g_assert_nonnull(right);
    g_assert_true(right->len == r->plain && memcmp(right->data, plain, r->plain) == 0);
}

static void record(uint8_t *data, size_t len, unsigned flags)
{
    struct at_record r;
    if (len < AT_RECORD_HEADER)
        return;
    if (flags & RIGHT_LENGTH)
        at_put_le32(data + 12, (uint32_t)(len - AT_RECORD_HEADER));
    if (flags & RIGHT_CHECK)
        mend(data, len);
    if (!at_record_decode(data, &r))
        return;
    check_header(data, &r);
    if (r.stored <= len - AT_RECORD_HEADER)
        check_payload(&r, data + AT_RECORD_HEADER);
}

static void header(uint8_t *data, size_t len, unsigned flags)
{
    struct at_pack_header p;
    uint8_t back[AT_PACK_HEADER];
    g_autoptr(GError) error = NULL;
    if (len < AT_PACK_HEADER)
        return;
    if (flags & RIGHT_CHECK)
        at_put_le32(data + 60, at_check(data, 60));
    if (!at_pack_header_decode(data, &p, &error)) {
        g_assert_true(g_error_matches(error, AT_ERROR, AT_ERROR_INVALID) ||
                      g_error_matches(error, AT_ERROR, AT_ERROR_CORRUPT));
        return;
    }
    memset(data + 32, 0, 28); /* the reserved bytes */
    at_put_le32(data + 60, at_check(data, 60));
    at_pack_header_encode(&p, back);
    g_assert_cmpmem(data, AT_PACK_HEADER, back, AT_PACK_HEADER);
}

struct scanned {
    const uint8_t *data;
    size_t len;
    uint64_t end; /* of the last record */
};

static bool check_found(const struct at_record *r, uint64_t offset, const uint8_t *payload,
                        void *user, GError **error)
{
    struct scanned *s = user;
    g_assert_cmpuint(offset, >=, s->end);
    g_assert_cmpuint(offset % AT_RECORD_ALIGN, ==, 0);
    s->end = offset + at_record_size(r->stored);
    g_assert_cmpuint(s->end, <=, s->len);
    g_assert_cmpmem(payload, r->stored, s->data + offset + AT_RECORD_HEADER, r->stored);
    g_assert_cmpuint(at_check(payload, r->stored), ==, r->check);
    return true;
}

static void scan(uint8_t *data, size_t len, unsigned flags)
{
    if (len < AT_PACK_HEADER)
        return;
    for (size_t at = AT_PACK_HEADER; (flags & RIGHT_CHECK) && at + AT_RECORD_HEADER <= len;) {
        mend(data + at, len - at);
        uint64_t size = at_record_size(at_get_le32(data + at + 12));
        at += size <= len - at ? (size_t)size : AT_RECORD_ALIGN;
    }
    at_autofd fd = memfd_create("pack", MFD_CLOEXEC);
    g_assert_cmpint(write(fd, data, len), ==, (ssize_t)len);
    struct scanned s = {data, len, AT_PACK_HEADER};
    uint64_t end, damaged;
    g_autoptr(GError) error = NULL;
    at_pack_scan(fd, AT_PACK_HEADER, len, check_found, &s, &end, &damaged, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(end, ==, s.end);
    g_assert_cmpuint(damaged, <=, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const parts[])(uint8_t * data, size_t len, unsigned flags) = {record, header,
                                                                                scan, record};
    if (size < 2)
        return 0;
    g_autofree uint8_t *copy = g_memdup2(data + 1, size - 1);
    parts[data[0] & WHAT](copy, size - 1, data[0]);
    return 0;
}
