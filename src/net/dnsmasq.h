/* SPDX-License-Identifier: Apache-2.0 */
/* DHCP and DNS: one dnsmasq per network of a VDC, so that a network without NAT cannot reach an
 * upstream server either. Its files are in DIR/<network>/: dnsmasq.conf, dhcp-hosts, dns-hosts,
 * leases, pid, dnsmasq.log. It outlives the daemon and is found again by its pid file or, when a
 * crash left none, by its command line. */
#pragma once
#include <glib.h>
#include <stdbool.h>

#include "net/net.h"

/* The three files. Pure but for @upstream: path of a resolv.conf, or NULL to forward nothing. */
char *at_net_dnsmasq_conf(const struct at_net_config *config, const struct at_net_segment *segment,
                          const char *upstream);
char *at_net_dnsmasq_dhcp_hosts(const struct at_net_config *config, const char *network);
char *at_net_dnsmasq_dns_hosts(const struct at_net_config *config, const char *network);

/* The host's list of name servers as dnsmasq may use it from another namespace: a stub on the
 * host's loopback (systemd-resolved) is not reachable there, but says where its own list is. */
const char *at_net_dnsmasq_upstream(void);

/* The IPv4 name servers in the resolv.conf at @path, as numbers (uint32_t); empty when there are
 * none or no file. */
GArray *at_net_dnsmasq_servers(const char *path);

/* Makes it run with these files: started, told to read its hosts again, restarted or left alone,
 * whichever is the least. @netns: path. Fault point: net.dnsmasq. */
bool at_net_dnsmasq_ensure(const struct at_net_config *config, const struct at_net_segment *segment,
                           const char *netns, GError **error);

/* Stops those below @dir but for the networks of @keep (may be NULL: all), and removes their
 * files. */
bool at_net_dnsmasq_stop(const char *dir, const struct at_net_config *keep, GError **error);

bool at_net_dnsmasq_alive(const char *dir, const char *network);
