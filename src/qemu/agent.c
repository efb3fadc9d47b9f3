/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent: one command at a time, one line of JSON each, over a socket that also outlives
 * restarts of the guest, so that what is read may be half of an answer to somebody else. */
#include "qemu/agent.h"

#include <errno.h>
#include <gio/gio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "qemu/unix-socket.h"

enum { LINE_MAX_BYTES = 1 << 20, MAX_LISTED = 64, SEND_MS = 2000, SENTINEL = 0xff };

struct at_agent {
    int fd;
    GByteArray *in;
};

static bool send_text(struct at_agent *agent, const char *text, size_t len, int64_t deadline,
                      GError **error)
{
    while (len > 0) {
        ssize_t n = send(agent->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = agent->fd, .events = POLLOUT};
            if (poll(&p, 1, at_deadline_left_ms(deadline)) == 0)
                return at_error(error, AT_ERROR_TIMEOUT, "the guest agent does not listen");
        } else if (errno != EINTR) {
            return at_error(error, AT_ERROR_UNAVAILABLE, "guest agent channel: %s",
                            g_strerror(errno));
        }
    }
    return true;
}

/* Adds what comes to @in. */
static bool receive(struct at_agent *agent, int64_t deadline, GError **error)
{
    uint8_t buf[16384];
    if (agent->in->len > LINE_MAX_BYTES)
        return at_error(error, AT_ERROR_PEER, "the guest agent sent more than %d KiB in one line",
                        LINE_MAX_BYTES >> 10);
    struct pollfd p = {.fd = agent->fd, .events = POLLIN};
    int left = at_deadline_left_ms(deadline);
    if (left == 0 || poll(&p, 1, left) == 0)
        return at_error(error, AT_ERROR_TIMEOUT, "the guest agent does not answer");
    ssize_t n = recv(agent->fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return at_error(error, AT_ERROR_UNAVAILABLE, "the guest agent channel was closed");
    if (n > 0)
        g_byte_array_append(agent->in, buf, (unsigned)n);
    return true;
}

/* The next line without its newline; newly allocated. */
static char *next_line(struct at_agent *agent, int64_t deadline, GError **error)
{
    size_t scanned = 0;
    for (;;) {
        const uint8_t *end = scanned < agent->in->len
                                 ? memchr(agent->in->data + scanned, '\n', agent->in->len - scanned)
                                 : NULL;
        if (end) {
            unsigned len = (unsigned)(end - agent->in->data);
            char *line = g_strndup((const char *)agent->in->data, len);
            g_byte_array_remove_range(agent->in, 0, len + 1);
            return line;
        }
        scanned = agent->in->len;
        if (!receive(agent, deadline, error))
            return NULL;
    }
}

/* The answer's "return", to own. */
static JsonNode *parse_answer(const char *line, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(JsonNode) node = at_json_parse(line, -1, &local);
    if (!node || !JSON_NODE_HOLDS_OBJECT(node)) {
        at_error(error, AT_ERROR_PEER, "the guest agent answered nonsense%s%s", local ? ": " : "",
                 local ? local->message : "");
        return NULL;
    }
    JsonObject *obj = json_node_get_object(node);
    JsonNode *value = json_object_get_member(obj, "return");
    if (value)
        return json_node_copy(value);
    at_error(error, AT_ERROR_PEER, "the guest agent refused: %s",
             at_json_str(at_json_obj(obj, "error"), "desc", "no reason given"));
    return NULL;
}

static char *command_text(const char *command, JsonObject *args)
{
    JsonObject *obj = json_object_new();
    g_autoptr(JsonNode) node = at_json_take_obj(obj);
    json_object_set_string_member(obj, "execute", command);
    if (args)
        json_object_set_object_member(obj, "arguments", args);
    g_autofree char *text = at_json_text(node);
    return g_strconcat(text, "\n", NULL);
}

bool at_agent_call(struct at_agent *agent, const char *command, JsonObject *args, int timeout_ms,
                   JsonNode **ret_return, GError **error)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    g_autofree char *text = command_text(command, args);
    g_autofree char *line = NULL;
    g_autoptr(JsonNode) value = NULL;
    if (!send_text(agent, text, strlen(text), deadline, error) ||
        !(line = next_line(agent, deadline, error)) || !(value = parse_answer(line, error))) {
        g_prefix_error(error, "%s: ", command);
        return false;
    }
    if (ret_return)
        *ret_return = g_steal_pointer(&value);
    return true;
}

/* A sentinel byte makes the agent forget half a command of an earlier client; its answer comes
 * after a sentinel of its own, and with our id. What comes before is not ours. */
static bool synchronise(struct at_agent *agent, int64_t deadline, GError **error)
{
    int64_t id = ((int64_t)g_random_int() << 16) ^ g_get_monotonic_time();
    id &= G_MAXINT64 >> 11; /* exact in every JSON library */
    JsonObject *args = json_object_new();
    json_object_set_int_member(args, "id", id);
    g_autofree char *text = command_text("guest-sync-delimited", args);
    g_autofree char *marked = g_strdup_printf("%c%s", SENTINEL, text);
    if (!send_text(agent, marked, strlen(marked), deadline, error))
        return false;
    for (;;) {
        g_autofree char *line = next_line(agent, deadline, error);
        if (!line)
            return false;
        char *after = strrchr(line, (char)SENTINEL);
        g_autoptr(JsonNode) value = after ? parse_answer(after + 1, NULL) : NULL;
        if (value && JSON_NODE_HOLDS_VALUE(value) &&
            json_node_get_value_type(value) == G_TYPE_INT64 && json_node_get_int(value) == id)
            return true;
    }
}

struct at_agent *at_agent_open(const char *socket_path, int timeout_ms, GError **error)
{
    int64_t deadline = at_deadline_ms(timeout_ms);
    at_autofd fd = at_unix_connect(socket_path, deadline, error);
    if (fd < 0)
        return NULL;
    struct at_agent *agent = g_new0(struct at_agent, 1);
    agent->fd = at_steal_fd(&fd);
    agent->in = g_byte_array_new();
    if (!synchronise(agent, deadline, error)) {
        at_agent_close(agent);
        return NULL;
    }
    return agent;
}

void at_agent_close(struct at_agent *agent)
{
    if (!agent)
        return;
    close(agent->fd);
    g_byte_array_unref(agent->in);
    g_free(agent);
}

static bool call_for_count(struct at_agent *agent, const char *command, int timeout_ms,
                           unsigned *ret_n, GError **error)
{
    g_autoptr(JsonNode) value = NULL;
    if (!at_agent_call(agent, command, NULL, timeout_ms, &value, error))
        return false;
    if (!JSON_NODE_HOLDS_VALUE(value) || json_node_get_value_type(value) != G_TYPE_INT64)
        return at_error(error, AT_ERROR_PEER, "%s: the guest agent answered no number", command);
    if (ret_n)
        *ret_n = (unsigned)CLAMP(json_node_get_int(value), 0, G_MAXINT);
    return true;
}

bool at_agent_freeze(struct at_agent *agent, int timeout_ms, unsigned *ret_n, GError **error)
{
    return call_for_count(agent, "guest-fsfreeze-freeze", timeout_ms, ret_n, error);
}

bool at_agent_thaw(struct at_agent *agent, int timeout_ms, GError **error)
{
    return call_for_count(agent, "guest-fsfreeze-thaw", timeout_ms, NULL, error);
}

bool at_agent_ping(struct at_agent *agent, int timeout_ms, GError **error)
{
    return at_agent_call(agent, "guest-ping", NULL, timeout_ms, NULL, error);
}

bool at_agent_set_time(struct at_agent *agent, int timeout_ms, GError **error)
{
    JsonObject *args = json_object_new();
    json_object_set_int_member(args, "time", g_get_real_time() * 1000);
    return at_agent_call(agent, "guest-set-time", args, timeout_ms, NULL, error);
}

bool at_agent_shutdown(struct at_agent *agent, GError **error)
{
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "mode", "powerdown");
    g_autofree char *text = command_text("guest-shutdown", args);
    return send_text(agent, text, strlen(text), at_deadline_ms(SEND_MS), error);
}

static bool is_link_local(const char *ip)
{
    return g_str_has_prefix(ip, "fe80:") || g_str_has_prefix(ip, "169.254.") ||
           g_str_has_prefix(ip, "127.") || strcmp(ip, "::1") == 0;
}

static JsonArray *card_addresses(JsonObject *card)
{
    JsonArray *found = json_array_new();
    JsonArray *list = at_json_arr(card, "ip-addresses");
    unsigned n = list ? MIN(json_array_get_length(list), MAX_LISTED) : 0;
    for (unsigned i = 0; i < n; i++) {
        JsonNode *entry = json_array_get_element(list, i);
        const char *ip = JSON_NODE_HOLDS_OBJECT(entry)
                             ? at_json_str(json_node_get_object(entry), "ip-address", NULL)
                             : NULL;
        g_autoptr(GInetAddress) address = ip ? g_inet_address_new_from_string(ip) : NULL;
        if (address && !is_link_local(ip))
            json_array_add_string_element(found, ip);
    }
    return found;
}

static bool is_mac(const char *text)
{
    return strlen(text) == 17 && strspn(text, G_CSET_DIGITS "abcdefABCDEF:") == 17;
}

JsonObject *at_agent_addresses(struct at_agent *agent, int timeout_ms, GError **error)
{
    g_autoptr(JsonNode) value = NULL;
    if (!at_agent_call(agent, "guest-network-get-interfaces", NULL, timeout_ms, &value, error))
        return NULL;
    if (!JSON_NODE_HOLDS_ARRAY(value)) {
        at_error(error, AT_ERROR_PEER, "the guest agent answered no list of interfaces");
        return NULL;
    }
    JsonObject *result = json_object_new();
    JsonArray *cards = json_node_get_array(value);
    unsigned n = MIN(json_array_get_length(cards), MAX_LISTED);
    for (unsigned i = 0; i < n; i++) {
        JsonNode *node = json_array_get_element(cards, i);
        JsonObject *card = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
        const char *mac = at_json_str(card, "hardware-address", "");
        if (!is_mac(mac) || strcmp(mac, "00:00:00:00:00:00") == 0)
            continue;
        g_autofree char *lower = g_ascii_strdown(mac, -1);
        json_object_set_array_member(result, lower, card_addresses(card));
    }
    return result;
}
