/* SPDX-License-Identifier: Apache-2.0 */
/* Which /30 of 100.64.0.0/10 (RFC 6598) a VDC's uplink gets: .1 is the host's end, .2 the VDC's. */
#pragma once
#include <glib.h>
#include <stdbool.h>

#include "net/names.h"

/* Chooses a /30 that overlaps nothing in @used (struct at_net_subnet).
 * @wanted  "100.x.y.z/30" to keep if it is free, or NULL
 * @seed    where the search starts, so that VDCs seldom meet
 * NO_SPACE when none is free.  Pure. */
bool at_net_uplink_choose(const GArray *used, const char *wanted, const char *seed,
                          struct at_net_subnet *ret_uplink, GError **error);

static inline uint32_t at_net_uplink_host(const struct at_net_subnet *uplink)
{
    return uplink->base + 1;
}
static inline uint32_t at_net_uplink_vdc(const struct at_net_subnet *uplink)
{
    return uplink->base + 2;
}
