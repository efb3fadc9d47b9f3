/* SPDX-License-Identifier: Apache-2.0 */
/* How long a capture stands still: three guests with two disks each, all writing. */
#include <stdio.h>

#include "lib/bench.h"
#include "lib/tiny-guest.h"
#include "qemu/team.h"

enum { MACHINES = 3, CUTS = 10, BOOT_MS = 180000, SETTLE_MS = 500 };
static const double goal_ms = 25;
static const char pause_row[] = "pause of 3 workstations x 2 disks, median of 10";

static bool wait_until_loaded(const struct team *team)
{
    for (int i = 0; i < BOOT_MS / 100; i++) {
        if (team_loaded(team))
            return true;
        g_usleep(100 * 1000);
    }
    return false;
}

static bool measure(struct team *team, double *pause, double *skew, GError **error)
{
    for (unsigned i = 0; i < CUTS; i++) {
        struct at_cut_result result;
        if (!team_cut(team, &result, error))
            return false;
        pause[i] = result.pause_ms;
        skew[i] = result.skew_ms;
        if (!team_seal(team, error))
            return false;
        g_usleep(SETTLE_MS * 1000);
    }
    return true;
}

int main(int argc, char **argv)
{
    double pause[CUTS], skew[CUTS], most = 0;
    struct team team;
    g_autoptr(GError) error = NULL;
    g_test_init(&argc, &argv, NULL);
    at_cut_set_guard(g_getenv("ATOLL_GUARD"));
    struct at_bench *bench = at_bench_new("cut");
    const char *image = at_test_tiny_guest();
    const char *reason = !image ? "the test guest cannot be built here" : NULL;
    if (image && team_start(&team, image, MACHINES, &error)) {
        if (!wait_until_loaded(&team))
            reason = "the guests did not get to write";
        else if (measure(&team, pause, skew, &error)) {
            for (unsigned i = 0; i < CUTS; i++)
                most = MAX(most, pause[i]);
            at_bench_row(bench, pause_row, at_bench_median(pause, CUTS), "ms", AT_BENCH_AT_MOST,
                         goal_ms, "first stop sent to last resume; TCG, all disks written to");
            at_bench_row(bench, "longest pause of 10", most, "ms", AT_BENCH_ONLY, 0, NULL);
            at_bench_row(bench, "skew between the machines, median of 10",
                         at_bench_median(skew, CUTS), "ms", AT_BENCH_ONLY, 0, NULL);
        }
        team_end(&team);
    }
    if (error || reason)
        at_bench_missing(bench, pause_row, "ms", AT_BENCH_AT_MOST, goal_ms,
                         error ? error->message : reason);
    return at_bench_finish(bench);
}
