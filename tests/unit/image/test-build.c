/* SPDX-License-Identifier: Apache-2.0 */
/* What a build refuses before it touches anything; the build itself is in tests/system. */
#include <glib/gstdio.h>

#include "base/error.h"
#include "image/image-internal.h"

static void test_package_names(void)
{
    static const char *const good[] = {"python3-numpy", "g++", "libc6", "0ad", "a.b"};
    static const char *const bad[] = {"",      "a",   "A",      "a,b",       "--eval", "a b",
                                      "$(id)", "a;b", "a/b",    "-a",        "+a",     "a\n",
                                      "../x",  "a_b", "a:i386", "?essential"};
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++)
        g_assert_true(at_package_name_check(good[i], NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(at_package_name_check(bad[i], &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    }
    g_assert_true(at_suite_check("bookworm", NULL));
    g_assert_false(at_suite_check("book worm", NULL));
    g_assert_false(at_suite_check("/etc", NULL));
}

static void refuse(struct at_image_build build, int code)
{
    g_autofree char *tmp = g_dir_make_tmp("atoll-refuse-XXXXXX", NULL);
    g_autofree char *out = g_build_filename(tmp, "out", NULL);
    g_autoptr(GError) error = NULL;
    build.tmp_dir = tmp;
    build.cache_dir = tmp;
    g_assert_false(at_image_build_debian(&build, out, NULL, NULL, NULL, &error));
    g_assert_error(error, AT_ERROR, code);
    g_assert_cmpint(g_rmdir(tmp), ==, 0); /* which fails when anything was left */
}

static void test_requests(void)
{
    const char *evil[] = {"bash;reboot", NULL};
    refuse((struct at_image_build){.suite = "bookworm", .include = evil}, AT_ERROR_INVALID);
    refuse((struct at_image_build){.suite = "-x"}, AT_ERROR_INVALID);
    refuse((struct at_image_build){.suite = "bookworm", .size = 1}, AT_ERROR_INVALID);
    refuse((struct at_image_build){.suite = "bookworm", .size = UINT64_C(3) << 40},
           AT_ERROR_INVALID);
    g_auto(GStrv) missing = at_image_requirements();
    if (!missing[0])
        refuse((struct at_image_build){.suite = "no-such-suite"}, AT_ERROR_UNAVAILABLE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/image/build/takes-package-names-as-debian-policy-has-them",
                    test_package_names);
    g_test_add_func("/image/build/refuses-bad-requests-before-it-touches-anything", test_requests);
    return g_test_run();
}
