/* SPDX-License-Identifier: Apache-2.0 */
/* guest-file-open, -write, -close; guest-exec, guest-exec-status. */
#include "qemu/agent-exec.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/plain.h"

enum {
    WRITE_BYTES = 192 << 10, /* at once; in base64 it stays below what agents take */
    POLL_MS = 50,
    WORDS_BYTES = 400,
};

static bool call_for_int(struct at_agent *agent, const char *command, JsonObject *args,
                         int64_t deadline, int64_t *ret, GError **error)
{
    g_autoptr(JsonNode) value = NULL;
    if (!at_agent_call(agent, command, args, at_deadline_left_ms(deadline), &value, error))
        return false;
    if (!JSON_NODE_HOLDS_VALUE(value) || json_node_get_value_type(value) != G_TYPE_INT64)
        return at_error(error, AT_ERROR_PEER, "%s: the guest agent answered no number", command);
    *ret = json_node_get_int(value);
    return true;
}

static bool call_for_object(struct at_agent *agent, const char *command, JsonObject *args,
                            int64_t deadline, JsonNode **ret, GError **error)
{
    g_autoptr(JsonNode) value = NULL;
    if (!at_agent_call(agent, command, args, at_deadline_left_ms(deadline), &value, error))
        return false;
    if (!JSON_NODE_HOLDS_OBJECT(value))
        return at_error(error, AT_ERROR_PEER, "%s: the guest agent answered no object", command);
    *ret = g_steal_pointer(&value);
    return true;
}

static bool write_part(struct at_agent *agent, int64_t handle, const uint8_t *part, size_t len,
                       int64_t deadline, size_t *ret_written, GError **error)
{
    g_autoptr(JsonNode) value = NULL;
    g_autofree char *text = g_base64_encode(part, len);
    JsonObject *args = json_object_new();
    json_object_set_int_member(args, "handle", handle);
    json_object_set_string_member(args, "buf-b64", text);
    if (!call_for_object(agent, "guest-file-write", args, deadline, &value, error))
        return false;
    int64_t written = at_json_int(json_node_get_object(value), "count", -1);
    if (written <= 0 || (uint64_t)written > len)
        return at_error(error, AT_ERROR_PEER,
                        "guest-file-write: the guest agent says that it has written %" PRId64
                        " of %zu bytes",
                        written, len);
    *ret_written = (size_t)written;
    return true;
}

bool at_agent_write_file(struct at_agent *agent, const char *path, GBytes *content, int timeout_ms,
                         GError **error)
{
    int64_t deadline = at_deadline_ms(timeout_ms), handle = 0;
    size_t len;
    const uint8_t *bytes = g_bytes_get_data(content, &len);
    JsonObject *args = json_object_new();
    json_object_set_string_member(args, "path", path);
    json_object_set_string_member(args, "mode", "w");
    if (!call_for_int(agent, "guest-file-open", args, deadline, &handle, error))
        return false;
    bool ok = true;
    for (size_t at = 0, n = 0; ok && at < len; at += n)
        ok = write_part(agent, handle, bytes + at, MIN(len - at, (size_t)WRITE_BYTES), deadline, &n,
                        error);
    JsonObject *which = json_object_new();
    json_object_set_int_member(which, "handle", handle);
    return at_agent_call(agent, "guest-file-close", which, at_deadline_left_ms(deadline), NULL,
                         ok ? error : NULL) &&
           ok;
}

bool at_agent_exec_start(struct at_agent *agent, const char *const *argv, int timeout_ms,
                         int64_t *ret_pid, GError **error)
{
    g_autoptr(JsonNode) value = NULL;
    JsonObject *args = json_object_new();
    JsonArray *rest = json_array_new();
    json_object_set_string_member(args, "path", argv[0]);
    for (unsigned i = 1; argv[i]; i++)
        json_array_add_string_element(rest, argv[i]);
    json_object_set_array_member(args, "arg", rest);
    json_object_set_boolean_member(args, "capture-output", true);
    if (!call_for_object(agent, "guest-exec", args, at_deadline_ms(timeout_ms), &value, error))
        return false;
    int64_t pid = at_json_int(json_node_get_object(value), "pid", -1);
    if (pid < 0)
        return at_error(error, AT_ERROR_PEER, "guest-exec: the guest agent gave no pid");
    *ret_pid = pid;
    return true;
}

static char *output_of(JsonObject *status, const char *name)
{
    size_t len = 0;
    const char *coded = at_json_str(status, name, NULL);
    g_autofree uint8_t *bytes = coded ? g_base64_decode(coded, &len) : NULL;
    return g_utf8_make_valid(bytes ? (const char *)bytes : "",
                             (gssize)MIN(len, (size_t)AT_AGENT_OUTPUT_MAX));
}

void at_agent_exec_clear(struct at_agent_exec *exec)
{
    g_clear_pointer(&exec->output, g_free);
    g_clear_pointer(&exec->errors, g_free);
}

bool at_agent_exec_poll(struct at_agent *agent, int64_t pid, int timeout_ms,
                        struct at_agent_exec *ret_exec, GError **error)
{
    g_autoptr(JsonNode) value = NULL;
    JsonObject *args = json_object_new();
    json_object_set_int_member(args, "pid", pid);
    if (!call_for_object(agent, "guest-exec-status", args, at_deadline_ms(timeout_ms), &value,
                         error))
        return false;
    JsonObject *status = json_node_get_object(value);
    *ret_exec = (struct at_agent_exec){.ended = at_json_bool(status, "exited", false)};
    if (!ret_exec->ended)
        return true;
    ret_exec->status = (int)at_json_int(status, "exitcode", -1);
    ret_exec->output = output_of(status, "out-data");
    ret_exec->errors = output_of(status, "err-data");
    return true;
}

static bool ended_well(const char *program, const struct at_agent_exec *exec, GError **error)
{
    char words[WORDS_BYTES];
    if (exec->status == 0)
        return true;
    at_plain_copy(words, sizeof words, exec->errors);
    return at_error(error, AT_ERROR_PEER, "%s ended in the guest with status %d%s%s", program,
                    exec->status, *words ? ": " : "", words);
}

bool at_agent_exec_run(struct at_agent *agent, const char *const *argv, int timeout_ms,
                       GError **error)
{
    int64_t deadline = at_deadline_ms(timeout_ms), pid;
    if (!at_agent_exec_start(agent, argv, timeout_ms, &pid, error))
        return false;
    for (;;) {
        struct at_agent_exec exec;
        if (!at_agent_exec_poll(agent, pid, at_deadline_left_ms(deadline), &exec, error))
            return false;
        bool ok = exec.ended && ended_well(argv[0], &exec, error);
        at_agent_exec_clear(&exec);
        if (exec.ended)
            return ok;
        if (at_deadline_left_ms(deadline) < POLL_MS)
            return at_error(error, AT_ERROR_TIMEOUT, "%s does not end in the guest", argv[0]);
        g_usleep(POLL_MS * 1000); /* an agent tells nothing by itself */
    }
}
