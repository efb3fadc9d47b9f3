/* SPDX-License-Identifier: Apache-2.0 */
/* Running the life of a vault in a process whose I/O goes through the shim. */
#include "disturb.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "lib/at-test.h"

#define LIFE_MS 60000

/* A sanitizer makes everything several times slower. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWER 5u
#else
#define SLOWER 1u
#endif

void world_open(struct world *w)
{
    g_autoptr(GError) error = NULL;
    /* In memory where possible: what is synced here is not what is tested. */
    w->dir = g_strdup("/dev/shm/atoll-io-XXXXXX");
    if (!g_mkdtemp(w->dir)) {
        g_free(w->dir);
        w->dir = g_dir_make_tmp("atoll-io-XXXXXX", &error);
    }
    g_assert_no_error(error);
    w->disk = g_build_filename(w->dir, "disk", NULL);
    w->vault = g_build_filename(w->disk, "state", "vault", NULL);
    w->marks = g_build_filename(w->dir, "marks", NULL);
    w->log = g_build_filename(w->dir, "log", NULL);
    w->met = g_build_filename(w->dir, "met", NULL);
    g_assert_cmpint(mkdir(w->disk, 0755), ==, 0);
}

void world_close(struct world *w)
{
    g_autoptr(GError) error = NULL;
    at_remove_tree(w->dir, &error);
    g_assert_no_error(error);
    g_free(w->dir);
    g_free(w->disk);
    g_free(w->vault);
    g_free(w->marks);
    g_free(w->log);
    g_free(w->met);
}

static void add(GPtrArray *argv, const char *name, const char *value)
{
    if (value)
        g_ptr_array_add(argv, g_strdup_printf("%s=%s", name, value));
}

int disturb(const struct world *w, const struct disturbance *d)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    /* The sanitizer wants to be the first library, but need not be. */
    const char *asan = g_getenv("ASAN_OPTIONS");
    g_autofree char *options =
        g_strconcat(asan ? asan : "", asan ? ":" : "", "verify_asan_link_order=0", NULL);
    g_ptr_array_add(argv, g_strdup("env"));
    add(argv, "LD_PRELOAD", AT_IO_SHIM);
    add(argv, "ASAN_OPTIONS", options);
    add(argv, "ATOLL_IO_DIR", w->disk);
    add(argv, "ATOLL_IO_MARKS", w->marks);
    add(argv, "ATOLL_IO_MET", w->met);
    add(argv, "ATOLL_IO_LOG", d->record ? w->log : NULL);
    add(argv, "ATOLL_IO_FAULT", d->fault);
    add(argv, "ATOLL_IO_KINDS", d->kinds);
    add(argv, "ATOLL_IO_ONLY", d->only);
    add(argv, "ATOLL_FAULT", d->plan);
    g_ptr_array_add(argv, g_file_read_link("/proc/self/exe", NULL));
    g_ptr_array_add(argv, g_strdup(d->again ? "--live-again" : "--live"));
    g_ptr_array_add(argv, g_strdup(w->vault));
    g_ptr_array_add(argv, g_strdup(w->marks));
    g_ptr_array_add(argv, NULL);
    g_autofree char *output = NULL;
    int status = at_test_run((const char *const *)argv->pdata, LIFE_MS, &output);
    if (status != 0 && status != 137)
        g_printerr("%s", output);
    return status;
}

bool disturb_met(const struct world *w, char **ret_where)
{
    g_autofree char *where = NULL;
    if (!g_file_get_contents(w->met, &where, NULL, NULL))
        return false;
    if (ret_where)
        *ret_where = g_strchomp(g_steal_pointer(&where));
    return true;
}

struct life_promise *disturb_promise(const struct world *w)
{
    struct life_promise *p = life_promise_new();
    g_autofree char *text = NULL;
    if (!g_file_get_contents(w->marks, &text, NULL, NULL))
        return p;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++)
        life_promise_mark(p, *line);
    return p;
}

bool disturb_child(int argc, char **argv)
{
    if (argc != 4 || !g_str_has_prefix(argv[1], "--live"))
        return false;
    life_run(argv[2], argv[3], strcmp(argv[1], "--live-again") == 0);
    return true;
}

unsigned disturb_step(unsigned step)
{
    const char *all = g_getenv("ATOLL_LONG");
    return g_test_slow() || (all && *all) ? 1 : step * SLOWER;
}
