/* SPDX-License-Identifier: Apache-2.0 */
/* The probe guest really runs, and what it decides is usable. */
#include "base/error.h"
#include "lib/at-test.h"
#include "qemu/machine-internal.h"

static void test_guest_runs(void)
{
    if (!at_test_needs_program(AT_QEMU_PROGRAM))
        return;
    g_autofree char *reason = at_machine_try_accel(AT_ACCEL_TCG);
    g_assert_cmpstr(reason, ==, NULL);
}

static void test_auto_is_decided(void)
{
    g_autofree char *reason = NULL;
    g_autoptr(GError) error = NULL;
    enum at_accel accel = at_machine_probe_accel(AT_ACCEL_AUTO, &reason, &error);
    g_assert_no_error(error);
    g_assert_true(accel == AT_ACCEL_KVM ? reason == NULL : reason != NULL);
    g_test_message("%s: %s", at_accel_name(accel), reason ? reason : "works");
    enum at_accel kvm = at_machine_probe_accel(AT_ACCEL_KVM, NULL, &error);
    g_assert_cmpint(kvm, ==, accel == AT_ACCEL_KVM ? AT_ACCEL_KVM : AT_ACCEL_AUTO);
    if (kvm != AT_ACCEL_KVM)
        g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
}

static void test_tcg_needs_no_probe(void)
{
    g_assert_cmpint(at_machine_probe_accel(AT_ACCEL_TCG, NULL, NULL), ==, AT_ACCEL_TCG);
}

static void test_version(void)
{
    g_autoptr(GError) error = NULL;
    if (!at_test_needs_program(AT_QEMU_PROGRAM))
        return;
    g_autofree char *version = at_qemu_version(&error);
    g_assert_no_error(error);
    g_assert_true(g_regex_match_simple("^[0-9]+\\.[0-9]+\\.[0-9]+$", version, 0, 0));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu/accel/the-probe-guest-runs-to-its-end", test_guest_runs);
    g_test_add_func("/qemu/accel/auto-decides-and-says-why", test_auto_is_decided);
    g_test_add_func("/qemu/accel/tcg-is-taken-without-a-probe", test_tcg_needs_no_probe);
    g_test_add_func("/qemu/accel/version-is-told", test_version);
    return g_test_run();
}
