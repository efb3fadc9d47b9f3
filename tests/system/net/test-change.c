/* SPDX-License-Identifier: Apache-2.0 */
/* A network that changes under running guests, its TAPs, its host ports, and its probes. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "lab.h"
#include "net/firewall.h"
#include "net/namespace.h"

#define MAC_RETRIEVAL "52:54:00:aa:00:10"
#define MAC_TUNE "52:54:00:aa:00:11"

static bool tap_shown(struct lab *lab, const struct at_net_config *config)
{
    return lab_sh(NULL,
                  "PATH=$PATH:/usr/sbin; ip -n atoll-%s-%s link show master n-lab | grep -q "
                  "'t525400aa0011: .*UP'",
                  lab->site, config->vdc_id);
}

static void test_tap(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    g_autofree char *uplink = lab_up(lab, &config);
    g_autoptr(GError) error = NULL;
    int fd = at_net_tap(lab->site, config.vdc_id, "lab", MAC_TUNE, &error);
    g_assert_no_error(error);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(at_net_tap(lab->site, config.vdc_id, "lab", MAC_TUNE, &error), ==, -1);
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_clear_error(&error);
    g_assert_cmpint(at_net_tap(lab->site, config.vdc_id, "nowhere", MAC_TUNE, &error), ==, -1);
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_true(tap_shown(lab, &config));
    g_autofree char *again = lab_up(lab, &config); /* leaves it alone */
    g_assert_true(tap_shown(lab, &config));
    close(fd);
    g_assert_false(tap_shown(lab, &config));
    lab_end(lab);
}

static void test_growth(void)
{
    static const struct at_net_segment segments[] = {{"lab", "10.20.0.0/24", true},
                                                     {"store", "10.30.0.0/24", false}};
    const struct at_net_host hosts[] = {
        {"retrieval", "lab", MAC_RETRIEVAL, "10.20.0.10"},
        {"tune", "lab", MAC_TUNE, "10.20.0.11"},
        {"eval", "store", "52:54:00:aa:00:12", "10.30.0.12"},
    };
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    config.n_hosts = 1;
    config.hosts = hosts;
    g_autofree char *uplink = lab_up(lab, &config);
    const char *guest = lab_guest(lab, &config, "lab", MAC_RETRIEVAL, true);
    lab_serve(lab, guest, 8000, "vectors");
    g_autofree char *pid = g_build_filename(config.dir, "lab", "pid", NULL);
    struct at_process before, after;
    g_assert_true(at_pidfile_read(pid, &before, NULL));

    const struct at_net_port ports[] = {{"tcp", lab_port(), 8000, "10.20.0.10"}};
    config.segments = segments;
    config.n_segments = 2;
    config.n_hosts = 3;
    config.ports = ports;
    config.n_ports = 1;
    g_autofree char *same = lab_up(lab, &config);
    g_assert_cmpstr(same, ==, uplink);
    g_assert_true(at_pidfile_read(pid, &after, NULL));
    g_assert_cmpint(before.pid, ==, after.pid); /* new hosts need no restart */
    const char *tune = lab_guest(lab, &config, "lab", MAC_TUNE, true);
    const char *eval = lab_guest(lab, &config, "store", "52:54:00:aa:00:12", true);
    g_autofree char *port = g_strdup_printf("127.0.0.1:%u", ports[0].host);
    g_autofree char *a = lab_fetch(tune, "10.20.0.10:8000"), *b = lab_fetch(NULL, port);
    g_autofree char *c = lab_try(eval, "10.20.0.10:8000");
    g_assert_cmpstr(a, ==, "vectors");
    g_assert_cmpstr(b, ==, "vectors");
    g_assert_null(c);

    config.n_segments = 1;
    config.n_hosts = 2;
    config.n_ports = 0;
    g_autofree char *still = lab_up(lab, &config);
    g_autofree char *d = lab_fetch(tune, "10.20.0.10:8000"), *e = lab_try(NULL, port);
    g_assert_cmpstr(d, ==, "vectors");
    g_assert_null(e);
    g_assert_false(lab_sh(NULL, "PATH=$PATH:/usr/sbin; ip -n atoll-%s-%s link show n-store",
                          lab->site, config.vdc_id));
    lab_end(lab);
}

static void test_dnsmasq_dies(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    g_autofree char *uplink = lab_up(lab, &config);
    g_autofree char *path = g_build_filename(config.dir, "lab", "pid", NULL);
    g_autoptr(GError) error = NULL;
    struct at_process process, adopted;
    g_assert_true(at_pidfile_read(path, &process, NULL));
    g_assert_cmpint(unlink(path), ==, 0); /* found by its command line */
    g_autofree char *again = lab_up(lab, &config);
    g_assert_true(at_pidfile_read(path, &adopted, NULL));
    g_assert_cmpint(process.pid, ==, adopted.pid);
    g_assert_true(at_process_stop(&process, 2000, NULL));
    g_assert_false(at_net_check(lab->site, &config, &error));
    g_assert_nonnull(strstr(error->message, "dnsmasq"));
    g_autofree char *back = lab_up(lab, &config);
    lab_end(lab);
}

static void test_dnsmasq_confined(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    g_autofree char *uplink = lab_up(lab, &config);
    g_autofree char *path = g_build_filename(config.dir, "lab", "pid", NULL);
    struct at_process process;
    g_assert_true(at_pidfile_read(path, &process, NULL));
    g_autofree char *proc = g_strdup_printf("/proc/%d", (int)process.pid);
    struct stat st;
    g_assert_cmpint(stat(proc, &st), ==, 0);
    g_assert_cmpuint(st.st_uid, !=, 0);
    g_assert_true(lab_sh(NULL, "grep -q 'NoNewPrivs:.*1' %s/status", proc));
    lab_end(lab);
}

static void test_ports(void)
{
    struct lab *lab = lab_begin(), *other = lab_begin();
    struct at_net_config one = lab_config(lab, "rag-team"), two = lab_config(lab, "second");
    struct at_net_config far = lab_config(other, "far-team");
    const struct at_net_port ports[] = {{"tcp", lab_port(), 8000, "10.20.0.10"}};
    g_autoptr(GError) error = NULL;
    g_assert_true(at_net_port_free(lab->site, "tcp", ports[0].host, NULL));
    one.ports = two.ports = far.ports = ports;
    one.n_ports = two.n_ports = far.n_ports = 1;
    g_autofree char *uplink = lab_up(lab, &one);
    g_assert_false(at_net_port_free(lab->site, "tcp", ports[0].host, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_assert_nonnull(strstr(error->message, "VDC rag-team"));
    g_clear_error(&error);
    g_assert_true(at_net_port_free(lab->site, "udp", ports[0].host, NULL));
    char *none = NULL;
    g_assert_false(at_net_up(lab->site, &two, &none, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_assert_nonnull(strstr(error->message, "VDC rag-team"));
    g_clear_error(&error);
    g_assert_false(at_net_up(other->site, &far, &none, &error)); /* another daemon's */
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_clear_error(&error);
    g_assert_null(none);
    g_autofree char *again = lab_up(lab, &one); /* its own port is no conflict */

    unsigned busy = lab_port();
    lab_serve(lab, NULL, busy, "here");
    g_assert_false(at_net_port_free(lab->site, "tcp", (uint16_t)busy, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_assert_nonnull(strstr(error->message, "program busybox"));
    lab_end(other);
    lab_end(lab);
}

static void test_two_sites(void)
{
    struct lab *lab = lab_begin(), *other = lab_begin();
    struct at_net_config one = lab_config(lab, "rag-team"), two = lab_config(other, "rag-team");
    g_autofree char *up1 = lab_up(lab, &one), *up2 = lab_up(other, &two);
    g_assert_cmpstr(up1, !=, up2);
    g_autofree char *third = NULL;
    g_autofree char *there = NULL, *host = NULL;
    const char *outside = lab_outside(lab, &there, &host);
    lab_serve(lab, outside, 80, "the world");
    const char *guest = lab_guest(other, &two, "lab", MAC_RETRIEVAL, true);
    lab_assert_clean(lab);
    g_autofree char *got = lab_fetch(guest, there);
    g_assert_cmpstr(got, ==, "the world");
    lab_end(other);
    lab_end(lab);
}

static unsigned foreign_threads(void)
{
    unsigned n = 0;
    g_autofree char *own = g_file_read_link("/proc/self/ns/net", NULL);
    g_autoptr(GDir) tasks = g_dir_open("/proc/self/task", 0, NULL);
    for (const char *task; (task = g_dir_read_name(tasks));) {
        g_autofree char *path = g_build_filename("/proc/self/task", task, "ns/net", NULL);
        g_autofree char *ns = g_file_read_link(path, NULL);
        if (!ns || strcmp(ns, own) == 0)
            continue;
        g_autofree char *name_path = g_build_filename("/proc/self/task", task, "comm", NULL);
        g_autofree char *name = NULL;
        g_file_get_contents(name_path, &name, NULL, NULL);
        g_test_message("thread %s %s is in another namespace", task, name);
        n++;
    }
    return n;
}

static void test_probes(void)
{
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    config.isolated = true; /* probes need no uplink */
    g_autofree char *uplink = lab_up(lab, &config);
    const char *guest = lab_guest(lab, &config, "lab", MAC_RETRIEVAL, true);
    lab_serve(lab, guest, 8000, "fine");
    const char *site = lab->site, *vdc = config.vdc_id;
    g_autoptr(GError) error = NULL;
    at_net_probe_http(site, vdc, "http://10.20.0.10:8000/", 5000, &error);
    g_assert_no_error(error);
    at_net_probe_tcp(site, vdc, "10.20.0.10", 8000, 5000, &error);
    g_assert_no_error(error);
    g_assert_false(at_net_probe_http(site, vdc, "http://10.20.0.10:8000/no", 5000, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
    g_assert_nonnull(strstr(error->message, "404"));
    g_clear_error(&error);
    g_assert_false(at_net_probe_tcp(site, vdc, "10.20.0.10", 9, 5000, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
    g_clear_error(&error);
    g_assert_false(at_net_probe_tcp(site, vdc, "10.20.0.200", 9, 300, &error)); /* nobody there */
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
    g_clear_error(&error);
    g_assert_false(at_net_probe_http(site, vdc, "http://example.org/", 1000, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_false(at_net_probe_http(site, "00000000", "http://10.20.0.10/", 1000, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    g_assert_cmpuint(foreign_threads(), ==, 0);
    lab_end(lab);
}

static void test_slow_answers(void)
{
    static const char script[] =
        "import http.server, time\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "  def do_GET(self):\n"
        "    if self.path == '/drip':\n"
        "      self.wfile.write(b'HTTP/1.1 200 OK\\r\\n')\n"
        "      for i in range(1000): self.wfile.write(b'X: y\\r\\n'); time.sleep(0.1)\n"
        "    elif self.path == '/endless':\n"
        "      self.send_response(200); self.end_headers()\n"
        "      for i in range(1000): self.wfile.write(b'x' * 65536); time.sleep(0.01)\n"
        "    else:\n"
        "      self.send_response(302); self.send_header('Location', 'http://127.0.0.1:1/')\n"
        "      self.end_headers()\n"
        "http.server.ThreadingHTTPServer(('0.0.0.0', 8000), H).serve_forever()\n";
    g_autofree char *python = at_find_program("/usr/bin/python3", NULL, NULL);
    if (!python) {
        g_test_skip("needs /usr/bin/python3");
        return;
    }
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    g_autofree char *uplink = lab_up(lab, &config);
    const char *guest = lab_guest(lab, &config, "lab", MAC_RETRIEVAL, true);
    g_autofree char *netns = g_build_filename("/run/netns", guest, NULL);
    const char *argv[] = {python, "-c", script, NULL};
    struct at_spawn spawn = {.argv = argv, .netns = netns};
    struct at_process process;
    g_autoptr(GError) error = NULL;
    g_assert_true(at_spawn(&spawn, &process, NULL));
    g_array_append_val(lab->processes, process);
    for (int i = 0; i < 500; i++) {
        if (at_net_probe_tcp(lab->site, config.vdc_id, "10.20.0.10", 8000, 1000, NULL))
            break;
        g_usleep(20000);
    }
    const char *base = "http://10.20.0.10:8000";
    g_autofree char *drip = g_strconcat(base, "/drip", NULL);
    g_autofree char *endless = g_strconcat(base, "/endless", NULL);
    g_autofree char *moved = g_strconcat(base, "/moved", NULL);
    at_net_probe_http(lab->site, config.vdc_id, moved, 5000, &error); /* seen, not followed */
    g_assert_no_error(error);
    at_net_probe_http(lab->site, config.vdc_id, endless, 5000, &error);
    g_assert_no_error(error);
    g_assert_false(at_net_probe_http(lab->site, config.vdc_id, drip, 500, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_TIMEOUT);
    lab_end(lab);
}

/* The firmware of a real virtual machine asks for its address over a TAP. */
static void test_qemu(void)
{
    g_autofree char *qemu = at_find_program("qemu-system-x86_64", NULL, NULL);
    if (!qemu) {
        g_test_skip("needs qemu-system-x86_64");
        return;
    }
    struct lab *lab = lab_begin();
    struct at_net_config config = lab_config(lab, "rag-team");
    g_autofree char *uplink = lab_up(lab, &config);
    g_autoptr(GError) error = NULL;
    at_autofd fd = at_net_tap(lab->site, config.vdc_id, "lab", MAC_TUNE, &error);
    g_assert_no_error(error);
    g_autofree char *netdev = g_strdup_printf("tap,id=n,fd=%d", fd);
    g_autofree char *device = g_strconcat("virtio-net-pci,netdev=n,mac=", MAC_TUNE, NULL);
    g_autofree char *leases = g_build_filename(config.dir, "lab", "leases", NULL);
    const char *argv[] = {qemu,       "-nodefaults",
                          "-display", "none",
                          "-accel",   "tcg",
                          "-m",       "64",
                          "-boot",    "n",
                          "-netdev",  netdev,
                          "-device",  "virtio-net-pci,netdev=n,mac=" MAC_TUNE,
                          NULL};
    struct at_spawn spawn = {.argv = argv, .fds = &fd, .n_fds = 1};
    struct at_process process;
    at_spawn(&spawn, &process, &error);
    g_assert_no_error(error);
    g_array_append_val(lab->processes, process);
    close(at_steal_fd(&fd)); /* the guest has its own copy */
    bool leased = false;
    for (int i = 0; i < 600 && !leased && at_process_alive(&process); i++) {
        g_autofree char *text = NULL;
        leased = g_file_get_contents(leases, &text, NULL, NULL) &&
                 strstr(text, MAC_TUNE " 10.20.0.11 tune");
        g_usleep(100000);
    }
    g_assert_true(leased);
    g_assert_true(tap_shown(lab, &config));
    g_assert_true(at_process_stop(&process, 5000, NULL));
    g_assert_false(tap_shown(lab, &config));
    lab_end(lab);
}

static gpointer up_and_down(gpointer data)
{
    struct lab *lab = data;
    static GMutex lock; /* guards the lab's lists */
    g_mutex_lock(&lock);
    struct at_net_config config = lab_config(lab, "crowd");
    g_mutex_unlock(&lock);
    g_autoptr(GError) error = NULL;
    g_autofree char *uplink = NULL;
    at_net_up(lab->site, &config, &uplink, &error);
    g_assert_no_error(error);
    at_net_check(lab->site, &config, &error);
    g_assert_no_error(error);
    return g_steal_pointer(&uplink);
}

static void test_crowd(void)
{
    enum { N = 8 };
    struct lab *lab = lab_begin(), *other = lab_begin();
    GThread *threads[N];
    g_autoptr(GHashTable) uplinks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (int i = 0; i < N; i++)
        threads[i] = g_thread_new("crowd", up_and_down, i % 2 ? lab : other);
    for (int i = 0; i < N; i++)
        g_assert_true(g_hash_table_add(uplinks, g_thread_join(threads[i])));
    g_auto(GStrv) one = at_net_list(lab->site, NULL), two = at_net_list(other->site, NULL);
    g_assert_cmpuint(g_strv_length(one), ==, N / 2);
    g_assert_cmpuint(g_strv_length(two), ==, N / 2);
    lab_end(other);
    lab_end(lab);
}

static void test_requirements(void)
{
    g_auto(GStrv) missing = at_net_requirements();
    g_assert_null(missing[0]);
    g_assert_cmpuint(foreign_threads(), ==, 0);
}

static bool with_foreign_firewall(void *data, GError **error)
{
    GStrv *lists = data;
    lists[0] = at_net_warnings();
    if (!at_net_nft_change("table ip filter {\n"
                           "  chain FORWARD {\n"
                           "    type filter hook forward priority 0; policy drop;\n"
                           "  }\n"
                           "}\n",
                           error))
        return false;
    lists[1] = at_net_warnings();
    return true;
}

static void test_warnings(void)
{
    GStrv lists[2] = {NULL, NULL};
    g_autoptr(GError) error = NULL;
    at_net_inside(NULL, with_foreign_firewall, lists, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(g_strv_length(lists[1]), ==, g_strv_length(lists[0]) + 1);
    g_assert_nonnull(strstr(lists[1][0], "chain ip filter FORWARD"));
    g_strfreev(lists[0]);
    g_strfreev(lists[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    lab_require();
    g_test_add_func("/net/tap-lives-as-long-as-its-descriptor", test_tap);
    g_test_add_func("/net/changes-only-what-differs-under-running-guests", test_growth);
    g_test_add_func("/net/finds-dnsmasq-again-and-replaces-a-dead-one", test_dnsmasq_dies);
    g_test_add_func("/net/runs-dnsmasq-without-privileges", test_dnsmasq_confined);
    g_test_add_func("/net/refuses-a-host-port-and-names-its-holder", test_ports);
    g_test_add_func("/net/two-sites-share-a-host", test_two_sites);
    g_test_add_func("/net/probes-from-inside-the-vdc", test_probes);
    g_test_add_func("/net/probe-ends-whatever-the-server-does", test_slow_answers);
    g_test_add_func("/net/gives-a-real-guest-its-address-over-a-tap", test_qemu);
    g_test_add_func("/net/many-at-once-on-two-sites", test_crowd);
    g_test_add_func("/net/warns-of-a-foreign-firewall-in-the-way", test_warnings);
    g_test_add_func("/net/finds-this-host-able", test_requirements);
    return g_test_run();
}
