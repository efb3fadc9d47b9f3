/* SPDX-License-Identifier: Apache-2.0 */
/* nftables through libnftables: the rules of a VDC's router (tables `inet atoll` and `bridge
 * atoll` in its namespace) and those of the host (table `inet atoll_<site>`, shared by the site's
 * VDCs). Every change is one transaction; foreign tables are never touched. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/net.h"

/* The whole rule set of the router as nft text, replacing what was there. Pure. */
char *at_net_router_rules(const struct at_net_config *config);

/* Runs nft commands in the calling thread's namespace, all or nothing.
 * @ret_json  answers as JSON, protocols as numbers; may be NULL.  Fault point when changing:
 * net.nft. */
bool at_net_nft_change(const char *commands, GError **error);
bool at_net_nft_query(const char *commands, char **ret_json, GError **error);

/* What the host's table of one site holds. */
struct at_net_host_link {
    char *veth;
    uint32_t address; /* the VDC's end */
};
struct at_net_host_port {
    char *protocol;
    uint16_t port;
    uint32_t address;
};
struct at_net_host_table {
    GArray *links; /* struct at_net_host_link */
    GArray *ports; /* struct at_net_host_port */
};
typedef struct at_net_host_table at_net_host_table;
void at_net_host_table_free(at_net_host_table *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_net_host_table, at_net_host_table_free)

/* Reads it; an empty one when there is no such table. @table: atoll_<site>. */
at_net_host_table *at_net_host_table_read(const char *table, GError **error);

/* Names of the tables of all sites on this host. */
GStrv at_net_host_tables(GError **error);

/* The transaction that gives @veth exactly this address and these ports in a table that holds
 * @now, or (with @remove) takes it out, with the table when it was the last. Pure.
 * @servers  the host's name servers (uint32_t), which VDCs may ask also where they are link-local;
 *           may be NULL */
char *at_net_host_rules(const char *table, const at_net_host_table *now, const GArray *servers,
                        const char *veth, uint32_t address, const struct at_net_port *ports,
                        unsigned n_ports, bool remove);
