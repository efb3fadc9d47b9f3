/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in for atolld that gives canned answers, and the program atoll run against it. */
#include "double.h"

#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <libsoup/soup.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/json.h"

enum { FLOOD = 4 << 20, WINDOW = 256 << 10 };

struct request {
    unsigned count;
    char *body;
};

static struct {
    char *dir, *socket;
    SoupServer *server;
    JsonNode *answers;
    GHashTable *requests; /* "METHOD /path" -> struct request */
    GHashTable *places;   /* next entry of each sequence */
    size_t flood_left, flood_out, flood_most;
} self;

static void request_free(void *data)
{
    struct request *request = data;
    g_free(request->body);
    g_free(request);
}

static void note(const char *key, SoupServerMessage *msg)
{
    struct request *request = g_hash_table_lookup(self.requests, key);
    SoupMessageBody *body = soup_server_message_get_request_body(msg);
    g_autoptr(GBytes) bytes = soup_message_body_flatten(body);
    size_t len;
    const char *text = g_bytes_get_data(bytes, &len);
    if (!request) {
        request = g_new0(struct request, 1);
        g_hash_table_insert(self.requests, g_strdup(key), request);
    }
    request->count++;
    g_free(request->body);
    request->body = g_strndup(text ? text : "", len);
}

static void on_request(SoupServer *server, SoupServerMessage *msg, const char *path,
                       GHashTable *query, gpointer user)
{
    const char *method = soup_server_message_get_method(msg);
    const char *raw_query = g_uri_get_query(soup_server_message_get_uri(msg));
    g_autofree char *plain = g_strdup_printf("%s %s", method, path);
    g_autofree char *exact = g_strdup_printf("%s?%s", plain, raw_query ? raw_query : "");
    note(plain, msg);
    JsonObject *all = json_node_get_object(self.answers);
    JsonObject *answer = at_json_obj(all, exact);
    if (!answer)
        answer = at_json_obj(all, plain);
    if (!answer) {
        static const char none[] = "{\"code\":\"not_found\",\"message\":\"no such path\"}";
        soup_server_message_set_status(msg, 404, NULL);
        soup_server_message_set_response(msg, "application/json", SOUP_MEMORY_STATIC, none,
                                         strlen(none));
        return;
    }
    soup_server_message_set_status(msg, (unsigned)at_json_int(answer, "status", 200), NULL);
    const char *fixed = at_json_str(answer, "text", NULL);
    JsonArray *sequence = at_json_arr(answer, "sequence");
    char *text;
    if (fixed) {
        text = g_strdup(fixed);
    } else if (sequence) {
        unsigned place = GPOINTER_TO_UINT(g_hash_table_lookup(self.places, plain));
        unsigned last = json_array_get_length(sequence) - 1;
        text = at_json_text(json_array_get_element(sequence, MIN(place, last)));
        g_hash_table_insert(self.places, g_strdup(plain), GUINT_TO_POINTER(place + 1));
    } else {
        text = at_json_text(json_object_get_member(answer, "body"));
    }
    soup_server_message_set_response(msg, fixed ? "text/plain" : "application/json",
                                     SOUP_MEMORY_TAKE, text, strlen(text));
}

/* ---- a console that floods while there is credit, then echoes ---- */

static void pour(SoupWebsocketConnection *conn)
{
    char block[4096];
    memset(block, 'x', sizeof(block));
    while (self.flood_left > 0 && self.flood_out + sizeof(block) <= WINDOW) {
        soup_websocket_connection_send_binary(conn, block, sizeof(block));
        self.flood_left -= sizeof(block);
        self.flood_out += sizeof(block);
        self.flood_most = MAX(self.flood_most, self.flood_out);
    }
}

static void on_console_message(SoupWebsocketConnection *conn, int type, GBytes *message, void *user)
{
    size_t len;
    const char *data = g_bytes_get_data(message, &len);
    if (type == SOUP_WEBSOCKET_DATA_TEXT) {
        g_autoptr(JsonNode) node = at_json_parse(data, (gssize)len, NULL);
        size_t ack = (size_t)at_json_int(json_node_get_object(node), "ack", 0);
        g_assert_cmpuint(ack, >, 0);
        g_assert_cmpuint(ack, <=, self.flood_out);
        self.flood_out -= ack;
        if (self.flood_left > 0)
            pour(conn);
        else if (self.flood_out == 0)
            soup_websocket_connection_close(conn, SOUP_WEBSOCKET_CLOSE_NORMAL, "over");
    }
}

static void on_console(SoupServer *server, SoupServerMessage *msg, const char *path,
                       SoupWebsocketConnection *conn, gpointer user)
{
    self.flood_left = FLOOD;
    self.flood_out = self.flood_most = 0;
    g_signal_connect(g_object_ref(conn), "message", G_CALLBACK(on_console_message), NULL);
    g_signal_connect(conn, "closed", G_CALLBACK(g_object_unref), NULL);
    pour(conn);
}

static void ignore(const char *domain, GLogLevelFlags level, const char *message, gpointer user)
{
}

void double_start(void)
{
    g_log_set_handler("libsoup", G_LOG_LEVEL_DEBUG, ignore, NULL);
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_test_build_filename(G_TEST_DIST, "answers.json", NULL);
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    self.answers = at_json_parse(text, -1, &error);
    g_assert_no_error(error);
    self.requests = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, request_free);
    self.places = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self.dir = g_dir_make_tmp("atoll-cli-XXXXXX", NULL);
    self.socket = g_build_filename(self.dir, "s", NULL);
    self.server = soup_server_new(NULL, NULL);
    soup_server_add_handler(self.server, NULL, on_request, NULL, NULL);
    soup_server_add_websocket_handler(self.server, "/v1/consoles/rag-team/tune", NULL, NULL,
                                      on_console, NULL, NULL);
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(self.socket);
    soup_server_listen(self.server, address, 0, &error);
    g_assert_no_error(error);
}

void double_stop(void)
{
    soup_server_disconnect(self.server);
    g_object_unref(self.server);
    json_node_unref(self.answers);
    g_hash_table_unref(self.requests);
    g_hash_table_unref(self.places);
    g_unlink(self.socket);
    g_rmdir(self.dir);
    g_free(self.socket);
    g_free(self.dir);
}

const char *double_socket(void)
{
    return self.socket;
}

unsigned double_asked(const char *request)
{
    const struct request *found = g_hash_table_lookup(self.requests, request);
    return found ? found->count : 0;
}

const char *double_body(const char *request)
{
    const struct request *found = g_hash_table_lookup(self.requests, request);
    return found ? found->body : NULL;
}

static gboolean on_deadline(gpointer user)
{
    g_error("nothing happened for a minute");
    return G_SOURCE_REMOVE;
}

void double_iterate_until(const bool *done)
{
    unsigned deadline = g_timeout_add_seconds(60, on_deadline, NULL);
    while (!*done)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(deadline);
}

/* ---- running atoll ---- */

/* A terminal; gives our end, and the other in @ret_slave. */
static int make_terminal(unsigned width, int *ret_slave)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    g_assert_cmpint(master, >=, 0);
    g_assert_cmpint(grantpt(master), ==, 0);
    g_assert_cmpint(unlockpt(master), ==, 0);
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)width};
    *ret_slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    g_assert_cmpint(*ret_slave, >=, 0);
    g_assert_cmpint(ioctl(*ret_slave, TIOCSWINSZ, &size), ==, 0);
    return master;
}

struct screen {
    GString *text;
    bool ended;
};

static gboolean on_screen(int fd, GIOCondition condition, gpointer user)
{
    struct screen *screen = user;
    char buf[4096];
    ssize_t n = read(fd, buf, sizeof(buf));
    if (n > 0) {
        g_string_append_len(screen->text, buf, n);
        return G_SOURCE_CONTINUE;
    }
    screen->ended = true; /* EIO: nobody has the other end */
    return G_SOURCE_REMOVE;
}

static void on_exited(GObject *source, GAsyncResult *result, gpointer user)
{
    g_assert_true(g_subprocess_wait_finish(G_SUBPROCESS(source), result, NULL));
    *(bool *)user = true;
}

static void interrupt(GSubprocess *process, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        unsigned seen = double_asked("GET /v1/jobs/9");
        while (double_asked("GET /v1/jobs/9") == seen)
            g_main_context_iteration(NULL, TRUE);
        g_subprocess_send_signal(process, SIGINT);
    }
}

static char *take_file(char *path)
{
    char *text = NULL;
    g_file_get_contents(path, &text, NULL, NULL);
    g_unlink(path);
    g_free(path);
    return text ? text : g_strdup("");
}

void double_run(const char *words, unsigned terminal_width, unsigned interrupts,
                struct double_run *ret)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) argv = NULL;
    g_autofree char *line = g_strdup_printf("%s %s", g_getenv("ATOLL"), words);
    g_assert_true(g_shell_parse_argv(line, NULL, &argv, &error));
    char *out = g_build_filename(self.dir, "out", NULL);
    char *err = g_build_filename(self.dir, "err", NULL);
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDIN_PIPE);
    struct screen screen = {g_string_new(NULL), terminal_width == 0};
    int master = -1, slave = -1;
    g_subprocess_launcher_setenv(launcher, "TZ", "UTC", TRUE);
    g_subprocess_launcher_setenv(launcher, "LC_ALL", "C.UTF-8", TRUE);
    g_subprocess_launcher_setenv(launcher, "TERM", "xterm", TRUE);
    g_subprocess_launcher_setenv(launcher, "ATOLL_SOCKET", self.socket, TRUE);
    g_subprocess_launcher_set_stdout_file_path(launcher, out);
    if (terminal_width > 0) {
        master = make_terminal(terminal_width, &slave);
        g_unix_fd_add(master, G_IO_IN | G_IO_HUP | G_IO_ERR, on_screen, &screen);
        g_subprocess_launcher_take_stderr_fd(launcher, slave);
    } else {
        g_subprocess_launcher_set_stderr_file_path(launcher, err);
    }
    g_autoptr(GSubprocess) process =
        g_subprocess_launcher_spawnv(launcher, (const char *const *)argv, &error);
    g_assert_no_error(error);
    g_subprocess_launcher_close(launcher);
    bool exited = false;
    g_subprocess_wait_async(process, NULL, on_exited, &exited);
    interrupt(process, interrupts);
    double_iterate_until(&exited);
    double_iterate_until(&screen.ended);
    if (master >= 0)
        close(master);
    ret->code = g_subprocess_get_if_exited(process) ? g_subprocess_get_exit_status(process) : -1;
    ret->out = take_file(out);
    ret->err = take_file(err);
    if (terminal_width > 0) {
        g_free(ret->err);
        ret->err = g_strdup(screen.text->str);
    }
    g_string_free(screen.text, TRUE);
}

void double_run_clear(struct double_run *run)
{
    g_clear_pointer(&run->out, g_free);
    g_clear_pointer(&run->err, g_free);
}

size_t double_flood_most(void)
{
    return self.flood_most;
}
