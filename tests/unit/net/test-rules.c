/* SPDX-License-Identifier: Apache-2.0 */
/* The texts for nft and dnsmasq. */
#include <string.h>

#include "lib/at-test.h"
#include "net/dnsmasq.h"
#include "net/firewall.h"

static const struct at_net_segment segments[] = {{"lab", "10.20.0.0/24", true},
                                                 {"closed", "10.21.0.0/24", false}};
static const struct at_net_host hosts[] = {{"a", "lab", "52:54:00:AA:00:10", "10.20.0.10"},
                                           {"b", "closed", "52:54:00:aa:00:11", "10.21.0.11"}};
static const struct at_net_port ports[] = {{"tcp", 18000, 8000, "10.20.0.10"}};

static struct at_net_config team(void)
{
    return (struct at_net_config){.vdc_id = "01234567",
                                  .vdc_name = "rag-team",
                                  .dir = "/state/n/01234567",
                                  .segments = segments,
                                  .n_segments = 2,
                                  .hosts = hosts,
                                  .n_hosts = 2,
                                  .ports = ports,
                                  .n_ports = 1};
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        g_error("no '%s' in:\n%s", part, text);
}

static void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part))
        g_error("there is '%s' in:\n%s", part, text);
}

static void test_router(void)
{
    struct at_net_config config = team();
    g_autofree char *open = at_net_router_rules(&config);
    assert_has(open, "tcp . 18000 : 10.20.0.10 . 8000");
    assert_has(open, "iifname \"n-lab\" ip saddr 10.20.0.0/24 oifname \"up0\" accept");
    assert_lacks(open, "iifname \"n-closed\" ip saddr");
    assert_has(open, "\"t525400aa0010\" . 52:54:00:aa:00:10 . 10.20.0.10");
    config.isolated = true;
    g_autofree char *isolated = at_net_router_rules(&config);
    assert_lacks(isolated, "18000");
    assert_lacks(isolated, "oifname \"up0\" accept");
    config.n_hosts = config.n_segments = 0;
    g_autofree char *bare = at_net_router_rules(&config);
    assert_lacks(bare, "elements"); /* nft knows no empty list */
}

static at_net_host_table *table_with(const char *veth, uint32_t address, unsigned port)
{
    at_net_host_table *table = g_new0(at_net_host_table, 1);
    table->links = g_array_new(FALSE, FALSE, sizeof(struct at_net_host_link));
    table->ports = g_array_new(FALSE, FALSE, sizeof(struct at_net_host_port));
    struct at_net_host_link link = {(char *)veth, address};
    struct at_net_host_port published = {(char *)"tcp", (uint16_t)port, address};
    g_array_append_val(table->links, link);
    g_array_append_val(table->ports, published);
    return table;
}

static void test_host(void)
{
    g_autoptr(at_net_host_table) now = table_with("at012301234567u", 0x64400002, 17000);
    g_autofree char *change = at_net_host_rules("atoll_01234567", now, NULL, "at012301234567u",
                                                0x64400006, ports, 1, false);
    assert_has(change, "delete element inet atoll_01234567 ports { tcp . 17000 }");
    assert_has(change, "delete element inet atoll_01234567 sources { \"at012301234567u\" . "
                       "100.64.0.2 }");
    assert_has(change, "add element inet atoll_01234567 ports { tcp . 18000 : 100.64.0.6 }");
    assert_lacks(change, "delete table");
    assert_lacks(change, "flush ruleset");
    g_autofree char *last =
        at_net_host_rules("atoll_01234567", now, NULL, "at012301234567u", 0, NULL, 0, true);
    assert_has(last, "delete table inet atoll_01234567\n");
    g_autofree char *other =
        at_net_host_rules("atoll_01234567", now, NULL, "at0123ffffffffu", 0, NULL, 0, true);
    assert_lacks(other, "delete table");
    assert_lacks(other, "delete element");
}

/* Metadata of a cloud is for the host, but its name server may have the same address. */
static void test_link_local_resolver(void)
{
    static const char conf[] =
        "# by DHCP\nsearch internal\nnameserver 169.254.169.254\n"
        "nameserver 9.9.9.9 \nnameserver\t169.254.1.53\nnameserver fe80::1\n";
    static const char accept[] = "ip daddr 169.254.169.254 meta l4proto { tcp, udp } th dport 53 "
                                 "accept\n";
    const char *path = at_test_file(at_test_dir(), "resolv.conf", conf);
    g_autoptr(GArray) servers = at_net_dnsmasq_servers(path);
    g_assert_cmpuint(servers->len, ==, 3);
    g_autoptr(at_net_host_table) now = table_with("at012301234567u", 0x64400002, 17000);
    g_autofree char *rules = at_net_host_rules("atoll_01234567", now, servers, "at012301234567u",
                                               0x64400006, ports, 1, false);
    assert_has(rules, accept);
    assert_has(rules, "ip daddr 169.254.1.53 meta");
    assert_lacks(rules, "9.9.9.9");
    g_assert_true(strstr(rules, accept) < strstr(rules, "ip daddr 169.254.0.0/16 drop"));
    g_autofree char *usual =
        at_net_host_rules("atoll_01234567", now, NULL, "at012301234567u", 0, ports, 1, false);
    assert_has(usual, "ip daddr 169.254.0.0/16 drop");
    assert_lacks(usual, "dport 53");
}

static void test_dnsmasq(void)
{
    struct at_net_config config = team();
    g_autofree char *lab = at_net_dnsmasq_conf(&config, &segments[0], "/etc/resolv.conf");
    assert_has(lab, "interface=n-lab\n");
    assert_has(lab, "bind-interfaces\n");
    assert_has(lab, "resolv-file=/etc/resolv.conf\n");
    assert_has(lab, "local=/rag-team/\n");
    assert_has(lab, "dhcp-range=10.20.0.0,static,255.255.255.0,12h\n");
    g_autofree char *closed = at_net_dnsmasq_conf(&config, &segments[1], NULL);
    assert_has(closed, "no-resolv\n");
    assert_lacks(closed, "resolv-file");
    g_autofree char *dhcp = at_net_dnsmasq_dhcp_hosts(&config, "lab");
    g_autofree char *dns = at_net_dnsmasq_dns_hosts(&config, "lab");
    g_assert_cmpstr(dhcp, ==, "52:54:00:AA:00:10,id:*,10.20.0.10,a\n");
    g_assert_cmpstr(dns, ==, "10.20.0.10 a.rag-team a\n");
}

static void test_odd_names(void)
{
    static const char *const odd[] = {"ignore", "infinite", "12", "1d", "7-dwarfs", "d"};
    for (size_t i = 0; i < G_N_ELEMENTS(odd); i++) {
        struct at_net_host host = {odd[i], "lab", "52:54:00:aa:00:10", "10.20.0.10"};
        struct at_net_config config = team();
        config.hosts = &host;
        config.n_hosts = 1;
        g_autofree char *dhcp = at_net_dnsmasq_dhcp_hosts(&config, "lab");
        g_autofree char *dns = at_net_dnsmasq_dns_hosts(&config, "lab");
        g_autofree char *expected = g_strdup_printf("10.20.0.10 %s.rag-team %s\n", odd[i], odd[i]);
        g_autofree char *named = g_strdup_printf("52:54:00:aa:00:10,id:*,10.20.0.10,%s\n", odd[i]);
        g_assert_cmpstr(dhcp, ==, i < 4 ? "52:54:00:aa:00:10,id:*,10.20.0.10\n" : named);
        g_assert_cmpstr(dns, ==, expected);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net/rules/router-says-who-may-go-where", test_router);
    g_test_add_func("/net/rules/host-replaces-one-vdc-and-leaves-the-others", test_host);
    g_test_add_func("/net/rules/a-link-local-name-server-answers-and-metadata-does-not",
                    test_link_local_resolver);
    g_test_add_func("/net/rules/dnsmasq-forwards-only-for-networks-with-nat", test_dnsmasq);
    g_test_add_func("/net/rules/a-name-that-is-a-word-of-dnsmasq-is-left-out", test_odd_names);
    return g_test_run();
}
