/* SPDX-License-Identifier: Apache-2.0 */
/* The report of vault verify and snapshot verify: what is damaged, why, and what it hits. */
#include "cli/verify-report.h"

#include "base/json.h"
#include "cli/cli.h"
#include "cli/text.h"

static JsonArray *problems_of(JsonObject *job)
{
    JsonObject *report = at_json_obj(at_json_obj(job, "result"), "report");
    JsonArray *problems = at_json_arr(report, "problems");
    return problems && json_array_get_length(problems) > 0 ? problems : NULL;
}

/* "snapshot team@monday", "disk root of workstation team/tune" */
static void append_hit(GString *text, JsonObject *hit)
{
    const char *kind = at_json_str(hit, "kind", "root"), *disk = at_json_str(hit, "disk", NULL);
    if (text->len)
        g_string_append(text, ", ");
    if (disk)
        g_string_append_printf(text, "disk %s of ", disk);
    g_string_append_printf(text, "%s %s", kind, at_json_str(hit, "name", "?"));
}

static char *hits_of(JsonObject *problem)
{
    g_autoptr(GString) text = g_string_new(NULL);
    JsonArray *hits = at_json_arr(problem, "hits");
    for (unsigned i = 0; hits && i < json_array_get_length(hits); i++)
        append_hit(text, at_cli_object(json_array_get_element(hits, i)));
    return g_strdup(text->len ? text->str : "nothing that is kept");
}

bool at_verify_report_print(JsonObject *job)
{
    static const char *const heads[] = {"DAMAGED", "REASON", "HITS", NULL};
    JsonArray *problems = problems_of(job);
    if (!problems)
        return false;
    unsigned shown = json_array_get_length(problems);
    struct at_table *table = at_table_new(heads);
    for (unsigned i = 0; i < shown; i++) {
        JsonObject *p = at_cli_object(json_array_get_element(problems, i));
        at_table_take(table, AT_PLAIN, at_text_digest(at_json_str(p, "chunk", NULL)));
        at_table_cell(table, AT_RED, at_json_str(p, "reason", NULL));
        at_table_take(table, AT_PLAIN, hits_of(p));
    }
    at_table_print(table, "");
    JsonObject *report = at_json_obj(at_json_obj(job, "result"), "report");
    int64_t all = at_json_int(report, "damaged", shown);
    if (all > shown)
        at_text_line(stdout, "and %" G_GINT64_FORMAT " more", all - shown);
    return true;
}

const char *at_verify_report_next(JsonObject *job)
{
    return problems_of(job) ? "what is stored once more is whole again: import or build the images "
                              "that are hit anew, under another name; a snapshot that is hit even "
                              "then has lost content: delete it"
                            : NULL;
}
