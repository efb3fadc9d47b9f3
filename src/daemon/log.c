/* SPDX-License-Identifier: Apache-2.0 */
/* The log: one line per event or failure on standard error, for the journal or a person. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "daemon/daemon.h"

static bool verbose_log;
static bool to_journal;

static int journal_level(GLogLevelFlags level)
{
    if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
        return 3;
    if (level & G_LOG_LEVEL_WARNING)
        return 4;
    return level & (G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO) ? 6 : 7;
}

static GLogWriterOutput write_line(GLogLevelFlags level, const GLogField *fields, gsize n_fields,
                                   gpointer unused)
{
    if ((level & G_LOG_LEVEL_DEBUG) && !verbose_log)
        return G_LOG_WRITER_HANDLED;
    const char *text = "";
    for (gsize i = 0; i < n_fields; i++) {
        if (strcmp(fields[i].key, "MESSAGE") == 0)
            text = fields[i].value;
    }
    /* One message, one line: what guests or clients put into it cannot start another. */
    g_autofree char *line = g_strdup(text);
    for (char *c = line; *c; c++) {
        if (g_ascii_iscntrl(*c))
            *c = ' ';
    }
    if (to_journal) {
        fprintf(stderr, "<%d>%s\n", journal_level(level), line);
    } else {
        g_autofree char *time = at_clock_rfc3339();
        fprintf(stderr, "%s atolld[%d] %s%s\n", time, (int)getpid(),
                journal_level(level) < 6 ? "warning: " : "", line);
    }
    fflush(stderr);
    return G_LOG_WRITER_HANDLED;
}

void at_log_start(bool verbose)
{
    verbose_log = verbose;
    to_journal = g_getenv("JOURNAL_STREAM") != NULL;
    g_log_set_writer_func(write_line, NULL, NULL);
}

/* "snapshot-create team@s1: running, step capture" in place of the whole record. */
static char *job_text(JsonObject *job)
{
    JsonObject *error = at_json_obj(job, "error");
    return g_strdup_printf("%s %s: %s, step %s%s%s", at_json_str(job, "kind", "?"),
                           at_json_str(job, "target", ""), at_json_str(job, "state", "?"),
                           at_json_str(job, "step", "?"), error ? ": " : "",
                           error ? at_json_str(error, "message", "") : "");
}

void at_log_event(uint64_t id, JsonNode *event, void *unused)
{
    JsonObject *obj = json_node_get_object(event);
    const char *type = at_json_str(obj, "type", "event");
    const char *subject = at_json_str(obj, "subject", "");
    JsonNode *data = json_object_get_member(obj, "data");
    JsonObject *job = at_json_obj(at_json_obj(obj, "data"), "job");
    bool noisy = g_str_equal(type, "job.progress") || g_str_equal(type, "job.step");
    if (noisy && !verbose_log)
        return;
    g_autofree char *text = job ? job_text(job) : data ? at_json_text(data) : NULL;
    bool empty = !text || strcmp(text, "{}") == 0 || strcmp(text, "null") == 0;
    g_message("%s %s%s%s", type, subject, empty ? "" : " ", empty ? "" : text);
}
