/* SPDX-License-Identifier: Apache-2.0 */
/* Which codec a chunk gets: lanes when a sample of it looks like numbers, zstd for all else, none
 * when that gains next to nothing. */
#include "vault/codec.h"

#include <string.h>

#include "base/error.h"
#include "vault/planes.h"
#include "vault/survey.h"
#include "vault/zstd-context.h"

#define LEVEL 3
#define LEAST (16u << 10) /* shorter chunks are not worth a survey */
#define RANDOM_BITS 7.6   /* of 8: as good as random */
#define MANTISSA_BITS 6.5 /* a lane of mantissas has at least so much entropy */
#define SURE 0.97         /* lanes promise to be so much smaller than coding bytes alone */

static double lane_bits(const double *lane, unsigned width)
{
    double sum = 0;
    for (unsigned k = 0; k < width; k++)
        sum += lane[k] > RANDOM_BITS ? 8 : lane[k];
    return sum / width;
}

/* Bytes per number, 0 when these are none.  Mantissas look random; what has none is text, code or
 * tables, where zstd finds more. */
static unsigned looks_like_numbers(const struct at_survey *survey)
{
    double two = lane_bits(survey->lane[0], 2), four = lane_bits(survey->lane[1], 4);
    unsigned width = four < two * 0.99 ? 4 : 2;
    const double *lane = survey->lane[width == 4];
    double most = lane[0];
    for (unsigned k = 1; k + 1 < width; k++)
        most = MAX(most, lane[k]);
    return MIN(two, four) < survey->flat * SURE && most > MANTISSA_BITS ? width : 0;
}

size_t at_codec_pack(uint8_t kind, const uint8_t *plain, size_t len, uint8_t *out,
                     uint8_t *ret_codec)
{
    /* Less than 1/32 gained is not worth the work of every later read. */
    size_t cap = len - len / 32 - 1, n = 0;
    if (len < 64)
        return 0;
    if (kind == AT_KIND_CHUNK && len >= LEAST) {
        struct at_survey survey;
        at_survey(plain, len, &survey);
        unsigned width = looks_like_numbers(&survey);
        /* Where the same numbers come again, zstd may do better. */
        if (width && !at_survey_repeats(plain, len)) {
            *ret_codec = AT_CODEC_PLANES;
            n = at_planes_pack(plain, len, width, &survey, out, cap);
        }
    }
    if (n == 0) {
        *ret_codec = AT_CODEC_ZSTD;
        n = ZSTD_compressCCtx(at_zstd_compressor(), out, cap, plain, len, LEVEL);
    }
    return ZSTD_isError(n) ? 0 : n;
}

bool at_codec_unpack(uint8_t codec, const uint8_t *stored, size_t stored_len, uint8_t *plain,
                     size_t plain_len, GError **error)
{
    bool ok;
    switch (codec) {
    case AT_CODEC_NONE:
        if (stored_len != plain_len)
            return at_error(error, AT_ERROR_CORRUPT, "stored length differs from plain length");
        memcpy(plain, stored, plain_len);
        return true;
    case AT_CODEC_ZSTD: {
        size_t n =
            ZSTD_decompressDCtx(at_zstd_decompressor(), plain, plain_len, stored, stored_len);
        ok = !ZSTD_isError(n) && n == plain_len;
        break;
    }
    case AT_CODEC_PLANES:
        ok = at_planes_unpack(stored, stored_len, plain, plain_len);
        break;
    default:
        return at_error(error, AT_ERROR_INVALID, "codec %u is newer than this Atoll", codec);
    }
    return ok || at_error(error, AT_ERROR_CORRUPT, "does not decompress");
}
