/* SPDX-License-Identifier: Apache-2.0 */
/* Workstations with a real guest inside: it boots from its first disk, reads its seed, writes its
 * disks, answers through the agent, talks to its neighbour, and ends when it is asked to. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "guest.h"
#include "lib/at-test.h"
#include "lib/tiny-guest.h"
#include "qemu/agent.h"
#include "qemu/block.h"
#include "qemu/blockdev.h"
#include "qemu/machine.h"
#include "qemu/qmp.h"
#include "qemu/unix-socket.h"

static void shut_down(struct guest *g)
{
    g_autoptr(GError) error = NULL;
    bool clean = false;
    g_assert_true(at_test_ok(
        at_machine_shutdown(g->dir, &g->process, BOOT_MS, NULL, &clean, &error), &error));
    g_assert_true(clean);
    g_assert_false(at_process_alive(&g->process));
    guest_set_runs(g, false);
}

static void check_agent(struct guest *g)
{
    g_autoptr(GError) error = NULL;
    unsigned frozen = 0;
    g_autoptr(at_agent) a = guest_agent(g);
    g_assert_true(at_test_ok(at_agent_ping(a, WAIT_MS, &error), &error));
    g_assert_true(at_test_ok(at_agent_freeze(a, WAIT_MS, &frozen, &error), &error));
    g_assert_cmpuint(frozen, >=, 1);
    g_assert_true(at_test_ok(at_agent_thaw(a, WAIT_MS, &error), &error));
    g_assert_true(at_test_ok(at_agent_set_time(a, WAIT_MS, &error), &error));
    g_autoptr(JsonObject) addresses = at_agent_addresses(a, WAIT_MS, &error);
    g_assert_no_error(error);
    g_assert_nonnull(addresses);
    g_assert_false(at_agent_call(a, "guest-nonsense", NULL, WAIT_MS, NULL, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
}

/* Types at the serial console. The command must say "typed": what is not yet read when the socket
 * closes is lost. */
static void type(struct guest *g, const char *command)
{
    struct stat st;
    g_autoptr(GError) error = NULL;
    at_autofd fd = at_unix_connect(at_test_path(g->dir, "serial.sock"),
                                   g_get_monotonic_time() + WAIT_MS * 1000, &error);
    g_assert_no_error(error);
    g_assert_cmpint(stat(g->console, &st), ==, 0);
    g_assert_cmpint(write(fd, command, strlen(command)), ==, (ssize_t)strlen(command));
    guest_expect(g, (uint64_t)st.st_size, "typed\r", NULL);
}

/* A shell on the serial console, as `ws console` uses it, while the log goes on. */
static void check_console(struct guest *g)
{
    type(g, "\necho typed; echo con$((6*7))sole\n");
    guest_expect(g, 0, "con42sole", NULL);
}

static void test_life(void)
{
    if (!guest_possible())
        return;
    struct guest *g = guest_prepare("#cloud-config\n#load ram=4\n");
    guest_boot(g);
    g_assert_cmpint(at_test_last_value(g->console, "LOAD", "errors"), ==, 0);
    guest_expect(g, 0, "FOUND all disks=2 order=good errors=0", NULL);
    check_agent(g);
    check_console(g);
    int64_t round = at_test_last_value(g->console, "LOAD", "round");
    g_assert_true(
        at_test_until(at_test_last_value(g->console, "LOAD", "round") > round + 20, WAIT_MS));
    shut_down(g);
    round = at_test_last_value(g->console, "LOAD", "round");

    /* What it wrote is there when it comes back, and it was one instant. */
    guest_boot(g);
    g_assert_cmpint(at_test_last_value(g->console, "FOUND disk=/dev/vdb", "round"), >=,
                    round - 100);
    g_assert_cmpint(at_test_last_value(g->console, "FOUND disk=/dev/vda", "bad"), ==, 0);
    g_assert_cmpint(at_test_last_value(g->console, "FOUND disk=/dev/vdb", "bad"), ==, 0);
    g_assert_cmpint(at_test_last_value(g->console, "LOAD", "ram_bad"), ==, 0);
    g_autofree char *log = NULL;
    g_assert_true(g_file_get_contents(g->console, &log, NULL, NULL));
    g_assert_null(strstr(log, "BROKEN"));
    shut_down(g);
}

static void test_shutdown_in_early_boot(void)
{
    if (!guest_possible())
        return;
    struct guest *g = guest_prepare(NULL);
    g->config.paused = true; /* it has to be resumed to hear it */
    guest_start(g);
    g_assert_false(at_test_wait_for_text(g->console, 0, "GUEST-UP", 300, NULL));
    shut_down(g);
    guest_expect(g, 0, "GUEST-BUTTON", NULL);
}

static void test_deaf_guest(void)
{
    if (!guest_possible())
        return;
    struct guest *g = guest_prepare(NULL);
    g_autoptr(GError) error = NULL;
    bool clean = true;
    g->disks[0].index = 7; /* boots from the empty disk: no system at all */
    g_autofree char *path = at_blockdev_overlay_path(g->dir, 7, 1);
    g_assert_true(
        at_test_ok(at_block_overlay_create(g->dir, 7, 1, 64 << 20, OWNER, GROUP, &error), &error));
    guest_start(g);
    g_assert_true(
        at_test_ok(at_machine_shutdown(g->dir, &g->process, 1000, NULL, &clean, &error), &error));
    guest_set_runs(g, false);
    g_assert_false(clean);
    g_assert_false(at_process_alive(&g->process));
}

static void test_reboot_and_panic(void)
{
    if (!guest_possible())
        return;
    struct guest *g = guest_prepare(NULL);
    g_autoptr(GError) error = NULL;
    guest_boot(g);
    struct stat st;
    g_assert_cmpint(stat(g->console, &st), ==, 0);
    type(g, "\necho typed; sleep 1; reboot -f\n");
    guest_expect(g, (uint64_t)st.st_size, "GUEST-UP", NULL);
    g_assert_true(at_process_alive(&g->process));

    g_autoptr(at_qmp) qmp = at_qmp_open(at_test_path(g->dir, "qmp-a.sock"), WAIT_MS, &error);
    g_assert_no_error(error);
    type(g, "\necho typed; sleep 1; echo c >/proc/sysrq-trigger\n");
    g_autoptr(JsonNode) event = NULL;
    g_assert_true(at_test_ok(
        at_qmp_wait_event(qmp, "SHUTDOWN", NULL, NULL, BOOT_MS, &event, &error), &error));
    JsonObject *data = at_json_obj(json_node_get_object(event), "data");
    g_assert_cmpstr(at_json_str(data, "reason", ""), ==, "guest-panic");
    g_assert_true(at_test_ok(at_process_wait(&g->process, WAIT_MS, &error), &error));
    guest_set_runs(g, false);
}

static int open_tap(const char *name)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    g_strlcpy(ifr.ifr_name, name, sizeof ifr.ifr_name);
    g_assert_cmpint(ioctl(fd, TUNSETIFF, &ifr), ==, 0);
    const char *const argv[] = {"ip", "link", "set", name, "master", "br0", "up", NULL};
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_run(argv, NULL, WAIT_MS, NULL, NULL, &error), &error));
    return fd;
}

static void test_network(void)
{
    static const char *const bridge[] = {"ip", "link", "add", "br0", "type", "bridge", NULL};
    static const char *const up[] = {"ip", "link", "set", "br0", "up", NULL};
    g_autoptr(GError) error = NULL;
    if (!guest_possible())
        return;
    if (unshare(CLONE_NEWNET) != 0) {
        g_test_skip("cannot make a network namespace");
        return;
    }
    g_assert_true(at_test_ok(at_run(bridge, NULL, WAIT_MS, NULL, NULL, &error), &error));
    g_assert_true(at_test_ok(at_run(up, NULL, WAIT_MS, NULL, NULL, &error), &error));
    struct guest *server = guest_prepare("#load net=server\n#address 10.9.0.1\n");
    struct guest *client = guest_prepare("#load net=10.9.0.1\n#address 10.9.0.2\n");
    at_autofd tap1 = open_tap("tap1");
    at_autofd tap2 = open_tap("tap2");
    server->nic = (struct at_machine_nic){0, "52:54:00:00:00:01", tap1};
    client->nic = (struct at_machine_nic){0, "52:54:00:00:00:02", tap2};
    server->config.nics = &server->nic;
    client->config.nics = &client->nic;
    server->config.n_nics = client->config.n_nics = 1;
    guest_boot(server);
    guest_boot(client);
    guest_expect(server, 0, "GUEST-ADDRESS 10.9.0.1", NULL);
    guest_expect(client, 0, "GUEST-ADDRESS 10.9.0.2", NULL);
    g_assert_true(at_test_until(at_test_last_value(client->console, "LOAD", "net") > 20, WAIT_MS));
    g_assert_cmpint(at_test_last_value(client->console, "LOAD", "net_bad"), ==, 0);
    g_autoptr(at_agent) a = guest_agent(client);
    g_autoptr(JsonObject) addresses = at_agent_addresses(a, WAIT_MS, &error);
    g_assert_no_error(error);
    JsonArray *list = at_json_arr(addresses, "52:54:00:00:00:02");
    g_assert_nonnull(list);
    g_assert_cmpstr(json_array_get_string_element(list, 0), ==, "10.9.0.2");
    g_assert_true(at_test_ok(at_machine_quit(client->dir, &client->process, &error), &error));
    g_assert_true(at_test_ok(at_machine_quit(server->dir, &server->process, &error), &error));
    guest_set_runs(client, false);
    guest_set_runs(server, false);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    guest_watch_signals();
    g_test_add_func("/qemu/guest/lives-through-boot-agent-console-shutdown-and-boot-again",
                    test_life);
    g_test_add_func("/qemu/guest/a-paused-and-booting-guest-hears-the-button-in-the-end",
                    test_shutdown_in_early_boot);
    g_test_add_func("/qemu/guest/a-guest-without-a-system-is-switched-off-at-the-deadline",
                    test_deaf_guest);
    g_test_add_func("/qemu/guest/a-reboot-goes-on-and-a-panic-ends-the-process",
                    test_reboot_and_panic);
    g_test_add_func("/qemu/guest/two-guests-talk-over-their-bridge", test_network);
    return g_test_run();
}
