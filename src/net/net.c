/* SPDX-License-Identifier: Apache-2.0 */
/* The network of a VDC brought to what its description says, and taken away: the order in which
 * namespace, rules, bridges, uplink and dnsmasq come and go. Rules come before what they guard. */
#include "net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "net/check.h"
#include "net/dnsmasq.h"
#include "net/firewall.h"
#include "net/link.h"
#include "net/names.h"
#include "net/namespace.h"
#include "net/uplink.h"

#define RUN_DIR "/run/atoll"
enum { LOCK_MS = 30000 };

/* One change of the host's network at a time, over all daemons of the host. The lock goes with
 * the descriptor, so also with a killed process. */
static int take_lock(GError **error)
{
    int64_t deadline = at_deadline_ms(LOCK_MS);
    if (!at_mkdirs(RUN_DIR, 0755, error))
        return -1;
    at_autofd fd = open(RUN_DIR "/net.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        at_error_errno(error, errno, "open %s", RUN_DIR "/net.lock");
        return -1;
    }
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            at_error_errno(error, errno, "lock %s", RUN_DIR "/net.lock");
            return -1;
        }
        if (at_deadline_left_ms(deadline) == 0) {
            at_error(error, AT_ERROR_TIMEOUT,
                     "another atolld has been changing this host's network for %d s",
                     LOCK_MS / 1000);
            return -1;
        }
        g_usleep(5000);
    }
    return at_steal_fd(&fd);
}

/* Without forwarding there is no NAT and no published port. It stays on afterwards, since others
 * may rely on it by then; the note says who switched it on. */
static bool host_forwarding(const char *site, GError **error)
{
    g_autofree char *now = NULL;
    if (g_file_get_contents("/proc/sys/net/ipv4/ip_forward", &now, NULL, NULL) && now[0] == '1')
        return true;
    if (!at_fault_point("net.veth", error) || !at_net_sysctl("ipv4/ip_forward", "1", false, error))
        return false;
    g_autofree char *time = at_clock_rfc3339();
    g_autofree char *note =
        g_strdup_printf("net.ipv4.ip_forward set to 1 by site %s at %s\n", site, time);
    return at_atomic_write(RUN_DIR "/ip_forward", note, strlen(note), 0644, error);
}

struct up {
    const struct at_net_config *config;
    struct at_net_subnet uplink; /* prefix 0: none */
    bool has_peer;               /* the uplink's end inside is there */
};

static bool router_sysctls(GError **error)
{
    return at_net_sysctl("ipv4/ip_forward", "1", false, error) &&
           at_net_sysctl("ipv6/conf/all/disable_ipv6", "1", true, error) &&
           at_net_sysctl("ipv6/conf/default/disable_ipv6", "1", true, error) &&
           at_net_sysctl("bridge/bridge-nf-call-iptables", "0", true, error) &&
           at_net_sysctl("bridge/bridge-nf-call-ip6tables", "0", true, error) &&
           at_net_sysctl("bridge/bridge-nf-call-arptables", "0", true, error);
}

static bool wanted_bridge(const struct at_net_config *config, const char *bridge)
{
    for (unsigned i = 0; i < config->n_segments; i++) {
        g_autofree char *name = at_net_name_bridge(config->segments[i].name);
        if (strcmp(name, bridge) == 0)
            return true;
    }
    return false;
}

/* Inside: everything but the uplink. */
static bool build_router(void *data, GError **error)
{
    struct up *up = data;
    g_autoptr(at_net_route) sock = at_net_route_open(error);
    g_autofree char *rules = at_net_router_rules(up->config);
    if (!sock || !router_sysctls(error) || !at_net_nft_change(rules, error) ||
        !at_net_link_up(sock, "lo", error))
        return false;
    g_auto(GStrv) bridges = at_net_links(sock, "bridge", error);
    for (char **bridge = bridges; bridge && *bridge; bridge++) {
        if (!wanted_bridge(up->config, *bridge) &&
            (!at_fault_point("net.bridge", error) || !at_net_link_delete(sock, *bridge, error)))
            return false;
    }
    for (unsigned i = 0; bridges && i < up->config->n_segments; i++) {
        const struct at_net_segment *segment = &up->config->segments[i];
        g_autofree char *name = at_net_name_bridge(segment->name);
        uint8_t mac[6];
        struct at_net_subnet subnet;
        at_net_bridge_mac(segment->name, mac);
        if (!at_net_subnet_parse(segment->subnet, &subnet, error) ||
            !at_fault_point("net.bridge", error) || !at_net_bridge_ensure(sock, name, mac, error) ||
            !at_net_address_set(sock, name, at_net_router(&subnet), subnet.prefix, error))
            return false;
    }
    up->has_peer = at_net_link_index(sock, AT_NET_UPLINK, NULL) > 0;
    return bridges != NULL;
}

/* Inside: the uplink's end. */
static bool join_uplink(void *data, GError **error)
{
    const struct up *up = data;
    g_autoptr(at_net_route) sock = at_net_route_open(error);
    return sock && at_fault_point("net.veth", error) &&
           at_net_address_set(sock, AT_NET_UPLINK, at_net_uplink_vdc(&up->uplink), 30, error) &&
           at_net_link_up(sock, AT_NET_UPLINK, error) &&
           at_net_default_route(sock, AT_NET_UPLINK, at_net_uplink_host(&up->uplink), error);
}

static bool veth_sysctl(const char *veth, const char *family, const char *name, GError **error)
{
    g_autofree char *path = g_strdup_printf("%s/conf/%s/%s", family, veth, name);
    return at_net_sysctl(path, "1", family[3] == '6', error);
}

static bool remove_host_rules(const char *table, const char *veth, GError **error)
{
    g_autoptr(at_net_host_table) now = at_net_host_table_read(table, error);
    if (!now)
        return false;
    g_auto(GStrv) tables = at_net_host_tables(error);
    if (!tables)
        return false;
    bool mine = false;
    for (unsigned i = 0; i < now->links->len; i++)
        mine |= strcmp(g_array_index(now->links, struct at_net_host_link, i).veth, veth) == 0;
    /* An empty table is what a foreign hand left; it goes too. */
    if (!mine && (now->links->len > 0 || !g_strv_contains((const char *const *)tables, table)))
        return true;
    g_autoptr(GArray) servers = at_net_dnsmasq_servers(at_net_dnsmasq_upstream());
    g_autofree char *rules = at_net_host_rules(table, now, servers, veth, 0, NULL, 0, true);
    return at_net_nft_change(rules, error);
}

/* The uplink goes first: rules without a link do nothing, a link without rules would be open. */
static bool drop_uplink(at_net_route *sock, const char *site, const char *veth, GError **error)
{
    g_autofree char *table = at_net_name_table(site);
    int index = at_net_link_index(sock, veth, error);
    if (index < 0)
        return false;
    if (index > 0 && (!at_fault_point("net.veth", error) || !at_net_link_delete(sock, veth, error)))
        return false;
    return remove_host_rules(table, veth, error);
}

static bool make_uplink(at_net_route *sock, const char *site, struct up *up, const char *veth,
                        const char *netns, GError **error)
{
    const struct at_net_config *config = up->config;
    g_autofree char *table = at_net_name_table(site);
    g_autofree char *seed = g_strconcat(site, config->vdc_id, NULL);
    g_autofree char *alias =
        g_strdup_printf("atoll %s %s %s", site, config->vdc_id, config->vdc_name);
    g_autoptr(GArray) used = at_net_ranges_in_use(sock, veth, error);
    g_autoptr(at_net_host_table) now = used ? at_net_host_table_read(table, error) : NULL;
    if (!now)
        return false;
    const char *wanted = config->uplink;
    g_autofree char *current = NULL;
    for (unsigned i = 0; i < now->links->len; i++) {
        const struct at_net_host_link *link =
            &g_array_index(now->links, struct at_net_host_link, i);
        struct at_net_subnet range = {link->address & ~UINT32_C(3), 30};
        if (strcmp(link->veth, veth) != 0) /* also one whose link is not made yet */
            g_array_append_val(used, range);
        else if (!wanted || !*wanted)
            wanted = current = at_net_subnet_text(&range);
    }
    if (!at_net_uplink_choose(used, wanted, seed, &up->uplink, error))
        return false;
    g_autoptr(GArray) servers = at_net_dnsmasq_servers(at_net_dnsmasq_upstream());
    g_autofree char *rules =
        at_net_host_rules(table, now, servers, veth, at_net_uplink_vdc(&up->uplink), config->ports,
                          config->n_ports, false);
    if (!at_net_nft_change(rules, error) || !host_forwarding(site, error))
        return false;
    int index = at_net_link_index(sock, veth, error);
    if (index < 0)
        return false;
    if (index > 0 && !up->has_peer) { /* its other end is in a namespace that lost its name */
        if (!at_fault_point("net.veth", error) || !at_net_link_delete(sock, veth, error))
            return false;
        index = 0;
    }
    if (index == 0) {
        at_autofd fd = open(netns, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return at_error_errno(error, errno, "open %s", netns);
        if (!at_fault_point("net.veth", error) ||
            !at_net_veth_add(sock, veth, AT_NET_UPLINK, fd, error))
            return false;
    }
    /* route_localnet lets 127.0.0.1:PORT of the host lead here; the table's input chain keeps the
     * VDC from the host's own loopback services. */
    return at_fault_point("net.veth", error) && veth_sysctl(veth, "ipv6", "disable_ipv6", error) &&
           veth_sysctl(veth, "ipv4", "route_localnet", error) &&
           at_net_address_set(sock, veth, at_net_uplink_host(&up->uplink), 30, error) &&
           at_net_link_up_with_alias(sock, veth, alias, error) &&
           at_net_inside(netns, join_uplink, up, error);
}

static bool bring_up(const char *site, const struct at_net_config *config, char **ret_uplink,
                     GError **error)
{
    struct up up = {.config = config};
    g_autofree char *name = at_net_name_netns(site, config->vdc_id);
    g_autofree char *path = at_net_path_netns(site, config->vdc_id);
    g_autofree char *veth = at_net_name_veth(site, config->vdc_id);
    g_autoptr(at_net_route) sock = at_net_route_open(error);
    bool connected = at_net_wants_uplink(config);
    if (!sock || !at_mkdirs(config->dir, 0755, error))
        return false;
    chmod(config->dir, 0755); /* dnsmasq reads below it as its own user */
    if (!connected && !drop_uplink(sock, site, veth, error))
        return false;
    if (!at_net_namespace_make(name, error) || !at_net_dnsmasq_stop(config->dir, config, error) ||
        !at_net_inside(path, build_router, &up, error))
        return false;
    if (connected && !make_uplink(sock, site, &up, veth, path, error))
        return false;
    for (unsigned i = 0; i < config->n_segments; i++) {
        if (!at_net_dnsmasq_ensure(config, &config->segments[i], path, error)) {
            g_prefix_error(error, "network %s: ", config->segments[i].name);
            return false;
        }
    }
    *ret_uplink = connected ? at_net_subnet_text(&up.uplink) : g_strdup("");
    return true;
}

static bool take_down(const char *site, const char *vdc, const char *dir, GError **error)
{
    g_autofree char *name = at_net_name_netns(site, vdc);
    g_autofree char *veth = at_net_name_veth(site, vdc);
    g_autoptr(at_net_route) sock = at_net_route_open(error);
    if (!sock || !at_net_dnsmasq_stop(dir, NULL, error) || !drop_uplink(sock, site, veth, error) ||
        !at_net_namespace_remove(name, error))
        return false;
    rmdir(dir); /* when nothing of others is in it */
    return true;
}

bool at_net_up(const char *site_id, const struct at_net_config *config, char **ret_uplink,
               GError **error)
{
    if (!at_net_check_config(site_id, config, error))
        return false;
    at_autofd lock = take_lock(error);
    if (lock < 0 || !at_net_check_ports(site_id, config, error))
        return false;
    g_autofree char *name = at_net_name_netns(site_id, config->vdc_id);
    bool existed = at_net_namespace_exists(name);
    if (bring_up(site_id, config, ret_uplink, error))
        return true;
    if (!existed)
        take_down(site_id, config->vdc_id, config->dir, NULL);
    g_prefix_error(error, "network of VDC %s: ", config->vdc_name);
    return false;
}

bool at_net_down(const char *site_id, const char *vdc_id, const char *dir, GError **error)
{
    if (!at_net_check_id("site", site_id, error) || !at_net_check_id("VDC", vdc_id, error))
        return false;
    if (!dir || !g_path_is_absolute(dir))
        return at_error(error, AT_ERROR_INVALID, "'%s' is not an absolute path", dir ? dir : "");
    at_autofd lock = take_lock(error);
    if (lock >= 0 && take_down(site_id, vdc_id, dir, error))
        return true;
    g_prefix_error(error, "network of VDC %s: ", vdc_id);
    return false;
}
