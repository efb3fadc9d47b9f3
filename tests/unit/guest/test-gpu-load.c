/* SPDX-License-Identifier: Apache-2.0 */
/* The load that guests run, on a double of the CUDA driver: what it says, and that it says so when
 * something is not as it should be. How it is judged is in tests/system/gpu. */
#include <json-glib/json-glib.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "lib/at-test.h"

enum { WAIT_MS = 60000, USAGE = 2 };

/* One run with the words of @args; the line of JSON that it printed, to own. */
static JsonNode *load(const char *mode, const char *args, int expected)
{
    g_autofree char *mode_is = g_strdup_printf("CUDA_DOUBLE_MODE=%s", mode);
    g_autofree char *words = g_strdup_printf("env LD_LIBRARY_PATH=%s %%s %s %s", AT_CUDA_DOUBLE_DIR,
                                             g_getenv("ATOLL_GPU_LOAD_TESTED"), args);
    g_auto(GStrv) argv = g_strsplit(words, " ", -1);
    for (unsigned i = 0; argv[i]; i++) {
        if (strcmp(argv[i], "%s") == 0) {
            g_free(argv[i]);
            argv[i] = g_strdup(mode_is);
        }
    }
    g_autofree char *output = NULL;
    int status = at_test_run((const char *const *)argv, WAIT_MS, &output);
    if (status != expected)
        g_error("\"%s\" with mode \"%s\" ended with %d: %s", args, mode, status, output);
    g_autoptr(GError) error = NULL;
    JsonNode *node = status == USAGE ? NULL : at_json_parse(output, -1, &error);
    g_assert_no_error(error);
    g_assert_true(!node || JSON_NODE_HOLDS_OBJECT(node));
    return node;
}

static double number(JsonNode *node, const char *name)
{
    return at_json_num(json_node_get_object(node), name, NAN);
}

static void victim(void)
{
    g_autoptr(JsonNode) said = load("rate=64", "victim --token abc --seconds 0.3", 0);
    g_assert_cmpstr(at_json_str(json_node_get_object(said), "device", ""), ==, "CUDA ?double? 0");
    g_assert_cmpfloat(number(said, "memory"), ==, 16 << 20);
    g_assert_cmpfloat(number(said, "used"), ==, 4 << 20);
    g_assert_cmpfloat(number(said, "windows"), >=, 1);
    g_assert_cmpfloat(number(said, "damaged"), ==, 0);
    /* The double has this rate whatever the machine does. */
    g_assert_cmpfloat(number(said, "rate"), >, 40 << 20);
    g_assert_cmpfloat(number(said, "rate"), <, 90 << 20);
    g_assert_cmpfloat(number(said, "slowest"), <=, number(said, "rate"));
    g_autoptr(JsonNode) little = load("", "victim --token abc --seconds 0.1 --memory 1", 0);
    g_assert_cmpfloat(number(little, "used"), ==, 2 << 20);
}

static void neighbour(void)
{
    g_autoptr(JsonNode) all = load("", "neighbour --token abc --seconds 0.3", 0);
    g_assert_cmpfloat(number(all, "used"), ==, 16 << 20);
    g_assert_cmpfloat(number(all, "looked"), ==, 16);
    g_assert_cmpfloat(number(all, "found"), ==, 0);
    g_assert_cmpfloat(number(all, "fill_seconds"), >, 0);
    g_assert_cmpfloat(number(all, "load_seconds"), >=, 0.3);
    g_assert_cmpfloat(number(all, "rate"), >, 0);
    g_autoptr(JsonNode) some = load("", "neighbour --token abc --seconds 0.1 --memory 5", 0);
    g_assert_cmpfloat(number(some, "used"), ==, 5 << 20);
}

/* Whatever the driver refuses: one line says at what, and with the driver's words. */
static void refusals(void)
{
    static const struct {
        const char *mode, *says;
    } cases[] = {
        {"init=100", "start the CUDA driver: no CUDA-capable device is detected (CUDA error 100)"},
        {"init=4711", "start the CUDA driver: unknown to this driver (CUDA error 4711)"},
        {"gpus=0", "the guest has 0 GPUs"},
        {"gpus=2", "the guest has 2 GPUs"},
        {"fail=cuDeviceGetCount", "count GPUs: unknown error (CUDA error 999)"},
        {"fail=cuDeviceGet", "open the GPU: unknown error"},
        {"fail=cuDeviceGetName", "name of the GPU: unknown error"},
        {"fail=cuDevicePrimaryCtxRetain", "context on the GPU: unknown error"},
        {"fail=cuCtxSetCurrent", "context on the GPU: unknown error"},
        {"fail=cuCtxSynchronize", "the card: unknown error"},
        {"fail=cuMemGetInfo_v2", "memory of the card: unknown error"},
        {"fail=cuMemAlloc_v2", "memory of the card: unknown error"},
        {"fail=cuMemcpyDtoH_v2", "read from the card: unknown error"},
        {"fail=cuMemcpyDtoD_v2", "copy on the card: unknown error"},
    };
    static const char *const roles[] = {"victim", "neighbour"};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (size_t k = 0; k < G_N_ELEMENTS(roles); k++) {
            g_autofree char *args = g_strdup_printf("%s --token abc --seconds 0.1", roles[k]);
            g_autoptr(JsonNode) said = load(cases[i].mode, args, 1);
            const char *why = at_json_str(json_node_get_object(said), "error", "");
            if (!strstr(why, cases[i].says))
                g_error("%s says: %s", cases[i].mode, why);
        }
    }
    json_node_unref(load("fail=cuMemcpyHtoD_v2", "victim --token abc --seconds 0.1", 1));
    json_node_unref(load("fail=cuMemsetD32_v2", "neighbour --token abc --seconds 0.1", 1));
}

static void usage(void)
{
    static const char *const wrong[] = {
        "victim",
        "victim --token 0 --seconds 1",
        "victim --token xyz --seconds 1",
        "victim --token abc --seconds 0",
        "victim --token abc --seconds nan",
        "victim --token abc --seconds 601",
        "nobody --token abc --seconds 1",
        "--token abc --seconds 1",
        "victim neighbour --token abc --seconds 1",
        "victim --token abc --seconds 1 --memory 1x",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
        g_assert_null(load("", wrong[i], USAGE));
}

/* The median of an even number of windows is the lower one. The double's windows last a little more
 * than a tenth of a second. */
static void lower_median(void)
{
    for (unsigned tries = 0; tries < 10; tries++) {
        g_autoptr(JsonNode) said = load("rate=64", "victim --token abc --seconds 0.23", 0);
        if (number(said, "windows") != 2)
            continue;
        g_assert_cmpfloat(number(said, "rate"), ==, number(said, "slowest"));
        return;
    }
    g_test_skip("this machine is too busy for two windows");
}

/* Also while the driver does not come back. */
static void ends_when_removed(void)
{
    static const char *const roles[] = {"victim", "neighbour"};
    const char *dir = at_test_dir();
    g_autofree char *library = g_strdup_printf("LD_LIBRARY_PATH=%s", AT_CUDA_DOUBLE_DIR);
    for (size_t i = 0; i < G_N_ELEMENTS(roles); i++) {
        const char *program = at_test_file(dir, "program", "x");
        const char *const argv[] = {"env",
                                    library,
                                    "CUDA_DOUBLE_MODE=stuck",
                                    g_getenv("ATOLL_GPU_LOAD_TESTED"),
                                    roles[i],
                                    "--token",
                                    "abc",
                                    "--seconds",
                                    "300",
                                    "--while",
                                    program,
                                    NULL};
        pid_t pid = at_test_spawn(argv, NULL);
        g_usleep(700 * 1000); /* it looks several times and finds it there */
        g_assert_cmpint(waitpid(pid, NULL, WNOHANG), ==, 0);
        g_assert_cmpint(unlink(program), ==, 0);
        siginfo_t info = {0};
        g_assert_true(at_test_until(
            waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid,
            WAIT_MS / 4));
        g_assert_cmpint(info.si_status, ==, EXIT_FAILURE);
    }
}

/* Guests are older than the machine that builds: 2.34 is in use since 2021. */
static void old_libraries(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *bytes = NULL;
    gsize len;
    unsigned seen = 0;
    g_assert_true(
        at_test_ok(g_file_get_contents(g_getenv("ATOLL_GPU_LOAD"), &bytes, &len, &error), &error));
    const char *at = bytes;
    while ((at = memmem(at, len - (gsize)(at - bytes), "GLIBC_2.", 8))) {
        at += 8;
        g_assert_cmpuint(g_ascii_strtoull(at, NULL, 10), <=, 34);
        seen++;
    }
    g_assert_cmpuint(seen, >, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_unsetenv("CUDA_DOUBLE");
    g_test_add_func("/guest/gpu-load/a-victim-measures-and-checks-what-it-wrote", victim);
    g_test_add_func("/guest/gpu-load/a-neighbour-fills-the-card-and-copies", neighbour);
    g_test_add_func("/guest/gpu-load/says-what-the-driver-refuses", refusals);
    g_test_add_func("/guest/gpu-load/refuses-options-that-make-no-sense", usage);
    g_test_add_func("/guest/gpu-load/of-two-windows-the-slower-counts", lower_median);
    g_test_add_func("/guest/gpu-load/ends-when-its-program-is-removed", ends_when_removed);
    g_test_add_func("/guest/gpu-load/runs-with-the-libraries-of-older-guests", old_libraries);
    return g_test_run();
}
