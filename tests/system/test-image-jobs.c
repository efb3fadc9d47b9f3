/* SPDX-License-Identifier: Apache-2.0 */
/* Images through the daemon and the program atoll: import, export, delete, bad files, crashes. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/json.h"
#include "base/process.h"
#include "lib/at-test.h"

enum { CLI_MS = 120000, START_MS = 60000 };

static const char *daemon_program, *cli_program;

struct site {
    const char *dir;
    char *state, *socket;
    pid_t daemon;
};

/* Runs atoll with words; its exit status, and what it printed. */
static int cli(struct site *s, char **ret_text, const char *words)
{
    g_autofree char *line = g_strdup_printf("cd %s && exec %s --socket %s --json %s", s->dir,
                                            cli_program, s->socket, words);
    const char *argv[] = {"sh", "-c", line, NULL};
    return at_test_run(argv, CLI_MS, ret_text);
}

static int cli_f(struct site *s, char **ret_text, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
static int cli_f(struct site *s, char **ret_text, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *words = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_autofree char *text = NULL;
    int rc = cli(s, &text, words);
    g_test_message("atoll %s: %d", words, rc);
    if (rc != 0)
        g_test_message("%s", text);
    if (ret_text)
        *ret_text = g_steal_pointer(&text);
    return rc;
}

static void sh(struct site *s, const char *script)
{
    g_autofree char *text = NULL;
    g_autofree char *line = g_strdup_printf("set -e; cd %s; %s", s->dir, script);
    const char *argv[] = {"sh", "-c", line, NULL};
    int rc = at_test_run(argv, CLI_MS, &text);
    if (rc != 0)
        g_error("%s: %d: %s", script, rc, text);
}

static void start(struct site *s, const char *fault)
{
    g_autofree char *plan = g_strdup_printf("ATOLL_FAULT=%s", fault ? fault : "");
    const char *argv[] = {"env",     plan,     daemon_program, "--accel", "tcg",
                          "--state", s->state, "--socket",     s->socket, NULL};
    s->daemon = at_test_spawn(argv, at_test_path(s->dir, "log"));
    g_assert_true(at_test_until(cli(s, NULL, "node show") == 0, START_MS));
}

static bool site_open(struct site *s)
{
    *s = (struct site){0};
    if (!at_test_needs_root() || !at_test_needs_program("nbdkit") ||
        !at_test_needs_program("qemu-img") || !at_test_needs_program("qemu-system-x86_64"))
        return false;
    s->dir = at_test_dir();
    s->state = g_build_filename(s->dir, "s", NULL);
    s->socket = g_build_filename(s->dir, "sock", NULL);
    start(s, NULL);
    return true;
}

/* At the end of a test's body: its directory and processes go when the body returns. */
static void site_close(struct site *s)
{
    at_test_kill(s->daemon, SIGTERM);
    /* The image server goes on for the next daemon; there will be none. */
    g_autofree char *pidfile = g_build_filename(s->state, "nbd", "pid", NULL);
    struct at_process nbdkit;
    if (at_pidfile_read(pidfile, &nbdkit, NULL))
        at_process_stop(&nbdkit, 5000, NULL);
    g_free(s->state);
    g_free(s->socket);
}

static char *root_of(struct site *s, const char *image)
{
    g_autofree char *text = NULL;
    g_assert_cmpint(cli_f(s, &text, "image show %s", image), ==, 0);
    g_autoptr(JsonNode) node = at_json_parse(text, -1, NULL);
    g_assert_nonnull(node);
    return g_strdup(at_json_str(json_node_get_object(node), "root", "?"));
}

static unsigned count_images(struct site *s)
{
    g_autofree char *text = NULL;
    g_assert_cmpint(cli_f(s, &text, "image list"), ==, 0);
    g_autoptr(JsonNode) node = at_json_parse(text, -1, NULL);
    g_assert_nonnull(node);
    JsonArray *list = JSON_NODE_HOLDS_ARRAY(node)
                          ? json_node_get_array(node)
                          : at_json_arr(json_node_get_object(node), "images");
    return json_array_get_length(list);
}

static const char make_base[] = "head -c 6M /dev/urandom >base.raw; truncate -s 20M base.raw; "
                                "head -c 64K /dev/urandom >>base.raw; truncate -s 32M base.raw";

static void test_formats(void)
{
    static const char *const formats[] = {"qcow2", "vmdk", "vhdx", "vdi"};
    struct site site, *s = &site;
    if (!site_open(s))
        return;
    sh(s, make_base);
    g_assert_cmpint(cli_f(s, NULL, "image import base.raw --name one"), ==, 0);
    g_autofree char *root = root_of(s, "one");
    for (unsigned i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *convert =
            g_strdup_printf("qemu-img convert -O %s base.raw d.%s", formats[i], formats[i]);
        sh(s, convert);
        g_assert_cmpint(cli_f(s, NULL, "image import d.%s --name %s", formats[i], formats[i]), ==,
                        0);
        g_autofree char *same = root_of(s, formats[i]);
        g_assert_cmpstr(same, ==, root);
    }
    g_assert_cmpint(cli_f(s, NULL, "image export one back.raw"), ==, 0);
    g_assert_cmpint(cli_f(s, NULL, "image export vmdk back.qcow2"), ==, 0);
    sh(s, "cmp base.raw back.raw; qemu-img compare -q -f raw -F qcow2 base.raw back.qcow2; "
          "test $(stat -c %b back.raw) -lt 20000");
    /* A name is taken once, a file is not overwritten, what is not there is not found. */
    g_assert_cmpint(cli_f(s, NULL, "image import base.raw --name one"), ==, 4);
    g_assert_cmpint(cli_f(s, NULL, "image export one back.raw"), !=, 0);
    sh(s, "cmp base.raw back.raw; test -z \"$(find . -maxdepth 1 -name '.*.tmp-*')\"");
    g_assert_cmpint(cli_f(s, NULL, "image delete one"), ==, 0);
    g_assert_cmpint(cli_f(s, NULL, "image show one"), ==, 3);
    g_assert_cmpint(cli_f(s, NULL, "image export one again.raw"), ==, 3);
    g_assert_cmpuint(count_images(s), ==, 4);
    site_close(s);
}

static void refuse(struct site *s, const char *file, const char *reason)
{
    g_autofree char *text = NULL;
    g_assert_cmpint(cli_f(s, &text, "image import %s --name bad", file), !=, 0);
    if (!strstr(text, reason))
        g_error("%s: \"%s\" does not say \"%s\"", file, text, reason);
    g_assert_null(strstr(text, "/proc/self")); /* the caller's own name for it */
}

static void test_bad_files(void)
{
    struct site site, *s = &site;
    if (!site_open(s))
        return;
    sh(s,
       "truncate -s 1M base.raw; qemu-img create -q -f qcow2 -u -b /etc/shadow -F raw b.qcow2 1M;"
       "head -c 4M /dev/urandom >r; qemu-img convert -f raw -O qcow2 r cut.qcow2; "
       "truncate -s 1M cut.qcow2; gzip -k r; : >empty");
    refuse(s, "b.qcow2", "/etc/shadow");
    refuse(s, "cut.qcow2", "damaged");
    refuse(s, "r.gz", "gzip");
    refuse(s, "empty", "empty");
    refuse(s, "missing", "No such file");
    g_assert_cmpuint(count_images(s), ==, 0);
    site_close(s);
}

static bool has_died(pid_t pid)
{
    struct at_process p;
    return !at_process_lookup(pid, &p);
}

static bool has_no_open_job(struct site *s)
{
    g_autofree char *list = NULL;
    return cli(s, &list, "job list") == 0 && !strstr(list, "\"running\"") &&
           !strstr(list, "\"queued\"");
}

static int64_t plain_bytes(struct site *s)
{
    g_autofree char *text = NULL;
    g_assert_cmpint(cli_f(s, &text, "vault show"), ==, 0);
    g_autoptr(JsonNode) node = at_json_parse(text, -1, NULL);
    return at_json_int(json_node_get_object(node), "plain_bytes", -1);
}

/* Killed in front of every effect: afterwards the image is there whole, or not at all. */
static void test_crashes(void)
{
    static const struct {
        const char *fault;
        bool recorded;
    } points[] = {
        {"job.image-import.read-file.before:kill", false},
        {"image.root:kill", false},
        {"job.image-import.read-file.after:kill", false},
        {"job.image-import.record.before:kill", true},
        {"job.image-import.record.after:kill", true},
    };
    struct site site, *s = &site;
    if (!site_open(s))
        return;
    sh(s, make_base);
    g_assert_cmpint(cli_f(s, NULL, "image import base.raw --name good"), ==, 0);
    g_autofree char *root = root_of(s, "good");
    g_assert_cmpint(cli_f(s, NULL, "image delete good"), ==, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(points); i++) {
        at_test_kill(s->daemon, SIGTERM);
        start(s, points[i].fault);
        cli_f(s, NULL, "image import base.raw --name crash --no-wait");
        g_assert_true(at_test_until(has_died(s->daemon), START_MS));
        start(s, NULL);
        g_assert_true(at_test_until(has_no_open_job(s), START_MS));
        bool there = cli_f(s, NULL, "image show crash") == 0;
        if (points[i].recorded)
            g_assert_true(there);
        if (there) {
            g_autofree char *same = root_of(s, "crash");
            g_assert_cmpstr(same, ==, root);
            g_assert_cmpint(cli_f(s, NULL, "vault verify"), ==, 0);
            g_assert_cmpint(cli_f(s, NULL, "image delete crash"), ==, 0);
        }
        g_assert_cmpuint(count_images(s), ==, 0);
    }
    /* Nothing is kept alive by what was undone. */
    g_assert_cmpint(cli_f(s, NULL, "vault gc"), ==, 0);
    g_assert_cmpint(plain_bytes(s), <, 1 << 20);
    site_close(s);
}

/* The job's record; NULL while nobody answers. */
static JsonNode *job(struct site *s, const char *id)
{
    g_autofree char *words = g_strconcat("job show ", id, NULL), *text = NULL;
    return cli(s, &text, words) == 0 ? at_json_parse(text, -1, NULL) : NULL;
}

static bool is_reading(struct site *s, const char *id)
{
    g_autoptr(JsonNode) node = job(s, id);
    return node && at_json_int(json_node_get_object(node), "bytes_done", 0) > 0;
}

static void test_cancel(void)
{
    struct site site, *s = &site;
    if (!site_open(s))
        return;
    sh(s, "head -c 1G /dev/urandom >large.raw; truncate -s 4G large.raw;"
          "head -c 1M /dev/urandom >small.raw");
    g_autofree char *started = NULL, *ended = NULL;
    g_assert_cmpint(cli_f(s, &started, "image import large.raw --name large --no-wait"), ==, 0);
    g_autoptr(JsonNode) node = at_json_parse(started, -1, NULL);
    const char *id = at_json_str(json_node_get_object(node), "id", NULL);
    g_assert_true(at_test_until(is_reading(s, id), CLI_MS));
    g_assert_cmpint(cli_f(s, NULL, "job cancel %s", id), ==, 0);
    g_assert_cmpint(cli_f(s, &ended, "job wait %s", id), ==, 1);
    g_autoptr(JsonNode) record = job(s, id);
    g_assert_cmpstr(at_json_str(json_node_get_object(record), "state", ""), ==, "cancelled");
    g_assert_cmpuint(count_images(s), ==, 0);
    sh(s, "test -z \"$(find s/tmp s/vault/roots -mindepth 1 -type f)\"");
    g_assert_cmpint(cli_f(s, NULL, "vault gc"), ==, 0);
    g_assert_cmpint(plain_bytes(s), <, 1 << 20);
    /* Neither the name nor anything else is held. */
    g_assert_cmpint(cli_f(s, NULL, "image import small.raw --name large"), ==, 0);
    g_assert_cmpint(cli_f(s, NULL, "vault verify"), ==, 0);
    site_close(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    daemon_program = g_getenv("ATOLLD");
    cli_program = g_getenv("ATOLL");
    if (!daemon_program || !cli_program)
        at_test_skip_all("ATOLLD and ATOLL do not name the programs");
    g_test_add_func("/image/jobs/imports-every-format-as-the-same-content-and-exports-it-back",
                    test_formats);
    g_test_add_func("/image/jobs/refuses-bad-files-with-the-reason-and-records-nothing",
                    test_bad_files);
    g_test_add_func("/image/jobs/leaves-an-image-whole-or-not-at-all-when-killed", test_crashes);
    g_test_add_func("/image/jobs/cancelling-an-import-leaves-nothing", test_cancel);
    return g_test_run();
}
