/* SPDX-License-Identifier: Apache-2.0 */
/* Names of what the room makes on the host, and the checks and conversions of addresses.
 * Interface names have at most 15 characters. */
#pragma once
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define AT_NET_DIR "/run/netns"
#define AT_NET_UPLINK "up0" /* the uplink's end inside the VDC */

/* All newly allocated. */
char *at_net_name_netns(const char *site, const char *vdc);      /* atoll-<site>-<vdc> */
char *at_net_path_netns(const char *site, const char *vdc);      /* /run/netns/... */
char *at_net_name_veth(const char *site, const char *vdc);       /* at<site 4><vdc 8>u */
char *at_net_name_table(const char *site);                       /* atoll_<site> */
char *at_net_name_bridge(const char *network);                   /* n-lab; long names are hashed */
char *at_net_name_tap(const char *mac);                          /* t<12 hex> */
void at_net_bridge_mac(const char *network, uint8_t ret_mac[6]); /* the same in every clone */

/* A range of IPv4 addresses; host byte order. */
struct at_net_subnet {
    uint32_t base;
    unsigned prefix;
};
uint32_t at_net_mask(unsigned prefix);
bool at_net_contains(const struct at_net_subnet *subnet, uint32_t address);
bool at_net_overlaps(const struct at_net_subnet *a, const struct at_net_subnet *b);

/* "10.20.0.0/24", no host bits set, prefix 8 to 30. INVALID names what is wrong. */
bool at_net_subnet_parse(const char *text, struct at_net_subnet *ret_subnet, GError **error);
bool at_net_address_parse(const char *text, uint32_t *ret_address, GError **error);
char *at_net_address_text(uint32_t address);
char *at_net_subnet_text(const struct at_net_subnet *subnet);

/* The first address of the network: its router. */
static inline uint32_t at_net_router(const struct at_net_subnet *subnet)
{
    return subnet->base + 1;
}

/* INVALID unless: 8 lower-case hex digits; an RFC 1123 label; aa:bb:cc:dd:ee:ff, unicast. */
bool at_net_check_id(const char *what, const char *id, GError **error);
bool at_net_check_label(const char *what, const char *label, GError **error);
bool at_net_check_mac(const char *mac, GError **error);
