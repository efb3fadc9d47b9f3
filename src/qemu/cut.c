/* SPDX-License-Identifier: Apache-2.0 */
/* One instant over several machines. All that can be done before the pause is done before it; in
 * the pause every command is sent to all machines before the first answer is read. */
#include "qemu/cut.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "qemu/blockdev.h"
#include "qemu/cut-guard.h"

enum {
    CONNECT_MS = 10000,
    QUERY_MS = 5000,
    ADD_MS = 20000,
    PAUSE_MS = 10000,
    RESUME_MS = 5000,        /* for a resume after a failure */
    GUARD_MARGIN_MS = 20000, /* checks and the way back fit in; then the guard acts by itself */
    CHECK_MS = 30000,
};

static char *guard_program; /* set once at start */

void at_cut_set_guard(const char *path)
{
    g_free(guard_program);
    guard_program = g_strdup(path);
}

struct member {
    struct at_cut_machine *machine;
    struct at_qmp *qmp;
    JsonObject *transaction; /* arguments, prepared before the pause */
    uint64_t stop_id, transaction_id, cont_id;
    bool stop_sent, cont_done;
    bool failed; /* the transaction did not come to an answer */
};

struct cut {
    struct member *members;
    unsigned n;
    struct at_cut_guard guard;
    int64_t start, deadline; /* of the pause */
    int64_t wall_minus_monotonic;
};

static bool named(const struct member *m, GError **error)
{
    g_prefix_error(error, "workstation %s: ", m->machine->name);
    return false;
}

/* ---- before the pause ---- */

static JsonObject *transaction_args(const struct at_cut_machine *machine)
{
    JsonArray *actions = json_array_new();
    for (unsigned i = 0; i < machine->n_disks; i++) {
        const struct at_cut_disk *disk = &machine->disks[i];
        g_autofree char *node = at_blockdev_overlay_node(disk->index, disk->live_gen);
        g_autofree char *overlay = at_blockdev_overlay_node(disk->index, disk->next_gen);
        JsonObject *data = json_object_new();
        json_object_set_string_member(data, "node", node);
        json_object_set_string_member(data, "overlay", overlay);
        JsonObject *action = json_object_new();
        json_object_set_string_member(action, "type", "blockdev-snapshot");
        json_object_set_object_member(action, "data", data);
        json_array_add_object_element(actions, action);
    }
    JsonObject *args = json_object_new();
    json_object_set_array_member(args, "actions", actions);
    return args;
}

/* A machine that QEMU stopped by itself (an I/O error, say) has requests in the air. */
static bool check_state(struct member *m, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;
    if (!at_qmp_call(m->qmp, "query-status", NULL, QUERY_MS, &answer, error))
        return false;
    JsonObject *status = JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer) : NULL;
    const char *state = at_json_str(status, "status", "unknown");
    bool running = strcmp(state, "running") == 0;
    bool paused = strcmp(state, "paused") == 0 || strcmp(state, "prelaunch") == 0;
    if (m->machine->was_paused ? paused : running)
        return true;
    return at_error(error, AT_ERROR_UNAVAILABLE, "it is not %s (QEMU says: %s)",
                    m->machine->was_paused ? "paused" : "running", state);
}

static bool prepare(struct member *m, GError **error)
{
    const struct at_cut_machine *machine = m->machine;
    g_autofree char *socket = g_build_filename(machine->dir, "qmp-b.sock", NULL);
    if (!(m->qmp = at_qmp_open(socket, CONNECT_MS, error)) || !check_state(m, error))
        return named(m, error);
    for (unsigned i = 0; i < machine->n_disks; i++) {
        unsigned live, index = machine->disks[i].index;
        if (!at_block_live_gen(m->qmp, index, &live, error))
            return named(m, error);
        if (live != machine->disks[i].live_gen) {
            at_error(error, AT_ERROR_CONFLICT, "disk%u writes to generation %u, not %u", index,
                     live, machine->disks[i].live_gen);
            return named(m, error);
        }
        if (!at_block_overlay_add(m->qmp, machine->dir, index, machine->disks[i].next_gen, ADD_MS,
                                  error))
            return named(m, error);
    }
    m->transaction = transaction_args(machine);
    return true;
}

static bool start_guard(struct cut *cut, int pause_ms, GError **error)
{
    g_autoptr(GPtrArray) sockets = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; i < cut->n; i++) {
        const struct at_cut_machine *machine = cut->members[i].machine;
        if (!machine->was_paused)
            g_ptr_array_add(sockets, g_build_filename(machine->dir, "qmp-c.sock", NULL));
    }
    g_ptr_array_add(sockets, NULL);
    return at_cut_guard_start(&cut->guard, guard_program, (const char *const *)sockets->pdata,
                              pause_ms + CHECK_MS + GUARD_MARGIN_MS, error);
}

/* Writes back what QEMU's flush inside the pause would have to wait for. Best effort. */
static void settle(const struct cut *cut)
{
    for (unsigned i = 0; i < cut->n; i++) {
        const struct at_cut_machine *machine = cut->members[i].machine;
        for (unsigned k = 0; k < machine->n_disks; k++) {
            const struct at_cut_disk *disk = &machine->disks[k];
            g_autofree char *path =
                at_blockdev_overlay_path(machine->dir, disk->index, disk->live_gen);
            at_autofd fd = open(path, O_RDONLY | O_CLOEXEC);
            if (fd >= 0)
                fdatasync(fd);
        }
    }
}

/* ---- the pause ----
 * Two rounds: `stop` until all have stopped, then switch and resume in one go. QEMU tells by an
 * event that the guest stands still, before it flushes; the monitor takes the next commands
 * meanwhile and carries them out in order. */

/* The time of an event, in our clock. */
static int64_t monotonic(const struct cut *cut, int64_t wall_us)
{
    int64_t now = at_clock_us();
    return wall_us ? CLAMP(wall_us - cut->wall_minus_monotonic, cut->start, now) : now;
}

static bool has_stopped(const struct member *m)
{
    return !m->stop_id || at_qmp_last_stop_us(m->qmp) || at_qmp_ready(m->qmp, m->stop_id);
}

static bool stop_all(struct cut *cut, GError **error)
{
    for (unsigned i = 0; i < cut->n; i++) {
        struct member *m = &cut->members[i];
        if (m->machine->was_paused)
            continue;
        m->stop_id = at_qmp_send(m->qmp, "stop", NULL, -1, error);
        m->stop_sent = true; /* also a half-sent one may arrive */
        if (!m->stop_id)
            return named(m, error);
    }
    for (unsigned i = 0; i < cut->n; i++) {
        struct member *m = &cut->members[i];
        while (!has_stopped(m)) {
            struct pollfd p = {.fd = at_qmp_fd(m->qmp), .events = POLLIN};
            int left = at_deadline_left_ms(cut->deadline);
            if (left == 0) {
                at_error(error, AT_ERROR_TIMEOUT, "did not stop in time");
                return named(m, error);
            }
            poll(&p, 1, left);
            if (!at_qmp_dispatch(m->qmp, error))
                return named(m, error);
        }
        if (m->stop_id)
            m->machine->stopped_us = monotonic(cut, at_qmp_last_stop_us(m->qmp));
    }
    return at_fault_point("cut.stopped", error);
}

/* A QEMU that died meanwhile is noticed before any other one is switched. */
static bool all_alive(struct cut *cut, GError **error)
{
    for (unsigned i = 0; i < cut->n; i++) {
        if (!at_qmp_dispatch(cut->members[i].qmp, error))
            return named(&cut->members[i], error);
    }
    return true;
}

static bool send_switch(struct member *m, GError **error)
{
    if (m->machine->n_disks == 0)
        return true;
    m->failed = true; /* until the answer is here */
    m->transaction_id =
        at_qmp_send(m->qmp, "transaction", g_steal_pointer(&m->transaction), -1, error);
    return m->transaction_id != 0;
}

static bool send_resume(struct member *m, GError **error)
{
    if (!m->stop_sent || m->cont_id)
        return true;
    m->cont_id = at_qmp_send(m->qmp, "cont", NULL, -1, error);
    return m->cont_id != 0;
}

static bool wait_switch(struct cut *cut, struct member *m, GError **error)
{
    if (!m->transaction_id)
        return true;
    if (!at_qmp_wait(m->qmp, m->transaction_id, at_deadline_left_ms(cut->deadline), NULL, error))
        return false;
    m->machine->switched = true;
    m->failed = false;
    return at_fault_point("cut.switched", error);
}

static bool wait_resume(struct cut *cut, struct member *m, int64_t deadline, GError **error)
{
    if (!m->cont_id || m->cont_done)
        return true;
    if (!at_qmp_wait(m->qmp, m->cont_id, at_deadline_left_ms(deadline), NULL, error))
        return false;
    m->cont_done = true;
    m->machine->resumed_us = monotonic(cut, at_qmp_last_resume_us(m->qmp));
    return true;
}

/* Keeps the first of several errors, with the name of the machine. */
static void note(const struct member *m, GError **first, GError *error)
{
    named(m, &error);
    if (*first)
        g_error_free(error);
    else
        *first = error;
}

static bool switch_and_resume(struct cut *cut, GError **error)
{
    GError *first = NULL;
    for (unsigned i = 0; i < cut->n && !first; i++) {
        struct member *m = &cut->members[i];
        GError *local = NULL;
        if (!send_switch(m, &local) || !send_resume(m, &local))
            note(m, &first, local);
    }
    for (unsigned i = 0; i < cut->n; i++) { /* all answers are read, also after a failure */
        struct member *m = &cut->members[i];
        GError *local = NULL;
        if (!wait_switch(cut, m, &local))
            note(m, &first, local);
    }
    for (unsigned i = 0; i < cut->n; i++) {
        struct member *m = &cut->members[i];
        GError *local = NULL;
        if (!wait_resume(cut, m, cut->deadline, &local))
            note(m, &first, local);
    }
    if (first)
        g_propagate_error(error, first);
    return !first;
}

static void measure(const struct cut *cut, struct at_cut_result *ret_result)
{
    int64_t first = 0, last = 0, end = 0;
    for (unsigned i = 0; i < cut->n; i++) {
        const struct at_cut_machine *machine = cut->members[i].machine;
        if (!machine->stopped_us)
            continue;
        first = first ? MIN(first, machine->stopped_us) : machine->stopped_us;
        last = MAX(last, machine->stopped_us);
        end = MAX(end, machine->resumed_us);
    }
    ret_result->pause_ms = (double)(MAX(end, cut->start) - cut->start) / 1000.0;
    ret_result->skew_ms = (double)(last - first) / 1000.0;
}

/* ---- the way back ---- */

/* True when no machine of ours can be standing still. */
static bool all_resumed(const struct cut *cut)
{
    for (unsigned i = 0; i < cut->n; i++) {
        if (cut->members[i].stop_sent && !cut->members[i].cont_done)
            return false;
    }
    return true;
}

/* Which layer a machine writes to when its transaction had no answer. */
static void find_out(struct member *m)
{
    struct at_cut_machine *machine = m->machine;
    unsigned live;
    const struct at_cut_disk *disk = &machine->disks[0]; /* a transaction is all or nothing */
    if (at_block_live_gen(m->qmp, disk->index, &live, NULL)) {
        machine->switched = live == disk->next_gen;
    } else {
        machine->switched = true;
        machine->uncertain = true;
    }
}

static void remove_overlays(struct member *m)
{
    for (unsigned i = 0; m->qmp && i < m->machine->n_disks; i++)
        at_block_overlay_del(m->qmp, m->machine->disks[i].index, m->machine->disks[i].next_gen,
                             NULL);
}

/* A monitor keeps the order: a late stop is followed by its cont. */
static void go_back(struct cut *cut)
{
    int64_t deadline = at_deadline_ms(RESUME_MS);
    for (unsigned i = 0; i < cut->n; i++)
        send_resume(&cut->members[i], NULL);
    for (unsigned i = 0; i < cut->n; i++)
        wait_resume(cut, &cut->members[i], deadline, NULL);
    for (unsigned i = 0; i < cut->n; i++) {
        struct member *m = &cut->members[i];
        bool hangs = m->stop_sent && !m->cont_done; /* a next attempt replaces the nodes */
        if (m->failed)
            find_out(m);
        if (!m->machine->switched && !hangs)
            remove_overlays(m);
    }
}

/* ---- all of it ---- */

static bool prepare_all(struct cut *cut, int pause_ms, bool (*check)(void *, GError **), void *user,
                        GError **error)
{
    for (unsigned i = 0; i < cut->n; i++) {
        if (!prepare(&cut->members[i], error))
            return false;
    }
    return start_guard(cut, pause_ms, error) && at_fault_point("cut.prepared", error) &&
           (!check || check(user, error));
}

static bool run(struct cut *cut, int pause_ms, struct at_cut_result *ret_result, GError **error)
{
    struct at_cut_result result = {0};
    settle(cut);
    cut->start = at_clock_us();
    cut->deadline = at_deadline_ms(pause_ms);
    cut->wall_minus_monotonic = g_get_real_time() - cut->start;
    if (!stop_all(cut, error) || !all_alive(cut, error) || !switch_and_resume(cut, error))
        return false;
    measure(cut, &result);
    if (!at_fault_point("cut.resumed", error) || !at_cut_guard_done(&cut->guard, error))
        return false;
    if (ret_result)
        *ret_result = result;
    return true;
}

bool at_cut_run(struct at_cut_machine *machines, unsigned n, bool (*check)(void *, GError **error),
                void *user, int deadline_ms, struct at_cut_result *ret_result, GError **error)
{
    int pause_ms = deadline_ms > 0 ? deadline_ms : PAUSE_MS;
    g_autofree struct member *members = g_new0(struct member, n + 1);
    struct cut cut = {.members = members, .n = n, .guard = AT_CUT_GUARD_NONE};
    for (unsigned i = 0; i < n; i++) {
        members[i].machine = &machines[i];
        machines[i].switched = machines[i].uncertain = false;
        machines[i].stopped_us = machines[i].resumed_us = 0;
    }
    bool ok =
        prepare_all(&cut, pause_ms, check, user, error) && run(&cut, pause_ms, ret_result, error);
    if (!ok) {
        go_back(&cut);
        if (all_resumed(&cut))
            at_cut_guard_done(&cut.guard, NULL);
    }
    at_cut_guard_leave(&cut.guard); /* after a success nothing is left to leave */
    for (unsigned i = 0; i < n; i++) {
        g_clear_pointer(&members[i].transaction, json_object_unref);
        g_clear_pointer(&members[i].qmp, at_qmp_close);
    }
    return ok;
}
