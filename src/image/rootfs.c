/* SPDX-License-Identifier: Apache-2.0 */
/* The Debian root file system: mmdebstrap in mount and PID namespaces of its own, so that whatever
 * ends it, no mount and no process of it is left. Package sources are those of this host's apt. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/process.h"
#include "image/image-internal.h"

enum { BOOTSTRAP_TIMEOUT_MS = 3600 * 1000, APT_TIMEOUT_MS = 30000, NAME_MAX_LEN = 128 };

/* What a guest needs to boot, to be reached and to be frozen; recommendations are not installed. */
static const char base_packages[] =
    "linux-image-cloud-amd64,tiny-initramfs,systemd-sysv,systemd-resolved,udev,dbus,kmod,iproute2,"
    "fdisk,cloud-init,qemu-guest-agent";

static bool check_chars(const char *text, const char *more, size_t least)
{
    size_t len = strlen(text);
    if (len < least || len > NAME_MAX_LEN ||
        !(islower((unsigned char)text[0]) || (isdigit((unsigned char)text[0]) && least > 1)))
        return false;
    for (const char *p = text; *p; p++) {
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && !strchr(more, *p))
            return false;
    }
    return true;
}

bool at_package_name_check(const char *name, GError **error)
{
    if (check_chars(name, "+-.", 2))
        return true;
    return at_error(error, AT_ERROR_INVALID,
                    "\"%s\" is not a package name (lower-case letters, digits, + - . and at least "
                    "two of them)",
                    name);
}

bool at_suite_check(const char *suite, GError **error)
{
    if (check_chars(suite, "-", 1))
        return true;
    return at_error(error, AT_ERROR_INVALID, "\"%s\" is not the name of a Debian suite", suite);
}

/* @release is @suite itself, its updates or its security fixes. */
static bool belongs_to(const char *release, const char *suite)
{
    static const char *const endings[] = {"", "-updates", "-security", NULL};
    size_t len = strlen(suite);
    return strncmp(release, suite, len) == 0 && g_strv_contains(endings, release + len);
}

/* One-line sources of @suite, its updates and its security fixes, as this host uses them. */
static char *find_sources(const char *suite, GCancellable *cancellable, GError **error)
{
    const char *argv[] = {"apt-get", "indextargets", "--format",
                          "$(CREATED_BY)|$(ORIGIN)|$(RELEASE)|$(REPO_URI)|$(COMPONENT)|"
                          "$(CODENAME)",
                          NULL};
    g_autofree char *text = NULL;
    if (!at_run(argv, NULL, APT_TIMEOUT_MS, cancellable, &text, error))
        return NULL;
    g_autoptr(GString) sources = g_string_new(NULL);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) part = g_strsplit(*line, "|", -1);
        if (g_strv_length(part) != 6 || strcmp(part[0], "Packages") != 0 ||
            strcmp(part[1], "Debian") != 0)
            continue;
        /* The sources may call a release by its code name or by "stable". */
        bool wanted = belongs_to(part[2], suite) || belongs_to(part[5], suite);
        g_autofree char *source = g_strdup_printf("deb %s %s %s\n", part[3], part[2], part[4]);
        if (wanted && !strstr(sources->str, source))
            g_string_append(sources, source);
    }
    if (sources->len > 0)
        return g_string_free(g_steal_pointer(&sources), FALSE);
    at_error(error, AT_ERROR_UNAVAILABLE,
             "apt on this host has no source for Debian %s: add one to /etc/apt/sources.list.d and "
             "run apt-get update",
             suite);
    return NULL;
}

/* "--aptopt=Acquire::http::Proxy ..." as this host's apt has it, or NULL. */
static char *find_proxy(const char *scheme, GCancellable *cancellable)
{
    g_autofree char *key = g_strdup_printf("Acquire::%s::Proxy", scheme);
    const char *argv[] = {"apt-config", "shell", "v", key, NULL};
    g_autofree char *text = NULL;
    if (!at_run(argv, NULL, APT_TIMEOUT_MS, cancellable, &text, NULL) ||
        !g_str_has_prefix(text, "v='"))
        return NULL;
    g_autofree char *value = g_strndup(text + 3, strcspn(text + 3, "'\n"));
    return *value ? g_strdup_printf("--aptopt=%s \"%s\"", key, value) : NULL;
}

struct watcher {
    at_image_progress progress;
    void *user;
};

/* mmdebstrap tells its phases in lines "I: ..."; the shares are measured. */
static void on_line(const char *line, void *user)
{
    static const struct {
        const char *prefix;
        double percent;
        const char *what;
    } phases[] = {
        {"I: running apt-get update", 2, "reading package lists"},
        {"I: downloading packages", 6, "downloading the base system"},
        {"I: extracting archives", 15, "unpacking the base system"},
        {"I: installing essential", 20, "installing the base system"},
        {"I: installing remaining", 30, "installing packages"},
        {"I: cleaning package lists", 88, "cleaning up"},
    };
    const struct watcher *watcher = user;
    for (unsigned i = 0; watcher->progress && i < G_N_ELEMENTS(phases); i++) {
        if (g_str_has_prefix(line, phases[i].prefix))
            watcher->progress(phases[i].percent, phases[i].what, watcher->user);
    }
}

static char *join_packages(const struct at_image_build *build, GError **error)
{
    g_autoptr(GString) list = g_string_new(base_packages);
    for (unsigned i = 0; build->include && build->include[i]; i++) {
        if (!at_package_name_check(build->include[i], error))
            return NULL;
        g_string_append_printf(list, ",%s", build->include[i]);
    }
    g_string_prepend(list, "--include=");
    return g_string_free(g_steal_pointer(&list), FALSE);
}

bool at_build_rootfs(const struct at_image_build *build, const char *root, const char *stage,
                     at_image_progress progress, void *user, GCancellable *cancellable,
                     GError **error)
{
    /* The cache is bound into the target, in our own mount namespace; what cannot be downloaded any
     * more is dropped from it. Hooks get their paths by the environment, never in their text. */
    static const char bind_hook[] = "--setup-hook=mkdir -p \"$1/var/cache/apt/archives\" && mount "
                                    "--bind \"$ATOLL_CACHE\" \"$1/var/cache/apt/archives\"";
    static const char files_hook[] = "--essential-hook=cp -a \"$ATOLL_STAGE/.\" \"$1/\"";
    static const char unbind_hook[] = "--customize-hook=chroot \"$1\" apt-get -qq autoclean || :; "
                                      "umount \"$1/var/cache/apt/archives\"";
    g_autofree char *sources = find_sources(build->suite, cancellable, error);
    g_autofree char *include = sources ? join_packages(build, error) : NULL;
    /* What mmdebstrap leaves when it is killed (a key ring) must go with the rest of the work. */
    g_autofree char *scratch = g_strconcat(stage, ".tmp", NULL);
    if (!include || !at_mkdirs(build->cache_dir, 0755, error) || !at_mkdirs(stage, 0755, error) ||
        !at_mkdirs(scratch, 0700, error) || !at_guest_files_write(stage, error))
        return false;
    g_autofree char *http = find_proxy("http", cancellable);
    g_autofree char *https = find_proxy("https", cancellable);
    g_autofree char *env_cache = g_strdup_printf("ATOLL_CACHE=%s", build->cache_dir);
    g_autofree char *env_stage = g_strdup_printf("ATOLL_STAGE=%s", stage);
    g_autofree char *env_tmp = g_strdup_printf("TMPDIR=%s", scratch);
    const char *env[] = {env_cache, env_stage, env_tmp, "DEBIAN_FRONTEND=noninteractive", NULL};
    const char *argv[40] = {"unshare",
                            "--mount",
                            "--propagation=private",
                            "--pid",
                            "--fork",
                            "--kill-child=SIGKILL",
                            "mmdebstrap",
                            "--mode=root",
                            "--format=directory",
                            "--variant=minbase",
                            "--architectures=amd64",
                            include,
                            "--skip=cleanup/apt/cache",
                            "--skip=essential/unlink",
                            "--skip=download/empty",
                            "--dpkgopt=path-exclude=/usr/share/man/*",
                            "--dpkgopt=path-exclude=/usr/share/locale/*",
                            "--dpkgopt=path-include=/usr/share/locale/locale.alias",
                            "--dpkgopt=path-exclude=/usr/share/doc/*",
                            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
                            bind_hook,
                            files_hook,
                            unbind_hook};
    unsigned n = 0;
    while (argv[n])
        n++;
    if (http)
        argv[n++] = http;
    if (https)
        argv[n++] = https;
    argv[n++] = build->suite;
    argv[n++] = root;
    argv[n++] = "-";
    struct watcher watcher = {progress, user};
    struct at_tool tool = {.argv = argv,
                           .env = env,
                           .input = sources,
                           .timeout_ms = BOOTSTRAP_TIMEOUT_MS,
                           .fd = -1,
                           .both_outputs = true,
                           .line = on_line,
                           .user = &watcher};
    return at_tool_run(&tool, cancellable, NULL, error);
}
