/* SPDX-License-Identifier: Apache-2.0 */
/* The rule set of a VDC's router: what its guests may send (bridge table) and where it goes (inet
 * table). Everything that is not named is dropped. */
#include "net/firewall.h"
#include "net/names.h"

/* One "elements = { ... }" line, nothing when there are none: nft knows no empty list. */
static void put_elements(GString *text, GString *elements)
{
    if (elements->len)
        g_string_append_printf(text, "    elements = { %s }\n", elements->str);
    g_string_free(elements, TRUE);
}

G_GNUC_PRINTF(2, 3) static void add_element(GString *elements, const char *fmt, ...)
{
    va_list args;
    if (elements->len)
        g_string_append(elements, ", ");
    va_start(args, fmt);
    g_string_append_vprintf(elements, fmt, args);
    va_end(args);
}

/* A guest may use its own MAC and address on its own TAP, and nothing else. */
static void put_bridge_table(GString *text, const struct at_net_config *config)
{
    GString *macs = g_string_new(NULL), *guests = g_string_new(NULL);
    for (unsigned i = 0; i < config->n_hosts; i++) {
        const struct at_net_host *host = &config->hosts[i];
        g_autofree char *tap = at_net_name_tap(host->mac);
        g_autofree char *mac = g_ascii_strdown(host->mac, -1);
        add_element(macs, "\"%s\" . %s", tap, mac);
        add_element(guests, "\"%s\" . %s . %s", tap, mac, host->address);
    }
    g_string_append(text, "table bridge atoll {\n"
                          "  set macs {\n    type ifname . ether_addr\n");
    put_elements(text, macs);
    g_string_append(text, "  }\n  set guests {\n    type ifname . ether_addr . ipv4_addr\n");
    put_elements(text, guests);
    g_string_append(text, "  }\n"
                          "  chain prerouting {\n"
                          "    type filter hook prerouting priority filter; policy drop;\n"
                          "    iifname . ether saddr != @macs drop\n"
                          "    iifname . ether saddr . ip saddr @guests accept\n"
                          "    ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n"
                          "    iifname . arp saddr ether . arp saddr ip @guests accept\n"
                          "    arp operation request arp saddr ip 0.0.0.0 accept\n"
                          "    icmpv6 type nd-router-advert drop\n"
                          "    ip6 saddr { ::, fe80::/10 } accept\n"
                          "  }\n"
                          "}\n");
}

char *at_net_router_rules(const struct at_net_config *config)
{
    GString *text = g_string_new("table inet atoll\ndelete table inet atoll\n"
                                 "table bridge atoll\ndelete table bridge atoll\n"
                                 "table inet atoll {\n");
    GString *published = g_string_new(NULL), *bridges = g_string_new(NULL);
    GString *gateways = g_string_new(NULL), *forward = g_string_new(NULL);
    for (unsigned i = 0; !config->isolated && i < config->n_ports; i++) {
        const struct at_net_port *port = &config->ports[i];
        add_element(published, "%s . %u : %s . %u", port->protocol, port->host, port->address,
                    port->guest);
    }
    for (unsigned i = 0; i < config->n_segments; i++) {
        const struct at_net_segment *segment = &config->segments[i];
        g_autofree char *bridge = at_net_name_bridge(segment->name);
        struct at_net_subnet subnet;
        if (!at_net_subnet_parse(segment->subnet, &subnet, NULL))
            continue; /* refused before */
        g_autofree char *gateway = at_net_address_text(at_net_router(&subnet));
        add_element(bridges, "\"%s\"", bridge);
        add_element(gateways, "\"%s\" . %s", bridge, gateway);
        g_string_append_printf(forward, "    iifname \"%s\" oifname \"%s\" accept\n", bridge,
                               bridge);
        if (segment->nat && !config->isolated)
            g_string_append_printf(
                forward, "    iifname \"%s\" ip saddr %s oifname \"" AT_NET_UPLINK "\" accept\n",
                bridge, segment->subnet);
    }
    g_string_append(text, "  map published {\n"
                          "    type inet_proto . inet_service : ipv4_addr . inet_service\n");
    put_elements(text, published);
    g_string_append(text, "  }\n  set bridges {\n    type ifname\n");
    put_elements(text, bridges);
    g_string_append(text, "  }\n  set gateways {\n    type ifname . ipv4_addr\n");
    put_elements(text, gateways);
    g_string_append_printf(
        text,
        "  }\n"
        "  chain prerouting {\n"
        "    type nat hook prerouting priority dstnat;\n"
        "    iifname \"" AT_NET_UPLINK "\" dnat ip to meta l4proto . th dport map @published\n"
        "  }\n"
        "  chain postrouting {\n"
        "    type nat hook postrouting priority srcnat;\n"
        "    oifname \"" AT_NET_UPLINK "\" masquerade\n"
        "  }\n"
        "  chain input {\n"
        "    type filter hook input priority filter; policy drop;\n"
        "    iifname \"lo\" accept\n"
        "    ct state established,related accept\n"
        "    iifname @bridges udp dport 67 accept\n"
        "    iifname . ip daddr @gateways meta l4proto { tcp, udp } th dport 53 accept\n"
        "    iifname . ip daddr @gateways icmp type echo-request accept\n"
        "  }\n"
        "  chain forward {\n"
        "    type filter hook forward priority filter; policy drop;\n"
        "    ct state established,related accept\n"
        "    iifname \"" AT_NET_UPLINK "\" ct status dnat accept\n"
        "%s"
        "  }\n"
        "}\n",
        forward->str);
    g_string_free(forward, TRUE);
    put_bridge_table(text, config);
    return g_string_free(text, FALSE);
}
