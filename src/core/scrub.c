/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the vault back in the background: when, how fast, and what is remembered of it. */
#include "core/scrub.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/job.h"
#include "core/vdc.h"
#include "vault/maintenance.h"

enum {
    PIECE = 64, /* objects; a restart reads those of one piece again */
    SAVE_MS = 30 * 1000,
    LOOK_MS = 1000,  /* while it stands back, or waits for its time */
    FIRST_PART = 30, /* a new site is first verified after this part of a period */
    NICE = 10,
    RETRY_MAX_MIN = 60,
};

struct pass {
    int64_t began_us; /* wall clock; 0: none is under way */
    struct at_verify_place place;
    uint64_t objects, bytes;
    uint64_t stored; /* bytes of packs */
    unsigned damaged;
};

struct at_scrub {
    struct at_core *core;
    double days;
    uint64_t rate;
    GThread *thread;
    GCancellable *stop;
    int64_t free_us; /* monotonic: when the budget allows the next read; the thread's own */
    int64_t saved_us;
    GHashTable *told; /* struct at_digest, of this pass; the thread's own */

    GMutex lock; /* guards all below */
    GCond wake;  /* stopping was set */
    bool stopping;
    const char *state;
    struct pass pass;
    uint64_t piece_stored; /* of the piece that is being read */
    int64_t since_us;      /* wall clock: the period is counted from here */
    bool verified;         /* at least once; then: */
    int64_t last_us;
    uint64_t last_bytes;
    unsigned last_damaged;
};

/* ---- What is remembered ---- */

static char *time_text(int64_t us)
{
    if (us == 0)
        return NULL;
    g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(us / G_USEC_PER_SEC);
    return utc ? g_date_time_format(utc, "%Y-%m-%dT%H:%M:%SZ") : NULL;
}

static char *state_path(const struct at_scrub *s)
{
    return g_build_filename(s->core->state_dir, "verify.json", NULL);
}

static void load(struct at_scrub *s)
{
    g_autofree char *path = state_path(s), *text = NULL;
    g_autoptr(JsonNode) node =
        g_file_get_contents(path, &text, NULL, NULL) ? at_json_parse(text, -1, NULL) : NULL;
    JsonObject *o = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
    JsonObject *pass = at_json_obj(o, "pass");
    s->since_us = at_json_int(o, "since_us", 0);
    s->last_us = at_json_int(o, "last_us", 0);
    s->verified = s->last_us != 0;
    s->last_bytes = (uint64_t)at_json_int(o, "last_bytes", 0);
    s->last_damaged = (unsigned)at_json_int(o, "last_damaged", 0);
    s->pass.began_us = at_json_int(pass, "began_us", 0);
    s->pass.objects = (uint64_t)at_json_int(pass, "objects", 0);
    s->pass.bytes = (uint64_t)at_json_int(pass, "bytes", 0);
    s->pass.stored = (uint64_t)at_json_int(pass, "stored", 0);
    s->pass.damaged = (unsigned)at_json_int(pass, "damaged", 0);
    s->pass.place.begun =
        at_digest_from_hex(at_json_str(pass, "after", ""), &s->pass.place.after, NULL);
}

/* With the lock held. */
static JsonNode *remembered(const struct at_scrub *s)
{
    JsonObject *o = json_object_new();
    json_object_set_int_member(o, "version", 1);
    json_object_set_int_member(o, "since_us", s->since_us);
    if (s->verified) {
        json_object_set_int_member(o, "last_us", s->last_us);
        json_object_set_int_member(o, "last_bytes", (int64_t)s->last_bytes);
        json_object_set_int_member(o, "last_damaged", s->last_damaged);
    }
    if (s->pass.began_us) {
        JsonObject *pass = json_object_new();
        json_object_set_int_member(pass, "began_us", s->pass.began_us);
        json_object_set_int_member(pass, "objects", (int64_t)s->pass.objects);
        json_object_set_int_member(pass, "bytes", (int64_t)s->pass.bytes);
        json_object_set_int_member(pass, "stored", (int64_t)s->pass.stored);
        json_object_set_int_member(pass, "damaged", s->pass.damaged);
        if (s->pass.place.begun) {
            g_autofree char *hex = at_digest_dup_hex(&s->pass.place.after);
            json_object_set_string_member(pass, "after", hex);
        }
        json_object_set_object_member(o, "pass", pass);
    }
    return at_json_take_obj(o);
}

static void save(struct at_scrub *s)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = state_path(s);
    g_mutex_lock(&s->lock);
    g_autoptr(JsonNode) node = remembered(s);
    g_mutex_unlock(&s->lock);
    g_autofree char *text = at_json_text(node);
    /* Without it a pass begins anew after a restart, which is no harm. */
    if (!at_atomic_write(path, text, strlen(text), 0600, &error))
        at_core_log("place of the background verify: %s", error->message);
    s->saved_us = at_clock_us();
}

/* ---- Keeping out of the way ---- */

static void stand_back(void)
{
    enum { IOPRIO_WHO_PROCESS = 1, IOPRIO_CLASS_IDLE = 3, IOPRIO_CLASS_SHIFT = 13 };
    /* Both are for this thread alone; where they are refused the budget still holds. */
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT);
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
}

/* Waits until @deadline (monotonic); false when it is to stop. */
static bool rest(struct at_scrub *s, int64_t deadline)
{
    g_mutex_lock(&s->lock);
    while (!s->stopping && g_cond_wait_until(&s->wake, &s->lock, deadline))
        ;
    bool go_on = !s->stopping;
    g_mutex_unlock(&s->lock);
    return go_on;
}

static void set_state(struct at_scrub *s, const char *state)
{
    g_mutex_lock(&s->lock);
    s->state = state;
    g_mutex_unlock(&s->lock);
}

/* While a gc, a verify or a reindex runs, the disk is theirs. */
static bool let_jobs_pass(struct at_scrub *s)
{
    bool go_on = !g_cancellable_is_cancelled(s->stop);
    while (go_on && at_job_works_on(s->core, "vault")) {
        set_state(s, "paused");
        go_on = rest(s, at_deadline_ms(LOOK_MS));
    }
    set_state(s, "running");
    return go_on;
}

/* After each object. What was not used does not add up to a burst. */
static void paced(uint64_t bytes, void *user)
{
    struct at_scrub *s = user;
    g_mutex_lock(&s->lock);
    s->piece_stored += bytes;
    g_mutex_unlock(&s->lock);
    s->free_us = MAX(s->free_us, at_clock_us()) +
                 (int64_t)((double)bytes * G_USEC_PER_SEC / (double)s->rate);
    if (rest(s, s->free_us))
        let_jobs_pass(s);
}

/* ---- A pass ---- */

/* Tells what has not been told in this pass; gives how much that is. */
static unsigned tell(struct at_scrub *s, const struct at_verify_report *report)
{
    g_autoptr(GPtrArray) fresh = g_ptr_array_new();
    for (unsigned i = 0; i < report->problems->len; i++) {
        struct at_verify_problem *p = report->problems->pdata[i];
        if (g_hash_table_add(s->told, g_memdup2(&p->chunk, sizeof p->chunk)))
            g_ptr_array_add(fresh, p);
    }
    at_verify_tell(s->core, fresh);
    return fresh->len;
}

static void count(struct at_scrub *s, const struct at_verify_report *report)
{
    unsigned fresh = report->problems->len ? tell(s, report) : 0;
    g_mutex_lock(&s->lock);
    s->pass.objects += report->chunks;
    s->pass.bytes += report->bytes;
    s->pass.damaged += fresh;
    g_mutex_unlock(&s->lock);
}

/* With the lock held. */
static void note_locked(struct at_scrub *s, int64_t began_us, uint64_t bytes, unsigned damaged)
{
    s->since_us = began_us;
    s->verified = true;
    s->last_us = g_get_real_time();
    s->last_bytes = bytes;
    s->last_damaged = damaged;
}

static void end_pass(struct at_scrub *s)
{
    JsonObject *data = json_object_new();
    g_mutex_lock(&s->lock);
    note_locked(s, s->pass.began_us, s->pass.bytes, s->pass.damaged);
    json_object_set_int_member(data, "objects", (int64_t)s->pass.objects);
    json_object_set_int_member(data, "bytes", (int64_t)s->pass.bytes);
    json_object_set_int_member(data, "damaged", s->pass.damaged);
    s->pass = (struct pass){0};
    g_mutex_unlock(&s->lock);
    g_hash_table_remove_all(s->told);
    save(s);
    at_event_emit(s->core, "vault.verified", "vault", at_actor_daemon.user, data);
}

static bool read_piece(struct at_scrub *s, bool *ret_end, GError **error)
{
    struct at_verify_report *report;
    struct at_verify_place place = s->pass.place; /* written by this thread alone */
    g_mutex_lock(&s->lock);
    s->piece_stored = 0;
    g_mutex_unlock(&s->lock);
    if (!at_vault_verify_next(s->core->vault, &place, PIECE, paced, s, s->stop, &report, ret_end,
                              error))
        return false;
    g_mutex_lock(&s->lock);
    s->pass.place = place;
    s->pass.stored += s->piece_stored;
    s->piece_stored = 0;
    g_mutex_unlock(&s->lock);
    count(s, report);
    at_verify_report_free(report);
    return true;
}

static bool follow_references(struct at_scrub *s, GError **error)
{
    struct at_verify_report *report;
    if (!at_vault_verify_references(s->core->vault, s->stop, &report, error))
        return false;
    count(s, report);
    at_verify_report_free(report);
    return true;
}

/* Goes on with the pass that is under way until its end, or until it is to stop. */
static bool run_pass(struct at_scrub *s, GError **error)
{
    for (bool end = false; !end;) {
        if (!let_jobs_pass(s) || !read_piece(s, &end, error))
            return false;
        if (at_clock_us() - s->saved_us > (int64_t)SAVE_MS * 1000)
            save(s);
    }
    if (!follow_references(s, error))
        return false;
    end_pass(s);
    return true;
}

/* ---- The thread ---- */

static int64_t due_us(const struct at_scrub *s)
{
    double period = s->days * 86400 * G_USEC_PER_SEC;
    return s->since_us + (int64_t)(s->verified ? period : period / FIRST_PART);
}

/* Wall clocks are set back and forth: it is looked at again and again. */
static bool wait_until_due(struct at_scrub *s)
{
    for (;;) {
        g_mutex_lock(&s->lock);
        s->state = "waiting";
        int64_t left = due_us(s) - g_get_real_time();
        bool due = left <= 0 && !s->stopping;
        if (due)
            s->pass = (struct pass){.began_us = g_get_real_time()};
        g_mutex_unlock(&s->lock);
        if (due)
            return true;
        left = CLAMP(left, 1000, (int64_t)LOOK_MS * 60 * 1000);
        if (!rest(s, g_get_monotonic_time() + left))
            return false;
    }
}

/* What fails once fails for a while: told when it is news, tried again more and more slowly. */
static bool wait_after(struct at_scrub *s, const GError *error, char **told, unsigned *minutes)
{
    const char *text = error ? error->message : "interrupted";
    if (g_strcmp0(text, *told) != 0) {
        at_core_log("background verify: %s", text);
        g_free(*told);
        *told = g_strdup(text);
        *minutes = 1;
    }
    bool go_on = rest(s, at_deadline_ms((int64_t)*minutes * 60 * 1000));
    *minutes = MIN(*minutes * 2, (unsigned)RETRY_MAX_MIN);
    return go_on;
}

static void *scrub_thread(void *user)
{
    struct at_scrub *s = user;
    g_autofree char *told = NULL;
    unsigned minutes = 1;
    stand_back();
    for (;;) {
        g_autoptr(GError) error = NULL;
        if (s->pass.began_us == 0) {
            if (!wait_until_due(s))
                break;
            save(s);
        }
        if (run_pass(s, &error)) {
            g_clear_pointer(&told, g_free);
            continue;
        }
        if (g_cancellable_is_cancelled(s->stop) || !wait_after(s, error, &told, &minutes))
            break;
    }
    return NULL;
}

void at_scrub_start(struct at_core *core, double days, uint64_t rate)
{
    struct at_scrub *s = g_new0(struct at_scrub, 1);
    s->core = core;
    s->days = days;
    s->rate = rate;
    s->stop = g_cancellable_new();
    s->told = g_hash_table_new_full(at_digest_key_hash, at_digest_key_equal, g_free, NULL);
    s->saved_us = at_clock_us();
    s->state = "off";
    g_mutex_init(&s->lock);
    g_cond_init(&s->wake);
    load(s);
    core->scrub = s;
    if (days <= 0)
        return;
    if (s->since_us == 0) {
        s->since_us = g_get_real_time();
        save(s);
    }
    s->state = "waiting";
    s->thread = g_thread_new("verify", scrub_thread, s);
}

void at_scrub_stop(struct at_core *core)
{
    struct at_scrub *s = core->scrub;
    if (!s || s->stopping)
        return;
    g_mutex_lock(&s->lock);
    s->stopping = true;
    g_cond_broadcast(&s->wake);
    g_mutex_unlock(&s->lock);
    g_cancellable_cancel(s->stop);
    if (s->thread) {
        g_thread_join(s->thread);
        save(s);
    }
    /* The object stays: a job that is still ending may want to note something. */
}

void at_scrub_note(struct at_core *core, const struct at_verify_report *report)
{
    struct at_scrub *s = core->scrub;
    if (!s)
        return;
    g_mutex_lock(&s->lock);
    note_locked(s, g_get_real_time(), report->bytes, report->problems->len);
    g_mutex_unlock(&s->lock);
    save(s);
}

JsonObject *at_scrub_view(struct at_core *core)
{
    struct at_scrub *s = core->scrub;
    struct at_vault_stats stats = {0};
    JsonObject *o = json_object_new();
    at_vault_stats(core->vault, &stats, NULL);
    g_mutex_lock(&s->lock);
    bool under_way = s->pass.began_us != 0;
    uint64_t stored = s->pass.stored + s->piece_stored;
    double part = stats.stored_bytes ? (double)stored / (double)stats.stored_bytes : 0;
    g_autofree char *began = time_text(s->pass.began_us), *last = time_text(s->last_us);
    g_autofree char *next = s->days > 0 && !under_way ? time_text(due_us(s)) : NULL;
    json_object_set_string_member(o, "state", s->state);
    json_object_set_double_member(o, "every_days", s->days);
    json_object_set_int_member(o, "rate_bytes", (int64_t)s->rate);
    if (under_way)
        json_object_set_double_member(o, "percent", 100 * MIN(part, 1.0));
    at_json_set_str(o, "began", began);
    at_json_set_str(o, "last_finished", s->verified ? last : NULL);
    json_object_set_int_member(o, "last_bytes", (int64_t)s->last_bytes);
    json_object_set_int_member(o, "last_damaged", s->last_damaged);
    at_json_set_str(o, "next", next);
    g_mutex_unlock(&s->lock);
    return o;
}
