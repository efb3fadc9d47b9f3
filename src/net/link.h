/* SPDX-License-Identifier: Apache-2.0 */
/* Links, addresses and routes over rtnetlink (libnl-route-3), in the calling thread's namespace.
 * Everything is idempotent: it makes the named thing be so. */
#pragma once
#include <glib.h>
#include <netlink/netlink.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/names.h"

typedef struct nl_sock at_net_route;
static inline void at_net_route_close(at_net_route *sock)
{
    nl_socket_free(sock);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_net_route, at_net_route_close)

at_net_route *at_net_route_open(GError **error);

/* The index, 0 when there is no such link, -1 with an error. */
int at_net_link_index(at_net_route *sock, const char *name, GError **error);

/* The alias text of a link, newly allocated; NULL when it has none or is not there. */
char *at_net_link_alias(at_net_route *sock, const char *name);

bool at_net_link_up(at_net_route *sock, const char *name, GError **error);
bool at_net_link_up_with_alias(at_net_route *sock, const char *name, const char *alias,
                               GError **error);

/* A missing one is fine. */
bool at_net_link_delete(at_net_route *sock, const char *name, GError **error);

/* Names of all links of @kind ("bridge", "veth"; NULL: any). */
GStrv at_net_links(at_net_route *sock, const char *kind, GError **error);

/* A bridge with this hardware address, up. */
bool at_net_bridge_ensure(at_net_route *sock, const char *name, const uint8_t mac[6],
                          GError **error);
bool at_net_link_enslave(at_net_route *sock, const char *bridge, const char *name, GError **error);

/* A new pair, one end here, the other born as @peer in the namespace @netns_fd; both down. */
bool at_net_veth_add(at_net_route *sock, const char *name, const char *peer, int netns_fd,
                     GError **error);

/* Makes @address/@prefix the link's only IPv4 address. */
bool at_net_address_set(at_net_route *sock, const char *name, uint32_t address, unsigned prefix,
                        GError **error);
bool at_net_address_has(at_net_route *sock, const char *name, uint32_t address);

bool at_net_default_route(at_net_route *sock, const char *name, uint32_t gateway, GError **error);

/* Every IPv4 range that has a route or an address here but the default route and what belongs to
 * the link @except: an array of struct at_net_subnet. */
GArray *at_net_ranges_in_use(at_net_route *sock, const char *except, GError **error);
