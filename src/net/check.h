/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of a description before anything is touched, and who holds a host port. */
#pragma once
#include <glib.h>
#include <stdbool.h>

#include "net/net.h"

/* INVALID with the reason; ids, names, subnets, addresses, MACs, ports. Pure. */
bool at_net_check_config(const char *site_id, const struct at_net_config *config, GError **error);

/* CONFLICT names who holds one of the ports that this VDC does not have yet. */
bool at_net_check_ports(const char *site_id, const struct at_net_config *config, GError **error);

/* An uplink is there for NAT and for published ports, and never when isolated. */
bool at_net_wants_uplink(const struct at_net_config *config);
