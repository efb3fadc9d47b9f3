/* SPDX-License-Identifier: Apache-2.0 */
/* Host ports: which are taken, and by whom. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "net/check.h"
#include "net/firewall.h"
#include "net/link.h"
#include "net/names.h"

/* "VDC rag-team (1a2b3c4d)" from the alias of the uplink, else from its name. */
static char *describe_link(const char *table, const char *veth)
{
    g_autoptr(at_net_route) sock = at_net_route_open(NULL);
    g_autofree char *alias = sock ? at_net_link_alias(sock, veth) : NULL;
    g_auto(GStrv) words = g_strsplit(alias ? alias : "", " ", 4);
    const char *site = table + strlen("atoll_");
    if (g_strv_length(words) == 4)
        return g_strdup_printf("VDC %s (%s of site %s)", words[3], words[2], site);
    return g_strdup_printf("VDC %.8s of site %s", strlen(veth) == 15 ? veth + 6 : veth, site);
}

/* Looks through the tables of all sites; the port's holder, newly allocated, or NULL.
 * @own_veth  of @own_table does not count; may be NULL */
static bool find_vdc(const char *protocol, uint16_t number, const char *own_table,
                     const char *own_veth, char **ret_holder, bool *ret_own, GError **error)
{
    g_auto(GStrv) tables = at_net_host_tables(error);
    if (!tables)
        return false;
    for (char **name = tables; *name; name++) {
        g_autoptr(at_net_host_table) table = at_net_host_table_read(*name, error);
        if (!table)
            return false;
        for (unsigned i = 0; i < table->ports->len; i++) {
            const struct at_net_host_port *port =
                &g_array_index(table->ports, struct at_net_host_port, i);
            if (port->port != number || strcmp(port->protocol, protocol) != 0)
                continue;
            const char *veth = "";
            for (unsigned k = 0; k < table->links->len; k++) {
                const struct at_net_host_link *link =
                    &g_array_index(table->links, struct at_net_host_link, k);
                if (link->address == port->address)
                    veth = link->veth;
            }
            if (own_veth && strcmp(*name, own_table) == 0 && strcmp(veth, own_veth) == 0) {
                *ret_own = true;
                continue;
            }
            *ret_holder = describe_link(*name, veth);
            return true;
        }
    }
    return true;
}

/* The inode of the socket bound to @port, 0 when it is not found. */
static unsigned long socket_inode(const char *table, uint16_t port, bool tcp)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(table, &text, NULL, NULL))
        return 0;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        unsigned local, state;
        unsigned long inode;
        if (sscanf(*line, " %*u: %*[0-9A-F]:%4x %*[0-9A-F]:%*x %2x %*s %*s %*s %*u %*u %lu", &local,
                   &state, &inode) == 3 &&
            local == port && inode != 0 && (!tcp || state == 0x0a /* listening */))
            return inode;
    }
    return 0;
}

/* "nginx (pid 812)" or "another program". */
static char *describe_program(const char *protocol, uint16_t port)
{
    bool tcp = strcmp(protocol, "tcp") == 0;
    unsigned long inode = socket_inode(tcp ? "/proc/net/tcp" : "/proc/net/udp", port, tcp);
    if (inode == 0)
        inode = socket_inode(tcp ? "/proc/net/tcp6" : "/proc/net/udp6", port, tcp);
    g_autofree char *wanted = g_strdup_printf("socket:[%lu]", inode);
    g_autoptr(GDir) proc = inode ? g_dir_open("/proc", 0, NULL) : NULL;
    const char *pid;
    while (proc && (pid = g_dir_read_name(proc))) {
        if (!isdigit((unsigned char)*pid))
            continue;
        g_autofree char *fds = g_build_filename("/proc", pid, "fd", NULL);
        g_autoptr(GDir) dir = g_dir_open(fds, 0, NULL);
        const char *fd;
        while (dir && (fd = g_dir_read_name(dir))) {
            g_autofree char *path = g_build_filename(fds, fd, NULL);
            g_autofree char *target = g_file_read_link(path, NULL);
            if (g_strcmp0(target, wanted) != 0)
                continue;
            g_autofree char *comm = g_build_filename("/proc", pid, "comm", NULL);
            g_autofree char *name = NULL;
            if (g_file_get_contents(comm, &name, NULL, NULL))
                return g_strdup_printf("program %s (pid %s)", g_strchomp(name), pid);
        }
    }
    return g_strdup("another program");
}

/* 0 when it can be bound on all of the host's IPv4 addresses, else the errno. */
static int try_bind(const char *protocol, uint16_t port)
{
    bool tcp = strcmp(protocol, "tcp") == 0;
    at_autofd fd = socket(AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;
    if (fd < 0)
        return errno;
    if (tcp) /* connections that have just ended do not count */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    return bind(fd, (struct sockaddr *)&any, sizeof any) == 0 ? 0 : errno;
}

static bool check(const char *own_table, const char *own_veth, const char *protocol, uint16_t port,
                  GError **error)
{
    g_autofree char *holder = NULL;
    bool own = false;
    if (!find_vdc(protocol, port, own_table, own_veth, &holder, &own, error))
        return false;
    if (holder)
        return at_error(error, AT_ERROR_CONFLICT, "host port %s %u is published by %s", protocol,
                        port, holder);
    int err = own ? 0 : try_bind(protocol, port);
    if (err == EADDRINUSE) {
        g_autofree char *program = describe_program(protocol, port);
        return at_error(error, AT_ERROR_CONFLICT, "host port %s %u is in use by %s", protocol, port,
                        program);
    }
    return err == 0 || at_error_errno(error, err, "host port %s %u", protocol, port);
}

bool at_net_port_free(const char *site_id, const char *protocol, uint16_t port, GError **error)
{
    if (g_strcmp0(protocol, "tcp") != 0 && g_strcmp0(protocol, "udp") != 0)
        return at_error(error, AT_ERROR_INVALID, "a published port is tcp or udp, not '%s'",
                        protocol ? protocol : "");
    return at_net_check_id("site", site_id, error) && check(NULL, NULL, protocol, port, error);
}

bool at_net_check_ports(const char *site_id, const struct at_net_config *config, GError **error)
{
    g_autofree char *table = at_net_name_table(site_id);
    g_autofree char *veth = at_net_name_veth(site_id, config->vdc_id);
    for (unsigned i = 0; !config->isolated && i < config->n_ports; i++) {
        if (!check(table, veth, config->ports[i].protocol, config->ports[i].host, error))
            return false;
    }
    return true;
}
