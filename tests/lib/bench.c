/* SPDX-License-Identifier: Apache-2.0 */
/* Benches: rows of figures, the table and the JSON file. */
#include "lib/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"

struct at_bench {
    char *name;
    JsonArray *rows;
};

struct at_bench *at_bench_new(const char *name)
{
    struct at_bench *bench = g_new0(struct at_bench, 1);
    bench->name = g_strdup(name);
    bench->rows = json_array_new();
    printf("%-58s %12s %-8s %12s  %s\n", name, "value", "unit", "goal", "holds");
    fflush(stdout);
    return bench;
}

static void add(struct at_bench *bench, const char *what, const double *value, const char *unit,
                enum at_bench_goal kind, double goal, bool holds, const char *note)
{
    static const char *const sign[] = {"<= ", ">= ", ""};
    JsonObject *row = json_object_new();
    g_autofree char *shown = value ? g_strdup_printf("%.4g", *value) : g_strdup("-");
    g_autofree char *goal_text =
        kind == AT_BENCH_ONLY ? g_strdup("") : g_strdup_printf("%s%.4g", sign[kind], goal);
    json_object_set_string_member(row, "what", what);
    if (value)
        json_object_set_double_member(row, "value", *value);
    else
        json_object_set_null_member(row, "value");
    json_object_set_string_member(row, "unit", unit);
    at_json_set_str(row, "goal", kind == AT_BENCH_ONLY ? NULL : goal_text);
    json_object_set_boolean_member(row, "holds", holds);
    at_json_set_str(row, "note", note);
    json_array_add_object_element(bench->rows, row);
    printf("%-58s %12s %-8s %12s  %s%s%s\n", what, shown, unit, goal_text, holds ? "yes" : "NO",
           note ? "  " : "", note ? note : "");
    fflush(stdout);
}

void at_bench_row(struct at_bench *bench, const char *what, double value, const char *unit,
                  enum at_bench_goal kind, double goal, const char *note)
{
    bool holds =
        kind == AT_BENCH_ONLY || (kind == AT_BENCH_AT_MOST ? value <= goal : value >= goal);
    add(bench, what, &value, unit, kind, goal, holds, note);
}

void at_bench_missing(struct at_bench *bench, const char *what, const char *unit,
                      enum at_bench_goal kind, double goal, const char *reason)
{
    add(bench, what, NULL, unit, kind, goal, false, reason);
}

/* "Debian GNU/Linux 12, Linux 6.1, <CPU model> x 2". */
static char *describe_machine(void)
{
    g_autofree char *cpuinfo = NULL;
    g_autofree char *model = NULL;
    struct utsname u;
    uname(&u);
    if (g_file_get_contents("/proc/cpuinfo", &cpuinfo, NULL, NULL)) {
        char *line = strstr(cpuinfo, "model name");
        char *colon = line ? strchr(line, ':') : NULL;
        if (colon)
            model = g_strstrip(g_strndup(colon + 1, strcspn(colon + 1, "\n")));
    }
    g_autofree char *os = g_get_os_info(G_OS_INFO_KEY_PRETTY_NAME);
    return g_strdup_printf("%s x %ld, %s, Linux %s, %.0f GiB", model ? model : u.machine,
                           sysconf(_SC_NPROCESSORS_ONLN), os ? os : "unknown system", u.release,
                           (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) /
                               0x1p30);
}

int at_bench_finish(struct at_bench *bench)
{
    const char *dir = g_getenv("ATOLL_BENCH_DIR");
    g_autofree char *file = g_strconcat(bench->name, ".json", NULL);
    g_autofree char *path = g_build_filename(dir ? dir : ".", file, NULL);
    g_autofree char *machine = describe_machine();
    g_autofree char *date = at_clock_rfc3339();
    JsonObject *obj = json_object_new();
    json_object_set_string_member(obj, "machine", machine);
    json_object_set_string_member(obj, "date", date);
    json_object_set_array_member(obj, "rows", bench->rows);
    g_autoptr(JsonNode) node = at_json_take_obj(obj);
    g_autofree char *text = at_json_pretty(node);
    g_autoptr(GError) error = NULL;
    bool ok = g_file_set_contents(path, text, -1, &error);
    if (!ok)
        fprintf(stderr, "%s: %s\n", path, error->message);
    g_free(bench->name);
    g_free(bench);
    return ok ? 0 : 1;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double at_bench_median(const double *values, unsigned n)
{
    g_autofree double *sorted = g_memdup2(values, n * sizeof *values);
    qsort(sorted, n, sizeof *sorted, compare);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double at_bench_seconds(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

double at_bench_cpu_seconds(void)
{
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

void at_bench_fill(void *data, size_t len, uint64_t seed)
{
    unsigned char *p = data;
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    while (len > 0) {
        uint64_t z = x += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        z ^= z >> 31;
        size_t n = MIN(len, sizeof z);
        memcpy(p, &z, n);
        p += n;
        len -= n;
    }
}
