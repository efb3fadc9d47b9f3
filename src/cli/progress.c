/* SPDX-License-Identifier: Apache-2.0 */
/* Progress: on a terminal one line that is drawn again when it changes, elsewhere one line for each
 * step that ends. Everything goes to standard error; standard output is for results. */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/json.h"
#include "base/plain.h"
#include "cli/text.h"

struct at_progress {
    bool terminal, utf8, quiet;
    char *drawn;      /* the line that stands there */
    char *waiting;    /* what the job waits for, as it was told */
    GHashTable *told; /* steps whose end was printed (no terminal) */
};

struct at_progress *at_progress_new(bool quiet)
{
    struct at_progress *progress = g_new0(struct at_progress, 1);
    const char *term = g_getenv("TERM");
    progress->terminal = isatty(STDERR_FILENO) && g_strcmp0(term, "dumb") != 0;
    progress->utf8 = g_get_charset(NULL);
    progress->quiet = quiet && !progress->terminal;
    progress->told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (progress->terminal)
        fputs("\033[?25l", stderr);
    return progress;
}

static unsigned terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

/* Three to thirty columns of bar. */
static void put_bar(GString *line, double percent, unsigned columns, bool utf8)
{
    unsigned full = (unsigned)(percent / 100 * columns + 0.5);
    for (unsigned i = 0; i < columns; i++) {
        if (utf8)
            g_string_append(line, i < full ? "━" : "─");
        else
            g_string_append_c(line, i < full ? '#' : '.');
    }
}

static char *amount_text(JsonObject *job)
{
    int64_t bytes = at_json_int(job, "bytes_done", 0), total = at_json_int(job, "bytes_total", 0);
    if (bytes <= 0 && total <= 0)
        return NULL;
    g_autofree char *have = at_text_size((uint64_t)MAX(bytes, 0));
    if (total <= 0)
        return g_steal_pointer(&have);
    g_autofree char *all = at_text_size((uint64_t)total);
    return g_strdup_printf("%s of %s", have, all);
}

char *at_progress_line(JsonObject *job, unsigned width, bool utf8)
{
    double percent = CLAMP(at_json_num(job, "percent", 0), 0, 100);
    double rate = at_json_num(job, "rate", 0), eta = at_json_num(job, "eta_s", -1);
    const char *state = at_json_str(job, "state", "");
    const char *step =
        strcmp(state, "queued") == 0 ? "waiting for its turn" : at_json_str(job, "step", state);
    const char *waiting = at_json_str(job, "waiting", NULL);
    g_autofree char *title = at_text_job(job);
    g_autofree char *raw = g_strdup_printf("%s: %s%s", title, step, waiting ? ", waits" : "");
    g_autofree char *head = at_plain_text(raw, false);
    g_autoptr(GString) tail = g_string_new(NULL);
    g_string_append_printf(tail, " %3.0f%%", percent);
    g_autofree char *amount = amount_text(job);
    g_autofree char *speed = rate > 0 ? at_text_size((uint64_t)rate) : NULL;
    g_autofree char *left = eta >= 0 ? at_text_duration(eta) : NULL;
    /* What does not fit is left out, the least important first. */
    unsigned room = width > 1 ? width - 1 : 0, used = MIN(at_text_width(head), 40) + 12;
    if (amount && used + at_text_width(amount) + 2 <= room) {
        g_string_append_printf(tail, "  %s", amount);
        used += at_text_width(amount) + 2;
    }
    if (left && used + at_text_width(left) + 7 <= room) {
        g_string_append_printf(tail, "  %s left", left);
        used += at_text_width(left) + 7;
    }
    if (speed && used + at_text_width(speed) + 4 <= room)
        g_string_append_printf(tail, "  %s/s", speed);
    unsigned tail_width = at_text_width(tail->str);
    if (tail_width >= room)
        return at_text_cut(head, room);
    g_autofree char *cut = at_text_cut(head, room - tail_width);
    g_autoptr(GString) line = g_string_new(cut);
    unsigned bar = room - tail_width - at_text_width(cut);
    if (bar > 6) {
        g_string_append_c(line, ' ');
        put_bar(line, percent, MIN(bar - 1, 30), utf8);
    }
    g_string_append(line, tail->str);
    return g_string_free(g_steal_pointer(&line), FALSE);
}

static void tell_steps(struct at_progress *progress, JsonObject *job)
{
    JsonArray *steps = at_json_arr(job, "steps");
    g_autofree char *title = at_text_job(job);
    for (unsigned i = 0; steps && i < json_array_get_length(steps); i++) {
        JsonNode *node = json_array_get_element(steps, i);
        JsonObject *step = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
        const char *name = at_json_str(step, "name", "?"),
                   *end = at_json_str(step, "finished", NULL);
        if (!end || !g_hash_table_add(progress->told, g_strdup(name)))
            continue;
        g_autofree char *time = at_text_between(at_json_str(step, "started", NULL), end);
        at_text_line(stderr, "%s: %s %s%s%s%s", title, name, at_json_str(step, "state", ""),
                     time ? " (" : "", time ? time : "", time ? ")" : "");
    }
}

void at_progress_note(struct at_progress *progress, const char *text)
{
    if (progress->quiet)
        return;
    if (progress->terminal)
        fputs("\r\033[K", stderr);
    at_text_line(stderr, "%s", text);
    g_clear_pointer(&progress->drawn, g_free);
}

/* The reason is longer than what has room beside the bar: told once, as a line of its own. */
static void tell_waiting(struct at_progress *progress, JsonObject *job)
{
    const char *waiting = at_json_str(job, "waiting", NULL);
    if (waiting && g_strcmp0(waiting, progress->waiting) != 0) {
        g_autofree char *text = g_strdup_printf("waits: %s", waiting);
        at_progress_note(progress, text);
    }
    if (waiting) {
        g_free(progress->waiting);
        progress->waiting = g_strdup(waiting);
    }
}

void at_progress_show(struct at_progress *progress, JsonObject *job)
{
    if (progress->quiet)
        return;
    tell_waiting(progress, job);
    if (!progress->terminal) {
        tell_steps(progress, job);
        return;
    }
    char *line = at_progress_line(job, terminal_width(), progress->utf8);
    if (g_strcmp0(line, progress->drawn) == 0) {
        g_free(line);
        return;
    }
    /* Written over the old line, and only its rest is cleared: no flicker. */
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
    g_free(progress->drawn);
    progress->drawn = line;
}

void at_progress_free(struct at_progress *progress)
{
    if (progress->terminal) {
        fputs("\r\033[K\033[?25h", stderr);
        fflush(stderr);
    }
    g_hash_table_unref(progress->told);
    g_free(progress->drawn);
    g_free(progress->waiting);
    g_free(progress);
}
