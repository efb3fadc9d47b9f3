/* SPDX-License-Identifier: Apache-2.0 */
/* Freezing and thawing the guests' file systems by their agents, all guests at once. */
#include "core/quiesce.h"

#include "base/error.h"
#include "qemu/agent.h"

enum { FREEZE_TIMEOUT_MS = 10000 };

static void *freeze_one(void *user)
{
    struct at_freezer *f = user;
    g_autofree char *dir = at_core_machine_dir(f->core, f->mach->id);
    g_autofree char *socket_path = g_build_filename(dir, "qga.sock", NULL);
    g_autoptr(GError) error = NULL;
    unsigned n = 0;
    struct at_agent *agent = at_agent_open(socket_path, FREEZE_TIMEOUT_MS, &error);
    if (agent && at_agent_freeze(agent, FREEZE_TIMEOUT_MS, &n, &error) && n > 0) {
        f->agent = agent;
        return NULL;
    }
    if (!error)
        at_error(&error, AT_ERROR_UNAVAILABLE, "it knows of none that can be frozen");
    f->reason =
        g_strdup_printf("the guest agent did not freeze the file systems: %s", error->message);
    if (agent) { /* it may have frozen some, or do so late */
        at_agent_thaw(agent, 2000, NULL);
        at_agent_close(agent);
    }
    return NULL;
}

/* Also of a machine that an earlier daemon froze: a guest that is not frozen does not mind. */
static void *thaw_one(void *user)
{
    struct at_freezer *f = user;
    g_autofree char *dir = at_core_machine_dir(f->core, f->mach->id);
    g_autofree char *socket_path = g_build_filename(dir, "qga.sock", NULL);
    g_autoptr(GError) error = NULL;
    if (!f->agent)
        f->agent = at_agent_open(socket_path, FREEZE_TIMEOUT_MS, &error);
    if (!f->agent || !at_agent_thaw(f->agent, FREEZE_TIMEOUT_MS, &error))
        f->reason = g_strdup_printf("the guest agent did not thaw the file systems: %s; in the "
                                    "guest: fsfreeze -u, or restart it",
                                    error->message);
    g_clear_pointer(&f->agent, at_agent_close);
    return NULL;
}

static void on_each(struct at_freezer *freezers, unsigned n, GThreadFunc func)
{
    g_autofree GThread **threads = g_new0(GThread *, n + 1);
    for (unsigned i = 0; i < n; i++)
        threads[i] = freezers[i].mach ? g_thread_new("agent", func, &freezers[i]) : NULL;
    for (unsigned i = 0; i < n; i++) {
        if (threads[i])
            g_thread_join(threads[i]);
    }
}

void at_quiesce_freeze(struct at_freezer *freezers, unsigned n)
{
    on_each(freezers, n, freeze_one);
}

void at_quiesce_thaw(struct at_job *job, struct at_freezer *freezers, unsigned n, bool all)
{
    for (unsigned i = 0; i < n; i++) {
        if (!all && !freezers[i].agent)
            freezers[i].mach = NULL;
    }
    on_each(freezers, n, thaw_one);
    for (unsigned i = 0; i < n; i++) {
        if (!freezers[i].reason)
            continue;
        at_job_note(job, "workstation %s: %s", freezers[i].mach->workstation, freezers[i].reason);
        at_core_log("VDC %s: workstation %s: %s", freezers[i].mach->vdc,
                    freezers[i].mach->workstation, freezers[i].reason);
        g_clear_pointer(&freezers[i].reason, g_free);
    }
}
