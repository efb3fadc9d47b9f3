/* SPDX-License-Identifier: Apache-2.0 */
/* Who reaches whom, and who does not. */
#include <arpa/inet.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "lab.h"

#define MAC_RETRIEVAL "52:54:00:aa:00:10"
#define MAC_TUNE "52:54:00:aa:00:11"

static char *lease(struct lab *lab, const char *ns)
{
    g_autofree char *path = g_strdup_printf("%s/lease-%s", lab->dir, ns);
    char *text = NULL;
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_strchomp(text);
}

static void test_dhcp_dns(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    g_autofree char *uplink = lab_up(lab, &config);
    const char *retrieval = lab_guest(lab, &config, "lab", MAC_RETRIEVAL, true);
    const char *tune = lab_guest(lab, &config, "lab", MAC_TUNE, true);
    g_autofree char *a = lease(lab, retrieval), *b = lease(lab, tune);
    g_assert_cmpstr(a, ==, "10.20.0.10 10.20.0.1 10.20.0.1 rag-team retrieval");
    g_assert_cmpstr(b, ==, "10.20.0.11 10.20.0.1 10.20.0.1 rag-team tune");
    g_autofree char *shorter = lab_resolve(tune, "retrieval");
    g_autofree char *full = lab_resolve(retrieval, "tune.rag-team");
    g_assert_cmpstr(shorter, ==, "10.20.0.10");
    g_assert_cmpstr(full, ==, "10.20.0.11");
    lab_serve(lab, retrieval, 8000, "vectors");
    g_autofree char *got = lab_fetch(tune, "10.20.0.10:8000");
    g_assert_cmpstr(got, ==, "vectors");
    lab_end(lab);
}

static void test_nat(void)
{
    static const struct at_net_segment segments[] = {{"lab", "10.20.0.0/24", true},
                                                     {"closed", "10.21.0.0/24", false}};
    static const struct at_net_host hosts[] = {
        {"retrieval", "lab", MAC_RETRIEVAL, "10.20.0.10"},
        {"vault", "closed", MAC_TUNE, "10.21.0.10"},
    };
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    config.segments = segments;
    config.n_segments = 2;
    config.hosts = hosts;
    g_autofree char *uplink = lab_up(lab, &config);
    g_autofree char *there = NULL, *host = NULL;
    const char *outside = lab_outside(lab, &there, &host);
    lab_serve(lab, outside, 80, "the world");
    const char *guest = lab_guest(lab, &config, "lab", MAC_RETRIEVAL, true);
    const char *closed = lab_guest(lab, &config, "closed", MAC_TUNE, true);
    lab_serve(lab, guest, 8000, "vectors");
    g_autofree char *got = lab_fetch(guest, there);
    g_assert_cmpstr(got, ==, "the world");
    g_autofree char *no = lab_try(closed, there);
    g_assert_null(no);
    g_autofree char *across = lab_try(closed, "10.20.0.10:8000");
    g_assert_null(across);
    lab_end(lab);
}

static void test_equal_subnets(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config one = lab_config(lab, "rag-team"), two = lab_config(lab, "rag-team-2");
    g_autofree char *up1 = lab_up(lab, &one), *up2 = lab_up(lab, &two);
    g_assert_cmpstr(up1, !=, up2);
    const char *a1 = lab_guest(lab, &one, "lab", MAC_RETRIEVAL, true);
    const char *b1 = lab_guest(lab, &one, "lab", MAC_TUNE, true);
    const char *a2 = lab_guest(lab, &two, "lab", MAC_RETRIEVAL, true);
    const char *b2 = lab_guest(lab, &two, "lab", MAC_TUNE, true);
    lab_serve(lab, a1, 8000, "the original");
    lab_serve(lab, a2, 8000, "the clone");
    g_autofree char *got1 = lab_fetch(b1, "10.20.0.10:8000");
    g_autofree char *got2 = lab_fetch(b2, "10.20.0.10:8000");
    g_assert_cmpstr(got1, ==, "the original");
    g_assert_cmpstr(got2, ==, "the clone");

    /* Neither the other's uplink nor the host itself, even where something listens. */
    g_autofree char *base = g_strndup(up2, (gsize)(strchr(up2, '/') - up2));
    g_auto(GStrv) part = g_strsplit(base, ".", 4);
    g_autofree char *router2 = g_strdup_printf("atoll-%s-%s", lab->site, two.vdc_id);
    g_autofree char *vdc2 =
        g_strdup_printf("%s.%s.%s.%d:8001", part[0], part[1], part[2], atoi(part[3]) + 2);
    g_autofree char *host2 =
        g_strdup_printf("%s.%s.%s.%d:", part[0], part[1], part[2], atoi(part[3]) + 1);
    lab_serve(lab, router2, 8001, "the router");
    /* Without the router's own rules only the host's stand between the two. */
    lab_must("PATH=$PATH:/usr/sbin; ip netns exec %s nft delete table inet atoll", router2);
    g_autofree char *open = lab_fetch(NULL, vdc2);
    g_assert_cmpstr(open, ==, "the router");
    unsigned port = lab_port();
    lab_serve(lab, NULL, port, "the host");
    g_autofree char *host_here = g_strdup_printf("%s%u", host2, port);
    g_autofree char *proof = lab_fetch(NULL, host_here);
    g_assert_cmpstr(proof, ==, "the host");
    g_autofree char *no1 = lab_try(a1, vdc2), *no2 = lab_try(a1, host_here);
    g_assert_null(no1);
    g_assert_null(no2);
    lab_end(lab);
}

static void test_published(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    struct at_net_config other = lab_config(lab, "neighbour");
    const struct at_net_port ports[] = {{"tcp", lab_port(), 8000, "10.20.0.10"}};
    config.ports = ports;
    config.n_ports = 1;
    g_autofree char *up1 = lab_up(lab, &config), *up2 = lab_up(lab, &other);
    g_autofree char *there = NULL, *host = NULL;
    const char *outside = lab_outside(lab, &there, &host);
    const char *guest = lab_guest(lab, &config, "lab", MAC_RETRIEVAL, true);
    const char *tune = lab_guest(lab, &config, "lab", MAC_TUNE, true);
    const char *neighbour = lab_guest(lab, &other, "lab", MAC_TUNE, true);
    lab_serve(lab, guest, 8000, "vectors");
    g_autofree char *loopback = g_strdup_printf("127.0.0.1:%u", ports[0].host);
    g_autofree char *named = g_strdup_printf("localhost:%u", ports[0].host);
    g_autofree char *address = g_strdup_printf("%s:%u", host, ports[0].host);
    g_autofree char *a = lab_fetch(NULL, loopback), *b = lab_fetch(NULL, named);
    g_autofree char *c = lab_fetch(NULL, address), *d = lab_fetch(outside, address);
    g_autofree char *e = lab_fetch(tune, address), *f = lab_fetch(neighbour, address);
    g_assert_cmpstr(a, ==, "vectors");
    g_assert_cmpstr(b, ==, "vectors");
    g_assert_cmpstr(c, ==, "vectors");
    g_assert_cmpstr(d, ==, "vectors");
    g_assert_cmpstr(e, ==, "vectors"); /* round by the host */
    g_assert_cmpstr(f, ==, "vectors"); /* published is published, also for a neighbour */
    lab_end(lab);
}

static void send_to(int fd, const char *address, uint16_t port, const char *text)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    g_assert_cmpint(inet_pton(AF_INET, address, &to.sin_addr), ==, 1);
    g_assert_cmpint(sendto(fd, text, strlen(text), 0, (struct sockaddr *)&to, sizeof to), ==,
                    (int)strlen(text));
}

static void test_published_udp(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    const struct at_net_port ports[] = {{"udp", lab_port(), 5000, "10.20.0.10"}};
    config.ports = ports;
    config.n_ports = 1;
    g_autofree char *uplink = lab_up(lab, &config);
    const char *guest = lab_guest(lab, &config, "lab", MAC_RETRIEVAL, true);
    at_autofd server = lab_udp(guest, 5000), client = lab_udp(NULL, 0);
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    char buf[16] = "";
    send_to(client, "127.0.0.1", ports[0].host, "ping");
    g_assert_cmpint(recvfrom(server, buf, sizeof buf, 0, (struct sockaddr *)&from, &len), ==, 4);
    g_assert_cmpint(sendto(server, "pong!", 5, 0, (struct sockaddr *)&from, len), ==, 5);
    g_assert_cmpint(recv(client, buf, sizeof buf, 0), ==, 5);
    g_assert_cmpmem(buf, 5, "pong!", 5);
    lab_end(lab);
}

struct resolving {
    struct lab *lab;
    const struct at_net_config *config;
    const char *resolv;
};

/* Brings the VDC up where /etc/resolv.conf is another file. */
static int up_with_resolver(const struct resolving *r)
{
    g_autoptr(GError) error = NULL;
    char *uplink = NULL;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_PRIVATE, NULL) != 0 ||
        mount(r->resolv, "/etc/resolv.conf", NULL, MS_BIND, NULL) != 0)
        return 77;
    return at_net_up(r->lab->site, r->config, &uplink, &error) ? 0 : 1;
}

/* Brings the VDC up where dnsmasq is not to be found: what it says goes to @data. */
static int up_without_dnsmasq(const struct resolving *r)
{
    g_autoptr(GError) error = NULL;
    char *uplink = NULL;
    g_autofree char *program = at_find_program("dnsmasq", NULL, NULL);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_PRIVATE, NULL) != 0 ||
        mount("/dev/null", program, NULL, MS_BIND, NULL) != 0)
        return 77;
    if (at_net_up(r->lab->site, r->config, &uplink, &error) ||
        !g_error_matches(error, AT_ERROR, AT_ERROR_UNAVAILABLE) ||
        !strstr(error->message, "apt-get install dnsmasq-base"))
        return 1;
    g_auto(GStrv) missing = at_net_requirements();
    return g_strv_length(missing) == 1 ? 0 : 2;
}

static void test_no_dnsmasq(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    struct resolving resolving = {lab, &config, NULL};
    pid_t pid = fork();
    if (pid == 0)
        _exit(up_without_dnsmasq(&resolving));
    int status;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    g_auto(GStrv) list = at_net_list(lab->site, NULL); /* nothing was left, before any cleanup */
    g_assert_cmpuint(g_strv_length(list), ==, 0);
    lab_end(lab);
}

static void test_upstream(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    g_autofree char *there = NULL, *host = NULL;
    const char *outside = lab_outside(lab, &there, &host);
    g_autofree char *netns = g_build_filename("/run/netns", outside, NULL);
    g_autofree char *resolv = g_build_filename(lab->dir, "resolv.conf", NULL);
    g_autofree char *text = g_strdup_printf("nameserver %s\n", there);
    g_autofree char *dnsmasq = at_find_program("dnsmasq", NULL, NULL);
    g_autofree char *listen = g_strdup_printf("--listen-address=%s", there);
    const char *argv[] = {dnsmasq,
                          "--keep-in-foreground",
                          "--conf-file=/dev/null",
                          "--no-resolv",
                          "--no-hosts",
                          "--pid-file=",
                          "--bind-interfaces",
                          "--address=/www.example.org/192.0.2.77",
                          listen,
                          NULL};
    struct at_spawn spawn = {.argv = argv, .netns = netns};
    struct at_process process;
    struct resolving resolving = {lab, &config, resolv};
    g_assert_true(at_atomic_write(resolv, text, strlen(text), 0644, NULL));
    g_assert_true(at_spawn(&spawn, &process, NULL));
    g_array_append_val(lab->processes, process);
    pid_t pid = fork();
    if (pid == 0)
        _exit(up_with_resolver(&resolving));
    int status;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    const char *guest = lab_guest(lab, &config, "lab", MAC_RETRIEVAL, true);
    g_autofree char *before = lab_resolve(guest, "www.example.org");
    g_assert_cmpstr(before, ==, "192.0.2.77");
    config.isolated = true;
    g_autofree char *none = lab_up(lab, &config);
    g_autofree char *after = lab_resolve(guest, "www.example.org");
    g_autofree char *inner = lab_resolve(guest, "tune");
    g_assert_cmpstr(after, ==, "");
    g_assert_cmpstr(inner, ==, "10.20.0.11");
    lab_end(lab);
}

static void test_loopback_of_host(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    g_autofree char *uplink = lab_up(lab, &config);
    g_autofree char *router = g_strdup_printf("atoll-%s-%s", lab->site, config.vdc_id);
    unsigned port = lab_port();
    lab_serve(lab, NULL, port, "secret");
    /* The VDC's side sends packets for 127.0.0.1 over the uplink, as a hostile router would. */
    lab_must("PATH=$PATH:/usr/sbin; ip netns exec %s sh -c 'echo 1 > "
             "/proc/sys/net/ipv4/conf/up0/route_localnet; ip addr del 127.0.0.1/8 dev lo; "
             "ip route del table local 127.0.0.0/8 dev lo; "
             "ip route add 127.0.0.1/32 via %s dev up0; true'",
             router, "$(ip route show default | cut -d\" \" -f3)");
    g_autofree char *where = g_strdup_printf("127.0.0.1:%u", port);
    g_autofree char *got = lab_try(router, where);
    g_assert_null(got);
    lab_end(lab);
}

static void test_isolated(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    const struct at_net_port ports[] = {{"tcp", lab_port(), 8000, "10.20.0.10"}};
    config.ports = ports;
    config.n_ports = 1;
    g_autofree char *uplink = lab_up(lab, &config);
    g_autofree char *there = NULL, *host = NULL;
    const char *outside = lab_outside(lab, &there, &host);
    lab_serve(lab, outside, 80, "the world");
    const char *guest = lab_guest(lab, &config, "lab", MAC_RETRIEVAL, true);
    const char *tune = lab_guest(lab, &config, "lab", MAC_TUNE, true);
    lab_serve(lab, guest, 8000, "vectors");
    g_autofree char *loopback = g_strdup_printf("127.0.0.1:%u", ports[0].host);
    g_autofree char *before = lab_fetch(guest, there), *in = lab_fetch(NULL, loopback);
    g_assert_cmpstr(before, ==, "the world");
    g_assert_cmpstr(in, ==, "vectors");
    config.isolated = true;
    g_autofree char *none = lab_up(lab, &config);
    g_assert_cmpstr(none, ==, "");
    g_autofree char *cut = lab_try(guest, there), *cut_in = lab_try(NULL, loopback);
    g_autofree char *inside = lab_fetch(tune, "10.20.0.10:8000");
    g_autofree char *name = lab_resolve(tune, "retrieval");
    g_assert_null(cut);
    g_assert_null(cut_in);
    g_assert_cmpstr(inside, ==, "vectors");
    g_assert_cmpstr(name, ==, "10.20.0.10");
    config.isolated = false;
    config.uplink = uplink;
    g_autofree char *again = lab_up(lab, &config);
    g_assert_cmpstr(again, ==, uplink);
    g_autofree char *after = lab_fetch(guest, there), *after_in = lab_fetch(NULL, loopback);
    g_assert_cmpstr(after, ==, "the world");
    g_assert_cmpstr(after_in, ==, "vectors");
    lab_end(lab);
}

static void test_spoofing(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    g_autofree char *uplink = lab_up(lab, &config);
    const char *honest = lab_guest(lab, &config, "lab", MAC_RETRIEVAL, true);
    const char *liar = lab_guest(lab, &config, "lab", MAC_TUNE, true);
    lab_serve(lab, honest, 8000, "vectors");
    g_autofree char *own = lab_fetch(liar, "10.20.0.10:8000");
    g_assert_cmpstr(own, ==, "vectors");
    lab_must("PATH=$PATH:/usr/sbin; ip -n %s addr flush dev eth0 && ip -n %s addr add "
             "10.20.0.77/24 dev eth0",
             liar, liar);
    g_autofree char *address = lab_try(liar, "10.20.0.10:8000");
    g_assert_null(address);
    lab_must("PATH=$PATH:/usr/sbin; ip -n %s addr flush dev eth0 && ip -n %s link set eth0 address "
             "52:54:00:aa:00:77 && ip -n %s addr add 10.20.0.11/24 dev eth0",
             liar, liar, liar);
    g_autofree char *mac = lab_try(liar, "10.20.0.10:8000");
    g_assert_null(mac);
    lab_end(lab);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    lab_require();
    g_test_add_func("/net/gives-fixed-addresses-and-resolves-workstations", test_dhcp_dns);
    g_test_add_func("/net/reaches-outside-only-from-networks-with-nat", test_nat);
    g_test_add_func("/net/keeps-two-vdcs-with-equal-subnets-apart", test_equal_subnets);
    g_test_add_func("/net/publishes-a-port-on-every-address-of-the-host", test_published);
    g_test_add_func("/net/publishes-udp-too", test_published_udp);
    g_test_add_func("/net/asks-upstream-servers-only-while-not-isolated", test_upstream);
    g_test_add_func("/net/says-which-package-is-missing-and-leaves-nothing", test_no_dnsmasq);
    g_test_add_func("/net/guards-the-hosts-loopback-from-the-uplink", test_loopback_of_host);
    g_test_add_func("/net/isolated-cuts-the-outside-and-nothing-inside", test_isolated);
    g_test_add_func("/net/drops-a-guest-that-takes-anothers-address-or-mac", test_spoofing);
    return g_test_run();
}
