/* SPDX-License-Identifier: Apache-2.0 */
/* An index that is not true: whatever its rows say, a reader gets the right bytes or none, and the
 * writer heals it. */
#include <string.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "lab.h"
#include "lib/at-test.h"

struct wrong {
    const char *what;
    void (*change)(struct lab *lab, const struct at_digest *digest, struct at_place place);
    bool harmless;
    const char *line; /* in the log in place of the name; NULL: the name */
};

static void other_offset(struct lab *lab, const struct at_digest *digest, struct at_place place)
{
    place.offset = lab_record(lab, AT_KIND_CHUNK, 3)->offset;
    lab_place(lab, digest, &place);
}

static void inside_a_record(struct lab *lab, const struct at_digest *digest, struct at_place place)
{
    place.offset += 8;
    lab_place(lab, digest, &place);
}

static void behind_the_end(struct lab *lab, const struct at_digest *digest, struct at_place place)
{
    place.offset = UINT64_C(1) << 50;
    lab_place(lab, digest, &place);
}

static void beyond_numbers(struct lab *lab, const struct at_digest *digest, struct at_place place)
{
    place.offset = UINT64_MAX - 7;
    lab_place(lab, digest, &place);
}

static void other_pack(struct lab *lab, const struct at_digest *digest, struct at_place place)
{
    place.pack = 99;
    lab_place(lab, digest, &place);
}

static void other_stored(struct lab *lab, const struct at_digest *digest, struct at_place place)
{
    place.stored -= 8;
    lab_place(lab, digest, &place);
}

static void other_plain(struct lab *lab, const struct at_digest *digest, struct at_place place)
{
    place.plain += AT_BLOCK;
    lab_place(lab, digest, &place);
}

static void other_codec(struct lab *lab, const struct at_digest *digest, struct at_place place)
{
    place.codec = AT_CODEC_ZSTD;
    lab_place(lab, digest, &place);
}

static void other_kind(struct lab *lab, const struct at_digest *digest, struct at_place place)
{
    place.kind = AT_KIND_BLOB;
    lab_place(lab, digest, &place);
}

static void no_row(struct lab *lab, const struct at_digest *digest, struct at_place place)
{
    lab_row(lab, "object", digest, AT_DIGEST_LEN, NULL, 0);
}

static void short_row(struct lab *lab, const struct at_digest *digest, struct at_place place)
{
    lab_row(lab, "object", digest, AT_DIGEST_LEN, "twenty-three bytes long", 23);
}

static void rows(void)
{
    static const struct wrong cases[] = {
        {"the place of another chunk", other_offset, false, NULL},
        {"the middle of a record", inside_a_record, false, NULL},
        {"a place behind the end", behind_the_end, false, NULL},
        {"a place beyond all numbers", beyond_numbers, false, "malformed row"},
        {"a pack that is not there", other_pack, false, NULL},
        {"another stored length", other_stored, false, NULL},
        {"another plain length", other_plain, true, NULL},
        {"another codec", other_codec, true, NULL},
        {"another kind", other_kind, false, NULL},
        {"no row", no_row, false, NULL},
        {"half a row", short_row, false, "malformed row"},
    };
    if (!at_test_needs_program("nbdkit"))
        return;
    struct lab lab;
    lab_open(&lab);
    const struct lab_record *r = lab_record(&lab, AT_KIND_CHUNK, 0);
    struct at_place place = {.pack = 1,
                             .stored = r->record.stored,
                             .plain = r->record.plain,
                             .kind = r->record.kind,
                             .codec = r->record.codec,
                             .offset = r->offset};
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        const struct wrong *w = &cases[i];
        struct lab_reading reading;
        g_test_message("%s", w->what);
        lab_renew(&lab);
        w->change(&lab, &r->record.digest, place);
        lab_read(&lab, &reading);
        g_assert_cmpuint(reading.refused[LAB_WHOLE], ==, 0);
        g_assert_cmpuint(reading.refused[LAB_HIT], ==, w->harmless ? 0 : 1);
        unsigned lines = w->line ? lab_lines(reading.log, w->line)
                                 : lab_lines_on(reading.log, &r->record.digest);
        if (lines != (w->harmless ? 0 : 1))
            g_error("%s: %u lines of the log name it:\n%s", w->what, lines, reading.log);
        g_free(reading.log);
        g_assert_cmpuint(lab_heal(&lab), ==, w->harmless ? 0 : 1);
    }
    lab_close(&lab);
}

/* What only the writer looks at: a reader reads on, and the next writer builds the index again. */
static void tables(void)
{
    if (!at_test_needs_program("nbdkit"))
        return;
    struct lab lab;
    lab_open(&lab);
    const uint8_t pack[4] = {0, 0, 0, 1}, none[4] = {0, 0, 0, 9};
    uint8_t meta[32] = {0};
    at_put_le64(meta + 16, UINT64_C(1) << 40); /* longer than the file is */
    for (unsigned i = 0; i < 4; i++) {
        struct lab_reading reading;
        lab_renew(&lab);
        if (i == 0)
            lab_row(&lab, "meta", "stats", 5, "short", 5);
        else if (i == 1)
            lab_row(&lab, "pack", pack, sizeof pack, meta, sizeof meta);
        else if (i == 2)
            lab_row(&lab, "pack", none, sizeof none, meta, sizeof meta);
        else
            lab_row(&lab, "pack", pack, sizeof pack, NULL, 0);
        lab_read(&lab, &reading);
        g_assert_cmpuint(reading.refused[LAB_HIT] + reading.refused[LAB_WHOLE], ==, 0);
        g_assert_cmpstr(reading.log, ==, "");
        g_free(reading.log);
        g_assert_cmpuint(lab_heal(&lab), ==, 0);
    }
    lab_close(&lab);
}

static void copy(const char *from, const char *to)
{
    g_assert_true(at_remove_tree(to, NULL));
    const char *argv[] = {"cp", "-a", from, to, NULL};
    g_assert_cmpint(at_test_run(argv, 20000, NULL), ==, 0);
}

/* An index that was whole once: from before the second disk was put, and from before gc has moved
 * the first. */
static void older(void)
{
    if (!at_test_needs_program("nbdkit"))
        return;
    g_autoptr(GError) error = NULL;
    struct lab lab;
    lab_open(&lab);
    const char *old = at_test_path(lab.dir, "old-index");
    struct at_gc_report report;
    struct lab_reading reading;

    lab_renew(&lab);
    struct at_vault *vault = at_vault_open(lab.vault_dir, AT_VAULT_WRITE, server_group(), &error);
    g_assert_no_error(error);
    at_vault_root_remove(vault, "image/whole", NULL);
    g_assert_true(at_test_ok(at_vault_gc(vault, NULL, NULL, NULL, &report, &error), &error));
    g_assert_cmpuint(report.bytes_freed, >, 0);
    at_vault_close(vault);
    copy(lab.index, old);
    g_assert_cmpuint(lab_heal(&lab), ==, 0); /* puts the second disk */
    g_assert_true(at_remove_tree(lab.index, NULL));
    copy(old, lab.index);
    lab_read(&lab, &reading);
    g_assert_cmpuint(reading.refused[LAB_HIT], ==, 0);
    g_assert_cmpuint(reading.refused[LAB_WHOLE], >, 0);
    g_free(reading.log);
    g_assert_cmpuint(lab_heal(&lab), ==, 0);

    lab_renew(&lab);
    copy(lab.index, old);
    vault = at_vault_open(lab.vault_dir, AT_VAULT_WRITE, server_group(), &error);
    g_assert_no_error(error);
    at_vault_root_remove(vault, "image/whole", NULL);
    g_assert_true(at_test_ok(at_vault_gc(vault, NULL, NULL, NULL, &report, &error), &error));
    at_vault_close(vault);
    copy(old, lab.index);
    lab_read(&lab, &reading);
    g_assert_cmpuint(reading.refused[LAB_HIT], >, 0);
    g_assert_cmpuint(reading.refused[LAB_WHOLE], >, 0);
    g_free(reading.log);
    g_assert_cmpuint(lab_heal(&lab), ==, 0);
    lab_close(&lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/damage/a-row-of-the-index-that-points-elsewhere-is-refused-and-healed", rows);
    g_test_add_func("/damage/what-only-the-writer-reads-of-the-index-is-built-again", tables);
    g_test_add_func("/damage/an-older-index-never-gives-wrong-bytes", older);
    return g_test_run();
}
