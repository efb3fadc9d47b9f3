/* SPDX-License-Identifier: Apache-2.0 */
/* What of the host's own configuration may stand in a VDC's way. */
#include <string.h>

#include "base/json.h"
#include "net/dnsmasq.h"
#include "net/firewall.h"
#include "net/names.h"
#include "net/net.h"

/* A packet passes only when every chain of the hook lets it, so a foreign one that drops by
 * default (Docker's, ufw's) stops VDCs too unless its rules say otherwise. */
static void warn_firewalls(GStrvBuilder *list)
{
    g_autofree char *json = NULL;
    if (!at_net_nft_query("list chains", &json, NULL))
        return;
    g_autoptr(JsonNode) root = at_json_parse(json, -1, NULL);
    JsonArray *items = root ? at_json_arr(json_node_get_object(root), "nftables") : NULL;
    for (unsigned i = 0; items && i < json_array_get_length(items); i++) {
        JsonObject *chain = at_json_obj(json_array_get_object_element(items, i), "chain");
        const char *family = at_json_str(chain, "family", "");
        const char *table = at_json_str(chain, "table", "");
        if (strcmp(at_json_str(chain, "hook", ""), "forward") != 0 ||
            strcmp(at_json_str(chain, "policy", ""), "drop") != 0 ||
            (strcmp(family, "ip") != 0 && strcmp(family, "inet") != 0) ||
            g_str_has_prefix(table, "atoll_"))
            continue;
        g_autofree char *text = g_strdup_printf(
            "the firewall chain %s %s %s drops forwarded packets by default: NAT and published "
            "ports of VDCs work only if its rules let the interfaces at* pass, both ways%s",
            family, table, at_json_str(chain, "name", ""),
            strcmp(table, "filter") == 0 && strcmp(family, "ip") == 0
                ? " (with Docker: iptables -I DOCKER-USER -i at+ -j ACCEPT; iptables -I "
                  "DOCKER-USER -o at+ -j ACCEPT)"
                : "");
        g_strv_builder_add(list, text);
    }
}

static void warn_name_servers(GStrvBuilder *list)
{
    const char *path = at_net_dnsmasq_upstream();
    g_autoptr(GArray) servers = at_net_dnsmasq_servers(path);
    bool reachable = false;
    for (unsigned i = 0; i < servers->len; i++)
        reachable |= g_array_index(servers, uint32_t, i) >> 24 != 127;
    if (!reachable) {
        g_autofree char *message = g_strdup_printf(
            "%s names no IPv4 name server outside this host: VDCs resolve their own names only",
            path);
        g_strv_builder_add(list, message);
    }
}

GStrv at_net_warnings(void)
{
    g_autoptr(GStrvBuilder) list = g_strv_builder_new();
    warn_firewalls(list);
    warn_name_servers(list);
    return g_strv_builder_end(list);
}
