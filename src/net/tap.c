/* SPDX-License-Identifier: Apache-2.0 */
/* TAPs: made in the VDC's namespace, named after the guest's MAC (the router's rules go by that
 * name), and gone with their last descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "net/link.h"
#include "net/names.h"
#include "net/namespace.h"
#include "net/net.h"

struct tap {
    const char *network, *mac;
    int fd;
};

static bool make_tap(void *data, GError **error)
{
    struct tap *tap = data;
    g_autofree char *name = at_net_name_tap(tap->mac);
    g_autofree char *bridge = at_net_name_bridge(tap->network);
    g_autoptr(at_net_route) sock = at_net_route_open(error);
    int index = sock ? at_net_link_index(sock, bridge, error) : -1;
    if (index < 0)
        return false;
    if (index == 0)
        return at_error(error, AT_ERROR_NOT_FOUND, "the VDC has no network %s", tap->network);
    at_autofd fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return at_error_errno(error, errno, "open /dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    g_strlcpy(request.ifr_name, name, sizeof request.ifr_name);
    if (!at_fault_point("net.tap", error))
        return false;
    if (ioctl(fd, TUNSETIFF, &request) != 0)
        return errno == EBUSY ? at_error(error, AT_ERROR_CONFLICT,
                                         "the NIC %s is in use by a running guest", tap->mac)
                              : at_error_errno(error, errno, "make TAP %s", name);
    if (!at_net_link_enslave(sock, bridge, name, error) || !at_net_link_up(sock, name, error))
        return false;
    tap->fd = at_steal_fd(&fd);
    return true;
}

int at_net_tap(const char *site_id, const char *vdc_id, const char *network, const char *mac,
               GError **error)
{
    struct tap tap = {network, mac, -1};
    if (!at_net_check_id("site", site_id, error) || !at_net_check_id("VDC", vdc_id, error) ||
        !at_net_check_label("network", network, error) || !at_net_check_mac(mac, error))
        return -1;
    g_autofree char *path = at_net_path_netns(site_id, vdc_id);
    if (!at_net_inside(path, make_tap, &tap, error)) {
        g_prefix_error(error, "TAP for %s on network %s: ", mac, network);
        return -1;
    }
    return tap.fd;
}
