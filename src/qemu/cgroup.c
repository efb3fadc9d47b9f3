/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups of machines: version 2 where all three controllers are there, else version 1. */
#include "qemu/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

enum { TASKS_BASE = 512, MIB = 1 << 20, REMOVE_TRIES = 50 };

/* memory.limit, pids.max and the CPU weight by version; the same three in the same order. */
static const char *const v1_roots[] = {CGROUP_ROOT "/memory", CGROUP_ROOT "/pids",
                                       CGROUP_ROOT "/cpu"};
static const char *const v2_roots[] = {CGROUP_ROOT};

uint64_t at_cgroup_overhead(uint64_t memory)
{
    return 640ull * MIB + memory / 32; /* 256 MiB of it is translated code, see command-line.c */
}

static bool write_value(const char *dir, const char *file, const char *value, GError **error)
{
    g_autofree char *path = g_build_filename(dir, file, NULL);
    at_autofd fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return at_error_errno(error, errno, "open %s", path);
    if (at_write_all(fd, value, strlen(value), error))
        return true;
    g_prefix_error(error, "%s: ", path);
    return false;
}

static bool write_number(const char *dir, const char *file, uint64_t value, GError **error)
{
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, value);
    return write_value(dir, file, text, error);
}

static bool exists(const char *dir, const char *file)
{
    g_autofree char *path = g_build_filename(dir, file, NULL);
    return access(path, F_OK) == 0;
}

/* The three controllers must be offered by the root of the unified hierarchy. */
static bool have_v2(void)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(CGROUP_ROOT "/cgroup.controllers", &text, NULL, NULL))
        return false;
    g_auto(GStrv) names = g_strsplit_set(g_strstrip(text), " ", -1);
    return g_strv_contains((const char *const *)names, "memory") &&
           g_strv_contains((const char *const *)names, "pids") &&
           g_strv_contains((const char *const *)names, "cpu");
}

static bool have_v1(void)
{
    return exists(v1_roots[0], "memory.limit_in_bytes") && exists(v1_roots[1], "cgroup.procs") &&
           exists(v1_roots[2], "cgroup.procs");
}

static bool find_roots(const char *const **ret_roots, unsigned *ret_n, GError **error)
{
    if (have_v2()) {
        *ret_roots = v2_roots;
        *ret_n = G_N_ELEMENTS(v2_roots);
        return true;
    }
    if (have_v1()) {
        *ret_roots = v1_roots;
        *ret_n = G_N_ELEMENTS(v1_roots);
        return true;
    }
    return at_error(error, AT_ERROR_UNAVAILABLE,
                    "this host offers no control groups for memory, pids and cpu");
}

static char *site_dir(const char *root, const char *site)
{
    return g_strdup_printf("%s/atoll-%s", root, site);
}

static bool make_dir(const char *path, GError **error)
{
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return at_error_errno(error, errno, "create %s", path);
    return true;
}

static bool limit_v1(const char *const dirs[3], unsigned cpus, uint64_t memory, GError **error)
{
    return write_number(dirs[0], "memory.limit_in_bytes", memory, error) &&
           write_number(dirs[1], "pids.max", TASKS_BASE + cpus, error) &&
           write_number(dirs[2], "cpu.shares", 1024ull * cpus, error);
}

static bool limit_v2(const char *dir, unsigned cpus, uint64_t memory, GError **error)
{
    return write_number(dir, "memory.max", memory, error) &&
           write_number(dir, "pids.max", TASKS_BASE + cpus, error) &&
           write_number(dir, "cpu.weight", MIN(100ull * cpus, 10000), error);
}

/* The site's group weighs as much as its machines together. Without this all of a site's guests
 * would share the weight of one task, as the kernel gives it to a new group. */
static bool weigh_site(const char *site, bool v2, GError **error)
{
    const char *file = v2 ? "cpu.weight" : "cpu.shares";
    uint64_t sum = 0;
    g_autoptr(GDir) dir = g_dir_open(site, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(site, name, file, NULL);
        g_autofree char *text = NULL;
        if (g_file_get_contents(path, &text, NULL, NULL))
            sum += g_ascii_strtoull(text, NULL, 10);
    }
    return write_number(site, file, CLAMP(sum, 100, v2 ? 10000 : 262144), error);
}

static bool is_id(const char *id)
{
    return *id && strspn(id, G_CSET_DIGITS "abcdef") == strlen(id);
}

/* The site's group is there as long as it is needed: held while a machine's is made in it, and
 * while it is removed. */
static GMutex site_lock;

static bool make_groups(const char *site_id, const char *machine_id, unsigned cpus, uint64_t memory,
                        char **ret_list, GError **error)
{
    const char *const *roots = NULL;
    unsigned n = 0;
    char *dirs[G_N_ELEMENTS(v1_roots)] = {NULL};
    g_autoptr(GString) list = g_string_new(NULL);
    g_autoptr(GError) local = NULL;
    if (!is_id(site_id) || !is_id(machine_id))
        return at_error(error, AT_ERROR_INVALID, "\"%s/%s\" are not ids", site_id, machine_id);
    if (!find_roots(&roots, &n, error))
        return false;
    bool v2 = roots == v2_roots;
    bool ok =
        !v2 || write_value(CGROUP_ROOT, "cgroup.subtree_control", "+memory +pids +cpu", &local);
    for (unsigned i = 0; ok && i < n; i++) {
        g_autofree char *site = site_dir(roots[i], site_id);
        dirs[i] = g_build_filename(site, machine_id, NULL);
        ok = make_dir(site, &local) &&
             (!v2 || write_value(site, "cgroup.subtree_control", "+memory +pids +cpu", &local)) &&
             make_dir(dirs[i], &local);
        g_string_append_len(list, dirs[i], (gssize)strlen(dirs[i]) + 1);
    }
    uint64_t limit = memory + at_cgroup_overhead(memory);
    ok = ok && (v2 ? limit_v2(dirs[0], cpus, limit, &local)
                   : limit_v1((const char *const *)dirs, cpus, limit, &local));
    if (ok) {
        g_autofree char *site = g_path_get_dirname(dirs[n - 1]);
        ok = weigh_site(site, v2, &local);
    }
    for (unsigned i = 0; i < n; i++)
        g_free(dirs[i]);
    if (!ok)
        return at_error(error, AT_ERROR_UNAVAILABLE, "control groups cannot be used: %s",
                        local->message);
    g_string_append_c(list, '\0');
    *ret_list = g_string_free(g_steal_pointer(&list), FALSE);
    return true;
}

bool at_cgroup_make(const char *site_id, const char *machine_id, unsigned cpus, uint64_t memory,
                    char **ret_list, GError **error)
{
    g_mutex_lock(&site_lock);
    bool ok = make_groups(site_id, machine_id, cpus, memory, ret_list, error);
    g_mutex_unlock(&site_lock);
    if (!ok && is_id(site_id) && is_id(machine_id))
        at_cgroup_remove(site_id, machine_id, NULL);
    return ok;
}

const char *at_cgroup_kind(void)
{
    return have_v2() ? "v2" : have_v1() ? "v1" : "none";
}

const char *at_cgroup_probe(const char *site_id, char **ret_reason)
{
    static const char trial[] = "0"; /* not the id of any machine */
    g_autofree char *list = NULL;
    g_autoptr(GError) error = NULL;
    *ret_reason = NULL;
    if (at_cgroup_make(site_id, trial, 1, MIB, &list, &error)) {
        at_cgroup_remove(site_id, trial, NULL);
        return at_cgroup_kind();
    }
    *ret_reason = g_strdup(error->message);
    return "none";
}

/* A process that has just ended may still be counted for a moment. */
static bool remove_group(const char *path, GError **error)
{
    for (int i = 0; i < REMOVE_TRIES; i++) {
        if (rmdir(path) == 0 || errno == ENOENT)
            return true;
        if (errno != EBUSY)
            return at_error_errno(error, errno, "remove %s", path);
        g_usleep(10 * 1000);
    }
    return at_error(error, AT_ERROR_CONFLICT, "control group %s still has processes", path);
}

bool at_cgroup_remove(const char *site_id, const char *machine_id, GError **error)
{
    const char *const *roots = NULL;
    unsigned n = 0;
    if (!is_id(site_id) || !is_id(machine_id))
        return at_error(error, AT_ERROR_INVALID, "\"%s/%s\" are not ids", site_id, machine_id);
    if (!find_roots(&roots, &n, NULL))
        return true;
    bool ok = true;
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *site = site_dir(roots[i], site_id);
        g_autofree char *path = g_build_filename(site, machine_id, NULL);
        if (!remove_group(path, ok ? error : NULL))
            ok = false;
        g_mutex_lock(&site_lock);
        rmdir(site); /* succeeds when this was the last machine */
        g_mutex_unlock(&site_lock);
    }
    return ok;
}
