/* SPDX-License-Identifier: Apache-2.0 */
/* atoll-guard IN OUT DEADLINE_MS SOCKET...: a dead man's switch for a capture. It connects to the
 * monitors, says so on descriptor OUT, and waits for a byte on IN. When IN ends without it, or the
 * deadline passes, it resumes every machine, and looks again until they really run. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "qemu/cut-guard.h"
#include "qemu/qmp.h"

enum {
    CONNECT_MS = 10000,
    ANSWER_MS = 500,
    LIFE_MS = 90000, /* longer than QEMU waits for a dead image server */
    LOOKS = 3,       /* so many times in a row a machine must be seen running */
};

struct monitor {
    struct at_qmp *qmp; /* NULL: gone, or seen running often enough */
    unsigned seen_running;
};

static void say(int fd, char word, const char *text)
{
    g_autofree char *line = g_strdup_printf("%c%s\n", word, text);
    ssize_t ignored = write(fd, line, strlen(line));
    (void)ignored;
}

/* A `stop` that the dead man sent may be carried out after our first `cont`: hence the looks. */
static void look(struct monitor *m)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) answer = NULL;
    bool ok = at_qmp_call(m->qmp, "query-status", NULL, ANSWER_MS, &answer, &error);
    if (!ok && error->code != AT_ERROR_TIMEOUT) {
        g_clear_pointer(&m->qmp, at_qmp_close); /* QEMU ended */
        return;
    }
    bool running = ok && JSON_NODE_HOLDS_OBJECT(answer) &&
                   at_json_bool(json_node_get_object(answer), "running", false);
    m->seen_running = running ? m->seen_running + 1 : 0;
    if (m->seen_running >= LOOKS)
        g_clear_pointer(&m->qmp, at_qmp_close);
}

static void resume_all(struct monitor *monitors, unsigned n)
{
    int64_t deadline = at_deadline_ms(LIFE_MS);
    bool left = true;
    for (unsigned pause_ms = 50; left && at_deadline_left_ms(deadline) > 0;) {
        left = false;
        for (unsigned i = 0; i < n; i++) { /* `cont` to a running machine does nothing */
            struct monitor *m = &monitors[i];
            if (m->qmp && m->seen_running == 0 && !at_qmp_send(m->qmp, "cont", NULL, -1, NULL))
                g_clear_pointer(&m->qmp, at_qmp_close);
        }
        for (unsigned i = 0; i < n; i++) {
            if (monitors[i].qmp)
                look(&monitors[i]);
            left |= monitors[i].qmp != NULL;
        }
        g_usleep(pause_ms * 1000);
        pause_ms = MIN(pause_ms * 2, 1000);
    }
}

/* True when the word came in time. */
static bool wait_for_done(int in, int64_t deadline)
{
    for (;;) {
        struct pollfd p = {.fd = in, .events = POLLIN};
        int n = poll(&p, 1, at_deadline_left_ms(deadline));
        if (n < 0 && errno == EINTR)
            continue;
        char word = 0;
        return n > 0 && read(in, &word, 1) == 1 && word == AT_GUARD_DONE;
    }
}

int main(int argc, char **argv)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2};
    if (argc < 4) {
        fprintf(stderr, "atoll-guard is started by atolld during a capture; it is not a command\n");
        return 2;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(ignored); i++)
        signal(ignored[i], SIG_IGN);
    int in = atoi(argv[1]), out = atoi(argv[2]);
    if (fcntl(in, F_SETFD, FD_CLOEXEC) != 0 || fcntl(out, F_SETFD, FD_CLOEXEC) != 0)
        return 2;
    pid_t pid = fork(); /* so that nobody has to wait for us */
    if (pid != 0)
        return pid < 0;

    unsigned n = (unsigned)argc - 4;
    g_autofree struct monitor *monitors = g_new0(struct monitor, n + 1);
    for (unsigned i = 0; i < n; i++) {
        g_autoptr(GError) error = NULL;
        monitors[i].qmp = at_qmp_open(argv[4 + i], CONNECT_MS, &error);
        if (!monitors[i].qmp) {
            say(out, 'E', error->message);
            return 1;
        }
    }
    int64_t deadline = at_deadline_ms(atoi(argv[3]));
    say(out, AT_GUARD_READY, "");
    if (wait_for_done(in, deadline)) {
        say(out, AT_GUARD_GONE, "");
        return 0;
    }
    say(out, AT_GUARD_FIRED, "");
    resume_all(monitors, n);
    return 0;
}
