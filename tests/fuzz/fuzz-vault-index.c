/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a damaged or forged index: what passes is within its limits, can be asked of a file, and
 * is written back as the same bytes. The first byte of the input says which table it is of. Whole
 * files are LMDB's to read, which trusts them: see docs/vault-format.md, section 5. */
#include <glib.h>
#include <string.h>

#include "base/error.h"
#include "fuzz/fuzz.h"
#include "vault/index-row.h"

static void place(const uint8_t *data, size_t len)
{
    struct at_place p;
    uint8_t back[AT_PLACE_LEN], same[AT_PLACE_LEN];
    static const struct at_digest digest;
    if (!at_place_decode(&digest, data, len, &p))
        return;
    g_assert_cmpuint(p.plain, <=, at_kind_max(p.kind));
    g_assert_cmpuint(p.stored, <=, p.plain);
    g_assert_cmpuint(p.stored, >, 0);
    g_assert_cmpuint(p.pack, >, 0);
    g_assert_cmpuint(p.offset, >=, AT_PACK_HEADER);
    g_assert_cmpuint(p.offset + at_record_size(p.stored), <=, INT64_MAX);
    memcpy(same, data, sizeof same);
    at_place_encode(&digest, &p, back);
    memcpy(same + 14, back + 14, 2); /* the check, which may be missing */
    g_assert_cmpmem(same, sizeof same, back, sizeof back);
}

static void pack(const uint8_t *data, size_t len)
{
    struct at_pack_meta m;
    uint8_t back[AT_PACK_META_LEN], same[AT_PACK_META_LEN];
    size_t key = MIN(len, 4);
    if (!at_pack_meta_decode(data, key, data + key, len - key, &m))
        return;
    memcpy(same, data + 4, sizeof same);
    at_pack_meta_encode(&m, back);
    memcpy(same + 28, back + 28, 4); /* the check, which may be missing */
    g_assert_cmpmem(same, sizeof same, back, sizeof back);
}

static void stats(const uint8_t *data, size_t len)
{
    struct at_index_stats s;
    uint8_t back[AT_INDEX_STATS_LEN];
    g_autoptr(GError) error = NULL;
    if (!at_index_stats_decode(data, len, &s, &error)) {
        g_assert_true(g_error_matches(error, AT_ERROR, AT_ERROR_INVALID) ||
                      g_error_matches(error, AT_ERROR, AT_ERROR_CORRUPT));
        return;
    }
    at_index_stats_encode(&s, back);
    g_assert_cmpmem(data + 8, 32, back + 8, 32);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const parts[])(const uint8_t *data, size_t len) = {place, pack, stats};
    if (size > 1)
        parts[data[0] % G_N_ELEMENTS(parts)](data + 1, size - 1);
    return 0;
}
