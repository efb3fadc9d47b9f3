/* SPDX-License-Identifier: Apache-2.0 */
/* `atoll-gpu-load` in one guest. Each step has a connection of its own: an agent serves one client
 * at a time, and a snapshot may want it. */
#include "core/gpu-load.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/plain.h"
#include "qemu/agent-exec.h"

#if defined(__aarch64__)
#define LOADER "/lib/ld-linux-aarch64.so.1"
#else
#define LOADER "/lib64/ld-linux-x86-64.so.2"
#endif
/* In the guest: where programs may be run from, and only root writes. Two guests may be one machine
 * in tests, so that the role is in the name, too. */
#define DIRECTORY "/var/lib/atoll-gpu-load-%s.%s"

enum { CALL_MS = 10000, WRITE_MS = 60000, END_MS = 5000, POLL_MS = 100, PLAIN_BYTES = 400 };

void at_gpu_load_init(struct at_gpu_load *load, const struct at_neighbour_guest *guest,
                      const char *role, const char *name)
{
    *load = (struct at_gpu_load){.guest = guest, .role = role, .pid = -1};
    load->dir = g_strdup_printf(DIRECTORY, name, role);
    load->program = g_build_filename(load->dir, "atoll-gpu-load", NULL);
}

void at_gpu_load_clear(struct at_gpu_load *load)
{
    g_free(load->dir);
    g_free(load->program);
}

static struct at_agent *open_agent(const struct at_gpu_load *load, GError **error)
{
    struct at_agent *agent = at_agent_open(load->guest->agent_socket, CALL_MS, error);
    if (!agent)
        g_prefix_error(error, "%s: ", load->guest->name);
    return agent;
}

static bool remove_dir(struct at_gpu_load *load, struct at_agent *agent, GError **error)
{
    const char *const argv[] = {"/bin/rm", "-rf", load->dir, NULL};
    return at_agent_exec_run(agent, argv, CALL_MS, error);
}

/* The program is run as root, and the agent makes files that everybody may write to: so nobody else
 * can enter its directory. It is new, so that nothing of somebody else is in it. */
static bool make_dir(struct at_gpu_load *load, struct at_agent *agent, GError **error)
{
    const char *const argv[] = {"/bin/mkdir", "-m", "0700", load->dir, NULL};
    GError *local = NULL;
    bool ok = at_agent_exec_run(agent, argv, CALL_MS, &local);
    /* Without an answer it may have been made; when mkdir refused it is somebody else's. */
    load->made = ok || g_error_matches(local, AT_ERROR, AT_ERROR_TIMEOUT);
    if (local)
        g_propagate_error(error, local);
    return ok;
}

bool at_gpu_load_bring(struct at_gpu_load *load, GBytes *program, bool again, GError **error)
{
    g_autoptr(at_agent) agent = open_agent(load, error);
    if (!agent)
        return false;
    if ((!again || remove_dir(load, agent, error)) && make_dir(load, agent, error) &&
        at_agent_write_file(agent, load->program, program, WRITE_MS, error))
        return true;
    g_prefix_error(error, "%s: bring the load into the guest: ", load->guest->name);
    return false;
}

bool at_gpu_load_start(struct at_gpu_load *load, const char *token, double seconds,
                       struct at_neighbour_run *run, GError **error)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    const char *const argv[] = {LOADER,
                                load->program,
                                load->role,
                                "--token",
                                token,
                                "--seconds",
                                g_ascii_formatd(text, sizeof text, "%.3f", seconds),
                                "--while",
                                load->program,
                                NULL};
    g_autoptr(at_agent) agent = open_agent(load, error);
    if (!agent)
        return false;
    run->sent_us = at_clock_us();
    if (at_agent_exec_start(agent, argv, CALL_MS, &load->pid, error)) {
        run->told_us = at_clock_us();
        return true;
    }
    g_prefix_error(error, "%s: start the load in the guest: ", load->guest->name);
    return false;
}

static void take_answer(const struct at_agent_exec *exec, struct at_neighbour_run *run)
{
    g_autoptr(JsonNode) answer = at_json_parse(exec->output, -1, NULL);
    JsonObject *obj =
        answer && JSON_NODE_HOLDS_OBJECT(answer) ? json_node_get_object(answer) : NULL;
    const char *why = obj ? at_json_str(obj, "error", NULL) : exec->errors;
    if (obj && !why && exec->status == 0) {
        run->answer = g_steal_pointer(&answer);
        return;
    }
    char plain[PLAIN_BYTES];
    at_plain_copy(plain, sizeof plain, why ? why : "");
    run->failure = *plain ? g_strdup(plain) : g_strdup_printf("exit status %d", exec->status);
}

bool at_gpu_load_look(struct at_gpu_load *load, struct at_neighbour_run *run, GError **error)
{
    struct at_agent_exec exec = {0};
    int64_t asked = at_clock_us();
    g_autoptr(at_agent) agent = open_agent(load, error);
    if (!agent)
        return false;
    if (!at_agent_exec_poll(agent, load->pid, CALL_MS, &exec, error)) {
        g_prefix_error(error, "%s: ", load->guest->name);
        return false;
    }
    if (exec.ended) {
        run->ended_us = at_clock_us();
        load->pid = -1;
        take_answer(&exec, run);
    } else {
        run->running_us = asked;
    }
    at_agent_exec_clear(&exec);
    return true;
}

/* So that the agent forgets it. */
static void see_end(struct at_gpu_load *load, struct at_agent *agent)
{
    struct at_agent_exec exec = {0};
    int64_t deadline = at_deadline_ms(END_MS);
    while (load->pid >= 0 && at_deadline_left_ms(deadline) > 0 &&
           at_agent_exec_poll(agent, load->pid, at_deadline_left_ms(deadline), &exec, NULL)) {
        if (exec.ended)
            load->pid = -1;
        else
            g_usleep(POLL_MS * 1000);
        at_agent_exec_clear(&exec);
    }
}

void at_gpu_load_take_away(struct at_gpu_load *load)
{
    g_autoptr(at_agent) agent = load->made ? open_agent(load, NULL) : NULL;
    if (agent && remove_dir(load, agent, NULL))
        see_end(load, agent);
}
