/* SPDX-License-Identifier: Apache-2.0 */
/* Verify: every stored object is read and hashed on all cores, every reference is followed, and
 * what is damaged is told with the roots it hits. */
#include <string.h>

#include "base/error.h"
#include "vault/maintenance.h"
#include "vault/walk.h"

#define BATCH 2048u
#define PART 64u
#define MISSING "is missing"

struct verify {
    struct at_vault *vault;
    at_progress_func progress;
    void *user;
    GCancellable *cancellable;
    struct at_verify_report *report;
    GHashTable *problems; /* digest (in the problem) -> struct at_verify_problem */
    uint64_t total;
    GArray *batch; /* struct at_index_row, to be read */
    struct at_digest_set *queued;
    GMutex lock; /* guards busy, report's counters and problems while parts run */
    GCond cond;
    unsigned busy;
    const char *root_name; /* of the root being walked for hits */
};

static void problem_free(void *p)
{
    struct at_verify_problem *problem = p;
    g_free(problem->reason);
    g_strfreev(problem->roots);
    g_free(problem);
}

void at_verify_report_free(struct at_verify_report *report)
{
    if (!report)
        return;
    g_ptr_array_unref(report->problems);
    g_free(report);
}

/* With the lock held, or no part running. */
static void add_problem(struct verify *v, const struct at_digest *digest, const char *reason)
{
    if (g_hash_table_contains(v->problems, digest))
        return;
    struct at_verify_problem *p = g_new0(struct at_verify_problem, 1);
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(digest, hex);
    const char *after = strstr(reason, hex);
    p->chunk = *digest;
    p->reason = g_strdup(after ? g_strchug((char *)after + AT_DIGEST_HEX) : reason);
    p->roots = g_new0(char *, 1);
    g_ptr_array_add(v->report->problems, p);
    g_hash_table_insert(v->problems, &p->chunk, p);
}

/* ---- Reading everything ---- */

struct part {
    struct at_work work;
    struct verify *v;
    unsigned n;
    struct at_index_row rows[PART];
};

static void read_row(struct verify *v, const struct at_index_row *row)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(at_buf_auto) buf = at_object_read(v->vault, &row->digest, row->place.kind, &error);
    g_mutex_lock(&v->lock);
    if (buf) {
        v->report->chunks++;
        v->report->bytes += buf->len;
    } else if (error->code != AT_ERROR_NOT_FOUND) {
        /* Not found: gc has freed it meanwhile. */
        add_problem(v, &row->digest, error->message);
    }
    g_mutex_unlock(&v->lock);
}

static void run_part(struct at_work *work)
{
    struct part *part = (struct part *)work;
    struct verify *v = part->v;
    for (unsigned i = 0; i < part->n; i++)
        read_row(v, &part->rows[i]);
    g_mutex_lock(&v->lock);
    v->busy--;
    g_cond_signal(&v->cond);
    g_mutex_unlock(&v->lock);
    g_free(part);
}

static int by_place(gconstpointer a, gconstpointer b)
{
    const struct at_place *x = &((const struct at_index_row *)a)->place;
    const struct at_place *y = &((const struct at_index_row *)b)->place;
    if (x->pack != y->pack)
        return x->pack < y->pack ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Reads what has gathered, in the order of the disk. */
static bool read_batch(struct verify *v, GError **error)
{
    g_array_sort(v->batch, by_place);
    for (unsigned at = 0; at < v->batch->len; at += PART) {
        struct part *part = g_new0(struct part, 1);
        part->work.run = run_part;
        part->v = v;
        part->n = MIN(PART, v->batch->len - at);
        memcpy(part->rows, &g_array_index(v->batch, struct at_index_row, at),
               part->n * sizeof *part->rows);
        g_mutex_lock(&v->lock);
        v->busy++;
        g_mutex_unlock(&v->lock);
        at_vault_submit(v->vault, &part->work);
    }
    g_mutex_lock(&v->lock);
    while (v->busy)
        g_cond_wait(&v->cond, &v->lock);
    uint64_t done = v->report->bytes;
    g_mutex_unlock(&v->lock);
    g_array_set_size(v->batch, 0);
    if (v->progress)
        v->progress(MIN(done, v->total), v->total, v->user);
    if (g_cancellable_is_cancelled(v->cancellable))
        return at_error(error, AT_ERROR_CANCELLED, "cancelled");
    return true;
}

static bool read_index(struct verify *v, double percent, GError **error)
{
    struct at_digest after;
    bool more = true;
    g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(struct at_index_row));
    for (bool first = true; more; first = false) {
        g_array_set_size(rows, 0);
        if (!at_index_rows(v->vault->index, first ? NULL : &after, BATCH, rows, error))
            return false;
        more = rows->len == BATCH;
        if (rows->len)
            after = g_array_index(rows, struct at_index_row, rows->len - 1).digest;
        for (unsigned i = 0; i < rows->len; i++) {
            if (percent >= 100 || g_random_double_range(0, 100) < percent)
                g_array_append_val(v->batch, g_array_index(rows, struct at_index_row, i));
        }
        if ((v->batch->len >= BATCH || !more) && !read_batch(v, error))
            return false;
    }
    return true;
}

/* ---- References ---- */

/* Where the index says that it is; a row that means nothing is told and not found. */
static bool row_of(struct verify *v, const struct at_digest *digest, struct at_place *ret_place,
                   bool *ret_found, GError **error)
{
    g_autoptr(GError) local = NULL;
    *ret_found = false;
    if (at_object_place(v->vault, digest, ret_place, ret_found, &local))
        return true;
    if (local->code == AT_ERROR_CORRUPT) {
        add_problem(v, digest, local->message);
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

/* As row_of(); what is not there is told, too. */
static bool place_of(struct verify *v, const struct at_digest *digest, struct at_place *ret_place,
                     bool *ret_found, GError **error)
{
    if (!row_of(v, digest, ret_place, ret_found, error))
        return false;
    if (!*ret_found)
        add_problem(v, digest, MISSING);
    return true;
}

static bool check_there(const struct at_digest *digest, uint8_t kind, void *user, GError **error)
{
    struct at_place place;
    bool found;
    if (!place_of(user, digest, &place, &found, error))
        return false;
    if (found && place.kind != kind)
        add_problem(user, digest, "is of another kind");
    return true;
}

/* As check_there, and reads it with the next batch. */
static bool check_and_queue(const struct at_digest *digest, uint8_t kind, void *user,
                            GError **error)
{
    struct verify *v = user;
    struct at_index_row row = {.digest = *digest};
    bool found;
    if (!at_digest_set_add(v->queued, digest))
        return true;
    if (!place_of(v, digest, &row.place, &found, error))
        return false;
    if (!found)
        return true;
    row.place.kind = kind;
    g_array_append_val(v->batch, row);
    return v->batch->len < BATCH || read_batch(v, error);
}

static void note_damage(const struct at_digest *digest, const GError *error, void *user)
{
    add_problem(user, digest, error->code == AT_ERROR_NOT_FOUND ? MISSING : error->message);
}

static bool note_hit(const struct at_digest *digest, uint8_t kind, void *user, GError **error)
{
    struct verify *v = user;
    struct at_verify_problem *p = g_hash_table_lookup(v->problems, digest);
    if (p && !g_strv_contains((const char *const *)p->roots, v->root_name)) {
        guint n = g_strv_length(p->roots);
        p->roots = g_renew(char *, p->roots, n + 2);
        p->roots[n] = g_strdup(v->root_name);
        p->roots[n + 1] = NULL;
    }
    return true;
}

static void ignore_damage(const struct at_digest *digest, const GError *error, void *user)
{
}

static bool walk_one(struct verify *v, struct at_walk *walk, enum at_root_kind kind,
                     const struct at_digest *digest, GError **error)
{
    walk->vault = v->vault;
    walk->cancellable = v->cancellable;
    walk->user = v;
    return at_walk_root(walk, kind, digest, error);
}

/* Which roots need each damaged object. */
static bool find_hits(struct verify *v, GPtrArray *roots, GError **error)
{
    for (unsigned i = 0; v->report->problems->len && i < roots->len; i++) {
        struct at_root *root = g_ptr_array_index(roots, i);
        struct at_walk walk = {.visit = note_hit, .damaged = ignore_damage};
        walk.nodes = at_digest_set_new(16);
        v->root_name = root->name;
        bool ok = walk_one(v, &walk, root->kind, &root->digest, error);
        at_digest_set_free(walk.nodes);
        if (!ok)
            return false;
    }
    return true;
}

/* Proved now, whatever was found before. */
static bool is_whole(struct verify *v, const struct at_digest *digest, const struct at_place *place)
{
    g_autoptr(at_buf_auto) buf = at_object_read(v->vault, digest, place->kind, NULL);
    return buf != NULL;
}

/* What no read has noted by itself: what is missing, or cannot be understood. Meanwhile it may have
 * been healed. */
static bool quarantine(struct verify *v, GError **error)
{
    if (!v->vault->writer)
        return true;
    g_autoptr(GArray) bad = g_array_new(FALSE, FALSE, sizeof(struct at_digest));
    for (unsigned i = 0; i < v->report->problems->len; i++) {
        struct at_verify_problem *p = g_ptr_array_index(v->report->problems, i);
        struct at_place place;
        bool found = false;
        if (at_store_distrusts(v->vault->store, &p->chunk))
            continue;
        if (!at_object_place(v->vault, &p->chunk, &place, &found, NULL) || !found ||
            !is_whole(v, &p->chunk, &place))
            g_array_append_val(bad, p->chunk);
    }
    return at_vault_note_damage(v->vault, (struct at_digest *)(void *)bad->data, bad->len, error);
}

/* Whether @digest, which is in quarantine, has no business there: it can be proved after all, or it
 * is gone and no root needs it. */
static bool is_over(struct verify *v, const struct at_digest *digest)
{
    struct at_place place;
    bool found;
    return !g_hash_table_contains(v->problems, digest) &&
           at_object_place(v->vault, digest, &place, &found, NULL) &&
           (!found || is_whole(v, digest, &place));
}

/* Only after all references were followed. */
static bool release(struct verify *v, GError **error)
{
    if (!v->vault->writer)
        return true;
    g_autoptr(GArray) bad = at_index_quarantined(v->vault->index, error);
    g_autoptr(GArray) over = g_array_new(FALSE, FALSE, sizeof(struct at_digest));
    for (unsigned i = 0; bad && i < bad->len; i++) {
        struct at_digest digest = g_array_index(bad, struct at_digest, i);
        if (is_over(v, &digest))
            g_array_append_val(over, digest);
    }
    return bad && at_vault_forget_damage(v->vault, (struct at_digest *)(void *)over->data,
                                         over->len, error);
}

static void init(struct verify *v)
{
    v->report = g_new0(struct at_verify_report, 1);
    v->report->problems = g_ptr_array_new_with_free_func(problem_free);
    v->problems = g_hash_table_new(at_digest_key_hash, at_digest_key_equal);
    v->batch = g_array_new(FALSE, FALSE, sizeof(struct at_index_row));
    v->queued = at_digest_set_new(16);
    g_mutex_init(&v->lock);
    g_cond_init(&v->cond);
}

/* What is missing and needed by no root any more went with a root that was removed meanwhile. What
 * a root needs may well be in the packs: the index may have lost it. */
static void judge_missing(struct verify *v)
{
    for (unsigned i = v->report->problems->len; i-- > 0;) {
        struct at_verify_problem *p = g_ptr_array_index(v->report->problems, i);
        if (strcmp(p->reason, MISSING) != 0)
            continue;
        if (p->roots[0] && !v->vault->built)
            at_index_set_suspect(v->vault->index);
        else if (!p->roots[0])
            g_ptr_array_remove_index(v->report->problems, i);
    }
}

static bool done(struct verify *v, bool ok, struct at_verify_report **ret_report, GError **error)
{
    if (ok && v->report->problems->len) {
        g_autoptr(GPtrArray) roots = at_vault_root_list(v->vault, NULL, error);
        ok = roots && find_hits(v, roots, error);
        if (ok)
            judge_missing(v);
        ok = ok && quarantine(v, error);
    }
    if (ok && v->progress)
        v->progress(v->total, v->total, v->user);
    if (ok && ret_report)
        *ret_report = v->report;
    else
        at_verify_report_free(v->report);
    g_hash_table_unref(v->problems);
    g_array_unref(v->batch);
    at_digest_set_free(v->queued);
    g_mutex_clear(&v->lock);
    g_cond_clear(&v->cond);
    return ok;
}

static bool walk_roots(struct verify *v, GError **error)
{
    g_autoptr(GPtrArray) roots = at_vault_root_list(v->vault, NULL, error);
    struct at_walk walk = {.visit = check_there, .damaged = note_damage};
    bool ok = roots != NULL;
    walk.nodes = at_digest_set_new(16);
    for (unsigned i = 0; ok && i < roots->len; i++) {
        struct at_root *root = g_ptr_array_index(roots, i);
        ok = walk_one(v, &walk, root->kind, &root->digest, error);
    }
    at_digest_set_free(walk.nodes);
    return ok;
}

bool at_vault_verify(struct at_vault *vault, double percent, at_progress_func progress, void *user,
                     GCancellable *cancellable, struct at_verify_report **ret_report,
                     GError **error)
{
    struct verify v = {
        .vault = vault, .progress = progress, .user = user, .cancellable = cancellable};
    init(&v);
    struct at_vault_stats stats;
    bool ok =
        (!vault->store || at_store_flush(vault->store, at_store_failures(vault->store), error)) &&
        at_vault_stats(vault, &stats, error);
    if (ok) {
        v.total = (uint64_t)((double)stats.plain_bytes * MIN(percent, 100.0) / 100);
        ok = read_index(&v, percent, error) && walk_roots(&v, error) && release(&v, error);
    }
    return done(&v, ok, ret_report, error);
}

bool at_vault_verify_root(struct at_vault *vault, enum at_root_kind kind,
                          const struct at_digest *digest, at_progress_func progress, void *user,
                          GCancellable *cancellable, struct at_verify_report **ret_report,
                          GError **error)
{
    struct verify v = {
        .vault = vault, .progress = progress, .user = user, .cancellable = cancellable};
    init(&v);
    struct at_vault_stats stats;
    bool ok = at_vault_stats(vault, &stats, error);
    v.total = ok ? stats.plain_bytes : 0;
    struct at_walk walk = {.visit = check_and_queue, .damaged = note_damage};
    walk.nodes = at_digest_set_new(16);
    ok = ok && walk_one(&v, &walk, kind, digest, error) && read_batch(&v, error);
    at_digest_set_free(walk.nodes);
    return done(&v, ok, ret_report, error);
}

bool at_vault_verify_objects(struct at_vault *vault, const struct at_digest *digests, unsigned n,
                             struct at_verify_report **ret_report, GError **error)
{
    struct verify v = {.vault = vault};
    bool ok = true;
    init(&v);
    for (unsigned i = 0; ok && i < n; i++) {
        struct at_index_row row = {.digest = digests[i]};
        bool found;
        ok = row_of(&v, &row.digest, &row.place, &found, error);
        if (ok && found)
            read_row(&v, &row);
    }
    return done(&v, ok, ret_report, error);
}

/* ---- A piece at a time ---- */

static bool read_rows(struct verify *v, at_paced_func paced, void *user, GError **error)
{
    for (unsigned i = 0; i < v->batch->len; i++) {
        const struct at_index_row *row = &g_array_index(v->batch, struct at_index_row, i);
        if (g_cancellable_is_cancelled(v->cancellable))
            return at_error(error, AT_ERROR_CANCELLED, "cancelled");
        read_row(v, row);
        if (paced)
            paced(at_record_size(row->place.stored), user);
    }
    return true;
}

bool at_vault_verify_next(struct at_vault *vault, struct at_verify_place *place, unsigned max,
                          at_paced_func paced, void *user, GCancellable *cancellable,
                          struct at_verify_report **ret_report, bool *ret_end, GError **error)
{
    struct verify v = {.vault = vault, .cancellable = cancellable};
    struct at_verify_place next = {.begun = true};
    init(&v);
    bool ok = at_index_rows(vault->index, place->begun ? &place->after : NULL, max, v.batch, error);
    bool end = v.batch->len < max;
    if (v.batch->len)
        next.after = g_array_index(v.batch, struct at_index_row, v.batch->len - 1).digest;
    g_array_sort(v.batch, by_place);
    ok = ok && read_rows(&v, paced, user, error);
    bool some = v.batch->len > 0;
    if (!done(&v, ok, ret_report, error))
        return false;
    if (some)
        *place = next;
    *ret_end = end;
    return true;
}

bool at_vault_verify_references(struct at_vault *vault, GCancellable *cancellable,
                                struct at_verify_report **ret_report, GError **error)
{
    struct verify v = {.vault = vault, .cancellable = cancellable};
    init(&v);
    return done(&v, walk_roots(&v, error) && release(&v, error), ret_report, error);
}
