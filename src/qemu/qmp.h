/* SPDX-License-Identifier: Apache-2.0 */
/* A QMP client: one monitor connection, blocking calls with deadlines, or driven by a main loop.
 * One thread at a time. QAPI of QEMU 7.2 or later. Nothing that QEMU sends is believed to be sane:
 * a line is at most 16 MiB, events that wait are at most 1024 and 32 MiB (the oldest are dropped,
 * but never STOP, RESUME, SHUTDOWN, BLOCK_IO_ERROR), and a peer that breaks the protocol is cut
 * off. */
#pragma once
#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

struct at_qmp;
typedef struct at_qmp at_qmp; /* for g_autoptr(at_qmp) */

/* Connects and negotiates, all within @timeout_ms. The greeting is waited for: a monitor serves one
 * client at a time, so a second client stands in line here. TIMEOUT, UNAVAILABLE (nobody listens),
 * PEER, INVALID (path). */
struct at_qmp *at_qmp_open(const char *socket_path, int timeout_ms, GError **error);
void at_qmp_close(struct at_qmp *qmp); /* NULL is fine */

/* Sends without waiting for the answer. @args is taken (NULL: none). @fd (or -1) travels by
 * SCM_RIGHTS and stays the caller's. Blocks at most 5 s, when QEMU does not read.
 * Returns the id to wait for, or 0 on error. */
uint64_t at_qmp_send(struct at_qmp *qmp, const char *command, JsonObject *args, int fd,
                     GError **error);

/* Waits for the answer to @id; events and other answers that arrive meanwhile are kept. @ret_return
 * may be NULL. Errors: PEER is QEMU's own refusal with its text, or nonsense; TIMEOUT leaves the
 * connection usable, and the late answer is dropped when it comes; UNAVAILABLE: QEMU closed. */
bool at_qmp_wait(struct at_qmp *qmp, uint64_t id, int timeout_ms, JsonNode **ret_return,
                 GError **error);

/* Nobody will wait for the answer to @id (0 is fine): it is dropped when it comes. */
void at_qmp_forget(struct at_qmp *qmp, uint64_t id);

/* True when at_qmp_wait() for @id would return at once (for main-loop use). Reads nothing. */
bool at_qmp_ready(struct at_qmp *qmp, uint64_t id);

/* Send and wait. */
bool at_qmp_call(struct at_qmp *qmp, const char *command, JsonObject *args, int timeout_ms,
                 JsonNode **ret_return, GError **error);

/* The next queued or arriving event (caller owns; object with event, data, timestamp), waiting at
 * most @timeout_ms (0: only what is there). NULL without error when none came; NULL with an error
 * when the connection is gone and every event that came before has been handed out. */
JsonNode *at_qmp_next_event(struct at_qmp *qmp, int timeout_ms, GError **error);

/* Waits for an event by name, whose data matches @match when given (it is borrowed, NULL when the
 * event has none); others stay queued. TIMEOUT, UNAVAILABLE, PEER. */
bool at_qmp_wait_event(struct at_qmp *qmp, const char *name, bool (*match)(JsonObject *, void *),
                       void *user, int timeout_ms, JsonNode **ret_event, GError **error);

/* Main-loop use: the descriptor to poll for reading; when readable, at_qmp_dispatch() reads what
 * is there without blocking; then drain with at_qmp_next_event(qmp, 0, ..) and at_qmp_ready().
 * False when the connection is gone (what came before can still be drained). */
int at_qmp_fd(struct at_qmp *qmp);
bool at_qmp_dispatch(struct at_qmp *qmp, GError **error);

/* Microseconds (QEMU's wall clock) of the newest STOP and RESUME seen; 0 when none. */
int64_t at_qmp_last_stop_us(struct at_qmp *qmp);
int64_t at_qmp_last_resume_us(struct at_qmp *qmp);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(at_qmp, at_qmp_close)
