/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of docs/vault-format.md: its test vectors, and headers that are not what they say. */
#include <string.h>

#include "disk.h"
#include "vault/codec.h"
#include "vault/hash-many.h"
#include "vault/hash.h"
#include "vault/node.h"

/* Every vector of the document's section 8, by what it describes. */
static void check_vector(const char *what, const struct at_digest *digest)
{
    g_autofree char *doc = NULL;
    g_assert_true(g_file_get_contents(g_getenv("ATOLL_VAULT_FORMAT"), &doc, NULL, NULL));
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(digest, hex);
    g_autofree char *row = g_strdup_printf("| %s | `%s` |", what, hex);
    if (!strstr(doc, row))
        g_error("docs/vault-format.md does not say: %s", row);
}

static void vectors(void)
{
    g_autoptr(GError) error = NULL;
    static uint8_t blocks[3 * AT_BLOCK];
    for (unsigned i = 0; i < 3; i++)
        memset(blocks + i * AT_BLOCK, 'a' + (int)i, AT_BLOCK);
    struct at_digest d;
    at_hash_chunk(blocks, AT_BLOCK, &d);
    check_vector("chunk: one block of `a`", &d);
    at_hash_chunk(blocks, 2 * AT_BLOCK, &d);
    check_vector("chunk: blocks of `a`, `b`", &d);
    at_hash_chunk(blocks, 3 * AT_BLOCK, &d);
    check_vector("chunk: blocks of `a`, `b`, `c`", &d);

    struct fixture f;
    fixture_open(&f);
    struct at_digest root;
    ingest(&f, blocks, sizeof blocks, &root, NULL);
    check_vector("disk: of 12288 bytes with that node", &root);
    uint8_t two[18432];
    memcpy(two, blocks, 2 * AT_BLOCK);
    memset(two + 2 * AT_BLOCK, 0, AT_BLOCK);
    memcpy(two + 3 * AT_BLOCK, blocks + 2 * AT_BLOCK, AT_BLOCK);
    memset(two + 4 * AT_BLOCK, 'd', AT_BLOCK / 2);
    ingest(&f, two, sizeof two, &root, NULL);
    check_vector("disk: blocks of `a`, `b`, zeros, `c`, and half a block of `d` (two chunks and a "
                 "hole)",
                 &root);
    g_autofree uint8_t *many = g_malloc0(1000 * AT_BLOCK);
    for (unsigned i = 0; i < 1000; i += 2)
        memset(many + i * AT_BLOCK, (int)(i / 2 % 255 + 1), AT_BLOCK);
    ingest(&f, many, 1000 * AT_BLOCK, &root, NULL);
    check_vector("disk: 1000 blocks, every even block i all bytes i/2 mod 255 + 1, the others "
                 "zeros (ten nodes)",
                 &root);
    struct at_vault_session *session = at_vault_session_begin(f.vault, &error);
    struct at_tree_writer *w = at_tree_writer_new(session, NULL, UINT64_C(1) << 40, &error);
    g_assert_true(at_tree_writer_finish(w, &root, NULL, &error));
    at_tree_writer_free(w);
    check_vector("disk: 1 TiB of zeros", &root);
    g_assert_true(at_vault_blob_put(session, "{}", 2, &d, &error));
    check_vector("blob: `{}`", &d);
    static const char manifest[] = "{\"disks\":[],\"format\":\"atoll-manifest\",\"version\":1}";
    g_assert_true(at_vault_blob_put(session, manifest, strlen(manifest), &d, &error));
    g_autofree char *what = g_strdup_printf("manifest: `%s`", manifest);
    check_vector(what, &d);
    g_assert_false(at_vault_blob_put(session, "\x02x", 2, &d, &error));
    at_vault_session_end(session);
    fixture_close(&f);
}

static void records(void)
{
    struct at_record r = {.kind = AT_KIND_CHUNK, .plain = 8192, .stored = 100, .codec = 1}, out;
    uint8_t raw[AT_RECORD_HEADER];
    at_record_encode(&r, raw);
    g_assert_true(at_record_decode(raw, &out));
    for (unsigned bit = 0; bit < AT_RECORD_HEADER * 8; bit++) {
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
        g_assert_false(at_record_decode(raw, &out));
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    /* Sizes over the limit, with a check that is right. */
    static const struct at_record wrong[] = {
        {.kind = AT_KIND_CHUNK, .plain = AT_CHUNK_MAX + AT_BLOCK, .stored = 1, .codec = 1},
        {.kind = AT_KIND_CHUNK, .plain = 4097, .stored = 1, .codec = 1},
        {.kind = AT_KIND_CHUNK, .plain = 4096, .stored = 4097, .codec = 1},
        {.kind = AT_KIND_CHUNK, .plain = 4096, .stored = 1, .codec = 0},
        {.kind = AT_KIND_NODE, .plain = AT_NODE_MAX + 1, .stored = 1, .codec = 1},
        {.kind = AT_KIND_BLOB, .plain = AT_BLOB_MAX + 1, .stored = 1, .codec = 1},
        {.kind = AT_KIND_BLOB, .plain = 0, .stored = 0},
        {.kind = 9, .plain = 4096, .stored = 1, .codec = 1},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        at_record_encode(&wrong[i], raw);
        g_assert_false(at_record_decode(raw, &out));
    }
}

static void nodes(void)
{
    struct at_entry e[3] = {{0, 4096}, {8192, 65536}, {73728, 4096}};
    uint8_t raw[AT_NODE_MAX];
    size_t len = at_node_encode(raw, 0, e, 3);
    struct at_entry parent = {0, 77824};
    g_assert_true(at_node_valid(raw, len, 0, NULL, NULL));
    g_assert_true(at_node_valid(raw, len, 0, &parent, NULL));
    g_assert_false(at_node_valid(raw, len, 1, NULL, NULL));
    g_assert_false(at_node_valid(raw, len - 1, 0, NULL, NULL));
    parent.len++;
    g_assert_false(at_node_valid(raw, len, 0, &parent, NULL));
    g_assert_cmpuint(at_node_find(raw, 0), ==, 0);
    g_assert_cmpuint(at_node_find(raw, 4096), ==, 1);
    g_assert_cmpuint(at_node_find(raw, 73728), ==, 2);
    g_assert_cmpuint(at_node_find(raw, 77824), ==, 3);
    static const struct at_entry wrong[] = {
        {4096, 8192},              /* overlaps the next */
        {1, 4096},                 /* not at a block */
        {0, 0},                    /* empty */
        {0, AT_CHUNK_MAX + 4096},  /* too long for a chunk */
        {UINT64_MAX - 4095, 4096}, /* wraps around */
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        struct at_entry bad[2] = {wrong[i], {8192, 4096}};
        len = at_node_encode(raw, 0, bad, 2);
        g_assert_false(at_node_valid(raw, len, 0, NULL, NULL));
    }
    struct at_disk disk;
    uint8_t bytes[AT_DISK_LEN];
    at_disk_encode(&(struct at_disk){.size = 5, .height = 2}, bytes);
    g_assert_true(at_disk_decode(bytes, sizeof bytes, &disk, NULL));
    bytes[2] = AT_NODE_LEVELS + 1;
    g_assert_false(at_disk_decode(bytes, sizeof bytes, &disk, NULL));
}

static void codecs(void)
{
    GRand *r = g_rand_new_with_seed(3);
    static uint8_t plain[65536], stored[65536], back[65536];
    for (int i = 0; i < 200; i++) {
        for (size_t k = 0; k < sizeof plain; k++)
            plain[k] = (uint8_t)(i % 2 ? g_rand_int(r) : g_rand_int(r) % 3);
        uint8_t codec = 77;
        size_t n = at_codec_pack(AT_KIND_CHUNK, plain, sizeof plain, stored, &codec);
        if (i % 2) {
            g_assert_cmpuint(n, ==, 0);
            continue;
        }
        g_assert_cmpuint(n, <, sizeof plain / 2);
        g_assert_true(at_codec_unpack(codec, stored, n, back, sizeof back, NULL));
        g_assert_true(memcmp(plain, back, sizeof plain) == 0);
        g_assert_false(at_codec_unpack(codec, stored, n - 1, back, sizeof back, NULL));
        g_assert_false(at_codec_unpack(codec, stored, n, back, sizeof back - 1, NULL));
        g_assert_false(at_codec_unpack(200, stored, n, back, sizeof back, NULL));
    }
    g_rand_free(r);
}

/* Numbers as trained weights have them: normal, with some that are far off. */
static float weight(GRand *r)
{
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += g_rand_double(r);
    return (float)(0.02 * (sum - 6) * (g_rand_int_range(r, 0, 500) ? 1 : g_rand_double(r) * 1e30));
}

static void make_numbers(GRand *r, uint8_t *out, size_t len, unsigned width)
{
    for (size_t i = 0; i + width <= len; i += width) {
        float f = g_rand_int_range(r, 0, 1000) ? weight(r) : 0;
        uint32_t v;
        memcpy(&v, &f, sizeof v);
        v = width == 2 ? v >> 16 : v;
        memcpy(out + i, &v, width);
    }
}

static void lanes(void)
{
    GRand *r = g_rand_new_with_seed(5);
    static uint8_t plain[AT_CHUNK_MAX], stored[AT_CHUNK_MAX], back[AT_CHUNK_MAX];
    for (unsigned i = 0; i < 24; i++) {
        unsigned width = i % 2 ? 4 : 2;
        size_t len = (4 + (size_t)g_rand_int_range(r, 0, 61)) * AT_BLOCK;
        uint8_t codec = 77;
        make_numbers(r, plain, len, width);
        size_t n = at_codec_pack(AT_KIND_CHUNK, plain, len, stored, &codec);
        g_assert_cmpuint(codec, ==, AT_CODEC_PLANES);
        g_assert_cmpuint(stored[0], ==, width);
        g_assert_cmpuint(n * 100, <, len * (width == 2 ? 68 : 85));
        g_assert_true(at_codec_unpack(codec, stored, n, back, len, NULL));
        g_assert_true(memcmp(plain, back, len) == 0);
        /* Cut or with another length it is refused; flipped it may give other bytes, and no more.
         */
        g_assert_false(at_codec_unpack(codec, stored, n - 1, back, len, NULL));
        g_assert_false(at_codec_unpack(codec, stored, n, back, len - AT_BLOCK, NULL));
        for (unsigned k = 0; k < 64; k++) {
            unsigned bit = (unsigned)g_rand_int_range(r, 0, k < 32 ? 24 * 8 : (int)n * 8);
            stored[bit / 8] ^= (uint8_t)(1u << bit % 8);
            at_codec_unpack(codec, stored, n, back, len, NULL);
            stored[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    g_rand_free(r);
}

/* The same numbers again and again are zstd's, however much like numbers they look. */
static void repeats(void)
{
    GRand *r = g_rand_new_with_seed(6);
    static uint8_t plain[65536], stored[65536];
    uint8_t codec;
    make_numbers(r, plain, 16384, 2);
    for (unsigned i = 1; i < 4; i++)
        memcpy(plain + 16384 * i, plain, 16384);
    size_t n = at_codec_pack(AT_KIND_CHUNK, plain, sizeof plain, stored, &codec);
    g_assert_cmpuint(codec, ==, AT_CODEC_ZSTD);
    g_assert_cmpuint(n, <, sizeof plain / 4);
    g_rand_free(r);
}

/* Hashing many blocks side by side gives what hashing one after another gives, for rows of any
 * length and blocks anywhere. */
static void many(void)
{
    GRand *r = g_rand_new_with_seed(9);
    static uint8_t bytes[100 * AT_BLOCK];
    const uint8_t *blocks[80];
    struct at_digest names[80], one;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)g_rand_int(r);
    for (size_t n = 0; n <= G_N_ELEMENTS(blocks); n++) {
        for (size_t i = 0; i < n; i++)
            blocks[i] = bytes + g_rand_int_range(r, 0, sizeof bytes - AT_BLOCK);
        memset(names, 0, sizeof names);
        at_hash_blocks(blocks, n, names);
        for (size_t i = 0; i < n; i++) {
            at_hash_block(blocks[i], &one);
            g_assert_true(at_digest_equal(&names[i], &one));
        }
    }
    g_rand_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/format/names-are-those-of-the-document", vectors);
    g_test_add_func("/vault/format/a-record-header-with-any-bit-flipped-is-none", records);
    g_test_add_func("/vault/format/malformed-nodes-and-disks-are-refused", nodes);
    g_test_add_func("/vault/format/codecs-give-back-what-they-got-or-nothing", codecs);
    g_test_add_func("/vault/format/many-blocks-have-the-names-that-each-has-alone", many);
    g_test_add_func("/vault/format/numbers-come-back-from-their-lanes-or-not-at-all", lanes);
    g_test_add_func("/vault/format/numbers-that-come-again-are-left-to-zstd", repeats);
    return g_test_run();
}
