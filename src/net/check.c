/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of a description before anything is touched. */
#include "net/check.h"

#include <string.h>

#include "base/error.h"
#include "net/names.h"

bool at_net_wants_uplink(const struct at_net_config *config)
{
    bool nat = false;
    for (unsigned i = 0; i < config->n_segments; i++)
        nat |= config->segments[i].nat;
    return !config->isolated && (nat || config->n_ports > 0);
}

static bool check_segments(const struct at_net_config *config, GError **error)
{
    g_autofree struct at_net_subnet *subnets = g_new0(struct at_net_subnet, config->n_segments);
    for (unsigned i = 0; i < config->n_segments; i++) {
        const struct at_net_segment *segment = &config->segments[i];
        if (!at_net_check_label("network", segment->name, error) ||
            !at_net_subnet_parse(segment->subnet, &subnets[i], error))
            return false;
        for (unsigned k = 0; k < i; k++) {
            if (strcmp(config->segments[k].name, segment->name) == 0)
                return at_error(error, AT_ERROR_INVALID, "two networks are named %s",
                                segment->name);
            if (at_net_overlaps(&subnets[k], &subnets[i]))
                return at_error(error, AT_ERROR_INVALID, "networks %s and %s overlap (%s, %s)",
                                config->segments[k].name, segment->name, config->segments[k].subnet,
                                segment->subnet);
        }
    }
    return true;
}

static const struct at_net_segment *find_segment(const struct at_net_config *config,
                                                 const char *name)
{
    for (unsigned i = 0; i < config->n_segments; i++) {
        if (g_strcmp0(config->segments[i].name, name) == 0)
            return &config->segments[i];
    }
    return NULL;
}

static bool check_host(const struct at_net_config *config, unsigned i, GError **error)
{
    const struct at_net_host *host = &config->hosts[i];
    const struct at_net_segment *segment = find_segment(config, host->network);
    struct at_net_subnet subnet;
    uint32_t address;
    if (!at_net_check_label("workstation", host->workstation, error) ||
        !at_net_check_mac(host->mac, error) ||
        !at_net_address_parse(host->address, &address, error))
        return false;
    if (!segment)
        return at_error(error, AT_ERROR_INVALID, "workstation %s: there is no network '%s'",
                        host->workstation, host->network ? host->network : "");
    if (!at_net_subnet_parse(segment->subnet, &subnet, error))
        return false;
    uint32_t last = subnet.base | ~at_net_mask(subnet.prefix);
    if (!at_net_contains(&subnet, address) || address == subnet.base || address == last ||
        address == at_net_router(&subnet))
        return at_error(error, AT_ERROR_INVALID,
                        "workstation %s: %s is not an address for a guest in %s (the first is the "
                        "router's)",
                        host->workstation, host->address, segment->subnet);
    for (unsigned k = 0; k < i; k++) {
        const struct at_net_host *other = &config->hosts[k];
        if (g_ascii_strcasecmp(other->mac, host->mac) == 0)
            return at_error(error, AT_ERROR_INVALID, "workstations %s and %s have one MAC, %s",
                            other->workstation, host->workstation, host->mac);
        if (strcmp(other->address, host->address) == 0)
            return at_error(error, AT_ERROR_INVALID, "workstations %s and %s have one address, %s",
                            other->workstation, host->workstation, host->address);
    }
    return true;
}

static bool check_port(const struct at_net_config *config, unsigned i, GError **error)
{
    const struct at_net_port *port = &config->ports[i];
    uint32_t address;
    if (g_strcmp0(port->protocol, "tcp") != 0 && g_strcmp0(port->protocol, "udp") != 0)
        return at_error(error, AT_ERROR_INVALID, "a published port is tcp or udp, not '%s'",
                        port->protocol ? port->protocol : "");
    if (port->host == 0 || port->guest == 0)
        return at_error(error, AT_ERROR_INVALID, "a published port is 1 to 65535");
    if (!at_net_address_parse(port->address, &address, error))
        return false;
    for (unsigned k = 0; k < i; k++) {
        if (config->ports[k].host == port->host &&
            strcmp(config->ports[k].protocol, port->protocol) == 0)
            return at_error(error, AT_ERROR_INVALID, "host port %s %u is published twice",
                            port->protocol, port->host);
    }
    return true;
}

bool at_net_check_config(const char *site_id, const struct at_net_config *config, GError **error)
{
    if (!at_net_check_id("site", site_id, error) ||
        !at_net_check_id("VDC", config->vdc_id, error) ||
        !at_net_check_label("VDC", config->vdc_name, error))
        return false;
    /* The path stands in dnsmasq's file and on its command line. */
    if (!config->dir || !g_path_is_absolute(config->dir) || strpbrk(config->dir, "\n\r,\"#"))
        return at_error(error, AT_ERROR_INVALID, "'%s' is not a usable absolute path",
                        config->dir ? config->dir : "");
    if (!check_segments(config, error))
        return false;
    for (unsigned i = 0; i < config->n_hosts; i++) {
        if (!check_host(config, i, error))
            return false;
    }
    for (unsigned i = 0; i < config->n_ports; i++) {
        if (!check_port(config, i, error))
            return false;
    }
    return true;
}
