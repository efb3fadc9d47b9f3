/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces with a name under /run/netns (as `ip netns` keeps them), and work done inside
 * one. A namespace belongs to a thread in Linux: work runs in a thread of its own that ends with
 * it, so that no other thread ever finds itself in the wrong network. */
#pragma once
#include <glib.h>
#include <stdbool.h>

typedef bool (*at_net_work)(void *data, GError **error);

/* Runs @work in the namespace at @path and waits for it. The work must not start threads that
 * outlive it: they would stay inside. @path NULL: a new namespace, which ends with the work. Gives
 * what @work gave; NOT_FOUND when there is no such namespace. Any thread; blocks as long as @work
 * does. */
bool at_net_inside(const char *path, at_net_work work, void *data, GError **error);

/* Makes the namespace unless it is there. Safe after being killed anywhere in it.
 * Fault point: net.netns. */
bool at_net_namespace_make(const char *name, GError **error);

/* Takes the name away; the namespace goes with its last user. A missing one is fine. */
bool at_net_namespace_remove(const char *name, GError **error);

/* True when @name is a namespace (and not only the file that a killed maker left). */
bool at_net_namespace_exists(const char *name);

/* Writes a value under /proc/sys/net of the calling thread's namespace; @path without that part.
 * False with an error when it cannot; a missing file is fine when @optional. */
bool at_net_sysctl(const char *path, const char *value, bool optional, GError **error);
