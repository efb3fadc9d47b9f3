/* SPDX-License-Identifier: Apache-2.0 */
/* A server on a unix socket that plays a script. */
#include "fake-peer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "lib/at-test.h"

struct peer {
    GThread *thread;
    char **script;
    int listener;
    int over; /* readable when the test is over */
    int over_end;
    int fd;
    char *last; /* line read */
};

static int taken_fd = -1;

int fake_peer_take_fd(void)
{
    return at_steal_fd(&taken_fd);
}

/* False when the test is over or the client is gone. */
static bool send_all(struct peer *p, const char *text, size_t len)
{
    while (len > 0) {
        struct pollfd polls[] = {{.fd = p->fd, .events = POLLOUT},
                                 {.fd = p->over, .events = POLLIN}};
        poll(polls, 2, -1);
        ssize_t n = polls[1].revents ? -1 : send(p->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (polls[1].revents || errno != EAGAIN))
            return false;
        text += MAX(n, 0);
        len -= (size_t)MAX(n, 0);
    }
    return true;
}

static void take_control(struct msghdr *msg)
{
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
    if (cmsg && cmsg->cmsg_type == SCM_RIGHTS) {
        at_close_fd(&taken_fd);
        memcpy(&taken_fd, CMSG_DATA(cmsg), sizeof taken_fd);
    }
}

static bool read_line(struct peer *p)
{
    g_autoptr(GString) line = g_string_new(NULL);
    for (;;) {
        char c;
        union {
            struct cmsghdr align;
            char buf[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = {&c, 1};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.buf,
                             .msg_controllen = sizeof control.buf};
        struct pollfd polls[] = {{.fd = p->fd, .events = POLLIN},
                                 {.fd = p->over, .events = POLLIN}};
        poll(polls, 2, -1);
        if (polls[1].revents || recvmsg(p->fd, &msg, MSG_CMSG_CLOEXEC) != 1)
            return false;
        take_control(&msg);
        if (c == '\n')
            break;
        g_string_append_c(line, c);
    }
    g_free(p->last);
    p->last = g_string_free(g_steal_pointer(&line), FALSE);
    return true;
}

static bool send_with_id(struct peer *p, const char *text)
{
    const char *id = p->last ? strstr(p->last, "\"id\":") : NULL;
    g_autofree char *number = g_strdup_printf("%ld", id ? atol(id + 5) : 0);
    g_auto(GStrv) parts = g_strsplit(text, "%", -1);
    g_autofree char *line = g_strjoinv(number, parts);
    return send_all(p, line, strlen(line)) && send_all(p, "\n", 1);
}

static bool repeat(struct peer *p, const char *text, long n)
{
    bool ok = true;
    while (ok && n-- > 0)
        ok = send_all(p, text, strlen(text));
    return ok;
}

static bool step(struct peer *p, const char *line)
{
    if (g_str_has_prefix(line, ">> "))
        return send_all(p, line + 3, strlen(line + 3));
    if (g_str_has_prefix(line, "> "))
        return send_all(p, line + 2, strlen(line + 2)) && send_all(p, "\n", 1);
    if (g_str_has_prefix(line, "< "))
        return read_line(p) && strstr(p->last, line + 2);
    if (g_str_has_prefix(line, "id "))
        return send_with_id(p, line + 3);
    if (g_str_has_prefix(line, "flood ")) {
        char *text;
        long n = strtol(line + 6, &text, 10);
        g_autofree char *whole = g_strconcat(text + 1, "\n", NULL);
        return repeat(p, whole, n);
    }
    if (g_str_has_prefix(line, "bytes ")) {
        g_autofree char *block = g_strnfill(65536, 'x');
        return repeat(p, block, atol(line + 6) / 65536);
    }
    if (strcmp(line, "hold") == 0) {
        struct pollfd poll_over = {.fd = p->over, .events = POLLIN};
        poll(&poll_over, 1, -1);
    }
    return false;
}

static gpointer play(gpointer data)
{
    struct peer *p = data;
    struct pollfd polls[] = {{.fd = p->listener, .events = POLLIN},
                             {.fd = p->over, .events = POLLIN}};
    poll(polls, 2, -1);
    if (polls[1].revents)
        return NULL;
    p->fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    for (char **line = p->script; *line && step(p, *line); line++)
        ;
    at_close_fd(&p->fd);
    return NULL;
}

static void end(gpointer data)
{
    struct peer *p = data;
    at_close_fd(&p->over_end);
    g_thread_join(p->thread);
    at_close_fd(&p->over);
    at_close_fd(&p->listener);
    g_free(p->last);
    g_strfreev(p->script);
    g_free(p);
}

const char *fake_peer(const char *const *script)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const char *path = at_test_path(at_test_dir(), "s");
    struct peer *p = g_new0(struct peer, 1);
    int ends[2];
    g_assert_cmpint(pipe(ends), ==, 0);
    g_strlcpy(addr.sun_path, path, sizeof addr.sun_path);
    *p = (struct peer){
        .script = g_strdupv((char **)script), .over = ends[0], .over_end = ends[1], .fd = -1};
    p->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(p->listener, (struct sockaddr *)&addr, sizeof addr), ==, 0);
    g_assert_cmpint(listen(p->listener, 1), ==, 0);
    p->thread = g_thread_new("peer", play, p);
    g_test_queue_destroy(end, p);
    return path;
}
