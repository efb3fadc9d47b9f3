/* SPDX-License-Identifier: Apache-2.0 */
/* DHCP and DNS: one dnsmasq per network of a VDC. */
#include "net/dnsmasq.h"

#include <arpa/inet.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/atomic-file.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/process.h"
#include "net/names.h"

enum { START_MS = 10000, STOP_MS = 3000 };

/* Debian's dnsmasq-base makes the user; elsewhere there is always nobody. */
static const char *run_as(void)
{
    struct passwd entry, *found = NULL;
    char buf[4096];
    return getpwnam_r("dnsmasq", &entry, buf, sizeof buf, &found) == 0 && found ? "dnsmasq"
                                                                                : "nobody";
}

char *at_net_dnsmasq_conf(const struct at_net_config *config, const struct at_net_segment *segment,
                          const char *upstream)
{
    struct at_net_subnet subnet = {0};
    at_net_subnet_parse(segment->subnet, &subnet, NULL);
    g_autofree char *dir = g_build_filename(config->dir, segment->name, NULL);
    g_autofree char *bridge = at_net_name_bridge(segment->name);
    g_autofree char *router = at_net_address_text(at_net_router(&subnet));
    g_autofree char *base = at_net_address_text(subnet.base);
    g_autofree char *mask = at_net_address_text(at_net_mask(subnet.prefix));
    g_autofree char *resolv =
        upstream ? g_strdup_printf("resolv-file=%s\n", upstream) : g_strdup("no-resolv\n");
    return g_strdup_printf("# Written by atolld; changes are lost.\n"
                           "user=%s\n"
                           "pid-file\n" /* we keep our own */
                           "interface=%s\n"
                           "except-interface=lo\n"
                           "bind-interfaces\n"
                           "no-hosts\n"
                           "%s"
                           "domain-needed\n"
                           "bogus-priv\n"
                           "domain=%s\n"
                           "local=/%s/\n"
                           "addn-hosts=%s/dns-hosts\n"
                           "dhcp-authoritative\n"
                           "dhcp-range=%s,static,%s,12h\n"
                           "dhcp-hostsfile=%s/dhcp-hosts\n"
                           "dhcp-leasefile=%s/leases\n"
                           "dhcp-option=option:router,%s\n"
                           "dhcp-option=option:dns-server,%s\n"
                           "no-ping\n"
                           "quiet-dhcp\n"
                           "log-facility=-\n",
                           run_as(), bridge, resolv, config->vdc_name, config->vdc_name, dir, base,
                           mask, dir, dir, router, router);
}

/* dnsmasq takes a word of dhcp-hosts for a keyword or a lease time ("12", "1d", "infinite") before
 * it takes it for a name. */
static bool is_plain_name(const char *name)
{
    static const char *const words[] = {"ignore", "infinite", NULL};
    const char *unit = name + strspn(name, G_CSET_DIGITS);
    bool time = unit != name && strspn(unit, "smhdw") <= 1 && unit[strspn(unit, "smhdw")] == '\0';
    return !time && !g_strv_contains(words, name);
}

char *at_net_dnsmasq_dhcp_hosts(const struct at_net_config *config, const char *network)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < config->n_hosts; i++) {
        const struct at_net_host *host = &config->hosts[i];
        /* id:* because a boot loader and a system send different client ids, and a clone with a
         * fresh machine-id another one again: the MAC alone says who it is. A guest whose name is
         * left out still has it in DNS, by dns-hosts. */
        if (strcmp(host->network, network) == 0)
            g_string_append_printf(text, "%s,id:*,%s%s%s\n", host->mac, host->address,
                                   is_plain_name(host->workstation) ? "," : "",
                                   is_plain_name(host->workstation) ? host->workstation : "");
    }
    return g_string_free(text, FALSE);
}

char *at_net_dnsmasq_dns_hosts(const struct at_net_config *config, const char *network)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < config->n_hosts; i++) {
        const struct at_net_host *host = &config->hosts[i];
        if (strcmp(host->network, network) == 0)
            g_string_append_printf(text, "%s %s.%s %s\n", host->address, host->workstation,
                                   config->vdc_name, host->workstation);
    }
    return g_string_free(text, FALSE);
}

const char *at_net_dnsmasq_upstream(void)
{
    static const char resolved[] = "/run/systemd/resolve/resolv.conf";
    g_autofree char *text = NULL;
    if (g_file_get_contents("/etc/resolv.conf", &text, NULL, NULL) && strstr(text, "127.0.0.53") &&
        g_file_test(resolved, G_FILE_TEST_EXISTS))
        return resolved;
    return "/etc/resolv.conf";
}

GArray *at_net_dnsmasq_servers(const char *path)
{
    GArray *servers = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return servers;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        uint32_t address;
        if (!g_str_has_prefix(*line, "nameserver"))
            continue;
        char *server = g_strstrip(*line + strlen("nameserver"));
        server[strcspn(server, " \t")] = '\0';
        if (at_net_address_parse(server, &address, NULL))
            g_array_append_val(servers, address);
    }
    return servers;
}

static bool says(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree char *old = NULL;
    return g_file_get_contents(path, &old, NULL, NULL) && strcmp(old, text) == 0;
}

/* Publishes @text unless the file says so already. */
static bool put_file(const char *dir, const char *name, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    return says(dir, name, text) || at_atomic_write(path, text, strlen(text), 0644, error);
}

static bool in_namespace(const struct at_process *process, const char *netns)
{
    g_autofree char *own = g_strdup_printf("/proc/%d/ns/net", (int)process->pid);
    struct stat a, b;
    return stat(own, &a) == 0 && stat(netns, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

/* Finds our processes below @prefix by their command line: --conf-file=<prefix>... */
static GArray *find_by_command(const char *prefix)
{
    GArray *found = g_array_new(FALSE, FALSE, sizeof(struct at_process));
    g_autofree char *argument = g_strconcat("--conf-file=", prefix, NULL);
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    const char *name;
    while (proc && (name = g_dir_read_name(proc))) {
        if (!g_ascii_isdigit(*name))
            continue;
        g_autofree char *path = g_build_filename("/proc", name, "cmdline", NULL);
        g_autofree char *line = NULL;
        gsize len = 0;
        if (!g_file_get_contents(path, &line, &len, NULL) || len == 0 ||
            !g_str_has_suffix(line, "/dnsmasq"))
            continue;
        struct at_process process;
        for (const char *arg = line; arg < line + len; arg += strlen(arg) + 1) {
            if (g_str_has_prefix(arg, argument) && at_process_lookup(atoi(name), &process)) {
                g_array_append_val(found, process);
                break;
            }
        }
    }
    return found;
}

/* The living dnsmasq of one network. */
static bool find(const char *dir, struct at_process *ret_process)
{
    g_autofree char *pidfile = g_build_filename(dir, "pid", NULL);
    g_autofree char *conf = g_build_filename(dir, "dnsmasq.conf", NULL);
    if (at_pidfile_read(pidfile, ret_process, NULL) && at_process_alive(ret_process))
        return true;
    g_autoptr(GArray) found = find_by_command(conf);
    if (found->len == 0)
        return false;
    *ret_process = g_array_index(found, struct at_process, 0);
    return at_pidfile_write(pidfile, ret_process, NULL);
}

bool at_net_dnsmasq_alive(const char *dir, const char *network)
{
    g_autofree char *sub = g_build_filename(dir, network, NULL);
    struct at_process process;
    return find(sub, &process);
}

/* Answers once it listens on port 53 of @address, seen in its namespace's socket table. */
static bool wait_listening(const struct at_process *process, uint32_t address, const char *log,
                           GError **error)
{
    g_autofree char *table = g_strdup_printf("/proc/%d/net/udp", (int)process->pid);
    g_autofree char *socket = g_strdup_printf(" %08X:0035 ", htonl(address));
    int64_t deadline = at_deadline_ms(START_MS);
    while (at_process_alive(process)) {
        g_autofree char *text = NULL;
        if (g_file_get_contents(table, &text, NULL, NULL) && strstr(text, socket))
            return true;
        if (at_deadline_left_ms(deadline) == 0)
            return at_error(error, AT_ERROR_TIMEOUT, "dnsmasq did not start to listen");
        g_usleep(5000);
    }
    g_autofree char *text = NULL;
    g_file_get_contents(log, &text, NULL, NULL);
    g_strchomp(text ? text : (text = g_strdup("")));
    const char *last = strrchr(text, '\n');
    return at_error(error, AT_ERROR_IO, "dnsmasq ended at once: %s", last ? last + 1 : text);
}

static bool start(const char *dir, const char *netns, uint32_t router, GError **error)
{
    g_autofree char *program = at_find_program("dnsmasq", "dnsmasq-base", error);
    g_autofree char *conf = g_strconcat("--conf-file=", dir, "/dnsmasq.conf", NULL);
    g_autofree char *log = g_build_filename(dir, "dnsmasq.log", NULL);
    g_autofree char *pidfile = g_build_filename(dir, "pid", NULL);
    const char *argv[] = {program, "--keep-in-foreground", conf, NULL};
    struct at_spawn spawn = {.argv = argv, .log_path = log, .netns = netns};
    struct at_process process;
    if (!program || !at_fault_point("net.dnsmasq", error) || !at_spawn(&spawn, &process, error))
        return false;
    if (!at_fault_point("net.dnsmasq", error) || !at_pidfile_write(pidfile, &process, error) ||
        !wait_listening(&process, router, log, error)) {
        at_process_stop(&process, STOP_MS, NULL);
        return false;
    }
    return true;
}

bool at_net_dnsmasq_ensure(const struct at_net_config *config, const struct at_net_segment *segment,
                           const char *netns, GError **error)
{
    g_autofree char *dir = g_build_filename(config->dir, segment->name, NULL);
    g_autofree char *conf = at_net_dnsmasq_conf(
        config, segment, segment->nat && !config->isolated ? at_net_dnsmasq_upstream() : NULL);
    g_autofree char *dhcp = at_net_dnsmasq_dhcp_hosts(config, segment->name);
    g_autofree char *dns = at_net_dnsmasq_dns_hosts(config, segment->name);
    struct at_net_subnet subnet = {0};
    struct at_process process;
    at_net_subnet_parse(segment->subnet, &subnet, NULL);
    if (!at_mkdirs(dir, 0755, error))
        return false;
    chmod(dir, 0755); /* dnsmasq reads its hosts again as its own user */
    if (!put_file(dir, "dhcp-hosts", dhcp, error) || !put_file(dir, "dns-hosts", dns, error))
        return false;
    bool running = find(dir, &process);
    if (!at_fault_point("net.dnsmasq", error))
        return false;
    /* The old one goes before the new file comes, so that a crash never leaves it running with a
     * file that it has not read. */
    if (running && (!in_namespace(&process, netns) || !says(dir, "dnsmasq.conf", conf))) {
        if (!at_process_stop(&process, STOP_MS, error))
            return false;
        running = false;
    }
    if (!put_file(dir, "dnsmasq.conf", conf, error))
        return false;
    if (running)
        return at_process_kill(&process, SIGHUP, error);
    return start(dir, netns, at_net_router(&subnet), error);
}

static bool kept(const struct at_net_config *keep, const char *network)
{
    for (unsigned i = 0; keep && i < keep->n_segments; i++) {
        if (strcmp(keep->segments[i].name, network) == 0)
            return true;
    }
    return false;
}

static bool stop_below(const char *prefix, GError **error)
{
    g_autoptr(GArray) found = find_by_command(prefix);
    for (unsigned i = 0; i < found->len; i++) {
        if (!at_process_stop(&g_array_index(found, struct at_process, i), STOP_MS, error))
            return false;
    }
    return true;
}

bool at_net_dnsmasq_stop(const char *dir, const struct at_net_config *keep, GError **error)
{
    g_autofree char *all = g_strconcat(dir, "/", NULL);
    if (!keep && !stop_below(all, error))
        return false;
    g_autoptr(GDir) entries = g_dir_open(dir, 0, NULL);
    const char *network;
    while (entries && (network = g_dir_read_name(entries))) {
        g_autofree char *sub = g_build_filename(dir, network, NULL);
        g_autofree char *prefix = g_strconcat(sub, "/", NULL);
        if (kept(keep, network) || !at_net_check_label("", network, NULL))
            continue;
        if (!at_fault_point("net.dnsmasq", error) || (keep && !stop_below(prefix, error)) ||
            !at_remove_tree(sub, error))
            return false;
    }
    return true;
}
