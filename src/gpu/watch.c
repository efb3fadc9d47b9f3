/* SPDX-License-Identifier: Apache-2.0 */
/* Hearing of changes: the kernel's own events (not udevd's, which may not run), by libudev. */
#include <errno.h>
#include <glib-unix.h>
#include <libudev.h>

#include "base/error.h"
#include "gpu/watch-internal.h"

enum { DELAY_MS = 1000, EVENTS_AT_ONCE = 256 };

struct at_gpu_watch {
    void (*func)(void *user);
    void *user;
    unsigned delay_ms;
    GMainContext *context;
    GSource *timer;  /* until the call; NULL: nothing is to be told */
    GSource *events; /* of @monitor */
    struct udev *udev;
    struct udev_monitor *monitor;
};

struct at_gpu_watch *at_gpu_watch_deaf(void (*func)(void *user), void *user, unsigned delay_ms)
{
    struct at_gpu_watch *watch = g_new0(struct at_gpu_watch, 1);
    watch->func = func;
    watch->user = user;
    watch->delay_ms = delay_ms;
    watch->context = g_main_context_ref_thread_default();
    return watch;
}

static void drop_source(GSource **source)
{
    if (!*source)
        return;
    g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

/* The callee may free the watch. */
static gboolean tell(void *user)
{
    struct at_gpu_watch *watch = user;
    drop_source(&watch->timer);
    watch->func(watch->user);
    return G_SOURCE_REMOVE;
}

/* The time runs from the first change, so that a device that flaps for ever is told of as well. */
void at_gpu_watch_hear(struct at_gpu_watch *watch)
{
    if (watch->timer)
        return;
    watch->timer = g_timeout_source_new(watch->delay_ms);
    g_source_set_callback(watch->timer, tell, watch, NULL);
    g_source_attach(watch->timer, watch->context);
}

bool at_gpu_watch_pending(const struct at_gpu_watch *watch)
{
    return watch->timer != NULL;
}

static gboolean read_events(int fd, GIOCondition condition, void *user)
{
    struct at_gpu_watch *watch = user;
    for (unsigned n = 0; n < EVENTS_AT_ONCE; n++) {
        errno = 0;
        struct udev_device *device = udev_monitor_receive_device(watch->monitor);
        if (device || errno == ENOBUFS) /* which says that events were lost */
            at_gpu_watch_hear(watch);
        if (!device)
            break;
        udev_device_unref(device);
    }
    return G_SOURCE_CONTINUE;
}

static bool listen_to_kernel(struct at_gpu_watch *watch)
{
    static const char *const subsystems[] = {"pci", "mdev", "drm"};
    watch->udev = udev_new();
    watch->monitor = watch->udev ? udev_monitor_new_from_netlink(watch->udev, "kernel") : NULL;
    if (!watch->monitor)
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(subsystems); i++) {
        if (udev_monitor_filter_add_match_subsystem_devtype(watch->monitor, subsystems[i], NULL) <
            0)
            return false;
    }
    if (udev_monitor_enable_receiving(watch->monitor) < 0)
        return false;
    watch->events = g_unix_fd_source_new(udev_monitor_get_fd(watch->monitor), G_IO_IN);
    g_source_set_callback(watch->events, G_SOURCE_FUNC(read_events), watch, NULL);
    g_source_attach(watch->events, watch->context);
    return true;
}

struct at_gpu_watch *at_gpu_watch_new(void (*func)(void *user), void *user, GError **error)
{
    struct at_gpu_watch *watch = at_gpu_watch_deaf(func, user, DELAY_MS);
    errno = 0;
    if (listen_to_kernel(watch))
        return watch;
    at_error(error, AT_ERROR_UNAVAILABLE,
             "the kernel sends no events about devices (%s): changes of GPUs are seen only when "
             "the inventory is read",
             g_strerror(errno ? errno : ENOTSUP));
    at_gpu_watch_free(watch);
    return NULL;
}

void at_gpu_watch_free(struct at_gpu_watch *watch)
{
    if (!watch)
        return;
    drop_source(&watch->timer);
    drop_source(&watch->events);
    udev_monitor_unref(watch->monitor);
    udev_unref(watch->udev);
    g_main_context_unref(watch->context);
    g_free(watch);
}
