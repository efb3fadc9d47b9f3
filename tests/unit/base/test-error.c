/* SPDX-License-Identifier: Apache-2.0 */
/* Error codes and digests and clocks: the small values that records are made of. */
#include <errno.h>
#include <gio/gio.h>
#include <glib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/error.h"

static void every_code_has_a_name_that_leads_back(void)
{
    for (int code = AT_ERROR_NOT_FOUND; code <= AT_ERROR_IO; code++)
        g_assert_cmpint(at_error_code_from_name(at_error_code_name(code)), ==, code);
    g_assert_cmpstr(at_error_code_name(AT_ERROR_NO_SPACE), ==, "no_space");
    g_assert_cmpstr(at_error_code_name(9999), ==, "io");
    g_assert_cmpstr(at_error_code_name(-1), ==, "io");
    g_assert_cmpint(at_error_code_from_name("nonsense"), ==, -1);
    g_assert_cmpint(at_error_code_from_name(NULL), ==, -1);
}

static void errno_becomes_a_code_and_a_sentence(void)
{
    static const struct {
        int err, code;
    } cases[] = {
        {ENOSPC, AT_ERROR_NO_SPACE}, {EDQUOT, AT_ERROR_NO_SPACE}, {ENOENT, AT_ERROR_NOT_FOUND},
        {EACCES, AT_ERROR_DENIED},   {EPERM, AT_ERROR_DENIED},    {ETIMEDOUT, AT_ERROR_TIMEOUT},
        {EIO, AT_ERROR_IO}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(at_error_errno(&error, cases[i].err, "open %s", "/x"));
        g_assert_error(error, AT_ERROR, cases[i].code);
        g_autofree char *expected = g_strdup_printf("open /x: %s", g_strerror(cases[i].err));
        g_assert_cmpstr(error->message, ==, expected);
    }
}

static void an_error_that_nobody_wants_is_dropped(void)
{
    g_assert_false(at_error(NULL, AT_ERROR_INVALID, "%d", 1));
    g_assert_false(at_error_errno(NULL, EIO, "%d", 1));
}

static void errors_of_other_domains_are_classified(void)
{
    static const struct {
        int io, code;
    } cases[] = {
        {G_IO_ERROR_NOT_FOUND, AT_ERROR_NOT_FOUND},      {G_IO_ERROR_NO_SPACE, AT_ERROR_NO_SPACE},
        {G_IO_ERROR_CANCELLED, AT_ERROR_CANCELLED},      {G_IO_ERROR_TIMED_OUT, AT_ERROR_TIMEOUT},
        {G_IO_ERROR_PERMISSION_DENIED, AT_ERROR_DENIED}, {G_IO_ERROR_BROKEN_PIPE, AT_ERROR_IO}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = g_error_new_literal(G_IO_ERROR, cases[i].io, "x");
        g_assert_cmpint(at_error_classify(error), ==, cases[i].code);
    }
    g_autoptr(GError) own = g_error_new_literal(AT_ERROR, AT_ERROR_CORRUPT, "x");
    g_assert_cmpint(at_error_classify(own), ==, AT_ERROR_CORRUPT);
    g_autoptr(GError) other = g_error_new_literal(G_MARKUP_ERROR, 0, "x");
    g_assert_cmpint(at_error_classify(other), ==, AT_ERROR_IO);
}

static void a_digest_is_sha256_in_lower_case_hex(void)
{
    struct at_digest digest, back;
    g_autoptr(GError) error = NULL;
    at_digest_of("abc", 3, &digest);
    g_autofree char *hex = at_digest_dup_hex(&digest);
    g_assert_cmpstr(hex, ==, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    g_assert_true(at_digest_from_hex(hex, &back, &error));
    g_assert_no_error(error);
    g_assert_true(at_digest_equal(&digest, &back));
    g_assert_false(at_digest_is_zero(&digest));
    g_assert_true(at_digest_is_zero(&(struct at_digest){{0}}));
}

static void anything_but_64_lower_case_hex_digits_is_refused(void)
{
    static const char good[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const char *bad[] = {NULL, "", "ba78", "zz"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        struct at_digest digest = {{7}};
        g_assert_false(at_digest_from_hex(bad[i], &digest, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
        g_assert_cmpint(digest.bytes[0], ==, 7);
    }
    for (size_t i = 0; i < strlen(good); i++) { /* each place: upper case, a letter, a space */
        for (const char *c = "Ag /:`"; *c; c++) {
            g_autoptr(GError) error = NULL;
            struct at_digest digest;
            g_autofree char *text = g_strdup(good);
            text[i] = *c;
            g_assert_false(at_digest_from_hex(text, &digest, &error));
            g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
        }
    }
    g_autofree char *longer = g_strconcat(good, "0", NULL);
    g_assert_false(at_digest_from_hex(longer, &(struct at_digest){{0}}, NULL));
}

static void deadlines_count_down_to_zero_and_stay_there(void)
{
    int64_t far = at_deadline_ms(3600 * 1000);
    g_assert_cmpint(at_deadline_left_ms(far), >, 3500 * 1000);
    g_assert_cmpint(at_deadline_left_ms(far), <=, 3600 * 1000);
    g_assert_cmpint(at_deadline_left_ms(at_clock_us() - 5000000), ==, 0);
    g_assert_cmpint(at_deadline_left_ms(at_deadline_ms(INT64_C(1) << 45)), ==, G_MAXINT);
}

static void the_time_is_rfc3339_in_utc(void)
{
    g_autofree char *text = at_clock_rfc3339();
    g_assert_true(
        g_regex_match_simple("^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$", text, 0, 0));
    g_autoptr(GDateTime) then = g_date_time_new_from_iso8601(text, NULL);
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_assert_nonnull(then);
    g_assert_cmpint(ABS(g_date_time_difference(now, then)), <, 60 * G_TIME_SPAN_SECOND);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/error/every-code-has-a-name-that-leads-back",
                    every_code_has_a_name_that_leads_back);
    g_test_add_func("/base/error/errno-becomes-a-code-and-a-sentence",
                    errno_becomes_a_code_and_a_sentence);
    g_test_add_func("/base/error/an-error-that-nobody-wants-is-dropped",
                    an_error_that_nobody_wants_is_dropped);
    g_test_add_func("/base/error/errors-of-other-domains-are-classified",
                    errors_of_other_domains_are_classified);
    g_test_add_func("/base/digest/is-sha256-in-lower-case-hex",
                    a_digest_is_sha256_in_lower_case_hex);
    g_test_add_func("/base/digest/refuses-anything-but-64-lower-case-hex-digits",
                    anything_but_64_lower_case_hex_digits_is_refused);
    g_test_add_func("/base/clock/deadlines-count-down-to-zero-and-stay-there",
                    deadlines_count_down_to_zero_and_stay_there);
    g_test_add_func("/base/clock/the-time-is-rfc3339-in-utc", the_time_is_rfc3339_in_utc);
    return g_test_run();
}
