/* SPDX-License-Identifier: Apache-2.0 */
/* Cut, seal and base change below real guests that write all the time and check what they read. */
#include <string.h>
#include <unistd.h>

#include "lib/at-test.h"
#include "lib/tiny-guest.h"
#include "team.h"

enum { BOOT_MS = 120000 };

static void expect_progress(const struct team *team)
{
    for (unsigned i = 0; i < team->n; i++) {
        g_autofree char *console = team_console(&team->members[i]);
        int64_t round = at_test_last_value(console, "LOAD", "round");
        g_assert_true(
            at_test_until(at_test_last_value(console, "LOAD", "round") > round + 5, BOOT_MS));
        g_assert_cmpint(at_test_last_value(console, "LOAD", "errors"), ==, 0);
        g_assert_cmpint(at_test_last_value(console, "LOAD", "ram_bad"), ==, 0);
    }
}

/* Boots a copy of what the guest had at the instant; it checks all its disks. */
static void expect_one_instant(struct team *team, unsigned of, unsigned gen)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(team_start_copy(team, of, gen, &error), &error));
    g_autofree char *console = team_console(&team->members[team->n - 1]);
    g_assert_true(at_test_wait_for_text(console, 0, "FOUND all", BOOT_MS, NULL));
    g_assert_true(
        at_test_wait_for_text(console, 0, "FOUND all disks=2 order=good errors=0", 1000, NULL));
    g_assert_cmpint(at_test_last_value(console, "FOUND disk=/dev/vda", "bad"), ==, 0);
    g_assert_cmpint(at_test_last_value(console, "FOUND disk=/dev/vdb", "bad"), ==, 0);
    g_assert_cmpint(at_test_last_value(console, "FOUND disk=/dev/vda", "round"), >, 0);
    team->n--;
    g_assert_true(at_test_ok(at_process_stop(&team->members[team->n].process, 0, &error), &error));
}

static void test_guests(void)
{
    if (!at_test_needs_root() || !at_test_needs_program("nbdkit") ||
        !at_test_needs_program("qemu-system-x86_64"))
        return;
    const char *image = at_test_tiny_guest();
    if (!image)
        return;
    struct team team;
    struct at_cut_result result;
    g_autoptr(GError) error = NULL;
    at_cut_set_guard(g_getenv("ATOLL_GUARD"));
    g_assert_true(at_test_ok(team_start(&team, image, 2, &error), &error));
    g_assert_true(at_test_until(team_loaded(&team), BOOT_MS));
    for (unsigned round = 0; round < 2; round++) {
        g_assert_true(at_test_ok(team_cut(&team, &result, &error), &error));
        g_test_message("pause %.1f ms, skew %.1f ms", result.pause_ms, result.skew_ms);
        expect_progress(&team);
        if (round == 1) /* on a base that was sealed meanwhile */
            expect_one_instant(&team, 0, team.members[0].gen - 1);
        g_assert_true(at_test_ok(team_seal(&team, &error), &error));
        expect_progress(&team);
    }
    team_end(&team);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu/guests/see-nothing-of-cut-and-seal-and-the-cut-is-one-instant",
                    test_guests);
    return g_test_run();
}
