/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of WebSockets, frame by frame, so that a test can also break the rules. */
#pragma once
#include <glib.h>
#include <stdbool.h>

enum { WS_CONTINUE = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

/* Asks for an upgrade; gives the status of the answer, 101 when it is one. */
unsigned ws_upgrade(int fd, const char *target, char **ret_head);
/* One masked frame. False when the other side does not take it any more. */
bool ws_send(int fd, int opcode, bool fin, const void *data, size_t len);
/* Reads one frame into @data (replaced); its opcode, or -1 at the end of the connection. */
int ws_read(int fd, GByteArray *data);
/* Reads up to the close frame and gives its code; 0 when the connection just ended. */
unsigned ws_close_code(int fd);
