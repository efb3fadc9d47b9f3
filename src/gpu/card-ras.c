/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of a card's memory as amdgpu counts them (Documentation/gpu/amdgpu/ras.rst):
 * ras/umc_err_count has a line for each kind, "ue: 0" (not corrected) and "ce: 1" (corrected);
 * ras/gpu_vram_bad_pages one for each page that had an error that could not be corrected,
 * "0x00000001 : 0x00001000 : R", where R is retired, P is to be retired, F could not be. */
#include <errno.h>
#include <string.h>

#include "gpu/attribute.h"
#include "gpu/card-driver-internal.h"

#define ERRORS "ras/umc_err_count"
#define PAGES "ras/gpu_vram_bad_pages"

static char *read_file(struct at_gpu_reading *r, const char *what, const char *name)
{
    if (!at_gpu_attr_exists(r->dir, name)) {
        at_gpu_reading_missing(r, what);
        return NULL;
    }
    char *text = at_gpu_reading_awake(r, what) ? at_gpu_attr_text(r->dir, name) : NULL;
    if (!text && !r->asleep)
        at_gpu_reading_failed(r, what, name, g_strerror(errno));
    return text;
}

/* The number behind "ue: " or "ce: ". */
static bool take_count(const char *line, const char *kind, uint64_t *count, bool *found)
{
    if (!g_str_has_prefix(line, kind))
        return true;
    *found = true;
    return at_gpu_number_parse(line + strlen(kind), 10, G_MAXINT64, count);
}

static void read_errors(struct at_gpu_reading *r)
{
    static const char what[] = "memory errors";
    g_autofree char *text = read_file(r, what, ERRORS);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    uint64_t corrected = 0, uncorrected = 0;
    bool has_corrected = false, has_uncorrected = false, good = text != NULL;
    for (unsigned i = 0; good && lines[i]; i++)
        good = take_count(lines[i], "ce: ", &corrected, &has_corrected) &&
               take_count(lines[i], "ue: ", &uncorrected, &has_uncorrected);
    if (!good || !has_corrected || !has_uncorrected) {
        if (text)
            at_gpu_reading_odd(r, what, ERRORS, text);
        return;
    }
    r->any = true;
    r->card->health.ecc_corrected = corrected;
    r->card->health.ecc_uncorrected = uncorrected;
    r->card->health.known |= AT_GPU_KNOWS_ECC;
}

/* The letter at the end of a line; 0: it is no such line. */
static char page_flag(const char *line)
{
    g_auto(GStrv) parts = g_strsplit(line, " : ", 4);
    uint64_t number;
    bool good = g_strv_length(parts) == 3 &&
                at_gpu_number_parse(parts[0], 16, UINT64_MAX, &number) &&
                at_gpu_number_parse(parts[1], 16, UINT64_MAX, &number) && strlen(parts[2]) == 1 &&
                strchr("RPF", *parts[2]);
    return good ? *parts[2] : '\0';
}

static void read_pages(struct at_gpu_reading *r)
{
    static const char what[] = "bad pages";
    g_autofree char *text = read_file(r, what, PAGES);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);
    unsigned retired = 0, pending = 0, failed = 0;
    for (unsigned i = 0; lines[i] && *lines[i]; i++) {
        char flag = page_flag(lines[i]);
        if (!flag) {
            at_gpu_reading_odd(r, what, PAGES, lines[i]);
            return;
        }
        retired += flag == 'R';
        pending += flag == 'P';
        failed += flag == 'F';
    }
    if (!text)
        return;
    r->any = true;
    r->card->health.rows_uncorrected = retired;
    r->card->health.rows_pending = pending > 0;
    r->card->health.rows_failed = failed > 0;
    r->card->health.known |= AT_GPU_KNOWS_ROWS;
}

void at_gpu_reading_ras(struct at_gpu_reading *r)
{
    read_errors(r);
    read_pages(r);
}
