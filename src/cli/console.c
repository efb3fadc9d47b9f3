/* SPDX-License-Identifier: Apache-2.0 */
/* The serial console: terminal in raw mode, bytes over a WebSocket with credit. */
#include "cli/console.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "cli/client.h"
#include "cli/text.h"

enum { LEAVE = 0x1d /* Ctrl-] */ };

struct console {
    GMainLoop *loop;
    SoupWebsocketConnection *conn;
    struct termios saved;
    bool raw;
    GError *error;
};

static void terminal_raw(struct console *c)
{
    struct termios raw;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &c->saved) != 0)
        return;
    raw = c->saved;
    cfmakeraw(&raw);
    c->raw = tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) == 0;
}

static void terminal_restore(struct console *c)
{
    if (c->raw)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &c->saved);
    c->raw = false;
}

static gboolean on_input(int fd, GIOCondition condition, void *user)
{
    struct console *c = user;
    char buf[1024];
    ssize_t n = read(fd, buf, sizeof(buf));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return G_SOURCE_CONTINUE;
    char *leave = n > 0 ? memchr(buf, LEAVE, (size_t)n) : NULL;
    size_t len = leave ? (size_t)(leave - buf) : (size_t)MAX(n, 0);
    if (len > 0 && soup_websocket_connection_get_state(c->conn) == SOUP_WEBSOCKET_STATE_OPEN)
        soup_websocket_connection_send_binary(c->conn, buf, len);
    if (leave || n <= 0) {
        soup_websocket_connection_close(c->conn, SOUP_WEBSOCKET_CLOSE_NORMAL, NULL);
        return G_SOURCE_REMOVE;
    }
    return G_SOURCE_CONTINUE;
}

static void on_message(SoupWebsocketConnection *conn, int type, GBytes *message, void *user)
{
    struct console *c = user;
    size_t len;
    const char *data = g_bytes_get_data(message, &len);
    if (type != SOUP_WEBSOCKET_DATA_BINARY)
        return;
    if (!at_write_all(STDOUT_FILENO, data, len, c->error ? NULL : &c->error)) {
        g_main_loop_quit(c->loop);
        return;
    }
    g_autofree char *ack = g_strdup_printf("{\"ack\":%zu}", len);
    if (soup_websocket_connection_get_state(conn) == SOUP_WEBSOCKET_STATE_OPEN)
        soup_websocket_connection_send_text(conn, ack);
}

static void on_closed(SoupWebsocketConnection *conn, void *user)
{
    g_main_loop_quit(((struct console *)user)->loop);
}

int at_console_run(struct at_cli *cli, const char *vdc, const char *ws)
{
    GError *error = NULL;
    g_autoptr(SoupWebsocketConnection) conn =
        at_client_websocket(at_cli_client(cli), &error, "/v1/consoles/%s/%s", vdc, ws);
    if (!conn)
        return at_cli_fail(&error);
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    struct console c = {.loop = loop, .conn = conn};
    if (isatty(STDERR_FILENO))
        g_printerr("console of %s/%s; Ctrl-] leaves it\n", vdc, ws);
    terminal_raw(&c);
    g_signal_connect(conn, "message", G_CALLBACK(on_message), &c);
    g_signal_connect(conn, "closed", G_CALLBACK(on_closed), &c);
    unsigned input = g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, &c);
    if (soup_websocket_connection_get_state(conn) != SOUP_WEBSOCKET_STATE_CLOSED)
        g_main_loop_run(loop);
    GSource *source = g_main_context_find_source_by_id(NULL, input);
    if (source)
        g_source_destroy(source);
    terminal_restore(&c);
    g_signal_handlers_disconnect_by_data(conn, &c);
    const char *reason = soup_websocket_connection_get_close_data(conn);
    if (isatty(STDERR_FILENO)) {
        g_printerr("\n");
        at_text_line(stderr, "console left%s%s", reason && *reason ? ": " : "",
                     reason ? reason : "");
    }
    if (c.error)
        return at_cli_fail(&c.error);
    return AT_EXIT_DONE;
}
