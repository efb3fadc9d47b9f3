/* SPDX-License-Identifier: Apache-2.0 */
/* What is on the host: which VDCs have something, whether one has everything, and whether the host
 * can do it at all. */
#include <fcntl.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/process.h"
#include "net/check.h"
#include "net/dnsmasq.h"
#include "net/firewall.h"
#include "net/link.h"
#include "net/names.h"
#include "net/namespace.h"
#include "net/net.h"

GStrv at_net_list(const char *site_id, GError **error)
{
    if (!at_net_check_id("site", site_id, error))
        return NULL;
    g_autoptr(GHashTable) found = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *prefix = g_strdup_printf("atoll-%s-", site_id);
    g_autoptr(GDir) dir = g_dir_open(AT_NET_DIR, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        if (g_str_has_prefix(name, prefix) && at_net_check_id("VDC", name + strlen(prefix), NULL))
            g_hash_table_add(found, g_strdup(name + strlen(prefix)));
    }
    g_autoptr(at_net_route) sock = at_net_route_open(error);
    g_auto(GStrv) links = sock ? at_net_links(sock, "veth", error) : NULL;
    if (!links)
        return NULL;
    g_autofree char *veth = g_strdup_printf("at%.4s", site_id);
    g_autofree char *mine = g_strdup_printf("atoll %s ", site_id);
    for (char **link = links; *link; link++) {
        g_autofree char *vdc = strlen(*link) == 15 ? g_strndup(*link + 6, 8) : NULL;
        if (!g_str_has_prefix(*link, veth) || !vdc || !at_net_check_id("VDC", vdc, NULL))
            continue;
        g_autofree char *alias = at_net_link_alias(sock, *link);
        if (!alias || g_str_has_prefix(alias, mine))
            g_hash_table_add(found, g_steal_pointer(&vdc));
    }
    g_autofree char *table_name = at_net_name_table(site_id);
    g_autoptr(at_net_host_table) table = at_net_host_table_read(table_name, error);
    if (!table)
        return NULL;
    for (unsigned i = 0; i < table->links->len; i++) {
        const char *link = g_array_index(table->links, struct at_net_host_link, i).veth;
        if (strlen(link) == 15)
            g_hash_table_add(found, g_strndup(link + 6, 8));
    }
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, found);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        g_strv_builder_add(names, key);
    return g_strv_builder_end(names);
}

static bool missing(GError **error, const char *what, const char *name)
{
    return at_error(error, AT_ERROR_UNAVAILABLE, "%s %s is missing", what, name);
}

struct inside {
    const struct at_net_config *config;
    bool connected;
};

static bool check_inside(void *data, GError **error)
{
    const struct inside *in = data;
    g_autoptr(at_net_route) sock = at_net_route_open(error);
    g_autofree char *json = NULL;
    if (!sock || !at_net_nft_query("list tables", &json, error))
        return false;
    if (!strstr(json, "\"bridge\"") || !strstr(json, "\"inet\""))
        return missing(error, "the rule set of", "the router");
    for (unsigned i = 0; i < in->config->n_segments; i++) {
        const struct at_net_segment *segment = &in->config->segments[i];
        g_autofree char *bridge = at_net_name_bridge(segment->name);
        struct at_net_subnet subnet;
        if (!at_net_subnet_parse(segment->subnet, &subnet, error))
            return false;
        if (!at_net_address_has(sock, bridge, at_net_router(&subnet)))
            return missing(error, "bridge", bridge);
    }
    if (in->connected && at_net_link_index(sock, AT_NET_UPLINK, NULL) <= 0)
        return missing(error, "uplink", AT_NET_UPLINK);
    return true;
}

static bool check_host_side(const char *site, const struct at_net_config *config, GError **error)
{
    g_autofree char *veth = at_net_name_veth(site, config->vdc_id);
    g_autofree char *name = at_net_name_table(site);
    g_autoptr(at_net_route) sock = at_net_route_open(error);
    g_autoptr(at_net_host_table) table = sock ? at_net_host_table_read(name, error) : NULL;
    uint32_t address = 0;
    if (!table)
        return false;
    for (unsigned i = 0; i < table->links->len; i++) {
        const struct at_net_host_link *link =
            &g_array_index(table->links, struct at_net_host_link, i);
        if (strcmp(link->veth, veth) == 0)
            address = link->address;
    }
    if (address == 0)
        return missing(error, "host rule for", veth);
    if (!at_net_address_has(sock, veth, (address & ~UINT32_C(3)) + 1))
        return missing(error, "uplink", veth);
    for (unsigned i = 0; i < config->n_ports; i++) {
        bool there = false;
        for (unsigned k = 0; k < table->ports->len; k++) {
            const struct at_net_host_port *port =
                &g_array_index(table->ports, struct at_net_host_port, k);
            there |= port->address == address && port->port == config->ports[i].host &&
                     strcmp(port->protocol, config->ports[i].protocol) == 0;
        }
        if (!there) {
            g_autofree char *port =
                g_strdup_printf("%s %u", config->ports[i].protocol, config->ports[i].host);
            return missing(error, "published port", port);
        }
    }
    return true;
}

bool at_net_check(const char *site_id, const struct at_net_config *config, GError **error)
{
    struct inside in = {config, at_net_wants_uplink(config)};
    if (!at_net_check_config(site_id, config, error))
        return false;
    g_autofree char *name = at_net_name_netns(site_id, config->vdc_id);
    g_autofree char *path = at_net_path_netns(site_id, config->vdc_id);
    if (!at_net_namespace_exists(name))
        return missing(error, "network namespace", name);
    if (!at_net_inside(path, check_inside, &in, error) ||
        (in.connected && !check_host_side(site_id, config, error)))
        return false;
    for (unsigned i = 0; i < config->n_segments; i++) {
        if (!at_net_dnsmasq_alive(config->dir, config->segments[i].name))
            return missing(error, "dnsmasq of network", config->segments[i].name);
    }
    return true;
}

/* A rule set with everything that ours use, tried in a namespace that is thrown away. */
static bool try_features(void *data, GError **error)
{
    const struct at_net_segment segment = {"a", "10.0.0.0/24", true};
    const struct at_net_host host = {"a", "a", "02:00:00:00:00:01", "10.0.0.2"};
    const struct at_net_port port = {"tcp", 1, 1, "10.0.0.2"};
    const struct at_net_config config = {.segments = &segment,
                                         .n_segments = 1,
                                         .hosts = &host,
                                         .n_hosts = 1,
                                         .ports = &port,
                                         .n_ports = 1};
    g_autofree char *router = at_net_router_rules(&config);
    at_net_host_table empty = {g_array_new(FALSE, FALSE, 1), g_array_new(FALSE, FALSE, 1)};
    g_autofree char *host_rules =
        at_net_host_rules("atoll_probe", &empty, NULL, "a", 1, &port, 1, false);
    g_autofree char *all = g_strconcat(router, host_rules, NULL);
    const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    g_autoptr(at_net_route) sock = at_net_route_open(error);
    at_autofd self = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    (void)data;
    g_array_unref(empty.links);
    g_array_unref(empty.ports);
    return sock && at_net_nft_query(all, NULL, error) &&
           at_net_bridge_ensure(sock, "a", mac, error) &&
           at_net_veth_add(sock, "b", "c", self, error);
}

GStrv at_net_requirements(void)
{
    g_autoptr(GStrvBuilder) list = g_strv_builder_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *dnsmasq = at_find_program("dnsmasq", "dnsmasq-base", &error);
    if (!dnsmasq)
        g_strv_builder_add(list, error->message);
    g_clear_error(&error);
    if (access("/dev/net/tun", R_OK | W_OK) != 0)
        g_strv_builder_add(list, "/dev/net/tun cannot be opened (modprobe tun; root is needed)");
    if (!at_net_inside(NULL, try_features, NULL, &error)) {
        g_autofree char *text = g_strdup_printf(
            "the kernel lacks what networks need (veth, bridge, nf_tables with nat): %s",
            error->message);
        g_strv_builder_add(list, text);
    }
    return g_strv_builder_end(list);
}
