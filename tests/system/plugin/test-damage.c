/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind of damage that a vault can have, one at a time: behind nbdkit no wrong byte is ever
 * read, the log has one line for it, what is whole is served, and the writer heals it. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "lab.h"
#include "lib/at-test.h"

struct damage {
    const char *what;
    unsigned at;   /* in the record, or what the case says */
    bool harmless; /* the bytes can still be proved */
    void (*harm)(struct lab *lab, const struct damage *d, const struct lab_record *r);
};

/* Reads, checks what must hold for damage of @r, heals; gives the log. */
static void check_case(struct lab *lab, const struct damage *d, const struct lab_record *r)
{
    struct lab_reading reading;
    g_test_message("%s", d->what);
    lab_read(lab, &reading);
    g_assert_cmpuint(reading.refused[LAB_WHOLE], ==, 0);
    if (d->harmless) {
        g_assert_cmpuint(reading.refused[LAB_HIT], ==, 0);
        g_assert_cmpstr(reading.log, ==, "");
    } else {
        g_assert_cmpuint(reading.refused[LAB_HIT], >, 0);
        unsigned lines = lab_lines_on(reading.log, &r->record.digest);
        if (lines != 1)
            g_error("%s: %u lines of the log name it:\n%s", d->what, lines, reading.log);
    }
    g_free(reading.log);
    unsigned found = lab_heal(lab);
    if (d->harmless)
        g_assert_cmpuint(found, ==, 0);
}

static void run_cases(const struct damage *cases, unsigned n, uint8_t kind)
{
    if (!at_test_needs_program("nbdkit"))
        return;
    struct lab lab;
    lab_open(&lab);
    const struct lab_record *r = lab_record(&lab, kind, 0);
    for (unsigned i = 0; i < n; i++) {
        lab_renew(&lab);
        cases[i].harm(&lab, &cases[i], r);
        check_case(&lab, &cases[i], r);
    }
    lab_close(&lab);
}

/* ---- Fields of a record ---- */

static void flip_field(struct lab *lab, const struct damage *d, const struct lab_record *r)
{
    lab_flip(lab, r->offset + d->at);
}

static void flipped_chunk(void)
{
    static const struct damage cases[] = {
        {"magic", 0, false, flip_field},
        {"version", 4, false, flip_field},
        {"kind", 5, false, flip_field},
        {"codec", 6, false, flip_field},
        {"a reserved byte", 7, false, flip_field},
        {"plain length", 9, false, flip_field},
        {"stored length", 13, false, flip_field},
        {"key id", 16, false, flip_field},
        {"check of the payload", 20, false, flip_field},
        {"name", 30, false, flip_field},
        {"reserved bytes", 56, false, flip_field},
        {"check of the header", 60, false, flip_field},
        {"the first byte", 64, false, flip_field},
        {"a byte", 64 + 1000, false, flip_field},
    };
    run_cases(cases, G_N_ELEMENTS(cases), AT_KIND_CHUNK);
}

static void flipped_node(void)
{
    static const struct damage cases[] = {
        {"kind of a node", 5, false, flip_field},
        {"stored length of a node", 12, false, flip_field},
        {"name of a node", 24, false, flip_field},
        {"an entry of a node", 64 + 200, false, flip_field},
    };
    run_cases(cases, G_N_ELEMENTS(cases), AT_KIND_NODE);
}

static void flipped_disk(void)
{
    static const struct damage cases[] = {
        {"plain length of a disk", 8, false, flip_field},
        {"check of a disk's header", 63, false, flip_field},
        {"size of a disk", 64 + 8, false, flip_field},
        {"top node of a disk", 64 + 20, false, flip_field},
    };
    run_cases(cases, G_N_ELEMENTS(cases), AT_KIND_DISK);
}

/* ---- Forged records: every check is right ---- */

static void write_record(struct lab *lab, uint64_t offset, const struct at_record *record)
{
    uint8_t header[AT_RECORD_HEADER];
    at_record_encode(record, header);
    lab_write(lab, offset, header, sizeof header);
}

static void forge_kind(struct lab *lab, const struct damage *d, const struct lab_record *r)
{
    struct at_record forged = r->record;
    forged.kind = (uint8_t)d->at;
    write_record(lab, r->offset, &forged);
}

static void forge_codec(struct lab *lab, const struct damage *d, const struct lab_record *r)
{
    struct at_record forged = r->record;
    forged.codec = (uint8_t)d->at;
    write_record(lab, r->offset, &forged);
}

static void forge_plain(struct lab *lab, const struct damage *d, const struct lab_record *r)
{
    struct at_record forged = r->record;
    forged.codec = AT_CODEC_ZSTD;
    forged.plain = d->at;
    write_record(lab, r->offset, &forged);
}

static void forge_key(struct lab *lab, const struct damage *d, const struct lab_record *r)
{
    struct at_record forged = r->record;
    forged.key_id = d->at;
    write_record(lab, r->offset, &forged);
}

static void forge_check(struct lab *lab, const struct damage *d, const struct lab_record *r)
{
    struct at_record forged = r->record;
    forged.check ^= d->at;
    write_record(lab, r->offset, &forged);
}

/* A whole chunk with right checks under the name of another. */
static void forge_content(struct lab *lab, const struct damage *d, const struct lab_record *r)
{
    g_autofree uint8_t *other = g_malloc(r->record.stored);
    for (unsigned i = 0; i < r->record.stored; i++)
        other[i] = (uint8_t)(i * d->at);
    struct at_record forged = r->record;
    forged.check = at_check(other, forged.stored);
    write_record(lab, r->offset, &forged);
    lab_write(lab, r->offset + AT_RECORD_HEADER, other, forged.stored);
}

static void forged(void)
{
    static const struct damage cases[] = {
        {"a chunk that says it is a node", AT_KIND_NODE, false, forge_kind},
        {"a chunk that says it is a manifest", AT_KIND_BLOB, false, forge_kind},
        {"plain bytes that say they are compressed", AT_CODEC_ZSTD, false, forge_codec},
        {"a codec that nobody knows", 200, false, forge_codec},
        {"a plain length that is too large", 64 * AT_BLOCK, false, forge_plain},
        {"another key", 7, false, forge_key},
        {"another chunk under this name", 7, false, forge_content},
        {"a check that is wrong over bytes that are right", 1, true, forge_check},
    };
    run_cases(cases, G_N_ELEMENTS(cases), AT_KIND_CHUNK);
}

/* ---- Packs ---- */

static void flip_pack(struct lab *lab, const struct damage *d, const struct lab_record *r)
{
    lab_flip(lab, d->at);
}

static void zero_page(struct lab *lab, const struct damage *d, const struct lab_record *r)
{
    static const uint8_t zeros[4096];
    lab_write(lab, (r->offset + d->at) / 4096 * 4096, zeros, sizeof zeros);
}

static void cut_inside(struct lab *lab, const struct damage *d, const struct lab_record *r)
{
    lab_cut(lab, r->offset + d->at);
}

/* Its header is not what proves anything. */
static void pack_header(void)
{
    static const struct damage cases[] = {
        {"magic of a pack", 0, true, flip_pack},   {"version of a pack", 8, true, flip_pack},
        {"number of a pack", 12, true, flip_pack}, {"id of a pack", 16, true, flip_pack},
        {"zeros of a pack", 40, true, flip_pack},  {"check of a pack", 60, true, flip_pack},
    };
    run_cases(cases, G_N_ELEMENTS(cases), AT_KIND_CHUNK);
}

/* What lies behind the cut is refused, also of the other disk; what lies before is served. */
static void truncated(void)
{
    if (!at_test_needs_program("nbdkit"))
        return;
    static const struct damage cases[] = {
        {"inside the header of a record", 10, false, cut_inside},
        {"behind the header of a record", AT_RECORD_HEADER, false, cut_inside},
        {"inside a record", AT_RECORD_HEADER + 100, false, cut_inside},
    };
    struct lab lab;
    lab_open(&lab);
    const struct lab_record *last =
        &g_array_index(lab.records, struct lab_record, lab.of_whole + 20);
    const struct lab_record *first = lab_record(&lab, AT_KIND_CHUNK, 5);
    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        const struct damage *d = &cases[i / 2];
        struct lab_reading reading;
        g_test_message("cut %s", d->what);
        lab_renew(&lab);
        d->harm(&lab, d, i % 2 ? first : last);
        lab_read(&lab, &reading);
        g_assert_cmpuint(reading.refused[LAB_WHOLE], >, 0);
        g_assert_cmpuint(reading.refused[LAB_HIT] > 0, ==, i % 2);
        g_free(reading.log);
        g_assert_cmpuint(lab_heal(&lab), >, 0);
    }
    /* All of it: emptied, as gc leaves a pack before it removes it, and gone. */
    for (unsigned gone = 0; gone < 2; gone++) {
        struct lab_reading reading;
        lab_renew(&lab);
        if (gone)
            g_assert_cmpint(unlink(lab.pack), ==, 0);
        else
            lab_cut(&lab, 0);
        lab_read(&lab, &reading);
        g_assert_cmpuint(reading.refused[LAB_HIT], >, 0);
        g_assert_cmpuint(reading.refused[LAB_WHOLE], >, 0);
        g_free(reading.log);
        lab_heal(&lab);
    }
    lab_close(&lab);
}

static void zeroed(void)
{
    static const struct damage cases[] = {
        {"a page of zeros in a chunk", AT_RECORD_HEADER + 2048, false, zero_page},
        {"a page of zeros over the header of a chunk", 0, false, zero_page},
    };
    if (!at_test_needs_program("nbdkit"))
        return;
    struct lab lab;
    lab_open(&lab);
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        /* A large one, so that the page hits it. */
        const struct lab_record *r = lab_record(&lab, AT_KIND_CHUNK, 0);
        for (unsigned k = 0; k < lab.of_whole; k++) {
            const struct lab_record *x = &g_array_index(lab.records, struct lab_record, k);
            if (x->record.kind == AT_KIND_CHUNK && x->record.stored > r->record.stored)
                r = x;
        }
        lab_renew(&lab);
        cases[i].harm(&lab, &cases[i], r);
        struct lab_reading reading;
        lab_read(&lab, &reading);
        g_assert_cmpuint(reading.refused[LAB_HIT], >, 0);
        g_assert_cmpuint(reading.refused[LAB_WHOLE], ==, 0);
        g_assert_cmpuint(lab_lines_on(reading.log, &r->record.digest), ==, 1);
        g_free(reading.log);
        g_assert_cmpuint(lab_heal(&lab), >, 0);
    }
    lab_close(&lab);
}

/* Both are whole, each where the other should be. */
static void swapped(void)
{
    if (!at_test_needs_program("nbdkit"))
        return;
    struct lab lab;
    lab_open(&lab);
    lab_renew(&lab);
    const struct lab_record *a = lab_record(&lab, AT_KIND_CHUNK, 0), *b = NULL;
    for (unsigned i = 1; !b; i++) {
        b = lab_record(&lab, AT_KIND_CHUNK, i);
        if (b->record.stored != a->record.stored)
            b = NULL;
    }
    size_t len = AT_RECORD_HEADER + a->record.stored;
    g_autofree uint8_t *first = g_malloc(len), *second = g_malloc(len);
    at_autofd fd = open(lab.pack, O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(pread(fd, first, len, (off_t)a->offset), ==, (ssize_t)len);
    g_assert_cmpint(pread(fd, second, len, (off_t)b->offset), ==, (ssize_t)len);
    lab_write(&lab, a->offset, second, len);
    lab_write(&lab, b->offset, first, len);
    struct lab_reading reading;
    lab_read(&lab, &reading);
    g_assert_cmpuint(reading.refused[LAB_HIT], ==, 2);
    g_assert_cmpuint(reading.refused[LAB_WHOLE], ==, 0);
    g_assert_cmpuint(lab_lines_on(reading.log, &a->record.digest), ==, 1);
    g_assert_cmpuint(lab_lines_on(reading.log, &b->record.digest), ==, 1);
    g_free(reading.log);
    g_assert_cmpuint(lab_heal(&lab), ==, 2);
    lab_close(&lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/damage/a-chunk-with-any-field-flipped-is-refused-and-healed", flipped_chunk);
    g_test_add_func("/damage/a-node-with-any-field-flipped-is-refused-and-healed", flipped_node);
    g_test_add_func("/damage/a-disk-with-any-field-flipped-is-refused-and-healed", flipped_disk);
    g_test_add_func("/damage/a-forged-record-with-right-checks-is-refused-and-healed", forged);
    g_test_add_func("/damage/a-damaged-pack-header-hides-nothing", pack_header);
    g_test_add_func("/damage/behind-the-end-of-a-cut-pack-all-is-refused-and-healed", truncated);
    g_test_add_func("/damage/a-page-of-zeros-is-refused-and-healed", zeroed);
    g_test_add_func("/damage/two-records-in-each-other's-place-are-refused-and-healed", swapped);
    return g_test_run();
}
