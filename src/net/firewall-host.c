/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side: one table per site, whose sets and maps say which uplinks there are and which
 * host ports lead to them. Only traffic of those uplinks is judged; all other passes untouched. */
#include <netinet/in.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "net/firewall.h"
#include "net/names.h"

#define LINK_LOCAL UINT32_C(0xa9fe0000) /* 169.254.0.0/16 */

static void link_clear(void *p)
{
    g_free(((struct at_net_host_link *)p)->veth);
}

static void port_clear(void *p)
{
    g_free(((struct at_net_host_port *)p)->protocol);
}

void at_net_host_table_free(at_net_host_table *table)
{
    g_array_unref(table->links);
    g_array_unref(table->ports);
    g_free(table);
}

GStrv at_net_host_tables(GError **error)
{
    g_autofree char *json = NULL;
    if (!at_net_nft_query("list tables inet", &json, error))
        return NULL;
    g_autoptr(JsonNode) root = at_json_parse(json, -1, error);
    if (!root)
        return NULL;
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    JsonArray *items = at_json_arr(json_node_get_object(root), "nftables");
    for (unsigned i = 0; items && i < json_array_get_length(items); i++) {
        JsonObject *table = at_json_obj(json_array_get_object_element(items, i), "table");
        const char *name = at_json_str(table, "name", "");
        if (g_str_has_prefix(name, "atoll_"))
            g_strv_builder_add(names, name);
    }
    return g_strv_builder_end(names);
}

/* The nth part of {"concat": [...]}. */
static JsonNode *part(JsonNode *node, unsigned n)
{
    JsonArray *parts = node && JSON_NODE_HOLDS_OBJECT(node)
                           ? at_json_arr(json_node_get_object(node), "concat")
                           : NULL;
    return parts && n < json_array_get_length(parts) ? json_array_get_element(parts, n) : NULL;
}

static const char *text_of(JsonNode *node)
{
    return node && json_node_get_value_type(node) == G_TYPE_STRING ? json_node_get_string(node)
                                                                   : NULL;
}

static void read_link(at_net_host_table *table, JsonNode *element)
{
    const char *veth = text_of(part(element, 0));
    struct at_net_host_link link;
    if (veth && at_net_address_parse(text_of(part(element, 1)), &link.address, NULL)) {
        link.veth = g_strdup(veth);
        g_array_append_val(table->links, link);
    }
}

static void read_port(at_net_host_table *table, JsonNode *element)
{
    JsonArray *pair = JSON_NODE_HOLDS_ARRAY(element) ? json_node_get_array(element) : NULL;
    if (!pair || json_array_get_length(pair) != 2)
        return;
    JsonNode *key = json_array_get_element(pair, 0);
    JsonNode *kind = part(key, 0), *number = part(key, 1);
    const char *protocol = NULL;
    struct at_net_host_port port;
    if (kind && json_node_get_value_type(kind) == G_TYPE_INT64)
        protocol = json_node_get_int(kind) == IPPROTO_TCP   ? "tcp"
                   : json_node_get_int(kind) == IPPROTO_UDP ? "udp"
                                                            : NULL;
    if (protocol && number && json_node_get_value_type(number) == G_TYPE_INT64 &&
        at_net_address_parse(text_of(json_array_get_element(pair, 1)), &port.address, NULL)) {
        port.protocol = g_strdup(protocol);
        port.port = (uint16_t)json_node_get_int(number);
        g_array_append_val(table->ports, port);
    }
}

at_net_host_table *at_net_host_table_read(const char *name, GError **error)
{
    g_auto(GStrv) names = at_net_host_tables(error);
    if (!names)
        return NULL;
    g_autoptr(at_net_host_table) table = g_new0(at_net_host_table, 1);
    table->links = g_array_new(FALSE, FALSE, sizeof(struct at_net_host_link));
    table->ports = g_array_new(FALSE, FALSE, sizeof(struct at_net_host_port));
    g_array_set_clear_func(table->links, link_clear);
    g_array_set_clear_func(table->ports, port_clear);
    if (!g_strv_contains((const char *const *)names, name))
        return g_steal_pointer(&table);
    g_autofree char *command = g_strdup_printf("list table inet %s", name);
    g_autofree char *json = NULL;
    g_autoptr(GError) local = NULL;
    if (!at_net_nft_query(command, &json, &local)) {
        /* Another site's daemon may have removed its table between the two questions. */
        g_auto(GStrv) still = at_net_host_tables(error);
        if (still && !g_strv_contains((const char *const *)still, name))
            return g_steal_pointer(&table);
        if (still)
            g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    g_autoptr(JsonNode) root = at_json_parse(json, -1, error);
    if (!root)
        return NULL;
    JsonArray *items = at_json_arr(json_node_get_object(root), "nftables");
    for (unsigned i = 0; items && i < json_array_get_length(items); i++) {
        JsonObject *item = json_array_get_object_element(items, i);
        JsonObject *set = at_json_obj(item, "set"), *map = at_json_obj(item, "map");
        bool sources = strcmp(at_json_str(set, "name", ""), "sources") == 0;
        bool ports = strcmp(at_json_str(map, "name", ""), "ports") == 0;
        JsonArray *elements = at_json_arr(sources ? set : ports ? map : NULL, "elem");
        for (unsigned k = 0; elements && k < json_array_get_length(elements); k++) {
            JsonNode *element = json_array_get_element(elements, k);
            if (sources)
                read_link(table, element);
            else
                read_port(table, element);
        }
    }
    return g_steal_pointer(&table);
}

/* Sets and chains are declared again each time and the rules replaced, so that a newer release's
 * rules take the place of an older one's; the elements stay. */
static void put_skeleton(GString *text, const char *table, const GArray *servers)
{
    static const char *const chains[] = {"antispoof",   "prerouting", "output",
                                         "postrouting", "input",      "forward"};
    g_string_append_printf(text,
                           "table inet %s {\n"
                           "  set links { type ifname; }\n"
                           "  set addresses { type ipv4_addr; }\n"
                           "  set sources { type ifname . ipv4_addr; }\n"
                           "  map ports { type inet_proto . inet_service : ipv4_addr; }\n"
                           "  chain antispoof { type filter hook prerouting priority raw; }\n"
                           "  chain prerouting { type nat hook prerouting priority dstnat; }\n"
                           "  chain output { type nat hook output priority -100; }\n"
                           "  chain postrouting { type nat hook postrouting priority srcnat; }\n"
                           "  chain input { type filter hook input priority filter; }\n"
                           "  chain forward { type filter hook forward priority filter; }\n"
                           "}\n",
                           table);
    for (unsigned i = 0; i < G_N_ELEMENTS(chains); i++)
        g_string_append_printf(text, "flush chain inet %s %s\n", table, chains[i]);
    g_string_append_printf(
        text,
        "table inet %s {\n"
        "  chain antispoof {\n"
        "    iifname @links meta nfproto != ipv4 drop\n"
        "    iifname @links iifname . ip saddr != @sources drop\n"
        "  }\n"
        /* A published port of any address of this host, from outside, from the host, or from a
         * VDC that knows no better. */
        "  chain prerouting {\n"
        "    meta nfproto ipv4 fib daddr type local"
        " dnat ip to meta l4proto . th dport map @ports\n"
        "  }\n"
        "  chain output {\n"
        "    meta nfproto ipv4 fib daddr type local"
        " dnat ip to meta l4proto . th dport map @ports\n"
        "  }\n"
        /* Towards a VDC the source must be one that it can answer: not 127.0.0.1 of the host, and
         * not itself or a neighbour that came round by a published port. */
        "  chain postrouting {\n"
        "    oifname @links ip saddr 127.0.0.0/8 masquerade\n"
        "    oifname @links ip saddr 100.64.0.0/10 ct status dnat masquerade\n"
        "    oifname != @links oifname != \"lo\" ip saddr @addresses masquerade\n"
        "  }\n"
        "  chain input {\n"
        "    iifname @links ct state established,related accept\n"
        "    iifname @links drop\n"
        "  }\n"
        /* Between uplinks only published ports; 169.254.0.0/16 holds the host's cloud metadata.
         * Another site's table guards that site's uplinks in the same way. */
        "  chain forward {\n"
        "    oifname @links ct state established,related accept\n"
        "    oifname @links ct status dnat accept\n"
        "    oifname @links drop\n",
        table);
    /* In many clouds the host's name server has the address of the metadata, at another port. */
    for (unsigned i = 0; servers && i < servers->len; i++) {
        uint32_t address = g_array_index(servers, uint32_t, i);
        g_autofree char *server = at_net_address_text(address);
        if (address >> 16 == LINK_LOCAL >> 16)
            g_string_append_printf(text,
                                   "    iifname @links ip daddr %s meta l4proto { tcp, udp }"
                                   " th dport 53 accept\n",
                                   server);
    }
    g_string_append(text, "    iifname @links ip daddr 169.254.0.0/16 drop\n"
                          "  }\n"
                          "}\n");
}

char *at_net_host_rules(const char *table, const at_net_host_table *now, const GArray *servers,
                        const char *veth, uint32_t address, const struct at_net_port *ports,
                        unsigned n_ports, bool remove)
{
    GString *text = g_string_new(NULL);
    bool others = false;
    put_skeleton(text, table, servers);
    for (unsigned i = 0; i < now->links->len; i++) {
        const struct at_net_host_link *link =
            &g_array_index(now->links, struct at_net_host_link, i);
        if (strcmp(link->veth, veth) != 0) {
            others = true;
            continue;
        }
        g_autofree char *old = at_net_address_text(link->address);
        g_string_append_printf(text,
                               "delete element inet %s links { \"%s\" }\n"
                               "delete element inet %s addresses { %s }\n"
                               "delete element inet %s sources { \"%s\" . %s }\n",
                               table, veth, table, old, table, veth, old);
        for (unsigned k = 0; k < now->ports->len; k++) {
            const struct at_net_host_port *port =
                &g_array_index(now->ports, struct at_net_host_port, k);
            if (port->address == link->address)
                g_string_append_printf(text, "delete element inet %s ports { %s . %u }\n", table,
                                       port->protocol, port->port);
        }
    }
    if (remove) {
        if (!others)
            g_string_append_printf(text, "delete table inet %s\n", table);
        return g_string_free(text, FALSE);
    }
    g_autofree char *new = at_net_address_text(address);
    g_string_append_printf(text,
                           "add element inet %s links { \"%s\" }\n"
                           "add element inet %s addresses { %s }\n"
                           "add element inet %s sources { \"%s\" . %s }\n",
                           table, veth, table, new, table, veth, new);
    for (unsigned i = 0; i < n_ports; i++)
        g_string_append_printf(text, "add element inet %s ports { %s . %u : %s }\n", table,
                               ports[i].protocol, ports[i].host, new);
    return g_string_free(text, FALSE);
}
