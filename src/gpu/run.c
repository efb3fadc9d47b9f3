/* SPDX-License-Identifier: Apache-2.0 */
/* One run of attach or detach: its steps, its writes, and the ladder that takes them back. */
#include <stdarg.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "gpu/device-internal.h"
#include "gpu/sysfs-write.h"

enum { WRITE_TIMEOUT_MS = 10000, POLL_US = 10000 };

struct undo {
    at_gpu_undo_func func;
    char *what;
};

int at_gpu_run_timeout(const struct at_gpu_run *run)
{
    return run->host->write_timeout_ms > 0 ? run->host->write_timeout_ms : WRITE_TIMEOUT_MS;
}

void at_gpu_error_add(GError **error, const char *format, ...)
{
    if (!error || !*error)
        return;
    va_list ap;
    va_start(ap, format);
    g_autofree char *more = g_strdup_vprintf(format, ap);
    va_end(ap);
    char *whole = g_strconcat((*error)->message, more, NULL);
    g_free((*error)->message);
    (*error)->message = whole;
}

bool at_gpu_run_step(struct at_gpu_run *run, const char *fault_point, GError **error)
{
    /* What is being taken back is taken back to the end. */
    if (run->undo && g_cancellable_is_cancelled(run->cancellable))
        return at_error(error, AT_ERROR_CANCELLED, "cancelled");
    return at_fault_point(fault_point, error);
}

static void undo_free(void *p)
{
    struct undo *u = p;
    g_free(u->what);
    g_free(u);
}

void at_gpu_run_begin(struct at_gpu_run *run)
{
    run->undo = g_ptr_array_new_with_free_func(undo_free);
}

void at_gpu_run_keep(struct at_gpu_run *run)
{
    g_clear_pointer(&run->undo, g_ptr_array_unref);
}

void at_gpu_run_on_failure(struct at_gpu_run *run, at_gpu_undo_func undo, const char *what)
{
    if (!run->undo)
        return;
    struct undo *u = g_new(struct undo, 1);
    u->func = undo;
    u->what = g_strdup(what);
    g_ptr_array_add(run->undo, u);
}

bool at_gpu_run_undo(struct at_gpu_run *run, GError **error)
{
    /* The way back is a run that cannot be cancelled and has no way back itself. */
    g_autoptr(GPtrArray) undo = g_steal_pointer(&run->undo);
    bool ok = true;
    for (unsigned i = undo->len; i-- > 0;) {
        const struct undo *u = undo->pdata[i];
        g_autoptr(GError) local = NULL;
        if (u->func(run, u->what, &local))
            continue;
        at_gpu_error_add(error, "; and this was left behind: %s", local->message);
        ok = false;
    }
    return ok;
}

bool at_gpu_run_choose(struct at_gpu_run *run, GError **error)
{
    if (!run->chosen || run->chosen(run->att, run->chosen_user, error))
        return true;
    g_prefix_error(error, "recording what was chosen: ");
    return false;
}

bool at_gpu_run_choose_function(struct at_gpu_run *run, const char *function, GError **error)
{
    g_free(run->att->function);
    run->att->function = g_strdup(function);
    return at_gpu_run_choose(run, error);
}

bool at_gpu_run_set(struct at_gpu_run *run, const char *address, const char *file,
                    const char *value, GError **error)
{
    g_autofree char *path = at_gpu_path(run->host, address, file);
    return at_gpu_run_write(run, address, path, value, error);
}

bool at_gpu_run_write(struct at_gpu_run *run, const char *about, const char *path,
                      const char *value, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (at_sysfs_write(path, value, about, at_gpu_run_timeout(run), &local))
        return true;
    if (g_error_matches(local, AT_ERROR, AT_ERROR_TIMEOUT)) {
        g_autofree char *who = at_gpu_users(run->host, about);
        at_gpu_error_add(&local, "; %s is in use by %s", about,
                         who ? who : "nobody that /proc shows");
    }
    g_propagate_error(error, g_steal_pointer(&local));
    return false;
}

bool at_gpu_run_wait(struct at_gpu_run *run, at_gpu_ready_func ready, const char *what,
                     int timeout_ms)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    /* Files of sysfs send no events for what appears in them. */
    while (!ready(run->host, what)) {
        if (at_deadline_left_ms(deadline) == 0 ||
            (run->undo && g_cancellable_is_cancelled(run->cancellable)))
            return false;
        g_usleep(POLL_US);
    }
    return true;
}
