/* SPDX-License-Identifier: Apache-2.0 */
/* Killed in front of every effect, and refused every effect: nothing stays half done. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "lab.h"

static const char *const points[] = {"net.netns", "net.veth", "net.bridge", "net.nft",
                                     "net.dnsmasq"};
enum { UP, DOWN };

/* Does it in a child with the plan; true when the child was killed by it. */
static bool killed(struct lab *lab, const struct at_net_config *config, int what, const char *plan)
{
    pid_t pid = fork();
    if (pid == 0) {
        char *uplink = NULL;
        at_fault_plan(plan);
        bool ok = what == UP ? at_net_up(lab->site, config, &uplink, NULL)
                             : at_net_down(lab->site, config->vdc_id, config->dir, NULL);
        _exit(ok ? 0 : 1);
    }
    int status;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    if (WIFSIGNALED(status))
        g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
    else
        g_assert_cmpint(status, ==, 0);
    return WIFSIGNALED(status);
}

static struct at_net_config prepare(struct lab *lab, struct at_net_port *port)
{
    struct at_net_config config = lab_config(lab, "rag-team");
    *port = (struct at_net_port){"tcp", lab_port(), 8000, "10.20.0.10"};
    config.ports = port;
    config.n_ports = 1;
    return config;
}

static void test_killed_up(void)
{
    struct lab *lab = lab_begin();
    struct at_net_port port;
    struct at_net_config config = prepare(lab, &port);
    for (unsigned i = 0; i < G_N_ELEMENTS(points); i++) {
        for (int nth = 1;; nth++) {
            g_autofree char *plan = g_strdup_printf("%s:kill:%d", points[i], nth);
            bool hit = killed(lab, &config, UP, plan);
            g_test_message("up %s: %s", plan, hit ? "killed" : "passed");
            if (hit && nth % 2) { /* once finished, once taken down */
                g_autofree char *uplink = lab_up(lab, &config);
            }
            lab_assert_clean(lab);
            if (!hit) {
                g_assert_cmpint(nth, >, 1);
                break;
            }
        }
    }
    lab_end(lab);
}

static void test_killed_down(void)
{
    struct lab *lab = lab_begin();
    struct at_net_port port;
    struct at_net_config config = prepare(lab, &port);
    for (unsigned i = 0; i < G_N_ELEMENTS(points); i++) {
        for (int nth = 1;; nth++) {
            g_autofree char *plan = g_strdup_printf("%s:kill:%d", points[i], nth);
            g_autofree char *uplink = lab_up(lab, &config);
            bool hit = killed(lab, &config, DOWN, plan);
            g_test_message("down %s: %s", plan, hit ? "killed" : "passed");
            if (hit && nth % 2) {
                g_autofree char *again = lab_up(lab, &config);
            }
            lab_assert_clean(lab);
            if (!hit)
                break;
        }
    }
    lab_end(lab);
}

static void test_failing_up(void)
{
    struct lab *lab = lab_begin();
    struct at_net_port port;
    struct at_net_config config = prepare(lab, &port);
    for (unsigned i = 0; i < G_N_ELEMENTS(points); i++) {
        for (int nth = 1;; nth++) {
            g_autofree char *plan = g_strdup_printf("%s:EIO:%d", points[i], nth);
            g_autofree char *uplink = NULL;
            g_autoptr(GError) error = NULL;
            at_fault_plan(plan);
            bool ok = at_net_up(lab->site, &config, &uplink, &error);
            at_fault_plan(NULL);
            if (ok)
                break;
            g_test_message("%s: %s", plan, error->message);
            g_assert_nonnull(strstr(error->message, "rag-team"));
            /* It has taken away by itself what it had made. */
            g_autofree char *netns =
                g_strdup_printf("/run/netns/atoll-%s-%s", lab->site, config.vdc_id);
            g_assert_cmpint(access(netns, F_OK), !=, 0);
            g_auto(GStrv) list = at_net_list(lab->site, NULL);
            g_assert_cmpuint(g_strv_length(list), ==, 0);
        }
        lab_assert_clean(lab);
    }
    lab_end(lab);
}

static void test_killed_change(void)
{
    struct lab *lab = lab_begin();
    struct at_net_port port;
    struct at_net_config config = prepare(lab, &port);
    for (unsigned i = 0; i < G_N_ELEMENTS(points); i++) {
        bool isolate = true;
        for (int nth = 1;; nth++, isolate = !isolate) {
            g_autofree char *plan = g_strdup_printf("%s:kill:%d", points[i], nth);
            config.isolated = !isolate;
            g_autofree char *before = lab_up(lab, &config);
            config.isolated = isolate;
            bool hit = killed(lab, &config, UP, plan);
            g_test_message("isolated %d, %s: %s", isolate, plan, hit ? "killed" : "passed");
            g_autofree char *after = lab_up(lab, &config);
            g_assert_cmpint(after[0] == '\0', ==, isolate);
            if (!hit)
                break;
        }
        lab_assert_clean(lab);
    }
    lab_end(lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    lab_require();
    g_test_add_func("/net/up-killed-anywhere-is-finished-or-taken-down", test_killed_up);
    g_test_add_func("/net/down-killed-anywhere-is-finished-or-put-back", test_killed_down);
    g_test_add_func("/net/up-that-fails-takes-away-what-it-made", test_failing_up);
    g_test_add_func("/net/isolating-killed-anywhere-is-finished-by-the-next-call",
                    test_killed_change);
    return g_test_run();
}
