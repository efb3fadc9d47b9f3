/* SPDX-License-Identifier: Apache-2.0 */
/* Names of what the room makes on the host, and the checks and conversions of addresses. */
#include "net/names.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/error.h"

char *at_net_name_netns(const char *site, const char *vdc)
{
    return g_strdup_printf("atoll-%s-%s", site, vdc);
}

char *at_net_path_netns(const char *site, const char *vdc)
{
    return g_strdup_printf(AT_NET_DIR "/atoll-%s-%s", site, vdc);
}

char *at_net_name_veth(const char *site, const char *vdc)
{
    return g_strdup_printf("at%.4s%.8su", site, vdc);
}

char *at_net_name_table(const char *site)
{
    return g_strdup_printf("atoll_%s", site);
}

char *at_net_name_bridge(const char *network)
{
    if (strlen(network) <= 13)
        return g_strdup_printf("n-%s", network);
    struct at_digest digest;
    char hex[AT_DIGEST_HEX + 1];
    at_digest_of(network, strlen(network), &digest);
    at_digest_to_hex(&digest, hex);
    return g_strdup_printf("n-%.4s_%.8s", network, hex);
}

char *at_net_name_tap(const char *mac)
{
    GString *name = g_string_new("t");
    for (const char *p = mac; *p; p++) {
        if (*p != ':')
            g_string_append_c(name, g_ascii_tolower(*p));
    }
    return g_string_free(name, FALSE);
}

void at_net_bridge_mac(const char *network, uint8_t ret_mac[6])
{
    struct at_digest digest;
    at_digest_of(network, strlen(network), &digest);
    memcpy(ret_mac, digest.bytes, 6);
    ret_mac[0] = (uint8_t)((ret_mac[0] & 0xfc) | 0x02); /* locally administered, unicast */
}

uint32_t at_net_mask(unsigned prefix)
{
    return prefix == 0 ? 0 : ~UINT32_C(0) << (32 - prefix);
}

bool at_net_contains(const struct at_net_subnet *subnet, uint32_t address)
{
    return ((address ^ subnet->base) & at_net_mask(subnet->prefix)) == 0;
}

bool at_net_overlaps(const struct at_net_subnet *a, const struct at_net_subnet *b)
{
    return ((a->base ^ b->base) & at_net_mask(MIN(a->prefix, b->prefix))) == 0;
}

bool at_net_address_parse(const char *text, uint32_t *ret_address, GError **error)
{
    struct in_addr in;
    if (!text || inet_pton(AF_INET, text, &in) != 1)
        return at_error(error, AT_ERROR_INVALID, "'%s' is not an IPv4 address", text ? text : "");
    *ret_address = ntohl(in.s_addr);
    return true;
}

bool at_net_subnet_parse(const char *text, struct at_net_subnet *ret_subnet, GError **error)
{
    const char *slash = text ? strchr(text, '/') : NULL;
    guint64 prefix = 0;
    struct at_net_subnet subnet;
    if (!slash || !g_ascii_string_to_unsigned(slash + 1, 10, 8, 30, &prefix, NULL))
        return at_error(error, AT_ERROR_INVALID,
                        "'%s' is not an IPv4 subnet such as 10.20.0.0/24 (/8 to /30)",
                        text ? text : "");
    g_autofree char *address = g_strndup(text, (gsize)(slash - text));
    if (!at_net_address_parse(address, &subnet.base, error))
        return false;
    subnet.prefix = (unsigned)prefix;
    if (subnet.base & ~at_net_mask(subnet.prefix))
        return at_error(error, AT_ERROR_INVALID, "subnet '%s' has bits set after its prefix", text);
    *ret_subnet = subnet;
    return true;
}

char *at_net_address_text(uint32_t address)
{
    return g_strdup_printf("%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255,
                           address & 255);
}

char *at_net_subnet_text(const struct at_net_subnet *subnet)
{
    g_autofree char *base = at_net_address_text(subnet->base);
    return g_strdup_printf("%s/%u", base, subnet->prefix);
}

bool at_net_check_id(const char *what, const char *id, GError **error)
{
    if (!id || strlen(id) != 8 || strspn(id, "0123456789abcdef") != 8)
        return at_error(error, AT_ERROR_INVALID, "%s '%s' is not 8 hex digits", what, id ? id : "");
    return true;
}

bool at_net_check_label(const char *what, const char *label, GError **error)
{
    size_t len = label ? strlen(label) : 0;
    if (len == 0 || len > 63 || strspn(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != len ||
        label[0] == '-' || label[len - 1] == '-')
        return at_error(error, AT_ERROR_INVALID,
                        "%s '%s' is not a name (1 to 63 of a-z, 0-9 and '-')", what,
                        label ? label : "");
    return true;
}

bool at_net_check_mac(const char *mac, GError **error)
{
    unsigned byte[6];
    int end = 0;
    if (!mac || strlen(mac) != 17 || strspn(mac, "0123456789abcdefABCDEF:") != 17 ||
        sscanf(mac, "%2x:%2x:%2x:%2x:%2x:%2x%n", &byte[0], &byte[1], &byte[2], &byte[3], &byte[4],
               &byte[5], &end) != 6 ||
        end != 17 || byte[0] & 1)
        return at_error(error, AT_ERROR_INVALID, "'%s' is not a unicast MAC address",
                        mac ? mac : "");
    return true;
}
