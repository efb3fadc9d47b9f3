/* SPDX-License-Identifier: Apache-2.0 */
/* atoll-gpu-load victim|neighbour --token HEX --seconds S [--memory MIB] [--while PATH]
 *
 * Prints one line of JSON; {"error": TEXT} and exit status 1 when it could not be done. With
 * --while it ends, with status 1 and no word, as soon as PATH is gone: who has brought it stops it
 * by removing it. */
#include "guest/gpu-load.h"

#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_MAX 600
#define LOOK_NS 250000000
#define GRACE 120 /* seconds for what comes before and after the load; then a driver hangs */

double at_load_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* What a driver says is not trusted to be text for JSON. */
static void print_text(const char *name, const char *text)
{
    printf("\"%s\": \"", name);
    for (; *text; text++)
        putchar(*text >= ' ' && *text < 0x7f && *text != '"' && *text != '\\' ? *text : '?');
    putchar('"');
}

static void print_number(const char *name, double value)
{
    printf(", \"%s\": %.17g", name, value);
}

static int fail(const char *why)
{
    putchar('{');
    print_text("error", why);
    puts("}");
    return EXIT_FAILURE;
}

static void print_common(const struct at_cuda *cuda, uint64_t total, uint64_t used, double rate)
{
    putchar('{');
    print_text("device", cuda->device);
    print_number("memory", (double)total);
    print_number("used", (double)used);
    print_number("rate", rate);
}

static int run_victim(struct at_cuda *cuda, const struct at_load_options *o)
{
    struct at_load_victim_result r;
    if (!at_load_victim(cuda, o, &r))
        return fail(cuda->why);
    print_common(cuda, r.total, r.used, r.rate);
    print_number("slowest", r.slowest);
    print_number("windows", r.windows);
    print_number("damaged", (double)r.damaged);
    puts("}");
    return EXIT_SUCCESS;
}

static int run_neighbour(struct at_cuda *cuda, const struct at_load_options *o)
{
    struct at_load_neighbour_result r;
    if (!at_load_neighbour(cuda, o, &r))
        return fail(cuda->why);
    print_common(cuda, r.total, r.used, r.rate);
    print_number("fill_seconds", r.fill_seconds);
    print_number("load_seconds", r.load_seconds);
    print_number("looked", (double)r.looked);
    print_number("found", (double)r.found);
    puts("}");
    return EXIT_SUCCESS;
}

static int usage(void)
{
    fputs("usage: atoll-gpu-load victim|neighbour --token HEX --seconds S [--memory MIB] "
          "[--while PATH]\n",
          stderr);
    return 2;
}

/* In a thread of its own: it ends the process also while that waits in the driver, and no signal
 * disturbs the driver's own waiting. Another file of that name is not the same one: the program's
 * number is not given away while it runs. */
static void *end_when_gone(void *path)
{
    const struct timespec rest = {.tv_nsec = LOOK_NS};
    struct stat first, now;
    int known = stat(path, &first);
    while (known == 0 && stat(path, &now) == 0 && now.st_ino == first.st_ino &&
           now.st_dev == first.st_dev)
        nanosleep(&rest, NULL);
    _exit(EXIT_FAILURE);
}

static bool watch(char *path)
{
    pthread_t thread;
    return !path || pthread_create(&thread, NULL, end_when_gone, path) == 0;
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"token", required_argument, NULL, 't'},
                                          {"seconds", required_argument, NULL, 's'},
                                          {"memory", required_argument, NULL, 'm'},
                                          {"while", required_argument, NULL, 'w'},
                                          {0}};
    struct at_load_options o = {.began = at_load_clock()};
    char *path = NULL;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        char *end = NULL;
        if (c == 't')
            o.token = strtoull(optarg, &end, 16);
        else if (c == 's')
            o.seconds = strtod(optarg, &end);
        else if (c == 'm')
            o.memory = strtoull(optarg, &end, 10) << 20;
        else if (c == 'w')
            path = optarg, end = path + strlen(path);
        if (!end || end == optarg || *end)
            return usage();
    }
    if (optind + 1 != argc || o.token == 0 || !(o.seconds > 0 && o.seconds <= SECONDS_MAX))
        return usage();
    bool victim = strcmp(argv[optind], "victim") == 0;
    if (!victim && strcmp(argv[optind], "neighbour") != 0)
        return usage();
    alarm((unsigned)o.seconds + GRACE);
    if (!watch(path))
        return fail("start a thread: out of memory or processes");
    struct at_cuda cuda;
    if (!at_cuda_open(&cuda))
        return fail(cuda.why);
    return victim ? run_victim(&cuda, &o) : run_neighbour(&cuda, &o);
}
