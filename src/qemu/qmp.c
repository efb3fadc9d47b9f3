/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP client: lines of JSON over a non-blocking unix socket, every wait by poll with a
 * deadline. After a protocol error or end of file the connection is dead and stays dead; what was
 * received before can still be taken. */
#include "qemu/qmp.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "qemu/qmp-internal.h"
#include "qemu/unix-socket.h"

enum { LINE_MAX_BYTES = 16 << 20, READ_BYTES = 64 << 10, SEND_TIMEOUT_MS = 5000, REST_READS = 64 };

/* A command that was sent and whose answer has not been taken. */
struct pending {
    char *command;
    JsonNode *answer; /* whole answer object, once it is here */
    bool abandoned;   /* its waiter gave up: drop the answer */
};

struct at_qmp {
    int fd;
    char *path;
    GByteArray *in;
    size_t scanned; /* bytes of @in known to hold no newline */
    bool greeted, offers_oob;
    GError *dead; /* why the connection is over; NULL while it lives */
    uint64_t last_id;
    GHashTable *pending; /* id -> struct pending */
    struct at_qmp_events events;
};

static void pending_free(gpointer data)
{
    struct pending *p = data;
    g_free(p->command);
    g_clear_pointer(&p->answer, json_node_unref);
    g_free(p);
}

static bool G_GNUC_PRINTF(3, 4)
    die(struct at_qmp *qmp, enum at_error_code code, const char *fmt, ...)
{
    if (qmp->dead)
        return false;
    va_list ap;
    va_start(ap, fmt);
    qmp->dead = g_error_new_valist(AT_ERROR, (int)code, fmt, ap);
    va_end(ap);
    g_prefix_error(&qmp->dead, "%s: ", qmp->path);
    return false;
}

static bool say_dead(const struct at_qmp *qmp, GError **error)
{
    if (error)
        *error = g_error_copy(qmp->dead);
    return false;
}

static void take_answer(struct at_qmp *qmp, JsonObject *obj, JsonNode *node)
{
    JsonNode *id_node = json_object_get_member(obj, "id");
    uint64_t id = id_node && JSON_NODE_HOLDS_VALUE(id_node) &&
                          json_node_get_value_type(id_node) == G_TYPE_INT64
                      ? (uint64_t)json_node_get_int(id_node)
                      : 0;
    struct pending *p = g_hash_table_lookup(qmp->pending, &id);
    if (!p || p->answer)
        return; /* nobody asked, or nobody asked twice */
    if (p->abandoned)
        g_hash_table_remove(qmp->pending, &id);
    else
        p->answer = json_node_ref(node);
}

static bool offers_oob(JsonObject *greeting)
{
    JsonArray *list = at_json_arr(greeting, "capabilities");
    for (unsigned i = 0; list && i < json_array_get_length(list); i++) {
        JsonNode *node = json_array_get_element(list, i);
        if (JSON_NODE_HOLDS_VALUE(node) && g_strcmp0(json_node_get_string(node), "oob") == 0)
            return true;
    }
    return false;
}

static bool take_line(struct at_qmp *qmp, const char *line, size_t len)
{
    while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' '))
        len--;
    if (len == 0)
        return true;
    g_autoptr(GError) local = NULL;
    g_autoptr(JsonNode) node = at_json_parse(line, (gssize)len, &local);
    if (!node)
        return die(qmp, AT_ERROR_PEER, "QEMU sent a broken line: %s", local->message);
    if (!JSON_NODE_HOLDS_OBJECT(node))
        return die(qmp, AT_ERROR_PEER, "QEMU sent something that is not an object");
    JsonObject *obj = json_node_get_object(node);
    if (json_object_has_member(obj, "return") || json_object_has_member(obj, "error")) {
        take_answer(qmp, obj, node);
    } else if (at_json_str(obj, "event", NULL)) {
        if (!at_qmp_events_push(&qmp->events, g_steal_pointer(&node), len))
            return die(qmp, AT_ERROR_PEER, "QEMU floods events");
    } else if (json_object_has_member(obj, "QMP") && !qmp->greeted) {
        qmp->greeted = true;
        qmp->offers_oob = offers_oob(at_json_obj(obj, "QMP"));
    } else {
        return die(qmp, AT_ERROR_PEER, "QEMU sent an object that is no answer and no event");
    }
    return true;
}

static bool take_lines(struct at_qmp *qmp)
{
    size_t start = 0;
    bool ok = true;
    while (ok) {
        size_t from = MAX(start, qmp->scanned);
        const uint8_t *data = qmp->in->data;
        const uint8_t *end =
            from < qmp->in->len ? memchr(data + from, '\n', qmp->in->len - from) : NULL;
        if (!end)
            break;
        size_t len = (size_t)(end - data) - start;
        ok = take_line(qmp, (const char *)data + start, len);
        start += len + 1;
        qmp->scanned = start;
    }
    if (start > 0)
        g_byte_array_remove_range(qmp->in, 0, (unsigned)start);
    qmp->scanned = qmp->in->len;
    if (ok && qmp->in->len > LINE_MAX_BYTES)
        ok = die(qmp, AT_ERROR_PEER, "QEMU sent a line longer than %d MiB", LINE_MAX_BYTES >> 20);
    return ok;
}

/* Reads once without blocking. False when the connection is dead; *@ret_got: bytes came. */
static bool read_some(struct at_qmp *qmp, bool *ret_got)
{
    *ret_got = false;
    if (qmp->dead)
        return false;
    unsigned len = qmp->in->len;
    g_byte_array_set_size(qmp->in, len + READ_BYTES);
    ssize_t n = recv(qmp->fd, qmp->in->data + len, READ_BYTES, MSG_DONTWAIT);
    int err = errno;
    g_byte_array_set_size(qmp->in, len + (n > 0 ? (unsigned)n : 0));
    if (n == 0 || (n < 0 && err == ECONNRESET))
        return die(qmp, AT_ERROR_UNAVAILABLE, "QEMU closed the monitor");
    if (n < 0 && (err == EAGAIN || err == EINTR))
        return true;
    if (n < 0)
        return die(qmp, AT_ERROR_UNAVAILABLE, "monitor is gone: %s", g_strerror(err));
    *ret_got = true;
    return take_lines(qmp);
}

/* Waits for bytes and takes them. False when dead; *@ret_expired when the deadline passed. */
static bool pump(struct at_qmp *qmp, int64_t deadline, bool *ret_expired)
{
    bool got;
    *ret_expired = false;
    if (!read_some(qmp, &got) || got)
        return !qmp->dead;
    int left = at_deadline_left_ms(deadline);
    struct pollfd p = {.fd = qmp->fd, .events = POLLIN};
    int n = left > 0 ? poll(&p, 1, left) : 0;
    if (n == 0)
        *ret_expired = true;
    return true;
}

/* What is there when the deadline passes is still read, but a peer that never stops talking must
 * not stretch the wait. */
static bool long_past(int64_t deadline)
{
    return at_clock_us() > deadline + 50 * 1000;
}

/* What a peer that has gone said before: how it ended, above all. */
static void read_rest(struct at_qmp *qmp)
{
    bool got;
    for (unsigned i = 0; i < REST_READS && read_some(qmp, &got) && got; i++)
        ;
}

static bool send_all(struct at_qmp *qmp, const char *text, size_t len, int pass_fd, GError **error)
{
    int64_t deadline = at_deadline_ms(SEND_TIMEOUT_MS);
    size_t done = 0;
    while (done < len) {
        struct iovec iov = {(char *)text + done, len - done};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        union {
            struct cmsghdr align;
            char buf[CMSG_SPACE(sizeof(int))];
        } control = {0};
        if (pass_fd >= 0 && done == 0) {
            msg.msg_control = control.buf;
            msg.msg_controllen = sizeof control.buf;
            struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
            cmsg->cmsg_level = SOL_SOCKET;
            cmsg->cmsg_type = SCM_RIGHTS;
            cmsg->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(cmsg), &pass_fd, sizeof(int));
        }
        ssize_t n = sendmsg(qmp->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = qmp->fd, .events = POLLOUT};
            if (poll(&p, 1, at_deadline_left_ms(deadline)) == 0) {
                /* Half a command cannot be taken back. */
                die(qmp, AT_ERROR_TIMEOUT, "QEMU does not read its monitor");
                return say_dead(qmp, error);
            }
        } else if (n < 0 && errno != EINTR) {
            int err = errno;
            read_rest(qmp);
            die(qmp, AT_ERROR_UNAVAILABLE, "monitor is gone: %s", g_strerror(err));
            return say_dead(qmp, error);
        }
    }
    return true;
}

uint64_t at_qmp_send(struct at_qmp *qmp, const char *command, JsonObject *args, int fd,
                     GError **error)
{
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *obj = json_object_new();
    json_node_take_object(node, obj);
    json_object_set_string_member(obj, "execute", command);
    if (args)
        json_object_set_object_member(obj, "arguments", args);
    if (qmp->dead) {
        say_dead(qmp, error);
        return 0;
    }
    uint64_t id = ++qmp->last_id;
    json_object_set_int_member(obj, "id", (int64_t)id);
    g_autofree char *compact = at_json_text(node);
    g_autofree char *text = g_strconcat(compact, "\n", NULL);
    struct pending *p = g_new0(struct pending, 1);
    p->command = g_strdup(command);
    g_hash_table_insert(qmp->pending, g_memdup2(&id, sizeof id), p);
    if (!send_all(qmp, text, strlen(text), fd, error)) {
        g_prefix_error(error, "%s: ", command);
        g_hash_table_remove(qmp->pending, &id);
        return 0;
    }
    return id;
}

/* Hands out the answer of @p. */
static bool finish(struct pending *p, JsonNode **ret_return, GError **error)
{
    JsonObject *obj = json_node_get_object(p->answer);
    JsonNode *value = json_object_get_member(obj, "return");
    if (value) {
        if (ret_return)
            *ret_return = json_node_copy(value);
        return true;
    }
    return at_error(error, AT_ERROR_PEER, "%s: %s", p->command,
                    at_json_str(at_json_obj(obj, "error"), "desc", "refused without a reason"));
}

bool at_qmp_wait(struct at_qmp *qmp, uint64_t id, int timeout_ms, JsonNode **ret_return,
                 GError **error)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    struct pending *p = g_hash_table_lookup(qmp->pending, &id);
    if (!p || p->abandoned)
        return at_error(error, AT_ERROR_INVALID, "no answer to %" G_GUINT64_FORMAT " is due", id);
    bool expired = false;
    while (!p->answer && !expired) {
        if (!pump(qmp, deadline, &expired) && !p->answer) {
            say_dead(qmp, error);
            g_prefix_error(error, "%s: ", p->command);
            g_hash_table_remove(qmp->pending, &id);
            return false;
        }
        expired = expired || long_past(deadline);
    }
    if (!p->answer) {
        p->abandoned = true;
        return at_error(error, AT_ERROR_TIMEOUT, "%s: QEMU did not answer within %d ms on %s",
                        p->command, timeout_ms, qmp->path);
    }
    bool ok = finish(p, ret_return, error);
    g_hash_table_remove(qmp->pending, &id);
    return ok;
}

void at_qmp_forget(struct at_qmp *qmp, uint64_t id)
{
    struct pending *p = g_hash_table_lookup(qmp->pending, &id);
    if (p && p->answer)
        g_hash_table_remove(qmp->pending, &id);
    else if (p)
        p->abandoned = true;
}

bool at_qmp_ready(struct at_qmp *qmp, uint64_t id)
{
    struct pending *p = g_hash_table_lookup(qmp->pending, &id);
    return !p || p->abandoned || p->answer || qmp->dead;
}

bool at_qmp_call(struct at_qmp *qmp, const char *command, JsonObject *args, int timeout_ms,
                 JsonNode **ret_return, GError **error)
{
    uint64_t id = at_qmp_send(qmp, command, args, -1, error);
    return id != 0 && at_qmp_wait(qmp, id, timeout_ms, ret_return, error);
}

JsonNode *at_qmp_next_event(struct at_qmp *qmp, int timeout_ms, GError **error)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    for (bool expired = false;;) {
        JsonNode *event = at_qmp_events_pop(&qmp->events);
        if (event || expired)
            return event;
        if (!pump(qmp, deadline, &expired) && !qmp->events.queue.head) {
            say_dead(qmp, error);
            return NULL;
        }
        expired = expired || long_past(deadline);
    }
}

bool at_qmp_wait_event(struct at_qmp *qmp, const char *name, bool (*match)(JsonObject *, void *),
                       void *user, int timeout_ms, JsonNode **ret_event, GError **error)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    uint64_t seen = 0;
    for (bool expired = false, alive = true;;) {
        g_autoptr(JsonNode) event = at_qmp_events_take(&qmp->events, name, match, user, &seen);
        if (event) {
            if (ret_event)
                *ret_event = g_steal_pointer(&event);
            return true;
        }
        if (!alive) {
            say_dead(qmp, error);
            g_prefix_error(error, "waiting for %s: ", name);
            return false;
        }
        if (expired)
            return at_error(error, AT_ERROR_TIMEOUT, "%s: no event %s within %d ms", qmp->path,
                            name, timeout_ms);
        alive = pump(qmp, deadline, &expired);
        expired = expired || long_past(deadline);
    }
}

int at_qmp_fd(struct at_qmp *qmp)
{
    return qmp->fd;
}

bool at_qmp_dispatch(struct at_qmp *qmp, GError **error)
{
    /* A bounded number of reads: one talkative machine must not hold the main loop. */
    bool got = true;
    for (int i = 0; got && i < 16; i++) {
        if (!read_some(qmp, &got))
            return say_dead(qmp, error);
    }
    return true;
}

static JsonObject *with_oob(void)
{
    JsonArray *list = json_array_new();
    json_array_add_string_element(list, "oob");
    JsonObject *args = json_object_new();
    json_object_set_array_member(args, "enable", list);
    return args;
}

struct at_qmp *at_qmp_open(const char *socket_path, int timeout_ms, GError **error)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    at_autofd fd = at_unix_connect(socket_path, deadline, error);
    if (fd < 0)
        return NULL;
    struct at_qmp *qmp = g_new0(struct at_qmp, 1);
    qmp->fd = at_steal_fd(&fd);
    qmp->path = g_strdup(socket_path);
    qmp->in = g_byte_array_new();
    qmp->pending = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, pending_free);
    while (!qmp->greeted) {
        bool expired;
        if (!pump(qmp, deadline, &expired) && !qmp->greeted) {
            say_dead(qmp, error);
            goto fail;
        }
        if (!qmp->greeted && (expired || at_deadline_left_ms(deadline) == 0)) {
            at_error(error, AT_ERROR_TIMEOUT,
                     "%s: no greeting within %d ms; another client may hold the monitor",
                     socket_path, timeout_ms);
            goto fail;
        }
    }
    /* Out-of-band execution itself is not used; with it, a monitor takes in the next commands
     * while one is being carried out. */
    if (!at_qmp_call(qmp, "qmp_capabilities", qmp->offers_oob ? with_oob() : NULL,
                     at_deadline_left_ms(deadline), NULL, error))
        goto fail;
    return qmp;
fail:
    at_qmp_close(qmp);
    return NULL;
}

void at_qmp_close(struct at_qmp *qmp)
{
    if (!qmp)
        return;
    close(qmp->fd);
    g_free(qmp->path);
    g_byte_array_unref(qmp->in);
    g_hash_table_unref(qmp->pending);
    at_qmp_events_clear(&qmp->events);
    g_clear_error(&qmp->dead);
    g_free(qmp);
}

int64_t at_qmp_last_stop_us(struct at_qmp *qmp)
{
    return qmp->events.last_stop_us;
}

int64_t at_qmp_last_resume_us(struct at_qmp *qmp)
{
    return qmp->events.last_resume_us;
}
