/* SPDX-License-Identifier: Apache-2.0 */
/* Which /30 of 100.64.0.0/10 a VDC's uplink gets. */
#include "net/uplink.h"

#include <string.h>

#include "base/digest.h"
#include "base/error.h"

static const struct at_net_subnet pool = {0x64400000, 10};
enum { POOL_SIZE = 1 << 20 }; /* as many /30 are in it */

/* The end of a used range that overlaps, 0 when it is free. */
static uint64_t blocked_until(const GArray *used, const struct at_net_subnet *want)
{
    uint64_t until = 0;
    for (unsigned i = 0; i < used->len; i++) {
        const struct at_net_subnet *u = &g_array_index(used, struct at_net_subnet, i);
        if (at_net_overlaps(u, want))
            until =
                MAX(until, (u->base & at_net_mask(u->prefix)) + (UINT64_C(1) << (32 - u->prefix)));
    }
    return until;
}

bool at_net_uplink_choose(const GArray *used, const char *wanted, const char *seed,
                          struct at_net_subnet *ret_uplink, GError **error)
{
    struct at_net_subnet uplink;
    if (wanted && *wanted && at_net_subnet_parse(wanted, &uplink, NULL) && uplink.prefix == 30 &&
        at_net_overlaps(&pool, &uplink) && blocked_until(used, &uplink) == 0) {
        *ret_uplink = uplink;
        return true;
    }
    struct at_digest digest;
    at_digest_of(seed, strlen(seed), &digest);
    uint32_t first =
        ((uint32_t)digest.bytes[0] << 16 | (uint32_t)digest.bytes[1] << 8 | digest.bytes[2]) %
        POOL_SIZE;
    uplink.prefix = 30;
    for (uint32_t tried = 0; tried < POOL_SIZE;) {
        uplink.base = pool.base + (first + tried) % POOL_SIZE * 4;
        uint64_t until = blocked_until(used, &uplink);
        if (until == 0) {
            *ret_uplink = uplink;
            return true;
        }
        /* Big ranges are passed over in one step. */
        uint64_t step = (until - uplink.base + 3) / 4;
        uint32_t to_end = POOL_SIZE - (first + tried) % POOL_SIZE;
        tried += (uint32_t)MIN(MAX(step, 1), to_end);
    }
    return at_error(error, AT_ERROR_NO_SPACE,
                    "no /30 of 100.64.0.0/10 is free on this host for the uplink; see `ip route "
                    "show table all`");
}
