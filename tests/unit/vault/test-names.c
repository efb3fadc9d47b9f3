/* SPDX-License-Identifier: Apache-2.0 */
/* A second opinion on names: data/examples/vault-names computes them from exported bytes with
 * openssl, xxhsum and coreutils, and must come to what the vault says, node for node. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "disk.h"
#include "lib/at-test.h"
#include "vault/hash.h"
#include "vault/tree-internal.h"

static bool can_run(void)
{
    return at_test_needs_program("openssl") && at_test_needs_program("xxhsum");
}

/* What the script prints, without the newline at the end. */
static char *names(const char *what, const char *path)
{
    const char *argv[] = {g_getenv("ATOLL_VAULT_NAMES"), what, path, NULL};
    char *out = NULL;
    if (at_test_run(argv, 60000, &out) != 0)
        g_error("%s", out);
    return g_strchomp(out);
}

static void add_line(GPtrArray *lines, const char *what, uint64_t offset, uint64_t len,
                     const struct at_digest *name)
{
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(name, hex);
    g_ptr_array_add(lines, g_strdup_printf("%s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %s",
                                           what, offset, len, hex));
}

static int by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Every chunk, node and the disk as the vault has them, sorted. */
static GPtrArray *list_tree(struct at_vault *vault, const struct at_digest *root)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
    struct at_tree *tree = at_tree_open(vault, root, &error);
    g_assert_no_error(error);
    add_line(lines, "disk", 0, at_tree_size(tree), root);
    if (tree->node) {
        struct at_entry first, last;
        at_node_entry(tree->node->data, 0, &first);
        at_node_entry(tree->node->data, at_node_count(tree->node->data) - 1, &last);
        add_line(lines, "node", first.offset, at_entry_end(&last) - first.offset, &tree->disk.top);
    }
    struct at_cursor cursor;
    at_cursor_init(&cursor, tree);
    while (!at_cursor_at_end(&cursor)) {
        add_line(lines, cursor.level ? "node" : "chunk", cursor.item.offset, cursor.item.len,
                 &cursor.item.digest);
        if (cursor.level == 0)
            at_cursor_skip(&cursor);
        else
            g_assert_true(at_test_ok(at_cursor_descend(&cursor, &error), &error));
    }
    at_cursor_clear(&cursor);
    at_tree_close(tree);
    g_ptr_array_sort(lines, by_text);
    return lines;
}

/* The lines of the script, sorted. */
static GPtrArray *split(const char *text)
{
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) all = g_strsplit(text, "\n", -1);
    for (char **line = all; *line; line++)
        g_ptr_array_add(lines, g_strdup(*line));
    g_ptr_array_sort(lines, by_text);
    return lines;
}

static unsigned count_kind(const GPtrArray *lines, const char *kind)
{
    unsigned n = 0;
    for (unsigned i = 0; i < lines->len; i++)
        n += g_str_has_prefix(lines->pdata[i], kind);
    return n;
}

static const char *export_disk(struct at_vault *vault, const struct at_digest *root)
{
    g_autoptr(GError) error = NULL;
    const char *path = at_test_path(at_test_dir(), "disk.raw");
    struct at_tree *tree = at_tree_open(vault, root, &error);
    at_autofd fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    g_assert_cmpint(ftruncate(fd, (off_t)at_tree_size(tree)), ==, 0);
    g_assert_true(at_test_ok(at_tree_export_fd(tree, fd, NULL, NULL, NULL, &error), &error));
    at_tree_close(tree);
    return path;
}

/* Puts @disk, exports it, and compares; gives how many nodes it has. */
static unsigned compare(struct fixture *f, const uint8_t *disk, size_t size)
{
    struct at_digest root;
    ingest(f, disk, size, &root, NULL);
    const char *path = export_disk(f->vault, &root);
    g_autofree char *text = names("tree", path);
    g_autoptr(GPtrArray) theirs = split(text);
    g_autoptr(GPtrArray) ours = list_tree(f->vault, &root);
    g_assert_cmpuint(theirs->len, ==, ours->len);
    for (unsigned i = 0; i < ours->len; i++)
        g_assert_cmpstr(theirs->pdata[i], ==, ours->pdata[i]);
    return count_kind(ours, "node");
}

static void disks(void)
{
    if (!can_run())
        return;
    struct fixture f;
    fixture_open(&f);
    GRand *r = g_rand_new_with_seed(12);
    static const size_t sizes[] = {0, 1, 4096, 700001};
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree uint8_t *disk = disk_random(r, sizes[i]);
        compare(&f, disk, sizes[i]);
    }
    /* So many chunks that there are several nodes, and one above them. */
    size_t size = 160 * AT_BLOCK;
    g_autofree uint8_t *islands = g_malloc0(size);
    for (size_t at = 0; at < size; at += 2 * AT_BLOCK)
        for (size_t k = 0; k < AT_BLOCK; k++)
            islands[at + k] = (uint8_t)g_rand_int(r);
    g_assert_cmpuint(compare(&f, islands, size), >, 2);
    g_rand_free(r);
    fixture_close(&f);
}

static void blobs_and_chunks(void)
{
    if (!can_run())
        return;
    g_autoptr(GError) error = NULL;
    static const char manifest[] = "{\"disks\":[],\"format\":\"atoll-manifest\",\"version\":1}";
    const char *dir = at_test_dir();
    struct fixture f;
    fixture_open(&f);
    struct at_digest digest;
    struct at_vault_session *session = at_vault_session_begin(f.vault, &error);
    g_assert_true(at_vault_blob_put(session, manifest, strlen(manifest), &digest, &error));
    at_vault_session_end(session);
    fixture_close(&f);
    g_autofree char *ours = at_digest_dup_hex(&digest);
    g_autofree char *theirs = names("manifest", at_test_file(dir, "manifest", manifest));
    g_assert_cmpstr(theirs, ==, ours);

    /* 1 to 7 blocks: every way in which a tree of that size can be uneven. */
    GRand *r = g_rand_new_with_seed(13);
    for (unsigned n = 1; n <= 7; n++) {
        uint8_t blocks[7 * AT_BLOCK];
        for (size_t k = 0; k < n * AT_BLOCK; k++)
            blocks[k] = (uint8_t)g_rand_int(r);
        at_hash_chunk(blocks, n * AT_BLOCK, &digest);
        g_autofree char *name = at_digest_dup_hex(&digest);
        g_autofree char *said =
            names("chunk", at_test_file_bytes(dir, "chunk", blocks, n * AT_BLOCK));
        g_assert_cmpstr(said, ==, name);
    }
    g_rand_free(r);
}

static void refuses(void)
{
    if (!can_run())
        return;
    const char *dir = at_test_dir();
    const char *script = g_getenv("ATOLL_VAULT_NAMES");
    const char *odd[] = {script, "chunk", at_test_file(dir, "odd", "not a block"), NULL};
    const char *absent[] = {script, "disk", at_test_path(dir, "absent"), NULL};
    const char *what[] = {script, "root", odd[2], NULL};
    g_assert_cmpint(at_test_run(odd, 10000, NULL), ==, 2);
    g_assert_cmpint(at_test_run(absent, 10000, NULL), ==, 2);
    g_assert_cmpint(at_test_run(what, 10000, NULL), ==, 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/names/of-a-disk-and-all-its-parts-come-from-openssl-alone", disks);
    g_test_add_func("/vault/names/of-manifests-and-chunks-come-from-openssl-alone",
                    blobs_and_chunks);
    g_test_add_func("/vault/names/the-script-refuses-what-has-no-name", refuses);
    return g_test_run();
}
