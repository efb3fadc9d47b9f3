/* SPDX-License-Identifier: Apache-2.0 */
/* Fault points: a plan from ATOLL_FAULT, matched by name and count. */
#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

struct fault {
    char *name;
    int action; /* an errno, or a negative signal number */
    int nth;    /* 0 = every time */
    int seen;
};

static GMutex plan_lock; /* guards plan and loaded */
static GPtrArray *plan;
static int loaded; /* 0 not yet, 1 no plan, 2 a plan or a trace */
static int trace_fd = -1;

static void fault_free(void *p)
{
    struct fault *f = p;
    g_free(f->name);
    g_free(f);
}

/* A plan with a slip in it would test nothing: it ends the program. */
static int action_of(const char *word)
{
    static const struct {
        const char *name;
        int action;
    } actions[] = {{"kill", -SIGKILL}, {"stop", -SIGSTOP}, {"EIO", EIO},      {"ENOSPC", ENOSPC},
                   {"EINTR", EINTR},   {"ENOMEM", ENOMEM}, {"EDQUOT", EDQUOT}};
    for (size_t i = 0; i < G_N_ELEMENTS(actions); i++) {
        if (g_strcmp0(word, actions[i].name) == 0)
            return actions[i].action;
    }
    g_error("ATOLL_FAULT: no action \"%s\"", word ? word : "");
}

static int nth_of(const char *word)
{
    guint64 n = 1;
    if (g_strcmp0(word, "*") == 0)
        return 0;
    if (word && !g_ascii_string_to_unsigned(word, 10, 1, G_MAXINT, &n, NULL))
        g_error("ATOLL_FAULT: \"%s\" is not a count", word);
    return (int)n;
}

static void load(const char *text)
{
    g_clear_pointer(&plan, g_ptr_array_unref);
    const char *trace = getenv("ATOLL_FAULT_TRACE");
    if (trace && trace_fd < 0)
        trace_fd = open(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (!text || !*text) {
        g_atomic_int_set(&loaded, trace_fd >= 0 ? 2 : 1);
        return;
    }
    plan = g_ptr_array_new_with_free_func(fault_free);
    g_auto(GStrv) items = g_strsplit(text, ",", -1);
    for (char **item = items; *item; item++) {
        g_auto(GStrv) part = g_strsplit(*item, ":", 3);
        struct fault *f = g_new0(struct fault, 1);
        f->name = g_strdup(part[0]);
        f->action = action_of(part[0] ? part[1] : NULL);
        f->nth = nth_of(part[1] ? part[2] : NULL);
        g_ptr_array_add(plan, f);
    }
    g_atomic_int_set(&loaded, 2);
}

static int perform(int action)
{
    if (action < 0)
        raise(-action);
    return MAX(action, 0);
}

int at_fault_errno(const char *name)
{
    if (G_LIKELY(g_atomic_int_get(&loaded) == 1))
        return 0;
    g_mutex_lock(&plan_lock);
    if (loaded == 0)
        load(getenv("ATOLL_FAULT"));
    if (trace_fd >= 0)
        dprintf(trace_fd, "%s\n", name);
    int action = 0;
    for (unsigned i = 0; plan && i < plan->len && !action; i++) {
        struct fault *f = g_ptr_array_index(plan, i);
        if (strcmp(f->name, name) == 0 && (++f->seen == f->nth || f->nth == 0))
            action = f->action;
    }
    int err = perform(action);
    g_mutex_unlock(&plan_lock);
    return err;
}

bool at_fault_point(const char *name, GError **error)
{
    int err = at_fault_errno(name);
    return err == 0 || at_error_errno(error, err, "%s (injected fault)", name);
}

void at_fault_plan(const char *text)
{
    g_mutex_lock(&plan_lock);
    load(text);
    g_mutex_unlock(&plan_lock);
}
