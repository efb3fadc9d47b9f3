/* SPDX-License-Identifier: Apache-2.0 */
/* Names, addresses, the choice of an uplink, and what a description may say. */
#include <string.h>

#include "base/error.h"
#include "net/check.h"
#include "net/names.h"
#include "net/uplink.h"

static void test_names(void)
{
    static const char *const networks[] = {
        "lab", "exactly-thirt", "exactly-fourte",
        "a-network-with-a-name-as-long-as-a-label-may-be-sixty-three-oct"};
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(networks); i++) {
        char *name = at_net_name_bridge(networks[i]);
        g_assert_cmpuint(strlen(name), <=, 15);
        g_assert_true(g_hash_table_add(seen, name));
    }
    g_autofree char *veth = at_net_name_veth("01234567", "89abcdef");
    g_autofree char *tap = at_net_name_tap("52:54:00:AB:cd:ef");
    g_assert_cmpstr(veth, ==, "at012389abcdefu");
    g_assert_cmpuint(strlen(veth), ==, 15);
    g_assert_cmpstr(tap, ==, "t525400abcdef");
    uint8_t a[6], b[6];
    at_net_bridge_mac("lab", a);
    at_net_bridge_mac("lab", b);
    g_assert_cmpmem(a, 6, b, 6);
    g_assert_cmpuint(a[0] & 3, ==, 2);
}

static void test_parse(void)
{
    static const char *const bad[] = {"",           "10.0.0.0",     "10.0.0.0/",   "10.0.0.0/31",
                                      "10.0.0.0/7", "10.0.0.1/24",  "10.0.0/24",   "::/64",
                                      "a.b.c.d/24", "10.0.0.0/24x", "10.0.0.0/-1", "10.0.0.0/ 24"};
    struct at_net_subnet subnet = {1, 2};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(at_net_subnet_parse(bad[i], &subnet, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    }
    g_assert_cmpuint(subnet.base, ==, 1);
    g_assert_true(at_net_subnet_parse("10.20.0.0/24", &subnet, NULL));
    g_autofree char *router = at_net_address_text(at_net_router(&subnet));
    g_assert_cmpstr(router, ==, "10.20.0.1");
    g_assert_true(at_net_contains(&subnet, 0x0a1400ff));
    g_assert_false(at_net_contains(&subnet, 0x0a140100));
    static const char *const bad_macs[] = {"",
                                           "52:54:00:aa:00",
                                           "52:54:00:aa:00:1",
                                           "53:54:00:aa:00:10",
                                           "52-54-00-aa-00-10",
                                           "52:54:00:aa:00:1g",
                                           "52:54:00:aa:00:10\n"};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad_macs); i++)
        g_assert_false(at_net_check_mac(bad_macs[i], NULL));
    g_assert_true(at_net_check_mac("52:54:00:Aa:00:10", NULL));
}

static void add(GArray *used, const char *text)
{
    struct at_net_subnet subnet = {0};
    g_auto(GStrv) part = g_strsplit(text, "/", 2);
    g_assert_true(at_net_address_parse(part[0], &subnet.base, NULL));
    subnet.prefix = (unsigned)g_ascii_strtoull(part[1], NULL, 10);
    g_array_append_val(used, subnet);
}

static void test_uplink(void)
{
    g_autoptr(GArray) used = g_array_new(FALSE, FALSE, sizeof(struct at_net_subnet));
    g_autoptr(GError) error = NULL;
    struct at_net_subnet a, b, c;
    add(used, "192.0.2.0/24");
    g_assert_true(at_net_uplink_choose(used, NULL, "seed", &a, NULL));
    g_assert_true(at_net_uplink_choose(used, NULL, "seed", &b, NULL));
    g_assert_cmpuint(a.base, ==, b.base); /* the same each time */
    g_assert_cmpuint(a.prefix, ==, 30);
    g_assert_cmpuint(a.base & 3, ==, 0);
    g_autofree char *text = at_net_subnet_text(&a);
    add(used, text);
    g_assert_true(at_net_uplink_choose(used, text, "seed", &b, NULL)); /* taken: another */
    g_assert_false(at_net_overlaps(&a, &b));
    g_assert_true(at_net_uplink_choose(used, "100.127.255.252/30", "seed", &c, NULL));
    g_assert_cmpuint(c.base, ==, 0x647ffffc);
    g_assert_true(at_net_uplink_choose(used, "10.0.0.0/30", "seed", &c, NULL)); /* not of ours */
    g_assert_cmpuint(c.base, ==, b.base);

    /* All but one is taken, in ranges of every size and single hosts. */
    g_array_set_size(used, 0);
    add(used, "100.96.0.0/11");
    add(used, "100.80.0.0/12");
    add(used, "100.72.0.0/13");
    add(used, "100.68.0.0/14");
    add(used, "100.66.0.0/15");
    add(used, "100.65.0.0/16");
    add(used, "100.64.128.0/17");
    add(used, "100.64.64.0/18");
    add(used, "100.64.32.0/19");
    add(used, "100.64.16.0/20");
    add(used, "100.64.8.0/21");
    add(used, "100.64.4.0/22");
    add(used, "100.64.2.0/23");
    add(used, "100.64.1.0/24");
    add(used, "100.64.0.128/25");
    add(used, "100.64.0.64/26");
    add(used, "100.64.0.32/27");
    add(used, "100.64.0.16/28");
    add(used, "100.64.0.1/32");
    add(used, "100.64.0.8/29");
    g_assert_true(at_net_uplink_choose(used, NULL, "any", &c, NULL));
    g_assert_cmpuint(c.base, ==, 0x64400004);
    add(used, "100.64.0.5/32");
    g_assert_false(at_net_uplink_choose(used, NULL, "any", &c, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NO_SPACE);
    g_array_set_size(used, 0);
    add(used, "100.0.0.0/8");
    g_assert_false(at_net_uplink_choose(used, NULL, "any", &c, NULL));
}

struct refusal {
    const char *says;
    struct at_net_segment segments[2];
    struct at_net_host hosts[2];
    struct at_net_port ports[2];
};

#define LAB                                                                                        \
    {                                                                                              \
        "lab", "10.20.0.0/24", true                                                                \
    }
#define HOST                                                                                       \
    {                                                                                              \
        "a", "lab", "52:54:00:aa:00:10", "10.20.0.10"                                              \
    }

static void test_refusals(void)
{
    static const struct refusal table[] = {
        {"two networks", {LAB, {"lab", "10.21.0.0/24", true}}, {HOST, HOST}, {{0}}},
        {"overlap", {LAB, {"b", "10.20.0.128/25", true}}, {HOST, HOST}, {{0}}},
        {"not a name", {{"la b", "10.20.0.0/24", true}}, {{0}}, {{0}}},
        {"not a name", {{"lab\nx", "10.20.0.0/24", true}}, {{0}}, {{0}}},
        {"no network", {LAB}, {{"a", "bal", "52:54:00:aa:00:10", "10.20.0.10"}}, {{0}}},
        {"for a guest", {LAB}, {{"a", "lab", "52:54:00:aa:00:10", "10.21.0.10"}}, {{0}}},
        {"for a guest", {LAB}, {{"a", "lab", "52:54:00:aa:00:10", "10.20.0.1"}}, {{0}}},
        {"for a guest", {LAB}, {{"a", "lab", "52:54:00:aa:00:10", "10.20.0.255"}}, {{0}}},
        {"one MAC", {LAB}, {HOST, {"b", "lab", "52:54:00:AA:00:10", "10.20.0.11"}}, {{0}}},
        {"one address", {LAB}, {HOST, {"b", "lab", "52:54:00:aa:00:11", "10.20.0.10"}}, {{0}}},
        {"tcp or udp", {LAB}, {HOST}, {{"icmp", 1, 2, "10.20.0.10"}}},
        {"1 to 65535", {LAB}, {HOST}, {{"tcp", 0, 2, "10.20.0.10"}}},
        {"twice", {LAB}, {HOST}, {{"tcp", 1, 2, "10.20.0.10"}, {"tcp", 1, 3, "10.20.0.10"}}},
        {"not an IPv4", {LAB}, {HOST}, {{"tcp", 1, 2, "drop; }"}}},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        const struct refusal *r = &table[i];
        struct at_net_config config = {.vdc_id = "01234567",
                                       .vdc_name = "team",
                                       .dir = "/n",
                                       .segments = r->segments,
                                       .hosts = r->hosts,
                                       .ports = r->ports};
        while (config.n_segments < 2 && r->segments[config.n_segments].name)
            config.n_segments++;
        while (config.n_hosts < 2 && r->hosts[config.n_hosts].workstation)
            config.n_hosts++;
        while (config.n_ports < 2 && r->ports[config.n_ports].protocol)
            config.n_ports++;
        g_autoptr(GError) error = NULL;
        g_assert_false(at_net_check_config("01234567", &config, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
        if (!strstr(error->message, r->says))
            g_error("row %u says: %s", i, error->message);
    }
    struct at_net_config config = {.vdc_id = "01234567", .vdc_name = "team", .dir = "/n"};
    g_assert_true(at_net_check_config("01234567", &config, NULL));
    g_assert_false(at_net_check_config("0123456", &config, NULL));
    config.vdc_id = "../../..";
    g_assert_false(at_net_check_config("01234567", &config, NULL));
    config.vdc_id = "01234567";
    config.dir = "relative";
    g_assert_false(at_net_check_config("01234567", &config, NULL));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/net/names/fit-and-differ", test_names);
    g_test_add_func("/net/names/refuse-what-is-no-address", test_parse);
    g_test_add_func("/net/uplink/is-free-stable-and-found-when-it-is-the-last", test_uplink);
    g_test_add_func("/net/check/refuses-with-the-reason", test_refusals);
    return g_test_run();
}
