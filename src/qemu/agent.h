/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent (qemu-ga) over its virtio-serial socket. Hostile: every answer is bounded (1 MiB)
 * and every wait has a deadline. The socket serves one client at a time. After an error the
 * connection is out of step; close it and open a new one.
 *
 * Errors everywhere: TIMEOUT (no agent, or it hangs), UNAVAILABLE (the machine is gone),
 * PEER (nonsense, or the agent's own refusal with its text). All calls block. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>

struct at_agent;
typedef struct at_agent at_agent; /* for g_autoptr(at_agent) */

/* Connects and synchronises (guest-sync-delimited with a fresh id), so that late answers to an
 * earlier client are not taken for ours. TIMEOUT when nobody answers. */
struct at_agent *at_agent_open(const char *socket_path, int timeout_ms, GError **error);
void at_agent_close(struct at_agent *agent);

/* @args is taken (NULL: none); @ret_return may be NULL. */
bool at_agent_call(struct at_agent *agent, const char *command, JsonObject *args, int timeout_ms,
                   JsonNode **ret_return, GError **error);

/* Freezes all file systems that can be; @ret_n of them. When it fails or times out the caller must
 * still thaw: part of them may be frozen. */
bool at_agent_freeze(struct at_agent *agent, int timeout_ms, unsigned *ret_n, GError **error);

/* Thaws. A connection that timed out in freezing must be replaced first. */
bool at_agent_thaw(struct at_agent *agent, int timeout_ms, GError **error);

bool at_agent_ping(struct at_agent *agent, int timeout_ms, GError **error);

/* Sets the guest's clock to ours, for machines that were stopped for a while. */
bool at_agent_set_time(struct at_agent *agent, int timeout_ms, GError **error);

/* Asks the guest to power off. Does not wait: the agent says nothing when it obeys. */
bool at_agent_shutdown(struct at_agent *agent, GError **error);

/* Addresses of the guest's cards without loopback and link-local ones, as {"<mac>": ["10.0.0.2",
 * ...]}; at most 64 of each. The caller owns the object. */
JsonObject *at_agent_addresses(struct at_agent *agent, int timeout_ms, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_agent, at_agent_close)
