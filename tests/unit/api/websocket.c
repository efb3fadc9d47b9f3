/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of WebSockets, frame by frame (RFC 6455, section 5.2). */
#include "websocket.h"

#include <string.h>

#include "client.h"

unsigned ws_upgrade(int fd, const char *target, char **ret_head)
{
    g_autofree char *request = g_strdup_printf(
        "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        target);
    client_send_text(fd, request);
    g_autoptr(client_answer) a = client_read_head(fd);
    if (ret_head)
        *ret_head = g_strdup(a->head);
    return a->status;
}

bool ws_send(int fd, int opcode, bool fin, const void *data, size_t len)
{
    static const guint8 mask[4] = {0x12, 0x34, 0x56, 0x78};
    g_autoptr(GByteArray) frame = g_byte_array_new();
    guint8 head[10] = {(guint8)((fin ? 0x80 : 0) | opcode)};
    unsigned n = 2;
    if (len < 126) {
        head[1] = (guint8)(0x80 | len);
    } else if (len < 65536) {
        head[1] = 0x80 | 126;
        head[2] = (guint8)(len >> 8);
        head[3] = (guint8)len;
        n = 4;
    } else {
        head[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            head[2 + i] = (guint8)(len >> (56 - 8 * i));
        n = 10;
    }
    g_byte_array_append(frame, head, n);
    g_byte_array_append(frame, mask, 4);
    for (size_t i = 0; i < len; i++) {
        guint8 c = ((const guint8 *)data)[i] ^ mask[i % 4];
        g_byte_array_append(frame, &c, 1);
    }
    return client_send(fd, frame->data, frame->len) == frame->len;
}

int ws_read(int fd, GByteArray *data)
{
    guint8 head[10];
    if (!client_read_exactly(fd, head, 2))
        return -1;
    guint64 len = head[1] & 0x7f;
    g_assert_cmpuint(head[1] & 0x80, ==, 0); /* a server does not mask */
    unsigned more = len == 126 ? 2 : len == 127 ? 8 : 0;
    if (more > 0) {
        if (!client_read_exactly(fd, head + 2, more))
            return -1;
        len = 0;
        for (unsigned i = 0; i < more; i++)
            len = len << 8 | head[2 + i];
    }
    g_byte_array_set_size(data, (unsigned)len);
    if (len > 0 && !client_read_exactly(fd, data->data, len))
        return -1;
    return head[0] & 0x0f;
}

unsigned ws_close_code(int fd)
{
    g_autoptr(GByteArray) data = g_byte_array_new();
    int opcode;
    while ((opcode = ws_read(fd, data)) >= 0) {
        if (opcode == WS_CLOSE)
            return data->len >= 2 ? (unsigned)(data->data[0] << 8 | data->data[1]) : 1005;
    }
    return 0;
}
