/* SPDX-License-Identifier: Apache-2.0 */
/* The networks of VDCs: a namespace per VDC as its router, bridges, TAPs, dnsmasq, nftables, an
 * uplink and published ports. Everything is idempotent and can be found again after a crash by
 * its name: namespace atoll-<site8>-<vdc8>, host table inet atoll_<site8>. A call that was killed
 * half way is made good by the next at_net_up or at_net_down of that VDC.
 * Any thread; calls block (milliseconds to a few seconds). Changes are made one at a time over all
 * daemons of a host (lock /run/atoll/net.lock, TIMEOUT after 30 s). Nothing of it survives a reboot
 * of the host: then at_net_up makes it again. Fault points: net.netns, net.veth, net.bridge,
 * net.nft, net.dnsmasq, net.tap. */
#pragma once
#include <gio/gio.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct at_net_segment {
    const char *name;
    const char *subnet; /* IPv4 CIDR, /8 to /30; the first address is the router's */
    bool nat;           /* may reach the uplink */
};
/* A NIC of a workstation; must be told before its TAP is used. On its network DHCP gives it the
 * address, and DNS knows it as <workstation> and <workstation>.<vdc_name>. */
struct at_net_host {
    const char *workstation;
    const char *network;
    const char *mac;     /* unique in the VDC, unicast */
    const char *address; /* fixed IPv4, always set */
};
struct at_net_port {
    const char *protocol; /* tcp | udp */
    uint16_t host, guest;
    const char *address; /* guest's inner address */
};
struct at_net_config {
    const char *vdc_id;   /* 8 hex */
    const char *vdc_name; /* DNS domain inside */
    const char *dir;    /* STATE/n/<vdc-id>, absolute: dnsmasq files and pid; reachable by others */
    bool isolated;      /* no uplink, no published ports */
    const char *uplink; /* "100.x.y.z/30" as returned earlier, or NULL to choose a free one */
    const struct at_net_segment *segments;
    unsigned n_segments;
    const struct at_net_host *hosts;
    unsigned n_hosts;
    const struct at_net_port *ports;
    unsigned n_ports;
};

/* Makes or changes the VDC's network to be as described; running guests keep their links.
 * @ret_uplink: the /30 in use ("" when isolated, or with neither NAT nor ports); newly allocated;
 * another than config->uplink when that one has been taken meanwhile. On failure what was made in
 * this call for a VDC that had nothing before is removed; one that had something is left as far as
 * it came, and the next call continues. INVALID before anything is touched; CONFLICT names who
 * holds a port; UNAVAILABLE: a program is missing; NO_SPACE: no /30 is free; IO. */
bool at_net_up(const char *site_id, const struct at_net_config *config, char **ret_uplink,
               GError **error);

/* Removes it all (dnsmasq, namespace, veth, host rules, and @dir when nothing else is in it); what
 * is missing is fine. Guests that still run keep their TAPs, which lead nowhere from then on. */
bool at_net_down(const char *site_id, const char *vdc_id, const char *dir, GError **error);

/* A TAP in the VDC's namespace on the bridge of @network, for one NIC; gone when the descriptor
 * and its copies are closed. The fd is close-on-exec and has IFF_VNET_HDR. Returns it (caller owns)
 * or -1: CONFLICT when a running guest holds it, NOT_FOUND without that network or VDC. */
int at_net_tap(const char *site_id, const char *vdc_id, const char *network, const char *mac,
               GError **error);

/* VDC ids (8 hex) that have something of this site on the host; NULL with an error. */
GStrv at_net_list(const char *site_id, GError **error);

/* True when everything of the VDC is there and dnsmasq lives; otherwise says what is missing
 * (UNAVAILABLE); at_net_up repairs it. */
bool at_net_check(const char *site_id, const struct at_net_config *config, GError **error);

/* Is this host port free (not bound on the host, not published by a VDC of any site)? CONFLICT
 * names the holder. A port that the asking VDC has published itself is not free either: ask only
 * for new ones (at_net_up does its own check and knows the difference). */
bool at_net_port_free(const char *site_id, const char *protocol, uint16_t port, GError **error);

/* Health checks from inside the VDC: HTTP GET of @url (status 2xx or 3xx is healthy) or a TCP
 * connect. The host in @url is an IPv4 address; redirects are not followed, the body is not read.
 * Blocks at most @timeout_ms. TIMEOUT; PEER: refused or a bad answer; INVALID: the URL. */
bool at_net_probe_http(const char *site_id, const char *vdc_id, const char *url, int timeout_ms,
                       GError **error);
bool at_net_probe_tcp(const char *site_id, const char *vdc_id, const char *address, uint16_t port,
                      int timeout_ms, GError **error);

/* Programs and kernel features that are missing, one message each; empty when all is there. */
GStrv at_net_requirements(void);

/* What of this host's own configuration may stand in a VDC's way though everything needed is
 * there: foreign firewalls that drop forwarded packets, name servers that only the host itself can
 * ask. One message each, with the remedy; empty when there is nothing to say. */
GStrv at_net_warnings(void);
