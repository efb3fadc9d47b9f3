/* SPDX-License-Identifier: Apache-2.0 */
/* The probe guest really runs, and what it decides is usable. */
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "lib/at-test.h"
#include "qemu/machine-internal.h"

static void test_guest_runs(void)
{
    if (!at_test_needs_program(AT_QEMU_PROGRAM))
        return;
    bool expired;
    g_autofree char *reason = at_machine_try_accel(AT_ACCEL_TCG, &expired);
    g_assert_cmpstr(reason, ==, NULL);
    g_assert_false(expired);
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

/* A stand-in for QEMU that runs @script; its debug port is the descriptor "$port". */
static void stand_in(const char *dir, const char *script)
{
    g_autofree char *text =
        g_strconcat("#!/bin/bash\n"
                    "for a in \"$@\"; do case $a in socket,*fd=*) port=${a##*=};; esac; done\n",
                    script, "\n", NULL);
    at_machine_probe_program = at_test_file(dir, "stand-in", text);
    g_assert_cmpint(chmod(at_machine_probe_program, 0755), ==, 0);
    at_machine_kvm_device = at_test_file(dir, "kvm", "");
}

/* In a process of its own: a verdict on KVM is kept. */
static void with_stand_ins(void)
{
    const char *dir = at_test_dir();
    g_autofree char *reason = NULL;
    g_autoptr(GError) error = NULL;
    stand_in(dir, "printf A >&$port; exec sleep 60"); /* boots, then hangs */
    g_assert_cmpint(at_machine_probe_accel(AT_ACCEL_AUTO, &reason, &error), ==, AT_ACCEL_TCG);
    g_assert_nonnull(strstr(reason, "began but did not finish"));
    g_assert_cmpint(at_machine_probe_accel(AT_ACCEL_KVM, NULL, &error), ==, AT_ACCEL_AUTO);
    g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);

    stand_in(dir, "exec sleep 60");
    g_assert_true(at_machine_probe_again());
    stand_in(dir, "printf AK >&$port; exec sleep 60");
    g_assert_cmpint(at_machine_probe_accel(AT_ACCEL_AUTO, NULL, NULL), ==, AT_ACCEL_TCG);
    g_assert_false(at_machine_probe_again()); /* no other try is needed */
    g_clear_pointer(&reason, g_free);
    g_assert_cmpint(at_machine_probe_accel(AT_ACCEL_AUTO, &reason, NULL), ==, AT_ACCEL_KVM);
    g_assert_null(reason);
}

static void broken_for_good(void)
{
    const char *dir = at_test_dir();
    stand_in(dir, "echo KVM is broken >&2; exit 1");
    g_assert_cmpint(at_machine_probe_accel(AT_ACCEL_AUTO, NULL, NULL), ==, AT_ACCEL_TCG);
    stand_in(dir, "printf AK >&$port; exec sleep 60");
    g_assert_false(at_machine_probe_again());
    g_assert_cmpint(at_machine_probe_accel(AT_ACCEL_AUTO, NULL, NULL), ==, AT_ACCEL_TCG);
}

static void run_apart(void)
{
    g_test_trap_subprocess(NULL, 20 * G_USEC_PER_SEC, 0);
    g_test_trap_assert_passed();
}

static void test_hanging_kvm(void)
{
    if (g_test_subprocess())
        with_stand_ins();
    else
        run_apart();
}

static void test_broken_kvm(void)
{
    if (g_test_subprocess())
        broken_for_good();
    else
        run_apart();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu/accel/the-probe-guest-runs-to-its-end", test_guest_runs);
    g_test_add_func("/qemu/accel/auto-decides-and-says-why", test_auto_is_decided);
    g_test_add_func("/qemu/accel/tcg-is-taken-without-a-probe", test_tcg_needs_no_probe);
    g_test_add_func("/qemu/accel/version-is-told", test_version);
    g_test_add_func("/qemu/accel/a-kvm-that-opens-and-hangs-means-tcg-until-it-works",
                    test_hanging_kvm);
    g_test_add_func("/qemu/accel/a-kvm-that-fails-is-not-asked-again", test_broken_kvm);
    return g_test_run();
}
