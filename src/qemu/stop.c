/* SPDX-License-Identifier: Apache-2.0 */
/* Ending a workstation: politely through the guest, or at once. */
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "qemu/agent.h"
#include "qemu/machine-internal.h"
#include "qemu/qmp.h"

enum {
    MONITOR_MS = 2000,
    AGENT_MS = 1500,
    ASK_AGAIN_MS = 4000, /* a guest that is still booting does not hear the power button */
    POLL_MS = 200,
    QUIT_MS = 12 * 1000, /* flushing may wait for a dead image server: 5 s, see blockdev.c */
    KILL_MS = 5000,
};

static struct at_qmp *open_monitor(const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, at_machine_socket_names[AT_MACHINE_QMP_B], NULL);
    return at_qmp_open(path, MONITOR_MS, error);
}

/* A paused guest hears nothing. */
static void let_run(struct at_qmp *qmp)
{
    g_autoptr(JsonNode) status = NULL;
    if (at_qmp_call(qmp, "query-status", NULL, MONITOR_MS, &status, NULL) &&
        JSON_NODE_HOLDS_OBJECT(status) &&
        !at_json_bool(json_node_get_object(status), "running", true))
        at_qmp_call(qmp, "cont", NULL, MONITOR_MS, NULL, NULL);
}

/* The agent's shutdown does not answer when it succeeds. */
static bool ask_agent(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, at_machine_socket_names[AT_MACHINE_AGENT], NULL);
    g_autoptr(at_agent) agent = at_agent_open(path, AGENT_MS, NULL);
    return agent && at_agent_shutdown(agent, NULL);
}

static void press_button(const char *dir)
{
    g_autoptr(at_qmp) qmp = open_monitor(dir, NULL);
    if (!qmp)
        return;
    let_run(qmp);
    at_qmp_call(qmp, "system_powerdown", NULL, MONITOR_MS, NULL, NULL);
}

bool at_machine_shutdown(const char *dir, const struct at_process *process, int timeout_ms,
                         GCancellable *cancellable, bool *ret_clean, GError **error)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    int64_t ask_next = 0;
    while (at_process_alive(process)) {
        g_autoptr(GError) local = NULL;
        if (g_cancellable_set_error_if_cancelled(cancellable, &local))
            return at_error(error, AT_ERROR_CANCELLED,
                            "cancelled; the guest may still shut itself down");
        if (at_deadline_left_ms(deadline) == 0) {
            if (!at_machine_quit(dir, process, error))
                return false;
            if (ret_clean)
                *ret_clean = false;
            return true;
        }
        if (at_clock_us() >= ask_next) {
            press_button(dir);
            if (at_process_alive(process))
                ask_agent(dir);
            ask_next = at_deadline_ms(ASK_AGAIN_MS);
        }
        at_process_wait(process, MIN(POLL_MS, at_deadline_left_ms(deadline)), NULL);
    }
    at_machine_clean_dir(dir);
    if (ret_clean)
        *ret_clean = true;
    return true;
}

bool at_machine_quit(const char *dir, const struct at_process *process, GError **error)
{
    g_autoptr(at_qmp) qmp = open_monitor(dir, NULL);
    if (qmp && at_qmp_call(qmp, "quit", NULL, MONITOR_MS, NULL, NULL))
        at_process_wait(process, QUIT_MS, NULL);
    if (!at_process_kill(process, SIGKILL, error) || !at_process_wait(process, KILL_MS, error)) {
        g_prefix_error(error, "machine in %s: ", dir);
        return false;
    }
    at_machine_clean_dir(dir);
    return true;
}
