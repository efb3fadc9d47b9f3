/* SPDX-License-Identifier: Apache-2.0 */
/* Links, addresses and routes over rtnetlink (libnl-route-3), in the calling thread's namespace. */
#include "net/link.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/route.h>
#include <string.h>

#include "base/error.h"

typedef struct rtnl_link Link;
typedef struct rtnl_addr Addr;
typedef struct rtnl_route Route;
typedef struct nl_addr NlAddr;
typedef struct nl_cache Cache;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Link, rtnl_link_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Addr, rtnl_addr_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Route, rtnl_route_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NlAddr, nl_addr_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Cache, nl_cache_free)

/* Sets AT_ERROR from a libnl result. */
static bool nl_failed(GError **error, int result, const char *what, const char *name)
{
    return at_error(error, result == -NLE_PERM ? AT_ERROR_DENIED : AT_ERROR_IO, "%s %s: %s", what,
                    name, nl_geterror(result));
}

at_net_route *at_net_route_open(GError **error)
{
    g_autoptr(at_net_route) sock = nl_socket_alloc();
    int r = sock ? nl_connect(sock, NETLINK_ROUTE) : -NLE_NOMEM;
    if (r < 0) {
        nl_failed(error, r, "connect to", "rtnetlink");
        return NULL;
    }
    return g_steal_pointer(&sock);
}

static bool get_link(at_net_route *sock, const char *name, Link **ret_link, GError **error)
{
    int r = rtnl_link_get_kernel(sock, 0, name, ret_link);
    return r >= 0 || nl_failed(error, r, "link", name);
}

int at_net_link_index(at_net_route *sock, const char *name, GError **error)
{
    g_autoptr(Link) link = NULL;
    int r = rtnl_link_get_kernel(sock, 0, name, &link);
    if (r == -NLE_OBJ_NOTFOUND || r == -NLE_NODEV)
        return 0;
    if (r < 0) {
        nl_failed(error, r, "link", name);
        return -1;
    }
    return rtnl_link_get_ifindex(link);
}

char *at_net_link_alias(at_net_route *sock, const char *name)
{
    g_autoptr(Link) link = NULL;
    if (rtnl_link_get_kernel(sock, 0, name, &link) < 0)
        return NULL;
    return g_strdup(rtnl_link_get_ifalias(link));
}

bool at_net_link_up_with_alias(at_net_route *sock, const char *name, const char *alias,
                               GError **error)
{
    g_autoptr(Link) link = NULL;
    if (!get_link(sock, name, &link, error))
        return false;
    bool same = !alias || g_strcmp0(rtnl_link_get_ifalias(link), alias) == 0;
    if (same && (rtnl_link_get_flags(link) & IFF_UP))
        return true;
    g_autoptr(Link) change = rtnl_link_alloc();
    rtnl_link_set_flags(change, IFF_UP);
    if (!same)
        rtnl_link_set_ifalias(change, alias);
    int r = rtnl_link_change(sock, link, change, 0);
    return r >= 0 || nl_failed(error, r, "set up link", name);
}

bool at_net_link_up(at_net_route *sock, const char *name, GError **error)
{
    return at_net_link_up_with_alias(sock, name, NULL, error);
}

bool at_net_link_delete(at_net_route *sock, const char *name, GError **error)
{
    g_autoptr(Link) link = rtnl_link_alloc();
    rtnl_link_set_name(link, name);
    int r = rtnl_link_delete(sock, link);
    return r >= 0 || r == -NLE_OBJ_NOTFOUND || r == -NLE_NODEV ||
           nl_failed(error, r, "remove link", name);
}

GStrv at_net_links(at_net_route *sock, const char *kind, GError **error)
{
    g_autoptr(Cache) cache = NULL;
    int r = rtnl_link_alloc_cache(sock, AF_UNSPEC, &cache);
    if (r < 0) {
        nl_failed(error, r, "list", "links");
        return NULL;
    }
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();
    for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
        struct rtnl_link *link = (struct rtnl_link *)o;
        if (!kind || g_strcmp0(rtnl_link_get_type(link), kind) == 0)
            g_strv_builder_add(names, rtnl_link_get_name(link));
    }
    return g_strv_builder_end(names);
}

bool at_net_bridge_ensure(at_net_route *sock, const char *name, const uint8_t mac[6],
                          GError **error)
{
    int index = at_net_link_index(sock, name, error);
    if (index < 0)
        return false;
    if (index == 0) {
        g_autoptr(Link) link = rtnl_link_bridge_alloc();
        g_autoptr(NlAddr) address = nl_addr_build(AF_LLC, mac, 6);
        rtnl_link_set_name(link, name);
        rtnl_link_set_addr(link, address);
        int r = rtnl_link_add(sock, link, NLM_F_CREATE | NLM_F_EXCL);
        if (r < 0)
            return nl_failed(error, r, "make bridge", name);
    }
    return at_net_link_up(sock, name, error);
}

bool at_net_link_enslave(at_net_route *sock, const char *bridge, const char *name, GError **error)
{
    int master = at_net_link_index(sock, bridge, error);
    int slave = master < 0 ? -1 : at_net_link_index(sock, name, error);
    if (slave < 0)
        return false;
    if (master == 0 || slave == 0)
        return at_error(error, AT_ERROR_NOT_FOUND, "link %s is not there", master ? name : bridge);
    int r = rtnl_link_enslave_ifindex(sock, master, slave);
    return r >= 0 || nl_failed(error, r, "put into its bridge", name);
}

bool at_net_veth_add(at_net_route *sock, const char *name, const char *peer, int netns_fd,
                     GError **error)
{
    g_autoptr(Link) link = rtnl_link_veth_alloc();
    g_autoptr(Link) other = rtnl_link_veth_get_peer(link);
    rtnl_link_set_name(link, name);
    rtnl_link_set_name(other, peer);
    rtnl_link_set_ns_fd(other, netns_fd);
    int r = rtnl_link_add(sock, link, NLM_F_CREATE | NLM_F_EXCL);
    return r >= 0 || nl_failed(error, r, "make veth", name);
}

static bool addr_matches(struct rtnl_addr *addr, int index, uint32_t *ret_address)
{
    struct nl_addr *local = rtnl_addr_get_local(addr);
    if (rtnl_addr_get_family(addr) != AF_INET || rtnl_addr_get_ifindex(addr) != index || !local)
        return false;
    uint32_t net;
    memcpy(&net, nl_addr_get_binary_addr(local), 4);
    *ret_address = ntohl(net);
    return true;
}

bool at_net_address_set(at_net_route *sock, const char *name, uint32_t address, unsigned prefix,
                        GError **error)
{
    g_autoptr(Cache) cache = NULL;
    int index = at_net_link_index(sock, name, error);
    if (index < 0)
        return false;
    if (index == 0)
        return at_error(error, AT_ERROR_NOT_FOUND, "link %s is not there", name);
    int r = rtnl_addr_alloc_cache(sock, &cache);
    if (r < 0)
        return nl_failed(error, r, "list addresses of", name);
    bool there = false;
    for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
        struct rtnl_addr *addr = (struct rtnl_addr *)o;
        uint32_t old;
        if (!addr_matches(addr, index, &old))
            continue;
        if (old == address && rtnl_addr_get_prefixlen(addr) == (int)prefix) {
            there = true;
        } else if ((r = rtnl_addr_delete(sock, addr, 0)) < 0 && r != -NLE_NOADDR) {
            return nl_failed(error, r, "remove an address of", name);
        }
    }
    if (there)
        return true;
    uint32_t net = htonl(address);
    g_autoptr(NlAddr) local = nl_addr_build(AF_INET, &net, sizeof net);
    nl_addr_set_prefixlen(local, (int)prefix);
    g_autoptr(Addr) addr = rtnl_addr_alloc();
    rtnl_addr_set_ifindex(addr, index);
    rtnl_addr_set_local(addr, local);
    r = rtnl_addr_add(sock, addr, 0);
    return r >= 0 || nl_failed(error, r, "give its address to", name);
}

bool at_net_address_has(at_net_route *sock, const char *name, uint32_t address)
{
    g_autoptr(Cache) cache = NULL;
    int index = at_net_link_index(sock, name, NULL);
    if (index <= 0 || rtnl_addr_alloc_cache(sock, &cache) < 0)
        return false;
    for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
        uint32_t old;
        if (addr_matches((struct rtnl_addr *)o, index, &old) && old == address)
            return true;
    }
    return false;
}

bool at_net_default_route(at_net_route *sock, const char *name, uint32_t gateway, GError **error)
{
    int index = at_net_link_index(sock, name, error);
    if (index < 0)
        return false;
    uint32_t net = htonl(gateway), zero = 0;
    g_autoptr(NlAddr) dst = nl_addr_build(AF_INET, &zero, sizeof zero);
    g_autoptr(NlAddr) via = nl_addr_build(AF_INET, &net, sizeof net);
    nl_addr_set_prefixlen(dst, 0);
    g_autoptr(Route) route = rtnl_route_alloc();
    struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
    rtnl_route_nh_set_ifindex(hop, index);
    rtnl_route_nh_set_gateway(hop, via);
    rtnl_route_set_family(route, AF_INET);
    rtnl_route_set_dst(route, dst);
    rtnl_route_add_nexthop(route, hop); /* the route owns it now */
    int r = rtnl_route_add(sock, route, NLM_F_CREATE | NLM_F_REPLACE);
    return r >= 0 || nl_failed(error, r, "make the default route over", name);
}

GArray *at_net_ranges_in_use(at_net_route *sock, const char *except, GError **error)
{
    g_autoptr(Cache) cache = NULL;
    g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(struct at_net_subnet));
    int index = except ? at_net_link_index(sock, except, error) : 0;
    if (index < 0)
        return NULL;
    /* The kernel's local table has every address, so the routes are the whole story. */
    int r = rtnl_route_alloc_cache(sock, AF_INET, 0, &cache);
    if (r < 0) {
        nl_failed(error, r, "list", "routes");
        return NULL;
    }
    for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
        struct rtnl_route *route = (struct rtnl_route *)o;
        struct nl_addr *dst = rtnl_route_get_dst(route);
        struct rtnl_nexthop *hop = rtnl_route_nexthop_n(route, 0);
        if (!dst || nl_addr_get_prefixlen(dst) == 0 || nl_addr_get_len(dst) != 4 ||
            (index > 0 && hop && rtnl_route_nh_get_ifindex(hop) == index))
            continue;
        uint32_t net;
        memcpy(&net, nl_addr_get_binary_addr(dst), 4);
        struct at_net_subnet range = {ntohl(net), nl_addr_get_prefixlen(dst)};
        g_array_append_val(ranges, range);
    }
    return g_steal_pointer(&ranges);
}
