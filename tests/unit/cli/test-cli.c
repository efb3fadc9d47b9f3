/* SPDX-License-Identifier: Apache-2.0 */
/* The program atoll against a stand-in for the daemon: what it prints (golden/), its exit codes,
 * what it sends, and how it waits for jobs. With ATOLL_GOLDEN=write the golden files are written.
 */
#include <glib/gstdio.h>
#include <string.h>

#include "base/json.h"
#include "base/plain.h"
#include "double.h"

static const struct {
    const char *name, *words;
    int code;
} golden[] = {
    {"help", "--help", 0},
    {"help-vdc", "vdc --help", 0},
    {"help-snapshot-create", "snapshot create --help", 0},
    {"help-clone", "help clone", 0},
    {"vdc-list", "vdc list", 0},
    {"vdc-show", "show rag-team", 0},
    {"snapshot-list", "snapshot list", 0},
    {"snapshot-list-empty", "snapshot list empty", 0},
    {"snapshot-show", "snapshot show rag-team@before-upgrade", 0},
    {"snapshot-diff", "snapshot diff rag-team@a rag-team@b", 0},
    {"ws-list", "ws list rag-team", 0},
    {"ws-show", "ws show rag-team/tune", 0},
    {"ws-log", "ws log rag-team/tune", 0},
    {"image-list", "image list", 0},
    {"job-list", "job list", 0},
    {"job-show", "job show 10", 0},
    {"vault-status", "vault status", 0},
    {"vault-verify", "vault verify --all", 1},
    {"job-show-verify", "job show 61", 0},
    {"node-show", "node show", 0},
    {"gpu-list", "gpu list", 0},
    {"gpu-show", "gpu show 41:00.0", 0},
    {"gpu-show-amd", "gpu show c1:00.0", 0},
    {"gpu-release", "gpu release e1:00.0", 0},
    {"gpu-plan-no-file", "gpu plan", 2},
    {"help-gpu", "gpu --help", 0},
    {"completion-nouns", "completion words -- ''", 0},
    {"completion-snapshots", "completion words -- restore ''", 0},
    {"completion-workstations", "completion words -- ws console ''", 0},
    {"completion-options", "completion words -- stop rag-team --", 0},
    {"job-done", "snapshot create good", 0},
    {"job-failed", "snapshot create full", 1},
    {"job-undone", "snapshot create taken", 4},
    {"not-found", "vdc show nowhere", 3},
    {"conflict", "delete rag-team", 4},
    {"failed", "delete broken", 1},
    {"unknown-noun", "snapshto list", 2},
    {"unknown-verb", "vdc lst", 2},
    {"unknown-option", "vdc list --bogus", 2},
    {"missing-argument", "vdc show", 2},
    {"console-not-found", "ws console nowhere/tune", 3},
    {"console-busy", "ws console rag-team/eval", 4},
    {"bad-address", "restore rag-team", 2},
    {"bad-name", "clone rag-team@a Rag_Team", 2},
    {"bad-sample", "vault verify --sample 0%", 2},
    {"nobody-answers", "--socket /nonexistent/socket vdc list", 1},
};

static void compare(const char *name, const char *text)
{
    g_autofree char *file = g_strconcat(name, ".txt", NULL);
    g_autofree char *path = g_test_build_filename(G_TEST_DIST, "golden", file, NULL);
    g_autofree char *expected = NULL;
    if (g_strcmp0(g_getenv("ATOLL_GOLDEN"), "write") == 0)
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_assert_true(g_file_get_contents(path, &expected, NULL, NULL));
    g_assert_cmpstr(text, ==, expected);
}

static void test_golden(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(golden); i++) {
        struct double_run run;
        double_run(golden[i].words, 0, 0, &run);
        g_test_message("atoll %s", golden[i].words);
        g_autofree char *all =
            g_strconcat(run.out, *run.err ? "--- standard error\n" : "", run.err, NULL);
        compare(golden[i].name, all);
        g_assert_cmpint(run.code, ==, golden[i].code);
        double_run_clear(&run);
    }
}

static JsonNode *run_json(const char *words)
{
    struct double_run run;
    g_autoptr(GError) error = NULL;
    double_run(words, 0, 0, &run);
    g_assert_cmpint(run.code, ==, 0);
    JsonNode *node = at_json_parse(run.out, -1, &error);
    g_assert_no_error(error);
    double_run_clear(&run);
    return node;
}

static void test_json(void)
{
    g_autoptr(JsonNode) snap = run_json("--json snapshot show rag-team@before-upgrade");
    JsonObject *obj = json_node_get_object(snap);
    g_assert_cmpuint(strlen(at_json_str(obj, "digest", "")), ==, 64);
    g_assert_cmpint(at_json_int(obj, "stored_bytes", 0), ==, 1572864);
    g_assert_cmpstr(at_json_str(obj, "description", ""), ==, "before CUDA 13, größer");
    g_autoptr(JsonNode) vdc = run_json("vdc show rag-team --json");
    g_assert_nonnull(at_json_arr(json_node_get_object(vdc), "workstations"));
    g_autoptr(JsonNode) job = run_json("--json snapshot create good --no-wait");
    g_assert_cmpstr(at_json_str(json_node_get_object(job), "id", ""), ==, "7");
    g_autoptr(JsonNode) log = run_json("ws log rag-team/tune --json");
    g_assert_cmpstr(at_json_str(json_node_get_object(log), "log", ""), ==,
                    "Linux version 6.1\r\ntune login: ");
}

/* With --json there is nothing but one object on standard error. */
static void expect_error(const char *words, int exit_code, const char *code, const char *message,
                         const char *next)
{
    struct double_run run;
    g_autoptr(GError) error = NULL;
    double_run(words, 0, 0, &run);
    g_test_message("atoll %s: %s", words, run.err);
    g_autoptr(JsonNode) node = at_json_parse(run.err, -1, &error);
    g_assert_no_error(error);
    g_assert_cmpint(run.code, ==, exit_code);
    JsonObject *obj = at_json_obj(json_node_get_object(node), "error");
    g_assert_cmpstr(at_json_str(obj, "code", ""), ==, code);
    g_assert_nonnull(strstr(at_json_str(obj, "message", ""), message));
    g_assert_nonnull(strstr(at_json_str(obj, "next", ""), next));
    double_run_clear(&run);
}

static void test_json_errors(void)
{
    expect_error("--json vdc show nowhere", 3, "not_found", "VDC nowhere does not exist", "");
    expect_error("delete rag-team --json", 4, "conflict", "2 snapshots", "--snapshots deletes");
    expect_error("--json ws list nowhere", 3, "not_found", "no VDC nowhere", "");
    expect_error("--json snapshto list", 2, "invalid", "did you mean", "");
    expect_error("--json vdc show", 2, "invalid", "usage:", "");
    expect_error("--json snapshot create full", 1, "no_space", "snapshot create", "atoll vault gc");
    expect_error("--json vdc list --socket /nonexistent", 1, "unavailable", "atolld", "start it");
}

static JsonObject *sent(const char *request, JsonNode **keep)
{
    *keep = at_json_parse(double_body(request), -1, NULL);
    g_assert_nonnull(*keep);
    return json_node_get_object(*keep);
}

static void test_sends(void)
{
    struct double_run run;
    g_autoptr(JsonNode) clone = NULL, snap = NULL;
    double_run("snapshot clone rag-team@before-upgrade drill --identity fresh --isolated "
               "--no-start --no-wait",
               0, 0, &run);
    g_assert_cmpint(run.code, ==, 0);
    g_assert_cmpstr(run.out, ==, "7\n");
    double_run_clear(&run);
    JsonObject *body = sent("POST /v1/vdcs/rag-team/snapshots/before-upgrade/clone", &clone);
    g_assert_cmpstr(at_json_str(body, "name", ""), ==, "drill");
    g_assert_cmpstr(at_json_str(body, "identity", ""), ==, "fresh");
    g_assert_true(at_json_bool(body, "isolated", false));
    g_assert_false(at_json_bool(body, "start", true));

    double_run("snapshot create good nightly -q -d 'a note' --no-wait", 0, 0, &run);
    g_assert_cmpint(run.code, ==, 0);
    double_run_clear(&run);
    body = sent("POST /v1/vdcs/good/snapshots", &snap);
    g_assert_cmpstr(at_json_str(body, "name", ""), ==, "nightly");
    g_assert_true(at_json_bool(body, "quiesce", false));
    g_assert_cmpstr(at_json_str(body, "description", ""), ==, "a note");
}

static void apply(const char *vdc, const char *options, int code, const char *out, const char *err)
{
    g_autofree char *dir = g_dir_make_tmp("atoll-apply-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "team.yaml", NULL);
    g_autofree char *text = g_strdup_printf("vdc: %s\nworkstations:\n  - name: tune\n"
                                            "    disks: [{image: debian-13}]\n",
                                            vdc);
    g_autofree char *words = g_strdup_printf("apply -f %s %s", path, options);
    struct double_run run;
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    double_run(words, 0, 0, &run);
    g_autoptr(GString) seen = g_string_new(run.err);
    g_string_replace(seen, dir, "DIR", 0);
    g_test_message("%s%s", run.out, seen->str);
    g_assert_cmpint(run.code, ==, code);
    g_assert_nonnull(strstr(run.out, out));
    g_assert_nonnull(strstr(seen->str, err));
    double_run_clear(&run);
    g_unlink(path);
    g_rmdir(dir);
}

static void test_apply(void)
{
    apply("rag-team", "--dry-run", 0,
          "change   workstation retrieval  memory 1 GiB -> 2 GiB\n"
          "restart  workstation retrieval  if it runs\n",
          "");
    g_assert_cmpuint(double_asked("PUT /v1/vdcs/rag-team"), ==, 1);
    apply("rag-team", "--no-wait", 0, "7\n", "");
    g_assert_cmpuint(double_asked("PUT /v1/vdcs/rag-team"), ==, 3);
    apply("rag-team", "--no-wait --json", 0, "\"detail\" : \"memory 1 GiB -> 2 GiB\"", "");
    apply("rag-team", "--json", 0, "\"changes\" : [", "");
    apply("rag-team", "--json", 0, "\"state\" : \"done\"", "");
    apply("loss", "--no-wait", 4, "delete  workstation tune  2 disks and all data on them",
          "atoll: VDC loss: this would delete data; nothing was done\n  next: ");
    g_assert_cmpuint(double_asked("PUT /v1/vdcs/loss"), ==, 1);
    apply("loss", "--no-wait --yes", 0, "7\n", "");
    apply("noimage", "", 3, "",
          "atoll: DIR/team.yaml:4:21: workstations[0].disks[0].image: there is no image "
          "debian-13\n");
    apply("Bad", "", 2, "", "atoll: DIR/team.yaml:1:6: vdc: found \"Bad\", a VDC name has");
}

/* Escape sequences begin with U+001B or U+009B; an override turns what stands behind it. The
 * colours and the cursor of the progress line are our own. */
static void test_hostile_text(void)
{
    static const char *const words[] = {"snapshot create hostile",
                                        "snapshot create hostile-too",
                                        "job show 11",
                                        "job show 12 --json",
                                        "vdc show hostile",
                                        "vdc show hostile --json",
                                        "snapshot create hostile --no-wait --json",
                                        "snapshot create hostile --json"};
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        struct double_run run;
        double_run(words[i], 0, 0, &run);
        g_autofree char *all = g_strconcat(run.out, run.err, NULL);
        g_test_message("atoll %s: %s", words[i], all);
        g_assert_true(g_utf8_validate(all, -1, NULL));
        g_assert_nonnull(strchr(all, 'X'));
        for (const char *p = all; *p; p = g_utf8_next_char(p))
            g_assert_true(*p == '\n' || !at_plain_steers(g_utf8_get_char(p)));
        if (strstr(words[i], "--json") && *run.out) {
            g_autoptr(JsonNode) node = at_json_parse(run.out, -1, NULL);
            g_assert_nonnull(node);
        }
        double_run_clear(&run);
    }
    struct double_run run;
    double_run("snapshot create hostile", 60, 0, &run);
    g_assert_null(strstr(run.err, "\033[2J"));
    g_assert_null(strstr(run.err, "\xc2\x9b"));
    double_run_clear(&run);
}

/* Every frame is drawn over the one before, within the width, and the cursor comes back. */
static void test_progress(void)
{
    struct double_run run;
    double_run("snapshot create slow", 60, 2, &run);
    g_test_message("%s", run.err);
    g_assert_true(g_str_has_prefix(run.err, "\033[?25l"));
    g_assert_nonnull(strstr(run.err, "\033[?25h"));
    g_assert_nonnull(strstr(run.err, " 33%"));
    g_auto(GStrv) frames = g_strsplit(run.err, "\r", -1);
    for (char **frame = frames; *frame; frame++) {
        if (!strstr(*frame, "33%"))
            continue;
        g_autofree char *text = g_strndup(*frame, strcspn(*frame, "\033"));
        g_assert_cmpint(g_utf8_strlen(text, -1), <, 60);
    }
    double_run_clear(&run);
}

static void test_interrupts(void)
{
    struct double_run run;
    unsigned before = double_asked("POST /v1/jobs/9/cancel");
    double_run("snapshot create slow", 0, 2, &run);
    g_assert_cmpint(run.code, ==, 1);
    g_assert_cmpuint(double_asked("POST /v1/jobs/9/cancel"), ==, before + 1);
    g_assert_nonnull(strstr(run.err, "cancelling"));
    g_assert_nonnull(strstr(run.err, "job 9 goes on\n  next: atoll job wait 9 shows it again"));
    double_run_clear(&run);
}

static void test_console(void)
{
    struct double_run run;
    g_autofree char *words = g_strdup("ws console rag-team/tune");
    double_run(words, 0, 0, &run);
    g_assert_cmpint(run.code, ==, 0);
    g_assert_cmpuint(strlen(run.out), ==, 4 << 20);
    g_assert_cmpuint(double_flood_most(), <=, 256 << 10);
    double_run_clear(&run);
}

/* Every verb has a help page, an example where people use it, and a place in the manual page. */
static void test_man(void)
{
    struct double_run run;
    double_run("completion man", 0, 0, &run);
    g_assert_cmpint(run.code, ==, 0);
    g_assert_true(g_str_has_prefix(run.out, ".TH ATOLL 1"));
    static const char *const verbs[] = {"vdc apply",    "vdc clone",    "snapshot create",
                                        "ws console",   "image build",  "job wait",
                                        "vault verify", "events follow"};
    for (unsigned i = 0; i < G_N_ELEMENTS(verbs); i++) {
        g_autofree char *head = g_strdup_printf(".SS \"atoll %s ", verbs[i]);
        g_assert_nonnull(strstr(run.out, head));
    }
    double_run_clear(&run);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    double_start();
    g_test_add_func("/cli/prints-what-it-always-printed", test_golden);
    g_test_add_func("/cli/gives-programs-json", test_json);
    g_test_add_func("/cli/gives-programs-errors-as-json", test_json_errors);
    g_test_add_func("/cli/sends-what-was-asked-for", test_sends);
    g_test_add_func("/cli/apply/tells-changes-and-asks-before-data-is-lost", test_apply);
    g_test_add_func("/cli/lets-nothing-steer-the-terminal", test_hostile_text);
    g_test_add_func("/cli/job/draws-one-line-within-the-terminal", test_progress);
    g_test_add_func("/cli/job/first-ctrl-c-cancels-second-leaves", test_interrupts);
    g_test_add_func("/cli/console/gives-credit-back-and-takes-a-flood", test_console);
    g_test_add_func("/cli/man-page-has-every-verb", test_man);
    int code = g_test_run();
    double_stop();
    return code;
}
