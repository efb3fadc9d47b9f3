/* SPDX-License-Identifier: Apache-2.0 */
/* A laboratory for networks: a site, stand-ins for guests, a machine outside. */
#include "lab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "lib/at-test.h"
#include "net/namespace.h"

enum { COMMAND_MS = 60000, FETCH_S = 30, TRY_S = 2 };

static char prefix[5]; /* of the ids of this program's sites */

/* Removes what tests that died have left. */
static void sweep(void)
{
    lab_sh(NULL,
           "export PATH=$PATH:/usr/sbin:/sbin;"
           "pgrep -f '^[^ ]*dnsmasq .*--conf-file=/tmp/atoll-net-%s' | xargs -r kill -9;"
           "for ns in $(ls /run/netns | grep -E '^(atoll-%s....-|lab-[a-z]*-%s)'); do"
           "  ip netns pids $ns | xargs -r kill -9; ip netns del $ns; done;"
           "for l in $(ip -o link | grep -oE '(at%s[0-9a-f]{8}u|lo%s[0-9a-f]{4})'); do"
           "  ip link del $l; done;"
           "nft list tables inet | grep -o 'atoll_%s....' | xargs -r -n1 nft delete table inet;"
           "pgrep -f '^[^ ]*busybox httpd .*/tmp/atoll-net-%s' | xargs -r kill -9;"
           "rm -rf /tmp/atoll-net-%s-*; true",
           prefix, prefix, prefix, prefix, prefix, prefix, prefix, prefix);
}

static void run_in_child(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return;
    }
    int status = 1;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        sweep();
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static uint32_t new_id(void)
{
    return (uint32_t)g_ascii_strtoull(prefix, NULL, 16) << 16 | (g_random_int() & 0xffff);
}

void lab_require(void)
{
    static const char *const programs[] = {"ip", "nft", "dnsmasq", "busybox", "curl"};
    if (geteuid() != 0)
        at_test_skip_all("needs root");
    for (unsigned i = 0; i < G_N_ELEMENTS(programs); i++) {
        g_autofree char *path = at_find_program(programs[i], NULL, NULL);
        if (!path)
            at_test_skip_all(g_strdup_printf("needs %s", programs[i]));
    }
    g_auto(GStrv) missing = at_net_requirements();
    if (missing[0])
        at_test_skip_all(missing[0]);
    g_snprintf(prefix, sizeof prefix, "%04x", g_random_int() & 0xffff);
    run_in_child();
}

bool lab_sh(char **ret_out, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    g_autofree char *command = g_strdup_vprintf(fmt, args);
    va_end(args);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    bool ok = at_run(argv, NULL, COMMAND_MS, NULL, &out, &error);
    g_test_message("%s: %s", command, ok ? "ok" : error->message);
    if (ok && ret_out)
        *ret_out = g_strdup(g_strchomp(out));
    return ok;
}

void lab_must(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    g_autofree char *command = g_strdup_vprintf(fmt, args);
    va_end(args);
    g_assert_true(lab_sh(NULL, "%s", command));
}

/* Everything on the host that bears the site's name. */
static char *traces(struct lab *lab)
{
    char *out = NULL;
    g_autofree char *site_vdcs = NULL;
    g_ptr_array_add(lab->vdcs, NULL);
    site_vdcs = g_strjoinv("|", (char **)lab->vdcs->pdata);
    g_ptr_array_set_size(lab->vdcs, (int)lab->vdcs->len - 1);
    lab_sh(&out,
           "export PATH=$PATH:/usr/sbin:/sbin; ls -1 /run/netns 2>/dev/null | grep atoll-%s;"
           "ip -o link | grep -oE 'at%.4s(%s)u@[^:]*'; nft list tables | grep atoll_%s;"
           "ps -eo args | grep -F -- '--conf-file=%s' | grep -v grep; ls -1 %s/n; true",
           lab->site, lab->site, site_vdcs, lab->site, lab->dir, lab->dir);
    return out;
}

struct lab *lab_begin(void)
{
    struct lab *lab = g_new0(struct lab, 1);
    g_autofree char *template = g_strdup_printf("atoll-net-%s-XXXXXX", prefix);
    lab->site = g_strdup_printf("%08x", new_id());
    lab->dir = g_dir_make_tmp(template, NULL);
    g_assert_nonnull(lab->dir);
    g_assert_cmpint(chmod(lab->dir, 0755), ==, 0);
    g_autofree char *nets = g_build_filename(lab->dir, "n", NULL);
    g_assert_true(at_mkdirs(nets, 0755, NULL));
    lab->strings = g_ptr_array_new_with_free_func(g_free);
    lab->vdcs = g_ptr_array_new_with_free_func(g_free);
    lab->namespaces = g_ptr_array_new_with_free_func(g_free);
    lab->processes = g_array_new(FALSE, FALSE, sizeof(struct at_process));
    return lab;
}

void lab_assert_clean(struct lab *lab)
{
    for (unsigned i = 0; i < lab->vdcs->len; i++) {
        g_autofree char *dir = g_build_filename(lab->dir, "n", lab->vdcs->pdata[i], NULL);
        g_autoptr(GError) error = NULL;
        at_net_down(lab->site, lab->vdcs->pdata[i], dir, &error);
        g_assert_no_error(error);
    }
    g_autofree char *left = traces(lab);
    g_assert_cmpstr(left, ==, "");
    g_auto(GStrv) list = at_net_list(lab->site, NULL);
    g_assert_cmpuint(g_strv_length(list), ==, 0);
}

void lab_end(struct lab *lab)
{
    for (unsigned i = 0; i < lab->processes->len; i++)
        at_process_stop(&g_array_index(lab->processes, struct at_process, i), 1000, NULL);
    for (unsigned i = 0; i < lab->namespaces->len; i++)
        lab_sh(NULL, "PATH=$PATH:/usr/sbin ip netns del %s", (char *)lab->namespaces->pdata[i]);
    lab_assert_clean(lab);
    g_assert_true(at_remove_tree(lab->dir, NULL));
    g_ptr_array_unref(lab->vdcs);
    g_ptr_array_unref(lab->strings);
    g_ptr_array_unref(lab->namespaces);
    g_array_unref(lab->processes);
    g_free(lab->site);
    g_free(lab->dir);
    g_free(lab);
}

struct at_net_config lab_config(struct lab *lab, const char *vdc_name)
{
    static const struct at_net_segment segments[] = {{"lab", "10.20.0.0/24", true}};
    static const struct at_net_host hosts[] = {
        {"retrieval", "lab", "52:54:00:aa:00:10", "10.20.0.10"},
        {"tune", "lab", "52:54:00:aa:00:11", "10.20.0.11"},
    };
    char *id = g_strdup_printf("%08x", g_random_int());
    char *dir = g_build_filename(lab->dir, "n", id, NULL);
    g_ptr_array_add(lab->vdcs, id);
    g_ptr_array_add(lab->strings, dir);
    return (struct at_net_config){.vdc_id = id,
                                  .vdc_name = vdc_name,
                                  .dir = dir,
                                  .segments = segments,
                                  .n_segments = G_N_ELEMENTS(segments),
                                  .hosts = hosts,
                                  .n_hosts = G_N_ELEMENTS(hosts)};
}

char *lab_up(struct lab *lab, const struct at_net_config *config)
{
    g_autoptr(GError) error = NULL;
    char *uplink = NULL;
    at_net_up(lab->site, config, &uplink, &error);
    g_assert_no_error(error);
    at_net_check(lab->site, config, &error);
    g_assert_no_error(error);
    return uplink;
}

static const char *new_namespace(struct lab *lab, const char *kind)
{
    char *ns = g_strdup_printf("lab-%s-%08x", kind, new_id());
    lab_must("PATH=$PATH:/usr/sbin; ip netns add %s && ip -n %s link set lo up", ns, ns);
    g_ptr_array_add(lab->namespaces, ns);
    return ns;
}

const char *lab_guest(struct lab *lab, const struct at_net_config *config, const char *network,
                      const char *mac, bool dhcp)
{
    const char *ns = new_namespace(lab, "guest");
    g_autofree char *router = g_strdup_printf("atoll-%s-%s", lab->site, config->vdc_id);
    g_auto(GStrv) bytes = g_strsplit(mac, ":", 6);
    g_autofree char *tap = g_strjoinv("", bytes);
    lab_must("PATH=$PATH:/usr/sbin; ip -n %s link add t%s type veth peer name eth0 address %s "
             "netns %s && ip -n %s link set t%s master n-%s up && ip -n %s link set eth0 up",
             router, tap, mac, ns, router, tap, network, ns);
    if (dhcp) {
        g_autofree char *script = g_build_filename(lab->dir, "udhcpc.sh", NULL);
        static const char text[] =
            "#!/bin/sh\nPATH=$PATH:/usr/sbin:/sbin\n"
            "if [ \"$1\" = bound ]; then\n"
            "  ip addr add $ip/$mask dev $interface\n"
            "  ip route add default via $router\n"
            "  echo \"$ip $router $dns $domain $hostname\" > $LAB_DIR/lease-$LAB_NS\nfi\n";
        g_assert_true(at_atomic_write(script, text, strlen(text), 0755, NULL));
        lab_must("PATH=$PATH:/usr/sbin; LAB_DIR=%s LAB_NS=%s ip netns exec %s busybox udhcpc -i "
                 "eth0 -n -q -f -t 20 -T 1 -s %s",
                 lab->dir, ns, ns, script);
    }
    return ns;
}

const char *lab_outside(struct lab *lab, char **ret_outside, char **ret_host)
{
    const char *ns = new_namespace(lab, "out");
    uint32_t number = new_id();
    /* 198.18.0.0/15 is for tests of networks (RFC 2544). */
    g_autofree char *base = g_strdup_printf("198.18.%u", number & 255);
    unsigned last = (number >> 8 & 63) * 4;
    *ret_host = g_strdup_printf("%s.%u", base, last + 1);
    *ret_outside = g_strdup_printf("%s.%u", base, last + 2);
    lab_must("PATH=$PATH:/usr/sbin; ip link add lo%08x type veth peer name eth0 netns %s && "
             "ip addr add %s/30 dev lo%08x && ip link set lo%08x up && "
             "ip -n %s addr add %s/30 dev eth0 && ip -n %s link set eth0 up",
             number, ns, *ret_host, number, number, ns, *ret_outside, ns);
    return ns;
}

static char *fetch(const char *ns, const char *where, int seconds)
{
    char *out = NULL;
    g_autofree char *enter = ns ? g_strdup_printf("ip netns exec %s", ns) : g_strdup("");
    return lab_sh(&out, "PATH=$PATH:/usr/sbin; %s curl --noproxy '*' -sf -m %d http://%s/", enter,
                  seconds, where)
               ? out
               : NULL;
}

char *lab_fetch(const char *ns, const char *where)
{
    return fetch(ns, where, FETCH_S);
}

char *lab_try(const char *ns, const char *where)
{
    return fetch(ns, where, TRY_S);
}

void lab_serve(struct lab *lab, const char *ns, unsigned port, const char *text)
{
    g_autofree char *root =
        g_strdup_printf("%s/www-%s-%u-%08x", lab->dir, ns ? ns : "host", port, g_random_int());
    g_autofree char *index = g_build_filename(root, "index.html", NULL);
    g_autofree char *where = g_strdup_printf("0.0.0.0:%u", port);
    g_autofree char *local = g_strdup_printf("127.0.0.1:%u", port);
    g_autofree char *netns = ns ? g_build_filename("/run/netns", ns, NULL) : NULL;
    g_autofree char *busybox = at_find_program("busybox", NULL, NULL);
    const char *argv[] = {busybox, "httpd", "-f", "-p", where, "-h", root, NULL};
    struct at_spawn spawn = {.argv = argv, .netns = netns};
    struct at_process process;
    g_autoptr(GError) error = NULL;
    g_assert_true(at_mkdirs(root, 0755, NULL));
    g_assert_true(at_atomic_write(index, text, strlen(text), 0644, NULL));
    at_spawn(&spawn, &process, &error);
    g_assert_no_error(error);
    g_array_append_val(lab->processes, process);
    for (int i = 0; i < 200; i++) {
        g_autofree char *got = lab_fetch(ns, local);
        if (g_strcmp0(got, text) == 0)
            return;
        g_usleep(20000);
    }
    g_error("the server on %s does not answer", where);
}

char *lab_resolve(const char *ns, const char *name)
{
    char *out = NULL;
    lab_sh(&out,
           "PATH=$PATH:/usr/sbin; ip netns exec %s busybox nslookup -type=a %s 10.20.0.1 | "
           "sed -n '/^Name/,$s/^Address[ 0-9]*: //p'",
           ns, name);
    return out;
}

struct udp {
    uint16_t port;
    int fd;
};

static bool open_udp(void *data, GError **error)
{
    struct udp *udp = data;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(udp->port)};
    struct timeval second = {.tv_sec = 1};
    udp->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(udp->fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
    return bind(udp->fd, (struct sockaddr *)&any, sizeof any) == 0 ||
           at_error_errno(error, errno, "bind");
}

int lab_udp(const char *ns, uint16_t port)
{
    struct udp udp = {port, -1};
    g_autofree char *path = g_build_filename("/run/netns", ns, NULL);
    g_assert_true(ns ? at_net_inside(path, open_udp, &udp, NULL) : open_udp(&udp, NULL));
    return udp.fd;
}

uint16_t lab_port(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t len = sizeof any;
    at_autofd fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&any, sizeof any), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&any, &len), ==, 0);
    return ntohs(any.sin_port);
}
