/* SPDX-License-Identifier: Apache-2.0 */
/* atolld: reads its options, opens the site, serves the API, and runs until it is told to stop.
 * Exit status: 0 stopped as asked, 1 it could not start, 2 wrong options. */
#include <glib-unix.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "daemon/daemon.h"

enum { EXIT_USAGE = 2, FILES_WANTED = 65536 };
enum { VERIFY_DAYS = 30, VERIFY_DAYS_MAX = 3650, VERIFY_RATE = 10, VERIFY_RATE_MAX = 100000 };

struct options {
    char *state, *socket, *accel, *gpu_isolation;
    gboolean foreground, verbose, version;
    double verify_days;
    int verify_rate;
};

static void options_clear(struct options *o)
{
    g_free(o->state);
    g_free(o->socket);
    g_free(o->accel);
    g_free(o->gpu_isolation);
}

static bool check_words(const struct options *o)
{
    static const char *const accels[] = {"auto", "kvm", "tcg", NULL};
    static const char *const isolations[] = {"any", "shared", "hardware", "exclusive", NULL};
    if (!g_strv_contains(accels, o->accel)) {
        fprintf(stderr, "atolld: --accel: auto, kvm or tcg, found \"%s\"\n", o->accel);
        return false;
    }
    if (!g_strv_contains(isolations, o->gpu_isolation)) {
        fprintf(stderr,
                "atolld: --gpu-isolation: any, shared, hardware or exclusive, found \"%s\"\n",
                o->gpu_isolation);
        return false;
    }
    return true;
}

static bool parse_options(int argc, char **argv, struct options *o)
{
    const GOptionEntry entries[] = {
        {"state", 0, 0, G_OPTION_ARG_FILENAME, &o->state,
         "Everything of the site is kept here (default /var/lib/atoll)", "DIR"},
        {"socket", 0, 0, G_OPTION_ARG_FILENAME, &o->socket,
         "Where the API listens (default /run/atoll/atolld.sock)", "PATH"},
        {"accel", 0, 0, G_OPTION_ARG_STRING, &o->accel,
         "How guests run unless they say otherwise: auto (default), kvm or tcg", "NAME"},
        {"gpu-isolation", 0, 0, G_OPTION_ARG_STRING, &o->gpu_isolation,
         "The weakest way of sharing GPUs that is given: any (default), shared, hardware, "
         "exclusive",
         "CLASS"},
        {"verify-days", 0, 0, G_OPTION_ARG_DOUBLE, &o->verify_days,
         "The vault is read back once in so many days (default 30; 0: never)", "DAYS"},
        {"verify-rate", 0, 0, G_OPTION_ARG_INT, &o->verify_rate,
         "MiB per second that this may read (default 10)", "MIB"},
        {"foreground", 0, 0, G_OPTION_ARG_NONE, &o->foreground,
         "Stay in the foreground (it always does)", NULL},
        {"verbose", 'v', 0, G_OPTION_ARG_NONE, &o->verbose, "Log progress and details too", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &o->version, "Print the version", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- runs the virtual data centers of "
                                                             "this machine");
    g_option_context_set_description(
        context, "Guests go on when the daemon stops; the next one finds them again.\n");
    g_option_context_add_main_entries(context, entries, NULL);
    g_autoptr(GError) error = NULL;
    bool ok = g_option_context_parse(context, &argc, &argv, &error);
    if (!ok)
        fprintf(stderr, "atolld: %s\n", error->message);
    else if (argc > 1)
        fprintf(stderr, "atolld: what is \"%s\"? See atolld --help\n", argv[1]);
    if (!ok || argc > 1)
        return false;
    if (!o->state)
        o->state = g_strdup("/var/lib/atoll");
    if (!o->socket)
        o->socket = g_strdup("/run/atoll/atolld.sock");
    if (!o->accel)
        o->accel = g_strdup("auto");
    if (!o->gpu_isolation)
        o->gpu_isolation = g_strdup("any");
    if (!(o->verify_days >= 0 && o->verify_days <= VERIFY_DAYS_MAX)) {
        fprintf(stderr, "atolld: --verify-days: from 0 (never) to %d\n", VERIFY_DAYS_MAX);
        return false;
    }
    if (o->verify_rate < 1 || o->verify_rate > VERIFY_RATE_MAX) {
        fprintf(stderr, "atolld: --verify-rate: MiB per second, from 1 to %d\n", VERIFY_RATE_MAX);
        return false;
    }
    return check_words(o);
}

/* Paths are kept and handed to other processes, which have other working directories. */
static void make_absolute(char **path)
{
    char *absolute = g_canonicalize_filename(*path, NULL);
    g_free(*path);
    *path = absolute;
}

static gboolean on_stop_signal(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_CONTINUE;
}

/* Every guest, console and client holds some descriptors. */
static void allow_many_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= FILES_WANTED)
        return;
    limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)FILES_WANTED);
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* A daemon that is quiet most of the time gives back what a job has used: without this every worker
 * thread leaves an arena behind. */
static void stay_small(void)
{
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_TRIM_THRESHOLD, 256 << 10);
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

/* Hosts without GPUs need not have it: whoever uses it says that it is missing. */
static char *gpu_load_path(void)
{
    const char *given = g_getenv("ATOLL_GPU_LOAD");
    char *path = at_locate("atoll-gpu-load", "ATOLL_GPU_LOAD", "../guest/atoll-gpu-load",
                           AT_BINDIR "/atoll-gpu-load", NULL);
    return path ? path : g_strdup(given ? given : AT_BINDIR "/atoll-gpu-load");
}

static int serve(const struct options *o, GMainLoop *loop, GError **error)
{
    g_autofree char *guard = at_locate("atoll-guard", "ATOLL_GUARD", "../qemu/atoll-guard",
                                       AT_BINDIR "/atoll-guard", error);
    g_autofree char *plugin = guard ? at_locate("the nbdkit plugin", "ATOLL_PLUGIN",
                                                "../../plugin/nbdkit-atoll-plugin.so",
                                                AT_PLUGINDIR "/nbdkit-atoll-plugin.so", error)
                                    : NULL;
    g_autofree char *load = gpu_load_path();
    if (!plugin || !at_api_check_socket(o->socket, error))
        return EXIT_FAILURE;
    const struct at_core_config config = {
        .state_dir = o->state,
        .guard_path = guard,
        .plugin_path = plugin,
        .gpu_load_path = load,
        .accel = o->accel,
        .gpu_isolation = o->gpu_isolation,
        .verify_days = o->verify_days,
        .verify_mib = (unsigned)o->verify_rate,
    };
    struct at_core *core = at_core_open(&config, error);
    if (!core)
        return EXIT_FAILURE;
    unsigned watch = at_core_events_watch(core, 0, at_log_event, NULL);
    int status = EXIT_FAILURE;
    struct at_api *api = at_api_new(core, o->socket, error);
    if (api) {
        g_message("serving %s on %s", o->state, o->socket);
        at_notify("READY=1");
        g_main_loop_run(loop);
        at_notify("STOPPING=1");
        g_message("stopping; guests go on");
        at_api_free(api);
        status = EXIT_SUCCESS;
    }
    at_core_events_unwatch(core, watch);
    at_core_close(core);
    return status;
}

int main(int argc, char **argv)
{
    setlocale(LC_ALL, "");
    __attribute__((cleanup(options_clear))) struct options o = {.verify_days = VERIFY_DAYS,
                                                                .verify_rate = VERIFY_RATE};
    if (!parse_options(argc, argv, &o))
        return EXIT_USAGE;
    if (o.version) {
        printf("atolld %s\n", AT_VERSION);
        return EXIT_SUCCESS;
    }
    at_log_start(o.verbose);
    if (geteuid() != 0) {
        fprintf(stderr, "atolld: must run as root: it makes namespaces, bridges and processes of "
                        "other users\n");
        return EXIT_FAILURE;
    }
    make_absolute(&o.state);
    make_absolute(&o.socket);
    umask(022);
    allow_many_files();
    stay_small();
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    unsigned term = g_unix_signal_add(SIGTERM, on_stop_signal, loop);
    unsigned intr = g_unix_signal_add(SIGINT, on_stop_signal, loop);
    g_autoptr(GError) error = NULL;
    int status = serve(&o, loop, &error);
    if (error)
        g_warning("%s", error->message);
    g_source_remove(term);
    g_source_remove(intr);
    return status;
}
